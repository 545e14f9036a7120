//! After every transition: nothing that could go on is left lying, and nothing is under way that should not be.

use std::collections::BTreeSet;

use plandag::{
    Event, FailureReason, Output, PlanReply, ReplanWhen, Revision, RunOutcome, StepId, StepNumber, Timestamp,
};
use serde_json::Value;

use super::Checker;
use super::books::{Phase, Record, State};
use super::plan::dependencies;

impl Checker {
    /// Every command of a transition is carried out.
    pub(super) fn settled(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.check_commands();
        if self.timer.is_some_and(|timer| timer <= now) {
            self.timer = None;
        }
        self.check_followers();
        match self.books.phase {
            Phase::Running => {
                self.check_timers(now);
                self.check_idle_slots();
                self.check_asked();
                self.check_moving();
            }
            Phase::Stopping => self.check_moving(),
            Phase::New | Phase::Stopped | Phase::Finished => {}
        }
        self.told = None;
    }

    fn check_commands(&mut self) {
        let (started, called) = (std::mem::take(&mut self.started), std::mem::take(&mut self.called));
        self.must(started == called, "what is written down is done", || {
            format!("{started:?} started, {called:?} called")
        });
        let asked = std::mem::take(&mut self.asked);
        if let Some(request) = asked.last() {
            let pending = self.books.pending.as_ref().map(|pending| pending.request);
            self.must(asked.len() == 1 && pending == Some(*request), "the planner is asked what is written", || {
                format!("{asked:?}, {pending:?} is pending")
            });
        }
        if matches!(self.books.phase, Phase::Running | Phase::Stopping) {
            let recorded: BTreeSet<_> = self.books.attempts.keys().copied().collect();
            let alive: BTreeSet<_> = self.alive.keys().copied().collect();
            self.must(recorded == alive, "what runs is what the record says", || format!("{recorded:?}, {alive:?}"));
            let unwanted: Vec<_> = self
                .books
                .attempts
                .iter()
                .filter(|(attempt, step)| {
                    self.books.step(**step).state == State::Superseded && !self.aborted.contains(attempt)
                })
                .map(|(attempt, _)| *attempt)
                .collect();
            self.must(unwanted.is_empty(), "what is not wanted any more is ended", || format!("{unwanted:?}"));
        }
    }

    /// A fatal step takes its dependents with it in the same transition, an expansion ends with its last step.
    fn check_followers(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return;
        }
        let open: Vec<StepNumber> = self.books.open.iter().copied().collect();
        for step in open {
            let fatal = self.books.step(step).dependencies.iter().any(|&b| self.books.step(b).state.is_fatal());
            self.must(!fatal, "a failure skips what depends on it at once", || format!("step {step}"));
        }
        let parents: BTreeSet<StepNumber> = touched.iter().filter_map(|&step| self.books.step(step).parent).collect();
        for parent in parents.into_iter().chain(touched) {
            let late = self.books.step(parent).state == State::Expanded && self.books.is_done_inside(parent);
            self.must(!late, "an expansion ends with its last step", || format!("step {parent}"));
        }
    }

    fn check_timers(&mut self, now: Timestamp) {
        let late = (0..).zip(&self.books.steps).find_map(|(number, step): (StepNumber, _)| match step.state {
            State::Backoff(until) if until <= now => Some(number),
            _ => None,
        });
        self.must(late.is_none(), "what is due is found on every event", || format!("step {late:?}"));
        let next = self.books.steps.iter().filter_map(|step| match step.state {
            State::Backoff(until) => Some(until),
            _ => None,
        });
        if let Some(next) = next.min() {
            let timer = self.timer;
            self.must(timer.is_some_and(|timer| timer <= next), "a back-off has a timer", || {
                format!("{next} is due, the timer is {timer:?}")
            });
        }
    }

    fn startable(&self) -> Vec<StepNumber> {
        let can_start = |step: &StepNumber| self.books.dependencies_are_finished(*step) && !self.books.is_held(*step);
        self.books.open.iter().copied().filter(can_start).collect()
    }

    /// Notes since when steps could have started, to know how often others were started instead.
    pub(super) fn note_startable(&mut self, launches: u64) {
        for step in self.startable() {
            self.books.step_mut(step).startable_since.get_or_insert(launches);
        }
    }

    /// No slot idles beside a step that could start, unless a wide one was passed too often.
    fn check_idle_slots(&mut self) {
        let launches = self.books.launches;
        let startable = self.startable();
        // Where no more may be called, what runs may turn out to have called nothing.
        let waits = self.books.is_called_enough() && !self.alive.is_empty();
        if waits || self.alive.len() >= self.books.policy.max_parallel as usize {
            return;
        }
        let fits = |checker: &Self, step: StepNumber| {
            let definition = &checker.books.step(step).definition;
            let needs = checker.books.needs(definition);
            let has_room = |(pool, weight): &(String, u32)| {
                checker.held(pool) + weight.min(&checker.books.pools[pool]) <= checker.books.pools[pool]
            };
            let is_open = checker.books.may_be_called(step, checker.now);
            (needs.iter().all(has_room) && is_open, needs)
        };
        let patience = u64::from(self.books.policy.patience);
        let was_passed = |checker: &Self, step: StepNumber| {
            checker.books.step(step).startable_since.is_some_and(|since| launches - since >= patience)
        };
        let mut kept_free = BTreeSet::new();
        let mut idle = Vec::new();
        for step in startable {
            let (fits, needs) = fits(self, step);
            if fits {
                idle.push((step, needs));
            } else if was_passed(self, step) {
                kept_free.extend(needs.into_iter().map(|(pool, _)| pool));
            }
        }
        // What has to leave a pool to others, and was passed too often itself, has its other pools kept free, too.
        loop {
            let is_held = |needs: &[(String, u32)]| needs.iter().any(|(pool, _)| kept_free.contains(pool));
            let held = idle.iter().filter(|(step, needs)| is_held(needs) && was_passed(self, *step));
            let more: BTreeSet<String> =
                held.flat_map(|(_, needs)| needs.iter().map(|(pool, _)| pool.clone())).collect();
            if more.is_subset(&kept_free) {
                break;
            }
            kept_free.extend(more);
        }
        let unjust = idle.iter().find(|(_, needs)| !needs.iter().any(|(pool, _)| kept_free.contains(pool)));
        let unjust = unjust.map(|(step, _)| *step);
        self.must(unjust.is_none(), "no slot idles beside a step that could start", || format!("step {unjust:?}"));
    }

    /// A failure that the planner can still be told of is told.
    fn check_asked(&mut self) {
        let moves = !self.alive.is_empty()
            || !self.books.open.is_empty()
            || self.books.steps.iter().any(|step| matches!(step.state, State::Backoff(_)));
        let is_due = match self.books.policy.replan_when {
            ReplanWhen::FirstFailure => true,
            ReplanWhen::Stuck => !moves,
            ReplanWhen::Inside => false,
        };
        let waits = self.books.pending.is_some() || !self.books.may_be_asked(self.now);
        if waits || self.replans >= self.books.policy.max_replans || !is_due {
            return;
        }
        let untold = self.failed_members().into_iter().find(|&step| !self.books.step(step).reported);
        self.must(untold.is_none(), "the planner is told of every failure", || format!("step {untold:?}"));
    }

    fn check_moving(&mut self) {
        let is_undecided = |step: &Record| step.state == State::Unapproved;
        let moves = !self.alive.is_empty()
            || self.books.pending.is_some()
            || self.timer.is_some()
            || (self.books.policy.attended && self.books.steps.iter().any(is_undecided));
        self.must(moves, "a run that has not ended waits for something", || "it waits for nothing".into());
    }

    pub(super) fn check_outcome(&mut self, outcome: &RunOutcome) {
        if let Some(Event::PlanReturned { reply, .. }) = &self.told
            && let Ok(PlanReply { revision: Revision::Answer(answer), .. }) = &**reply
        {
            let is_it = *outcome == RunOutcome::Succeeded { answer: Output::inline(answer.clone()) };
            return self.must(is_it, "the planner's answer is the answer", || format!("{outcome:?}"));
        }
        let fatal: Vec<StepNumber> =
            self.books.children(None).filter(|&step| self.books.step(step).state.is_fatal()).collect();
        match outcome {
            RunOutcome::Succeeded { answer } => {
                self.must(fatal.is_empty(), "a run with a failure has not succeeded", || format!("{fatal:?}"));
                let expected = self.expected_answer();
                self.must(sorted(answer.clone()) == expected, "the answer is what the plan says", || {
                    format!("{answer:?}, not {expected:?}")
                });
            }
            RunOutcome::Failed { reason: FailureReason::StepsFailed(steps) } => {
                let failed = self.failed_members();
                let named: BTreeSet<_> = steps.iter().copied().collect();
                let is_right = !fatal.is_empty() && named == failed.iter().copied().collect();
                self.must(is_right, "a failed run names what failed", || format!("{steps:?}, not {failed:?}"));
            }
            RunOutcome::Failed { reason: FailureReason::NoPlan(_) } => {
                let revision = self.revision;
                self.must(revision == 0, "a run with a plan does not fail for want of one", || format!("{revision}"));
            }
            RunOutcome::Failed { reason } => self.wrong("a run never stalls", format!("{reason:?}")),
        }
    }

    /// The named step's output, that of the only sink, or those of all sinks.
    fn expected_answer(&self) -> Output {
        let members: Vec<StepNumber> = self.books.children(None).collect();
        if let Some(named) = &self.books.answer {
            return self.output_of(self.books.current[named]);
        }
        let needed: BTreeSet<StepId> =
            members.iter().flat_map(|&step| dependencies(&self.books.step(step).definition)).collect();
        let sinks = members.iter().copied().filter(|&step| !needed.contains(&self.books.step(step).id));
        let sinks: Vec<StepNumber> = sinks.collect();
        match sinks[..] {
            [only] => self.output_of(only),
            _ => {
                let named = sinks.iter().map(|&step| (self.books.step(step).id.clone(), step));
                sorted(Output::Gathered(named.collect::<Vec<_>>().into()))
            }
        }
    }

    fn output_of(&self, step: StepNumber) -> Output {
        match &self.books.step(step).state {
            State::Succeeded(output) => output.clone(),
            _ => Output::inline(Value::Null),
        }
    }
}

/// The parts of an object have no order that matters.
fn sorted(output: Output) -> Output {
    match output {
        Output::Gathered(parts) => {
            let mut parts = (*parts).clone();
            parts.sort();
            Output::Gathered(parts.into())
        }
        other => other,
    }
}
