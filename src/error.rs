//! What can go wrong, as data: the planner reads [`PlanError`], the journal keeps [`StepError`], the operator reads
//! [`JournalError`], the caller of a run gets [`RunError`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::plan::StepId;

/// Why a plan cannot be run.
///
/// The user reads it, and the planner does on its next try. [`PlanError::code`] is stable.
#[derive(Clone, Debug, PartialEq, Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlanError {
    /// There are no steps.
    #[error("the plan has no steps")]
    Empty,
    /// The plan is not of the shape of a plan: not JSON, an unknown field, a wrong type.
    #[error("{message}")]
    Malformed {
        /// What is wrong, with its place if it has one.
        message: String,
    },
    /// An id that a plan may not use.
    #[error("`{id}` is not a valid step id: use 1 to 64 of A-Z a-z 0-9 _ -, and not the reserved `inputs`")]
    InvalidId {
        /// The offending id, cut to 80 characters.
        id: String,
    },
    /// Two steps have the same id.
    #[error("two steps are called `{id}`")]
    DuplicateId {
        /// The id.
        id: StepId,
    },
    /// A step depends on something that is not there.
    #[error("step `{step}` depends on `{dependency}`, which is not in the plan")]
    UnknownDependency {
        /// The step that depends.
        step: StepId,
        /// What it depends on.
        dependency: StepId,
        /// The most similar id of the plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggestion: Option<StepId>,
    },
    /// A step depends on one that failed, and that the revision neither mentions nor replaces.
    #[error("step `{step}` depends on `{dependency}`, which failed: try it again, replace it or do without")]
    DependsOnFailed {
        /// The step that depends.
        step: StepId,
        /// The failed step.
        dependency: StepId,
    },
    /// The answer should come from a step that failed, and that the revision neither mentions nor replaces.
    #[error("the answer should come from `{answer}`, which failed: try it again, or have another step answer")]
    AnswerFailed {
        /// The failed step.
        answer: StepId,
    },
    /// Steps that wait for each other, so that none could ever start.
    #[error("the plan has a cycle: {}", cycle_path(.path))]
    Cycle {
        /// The steps of one cycle, each depending on the one before it; the first is not repeated at the end.
        path: Vec<StepId>,
    },
    /// A step names a tool that the run does not have.
    #[error("step `{step}` uses the tool `{tool}`, which this run does not have")]
    UnknownTool {
        /// The step.
        step: StepId,
        /// The tool.
        tool: String,
        /// The most similar tool of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggestion: Option<String>,
    },
    /// A step names no tool, and the run has no default tool.
    #[error("step `{step}` names no tool, and this run has no model to do it")]
    NoExecutor {
        /// The step.
        step: StepId,
    },
    /// A `${...}` that cannot be read, or that a planner wrote where nothing is filled in.
    #[error("step `{step}` has a bad reference: {message}")]
    BadReference {
        /// The step.
        step: StepId,
        /// What is wrong with it.
        message: String,
    },
    /// A reference to a run input that was not given.
    #[error("step `{step}` refers to the input `{input}`, which was not given")]
    UnknownInput {
        /// The step.
        step: StepId,
        /// The input.
        input: String,
        /// The most similar input of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggestion: Option<String>,
    },
    /// A step needs more of a pool than there is.
    #[error("step `{step}` needs {weight} of the pool `{pool}`, which has {size}")]
    OverPool {
        /// The step.
        step: StepId,
        /// The pool.
        pool: String,
        /// What the step needs.
        weight: u32,
        /// What the pool has.
        size: u32,
    },
    /// The step that should answer is not in the plan.
    #[error("the answer should come from `{answer}`, which is not in the plan")]
    UnknownAnswer {
        /// The step named as the answer.
        answer: StepId,
        /// The most similar id of the plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggestion: Option<StepId>,
    },
    /// More than a limit allows.
    #[error("{count} {what}, over the limit of {limit}")]
    TooLarge {
        /// What there is too much of, in the plural.
        what: String,
        /// How much there is, as far as it was counted.
        count: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// A patch adds a step that is there, or changes or drops one that is not, or does nothing.
    #[error("the patch {message}")]
    BadPatch {
        /// What is wrong with it.
        message: String,
    },
    /// A revision redefines a step whose outcome is unknown, so its effect could happen twice.
    #[error("step `{step}` has an unknown outcome: it can be repeated word for word or dropped, not redefined")]
    Undecided {
        /// The step.
        step: StepId,
    },
    /// The plan stopped before its end: a length limit, a cut connection, no end mark.
    #[error("the plan was cut off: {message}")]
    Truncated {
        /// What shows it.
        message: String,
    },
    /// The provider of the model that plans failed before the plan was whole.
    #[error("the plan was broken off: {message}")]
    BrokenOff {
        /// What kind of trouble there is.
        problem: ModelProblem,
        /// What happened.
        message: String,
        /// How long the provider wants to be left alone, in milliseconds, if it said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The planner itself failed.
    #[error("the planner failed: {message}")]
    Planner {
        /// What it said.
        message: String,
    },
    /// The model that plans could not be asked, or did not answer.
    #[error("{message}")]
    Model {
        /// What kind of trouble there is.
        problem: ModelProblem,
        /// What happened.
        message: String,
    },
    /// The planner will not revise its plan (a plan file cannot).
    #[error("the planner has no other plan")]
    Declined,
}

impl PlanError {
    /// The stable code, as `plandag explain CODE` knows it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "plan.empty",
            Self::Malformed { .. } => "plan.malformed",
            Self::InvalidId { .. } => "plan.invalid_id",
            Self::DuplicateId { .. } => "plan.duplicate_id",
            Self::UnknownDependency { .. } => "plan.unknown_dep",
            Self::DependsOnFailed { .. } | Self::AnswerFailed { .. } => "plan.depends_on_failed",
            Self::Cycle { .. } => "plan.cycle",
            Self::UnknownTool { .. } => "plan.unknown_tool",
            Self::NoExecutor { .. } => "plan.no_executor",
            Self::BadReference { .. } => "plan.bad_reference",
            Self::UnknownInput { .. } => "plan.unknown_input",
            Self::OverPool { .. } => "plan.over_pool",
            Self::UnknownAnswer { .. } => "plan.unknown_answer",
            Self::TooLarge { .. } => "plan.too_large",
            Self::BadPatch { .. } => "plan.bad_patch",
            Self::Undecided { .. } => "plan.undecided",
            Self::Truncated { .. } => "planner.truncated",
            Self::Planner { .. } => "planner.failed",
            Self::Model { problem, .. } | Self::BrokenOff { problem, .. } => problem.code(),
            Self::Declined => "planner.declined",
        }
    }

    /// How long the planner's provider wants to be left alone, in milliseconds, where it has said so.
    pub(crate) fn pause_ms(&self) -> Option<u64> {
        match self {
            Self::BrokenOff { retry_after_ms, .. } => *retry_after_ms,
            _ => None,
        }
    }

    /// Whether asking the planner again about the same would lead to the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Declined | Self::Model { .. })
    }
}

/// Why a language model could not be asked, or did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelProblem {
    /// There is no key for the provider.
    MissingKey,
    /// The provider does not accept the key.
    WrongKey,
    /// The provider does not have the model, or no provider is known for it.
    UnknownModel,
    /// Nothing answers at the address.
    Unreachable,
    /// What answers there is not the API of a model.
    NotAnApi,
    /// Too many calls, or tokens, at a time.
    RateLimited,
    /// The account has nothing left to spend.
    NoQuota,
    /// The server failed, or is overloaded.
    Unavailable,
    /// The server stopped sending, and kept the connection open.
    Stalled,
    /// The connection broke before the answer was complete.
    CutOff,
    /// The server does not accept the request.
    Rejected,
    /// The answer is not what the API promises.
    BadAnswer,
    /// The request is longer than the model can read.
    ContextOverflow,
    /// The model, or a filter in front of it, will not answer this.
    Refused,
}

impl ModelProblem {
    /// The trouble that a step failed of, if it was a model's.
    pub fn of(error: &StepError) -> Option<Self> {
        let code = error.code()?;
        Self::ALL.into_iter().find(|problem| problem.code() == code)
    }

    const ALL: [Self; 14] = [
        Self::MissingKey,
        Self::WrongKey,
        Self::UnknownModel,
        Self::Unreachable,
        Self::NotAnApi,
        Self::RateLimited,
        Self::NoQuota,
        Self::Unavailable,
        Self::Stalled,
        Self::CutOff,
        Self::Rejected,
        Self::BadAnswer,
        Self::ContextOverflow,
        Self::Refused,
    ];

    /// The stable code, as `plandag explain CODE` knows it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingKey => "config.missing_key",
            Self::WrongKey => "config.wrong_key",
            Self::UnknownModel => "config.unknown_model",
            Self::Unreachable => "provider.unreachable",
            Self::NotAnApi => "provider.not_an_api",
            Self::RateLimited => "provider.rate_limited",
            Self::NoQuota => "provider.no_quota",
            Self::Unavailable => "provider.unavailable",
            Self::Stalled => "provider.stalled",
            Self::CutOff => "provider.cut_off",
            Self::Rejected => "provider.rejected",
            Self::BadAnswer => "provider.bad_answer",
            Self::ContextOverflow => "model.context_overflow",
            Self::Refused => "model.refused",
        }
    }

    /// Whether the same call may well work a little later.
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::RateLimited | Self::Unavailable | Self::Stalled | Self::CutOff | Self::BadAnswer
        )
    }

    /// Whether every call meets it, whatever is asked, until a person sees to it. Another plan would not help.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::MissingKey | Self::WrongKey | Self::UnknownModel | Self::NotAnApi | Self::NoQuota)
    }
}

fn cycle_path(path: &[StepId]) -> String {
    let mut text = path.iter().take(12).map(StepId::as_str).collect::<Vec<_>>().join(" -> ");
    if path.len() > 12 {
        text.push_str(&format!(" -> ... ({} more)", path.len() - 12));
    }
    if let Some(first) = path.first() {
        text.push_str(" -> ");
        text.push_str(first.as_str());
    }
    text
}

/// What kind of failure an attempt had. With the tool's effect it decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepErrorKind {
    /// May well work next time: tried again.
    Transient,
    /// The attempt took too long. Tried again if the tool only reads; unknown if it acts.
    Timeout,
    /// The process went away under the attempt. As a timeout, but it does not use up a try.
    Interrupted,
    /// The run was stopped under the attempt, or may not use more. As an interruption, but it may happen any number of
    /// times. A tool that says so although nobody has stopped the run was interrupted.
    Stopped,
    /// Nothing was done, as the server may not be asked yet: tried again after the pause that the error names, which does
    /// not use up a try. Without a pause it is the longest back-off of the step, and at least a second.
    Deferred,
    /// Will not work next time either: not tried again.
    Permanent,
    /// The arguments are not what the tool takes: not tried again.
    BadInput,
    /// A reference names something that the output does not have, or that is more than arguments can be: not tried again.
    /// No tool was called.
    BadReference,
    /// The tool panicked: not tried again.
    Panicked,
    /// The result is not data that can be handed on (too large, too deep, not text): not tried again.
    BadOutput,
    /// The tool returned a plan that cannot be run: tried again.
    InvalidPlan,
    /// The tool worked, but its result contradicts the plan: not tried again, the planner is asked.
    Unexpected,
    /// A step of the expansion failed.
    ExpansionFailed,
    /// The attempt was ended because nobody wants its result any more.
    Aborted,
    /// A person did not let it act: not tried again.
    Denied,
}

impl StepErrorKind {
    /// Whether an attempt that failed like this was no call: no tool was asked, or one that put it off.
    pub fn is_no_call(self) -> bool {
        matches!(self, Self::BadReference | Self::Deferred)
    }

    /// Whether nobody knows what was done, as the call was broken off. What acts may have acted.
    pub(crate) fn is_open_end(self) -> bool {
        matches!(self, Self::Timeout | Self::Interrupted | Self::Stopped | Self::Aborted)
    }
}

/// Why an attempt, or a step, failed.
#[derive(Clone, Debug, PartialEq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct StepError {
    /// What kind of failure it was.
    pub kind: StepErrorKind,
    /// What happened, for the person who has to act on it.
    pub message: String,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// How long the server asked to be left alone, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl StepError {
    /// An error of any kind.
    pub fn new(kind: StepErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: None, retry_after_ms: None }
    }

    /// May well work next time.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(StepErrorKind::Transient, message)
    }

    /// Will not work next time either.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(StepErrorKind::Permanent, message)
    }

    /// Nothing was done: it is to be tried again after so many milliseconds, which takes up none of its tries. For tools
    /// that know themselves when they may ask a server: a step that waits here holds no slot.
    pub fn deferred(message: impl Into<String>, pause_ms: u64) -> Self {
        Self::new(StepErrorKind::Deferred, message).retry_after_ms(pause_ms)
    }

    /// The arguments are not what the tool takes.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(StepErrorKind::BadInput, message)
    }

    /// The tool worked, but the result contradicts the plan.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(StepErrorKind::Unexpected, message)
    }

    /// Adds more for programs.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The code of an error that did not come from the step's own work but from a provider it needed, such as
    /// `provider.unreachable`; see [`ModelProblem::code`].
    pub fn code(&self) -> Option<&str> {
        self.details.as_ref()?.get("code")?.as_str()
    }

    /// Adds how long the server asked to be left alone, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

impl From<std::io::Error> for StepError {
    fn from(error: std::io::Error) -> Self {
        Self::permanent(error.to_string())
    }
}

impl From<serde_json::Error> for StepError {
    fn from(error: serde_json::Error) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<String> for StepError {
    fn from(message: String) -> Self {
        Self::permanent(message)
    }
}

impl From<&str> for StepError {
    fn from(message: &str) -> Self {
        Self::permanent(message)
    }
}

/// The record of a run could not be kept or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The record does not follow the rules of a run, so it was damaged or written by something else.
    #[error("event {seq} of the history is not possible here: {message}")]
    Corrupt {
        /// The number of the first impossible event.
        seq: u64,
        /// Why it is not possible.
        message: String,
    },
    /// What is in the file is not what was written.
    #[error("the journal is damaged: {message}")]
    Damaged {
        /// What was found.
        message: String,
    },
    /// Nothing is recorded under this name.
    #[error("no run `{run}` in the journal")]
    UnknownRun {
        /// The run.
        run: String,
    },
    /// Another process owns the run.
    #[error("run `{run}` is being run by another process{}", owner_words(*.pid))]
    Locked {
        /// The run.
        run: String,
        /// The number of that process, if it is known.
        pid: Option<u32>,
    },
    /// A newer release has written the journal. It was not touched.
    #[error("{path} was written by a newer release: its layout is number {found}, this one knows up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// The number of its layout.
        found: u32,
        /// The newest layout that this release knows.
        known: u32,
    },
    /// The file is no journal, or a damaged one. It was not touched.
    #[error("{path} {why}")]
    NotAJournal {
        /// The file.
        path: String,
        /// What it is instead.
        why: String,
    },
    /// The journal cannot be where it is wanted.
    #[error("{path} {why}")]
    Unusable {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// What was decided about a step is nothing that a run could take up.
    #[error("the decision cannot be recorded: {message}")]
    BadDecision {
        /// Why not.
        message: String,
    },
    /// The store failed.
    #[error("the journal failed: {message}")]
    Store {
        /// What failed.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl JournalError {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } | Self::Damaged { .. } => "journal.corrupt",
            Self::UnknownRun { .. } => "journal.unknown_run",
            Self::Locked { .. } => "journal.locked",
            Self::Newer { .. } => "journal.newer",
            Self::NotAJournal { .. } => "journal.not_a_journal",
            Self::Unusable { .. } => "journal.unusable",
            Self::BadDecision { .. } => "journal.bad_decision",
            Self::Store { .. } => "journal.store",
        }
    }

    /// The store failed, for a reason of its own.
    pub fn store(message: impl Into<String>) -> Self {
        Self::Store { message: message.into(), source: None }
    }
}

fn owner_words(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", pid {pid}"))
}

/// The engine itself could not go on. A failed step is not one of these: it is in the report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The record could not be kept or read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The runner was set up in a way that cannot work.
    #[error("{0}")]
    Configuration(String),
    /// The tools are not those that the run was started with.
    #[error("run `{run}` was started with other tools: {}", .differences.join("; "))]
    Changed {
        /// The run.
        run: String,
        /// What is different.
        differences: Vec<String>,
    },
    /// The runtime was shut down under the run.
    #[error("the run was dropped before it ended")]
    Shutdown,
}
