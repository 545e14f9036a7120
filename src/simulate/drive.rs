//! The loop: take the next thing that happens, tell the scheduler, do what it says.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::chain::Chains;
use super::{Ended, SimulatedAttempt, SimulatedRun, Simulation, expected_duration};
use crate::error::{StepError, StepErrorKind};
use crate::event::{
    AttemptNumber, Command, Event, FailureReason, Launch, Output, Returned, RunEvent, RunEventKind, RunOutcome,
    Timestamp, Usage,
};
use crate::planner::PlanReply;
use crate::scheduler::{Phase, Scheduler};

/// The jitter of every back-off: the mean of what a real run draws.
const DRAW: u16 = u16::MAX / 2;

/// Runs a simulation to its end.
pub(super) fn run(simulation: Simulation<'_>) -> SimulatedRun {
    let mut driver = Driver::new(simulation);
    driver.tell(Event::Begin);
    while driver.ended.is_none() {
        let Some(event) = driver.next_event() else { break };
        driver.tell(event);
    }
    driver.into_run()
}

/// An attempt that will end.
#[derive(Debug)]
struct Due {
    at: Timestamp,
    /// Its place in `Driver::attempts`, so that what started first ends first.
    index: usize,
    /// What comes of it; none is the usual null.
    result: Option<Box<Result<Returned, StepError>>>,
}

impl Due {
    fn key(&self) -> (Timestamp, usize) {
        (self.at, self.index)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

struct Driver<'a> {
    simulation: Simulation<'a>,
    scheduler: Scheduler,
    now: Timestamp,
    /// Events of this very instant.
    at_once: VecDeque<Event>,
    due: BinaryHeap<Reverse<Due>>,
    wake_at: Option<Timestamp>,
    attempts: Vec<SimulatedAttempt>,
    /// Whether each of `attempts` is still running.
    running: Vec<bool>,
    chains: Chains,
    work: Duration,
    history: Vec<RunEvent>,
    ended: Option<Ended>,
    null: Output,
}

impl<'a> Driver<'a> {
    fn new(simulation: Simulation<'a>) -> Self {
        let mut start = simulation.start.clone();
        // Nobody knows how long people take: they are taken to have approved everything before.
        start.policy.allow = start.tools.iter().map(|tool| tool.name.clone()).collect();
        Self {
            scheduler: Scheduler::new(Arc::new(start)),
            simulation,
            now: Timestamp::ZERO,
            at_once: VecDeque::new(),
            due: BinaryHeap::new(),
            wake_at: None,
            attempts: Vec::new(),
            running: Vec::new(),
            chains: Chains::default(),
            work: Duration::ZERO,
            history: Vec::new(),
            ended: None,
            null: Output::inline(Value::Null),
        }
    }

    /// What happens next. An attempt that ends just when a timer fires comes first.
    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.at_once.pop_front() {
            return Some(event);
        }
        while let Some(Reverse(due)) = self.due.peek() {
            let over = !self.running[due.index];
            if !over && self.wake_at.is_some_and(|wake| wake < due.at) {
                break;
            }
            let Some(Reverse(due)) = self.due.pop() else { break };
            if over {
                continue;
            }
            self.now = self.now.max(due.at);
            self.end_attempt(due.index);
            let result = match due.result {
                Some(result) => *result,
                None => Ok(Returned::Value(self.null.clone())),
            };
            return Some(attempt_returned(self.attempts[due.index].attempt, result));
        }
        self.now = self.now.max(self.wake_at.take()?);
        Some(Event::Woke)
    }

    fn tell(&mut self, event: Event) {
        let transition = self.scheduler.on_event(event, self.now);
        for event in &transition.events {
            match &event.kind {
                RunEventKind::RunFinished { outcome, .. } => self.ended = Some(Ended::Finished(outcome.clone())),
                RunEventKind::RunStopped { why } => self.ended = Some(Ended::Stopped(*why)),
                _ => {}
            }
        }
        if self.simulation.keep_history {
            self.history.extend(transition.events);
        }
        for command in transition.commands {
            match command {
                Command::RequestPlan(request) => {
                    let reply = (self.simulation.planner)(&request, &self.scheduler);
                    self.at_once.push_back(Event::PlanReturned {
                        request: request.request,
                        reply: Box::new(reply.map(PlanReply::from)),
                    });
                }
                Command::Launch(launch) => self.launch(&launch),
                Command::Abort { attempt } => self.abort(attempt),
                Command::WakeAt(at) => self.wake_at = Some(at),
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let duration = match &mut self.simulation.durations {
            Some(durations) => durations(launch),
            None => expected_duration(launch, self.scheduler.start()),
        };
        let result = self.simulation.results.as_mut().map(|results| Box::new(results(launch)));
        let end = self.now + duration;
        self.due.push(Reverse(Due { at: end, index: self.attempts.len(), result }));
        self.attempts.push(SimulatedAttempt {
            attempt: launch.attempt,
            step: launch.step,
            id: launch.id.clone(),
            start: self.now,
            end,
        });
        self.running.push(true);
    }

    fn abort(&mut self, attempt: AttemptNumber) {
        // Attempt numbers only grow, so the list is sorted by them.
        let Ok(index) = self.attempts.binary_search_by_key(&attempt, |started| started.attempt) else { return };
        if self.running[index] {
            self.end_attempt(index);
            let aborted = StepError::new(StepErrorKind::Aborted, "its result is not needed any more");
            self.at_once.push_back(attempt_returned(attempt, Err(aborted)));
        }
    }

    fn end_attempt(&mut self, index: usize) {
        self.running[index] = false;
        let attempt = &mut self.attempts[index];
        attempt.end = self.now;
        let took = attempt.end - attempt.start;
        self.work = self.work.saturating_add(took);
        self.chains.ended(&self.scheduler, attempt.step, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn into_run(mut self) -> SimulatedRun {
        for index in 0..self.attempts.len() {
            if self.running[index] {
                self.end_attempt(index);
            }
        }
        let (critical_path, critical_steps) = self.chains.longest();
        SimulatedRun {
            makespan: self.now.since_start(),
            ended: self.ended.unwrap_or_else(|| stalled(&self.scheduler)),
            attempts: self.attempts,
            history: self.history,
            critical_path: Duration::from_micros(critical_path),
            critical_steps,
            work: self.work,
            scheduler: self.scheduler,
        }
    }
}

fn attempt_returned(attempt: AttemptNumber, result: Result<Returned, StepError>) -> Event {
    Event::AttemptReturned { attempt, result: result.map_err(Arc::new), usage: Usage::default(), draw: DRAW }
}

/// A run that neither ended nor waits for anything. The scheduler finds out by itself; this is for the case that it
/// does not.
fn stalled(scheduler: &Scheduler) -> Ended {
    debug_assert!(matches!(scheduler.phase(), Phase::Finished | Phase::Stopped), "a run waits for nothing");
    let unsettled = (0..scheduler.step_count())
        .filter(|&number| scheduler.step(number).is_some_and(|step| !step.state.is_settled()));
    Ended::Finished(RunOutcome::Failed { reason: FailureReason::Stalled(unsettled.collect()) })
}
