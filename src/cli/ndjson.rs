//! The lines of `--json`. The names in them are stable: a change of meaning is another `v`.

use std::sync::Arc;
use std::time::Duration;

use plandag::journal::RunId;
use plandag::{
    Graft, PlanError, PlanReason, RunEvent, RunEventKind, SkipReason, StepError, StepId, StepNumber, Timestamp, Usage,
};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::ledger::Ledger;

/// The version of the lines.
const VERSION: u32 = 1;

/// What a line says beside what every line says, in the order in which it is read best. No name comes twice.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Field)>);

/// What a line says under one name. There are many lines, and most of what they say is there already.
#[derive(Debug)]
pub(crate) enum Field {
    Word(&'static str),
    Id(StepId),
    Text(Arc<str>),
    Number(u64),
    Value(Value),
}

/// As many fields as most lines have.
const USUAL: usize = 10;

impl Fields {
    /// Room for a line about an event.
    fn new() -> Self {
        Self(Vec::with_capacity(USUAL))
    }

    pub(crate) fn insert(&mut self, name: &'static str, field: impl Into<Field>) {
        self.0.push((name, field.into()));
    }
}

impl<const N: usize> From<[(&'static str, Value); N]> for Fields {
    fn from(fields: [(&'static str, Value); N]) -> Self {
        let mut line = Self::new();
        line.extend(fields);
        line
    }
}

impl<F: Into<Field>> Extend<(&'static str, F)> for Fields {
    fn extend<I: IntoIterator<Item = (&'static str, F)>>(&mut self, fields: I) {
        self.0.extend(fields.into_iter().map(|(name, field)| (name, field.into())));
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, field)| (name, field)))
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => serializer.serialize_str(word),
            Self::Id(id) => serializer.serialize_str(id.as_str()),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl From<Value> for Field {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    v: u32,
    /// Seconds since the run began, to the millisecond.
    t: f64,
    /// None if the command ended before there was a run.
    run: Option<RunId>,
    ev: &'static str,
    #[serde(flatten)]
    fields: Fields,
}

impl Line {
    /// A line about a run.
    pub(crate) fn new(run: &RunId, at: Timestamp, ev: &'static str, fields: Fields) -> Self {
        Self { v: VERSION, t: at.as_millis() as f64 / 1_000.0, run: Some(run.clone()), ev, fields }
    }

    /// An error before there was a run.
    pub(crate) fn error(fields: Fields) -> Self {
        Self::before_run("error", fields)
    }

    /// Something before there was a run.
    pub(crate) fn before_run(ev: &'static str, fields: Fields) -> Self {
        Self { v: VERSION, t: 0.0, run: None, ev, fields }
    }

    /// The line of an event. None for the last event of a run: what it says is part of the last line of all.
    pub(crate) fn event(run: &RunId, event: &RunEvent, ledger: &Ledger) -> Option<Self> {
        let (ev, fields) = event_fields(event, ledger)?;
        Some(Self::new(run, event.at, ev, fields))
    }
}

fn event_fields(event: &RunEvent, ledger: &Ledger) -> Option<(&'static str, Fields)> {
    let at = event.at;
    Some(match &event.kind {
        RunEventKind::RunStarted { start } => (
            "run.started",
            Fields::from([
                ("objective", json!(start.objective)),
                ("tools", start.tools.iter().map(|tool| tool.name.as_str()).collect()),
                ("max_parallel", json!(start.policy.max_parallel)),
                ("max_replans", json!(start.policy.max_replans)),
            ]),
        ),
        RunEventKind::RunResumed { .. } => ("run.resumed", Fields::default()),
        RunEventKind::StopRequested { why } => ("run.stopping", Fields::from([("why", json!(why))])),
        // The last line says what was used in all.
        RunEventKind::RunStopped { .. } | RunEventKind::RunFinished { .. } | RunEventKind::UsageNoted { .. } => {
            return None;
        }
        RunEventKind::PlanRequested { revision, reason, reported, .. } => (
            "plan.requested",
            Fields::from([
                ("revision", json!(revision)),
                ("reason", json!(reason_word(reason))),
                ("failed", reported.iter().map(|number| ledger.id(*number)).collect()),
            ]),
        ),
        RunEventKind::PlanAccepted { revision, graft, usage, .. } => {
            let mut fields = Fields::from([("revision", json!(revision))]);
            add_graft(&mut fields, ledger, graft);
            add_spent(&mut fields, usage);
            ("plan.accepted", fields)
        }
        RunEventKind::PlanRejected { rejection, usage, .. } => {
            let mut fields = Fields::from([
                ("errors", rejection.offences.iter().map(offence).collect()),
                ("given_up", json!(rejection.given_up)),
            ]);
            if let Some(answer) = &rejection.answer {
                fields.insert("answer", json!(answer));
            }
            add_spent(&mut fields, usage);
            ("plan.rejected", fields)
        }
        RunEventKind::PlanPutOff { error, retry_at, usage, .. } => {
            let wait_ms = u64::try_from((*retry_at - at).as_millis()).unwrap_or(u64::MAX);
            let mut fields = Fields::from([("wait_ms", json!(wait_ms)), ("reason", json!(error.to_string()))]);
            add_spent(&mut fields, usage);
            ("planning.waits", fields)
        }
        RunEventKind::StepDrafted { graft, .. } => {
            let mut fields = Fields::new();
            add_graft(&mut fields, ledger, graft);
            ("step.drafted", fields)
        }
        RunEventKind::StepExpanded { step, graft, usage, .. } => {
            let mut fields = ended_fields(ledger, *step, "expanded", usage);
            add_graft(&mut fields, ledger, graft);
            ("step.expanded", fields)
        }
        RunEventKind::StepReady { step } => ("step.ready", step_fields(ledger, *step, "ready")),
        RunEventKind::ApprovalRequested { step, from } => {
            let mut fields = step_fields(ledger, *step, "unapproved");
            fields.insert("from", json!(ledger.id(*from)));
            ("step.unapproved", fields)
        }
        RunEventKind::StepApproved { step } => ("step.approved", step_fields(ledger, *step, "ready")),
        RunEventKind::AttemptStarted { step, .. } => {
            let mut fields = step_fields(ledger, *step, "running");
            if let Some(entry) = ledger.step(*step).filter(|entry| !entry.task.is_empty()) {
                fields.insert("task", Field::Text(Arc::clone(&entry.task)));
            }
            ("step.started", fields)
        }
        RunEventKind::AttemptFailed { step, error, retry_at, usage, .. } => {
            let mut fields = ended_fields(ledger, *step, "retrying", usage);
            add_error(&mut fields, error);
            fields.insert("retry_in_ms", millis(*retry_at - at));
            ("step.retrying", fields)
        }
        RunEventKind::AttemptDiscarded { usage, .. } => {
            let (step, _) = ledger.ended()?;
            ("step.aborted", ended_fields(ledger, step, "aborted", usage))
        }
        RunEventKind::StepUnknown { step, error, usage, .. } => {
            let mut fields = ended_fields(ledger, *step, "unknown", usage);
            add_error(&mut fields, error);
            ("step.unknown", fields)
        }
        RunEventKind::StepSucceeded { step, usage, .. } => {
            ("step.finished", ended_fields(ledger, *step, "succeeded", usage))
        }
        RunEventKind::StepFailed { step, error, usage, .. } => {
            let mut fields = ended_fields(ledger, *step, "failed", usage);
            add_error(&mut fields, error);
            ("step.finished", fields)
        }
        RunEventKind::StepSkipped { step, because, .. } => {
            let mut fields = ended_fields(ledger, *step, "skipped", &Usage::default());
            let because = match because {
                SkipReason::Failed(cause) => json!(ledger.id(*cause)),
                SkipReason::Condition | SkipReason::LeftOut => json!(null),
            };
            fields.insert("because", because);
            ("step.finished", fields)
        }
    })
}

/// What is wrong with a plan, for programs.
fn offence(error: &PlanError) -> Value {
    json!({ "code": error.code(), "message": error.to_string() })
}

fn reason_word(reason: &PlanReason) -> &'static str {
    match reason {
        PlanReason::First => "first",
        PlanReason::Rejected(_) => "rejected",
        PlanReason::Failures => "failures",
        PlanReason::Review => "review",
    }
}

/// A duration of a run, for programs: in whole milliseconds, as in all of its lines.
pub(crate) fn millis(duration: Duration) -> Value {
    json!(whole_millis(duration))
}

/// The same to the nanosecond, for what is computed of runs and may be less than a millisecond.
pub(crate) fn exact_millis(duration: Duration) -> Value {
    match duration.subsec_nanos() % 1_000_000 {
        0 => millis(duration),
        _ => json!(duration.as_nanos() as f64 / 1e6),
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Adds what was spent: calls of models and tokens, where there were any, and dollars.
pub(crate) fn add_spent(fields: &mut Fields, usage: &Usage) {
    if usage.input_tokens.max(usage.output_tokens) > 0 {
        fields.insert("tokens_in", Field::Number(usage.input_tokens));
        fields.insert("tokens_out", Field::Number(usage.output_tokens));
    }
    if usage.calls > 0 {
        fields.insert("model_calls", Field::Number(usage.calls));
    }
    fields.insert("usd", json!(usage.micro_usd as f64 / 1_000_000.0));
}

fn add_graft(fields: &mut Fields, ledger: &Ledger, graft: &Graft) {
    let added = (graft.first..).take(graft.added.len()).map(|number| ledger.id(number));
    let dropped = graft.closed.iter().chain(&graft.left).map(|number| ledger.id(*number));
    fields.insert("added", added.collect::<Value>());
    fields.insert("dropped", dropped.collect::<Value>());
}

fn step_fields(ledger: &Ledger, step: StepNumber, state: &'static str) -> Fields {
    let mut fields = Fields::new();
    match ledger.step(step) {
        Some(entry) => {
            fields.insert("step", Field::Id(entry.id.clone()));
            fields.insert("gen", Field::Number(entry.generation.into()));
            fields.insert("attempt", Field::Number(entry.attempts.into()));
            fields.insert("tool", entry.tool.clone().map_or(Field::Value(Value::Null), Field::Text));
        }
        None => fields.insert("step", json!(ledger.id(step))),
    }
    fields.insert("state", Field::Word(state));
    fields
}

fn ended_fields(ledger: &Ledger, step: StepNumber, state: &'static str, usage: &Usage) -> Fields {
    let took = ledger.ended().map(|(_, took)| took);
    let mut fields = step_fields(ledger, step, state);
    fields.insert("ms", took.map_or(Field::Value(Value::Null), |took| Field::Number(whole_millis(took))));
    add_spent(&mut fields, usage);
    fields
}

fn add_error(fields: &mut Fields, error: &StepError) {
    fields.insert("kind", json!(error.kind));
    fields.insert("error", json!(error.message));
}
