//! What the lines of a run need beside the event itself: events name steps by number, and a picture of the run needs
//! all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plandag::report::Means;
use plandag::{
    AttemptNumber, Graft, RunEvent, RunEventKind, RunStart, RunView, StepId, StepNumber, StepState, Timestamp, Usage,
};

/// A step as the lines speak of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: StepId,
    pub(crate) tool: Option<Arc<str>>,
    /// What it is for, in words, if the plan says so.
    pub(crate) task: Arc<str>,
    /// Which definition of this id it is; the first is 1.
    pub(crate) generation: u32,
    /// Calls of its tool so far.
    pub(crate) attempts: u32,
    pub(crate) dependencies: Vec<StepNumber>,
    /// The step whose expansion it is part of.
    pub(crate) scope: Option<StepNumber>,
    /// How long the plan says it takes.
    pub(crate) estimate: Option<Duration>,
    pub(crate) state: State,
    /// Whether it is part of the plan as that is now.
    pub(crate) is_member: bool,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Running {
        since: Timestamp,
    },
    Retrying {
        at: Timestamp,
    },
    /// The plan that its tool returned is being carried out.
    Expanded,
    /// A person has to decide about it.
    Undecided,
    Succeeded,
    Failed,
    Skipped,
}

impl State {
    /// Whether it will not change any more.
    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped)
    }
}

impl Entry {
    /// Whether the run still has to do something about it.
    pub(crate) fn is_open(&self) -> bool {
        self.is_member && !self.state.is_settled()
    }
}

/// An attempt that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    step: StepNumber,
    since: Timestamp,
}

/// A fold over the events of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    start: Option<Arc<RunStart>>,
    steps: Vec<Entry>,
    generations: HashMap<StepId, u32>,
    open: HashMap<AttemptNumber, Open>,
    /// The step of the attempt that ended with the last event, and how long that took.
    ended: Option<(StepNumber, Duration)>,
    means: Means,
    /// Since when the planner has been thinking.
    planning: Option<Timestamp>,
    /// Until when it waits, and for what.
    planner_waits: Option<(Timestamp, String)>,
    is_stopping: bool,
    used: Usage,
}

impl Ledger {
    /// Takes up what is new in an event. Called before the event is told.
    pub(crate) fn take(&mut self, event: &RunEvent) {
        let ended = event.kind.ended_attempt().and_then(|attempt| self.open.remove(&attempt));
        self.ended = ended.map(|open| (open.step, event.at - open.since));
        match &event.kind {
            RunEventKind::RunStarted { start } => self.start = Some(Arc::clone(start)),
            RunEventKind::PlanRequested { .. } => self.planning = Some(event.at),
            RunEventKind::PlanAccepted { graft, usage, .. } => {
                (self.planning, self.planner_waits) = (None, None);
                self.used += *usage;
                self.graft(graft);
            }
            RunEventKind::PlanRejected { rejection, usage, .. } => {
                self.planning = None;
                self.used += *usage;
                rejection.closed.iter().chain(&rejection.left).for_each(|step| self.set_member(*step, false));
            }
            RunEventKind::PlanPutOff { error, retry_at, usage, .. } => {
                self.used += *usage;
                self.planner_begins_to_wait(*retry_at, &error.to_string());
            }
            RunEventKind::StepDrafted { graft, .. } => self.graft(graft),
            RunEventKind::StepExpanded { step, graft, usage, .. } => {
                self.used += *usage;
                self.set(*step, State::Expanded);
                self.graft(graft);
            }
            RunEventKind::AttemptStarted { step, attempt } => {
                self.open.insert(*attempt, Open { step: *step, since: event.at });
                self.set(*step, State::Running { since: event.at });
                if let Some(entry) = self.steps.get_mut(*step as usize) {
                    entry.attempts += 1;
                }
            }
            RunEventKind::AttemptFailed { step, error, retry_at, usage, .. } => {
                self.used += *usage;
                self.note_no_call(*step, error.kind.is_no_call());
                self.set(*step, State::Retrying { at: *retry_at });
            }
            RunEventKind::UsageNoted { usage, .. } => self.used += *usage,
            RunEventKind::AttemptDiscarded { usage, .. } => {
                self.used += *usage;
                if let Some((step, _)) = self.ended {
                    self.set(step, State::Waiting);
                }
            }
            RunEventKind::StepReady { step } => self.set(*step, State::Waiting),
            RunEventKind::StepUnknown { step, usage, .. } => {
                self.used += *usage;
                self.set(*step, State::Undecided);
            }
            RunEventKind::StepSucceeded { step, usage, .. } => {
                self.used += *usage;
                self.observe();
                self.set(*step, State::Succeeded);
            }
            RunEventKind::StepFailed { step, attempt, error, usage } => {
                self.used += *usage;
                self.note_no_call(*step, attempt.is_some() && error.kind.is_no_call());
                self.set(*step, State::Failed);
            }
            RunEventKind::ApprovalRequested { step, .. } => self.set(*step, State::Undecided),
            RunEventKind::StepApproved { step } => self.set(*step, State::Waiting),
            RunEventKind::StepSkipped { step, attempt, .. } => {
                self.note_no_call(*step, attempt.is_some());
                self.set(*step, State::Skipped);
            }
            RunEventKind::RunResumed { .. } => self.is_stopping = false,
            RunEventKind::StopRequested { .. } | RunEventKind::RunStopped { .. } | RunEventKind::RunFinished { .. } => {
                self.is_stopping = true
            }
        }
    }

    fn graft(&mut self, graft: &Graft) {
        // Earlier grafts may have been missed; numbers stay right all the same.
        self.steps.resize_with(graft.first as usize, unknown);
        for added in &graft.added {
            let id = added.id.as_ref().unwrap_or(&added.step.id).clone();
            let generation = self.generations.entry(id.clone()).or_default();
            *generation += 1;
            self.steps.push(Entry {
                id,
                tool: added.step.tool.clone(),
                task: Arc::clone(&added.step.description),
                generation: *generation,
                attempts: 0,
                dependencies: added.dependencies.to_vec(),
                scope: graft.scope,
                estimate: added.step.estimate_ms.map(Duration::from_millis),
                state: State::Waiting,
                is_member: true,
            });
        }
        graft.joined.iter().for_each(|step| self.set_member(*step, true));
        graft.closed.iter().chain(&graft.left).for_each(|step| self.set_member(*step, false));
        for (step, settings) in &graft.settings {
            if let Some(entry) = self.steps.get_mut(*step as usize) {
                entry.estimate = settings.estimate_ms.map(Duration::from_millis);
            }
        }
    }

    /// Takes the states of a run over from its handle, after events were missed or lie before the first one.
    pub(crate) fn correct(&mut self, view: &RunView) {
        let count = view.steps.last().map_or(0, |last| last.number as usize + 1);
        self.steps.resize_with(self.steps.len().max(count), unknown);
        self.open.clear();
        for shown in &view.steps {
            let entry = &mut self.steps[shown.number as usize];
            entry.id = shown.id.clone();
            entry.tool = shown.definition.tool.clone();
            entry.scope = shown.parent;
            entry.estimate = shown.definition.estimate_ms.map(Duration::from_millis);
            entry.is_member = shown.member && shown.state != StepState::Superseded;
            entry.state = match shown.state {
                StepState::Waiting | StepState::Ready | StepState::Superseded => State::Waiting,
                StepState::Running(attempt) => {
                    self.open.insert(attempt, Open { step: shown.number, since: shown.changed });
                    State::Running { since: shown.changed }
                }
                StepState::Backoff(at) => State::Retrying { at },
                StepState::Expanded => State::Expanded,
                StepState::Unknown(_) | StepState::Unapproved => State::Undecided,
                StepState::Succeeded => State::Succeeded,
                StepState::Failed => State::Failed,
                StepState::Skipped(_) => State::Skipped,
            };
        }
    }

    /// What was started may turn out to be no call. Its start may have been missed.
    fn note_no_call(&mut self, step: StepNumber, is_no_call: bool) {
        if let Some(entry) = self.steps.get_mut(step as usize) {
            entry.attempts = entry.attempts.saturating_sub(u32::from(is_no_call));
        }
    }

    fn set(&mut self, step: StepNumber, state: State) {
        if let Some(entry) = self.steps.get_mut(step as usize) {
            entry.state = state;
        }
    }

    fn set_member(&mut self, step: StepNumber, is_member: bool) {
        if let Some(entry) = self.steps.get_mut(step as usize) {
            entry.is_member = is_member;
        }
    }

    fn observe(&mut self) {
        let Some((step, took)) = self.ended else { return };
        if let Some(tool) = self.step(step).and_then(|entry| entry.tool.clone()) {
            self.means.observe(&tool, took);
        }
    }

    /// What the run was started with.
    pub(crate) fn start(&self) -> Option<&Arc<RunStart>> {
        self.start.as_ref()
    }

    /// Every step there ever was, by number.
    pub(crate) fn steps(&self) -> &[Entry] {
        &self.steps
    }

    /// The step with this number.
    pub(crate) fn step(&self, number: StepNumber) -> Option<&Entry> {
        self.steps.get(number as usize)
    }

    /// The id of the step with this number.
    pub(crate) fn id(&self, number: StepNumber) -> &str {
        self.step(number).map_or("?", |entry| entry.id.as_str())
    }

    /// What successful calls of each tool have taken in this run.
    pub(crate) fn means(&self) -> &Means {
        &self.means
    }

    /// Since when the planner has been thinking, if it is.
    pub(crate) fn planning(&self) -> Option<Timestamp> {
        self.planning
    }

    /// The planner does not think until then, but waits for something.
    pub(crate) fn planner_begins_to_wait(&mut self, until: Timestamp, why: &str) {
        self.planner_waits = Some((until, why.to_owned()));
    }

    /// Until when the planner waits, and for what, if it does.
    pub(crate) fn planner_waits(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        self.planning?;
        self.planner_waited(now)
    }

    /// As [`planner_waits`](Self::planner_waits), also if the run has ended since.
    pub(crate) fn planner_waited(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        self.planner_waits.as_ref().filter(|(until, _)| *until > now).map(|(until, why)| (*until, why.as_str()))
    }

    /// Whether nothing new is started any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// What all attempts and requests have used so far.
    pub(crate) fn used(&self) -> Usage {
        self.used
    }

    /// The step of the attempt that ended with the last event, and how long that took. None if its start was missed.
    pub(crate) fn ended(&self) -> Option<(StepNumber, Duration)> {
        self.ended
    }

    /// How many steps are being executed.
    pub(crate) fn running(&self) -> usize {
        self.open.len()
    }
}

/// Stands for a step whose event was missed.
fn unknown() -> Entry {
    Entry {
        id: StepId::from("?"),
        tool: None,
        task: Arc::default(),
        generation: 1,
        attempts: 0,
        dependencies: Vec::new(),
        scope: None,
        estimate: None,
        state: State::Waiting,
        is_member: false,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use plandag::{Plan, Runner, Step, StepError, tool_fn};

    use super::*;

    #[tokio::test]
    async fn what_is_running_is_known_also_if_its_start_was_missed() {
        let plan: Plan = ["a", "b"].map(|id| Step::new(id, "wait")).into_iter().collect();
        let wait = tool_fn(|_| std::future::pending::<Result<u32, StepError>>());
        let handle = Runner::new(plan).tool("wait", wait).start("wait");
        let is_start = |event: &RunEvent| matches!(event.kind, RunEventKind::AttemptStarted { .. });
        let starts = handle.events().filter(|event| std::future::ready(is_start(event)));
        assert_eq!(starts.take(2).count().await, 2);
        let mut ledger = Ledger::default();
        ledger.correct(&handle.view());
        assert_eq!(ledger.running(), 2);
        handle.cancel_now();
    }
}
