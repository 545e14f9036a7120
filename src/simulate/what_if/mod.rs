//! What would make a run faster: the same run again in virtual time, with one thing changed.
//!
//! The time that a step spends on the critical path says little about what is won by making it faster: when one path
//! shrinks, the next one takes over. So each change is simulated, with the same scheduler, and what is left of the run
//! is compared. Where no step ever waits for anything but the steps before it, that takes no scheduler.

mod search;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::RunStart;
use crate::plan::{Plan, Step, StepId};
use crate::policy::Policy;
use crate::reference::each_reference;
use crate::tool::{Effect, ToolSpec};

pub(crate) use work::{Earlier, Task, Unused, Work};
pub(in crate::simulate) use work::{Trial, index};

/// A change that somebody could make to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The step takes half as long.
    Halve {
        /// The step.
        step: StepId,
    },
    /// More steps may run at once.
    Slots {
        /// How many there were.
        from: u32,
        /// How many there would be.
        to: u32,
    },
    /// A pool is larger.
    Pool {
        /// The pool.
        pool: String,
        /// Its size.
        from: u32,
        /// Its size then.
        to: u32,
    },
    /// The step does not wait for a step that it declares and never refers to.
    Independent {
        /// The step.
        step: StepId,
        /// What it would not wait for.
        dependency: StepId,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halve { step } => write!(f, "halve {step}"),
            Self::Slots { to, .. } => write!(f, "cap {to}"),
            Self::Pool { pool, to, .. } => write!(f, "pool {pool}={to}"),
            Self::Independent { step, dependency } => write!(f, "{step} waits for {dependency} and never uses it"),
        }
    }
}

/// What a change would save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saving {
    /// The change.
    pub change: Change,
    /// By how much the run would be shorter.
    pub saves: Duration,
}

/// A run, and what it would be with one thing changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// How long the run takes in virtual time as it is: without the scheduler's own time and planning. A step that was
    /// tried again pauses as long as it did; that others of its tool waited with it, where a server wanted no call, is
    /// not in it. Zero if it has so many steps that it was not simulated.
    pub makespan: Duration,
    /// The changes that save most, the greatest saving first. One more slot is always among them, even if it saves
    /// nothing.
    pub savings: Vec<Saving>,
    /// How many other changes there are that might save something, and that were not tried because the run has so many
    /// steps.
    pub untried: usize,
}

impl WhatIf {
    /// Tries changes of a plan whose steps take their `estimate_ms`, as [`Simulation`](super::Simulation) has it. A plan
    /// that cannot be run has none. No step that acts is taken to be independent of others. Where `start` does not know a
    /// tool, a step whose arguments refer to some others shows that it needs no more; one that refers to none shows nothing.
    pub fn of_plan(plan: &Plan, start: &RunStart) -> Self {
        let indexes: HashMap<&StepId, u32> = plan.steps.iter().map(|step| &step.id).zip(0..).collect();
        let (readers, selective) = (readers(start), selective(start));
        let tools: HashMap<&str, &ToolSpec> = start.tools.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let spec = |step: &Step| tools.get(step.tool.as_deref().or(start.default_tool.as_deref())?).copied();
        let free = |id: &StepId, refers: bool| {
            let index = *indexes.get(id)?;
            let reads = spec(&plan.steps[index as usize]).map_or(refers, |tool| readers.contains(tool.name.as_str()));
            reads.then(|| Unused { dependency: id.clone(), tasks: [index].into() })
        };
        let mut policy = start.policy.clone();
        for (pool, size) in &plan.pools {
            policy.pools.entry(pool.clone()).or_insert(*size);
        }
        let tasks = (0..).zip(&plan.steps).map(|(whole, step)| {
            let known = as_done_by(step, spec(step), &policy);
            let mut after: Vec<u32> = step.depends_on.iter().filter_map(|id| indexes.get(id).copied()).collect();
            let declared = after.len();
            each_reference(step, |reference| {
                after.extend(reference.ok().and_then(|reference| indexes.get(&StepId::from(reference.id)).copied()));
            });
            // That of a condition says nothing about what its step uses.
            let refers = after.len() - declared > usize::from(step.when.is_some());
            let is_selective = spec(step).map_or(refers, |tool| selective.contains(tool.name.as_str()));
            Task {
                name: step.id.clone(),
                earlier: Vec::new(),
                duration: known.estimate_ms.map_or(super::DEFAULT_DURATION, Duration::from_millis),
                unused: if is_selective {
                    unused(step).into_iter().filter_map(|id| free(id, refers)).collect()
                } else {
                    Vec::new()
                },
                after,
                step: known,
                whole: Some(whole),
            }
        });
        let tasks = tasks.collect();
        Work { tasks, policy }.what_if()
    }

    /// Whether a saving is worth a word: it is one, and not below a hundredth of the run.
    pub fn is_noteworthy(&self, saving: &Saving) -> bool {
        !saving.saves.is_zero() && saving.saves >= self.makespan.mul_f64(0.01)
    }

    /// The savings to tell, at most so many of each kind: what would make the run faster, and the dependencies that seem
    /// to be unnecessary. Whether more slots would help is worth knowing also where they would not: they come on top.
    pub fn told(&self, most: usize) -> (Vec<&Saving>, Vec<&Saving>) {
        let is_slots = |saving: &&Saving| matches!(saving.change, Change::Slots { .. });
        let (slots, others): (Vec<_>, Vec<_>) = self.savings.iter().partition(is_slots);
        let noteworthy = others.into_iter().filter(|saving| self.is_noteworthy(saving));
        let (mut unnecessary, mut faster): (Vec<_>, Vec<_>) =
            noteworthy.partition(|saving| matches!(saving.change, Change::Independent { .. }));
        unnecessary.truncate(most);
        faster.truncate(most);
        faster.extend(slots);
        (faster, unnecessary)
    }
}

/// The tools whose steps can be told apart from what was done before and after: one that acts may have been waited for
/// because of what it did, and may itself wait until something else is done.
pub(crate) fn readers(start: &RunStart) -> HashSet<&str> {
    start.tools.iter().filter(|tool| tool.effect == Effect::Reads).map(|tool| tool.name.as_str()).collect()
}

/// The [readers] that use of what their step depends on only what it refers to.
pub(crate) fn selective(start: &RunStart) -> HashSet<&str> {
    let default = start.default_tool.as_deref();
    let pool =
        start.tools.iter().find(|tool| Some(tool.name.as_str()) == default).map_or("", |tool| tool.pool.as_str());
    // Records of earlier versions do not say it of tools. Those of models ask the same provider.
    let takes_inputs = |tool: &&ToolSpec| {
        tool.takes_inputs || Some(tool.name.as_str()) == default || !pool.is_empty() && tool.pool == pool
    };
    let readers = start.tools.iter().filter(|tool| tool.effect == Effect::Reads);
    readers.filter(|tool| !takes_inputs(tool)).map(|tool| tool.name.as_str()).collect()
}

/// A step with what its tool decides: the pool that it takes, and how long it should take.
pub(crate) fn as_done_by(step: &Arc<Step>, tool: Option<&ToolSpec>, policy: &Policy) -> Arc<Step> {
    let Some(tool) = tool else { return Arc::clone(step) };
    let pool = if tool.pool.is_empty() { &tool.name } else { &tool.pool };
    let is_pooled = step.uses.is_empty() && policy.pools.contains_key(pool);
    if !is_pooled && (step.estimate_ms.is_some() || tool.mean_ms.is_none()) {
        return Arc::clone(step);
    }
    let uses = if is_pooled { BTreeMap::from([(pool.clone(), 1)]) } else { step.uses.clone() };
    Arc::new(Step { uses, estimate_ms: step.estimate_ms.or(tool.mean_ms), ..Step::clone(step) })
}

/// The dependencies that a step declares and never refers to. That means something only where its tool is
/// [selective].
pub(crate) fn unused(step: &Step) -> Vec<&StepId> {
    if step.depends_on.is_empty() {
        return Vec::new();
    }
    let mut used = HashSet::new();
    each_reference(step, |reference| used.extend(reference.map(|reference| reference.id.to_owned())));
    // One that is declared twice is unused once.
    step.depends_on.iter().filter(|id| used.insert(id.as_str().to_owned())).collect()
}
