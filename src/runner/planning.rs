//! One call of the planner, from the request to the answer.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::{PlanError, StepError};
use crate::event::{AnswerFrom, Event, Output, PlanReason, RequestNumber, RequestPlan, SkipReason, Usage};
use crate::plan::{OnFailure, Patch, Plan};
use crate::planner::{FailedStep, FinishedStep, PlanReply, PlanRequest, PlanSink, Planner, Revision};
use crate::policy::Retry;
use crate::report::Record;
use crate::report::gather::Parts;
use crate::scheduler::{Scheduler, StepState, StepView};

use super::attempt::{RunContext, panic_text};
use super::desk::Message;
use super::output;

/// What the planner is told: the plan as it stands and what came of it.
pub(super) fn request(scheduler: &Scheduler, record: &Record, asked: RequestPlan) -> PlanRequest {
    let start = scheduler.start();
    let answer = record.plan().and_then(|plan| match plan.answer {
        AnswerFrom::Step(number) => scheduler.step(number),
        AnswerFrom::Open | AnswerFrom::Sinks(_) => None,
    });
    // Drafts are of an answer that was not accepted: no part of the plan yet.
    let members = || scheduler.members().filter(|step| !step.draft);
    let failed = asked.failures.iter().filter_map(|number| scheduler.step(*number)).map(|step| FailedStep {
        id: step.id.clone(),
        step: Arc::clone(step.definition),
        error: step.error.cloned().unwrap_or_else(|| Arc::new(StepError::permanent("failed"))),
    });
    let rejected_answer = match asked.reason {
        PlanReason::Rejected(_) => record.rejected_answer(),
        _ => None,
    };
    PlanRequest {
        request: asked.request,
        revision: asked.revision,
        objective: start.objective.clone(),
        inputs: start.inputs.clone(),
        reason: asked.reason,
        tools: start.tools.clone().into(),
        default_tool: start.default_tool.clone(),
        plan: Plan {
            objective: None,
            answer: answer.map(|step| step.id.clone()),
            pools: record.plan().map(|plan| plan.pools.clone()).unwrap_or_default(),
            steps: members().map(|step| Arc::clone(step.definition)).collect(),
        },
        finished: members().filter(is_finished).map(|step| finished(step, scheduler)).collect(),
        failed: failed.collect(),
        rejected_answer,
        skipped: members()
            .filter(|step| matches!(step.state, StepState::Skipped(SkipReason::Failed(_))))
            .map(|step| step.id.clone())
            .collect(),
        max_steps: scheduler.most_steps(),
        max_edges: scheduler.policy().limits.edges,
        must_answer: asked.must_answer,
    }
}

/// Whether the step's dependents can count on it.
fn is_finished(step: &StepView<'_>) -> bool {
    match step.state {
        StepState::Succeeded => true,
        StepState::Skipped(because) => because.failed().is_none(),
        StepState::Failed => step.definition.on_failure == OnFailure::Continue,
        _ => false,
    }
}

fn finished(step: StepView<'_>, scheduler: &Scheduler) -> FinishedStep {
    FinishedStep {
        id: step.id.clone(),
        step: Arc::clone(step.definition),
        output: step.output.map(|output| put_together(output, scheduler)),
    }
}

/// An output whose parts are in other steps, as one value, if all of them are at hand.
pub(super) fn put_together(output: &Output, scheduler: &Scheduler) -> Output {
    let mut parts = Parts::default();
    parts.add(output, scheduler);
    match output {
        Output::Gathered(_) => parts.value(output).map_or_else(|| output.clone(), Output::Inline),
        _ => output.clone(),
    }
}

/// Asks the planner and hands its answer to the loop.
pub(super) async fn ask(planner: Arc<dyn Planner>, request: PlanRequest, run: Arc<RunContext>) {
    let number = request.request;
    let limit = run.planner_timeout.unwrap_or(Duration::MAX);
    // Dropped after the call of the planner.
    let mut answer = Answer {
        run: Arc::clone(&run),
        request: number,
        reply: Err(failed("it was ended before it had an answer".to_owned())),
        lost: Arc::default(),
    };
    let step_came = Arc::new(Notify::new());
    let sink = {
        // A planner may keep it for as long as it likes.
        let (run, step_came, lost) = (Arc::downgrade(&run), Arc::clone(&step_came), Arc::clone(&answer.lost));
        let sink = PlanSink::new(move |step| {
            step_came.notify_one();
            // One that is refused comes again with the whole plan, and is told of there.
            let steps = output::bounded_steps(vec![Arc::new(step)]).unwrap_or_default();
            if let Some(run) = run.upgrade() {
                for step in steps {
                    run.desk.post(Message::Event(Event::PlanStep { request: number, step }));
                }
            }
        });
        sink.counting(move |usage| *lost.lock().unwrap_or_else(PoisonError::into_inner) += usage)
    };
    let mut answering = pin!(AssertUnwindSafe(async { planner.plan(request, sink).await }).catch_unwind());
    answer.reply = loop {
        match timeout(limit, select(answering.as_mut(), pin!(step_came.notified()))).await {
            Ok(Either::Left((Ok(reply), _))) => break reply.map(|reply| bounded(reply, run.max_output_bytes)),
            Ok(Either::Left((Err(panic), _))) => break Err(failed(format!("it panicked: {}", panic_text(panic)))),
            Ok(Either::Right(_)) => {}
            Err(_) => break Err(failed(format!("nothing came of it within {limit:?}"))),
        }
    };
}

/// What comes of a request: it is answered when this is dropped. A planner that is ended before it has an answer may have
/// used something all the same.
struct Answer {
    run: Arc<RunContext>,
    request: RequestNumber,
    reply: Result<PlanReply, PlanError>,
    /// What it has used for nothing.
    lost: Arc<Mutex<Usage>>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let lost = std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner));
        let reply = std::mem::replace(&mut self.reply, Err(PlanError::Declined));
        let reply = match reply {
            Err(error) if !lost.is_zero() => Ok(Revision::Unusable(vec![error]).into()),
            reply => reply,
        };
        let reply = reply.map(|mut reply: PlanReply| {
            reply.usage += lost;
            reply
        });
        self.run.desk.post(Message::Event(Event::PlanReturned { request: self.request, reply: Box::new(reply) }));
    }
}

fn failed(message: String) -> PlanError {
    PlanError::Planner { message }
}

/// Refuses what could not be handled safely further on.
fn bounded(reply: PlanReply, max_output_bytes: usize) -> PlanReply {
    let bounded = match reply.revision {
        Revision::Plan(plan) => output::bounded_plan(plan).map(Revision::Plan),
        Revision::Patch(Patch { add, change, drop, answer }) => {
            let added = add.len();
            output::bounded_steps(add.into_iter().chain(change).collect()).map(|mut add| {
                let change = add.split_off(added);
                Revision::Patch(Patch { add, change, drop, answer })
            })
        }
        Revision::Answer(answer) => output::bounded_answer(answer, max_output_bytes).map(Revision::Answer),
        Revision::PutOff { error, pause_ms } => {
            Ok(Revision::PutOff { error, pause_ms: pause_ms.min(Retry::MAX_PAUSE_MS) })
        }
        other @ (Revision::Declined | Revision::Unusable(_)) => Ok(other),
    };
    let unusable = |error: StepError| Revision::Unusable(vec![PlanError::Malformed { message: error.message }]);
    PlanReply { revision: bounded.unwrap_or_else(unusable), ..reply }
}
