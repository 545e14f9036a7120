//! How long tools took, from the events of earlier runs.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use crate::event::{AttemptNumber, Graft, RunEventKind, StepNumber, Timestamp};

/// The newest runs that are looked at.
pub(super) const MOST_RUNS: usize = 16;
/// Events that are looked at, over all of them: a new run does not wait long for what it is told.
const MOST_EVENTS: usize = 2_048;
/// As many planned steps take as long to read as an event.
const STEPS: usize = 4;
/// As many of the beginning of a run are looked at, and as many of its end, for as long as a tool of it is missing.
const MOST_OF_AN_END: u64 = 512;
/// So many are looked at though none is missing: what is planned later may have other tools.
const FEWEST_EVENTS: usize = 128;
/// A tool of a run is missing until it was called so often, or as often as there are steps of it.
const ENOUGH_CALLS: usize = 16;

/// The time of successful calls by tool, taken up event by event, the newest run first.
#[derive(Debug, Default)]
pub(super) struct ToolMeans {
    tools: BTreeMap<String, Calls>,
    /// What a run was told when it started, in milliseconds: of runs before it.
    told: BTreeMap<String, u64>,
    events: usize,
    /// The steps of their plans.
    planned: usize,
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
    default_tool: Option<Arc<str>>,
    started: HashMap<AttemptNumber, Timestamp>,
    /// How many more calls of each tool are looked for.
    missing: HashMap<Arc<str>, usize>,
    events: usize,
}

/// The parts of a run's events that are looked at, of so many.
pub(super) fn both_ends(events: u64) -> [Range<u64>; 2] {
    [0..events.min(MOST_OF_AN_END), MOST_OF_AN_END.max(events.saturating_sub(MOST_OF_AN_END))..events]
}

impl ToolMeans {
    /// Whether enough of a run was looked at.
    pub(super) fn has_enough(&self) -> bool {
        self.events >= MOST_EVENTS || self.run.events >= FEWEST_EVENTS && self.run.missing.is_empty()
    }

    /// Whether enough of all runs was looked at.
    pub(super) fn is_full(&self) -> bool {
        self.events + self.planned / STEPS >= MOST_EVENTS
    }

    /// Takes up what happened `at` a time; what happened in a run in its order.
    pub(super) fn take(&mut self, at: Timestamp, clue: Clue) {
        self.events += 1;
        if let Some(Start { default_tool, tools }) = clue.start {
            self.run = Run { default_tool, ..Run::default() };
            for Told { name, mean_ms } in tools {
                if let Some(mean) = mean_ms {
                    self.told.entry(name).or_insert(mean);
                }
            }
        }
        self.run.events += 1;
        if let Some(steps) = clue.graft {
            self.planned += steps.added.len();
            self.run.add(steps);
        }
        match (clue.event, clue.attempt, clue.step) {
            (Kind::AttemptStarted, Some(attempt), _) => {
                self.run.started.insert(attempt, at);
            }
            (Kind::StepSucceeded, Some(attempt), Some(step)) => {
                let Some(started) = self.run.started.remove(&attempt) else { return };
                if let Some(tool) = self.run.called(step) {
                    let calls = self.tools.entry(tool).or_default();
                    calls.count += 1;
                    calls.micros = calls.micros.saturating_add((at - started).as_micros() as u64);
                }
            }
            _ => {}
        }
    }

    /// The mean of each tool in milliseconds, rounded up: nothing takes no time at all. Of one that was not called since,
    /// what was known before is still known.
    pub(super) fn into_millis(self) -> BTreeMap<String, u64> {
        let mean = |calls: Calls| (calls.micros / calls.count.max(1)).div_ceil(1_000).max(1);
        let mut means = self.told;
        means.extend(self.tools.into_iter().map(|(tool, calls)| (tool, mean(calls))));
        means
    }
}

impl Run {
    fn add(&mut self, steps: Steps) {
        // Numbers are given out one after the other, so there are no gaps in a sound history.
        if steps.first as usize != self.tools.len() {
            return;
        }
        for added in steps.added {
            let tool = added.step.tool.or_else(|| self.default_tool.clone());
            if let Some(tool) = &tool {
                let missing = self.missing.entry(Arc::clone(tool)).or_default();
                *missing = ENOUGH_CALLS.min(*missing + 1);
            }
            self.tools.push(tool);
        }
    }

    /// The tool of a step, which has been called.
    fn called(&mut self, step: StepNumber) -> Option<String> {
        let tool = self.tools.get(step as usize)?.as_deref()?;
        let missing = self.missing.remove(tool).unwrap_or(0);
        if missing > 1 {
            self.missing.insert(tool.into(), missing - 1);
        }
        Some(tool.to_owned())
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
    default_tool: Option<Arc<str>>,
    #[serde(default)]
    tools: Vec<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    name: String,
    mean_ms: Option<u64>,
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
                let told = start.tools.iter().map(|tool| Told { name: tool.name.clone(), mean_ms: tool.mean_ms });
                let default_tool = start.default_tool.as_deref().map(Arc::from);
                Self { start: Some(Start { default_tool, tools: told.collect() }), ..Self::default() }
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
