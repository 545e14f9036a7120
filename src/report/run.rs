//! What a run came to: its answer, what became of every step, and how the time was spent.
//!
//! A [`RunReport`] is made of nothing but the events of a run, so that of a live run and that of a history read back
//! from a journal are the same.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::counted::counted;
use crate::error::JournalError;
use crate::event::{
    AttemptNumber, FailureReason, Output, RunEvent, RunOutcome, RunStart, StepNumber, StopReason, Timestamp, Usage,
};
use crate::journal::{Journal, RunId};
use crate::plan::StepId;
#[cfg(feature = "redact")]
use crate::redact::Secrets;
use crate::scheduler::Scheduler;

use super::critical::{self, CriticalPath};
use super::gather::{self, Parts};
use super::record::{AttemptTimes, Record};
use super::step::StepOutcome;

/// What a run came to.
///
/// It is put together when it is asked: making one costs next to nothing, however long the run was.
pub struct RunReport {
    run: RunId,
    pub(super) scheduler: Scheduler,
    pub(super) record: Record,
    /// What the answer is made of, and what else was asked for, as far as that had to be read from the journal.
    pub(super) parts: Parts,
    answer: OnceLock<Option<Arc<Value>>>,
    /// The numbers of all attempts, sorted by step.
    pub(super) by_step: OnceLock<Vec<AttemptNumber>>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ending<'a> {
    /// It has its answer.
    Succeeded,
    /// It is over without an answer.
    Failed(&'a FailureReason),
    /// It stopped before its end and can be resumed.
    Stopped(StopReason),
    /// It was interrupted and can be resumed; or it is still running.
    Unfinished,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// Steps failed for good.
    #[error("step `{step}` failed: {message}{}", and_more(*.more))]
    StepFailed {
        /// The first of them.
        step: StepId,
        /// Why.
        message: String,
        /// How many others failed.
        more: usize,
    },
    /// There never was a usable plan.
    #[error("there was no usable plan: {}", if .offences.is_empty() { "the planner gave none" } else { .offences })]
    NoPlan {
        /// What was wrong with the last one.
        offences: String,
    },
    /// The run stopped before its end.
    #[error("the run stopped: {0}")]
    Stopped(StopReason),
    /// The run is not over.
    #[error("the run is not finished")]
    Unfinished,
    /// Nothing can move. A bug of the scheduler: please report it.
    #[error("the run stalled with {} left; this is a bug, please report it", counted(*steps, "step"))]
    Stalled {
        /// How many steps are not settled.
        steps: usize,
    },
    /// The answer is large, and was not read from the journal.
    #[error("the answer is only in the journal")]
    Stored,
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more failed)") }
}

/// Why a step has no output of the wanted type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NoOutput {
    /// No plan of the run had such a step.
    #[error("there is no step `{step}`")]
    UnknownStep {
        /// The step.
        step: StepId,
    },
    /// The step did not succeed.
    #[error("step `{step}` has no output: it {}", outcome_word(*.outcome))]
    NotSucceeded {
        /// The step.
        step: StepId,
        /// How it ended.
        outcome: StepOutcome,
    },
    /// The output is large, and only in the journal.
    #[error("the output of step `{step}` is only in the journal")]
    Stored {
        /// The step.
        step: StepId,
    },
    /// It is of another type.
    #[error("the output of step `{step}` is not of the wanted type: {source}")]
    WrongType {
        /// The step.
        step: StepId,
        /// What does not fit.
        source: serde_json::Error,
    },
}

fn outcome_word(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Succeeded => "succeeded",
        StepOutcome::Failed => "failed",
        StepOutcome::Skipped(_) => "was skipped",
        StepOutcome::Superseded => "was dropped by a revision",
        StepOutcome::Cancelled => "was cancelled",
        StepOutcome::Unknown => "has an unknown outcome",
        StepOutcome::Unapproved => "waits for approval",
    }
}

impl RunReport {
    pub(crate) fn new(run: RunId, scheduler: Scheduler, record: Record) -> Self {
        Self { run, scheduler, record, parts: Parts::default(), answer: OnceLock::new(), by_step: OnceLock::new() }
    }

    /// The report of a run by its history. Outputs that are only in the journal are not in it: see [`load`](Self::load).
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] if this cannot be the history of a run.
    pub fn from_history(run: RunId, history: &[RunEvent]) -> Result<Self, JournalError> {
        Ok(Self::new(run, Scheduler::replay(history)?, Record::of(history)))
    }

    /// The report of a run that a journal knows.
    ///
    /// # Errors
    ///
    /// If the journal does not know the run or cannot be read.
    pub async fn load(journal: &dyn Journal, run: &RunId) -> Result<Self, JournalError> {
        let mut report = Self::from_history(run.clone(), &journal.history(run).await?)?;
        report.fetch_answer(journal).await?;
        Ok(report)
    }

    /// Reads what the answer is made of from the journal, as far as it is only there.
    pub(crate) async fn fetch_answer(&mut self, journal: &dyn Journal) -> Result<(), JournalError> {
        let Some(RunOutcome::Succeeded { answer }) = self.scheduler.outcome() else { return Ok(()) };
        let mut answer = answer.clone();
        match answer {
            Output::Inline(_) => return Ok(()),
            Output::Stored(_) => gather::fetch(&mut answer, journal, &self.run).await?,
            Output::Gathered(_) => {
                self.parts.add(&answer, &self.scheduler);
                self.parts.fetch(journal, &self.run).await?;
            }
        }
        self.answer = OnceLock::from(self.parts.value(&answer));
        Ok(())
    }

    /// Takes secrets out of what was read from the journal.
    #[cfg(feature = "redact")]
    pub(crate) fn redact_answer(&mut self, secrets: &Secrets) {
        if let Some(answer) = self.answer.get_mut().and_then(Option::as_mut) {
            *answer = Arc::new(secrets.redact_value(Value::clone(answer)));
        }
    }

    /// Reads what these steps have put out from the journal, as far as it is only there: [`output`](Self::output) has it
    /// from then on.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub async fn fetch<T: AsRef<str>>(
        &mut self,
        journal: &dyn Journal,
        steps: impl IntoIterator<Item = T>,
    ) -> Result<(), JournalError> {
        let member = |step: T| Some((StepId::from(step.as_ref()), self.scheduler.current(step.as_ref())?));
        let members: Vec<(StepId, StepNumber)> = steps.into_iter().filter_map(member).collect();
        self.parts.add(&Output::Gathered(Arc::new(members)), &self.scheduler);
        self.parts.fetch(journal, &self.run).await
    }

    /// The run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The state that the events have led to.
    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// What the run was started with.
    pub fn start(&self) -> &RunStart {
        self.scheduler.start()
    }

    /// How the run ended.
    pub fn ending(&self) -> Ending<'_> {
        match (self.scheduler.outcome(), self.scheduler.phase()) {
            (Some(RunOutcome::Succeeded { .. }), _) => Ending::Succeeded,
            (Some(RunOutcome::Failed { reason }), _) => Ending::Failed(reason),
            (None, crate::Phase::Stopped) => self.scheduler.stop_reason().map_or(Ending::Unfinished, Ending::Stopped),
            (None, _) => Ending::Unfinished,
        }
    }

    /// Whether the run has its answer.
    pub fn succeeded(&self) -> bool {
        self.ending() == Ending::Succeeded
    }

    /// Whether the answer is not that of a step: the planner gave it where it was asked for another plan.
    pub fn answered_by_planner(&self) -> bool {
        self.succeeded() && self.record.is_asked()
    }

    /// The answer.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn answer(&self) -> Result<&Value, NoAnswer> {
        match self.scheduler.outcome() {
            Some(RunOutcome::Succeeded { answer }) => {
                let value = self.answer.get_or_init(|| {
                    let mut parts = Parts::default();
                    parts.add(answer, &self.scheduler);
                    parts.value(answer)
                });
                value.as_deref().ok_or(NoAnswer::Stored)
            }
            Some(RunOutcome::Failed { reason }) => Err(self.no_answer(reason)),
            None => match self.ending() {
                Ending::Stopped(why) => Err(NoAnswer::Stopped(why)),
                _ => Err(NoAnswer::Unfinished),
            },
        }
    }

    fn no_answer(&self, reason: &FailureReason) -> NoAnswer {
        match reason {
            FailureReason::StepsFailed(steps) => {
                let first = steps.first().and_then(|number| self.scheduler.step(*number));
                NoAnswer::StepFailed {
                    step: first.map_or_else(|| StepId::from("?"), |step| step.id.clone()),
                    message: first.and_then(|step| step.error).map(|error| error.message.clone()).unwrap_or_default(),
                    more: steps.len().saturating_sub(1),
                }
            }
            FailureReason::NoPlan(offences) => {
                let offences: Vec<_> = offences.iter().map(ToString::to_string).collect();
                NoAnswer::NoPlan { offences: offences.join("; ") }
            }
            FailureReason::Stalled(steps) => NoAnswer::Stalled { steps: steps.len() },
        }
    }

    /// The output of a step, as a type of your own.
    ///
    /// # Errors
    ///
    /// If there is no such step, if it has no output, or if that is of another type. Also, [`NoOutput::Stored`], if it is
    /// [large](Output::INLINE_BYTES) and the run has a journal: only the answer is read from there with the report, the
    /// rest with [`Journal::get_output`].
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, NoOutput> {
        let id = || StepId::from(step);
        let report = self.step(step).ok_or_else(|| NoOutput::UnknownStep { step: id() })?;
        if report.outcome != StepOutcome::Succeeded {
            return Err(NoOutput::NotSucceeded { step: id(), outcome: report.outcome });
        }
        let value = self.value(step).ok_or_else(|| NoOutput::Stored { step: id() })?;
        T::deserialize(&*value).map_err(|source| NoOutput::WrongType { step: id(), source })
    }

    /// How long the run took, on its own clock: the time in which no process drove it does not count, and neither does
    /// that of a run it is a fork of.
    pub fn wall_time(&self) -> Duration {
        self.record.end() - self.record.beginning()
    }

    /// The end of the run on its own clock, by which its events are. The clock of a fork goes on where that of the run
    /// it comes from had stopped.
    pub fn ended(&self) -> Timestamp {
        self.record.end()
    }

    /// How long the tools ran, taken together: with what steps [paused](Self::paused), about what the run had taken one
    /// step at a time.
    pub fn work(&self) -> Duration {
        self.record.own().iter().map(|times| self.record.end_of(*times) - times.started).sum()
    }

    /// How long steps paused between their attempts, taken together.
    pub fn paused(&self) -> Duration {
        self.steps().map(|step| step.paused()).sum()
    }

    /// The longest chain of steps that waited for each other, by what they took with their pauses.
    pub fn critical_path(&self) -> CriticalPath {
        critical::path(self)
    }

    /// The shortest time in which these attempts could have been made: the critical path, or the work shared by
    /// all [slots](Self::slots), whichever is longer.
    pub fn bound(&self) -> Duration {
        self.critical_path().length.max(self.work() / self.slots())
    }

    /// How many attempts could run at once: the most of all that the run was begun and gone on with.
    pub fn slots(&self) -> u32 {
        self.record.policies().iter().map(|policy| policy.max_parallel).max().unwrap_or(1).max(1)
    }

    /// How many tools were called, those apart that were called by a run that this is a fork of, and those that
    /// [put it off](crate::StepErrorKind::Deferred). Where a condition is false or a reference leads nowhere, none is called.
    pub fn attempt_count(&self) -> u32 {
        (self.record.own().len() - self.record.no_calls().range(self.record.first_own()..).count()) as u32
    }

    /// How many of these calls were not the first of their step.
    pub fn retry_count(&self) -> u32 {
        let called = self.own_attempts().filter(|(attempt, _)| !self.record.no_calls().contains(attempt));
        let steps: BTreeSet<StepNumber> = called.map(|(_, times)| times.step).collect();
        self.attempt_count() - steps.len() as u32
    }

    /// How often a tool [put a call off](crate::StepErrorKind::Deferred), as its server was not to be asked yet.
    pub fn deferral_count(&self) -> u32 {
        self.own_attempts().filter(|(attempt, _)| self.record.was_deferred(*attempt)).count() as u32
    }

    fn own_attempts(&self) -> impl Iterator<Item = (AttemptNumber, &AttemptTimes)> {
        (self.record.first_own()..).zip(self.record.own())
    }

    /// How often the planner was asked for a revision, after failures or for a review.
    pub fn replans(&self) -> u32 {
        self.scheduler.replans()
    }

    /// Whether the planner was to say if anything is missing from what is done, and was not asked, as the run may not use
    /// more.
    pub fn lacks_review(&self) -> bool {
        self.scheduler.policy().review && !self.scheduler.is_reviewed()
    }

    /// How many plans were accepted.
    pub fn revisions(&self) -> u32 {
        self.scheduler.revision()
    }

    /// What the run used.
    pub fn usage(&self) -> Usage {
        self.scheduler.usage()
    }
}

impl fmt::Debug for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunReport").field("run", &self.run).field("ending", &self.ending()).finish_non_exhaustive()
    }
}
