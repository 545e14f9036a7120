//! What happened to each step, in words.

use crate::counted::counted;
use crate::error::{StepError, StepErrorKind};
use crate::event::{RunEvent, RunEventKind, SkipReason, StepNumber};
use crate::plan::StepId;
use crate::report::RunReport;

use super::{LogLine, micros};

/// More lines than this are not shown of one step: the first ones and the last.
const MOST_LINES: usize = 200;
/// More characters than these of an error are not repeated in a line.
const MOST_CHARS: usize = 300;

/// The log of every step, by number.
pub(super) fn logs(events: &[RunEvent], report: &RunReport) -> Vec<Vec<LogLine>> {
    let scheduler = report.scheduler();
    let mut logs = vec![Vec::new(); scheduler.step_count() as usize];
    let mut calls = vec![0_u32; logs.len()];
    for event in events {
        let step = match &event.kind {
            RunEventKind::AttemptDiscarded { attempt, .. } => scheduler.step_of(*attempt),
            kind => kind.step(),
        };
        let Some(step) = step.map(|step| step as usize).filter(|step| *step < logs.len()) else { continue };
        if matches!(event.kind, RunEventKind::AttemptStarted { .. }) {
            calls[step] += 1;
        }
        if let Some(what) = words(&event.kind, calls[step], report) {
            logs[step].push(LogLine { at_us: micros(event.at), what });
        }
        if matches!(&event.kind, RunEventKind::AttemptFailed { error, .. } if error.kind == StepErrorKind::Deferred) {
            // What was put off is the next to come, too.
            calls[step] = calls[step].saturating_sub(1);
        }
    }
    for log in &mut logs {
        if log.len() > MOST_LINES {
            let left_out = log.len() - MOST_LINES;
            log.drain(MOST_LINES / 2..MOST_LINES / 2 + left_out);
        }
    }
    logs
}

fn words(kind: &RunEventKind, call: u32, report: &RunReport) -> Option<String> {
    Some(match kind {
        RunEventKind::AttemptStarted { .. } => format!("attempt {call} started"),
        RunEventKind::AttemptFailed { error, retry_at, .. } if error.kind == StepErrorKind::Deferred => {
            format!("put off: {}; next try at {retry_at}", said(error))
        }
        RunEventKind::AttemptFailed { error, retry_at, .. } => {
            format!("attempt {call} failed: {}; next try at {}", said(error), retry_at)
        }
        RunEventKind::AttemptDiscarded { .. } => format!("attempt {call} was ended"),
        RunEventKind::StepUnknown { error, .. } => {
            format!("nobody knows whether attempt {call} took effect: {}", said(error))
        }
        RunEventKind::StepReady { .. } => "may start again".to_owned(),
        RunEventKind::ApprovalRequested { from, .. } => {
            format!("waits for approval: text from outside reaches it, from `{}`", id(report, *from))
        }
        RunEventKind::StepApproved { .. } => "was approved".to_owned(),
        RunEventKind::StepExpanded { graft, .. } => format!("became {}", counted(graft.added.len(), "step")),
        RunEventKind::StepSucceeded { .. } => "done".to_owned(),
        RunEventKind::StepFailed { error, .. } => format!("failed for good: {}", said(error)),
        RunEventKind::StepSkipped { because: SkipReason::Failed(cause), .. } => {
            format!("skipped, because `{}` failed", id(report, *cause))
        }
        RunEventKind::StepSkipped { because: SkipReason::Condition, .. } => {
            "skipped, because its condition is false".to_owned()
        }
        RunEventKind::StepSkipped { because: SkipReason::LeftOut, .. } => "left out of this fork".to_owned(),
        _ => return None,
    })
}

/// The beginning of what went wrong: the whole message is shown once, with the attempt.
fn said(error: &StepError) -> String {
    error.message.chars().take(MOST_CHARS).collect()
}

fn id(report: &RunReport, step: StepNumber) -> StepId {
    report.scheduler().step(step).map_or_else(|| StepId::from("?"), |step| step.id.clone())
}
