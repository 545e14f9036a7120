//! Everything that a page shows of one run.

mod drawn;
mod gather;
mod head;
mod log;
mod preview;
mod rest;

use serde::Serialize;

use crate::event::{StepNumber, Timestamp, Usage};
use crate::history::History;
use crate::journal::{RunId, RunSummary};
use crate::plan::StepId;

pub use drawn::{Drawing, DrawnEdge, DrawnStep};
pub use rest::Rest;

/// Everything that a page shows of one run. Times are microseconds on the run's own clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The run as a whole.
    pub head: Head,
    /// Every step that was ever part of it, by number.
    pub steps: Vec<StepEntry>,
    /// Its plans, the first one first.
    pub plans: Vec<PlanEntry>,
    /// The steps of the critical path, first to last.
    pub critical: Vec<StepNumber>,
    /// What would have made it faster, the greatest saving first, more slots last. Only for a run that nobody drives: it
    /// is simulated for that.
    pub faster: Vec<Suggestion>,
    /// Where the steps are drawn. What finished steps had expanded to is folded into them.
    pub layout: Drawing,
    /// The same with nothing folded, where something is.
    pub unfolded: Option<Drawing>,
}

/// The run as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Head {
    /// Its name.
    pub run: RunId,
    /// What it is for; the beginning of that, if it is long.
    pub objective: String,
    /// Where it is: `running`, `interrupted`, `undecided`, `stopped`, `succeeded` or `failed`.
    pub state: &'static str,
    /// Why it failed or stopped; empty if it did not.
    pub problem: String,
    /// Its answer, as far as there is one and a page can show it.
    pub answer: Option<Text>,
    /// When it was started, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When its last event was written, in milliseconds since 1970.
    pub updated_unix_ms: u64,
    /// Where its clock is at its last event: it goes on only while the run is driven.
    pub elapsed_us: u64,
    /// Where its clock was when it began: that of a fork goes on where that of the run it comes from had stopped.
    pub begun_us: u64,
    /// How many steps of the plan are over.
    pub done: usize,
    /// How many steps the plan has.
    pub total: usize,
    /// How many steps of the plan are in each state.
    pub counts: Vec<Count>,
    /// How many tools were called.
    pub calls: u32,
    /// Tokens and money so far.
    pub usage: Usage,
    /// The limit on attempts.
    pub limit_attempts: Option<u32>,
    /// The limit on tokens, in and out together.
    pub limit_tokens: Option<u64>,
    /// The limit on money, in millionths of a US dollar.
    pub limit_micro_usd: Option<u64>,
    /// The limit on time.
    pub limit_us: Option<u64>,
    /// How many steps could run at once, when it were most.
    pub max_parallel: u32,
    /// Which plan is carried out.
    pub revision: u32,
    /// How often the planner was asked for another one.
    pub replans: u32,
    /// How long the tools ran and steps paused between attempts, taken together: what one step at a time would have taken
    /// at most.
    pub work_us: u64,
    /// How long the critical path is.
    pub critical_us: u64,
    /// What no schedule on so many slots could go below.
    pub bound_us: u64,
    /// How long the rest should take, while it runs and as far as there is anything to go by.
    pub rest: Option<Rest>,
}

/// How many steps are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Count {
    /// The state.
    pub state: &'static str,
    /// How many.
    pub steps: usize,
}

/// Text that may have been cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Text {
    /// Its beginning.
    pub text: String,
    /// Whether there is more.
    pub cut: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepEntry {
    /// Its number.
    pub number: StepNumber,
    /// Its id. A step that was run anew has a new number and the same id.
    pub id: StepId,
    /// The name of its tool.
    pub tool: String,
    /// `waiting`, `ready`, `running`, `retrying`, `expanded`, `succeeded`, `failed`, `skipped`, `superseded`,
    /// `unknown`, `unapproved`, `interrupted` or `cancelled`.
    pub state: &'static str,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// Whether it is part of the plan as that is now.
    pub member: bool,
    /// The steps it depends on.
    pub after: Vec<StepNumber>,
    /// What it is for, in words.
    pub description: Text,
    /// Its arguments, as JSON, references not yet filled.
    pub arguments: Text,
    /// Its condition.
    pub when: Option<String>,
    /// Which plan brought it in.
    pub since: u32,
    /// The step that brought text from outside which has reached this one, if any has.
    pub outside: Option<StepId>,
    /// The failed step because of which it was skipped.
    pub because: Option<StepId>,
    /// The calls of its tool.
    pub calls: Vec<Call>,
    /// When it is tried again, if it waits for that.
    pub retry_at_us: Option<u64>,
    /// When it was over.
    pub settled_us: Option<u64>,
    /// Why it failed, or why its last try did.
    pub error: Option<Text>,
    /// Its output.
    pub output: Option<Text>,
    /// What decided about it, a sentence each.
    pub why: Vec<String>,
    /// What happened to it.
    pub log: Vec<LogLine>,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Call {
    /// How long the step had been ready and was not started.
    pub queued_us: u64,
    /// When the tool was called.
    pub started_us: u64,
    /// When it was done; none while it runs.
    pub ended_us: Option<u64>,
    /// Why it failed.
    pub error: Option<Text>,
    /// What it used.
    pub usage: Usage,
}

/// Something that happened to a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogLine {
    /// When.
    pub at_us: u64,
    /// What.
    pub what: String,
}

/// A plan of the run, as a difference to the one before.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanEntry {
    /// Which one; the first is 1.
    pub revision: u32,
    /// When it was accepted.
    pub at_us: u64,
    /// Why there is another plan.
    pub because: String,
    /// Steps that are new.
    pub added: Vec<StepId>,
    /// Steps that are run anew.
    pub again: Vec<StepId>,
    /// Steps that are no longer part of it.
    pub dropped: Vec<StepId>,
    /// How many stayed as they were.
    pub kept: usize,
    /// What the planner used to write it.
    pub usage: Usage,
}

/// A change that would have made the run faster, or a dependency that seems to be unnecessary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// The change, in words.
    pub change: String,
    /// The step it is about.
    pub step: Option<StepId>,
    /// Whether it is about a dependency whose result is never used.
    pub unnecessary: bool,
    /// By how much the run would have been shorter.
    pub saves_us: u64,
}

impl Snapshot {
    /// What a page shows of this run. `summary` is what its journal lists of it.
    pub fn of(history: &History, summary: &RunSummary) -> Self {
        gather::snapshot(history, summary)
    }
}

/// Microseconds on the run's clock.
fn micros(at: Timestamp) -> u64 {
    at.as_micros()
}
