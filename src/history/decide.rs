//! What a person does to a run that nobody drives.

use crate::error::JournalError;
use crate::event::{Decision, Event, RunEvent, RunEventKind, StepNumber};
use crate::journal::{Durability, Journal, RunId};
use crate::scheduler::Scheduler;

/// Records what became of a step whose outcome is unknown, or whether one may act that waits for approval. The run goes
/// on with it when it is resumed. What does not fit the step changes nothing: the answer says whether it did.
///
/// # Errors
///
/// If another process drives the run, or the journal does not know it or fails.
pub async fn decide(
    journal: &dyn Journal,
    run: &RunId,
    step: StepNumber,
    decision: Decision,
) -> Result<bool, JournalError> {
    tell(journal, run, Event::Decided { step, decision }).await
}

/// Records that a run is to stop. It can be resumed all the same. The answer says whether it was not stopped or
/// finished already.
///
/// # Errors
///
/// As [`decide`].
pub async fn cancel(journal: &dyn Journal, run: &RunId) -> Result<bool, JournalError> {
    tell(journal, run, Event::CancelRequested { at_once: true }).await
}

async fn tell(journal: &dyn Journal, run: &RunId, event: Event) -> Result<bool, JournalError> {
    let claim = journal.claim(run).await?;
    let history = journal.history(run).await?;
    let mut scheduler = Scheduler::replay(&history)?;
    let now = history.last().map_or_else(Default::default, |last| last.at);
    let transition = scheduler.on_event(event, now);
    // A run that was killed may go on from here, but not in this process: nothing is started.
    let is_start = |event: &RunEvent| matches!(event.kind, RunEventKind::AttemptStarted { .. });
    let events: Vec<RunEvent> = transition.events.into_iter().take_while(|event| !is_start(event)).collect();
    if events.is_empty() {
        return Ok(false);
    }
    journal.append(&claim, &events, Durability::Power).await?;
    Ok(true)
}
