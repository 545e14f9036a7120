//! What happened in and around a run, in order: all that the checker needs to know.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use plandag::history::Changes;
use plandag::{
    AttemptNumber, Event, Graft, Input, PlanError, PlanReply, RequestNumber, Revision, RunEvent, RunEventKind, Step,
    StepId, Timestamp,
};
use serde_json::Value;

use super::check::plan::dependencies;

/// One thing that happened.
///
/// A driver that cannot see some of these (the events that the scheduler is told, say) leaves them out; what follows
/// from them is not checked then.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The scheduler is told.
    Told(Event),
    /// The events of one transition are written down.
    Wrote(Vec<RunEvent>),
    /// A tool is called.
    Called(Call),
    /// An attempt shall end.
    Aborted(AttemptNumber),
    /// The planner is asked.
    Asked {
        /// The request.
        request: RequestNumber,
        /// Whether only an answer is of use.
        must_answer: bool,
    },
    /// A timer is set.
    Armed(Timestamp),
    /// Every command of the transition is carried out.
    Settled(Timestamp),
    /// The tool of an attempt is really gone.
    Gone(AttemptNumber),
    /// The process is gone, and all it had started. What it was told last and did not write never happened.
    Crashed,
    /// The run is forked: this is the history of the fork, of which it has written what comes from `own` on.
    Forked {
        /// The history.
        events: Vec<RunEvent>,
        /// The place of the first event of its own.
        own: usize,
        /// What it does differently.
        changes: Changes,
    },
}

/// A tool is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// The attempt.
    pub attempt: AttemptNumber,
    /// What to do.
    pub definition: Arc<Step>,
    /// With what.
    pub inputs: Given,
}

/// What a tool gets of the steps that its step depends on.
#[derive(Clone, Debug)]
pub enum Given {
    /// What the scheduler hands out.
    Recorded(Vec<Input>),
    /// What arrives at the tool.
    Values(BTreeMap<StepId, Value>),
}

/// Short enough that a person can follow a run.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(event) => write!(f, "told {}", told(event)),
            Self::Wrote(events) => {
                for event in events {
                    write!(f, "\n    wrote {} {}", event.at, wrote(event))?;
                }
                Ok(())
            }
            Self::Called(call) => write!(f, "called {} {}", call.attempt, step(&call.definition)),
            Self::Forked { events, own, changes } => {
                write!(f, "forked with {changes:?}")?;
                events[*own..].iter().try_for_each(|event| write!(f, "\n    wrote {} {}", event.at, wrote(event)))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::PlanReturned { request, reply, .. } => format!("request {request}: {}", replied(reply)),
        Event::PlanStep { request, step: streamed } => format!("request {request} streams {}", step(streamed)),
        other => format!("{other:?}"),
    }
}

fn replied(reply: &Result<PlanReply, PlanError>) -> String {
    match reply.as_ref().map(|reply| &reply.revision) {
        Ok(Revision::Plan(plan)) => format!("answer {:?} of {}", plan.answer, steps(&plan.steps)),
        Ok(Revision::Patch(patch)) => {
            let (added, changed) = (steps(&patch.add), steps(&patch.change));
            format!("add {added} change {changed} drop {:?} answer {:?}", patch.drop, patch.answer)
        }
        other => format!("{other:?}"),
    }
}

fn wrote(event: &RunEvent) -> String {
    match &event.kind {
        RunEventKind::RunStarted { .. } => "RunStarted".into(),
        RunEventKind::PlanAccepted { request, graft: grafted, .. } => {
            format!("PlanAccepted {request} {}", graft(grafted))
        }
        RunEventKind::StepDrafted { graft: grafted, .. } => format!("StepDrafted {}", graft(grafted)),
        RunEventKind::StepExpanded { step, attempt, graft: grafted, .. } => {
            format!("StepExpanded {step} by {attempt} {}", graft(grafted))
        }
        other => format!("{other:?}"),
    }
}

fn graft(graft: &Graft) -> String {
    let Graft { first, joined, closed, left, unreported, settings, forgotten, answer, .. } = graft;
    let added = graft.added.iter().zip(*first..);
    let added: Vec<String> =
        added.map(|(added, number)| format!("{number}={}{:?}", step(&added.step), added.dependencies)).collect();
    let settings: Vec<_> = settings.iter().map(|(step, _)| step).collect();
    format!(
        "added {} joined {joined:?} closed {closed:?} left {left:?} unreported {unreported:?} settings {settings:?} \
         forgotten {forgotten:?} answer {answer:?}",
        added.join(" ")
    )
}

fn steps(steps: &[Arc<Step>]) -> String {
    let steps: Vec<String> = steps.iter().map(|each| step(each)).collect();
    format!("[{}]", steps.join(" "))
}

/// Id, content, and what is unusual about its settings.
fn step(step: &Step) -> String {
    let mut text = format!("{}:{}", step.id, step.tool.as_deref().unwrap_or("default"));
    if !step.description.is_empty() {
        text += &format!("({})", step.description);
    }
    let after: Vec<String> = dependencies(step).iter().map(ToString::to_string).collect();
    if !after.is_empty() {
        text += &format!("<-{}", after.join(","));
    }
    if !step.uses.is_empty() {
        text += &format!("{:?}", step.uses);
    }
    if step.on_failure != plandag::OnFailure::Fail {
        text += " continue";
    }
    text
}
