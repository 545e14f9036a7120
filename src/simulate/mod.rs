//! Runs in virtual time: what a plan would do, without doing it.
//!
//! A [`Simulation`] drives the same [`Scheduler`] as a real run does, with the same policy, but its clock jumps from
//! one event to the next and no tool is called. It answers how long a plan will take, what a cap costs, and what
//! would happen if a step failed. The same input always leads to the same run.
//!
//! ```
//! use std::time::Duration;
//! use plandag::{simulate::Simulation, Plan, Step};
//!
//! let plan = Plan::from_iter([
//!     Step::new("left", "search").estimate_ms(400),
//!     Step::new("right", "search").estimate_ms(600),
//!     Step::new("join", "write").estimate_ms(100).depends_on(["left", "right"]),
//! ]);
//! assert_eq!(Simulation::new(plan.clone()).run().makespan, Duration::from_millis(700));
//! assert_eq!(Simulation::new(plan).sequential().run().makespan, Duration::from_millis(1_100));
//! ```

mod chain;
mod drive;
mod misread;
pub mod trace;
pub(crate) mod what_if;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::{PlanError, StepError};
use crate::event::{
    AttemptNumber, Launch, PlanReason, RequestPlan, Returned, RunEvent, RunOutcome, RunStart, StepNumber, StopReason,
    Timestamp,
};
use crate::plan::{Plan, StepId};
use crate::planner::Revision;
use crate::policy::{Limits, Policy};
use crate::reference::{Reference, each_reference};
use crate::scheduler::Scheduler;
use crate::tool::ToolSpec;

pub use what_if::{Change, Saving, WhatIf};

/// The tool of steps that name none, in a run that nobody said more about: that of a model that does steps.
const DEFAULT_TOOL: &str = "model";
/// How long a step takes that nobody knows anything about.
const DEFAULT_DURATION: Duration = Duration::from_secs(1);

type PlannerFn<'a> = Box<dyn FnMut(&RequestPlan, &Scheduler) -> Result<Revision, PlanError> + 'a>;
type DurationFn<'a> = Box<dyn FnMut(&Launch) -> Duration + 'a>;
type ResultFn<'a> = Box<dyn FnMut(&Launch) -> Result<Returned, StepError> + 'a>;

/// A run that will take place in virtual time.
///
/// Unless said otherwise every attempt succeeds with a null and takes its step's `estimate_ms`, else the mean of its
/// tool, else a second; planning takes no time; and there are no limits on size. References are not filled and
/// conditions count as true. No timeout is enforced: an attempt that times out is one whose
/// [result](Self::results) is that error. All tools may act unasked, whatever [`Policy::allow`] says: nobody is there to
/// approve a step.
pub struct Simulation<'a> {
    start: RunStart,
    planner: PlannerFn<'a>,
    durations: Option<DurationFn<'a>>,
    results: Option<ResultFn<'a>>,
    keep_history: bool,
}

impl<'a> Simulation<'a> {
    /// A run of `plan`, with a tool of every name that it mentions, and a null for every input that it refers to. Like a
    /// plan from a file, it has no revision.
    pub fn new(plan: Plan) -> Self {
        let start = run_start(&plan);
        let mut plan = Some(plan);
        Self::with_planner(start, move |request, _| {
            Ok(match (&request.reason, plan.take()) {
                (PlanReason::First, Some(plan)) => Revision::Plan(plan),
                _ => Revision::Declined,
            })
        })
    }

    /// A run whose plans come from `planner`, which may look at everything that is known so far.
    pub fn with_planner(
        start: RunStart,
        planner: impl FnMut(&RequestPlan, &Scheduler) -> Result<Revision, PlanError> + 'a,
    ) -> Self {
        Self { start, planner: Box::new(planner), durations: None, results: None, keep_history: true }
    }

    /// Sets how the run is carried out.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.start.policy = policy;
        self
    }

    /// Sets how many attempts may run at once.
    #[must_use]
    pub fn max_parallel(mut self, max_parallel: u32) -> Self {
        self.start.policy.max_parallel = max_parallel;
        self
    }

    /// Lets the steps run one at a time.
    #[must_use]
    pub fn sequential(self) -> Self {
        self.max_parallel(1)
    }

    /// Sets the size of a pool. It wins over a size that the plan names.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>, size: u32) -> Self {
        self.start.policy.pools.insert(name.into(), size);
        self
    }

    /// Sets the values of `${inputs.name}`.
    #[must_use]
    pub fn inputs(mut self, inputs: BTreeMap<String, Value>) -> Self {
        self.start.inputs = inputs;
        self
    }

    /// Replaces the tools: what is not among them, a plan cannot use.
    #[must_use]
    pub fn tools(mut self, tools: Vec<ToolSpec>) -> Self {
        self.start.tools = tools;
        self
    }

    /// Sets the tool of steps that name none. It has to be among the [tools](Self::tools).
    #[must_use]
    pub fn default_tool(mut self, name: Option<String>) -> Self {
        self.start.default_tool = name;
        self
    }

    /// Sets how long each attempt takes.
    #[must_use]
    pub fn durations(mut self, durations: impl FnMut(&Launch) -> Duration + 'a) -> Self {
        self.durations = Some(Box::new(durations));
        self
    }

    /// Sets what comes of each attempt.
    #[must_use]
    pub fn results(mut self, results: impl FnMut(&Launch) -> Result<Returned, StepError> + 'a) -> Self {
        self.results = Some(Box::new(results));
        self
    }

    /// Drops the events of the run instead of keeping them; a history of a million steps takes a while to fill.
    #[must_use]
    pub fn without_history(mut self) -> Self {
        self.keep_history = false;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> SimulatedRun {
        drive::run(self)
    }
}

impl fmt::Debug for Simulation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("start", &self.start).finish_non_exhaustive()
    }
}

/// What a run of `plan` starts with if nobody says more: every tool that the plan names, one for the steps that name
/// none, and something for every input; a plan that is only looked at needs no limits.
fn run_start(plan: &Plan) -> RunStart {
    let mut names: BTreeSet<&str> = plan.steps.iter().filter_map(|step| step.tool.as_deref()).collect();
    let default_tool = plan.steps.iter().any(|step| step.tool.is_none()).then(|| DEFAULT_TOOL.to_owned());
    names.extend(default_tool.as_deref());
    let mut inputs = BTreeMap::new();
    for step in &plan.steps {
        each_reference(step, |reference| {
            let input = reference.ok().and_then(Reference::input);
            inputs.extend(input.map(|input| (input.to_owned(), Value::Null)));
        });
    }
    RunStart {
        objective: plan.objective.clone().unwrap_or_default(),
        inputs,
        policy: Policy { limits: Limits::NONE, ..Policy::default() },
        tools: names.into_iter().map(|name| ToolSpec::new(name, "")).collect(),
        default_tool,
        planner_server: String::new(),
        labels: Default::default(),
    }
}

/// How a simulated run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It went to its end.
    Finished(RunOutcome),
    /// It stopped before, and could be resumed.
    Stopped(StopReason),
}

/// One attempt of a simulated run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedAttempt {
    /// Its number.
    pub attempt: AttemptNumber,
    /// The step's number.
    pub step: StepNumber,
    /// The step's full id.
    pub id: StepId,
    /// When it started.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
}

/// What a simulated run came to.
#[derive(Clone, Debug)]
pub struct SimulatedRun {
    /// The time from its beginning to its end.
    pub makespan: Duration,
    /// How it ended.
    pub ended: Ended,
    /// Every attempt, in the order in which they started.
    pub attempts: Vec<SimulatedAttempt>,
    /// The events of the run, unless they were not [kept](Simulation::without_history).
    pub history: Vec<RunEvent>,
    /// The most work that had to be done one after the other.
    pub critical_path: Duration,
    /// The steps of that work, in its order.
    pub critical_steps: Vec<StepNumber>,
    /// The work of all attempts together: what they would have taken one at a time.
    pub work: Duration,
    /// The scheduler as the run left it: names, states and outputs of all steps.
    pub scheduler: Scheduler,
}

impl SimulatedRun {
    /// Whether the run has its answer.
    pub fn succeeded(&self) -> bool {
        matches!(self.ended, Ended::Finished(RunOutcome::Succeeded { .. }))
    }

    /// A time that no schedule of the same attempts could beat: the critical path, or the work spread evenly over all
    /// slots.
    pub fn bound(&self) -> Duration {
        let slots = self.scheduler.start().policy.max_parallel.max(1);
        self.critical_path.max(self.work / slots)
    }
}

/// The usual duration of an attempt: what its plan expects, else what is known of its tool.
fn expected_duration(launch: &Launch, start: &Arc<RunStart>) -> Duration {
    let tool_mean = || start.tools.get(usize::from(launch.tool)).and_then(|tool| tool.mean_ms);
    launch.definition.estimate_ms.or_else(tool_mean).map_or(DEFAULT_DURATION, Duration::from_millis)
}
