//! What the lines of a run need beside the event itself: events name steps by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plandag::{AttemptNumber, Graft, RunEvent, RunEventKind, StepId, StepNumber, Timestamp};

/// A step as the lines speak of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: StepId,
    pub(crate) tool: Option<Arc<str>>,
    /// Which definition of this id it is; the first is 1.
    pub(crate) generation: u32,
    /// Calls of its tool so far.
    pub(crate) attempts: u32,
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
    steps: Vec<Entry>,
    generations: HashMap<StepId, u32>,
    open: HashMap<AttemptNumber, Open>,
}

impl Ledger {
    /// Takes up what is new in an event. Called before the event is told.
    pub(crate) fn take(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::PlanAccepted { graft, .. }
            | RunEventKind::StepDrafted { graft, .. }
            | RunEventKind::StepExpanded { graft, .. } => self.graft(graft),
            RunEventKind::AttemptStarted { step, attempt } => {
                self.open.insert(*attempt, Open { step: *step, since: event.at });
                if let Some(entry) = self.steps.get_mut(*step as usize) {
                    entry.attempts += 1;
                }
            }
            _ => {}
        }
    }

    fn graft(&mut self, graft: &Graft) {
        // Earlier grafts may have been missed; numbers stay right all the same.
        let unknown = || Entry { id: StepId::from("?"), tool: None, generation: 1, attempts: 0 };
        self.steps.resize_with(graft.first as usize, unknown);
        for added in &graft.added {
            let id = added.id.as_ref().unwrap_or(&added.step.id).clone();
            let generation = self.generations.entry(id.clone()).or_default();
            *generation += 1;
            self.steps.push(Entry { id, tool: added.step.tool.clone(), generation: *generation, attempts: 0 });
        }
    }

    /// The step with this number.
    pub(crate) fn step(&self, number: StepNumber) -> Option<&Entry> {
        self.steps.get(number as usize)
    }

    /// The id of the step with this number.
    pub(crate) fn id(&self, number: StepNumber) -> &str {
        self.step(number).map_or("?", |entry| entry.id.as_str())
    }

    /// How long an attempt took that ends at `now`. It is forgotten then.
    pub(crate) fn close(&mut self, attempt: AttemptNumber, now: Timestamp) -> Option<Duration> {
        self.open.remove(&attempt).map(|open| now - open.since)
    }

    /// The step of an attempt that is still open.
    pub(crate) fn step_of(&self, attempt: AttemptNumber) -> Option<StepNumber> {
        self.open.get(&attempt).map(|open| open.step)
    }

    /// How many steps are being executed.
    pub(crate) fn running(&self) -> usize {
        self.open.len()
    }
}
