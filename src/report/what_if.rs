//! A recorded run as work that can be simulated again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::event::StepNumber;
use crate::plan::StepId;
use crate::simulate::what_if::{Earlier, Task, Unused, WhatIf, Work, readers, unused};

use super::{AttemptReport, RunReport, StepOutcome, StepReport};

impl RunReport {
    /// What would have made the run faster: it is run again in virtual time, each step of its last plan as long as its
    /// tool really ran and with the pauses between its attempts, with one thing changed at a time. What a fork took over
    /// takes no time. Takes some dozen milliseconds at most.
    pub fn what_if(&self) -> WhatIf {
        let tasks: Vec<StepReport<'_>> = self.steps().filter(|step| self.took_part(step)).collect();
        let indexes: BTreeMap<StepNumber, u32> = tasks.iter().map(|step| step.number).zip(0..).collect();
        let mut children: BTreeMap<StepNumber, Vec<u32>> = BTreeMap::new();
        for step in &tasks {
            // Whoever waits for an expanded step waits for everything inside of it, however deep.
            for parent in self.parents(step) {
                children.entry(parent).or_default().push(indexes[&step.number]);
            }
        }
        let with_children = |number: StepNumber| {
            let inside = children.get(&number).into_iter().flatten().copied();
            indexes.get(&number).copied().into_iter().chain(inside)
        };
        let readers = readers(self.start());
        let reads = |task: &u32| readers.contains(tasks[*task as usize].tool);
        let task = |step: &StepReport<'_>| {
            let before = self.scheduler.dependencies(step.number);
            let parent = step.parent.and_then(|parent| indexes.get(&parent).copied());
            let free = |number: StepNumber| {
                let tasks: Vec<u32> = with_children(number).collect();
                let dependency = self.scheduler.step(number)?.id.clone();
                (!tasks.is_empty() && tasks.iter().all(reads)).then_some(Unused { dependency, tasks })
            };
            let is_free = with_children(step.number).all(|task| reads(&task));
            let unused = if is_free { self.unused(step, before) } else { Vec::new() };
            let attempts: Vec<&AttemptReport<'_>> = step.own_attempts().collect();
            let earlier = attempts.windows(2).map(|pair| Earlier::new(pair[0].duration(), pair[1].paused));
            Task {
                name: step.id.clone(),
                earlier: earlier.collect(),
                duration: attempts.last().map_or(Duration::ZERO, |last| last.duration()),
                after: before.iter().flat_map(|number| with_children(*number)).chain(parent).collect(),
                unused: unused.into_iter().filter_map(free).collect(),
                step: Arc::clone(step.definition),
                whole: indexes[&step.number],
            }
        };
        let mut policy = self.scheduler.policy().clone();
        if let Some(plan) = self.record.plan() {
            for (pool, size) in &plan.pools {
                policy.pools.entry(pool.clone()).or_insert(*size);
            }
        }
        Work { tasks: tasks.iter().map(task).collect(), policy }.what_if()
    }

    /// The steps that one waited for and that it never refers to.
    fn unused(&self, step: &StepReport<'_>, before: &[StepNumber]) -> Vec<StepNumber> {
        let unused: HashSet<&StepId> = unused(step.definition).into_iter().collect();
        let is_unused = |number: &&StepNumber| {
            self.scheduler.step(**number).is_some_and(|before| unused.contains(&before.definition.id))
        };
        if unused.is_empty() { Vec::new() } else { before.iter().filter(is_unused).copied().collect() }
    }

    /// Whether a step of the last plan was something that others waited for, or would have.
    fn took_part(&self, step: &StepReport<'_>) -> bool {
        let has_run = match step.outcome {
            StepOutcome::Succeeded | StepOutcome::Failed => true,
            StepOutcome::Skipped(because) => because.failed().is_none(),
            StepOutcome::Cancelled | StepOutcome::Unknown | StepOutcome::Unapproved => !step.attempts.is_empty(),
            StepOutcome::Superseded => false,
        };
        has_run && self.is_planned(step)
    }
}
