//! The scheduler core.

use std::sync::Arc;

use crate::error::JournalError;
use crate::event::{
    AttemptNumber, Event, Output, RunEvent, RunStart, SkipReason, StepNumber, Timestamp, Transition, Usage,
};
use crate::plan::{Step, StepId};

/// The state machine that runs a plan. It has no clock, no tasks and no IO: a driver feeds it [`Event`]s and carries
/// out the [`Command`](crate::Command)s of each [`Transition`].
#[derive(Clone, Debug)]
pub struct Scheduler {
    start: Arc<RunStart>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened yet.
    New,
    /// Steps are launched.
    Running,
    /// Nothing new is launched; running attempts may finish.
    Stopping,
    /// Nothing runs. The run can be resumed.
    Stopped,
    /// The run is over for good.
    Finished,
}

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// For dependencies, or for the plan to be accepted.
    Waiting,
    /// May start.
    Ready,
    /// A tool is executing it.
    Running(AttemptNumber),
    /// Waits before it is tried again.
    Backoff(Timestamp),
    /// The plan that its tool returned is being carried out.
    Expanded,
    /// Nobody knows whether this attempt took effect; a person decides.
    Unknown(AttemptNumber),
    /// It has its output.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It will not run.
    Skipped(SkipReason),
    /// A revision dropped it.
    Superseded,
}

/// A step of a run, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a> {
    /// Its number.
    pub number: StepNumber,
    /// Its full id.
    pub id: &'a StepId,
    /// Its definition.
    pub definition: &'a Arc<Step>,
    /// Its state.
    pub state: StepState,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// Whether it is part of the plan (or of its expansion) as that is now.
    pub member: bool,
    /// Whether it was drafted by a planner that is still writing.
    pub draft: bool,
    /// Tries so far.
    pub tries: u32,
    /// Its output.
    pub output: Option<&'a Output>,
}

impl Scheduler {
    /// A run that has not begun.
    pub fn new(start: Arc<RunStart>) -> Self {
        Self { start }
    }

    /// Decides what `event` leads to. `now` is the run's own clock, which never goes back.
    pub fn on_event(&mut self, _event: Event, _now: Timestamp) -> Transition {
        unimplemented!()
    }

    /// Rebuilds a run from its history.
    pub fn replay(_history: &[RunEvent]) -> Result<Self, JournalError> {
        unimplemented!()
    }

    /// What the run was started with.
    pub fn start(&self) -> &Arc<RunStart> {
        &self.start
    }

    /// Where the run is.
    pub fn phase(&self) -> Phase {
        unimplemented!()
    }

    /// How many steps there have been: numbers run from 0 to this.
    pub fn step_count(&self) -> u32 {
        unimplemented!()
    }

    /// A step by number.
    pub fn step(&self, _number: StepNumber) -> Option<StepView<'_>> {
        unimplemented!()
    }

    /// The numbers a step depends on, in the order of [`Dag::dependencies`](crate::Dag::dependencies).
    pub fn dependencies(&self, _number: StepNumber) -> &[StepNumber] {
        unimplemented!()
    }

    /// The step that an id stands for now.
    pub fn current(&self, _id: &str) -> Option<StepNumber> {
        unimplemented!()
    }

    /// The output of a step that succeeded.
    pub fn output(&self, _number: StepNumber) -> Option<&Output> {
        unimplemented!()
    }

    /// What the run has used so far.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }

    /// The whole state as comparable data. `replay(history).snapshot() == live.snapshot()` at every prefix.
    pub fn snapshot(&self) -> serde_json::Value {
        unimplemented!()
    }
}
