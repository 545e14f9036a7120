//! What a run is made of, without secrets. They are taken out of what is text: a name that a run is put together with
//! would be another one then, and the record no longer that of the run.
//!
//! Every field is named here, so that a new one is thought about.

use std::borrow::Cow;
use std::mem::take;
use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::Value;

use crate::error::{ModelProblem, PlanError, StepError};
use crate::event::{
    Added, Decision, FailureReason, Graft, Output, PlanReason, Rejection, RunEvent, RunEventKind, RunOutcome, RunStart,
    StoredOutput,
};
use crate::plan::{Plan, Step};
use crate::policy::Policy;
use crate::reference;
use crate::tool::ToolSpec;

use super::Secrets;

impl Secrets {
    /// Takes secrets out of the texts of a plan. Ids, the names of tools, inputs and pools, and references stay, so that
    /// it can be run.
    ///
    /// ```
    /// use plandag::{Plan, Secrets, Step};
    ///
    /// let step = Step::new("postgres", "shell").description("starts postgres");
    /// let mut plan = Plan::from_iter([step]);
    /// Secrets::new(["postgres"]).redact_plan(&mut plan);
    /// assert_eq!(plan.steps[0].id, "postgres");
    /// assert_eq!(&*plan.steps[0].description, "starts [redacted]");
    /// ```
    pub fn redact_plan(&self, plan: &mut Plan) {
        plan.redact(self);
    }

    /// Takes secrets out of the texts of an event, as a journal does before it writes it down.
    pub fn redact_event(&self, event: &mut RunEvent) {
        event.kind.redact(self);
    }
}

/// Something that has text in it.
pub(crate) trait Redact {
    /// Takes secrets out of its text.
    fn redact(&mut self, secrets: &Secrets);
}

impl Redact for RunEventKind {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::RunStarted { start } => start.redact(secrets),
            Self::RunFinished { outcome, usage: _ } => outcome.redact(secrets),
            Self::PlanRequested { request: _, revision: _, reason, reported: _ } => reason.redact(secrets),
            Self::PlanAccepted { request: _, revision: _, graft, usage: _ }
            | Self::StepDrafted { request: _, graft }
            | Self::StepExpanded { step: _, attempt: _, graft, usage: _ } => graft.redact(secrets),
            Self::PlanRejected { request: _, rejection, usage: _ } => rejection.redact(secrets),
            Self::PlanPutOff { request: _, error, retry_at: _, usage: _ } => error.redact(secrets),
            Self::StepUnknown { step: _, attempt: _, error, usage: _ }
            | Self::AttemptFailed { step: _, attempt: _, error, retry_at: _, usage: _ }
            | Self::StepFailed { step: _, attempt: _, error, usage: _ } => error.redact(secrets),
            Self::StepSucceeded { step: _, attempt: _, output, usage: _ } => output.redact(secrets),
            Self::RunResumed { policy } => policy.redact(secrets),
            Self::StopRequested { why: _ }
            | Self::UsageNoted { attempt: _, usage: _ }
            | Self::RunStopped { why: _ }
            | Self::StepReady { step: _ }
            | Self::ApprovalRequested { step: _, from: _ }
            | Self::StepApproved { step: _ }
            | Self::AttemptStarted { step: _, attempt: _ }
            | Self::AttemptDiscarded { attempt: _, usage: _ }
            | Self::StepSkipped { step: _, because: _, attempt: _ } => {}
        }
    }
}

impl Redact for Decision {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::Succeeded(output) => output.redact(secrets),
            Self::Failed(why) => why.redact(secrets),
            Self::Retry | Self::Approve | Self::Deny => {}
        }
    }
}

impl Redact for RunStart {
    fn redact(&mut self, secrets: &Secrets) {
        let Self { objective, inputs, policy, tools, default_tool: _, planner_server, labels } = self;
        objective.redact(secrets);
        policy.redact(secrets);
        inputs.values_mut().for_each(|input| input.redact(secrets));
        tools.redact(secrets);
        planner_server.redact(secrets);
        let keys = secrets.keys();
        labels.values_mut().for_each(|label| self::label(label, secrets, &keys));
    }
}

impl Redact for Policy {
    fn redact(&mut self, secrets: &Secrets) {
        // Numbers, and names of pools and tools.
        let Self {
            max_parallel: _,
            pools: _,
            retry: _,
            timeout_ms: _,
            planner_timeout_ms: _,
            max_replans: _,
            max_corrections: _,
            replan_when: _,
            review: _,
            limits: _,
            grace_ms: _,
            order: _,
            patience: _,
            max_interruptions: _,
            allow: _,
            attended: _,
            labels,
        } = self;
        let keys = secrets.keys();
        labels.values_mut().for_each(|label| label.redact(&keys));
    }
}

impl Redact for ToolSpec {
    fn redact(&mut self, secrets: &Secrets) {
        let Self {
            name: _,
            description,
            version: _,
            arguments,
            output,
            effect: _,
            untrusted: _,
            idempotent: _,
            replans: _,
            takes_inputs: _,
            many_servers: _,
            pool: _,
            server,
            timeout: _,
            mean_ms: _,
        } = self;
        description.redact(secrets);
        schema(arguments, secrets);
        output.redact(secrets);
        server.redact(secrets);
    }
}

impl Redact for RunOutcome {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::Succeeded { answer } => answer.redact(secrets),
            Self::Failed { reason: FailureReason::NoPlan(offences) } => offences.redact(secrets),
            Self::Failed { reason: FailureReason::StepsFailed(_) | FailureReason::Stalled(_) } => {}
        }
    }
}

impl Redact for PlanReason {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::Rejected(offences) => offences.redact(secrets),
            Self::First | Self::Failures | Self::Review => {}
        }
    }
}

impl Redact for Rejection {
    fn redact(&mut self, secrets: &Secrets) {
        let Self { offences, closed: _, left: _, given_up: _, answer } = self;
        offences.redact(secrets);
        answer.redact(secrets);
    }
}

impl Redact for Graft {
    fn redact(&mut self, secrets: &Secrets) {
        let Self {
            scope: _,
            first: _,
            added,
            joined: _,
            closed: _,
            left: _,
            unreported: _,
            settings,
            forgotten: _,
            pools: _,
            answer: _,
        } = self;
        for Added { id: _, step, dependencies: _ } in added {
            step.redact(secrets);
        }
        for (_, step) in settings {
            step.redact(secrets);
        }
    }
}

impl Redact for Plan {
    fn redact(&mut self, secrets: &Secrets) {
        let Self { objective, answer: _, pools: _, steps } = self;
        objective.redact(secrets);
        steps.redact(secrets);
    }
}

impl Redact for Step {
    fn redact(&mut self, secrets: &Secrets) {
        let Self {
            id: _,
            tool: _,
            description,
            args,
            depends_on: _,
            when,
            timeout_ms: _,
            on_failure: _,
            on_interrupt: _,
            estimate_ms: _,
            uses: _,
            retry: _,
        } = self;
        description.redact(secrets);
        arguments(args, secrets);
        if let Some(when) = when
            && let Some(redacted) = around_references(when, secrets)
        {
            *when = redacted.into();
        }
    }
}

impl Redact for Output {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::Inline(value) => value.redact(secrets),
            Self::Stored(stored) => {
                let StoredOutput { digest: _, bytes: _, preview } = Arc::make_mut(stored);
                preview.redact(secrets);
            }
            Self::Gathered(_) => {}
        }
    }
}

impl Redact for StepError {
    fn redact(&mut self, secrets: &Secrets) {
        let problem = ModelProblem::of(self);
        let Self { kind: _, message, details, retry_after_ms: _ } = self;
        message.redact(secrets);
        details.redact(secrets);
        if let Some((details, problem)) = details.as_mut().zip(problem) {
            details["code"] = problem.code().into();
        }
    }
}

impl Redact for PlanError {
    fn redact(&mut self, secrets: &Secrets) {
        match self {
            Self::Malformed { message }
            // What cannot be an id can be anything.
            | Self::InvalidId { id: message }
            // No run has a tool or an input of this name.
            | Self::UnknownTool { step: _, tool: message, suggestion: _ }
            | Self::UnknownInput { step: _, input: message, suggestion: _ }
            | Self::BadReference { step: _, message }
            | Self::TooLarge { what: message, count: _, limit: _ }
            | Self::BadPatch { message }
            | Self::Truncated { message }
            | Self::BrokenOff { problem: _, message, retry_after_ms: _ }
            | Self::Planner { message }
            | Self::Model { problem: _, message } => message.redact(secrets),
            Self::Empty
            | Self::DuplicateId { id: _ }
            | Self::UnknownDependency { step: _, dependency: _, suggestion: _ }
            | Self::DependsOnFailed { step: _, dependency: _ }
            | Self::AnswerFailed { answer: _ }
            | Self::Cycle { path: _ }
            | Self::NoExecutor { step: _ }
            | Self::OverPool { step: _, pool: _, weight: _, size: _ }
            | Self::UnknownAnswer { answer: _, suggestion: _ }
            | Self::Undecided { step: _ }
            | Self::Declined => {}
        }
    }
}

/// The arguments of a step: what they refer to stays.
fn arguments(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => {
            if let Some(redacted) = around_references(text, secrets) {
                *text = redacted;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| arguments(item, secrets)),
        Value::Object(fields) => each_field(fields, secrets, |field| arguments(field, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a program wants to find again, without keys. A plan in it stays one, and is without all secrets.
fn label(value: &mut Value, secrets: &Secrets, keys: &Secrets) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| label(item, secrets, keys)),
        Value::Object(fields) => {
            if fields.contains_key("steps")
                && let Ok(mut plan) = Plan::deserialize(&*value)
            {
                plan.redact(secrets);
                // It was read from JSON.
                *value = serde_json::to_value(plan).unwrap_or_default();
            } else if let Value::Object(fields) = value {
                each_field(fields, keys, |field| label(field, secrets, keys));
            }
        }
        other => other.redact(keys),
    }
}

/// What arguments a tool takes: their names and types stay.
fn schema(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| schema(item, secrets)),
        Value::Object(fields) => {
            for (name, field) in fields {
                // An object under such a name is about an argument that is called so.
                if field.is_object() || !matches!(name.as_str(), "type" | "required" | "$ref") {
                    schema(field, secrets);
                }
            }
        }
        other => other.redact(secrets),
    }
}

fn each_field(fields: &mut serde_json::Map<String, Value>, secrets: &Secrets, mut redact: impl FnMut(&mut Value)) {
    let redacted = take(fields).into_iter().map(|(mut name, mut field)| {
        name.redact(secrets);
        redact(&mut field);
        (name, field)
    });
    *fields = redacted.collect();
}

/// A string of a plan, if there is something to take out of it.
fn around_references(text: &str, secrets: &Secrets) -> Option<String> {
    match secrets.redact_around(text, &reference::places(text)) {
        Cow::Borrowed(_) => None,
        Cow::Owned(redacted) => Some(redacted),
    }
}

impl Redact for String {
    fn redact(&mut self, secrets: &Secrets) {
        if let Cow::Owned(redacted) = secrets.redact(self) {
            *self = redacted;
        }
    }
}

impl Redact for Arc<str> {
    fn redact(&mut self, secrets: &Secrets) {
        if let Cow::Owned(redacted) = secrets.redact(self) {
            *self = redacted.into();
        }
    }
}

impl Redact for Value {
    fn redact(&mut self, secrets: &Secrets) {
        *self = secrets.redact_value(take(self));
    }
}

impl<T: Clone + Redact> Redact for Arc<T> {
    fn redact(&mut self, secrets: &Secrets) {
        Self::make_mut(self).redact(secrets);
    }
}

impl<T: Redact> Redact for Option<T> {
    fn redact(&mut self, secrets: &Secrets) {
        self.iter_mut().for_each(|value| value.redact(secrets));
    }
}

impl<T: Redact> Redact for Vec<T> {
    fn redact(&mut self, secrets: &Secrets) {
        self.iter_mut().for_each(|value| value.redact(secrets));
    }
}
