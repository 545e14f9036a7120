//! How long tools took, from the events of earlier runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::event::{AttemptNumber, Graft, RunEvent, RunEventKind, Timestamp};

/// The newest runs that are looked at.
pub(super) const MOST_RUNS: usize = 8;
/// Events that are looked at, over all of them: a new run does not wait long for what it is told.
pub(super) const MOST_EVENTS: usize = 512;

/// The time of successful calls by tool, taken up event by event.
#[derive(Debug, Default)]
pub(super) struct Means {
    tools: BTreeMap<String, Calls>,
    events: usize,
    run: Run,
}

#[derive(Debug, Default)]
struct Calls {
    count: u64,
    micros: u64,
}

/// What is known of the run whose events are being taken up.
#[derive(Debug, Default)]
struct Run {
    /// The tool of each step, by its number.
    tools: Vec<Option<Arc<str>>>,
    default_tool: Option<String>,
    started: HashMap<AttemptNumber, Timestamp>,
}

impl Means {
    /// Whether enough was looked at.
    pub(super) fn is_full(&self) -> bool {
        self.events >= MOST_EVENTS
    }

    /// Takes up an event; those of a run in their order.
    pub(super) fn take(&mut self, event: &RunEvent) {
        self.events += 1;
        match &event.kind {
            RunEventKind::RunStarted { start } => {
                self.run = Run { default_tool: start.default_tool.clone(), ..Run::default() };
            }
            RunEventKind::PlanAccepted { graft, .. }
            | RunEventKind::StepDrafted { graft, .. }
            | RunEventKind::StepExpanded { graft, .. } => self.run.add(graft),
            RunEventKind::AttemptStarted { attempt, .. } => {
                self.run.started.insert(*attempt, event.at);
            }
            RunEventKind::StepSucceeded { step, attempt: Some(attempt), .. } => {
                let Some(started) = self.run.started.remove(attempt) else { return };
                let named = self.run.tools.get(*step as usize).and_then(Option::as_deref);
                if let Some(tool) = named.or(self.run.default_tool.as_deref()) {
                    let calls = self.tools.entry(tool.to_owned()).or_default();
                    calls.count += 1;
                    calls.micros = calls.micros.saturating_add((event.at - started).as_micros() as u64);
                }
            }
            _ => {}
        }
    }

    /// The mean of each tool in milliseconds, rounded up: nothing takes no time at all.
    pub(super) fn into_millis(self) -> BTreeMap<String, u64> {
        let mean = |calls: Calls| (calls.micros / calls.count.max(1)).div_ceil(1_000).max(1);
        self.tools.into_iter().map(|(tool, calls)| (tool, mean(calls))).collect()
    }
}

impl Run {
    fn add(&mut self, graft: &Graft) {
        // Numbers are given out one after the other, so there are no gaps in a sound history.
        if graft.first as usize == self.tools.len() {
            self.tools.extend(graft.added.iter().map(|added| added.step.tool.clone()));
        }
    }
}
