//! The events of a run as lines of JSON. The names in them are stable: a change of meaning is another `v`.

use plandag::journal::RunId;
use plandag::{
    AttemptNumber, Graft, PlanError, PlanReason, RunEvent, RunEventKind, SkipReason, StepError, StepNumber, StopReason,
    Timestamp, Usage,
};
use serde_json::{Map, Value, json};

use super::ledger::Ledger;

/// The version of the lines.
pub(crate) const VERSION: u32 = 1;

/// The line of an event. None for the last event of a run: what it says is part of the last line of all.
pub(crate) fn line(run: &RunId, event: &RunEvent, ledger: &mut Ledger) -> Option<Value> {
    let at = event.at;
    let (name, fields) = match &event.kind {
        RunEventKind::RunStarted { start } => (
            "run.started",
            json!({
                "objective": start.objective,
                "tools": start.tools.iter().map(|tool| &tool.name).collect::<Vec<_>>(),
                "max_parallel": start.policy.max_parallel,
                "max_replans": start.policy.max_replans,
            }),
        ),
        RunEventKind::RunResumed { .. } => ("run.resumed", json!({})),
        RunEventKind::StopRequested { why } => ("run.stopping", json!({ "why": why_word(*why) })),
        RunEventKind::RunStopped { .. } | RunEventKind::RunFinished { .. } => return None,
        RunEventKind::PlanRequested { revision, reason, reported, .. } => (
            "plan.requested",
            json!({ "revision": revision, "reason": reason_word(reason), "failed": ids(ledger, reported) }),
        ),
        RunEventKind::PlanAccepted { revision, graft, usage, .. } => {
            let mut fields = graft_fields(ledger, graft);
            fields.insert("revision".to_owned(), json!(revision));
            fields.insert("usd".to_owned(), usd(usage));
            ("plan.accepted", Value::Object(fields))
        }
        RunEventKind::PlanRejected { rejection, usage, .. } => (
            "plan.rejected",
            json!({
                "errors": rejection.offences.iter().map(offence).collect::<Vec<_>>(),
                "given_up": rejection.given_up,
                "usd": usd(usage),
            }),
        ),
        RunEventKind::StepDrafted { graft, .. } => ("step.drafted", Value::Object(graft_fields(ledger, graft))),
        RunEventKind::StepExpanded { step, attempt, graft, .. } => {
            let mut fields = step_fields(ledger, *step, "expanded");
            fields.insert("ms".to_owned(), close(ledger, Some(*attempt), at));
            fields.append(&mut graft_fields(ledger, graft));
            ("step.expanded", Value::Object(fields))
        }
        RunEventKind::StepReady { step } => ("step.ready", Value::Object(step_fields(ledger, *step, "ready"))),
        RunEventKind::AttemptStarted { step, .. } => {
            ("step.started", Value::Object(step_fields(ledger, *step, "running")))
        }
        RunEventKind::AttemptFailed { step, attempt, error, retry_at, usage } => {
            let mut fields = ended_fields(ledger, *step, Some(*attempt), "retrying", at, usage);
            fields.append(&mut error_fields(error));
            fields.insert("retry_in_ms".to_owned(), millis(*retry_at - at));
            ("step.retrying", Value::Object(fields))
        }
        RunEventKind::AttemptDiscarded { attempt, usage } => {
            let step = ledger.step_of(*attempt)?;
            ("step.aborted", Value::Object(ended_fields(ledger, step, Some(*attempt), "aborted", at, usage)))
        }
        RunEventKind::StepUnknown { step, attempt, error, usage } => {
            let mut fields = ended_fields(ledger, *step, Some(*attempt), "unknown", at, usage);
            fields.append(&mut error_fields(error));
            ("step.unknown", Value::Object(fields))
        }
        RunEventKind::StepSucceeded { step, attempt, usage, .. } => {
            ("step.finished", Value::Object(ended_fields(ledger, *step, *attempt, "succeeded", at, usage)))
        }
        RunEventKind::StepFailed { step, attempt, error, usage } => {
            let mut fields = ended_fields(ledger, *step, *attempt, "failed", at, usage);
            fields.append(&mut error_fields(error));
            ("step.finished", Value::Object(fields))
        }
        RunEventKind::StepSkipped { step, because, attempt } => {
            let mut fields = ended_fields(ledger, *step, *attempt, "skipped", at, &Usage::default());
            let because = match because {
                SkipReason::Failed(cause) => json!(ledger.id(*cause)),
                SkipReason::Condition => Value::Null,
            };
            fields.insert("because".to_owned(), because);
            ("step.finished", Value::Object(fields))
        }
    };
    Some(envelope(run, at, name, fields))
}

/// A line of any kind: `fields` must be an object.
pub(crate) fn envelope(run: &RunId, at: Timestamp, name: &str, fields: Value) -> Value {
    let mut line = json!({ "v": VERSION, "t": seconds(at), "run": run, "ev": name });
    if let (Value::Object(line), Value::Object(mut fields)) = (&mut line, fields) {
        line.append(&mut fields);
    }
    line
}

/// A rejected plan's error, for programs.
pub(crate) fn offence(error: &PlanError) -> Value {
    json!({ "code": error.code(), "message": error.to_string() })
}

/// Why a run stopped, in one word.
pub(crate) fn why_word(why: StopReason) -> &'static str {
    match why {
        StopReason::Cancelled => "cancelled",
        StopReason::Attempts => "attempts",
        StopReason::Tokens => "tokens",
        StopReason::Money => "money",
        StopReason::Deadline => "deadline",
        StopReason::Undecided => "undecided",
        _ => "limit",
    }
}

fn reason_word(reason: &PlanReason) -> &'static str {
    match reason {
        PlanReason::First => "first",
        PlanReason::Rejected(_) => "rejected",
        PlanReason::Failures => "failures",
        PlanReason::Review => "review",
    }
}

/// Three decimals, as people read them.
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

fn millis(duration: std::time::Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn usd(usage: &Usage) -> Value {
    json!(usage.micro_usd as f64 / 1_000_000.0)
}

fn ids(ledger: &Ledger, numbers: &[StepNumber]) -> Vec<String> {
    numbers.iter().map(|number| ledger.id(*number).to_owned()).collect()
}

fn graft_fields(ledger: &Ledger, graft: &Graft) -> Map<String, Value> {
    let added = (graft.first..).take(graft.added.len()).map(|number| ledger.id(number).to_owned());
    let mut fields = Map::new();
    fields.insert("added".to_owned(), added.collect::<Vec<String>>().into());
    let dropped: Vec<String> =
        graft.closed.iter().chain(&graft.left).map(|number| ledger.id(*number).to_owned()).collect();
    fields.insert("dropped".to_owned(), dropped.into());
    fields
}

fn step_fields(ledger: &Ledger, step: StepNumber, state: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("step".to_owned(), json!(ledger.id(step)));
    if let Some(entry) = ledger.step(step) {
        fields.insert("gen".to_owned(), json!(entry.generation));
        fields.insert("attempt".to_owned(), json!(entry.attempts));
        fields.insert("tool".to_owned(), json!(entry.tool));
    }
    fields.insert("state".to_owned(), json!(state));
    fields
}

fn ended_fields(
    ledger: &mut Ledger,
    step: StepNumber,
    attempt: Option<AttemptNumber>,
    state: &str,
    at: Timestamp,
    usage: &Usage,
) -> Map<String, Value> {
    let mut fields = step_fields(ledger, step, state);
    fields.insert("ms".to_owned(), close(ledger, attempt, at));
    fields.insert("usd".to_owned(), usd(usage));
    fields
}

fn close(ledger: &mut Ledger, attempt: Option<AttemptNumber>, at: Timestamp) -> Value {
    attempt.and_then(|attempt| ledger.close(attempt, at)).map_or(Value::Null, millis)
}

fn error_fields(error: &StepError) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("kind".to_owned(), json!(error.kind));
    fields.insert("error".to_owned(), json!(error.message));
    fields
}
