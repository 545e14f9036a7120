//! How long tools took, from the events of earlier runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::event::{AttemptNumber, Graft, RunEventKind, StepNumber, Timestamp};

/// The newest runs that are looked at.
pub(super) const MOST_RUNS: usize = 8;
/// Events that are looked at, over all of them: a new run does not wait long for what it is told.
pub(super) const MOST_EVENTS: usize = 256;

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

    /// Takes up what happened `at` a time; what happened in a run in its order.
    pub(super) fn take(&mut self, at: Timestamp, clue: Clue) {
        self.events += 1;
        if let Some(Start { default_tool }) = clue.start {
            self.run = Run { default_tool, ..Run::default() };
        }
        if let Some(steps) = clue.graft {
            self.run.add(steps);
        }
        match (clue.event, clue.attempt, clue.step) {
            (Kind::AttemptStarted, Some(attempt), _) => {
                self.run.started.insert(attempt, at);
            }
            (Kind::StepSucceeded, Some(attempt), Some(step)) => {
                let Some(started) = self.run.started.remove(&attempt) else { return };
                let named = self.run.tools.get(step as usize).and_then(Option::as_deref);
                if let Some(tool) = named.or(self.run.default_tool.as_deref()) {
                    let calls = self.tools.entry(tool.to_owned()).or_default();
                    calls.count += 1;
                    calls.micros = calls.micros.saturating_add((at - started).as_micros() as u64);
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
    fn add(&mut self, steps: Steps) {
        // Numbers are given out one after the other, so there are no gaps in a sound history.
        if steps.first as usize == self.tools.len() {
            self.tools.extend(steps.added.into_iter().map(|added| added.step.tool));
        }
    }
}

/// What an event has to do with how long tools take. Read from JSON it costs a fraction of the event: most of that is
/// passed over.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Clue {
    event: Kind,
    step: Option<StepNumber>,
    attempt: Option<AttemptNumber>,
    start: Option<Start>,
    graft: Option<Steps>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    AttemptStarted,
    StepSucceeded,
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Start {
    default_tool: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Steps {
    first: StepNumber,
    added: Vec<Added>,
}

#[derive(Debug, Deserialize)]
struct Added {
    step: Named,
}

#[derive(Debug, Deserialize)]
struct Named {
    tool: Option<Arc<str>>,
}

impl From<&RunEventKind> for Clue {
    fn from(kind: &RunEventKind) -> Self {
        match kind {
            RunEventKind::RunStarted { start } => {
                Self { start: Some(Start { default_tool: start.default_tool.clone() }), ..Self::default() }
            }
            RunEventKind::PlanAccepted { graft, .. }
            | RunEventKind::StepDrafted { graft, .. }
            | RunEventKind::StepExpanded { graft, .. } => Self { graft: Some(Steps::of(graft)), ..Self::default() },
            &RunEventKind::AttemptStarted { step, attempt } => {
                Self { event: Kind::AttemptStarted, step: Some(step), attempt: Some(attempt), ..Self::default() }
            }
            &RunEventKind::StepSucceeded { step, attempt, .. } => {
                Self { event: Kind::StepSucceeded, step: Some(step), attempt, ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

impl Steps {
    fn of(graft: &Graft) -> Self {
        let tools = graft.added.iter().map(|added| added.step.tool.clone());
        Self { first: graft.first, added: tools.map(|tool| Added { step: Named { tool } }).collect() }
    }
}
