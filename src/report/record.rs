//! When things happened: what a report needs beside the final state of the scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{StepError, StepErrorKind};
use crate::event::{AttemptNumber, Graft, PlanReason, RunEvent, RunEventKind, StepNumber, Timestamp, Usage};
use crate::policy::Policy;

/// A fold over the events of a run. It grows by some 40 bytes a step, so it is kept while the run goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// By number.
    attempts: Vec<AttemptTimes>,
    /// When each step got its last state, by number; [`NEVER`] if it has not.
    settled: Vec<Timestamp>,
    /// Steps in the order in which they settled. Expanded ones are in it twice: when they were expanded, too.
    order: Vec<StepNumber>,
    expanded: BTreeSet<StepNumber>,
    /// When the steps from each of these numbers on were added.
    added: Vec<(StepNumber, Timestamp)>,
    /// When steps became ready again after a back-off or a decision, in order.
    ready: BTreeMap<StepNumber, Vec<Timestamp>>,
    errors: BTreeMap<AttemptNumber, Arc<StepError>>,
    usage: BTreeMap<AttemptNumber, Usage>,
    /// Attempts that turned out to be no calls.
    no_calls: BTreeSet<AttemptNumber>,
    /// The last change of the run's own plan.
    plan: Option<Arc<Graft>>,
    /// The last answer of the planner, if it was not usable and was kept.
    rejected: Option<Arc<str>>,
    /// How the run was carried out, one after the other; of a fork, since it began to be a run of its own.
    policies: Vec<Arc<Policy>>,
    end: Timestamp,
    /// When a fork began to be a run of its own, and its first attempt from there.
    own: (Timestamp, AttemptNumber),
    /// Whether what is told was written when the run was forked: no tool is called before it is gone on with.
    is_forked: bool,
    /// Whether the planner was given up, and there is no plan.
    is_given_up: bool,
    /// Whether the planner has been asked and has not answered with a plan: then the end is its answer.
    is_asked: bool,
}

/// Stands for "not yet" where an `Option` would cost half as much again.
pub(super) const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptTimes {
    pub(super) step: StepNumber,
    pub(super) started: Timestamp,
    /// [`NEVER`] while it runs.
    pub(super) ended: Timestamp,
}

impl Record {
    /// What a whole history says.
    pub(crate) fn of(history: &[RunEvent]) -> Self {
        let mut record = Self::default();
        history.iter().for_each(|event| record.apply(event));
        record
    }

    /// Takes up one event.
    pub(crate) fn apply(&mut self, event: &RunEvent) {
        self.end = event.at;
        self.is_asked |= matches!(event.kind, RunEventKind::PlanRequested { .. });
        match &event.kind {
            RunEventKind::PlanAccepted { graft, .. } => {
                self.graft(graft, event.at);
                self.plan = Some(Arc::clone(graft));
                self.rejected = None;
                self.is_asked = false;
            }
            RunEventKind::StepDrafted { graft, .. } => self.graft(graft, event.at),
            RunEventKind::StepExpanded { step, attempt, graft, usage } => {
                self.graft(graft, event.at);
                self.ended(*attempt, event.at, usage, None);
                self.expanded.insert(*step);
                self.order.push(*step);
            }
            RunEventKind::StepReady { step } | RunEventKind::StepApproved { step } => {
                self.ready.entry(*step).or_default().push(event.at);
            }
            RunEventKind::AttemptStarted { step, attempt } => {
                debug_assert_eq!(*attempt as usize, self.attempts.len(), "attempts are numbered in order");
                self.attempts.push(AttemptTimes { step: *step, started: event.at, ended: NEVER });
            }
            RunEventKind::AttemptFailed { attempt, error, usage, .. }
            | RunEventKind::StepUnknown { attempt, error, usage, .. } => {
                self.ended(*attempt, event.at, usage, Some(error));
            }
            RunEventKind::AttemptDiscarded { attempt, usage } => self.ended(*attempt, event.at, usage, None),
            RunEventKind::StepSucceeded { step, attempt, usage, .. } => {
                self.settled(*step, *attempt, event.at, usage, None);
            }
            RunEventKind::StepFailed { step, attempt, error, usage } => {
                self.settled(*step, *attempt, event.at, usage, Some(error));
            }
            RunEventKind::StepSkipped { step, attempt, .. } => {
                self.settled(*step, *attempt, event.at, &Usage::default(), None);
                self.no_calls.extend(*attempt);
            }
            // Where there was a plan already, a fork has changed it.
            RunEventKind::PlanRequested { reason: PlanReason::First, .. }
                if self.plan.is_some() || self.is_given_up =>
            {
                self.own = (event.at, self.attempts.len() as AttemptNumber);
                self.is_forked = true;
            }
            RunEventKind::RunStarted { start } => self.policies.push(Arc::new(start.policy.clone())),
            RunEventKind::RunResumed { policy } => {
                self.policies.extend(policy.clone());
                if self.is_forked {
                    self.policies.drain(..self.policies.len().saturating_sub(1));
                    self.own.1 = self.attempts.len() as AttemptNumber;
                    self.is_forked = false;
                }
            }
            RunEventKind::PlanRequested { .. }
            | RunEventKind::StopRequested { .. }
            | RunEventKind::RunStopped { .. }
            | RunEventKind::RunFinished { .. }
            | RunEventKind::ApprovalRequested { .. } => {}
            RunEventKind::PlanPutOff { .. } => self.is_asked = false,
            RunEventKind::UsageNoted { attempt, usage } => {
                // The attempt itself ends when the run goes on.
                if let Some(attempt) = attempt {
                    *self.usage.entry(*attempt).or_default() += *usage;
                }
            }
            RunEventKind::PlanRejected { rejection, .. } => {
                // A correction that was broken off says nothing about the answer that it is about.
                if !rejection.offences.is_empty() {
                    self.rejected.clone_from(&rejection.answer);
                }
                self.is_asked = false;
                self.is_given_up = rejection.given_up;
            }
        }
    }

    fn graft(&mut self, graft: &Graft, at: Timestamp) {
        if !graft.added.is_empty() {
            self.added.push((graft.first, at));
            self.settled.resize(graft.first as usize + graft.added.len(), NEVER);
            self.attempts.reserve(graft.added.len());
            self.order.reserve(graft.added.len());
        }
    }

    fn settled(
        &mut self,
        step: StepNumber,
        attempt: Option<AttemptNumber>,
        at: Timestamp,
        usage: &Usage,
        error: Option<&Arc<StepError>>,
    ) {
        if let Some(attempt) = attempt {
            self.ended(attempt, at, usage, error);
        }
        if let Some(settled) = self.settled.get_mut(step as usize) {
            *settled = at;
            self.order.push(step);
        }
    }

    fn ended(&mut self, attempt: AttemptNumber, at: Timestamp, usage: &Usage, error: Option<&Arc<StepError>>) {
        if let Some(times) = self.attempts.get_mut(attempt as usize) {
            times.ended = at;
        }
        if let Some(error) = error {
            self.no_calls.extend(error.kind.is_no_call().then_some(attempt));
            self.errors.insert(attempt, Arc::clone(error));
        }
        if !usage.is_zero() {
            *self.usage.entry(attempt).or_default() += *usage;
        }
    }

    /// The last change of the run's own plan.
    pub(crate) fn plan(&self) -> Option<&Graft> {
        self.plan.as_deref()
    }

    /// The answer of the planner that was not usable, if the last one was not and it was kept.
    pub(crate) fn rejected_answer(&self) -> Option<Arc<str>> {
        self.rejected.clone()
    }

    /// Whether the planner is being asked, or was until the end.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub(super) fn attempts(&self) -> &[AttemptTimes] {
        &self.attempts
    }

    pub(super) fn error(&self, attempt: AttemptNumber) -> Option<&Arc<StepError>> {
        self.errors.get(&attempt)
    }

    /// Attempts that were no calls, as the tool put them off or was not asked at all.
    pub(super) fn no_calls(&self) -> &BTreeSet<AttemptNumber> {
        &self.no_calls
    }

    /// Whether the tool put it off.
    pub(super) fn was_deferred(&self, attempt: AttemptNumber) -> bool {
        self.error(attempt).is_some_and(|error| error.kind == StepErrorKind::Deferred)
    }

    pub(super) fn usage(&self, attempt: AttemptNumber) -> Usage {
        self.usage.get(&attempt).copied().unwrap_or_default()
    }

    /// How the run was carried out, one after the other; the last is how it is now.
    pub(super) fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The last instant there is a record of.
    pub(crate) fn end(&self) -> Timestamp {
        self.end
    }

    /// Where the run begins, on its own clock: at zero, unless it goes on from another one.
    pub(super) fn beginning(&self) -> Timestamp {
        self.own.0
    }

    /// The first attempt that is not one of the run that this is a fork of.
    pub(super) fn first_own(&self) -> AttemptNumber {
        self.own.1
    }

    /// The attempts up to there.
    pub(super) fn taken_over(&self) -> &[AttemptTimes] {
        &self.attempts[..self.own.1 as usize]
    }

    /// The attempts from there.
    pub(super) fn own(&self) -> &[AttemptTimes] {
        &self.attempts[self.own.1 as usize..]
    }

    /// When an attempt ended; one that has not ends with the record.
    pub(super) fn end_of(&self, attempt: AttemptTimes) -> Timestamp {
        if attempt.ended == NEVER { self.end } else { attempt.ended }
    }

    pub(super) fn order(&self) -> &[StepNumber] {
        &self.order
    }

    pub(super) fn is_expanded(&self, step: StepNumber) -> bool {
        self.expanded.contains(&step)
    }

    pub(super) fn settled_at(&self, step: StepNumber) -> Option<Timestamp> {
        self.settled.get(step as usize).copied().filter(|at| *at != NEVER)
    }

    /// When the step became part of the run.
    pub(super) fn added_at(&self, step: StepNumber) -> Timestamp {
        let after = self.added.partition_point(|(first, _)| *first <= step);
        after.checked_sub(1).map_or(Timestamp::ZERO, |index| self.added[index].1)
    }

    /// When the step last became ready again, up to `until`.
    pub(super) fn ready_again(&self, step: StepNumber, until: Timestamp) -> Option<Timestamp> {
        let ready = self.ready.get(&step)?;
        let before = ready.partition_point(|at| *at <= until);
        before.checked_sub(1).map(|last| ready[last])
    }

    /// How long the step paused between an attempt that failed and the next one: what it waited for then was neither a
    /// slot nor a pool. An attempt that did not fail may have expanded the step, which did not pause then.
    pub(super) fn pause(&self, failed: AttemptNumber, next: AttemptNumber) -> Duration {
        let [failed_times, next] = [failed, next].map(|number| self.attempts[number as usize]);
        match self.ready_again(next.step, next.started) {
            Some(ready) if self.errors.contains_key(&failed) => ready - self.end_of(failed_times),
            _ => Duration::ZERO,
        }
    }
}
