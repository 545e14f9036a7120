//! A recorded run as work that can be simulated again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{SkipReason, StepNumber};
use crate::plan::StepId;
use crate::simulate::what_if::{Task, WhatIf, Work, unused};
use crate::tool::Effect;

use super::{RunReport, StepOutcome, StepReport};

impl RunReport {
    /// What would have made the run faster: it is run again in virtual time, each step as long as its tool really ran,
    /// with one thing changed at a time. Takes some dozen milliseconds.
    pub fn what_if(&self) -> WhatIf {
        let tasks: Vec<StepReport<'_>> = self.steps().filter(took_part).collect();
        let indexes: BTreeMap<StepNumber, u32> = tasks.iter().map(|step| step.number).zip(0..).collect();
        let mut children: BTreeMap<StepNumber, Vec<u32>> = BTreeMap::new();
        for step in &tasks {
            // Whoever waits for an expanded step waits for everything inside of it, however deep.
            let mut around = step.parent;
            while let Some(parent) = around {
                children.entry(parent).or_default().push(indexes[&step.number]);
                around = self.scheduler.step(parent).and_then(|parent| parent.parent);
            }
        }
        let with_children = |number: StepNumber| {
            let inside = children.get(&number).into_iter().flatten().copied();
            indexes.get(&number).copied().into_iter().chain(inside)
        };
        let task = |step: &StepReport<'_>| {
            let before = self.scheduler.dependencies(step.number);
            let parent = step.parent.and_then(|parent| indexes.get(&parent).copied());
            Task {
                name: step.id.clone(),
                duration: step.duration(),
                after: before.iter().flat_map(|number| with_children(*number)).chain(parent).collect(),
                unused: self.unused(step, before).into_iter().flat_map(with_children).collect(),
                step: Arc::clone(step.definition),
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

    /// The steps that one waited for without using what they found. One that acts may have been waited for because of
    /// what it did.
    fn unused(&self, step: &StepReport<'_>, before: &[StepNumber]) -> Vec<StepNumber> {
        let unused: Vec<&StepId> = unused(step.definition);
        let acts = |name: &str| self.start().tools.iter().any(|tool| tool.name == name && tool.effect == Effect::Acts);
        let is_unused = |number: &&StepNumber| {
            let before = self.scheduler.step(**number);
            before.is_some_and(|before| unused.contains(&&before.definition.id) && !acts(before.tool))
        };
        if unused.is_empty() { Vec::new() } else { before.iter().filter(is_unused).copied().collect() }
    }
}

/// Whether a step was something that others waited for.
fn took_part(step: &StepReport<'_>) -> bool {
    matches!(step.outcome, StepOutcome::Succeeded | StepOutcome::Failed | StepOutcome::Skipped(SkipReason::Condition))
}
