//! One call of a tool, from the launch to the answer.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tracing::Instrument as _;

use crate::error::{StepError, StepErrorKind};
use crate::event::{AttemptNumber, Event, Launch, Output, Returned, RunStart, StepNumber, Usage};
use crate::journal::{Claim, Journal, RunId};
use crate::plan::Step;
use crate::reference;
use crate::report::gather::Parts;
use crate::tool::{Call, Caller, Inputs, StepContext, Tool, ToolOutput, ToolTimeout};

use super::desk::{Desk, Message};
use super::output;

/// Where the record of a run is kept, and the right to write there.
pub(super) struct Kept {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) claim: Claim,
}

/// What all attempts of a run share.
pub(super) struct RunContext {
    pub(super) id: RunId,
    pub(super) start: Arc<RunStart>,
    /// In the order of [`RunStart::tools`].
    pub(super) tools: Vec<Arc<dyn Tool>>,
    /// What `${inputs}` stands for.
    pub(super) inputs: Arc<Value>,
    pub(super) journal: Option<Kept>,
    pub(super) timeout: Option<Duration>,
    pub(super) planner_timeout: Option<Duration>,
    pub(super) max_output_bytes: usize,
    pub(super) desk: Arc<Desk>,
}

impl RunContext {
    /// The longest an attempt of `step` may take.
    fn timeout(&self, step: &Step, tool: u16) -> Option<Duration> {
        match (step.timeout_ms, self.start.tools[usize::from(tool)].timeout) {
            (Some(millis), _) | (None, ToolTimeout::Millis(millis)) => Some(Duration::from_millis(millis)),
            (None, ToolTimeout::Never) => None,
            (None, ToolTimeout::Default) => self.timeout,
        }
    }

    /// Ends the run because its journal failed, and answers the attempt that noticed it.
    pub(super) fn journal_failed(&self, error: crate::error::JournalError) -> StepError {
        let interrupted = StepError::new(StepErrorKind::Interrupted, error.to_string());
        self.desk.post(Message::Failed(error.into()));
        interrupted
    }
}

/// A call that is to be made.
pub(super) struct Job {
    pub(super) launch: Box<Launch>,
    /// What the inputs are made of that are not values yet.
    pub(super) parts: Option<Box<Parts>>,
}

impl Job {
    pub(super) fn attempt(&self) -> AttemptNumber {
        self.launch.attempt
    }

    /// The answer to a launch whose call was not made.
    pub(super) fn aborted(&self) -> Event {
        let result = Err(Arc::new(aborted()));
        Event::AttemptReturned { attempt: self.launch.attempt, result, usage: Usage::default(), draw: 0 }
    }
}

/// A running attempt. Its call and every guard of the tool share it; dropping the last of them answers the launch, so
/// that every launch is answered exactly once, and not before the tool is really gone.
struct Attempt {
    run: Arc<RunContext>,
    number: AttemptNumber,
    step: StepNumber,
    end: Mutex<End>,
}

/// What an attempt came to.
#[derive(Default)]
struct End {
    usage: Usage,
    /// None: the call was dropped before it had a result.
    result: Option<Result<Returned, Arc<StepError>>>,
    is_answered: bool,
}

impl Attempt {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the result of the call, or its panic.
    fn set_result(&self, result: Result<Result<Returned, StepError>, Box<dyn Any + Send>>) {
        let panicked =
            |panic: Box<_>| StepError::new(StepErrorKind::Panicked, format!("panicked: {}", panic_text(&*panic)));
        let result = result.map_err(panicked).flatten();
        self.end().result = Some(result.map_err(|error| Arc::new(output::bounded_error(error))));
    }

    /// The answer to the launch, the first time it is asked for.
    fn answer(&mut self) -> Option<Event> {
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut end.is_answered, true) {
            return None;
        }
        let result = end.result.take().unwrap_or_else(|| {
            Err(Arc::new(if std::thread::panicking() {
                StepError::new(StepErrorKind::Panicked, "the tool panicked as it was dropped")
            } else {
                aborted()
            }))
        });
        Some(Event::AttemptReturned { attempt: self.number, result, usage: end.usage, draw: fastrand::u16(..) })
    }
}

impl Call for Attempt {
    fn objective(&self) -> &str {
        &self.run.start.objective
    }

    fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run.id, self.step)
    }

    fn add_usage(&self, usage: Usage) {
        self.end().usage += usage;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(answer) = self.answer() {
            self.run.desk.post(Message::Event(answer));
        }
    }
}

fn aborted() -> StepError {
    StepError::new(StepErrorKind::Aborted, "ended before it had a result")
}

/// Begins a call, and gives the answer to the launch if it is over at once. A call that has to wait becomes a task;
/// to end the attempt that task is dropped, which answers the launch.
pub(super) fn begin(run: &Arc<RunContext>, job: Job) -> Option<Event> {
    let Launch { attempt: number, step, ref id, .. } = *job.launch;
    let span = tracing::info_span!("attempt", run = %run.id, step = %id, attempt = number);
    let mut attempt = Arc::new(Attempt { run: Arc::clone(run), number, step, end: Mutex::default() });
    let mut call = Box::pin(AssertUnwindSafe(call(Arc::clone(&attempt), job)).catch_unwind());
    // Whoever would be woken is asked again in any case: as a task.
    let polled = span.in_scope(|| call.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    match polled {
        Poll::Ready(result) => {
            attempt.set_result(result);
            // A guard that the tool has kept answers later.
            Arc::get_mut(&mut attempt).and_then(Attempt::answer)
        }
        Poll::Pending => {
            run.desk.adopt(number, || {
                tokio::spawn(async move { attempt.set_result(call.await) }.instrument(span)).abort_handle()
            });
            None
        }
    }
}

async fn call(attempt: Arc<Attempt>, mut job: Job) -> Result<Returned, StepError> {
    let run = &*attempt.run;
    // What is rare is boxed: each call is allocated as large as the largest path through here.
    if let Some(parts) = job.parts.take() {
        Box::pin(output::make_inline(run, &mut job.launch.inputs, *parts)).await?;
    }
    let tool = usize::from(job.launch.tool);
    let timeout = run.timeout(&job.launch.definition, job.launch.tool);
    let Some(cx) = context(&attempt, *job.launch)? else { return Ok(Returned::ConditionFalse) };
    match timely(run.tools[tool].call(cx), timeout).await? {
        ToolOutput::Value(value) => match output::kept_inline(run, value)? {
            Ok(output) => Ok(Returned::Value(output)),
            Err(large) => Box::pin(output::store(run, large)).await.map(Returned::Value),
        },
        ToolOutput::Plan(plan) => output::bounded_plan(plan).map(|plan| Returned::Plan(Box::new(plan))),
    }
}

/// What the tool is called with; none if the step's condition is false.
fn context(attempt: &Arc<Attempt>, launch: Launch) -> Result<Option<StepContext>, StepError> {
    let Launch { attempt: number, id, definition: step, tries, inputs, last_error, expansion, .. } = launch;
    let lookup = |id: &str| match id {
        reference::INPUTS => Some(Arc::clone(&attempt.run.inputs)),
        id => inputs.iter().find(|input| input.id == *id).map(|input| match &input.output {
            Some(Output::Inline(value)) => Arc::clone(value),
            _ => Arc::default(),
        }),
    };
    if let Some(when) = &step.when
        && !reference::condition(when, &lookup)?
    {
        return Ok(None);
    }
    let args = match reference::has_references(&step.args) {
        true => reference::fill(&step.args, &lookup)?,
        false => step.args.clone(),
    };
    let caller = Caller(Arc::clone(attempt) as _);
    let inputs = Inputs(inputs);
    Ok(Some(StepContext { args, id, step, attempt: number, tries, inputs, last_error, expansion, caller }))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no message",
    }
}

/// Drops a call that takes too long. Most calls of a cheap tool are over at once, so the timer is set only for one
/// that is not.
async fn timely<T>(mut call: BoxFuture<'_, Result<T, StepError>>, timeout: Option<Duration>) -> Result<T, StepError> {
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        return result;
    }
    let Some(limit) = timeout else { return call.await };
    match Box::pin(tokio::time::timeout(limit, call)).await {
        Ok(result) => result,
        Err(_) => Err(StepError::new(StepErrorKind::Timeout, format!("no result within {limit:?}"))),
    }
}
