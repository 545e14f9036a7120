//! What the scheduler is told, what it tells others to do, and what it leaves for the record.
//!
//! An [`Event`] goes in, [`Command`]s come out, and every change of state is a [`RunEvent`]: journal line, item of
//! the event stream and test snapshot are the same type.

mod graft;
mod inputs;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{PlanError, StepError};
use crate::plan::{Plan, Step, StepId};
use crate::planner::{Expansion, PlanReply};
use crate::policy::{Limits, Policy};
use crate::tool::{Room, ToolSpec};

pub use graft::{Added, AnswerFrom, Graft, Rejection};
pub(crate) use inputs::Grafted;
pub use inputs::{Input, Inputs};

/// A number of a step in a run. A redefined or retried id gets a new one, so a number never changes its meaning.
pub type StepNumber = u32;
/// A number of an attempt, unique in the run.
pub type AttemptNumber = u32;
/// A number of a call to the planner, unique in the run.
pub type RequestNumber = u32;

/// An instant on the run's own clock, in microseconds since the run began. It stands still while no process drives
/// the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of the run.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after the run began.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The instant `millis` milliseconds after the run began.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the run began.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the run began, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Seconds since the run began.
    pub fn as_secs_f64(self) -> f64 {
        self.since_start().as_secs_f64()
    }

    /// The time since the run began.
    pub const fn since_start(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// The instant `millis` milliseconds later.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000)))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.as_secs_f64())
    }
}

/// What an attempt or a planner request used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens sent to models.
    pub input_tokens: u64,
    /// Tokens received from models.
    pub output_tokens: u64,
    /// Money, in millionths of a US dollar.
    pub micro_usd: u64,
    /// Requests that were sent to providers of models, whatever came of them. Older records do not say.
    #[serde(skip_serializing_if = "is_zero")]
    pub calls: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// Whether nothing was used.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Tokens in and out.
    pub(crate) fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// The limit that is reached by this, if one is.
    pub(crate) fn reaches(&self, limits: &Limits) -> Option<StopReason> {
        if limits.tokens.is_some_and(|limit| self.tokens() >= limit) {
            Some(StopReason::Tokens)
        } else if limits.micro_usd.is_some_and(|limit| self.micro_usd >= limit) {
            Some(StopReason::Money)
        } else {
            None
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.micro_usd = self.micro_usd.saturating_add(other.micro_usd);
        self.calls = self.calls.saturating_add(other.calls);
    }
}

/// The result of a step, opaque to the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The value itself.
    Inline(Arc<Value>),
    /// A large value, kept in the run's store.
    Stored(Arc<StoredOutput>),
    /// An object of the outputs of several steps, by the ids they have in it.
    Gathered(Arc<Vec<(StepId, StepNumber)>>),
}

impl Output {
    /// Outputs up to this many bytes of JSON are kept inline where there is a store.
    pub const INLINE_BYTES: usize = 64 * 1024;

    /// An inline value.
    pub fn inline(value: Value) -> Self {
        Self::Inline(Arc::new(value))
    }
}

/// Where a large output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutput {
    /// The store's name for the content.
    pub digest: String,
    /// Its size as JSON.
    pub bytes: u64,
    /// Its beginning, for people.
    pub preview: String,
}

impl StoredOutput {
    /// What is known of an output with this JSON, once it is kept under this name.
    pub fn of(digest: String, json: &str) -> Self {
        Self { digest, bytes: json.len() as u64, preview: json.chars().take(200).collect() }
    }
}

/// Everything a run is started with, recorded in its first event. What a run may do is fixed here: a revision or an
/// expansion can use only these tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// What the run is for.
    pub objective: String,
    /// The values of `${inputs.name}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Value>,
    /// How it is carried out.
    pub policy: Policy,
    /// The tools it may use.
    pub tools: Vec<ToolSpec>,
    /// The tool that does steps which name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_tool: Option<String>,
    /// The [server](ToolSpec::server) that the planner asks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub planner_server: String,
    /// What the program that started the run wants to find again. Nothing of it is looked at here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Value>,
}

/// What the scheduler is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run begins.
    Begin,
    /// A process drives the run again after another one stopped doing so.
    Resumed {
        /// The policy from now on, if it changed.
        policy: Option<Box<Policy>>,
    },
    /// Time has passed. Due timers are found on every event, so this one may be late, early or doubled.
    Woke,
    /// Somebody wants the run to stop.
    CancelRequested {
        /// Whether running attempts are ended at once instead of after the grace period.
        at_once: bool,
    },
    /// A person decided about a step whose outcome is unknown, or that waits for approval.
    Decided {
        /// The step.
        step: StepNumber,
        /// The decision.
        decision: Decision,
    },
    /// A planner that is still writing has finished a step.
    PlanStep {
        /// The request it answers.
        request: RequestNumber,
        /// The step.
        step: Arc<Step>,
    },
    /// The planner has answered.
    PlanReturned {
        /// The request it answers.
        request: RequestNumber,
        /// The answer.
        reply: Box<Result<PlanReply, PlanError>>,
    },
    /// An attempt is over and its tool is really gone.
    AttemptReturned {
        /// The attempt.
        attempt: AttemptNumber,
        /// What came of it.
        result: Result<Returned, Arc<StepError>>,
        /// What it used.
        usage: Usage,
        /// A number drawn uniformly, for the jitter of the back-off.
        draw: u16,
    },
}

/// What a person decided about a step. The first three are for one whose outcome is unknown, the others for one that
/// waits for approval; what does not fit the step changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It took effect, with this output.
    Succeeded(Output),
    /// It did not, and shall not.
    Failed(String),
    /// Do it again.
    Retry,
    /// It may act.
    Approve,
    /// It may not: the step has failed.
    Deny,
}

/// What a successful attempt came back with.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    /// A value.
    Value(Output),
    /// A plan, to be carried out in the step's place.
    Plan(Box<Plan>),
    /// Nothing was called: the step's condition is false.
    ConditionFalse,
}

/// What the driver has to do, after the events of the same transition have been written down.
#[derive(Clone, Debug)]
pub enum Command {
    /// Ask the planner.
    RequestPlan(Box<RequestPlan>),
    /// Call a tool. Answered by exactly one [`Event::AttemptReturned`].
    Launch(Box<Launch>),
    /// End a running attempt. Its [`Event::AttemptReturned`] is still expected, once it is really gone.
    Abort {
        /// The attempt.
        attempt: AttemptNumber,
    },
    /// Send [`Event::Woke`] at this instant. Replaces the former one.
    WakeAt(Timestamp),
}

/// A call to the planner.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    /// The number its answer carries back.
    pub request: RequestNumber,
    /// The revision that an accepted answer becomes; the first plan is 1.
    pub revision: u32,
    /// Why it is asked.
    pub reason: PlanReason,
    /// The failed steps that are reported.
    pub failures: Vec<StepNumber>,
    /// Whether the planner must answer from what is done, since no replans are left, or no room for another step.
    pub must_answer: bool,
}

/// Why the planner is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanReason {
    /// There is no plan yet.
    First,
    /// The last answer was not usable, for these reasons.
    Rejected(Arc<Vec<PlanError>>),
    /// Steps failed for good.
    Failures,
    /// Everything is done: does the planner answer, or add steps?
    Review,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The number its result carries back.
    pub attempt: AttemptNumber,
    /// The step's number.
    pub step: StepNumber,
    /// The step's full id.
    pub id: StepId,
    /// What to do, with references not yet filled.
    pub definition: Arc<Step>,
    /// The tool, as an index into [`RunStart::tools`].
    pub tool: u16,
    /// Whether the definition says nothing but the arguments, as they are: no reference, condition or timeout.
    pub is_plain: bool,
    /// Which try of the step this is; the first is 1. Interruptions do not count.
    pub tries: u32,
    /// The results of the steps it depends on, in the order of [`Dag::dependencies`](crate::Dag::dependencies).
    pub inputs: Inputs,
    /// Why the step's last try failed, if there was one.
    pub last_error: Option<Arc<StepError>>,
    /// What came of the plan that the tool returned before, if it is asked for another one.
    pub expansion: Option<Box<Expansion>>,
    /// How large a plan it may return.
    pub room: Room,
}

/// What one event led to: what to write down and tell, then what to do.
#[must_use = "events must be written down and commands carried out"]
#[derive(Debug, Default)]
pub struct Transition {
    /// The changes of state, in order.
    pub events: Vec<RunEvent>,
    /// What to do once they are written down.
    pub commands: Vec<Command>,
}

/// One change of a run's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Its place in the history, from 0.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are the words of this module")]
pub enum RunEventKind {
    /// The run began.
    RunStarted { start: Arc<RunStart> },
    /// A process drives the run again.
    RunResumed { policy: Option<Arc<Policy>> },
    /// The run will stop when what is running has ended; nothing new is launched.
    StopRequested { why: StopReason },
    /// The run stopped. It can be resumed.
    RunStopped { why: StopReason },
    /// What an attempt, or else the planner, had used when the run stopped or was over, which is known only after that.
    UsageNoted { attempt: Option<AttemptNumber>, usage: Usage },
    /// The run is over.
    RunFinished { outcome: RunOutcome, usage: Usage },
    /// The planner was asked.
    PlanRequested { request: RequestNumber, revision: u32, reason: PlanReason, reported: Vec<StepNumber> },
    /// Its answer is the plan from now on.
    PlanAccepted { request: RequestNumber, revision: u32, graft: Arc<Graft>, usage: Usage },
    /// Its answer could not be used.
    PlanRejected { request: RequestNumber, rejection: Arc<Rejection>, usage: Usage },
    /// It has no answer yet, and is asked again at this instant: this is what keeps it from one.
    PlanPutOff { request: RequestNumber, error: Arc<PlanError>, retry_at: Timestamp, usage: Usage },
    /// A step of a plan that is still being written was taken up.
    StepDrafted { request: RequestNumber, graft: Arc<Graft> },
    /// The attempt returned a plan, which is carried out in the step's place.
    StepExpanded { step: StepNumber, attempt: AttemptNumber, graft: Arc<Graft>, usage: Usage },
    /// The step may start again: its back-off is over, a person said so, or its tool is asked for another plan because
    /// one of the steps it became has failed.
    StepReady { step: StepNumber },
    /// The step would act, and text has reached it that the step `from` brought in from outside: a person has to
    /// approve it.
    ApprovalRequested { step: StepNumber, from: StepNumber },
    /// A person, or the policy, lets the step act.
    StepApproved { step: StepNumber },
    /// A tool is called.
    AttemptStarted { step: StepNumber, attempt: AttemptNumber },
    /// Nobody knows whether the attempt took effect.
    StepUnknown { step: StepNumber, attempt: AttemptNumber, error: Arc<StepError>, usage: Usage },
    /// The attempt failed and the step will be tried again.
    AttemptFailed { step: StepNumber, attempt: AttemptNumber, error: Arc<StepError>, retry_at: Timestamp, usage: Usage },
    /// The attempt was ended before it had a result that counts.
    AttemptDiscarded { attempt: AttemptNumber, usage: Usage },
    /// The step has its output. No attempt: it was an expansion, or a person said so.
    StepSucceeded { step: StepNumber, attempt: Option<AttemptNumber>, output: Output, usage: Usage },
    /// The step failed for good.
    StepFailed { step: StepNumber, attempt: Option<AttemptNumber>, error: Arc<StepError>, usage: Usage },
    /// The step will not run.
    StepSkipped { step: StepNumber, because: SkipReason, attempt: Option<AttemptNumber> },
}

impl RunEventKind {
    /// The step that it is about, if it is about one. [`AttemptDiscarded`](Self::AttemptDiscarded) names only its
    /// attempt.
    pub fn step(&self) -> Option<StepNumber> {
        match self {
            Self::StepExpanded { step, .. }
            | Self::StepReady { step }
            | Self::ApprovalRequested { step, .. }
            | Self::StepApproved { step }
            | Self::AttemptStarted { step, .. }
            | Self::StepUnknown { step, .. }
            | Self::AttemptFailed { step, .. }
            | Self::StepSucceeded { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepSkipped { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// The attempt that it is the end of, if it is that of one.
    pub fn ended_attempt(&self) -> Option<AttemptNumber> {
        match self {
            Self::StepExpanded { attempt, .. }
            | Self::StepUnknown { attempt, .. }
            | Self::AttemptFailed { attempt, .. }
            | Self::AttemptDiscarded { attempt, .. } => Some(*attempt),
            Self::StepSucceeded { attempt, .. }
            | Self::StepFailed { attempt, .. }
            | Self::StepSkipped { attempt, .. } => *attempt,
            _ => None,
        }
    }

    /// What was used, where something was.
    pub(crate) fn usage_mut(&mut self) -> Option<&mut Usage> {
        match self {
            Self::UsageNoted { usage, .. }
            | Self::RunFinished { usage, .. }
            | Self::PlanAccepted { usage, .. }
            | Self::PlanRejected { usage, .. }
            | Self::PlanPutOff { usage, .. }
            | Self::StepExpanded { usage, .. }
            | Self::StepUnknown { usage, .. }
            | Self::AttemptFailed { usage, .. }
            | Self::AttemptDiscarded { usage, .. }
            | Self::StepSucceeded { usage, .. }
            | Self::StepFailed { usage, .. } => Some(usage),
            _ => None,
        }
    }
}

/// Why a step was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A step it depends on, directly or not, failed: this one.
    Failed(StepNumber),
    /// Its own condition is false. Its dependents see a null.
    Condition,
    /// It is left out of this fork. Its dependents see a null.
    LeftOut,
}

impl SkipReason {
    /// The failed step, if it is for one.
    pub fn failed(self) -> Option<StepNumber> {
        match self {
            Self::Failed(step) => Some(step),
            Self::Condition | Self::LeftOut => None,
        }
    }
}

/// Why a run stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody wanted it to.
    Cancelled,
    /// The limit on attempts is reached.
    Attempts,
    /// The limit on tokens is reached.
    Tokens,
    /// The limit on money is reached.
    Money,
    /// The deadline is reached.
    Deadline,
    /// Only steps are left about which a person has to decide.
    Undecided,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "it was cancelled",
            Self::Attempts => "the limit on attempts is reached",
            Self::Tokens => "the limit on tokens is reached",
            Self::Money => "the limit on money is reached",
            Self::Deadline => "the deadline is reached",
            Self::Undecided => "only steps are left about which somebody has to decide",
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// It has its answer.
    Succeeded {
        /// The answer.
        answer: Output,
    },
    /// It has none; everything that did succeed is kept.
    Failed {
        /// Why.
        reason: FailureReason,
    },
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureReason {
    /// These steps failed for good.
    StepsFailed(Vec<StepNumber>),
    /// There never was a usable plan; the offences of the last answer.
    NoPlan(Arc<Vec<PlanError>>),
    /// Nothing can move and these steps are not settled. A bug of the scheduler: please report it.
    Stalled(Vec<StepNumber>),
}
