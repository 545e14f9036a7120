//! One step of a report.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::{StepError, StepErrorKind};
use crate::event::{AttemptNumber, SkipReason, StepNumber, Timestamp, Usage};
use crate::plan::{Step, StepId};
use crate::scheduler::StepState;

use super::RunReport;
use super::gather::Parts;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// It has its output.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It did not run, for this reason.
    Skipped(SkipReason),
    /// A revision dropped it, or the run was answered without it.
    Superseded,
    /// The run stopped before it.
    Cancelled,
    /// Nobody knows whether it took effect.
    Unknown,
    /// It waits for a person to approve it: it would act on text from outside.
    Unapproved,
}

impl StepOutcome {
    /// In a word, for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped(_) => "skipped",
            Self::Superseded => "superseded",
            Self::Cancelled => "unfinished",
            Self::Unknown => "unknown",
            Self::Unapproved => "unapproved",
        }
    }
}

/// What became of one step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepReport<'a> {
    /// Its number.
    pub number: StepNumber,
    /// Its full id.
    pub id: &'a StepId,
    /// What it was to do.
    pub definition: &'a Arc<Step>,
    /// The name of its tool.
    pub tool: &'a str,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// Whether it is part of the last plan, or of what a step of it became. Where no plan was ever accepted, it is part of
    /// one that was being written if it was begun.
    pub member: bool,
    /// The step that brought in text from outside which has reached this one, if any has.
    pub outside: Option<&'a StepId>,
    /// How it ended.
    pub outcome: StepOutcome,
    /// The failed step because of which it was skipped.
    pub because: Option<&'a StepId>,
    /// Why it failed, or why its last try did.
    pub error: Option<&'a StepError>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptReport<'a>>,
    /// When it settled.
    pub settled: Option<Timestamp>,
}

/// One call of a tool, or what was to be one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptReport<'a> {
    /// Its number.
    pub number: AttemptNumber,
    /// Whether a tool was called and did not [put that off](crate::StepErrorKind::Deferred). None is where the step's
    /// condition is false, or a reference leads nowhere.
    pub is_call: bool,
    /// How long it had been ready and was not started: all slots were taken, or a pool was full, or its server wanted no
    /// call.
    pub queued: Duration,
    /// How long its step had paused since the attempt before it failed: for a back-off, as long as a server had asked
    /// for, or until somebody had decided. No slot was taken then.
    pub paused: Duration,
    /// When the tool was called.
    pub started: Timestamp,
    /// When the tool was gone; if the run ended before, when that was.
    pub ended: Timestamp,
    /// Why it failed.
    pub error: Option<&'a StepError>,
    /// What it used.
    pub usage: Usage,
    /// Whether it was made by the run that this one is a fork of.
    pub taken_over: bool,
}

impl AttemptReport<'_> {
    /// Whether the tool [put it off](crate::StepErrorKind::Deferred) and did nothing.
    pub fn was_deferred(&self) -> bool {
        self.error.is_some_and(|error| error.kind == StepErrorKind::Deferred)
    }

    /// How long the tool ran.
    pub fn duration(&self) -> Duration {
        self.ended - self.started
    }
}

impl StepReport<'_> {
    /// How long the step's tool ran, over all attempts. What a fork took over takes no time.
    pub fn duration(&self) -> Duration {
        self.own_attempts().map(AttemptReport::duration).sum()
    }

    /// How long it paused between attempts that failed and those after them. What a fork took over takes no time.
    pub fn paused(&self) -> Duration {
        self.own_attempts().skip(1).map(|attempt| attempt.paused).sum()
    }

    /// How often its tool was called and did not put that off.
    pub fn attempt_count(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.is_call).count()
    }

    /// Those that are not of a run that this one is a fork of.
    pub(super) fn own_attempts(&self) -> impl Iterator<Item = &AttemptReport<'_>> {
        self.attempts.iter().filter(|attempt| !attempt.taken_over)
    }

    /// Whether its tool was called by the run that this one is a fork of, and not since.
    pub fn taken_over(&self) -> bool {
        !self.attempts.is_empty() && self.attempts.iter().all(|attempt| attempt.taken_over)
    }
}

impl RunReport {
    /// The steps of every plan and expansion of the run, by number.
    pub fn steps(&self) -> impl Iterator<Item = StepReport<'_>> {
        (0..self.scheduler.step_count()).filter_map(|number| self.step_by_number(number))
    }

    /// The step that `id` stood for at the end.
    pub fn step(&self, id: &str) -> Option<StepReport<'_>> {
        self.step_by_number(self.scheduler.current(id)?)
    }

    /// The step with this number.
    pub fn step_by_number(&self, number: StepNumber) -> Option<StepReport<'_>> {
        let step = self.scheduler.step(number)?;
        let outcome = self.outcome_of(step.state);
        let because = match outcome {
            StepOutcome::Skipped(SkipReason::Failed(cause)) => self.scheduler.step(cause).map(|cause| cause.id),
            _ => None,
        };
        let is_member = |number| self.scheduler.step(number).is_some_and(|step| step.member);
        let attempts = self.attempts_of(number);
        // While a plan was being written, and no plan was ever accepted.
        let was_begun_early = self.revisions() == 0 && !attempts.is_empty();
        Some(StepReport {
            number,
            id: step.id,
            definition: step.definition,
            tool: step.tool,
            parent: step.parent,
            // What was part of another generation of a step went with that.
            member: (step.member || was_begun_early) && self.parents(step.parent).all(is_member),
            outside: step.outside.and_then(|source| self.scheduler.step(source)).map(|source| source.id),
            outcome,
            because,
            error: step.error.map(|error| &**error),
            attempts,
            settled: self.record.settled_at(number),
        })
    }

    /// The step that one is part of, and what that is part of.
    pub(crate) fn parents(&self, parent: Option<StepNumber>) -> impl Iterator<Item = StepNumber> {
        std::iter::successors(parent, |parent| self.scheduler.step(*parent)?.parent)
    }

    fn outcome_of(&self, state: StepState) -> StepOutcome {
        match state {
            StepState::Succeeded => StepOutcome::Succeeded,
            StepState::Failed => StepOutcome::Failed,
            StepState::Skipped(because) => StepOutcome::Skipped(because),
            StepState::Superseded => StepOutcome::Superseded,
            StepState::Unknown(_) => StepOutcome::Unknown,
            StepState::Unapproved => StepOutcome::Unapproved,
            StepState::Waiting
            | StepState::Ready
            | StepState::Running(_)
            | StepState::Backoff(_)
            | StepState::Expanded => match self.scheduler.outcome() {
                Some(_) => StepOutcome::Superseded,
                None => StepOutcome::Cancelled,
            },
        }
    }

    fn attempts_of(&self, step: StepNumber) -> Vec<AttemptReport<'_>> {
        let by_step = self.by_step.get_or_init(|| {
            let mut numbers: Vec<AttemptNumber> = (0..self.record.attempts().len() as u32).collect();
            numbers.sort_by_key(|number| self.record.attempts()[*number as usize].step);
            numbers
        });
        let step_of = |number: &AttemptNumber| self.record.attempts()[*number as usize].step;
        let first = by_step.partition_point(|number| step_of(number) < step);
        let numbers = by_step[first..].iter().take_while(|number| step_of(number) == step);
        let mut ready = self.ready_at(step);
        let mut before = None;
        numbers
            .map(|number| {
                let times = self.record.attempts()[*number as usize];
                let again = self.record.ready_again(step, times.started).unwrap_or_default();
                let queued = times.started - ready.max(again);
                ready = self.record.end_of(times);
                let paused = before.replace(*number).map(|before| self.record.pause(before, *number));
                AttemptReport {
                    number: *number,
                    is_call: !self.record.no_calls().contains(number),
                    queued,
                    paused: paused.unwrap_or_default(),
                    started: times.started,
                    ended: ready,
                    error: self.record.error(*number).map(|error| &**error),
                    usage: self.record.usage(*number),
                    taken_over: *number < self.record.first_own(),
                }
            })
            .collect()
    }

    /// When the last thing that a step waited for happened.
    fn ready_at(&self, step: StepNumber) -> Timestamp {
        let dependencies = self.scheduler.dependencies(step).iter();
        dependencies
            .filter_map(|dependency| self.record.settled_at(*dependency))
            .fold(self.record.added_at(step), Timestamp::max)
    }

    /// The value of a step's output; none if there is none, or if it is so large that it is only in the journal and was
    /// not [fetched](Self::fetch).
    pub fn value(&self, id: &str) -> Option<Arc<Value>> {
        let number = self.scheduler.current(id)?;
        if let Some(output) = self.parts.of(number) {
            return self.parts.value(output);
        }
        let output = self.scheduler.output(number)?;
        let mut parts = Parts::default();
        parts.add(output, &self.scheduler);
        parts.value(output)
    }
}
