//! What a person says to a run, whether somebody drives it or not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{JournalError, StepError};
use crate::event::{Decision, Event, Output, RunEvent, RunEventKind, StepNumber};
use crate::journal::{Claim, Durability, Journal, Letter, RunId};
use crate::runner::{MAX_OUTPUT_BYTES, bounded_shared};
use crate::scheduler::{Scheduler, StepState};

/// How often somebody who has decided looks whether that was acted on, and after how long another letter is left: the
/// first may have been taken by a process that did not live to act on it.
const GLANCE: Duration = Duration::from_millis(25);
const AGAIN: Duration = Duration::from_secs(1);

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nobody drives the run. It is written down, and the run goes on with it when it is resumed.
    Recorded,
    /// The process that drives the run has acted on it.
    Taken,
    /// Nothing: it does not fit the step, or somebody else was quicker.
    Nothing,
}

/// Decides what became of a step whose outcome is unknown, or whether one may act that waits for approval.
///
/// Where another process drives the run, that is told, and acts on it while the rest of the run goes on; this waits until
/// it has, or until it has let go of the run. Dropped before, the decision may be acted on or not.
///
/// # Errors
///
/// If the journal does not know the run or fails. [`JournalError::BadDecision`] if a run cannot take up the decision: an
/// output that a person gives has to be a value, and within the bounds for the result of a tool.
pub async fn decide(
    journal: &dyn Journal,
    run: &RunId,
    step: StepNumber,
    decision: Decision,
) -> Result<Told, JournalError> {
    let decision = bounded(decision)?;
    let history = journal.history(run).await?;
    let scheduler = Scheduler::replay(&history)?;
    let attempt = match scheduler.step(step).map(|step| step.state) {
        Some(StepState::Unknown(attempt)) => Some(attempt),
        _ => None,
    };
    let letter = Letter { step, attempt, decision };
    if !fits(&letter, &scheduler) {
        return Ok(Told::Nothing);
    }
    let before = history.len();
    let mut seen = before;
    let mut left: Option<Instant> = None;
    loop {
        let summary = journal.summary(run).await?;
        if summary.owner.is_none() {
            match record(journal, run, &letter, before).await {
                // Somebody takes it up just now, or has not quite let go of it.
                Err(JournalError::Locked { .. }) => {}
                recorded => return recorded,
            }
        }
        if usize::try_from(summary.events).is_ok_and(|events| events > seen) {
            let history = journal.history(run).await?;
            if !fits(&letter, &Scheduler::replay(&history)?) {
                return Ok(answer(&history[before..], &letter));
            }
            seen = history.len();
        }
        if left.is_none_or(|at| at.elapsed() >= AGAIN) {
            journal.leave(run, &letter).await?;
            left = Some(Instant::now());
        }
        sleep(GLANCE).await;
    }
}

/// Gives back a decision that a run can take up and a later process can read. Everything that a person decides comes
/// through here, or is looked at by [`fits`] if it comes in a letter.
pub(crate) fn bounded(decision: Decision) -> Result<Decision, JournalError> {
    match decision {
        Decision::Succeeded(Output::Inline(value)) => match bounded_shared(value, MAX_OUTPUT_BYTES) {
            Ok(value) => Ok(Decision::Succeeded(Output::Inline(value))),
            Err(StepError { message, .. }) => Err(JournalError::BadDecision { message }),
        },
        Decision::Succeeded(_) => Err(JournalError::BadDecision { message: NO_VALUE.to_owned() }),
        other => Ok(other),
    }
}

/// What an output is made of, and what is kept apart from the events, the run itself knows best.
const NO_VALUE: &str = "the output is not given as a value";

/// Whether a letter is about a step as that is now.
pub(crate) fn fits(letter: &Letter, scheduler: &Scheduler) -> bool {
    if bounded(letter.decision.clone()).is_err() {
        return false;
    }
    match (scheduler.step(letter.step).map(|step| step.state), &letter.decision) {
        (Some(StepState::Unapproved), Decision::Approve | Decision::Deny) => letter.attempt.is_none(),
        (Some(StepState::Unknown(attempt)), Decision::Succeeded(_) | Decision::Failed(_) | Decision::Retry) => {
            letter.attempt == Some(attempt)
        }
        _ => false,
    }
}

/// Whether it was this letter that has decided.
fn answer(later: &[RunEvent], letter: &Letter) -> Told {
    let is_answer = |event: &RunEvent| match (&event.kind, &letter.decision) {
        (RunEventKind::StepApproved { step }, Decision::Approve)
        | (RunEventKind::StepReady { step }, Decision::Retry)
        | (RunEventKind::StepSucceeded { step, .. }, Decision::Succeeded(_))
        | (RunEventKind::StepFailed { step, .. }, Decision::Failed(_) | Decision::Deny) => *step == letter.step,
        _ => false,
    };
    if later.iter().any(is_answer) { Told::Taken } else { Told::Nothing }
}

/// Writes a decision down about a run that nobody drives, and that had so many events when it was made.
async fn record(journal: &dyn Journal, run: &RunId, letter: &Letter, before: usize) -> Result<Told, JournalError> {
    let held = Held::take(journal, run).await?;
    if !fits(letter, &held.scheduler) {
        return Ok(answer(&held.history[before..], letter));
    }
    let event = Event::Decided { step: letter.step, decision: letter.decision.clone() };
    Ok(if held.tell(journal, event).await? { Told::Recorded } else { Told::Nothing })
}

/// Records that a run is to stop that nobody drives. It can be resumed all the same. The answer says whether it was not
/// stopped or finished already.
///
/// # Errors
///
/// If another process drives the run, or the journal does not know it or fails.
pub async fn cancel(journal: &dyn Journal, run: &RunId) -> Result<bool, JournalError> {
    Held::take(journal, run).await?.tell(journal, Event::CancelRequested { at_once: true }).await
}

/// A run that nobody drives, held for a moment to write something down.
struct Held {
    claim: Claim,
    history: Vec<RunEvent>,
    scheduler: Scheduler,
}

impl Held {
    async fn take(journal: &dyn Journal, run: &RunId) -> Result<Self, JournalError> {
        let claim = journal.claim(run).await?;
        let history = journal.history(run).await?;
        let scheduler = Scheduler::replay(&history)?;
        Ok(Self { claim, history, scheduler })
    }

    /// Says whether that has changed anything.
    async fn tell(mut self, journal: &dyn Journal, event: Event) -> Result<bool, JournalError> {
        let now = self.history.last().map_or_else(Default::default, |last| last.at);
        let transition = self.scheduler.on_event(event, now);
        // A run that was killed may go on from here, but not in this process: nothing is started.
        let is_start = |event: &RunEvent| matches!(event.kind, RunEventKind::AttemptStarted { .. });
        let events: Vec<RunEvent> = transition.events.into_iter().take_while(|event| !is_start(event)).collect();
        if events.is_empty() {
            return Ok(false);
        }
        journal.append(&self.claim, &events, Durability::Power).await?;
        Ok(true)
    }
}
