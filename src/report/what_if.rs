//! A recorded run as work that can be simulated again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::event::StepNumber;
use crate::plan::StepId;
use crate::policy::Policy;
use crate::simulate::what_if::{Earlier, Task, Unused, WhatIf, Work, as_done_by, readers, selective, unused};
use crate::tool::ToolSpec;

use super::{AttemptReport, RunReport, StepOutcome, StepReport};

/// Where more dependencies than this would lead from what a step became to what waits for it, one step leads from the
/// ones to the others: it would need a slot for a moment, so that a few are better written out.
const MOST_WRITTEN_OUT: usize = 1_024;

impl RunReport {
    /// What would have made the run faster: it is run again in virtual time, each step of its last plan as long as its
    /// tool really ran and with the pauses between its attempts, with one thing changed at a time. If it was gone on with
    /// on more slots, or on fewer, it has the most of them all the time. What a fork took over takes no time. Takes some
    /// dozen milliseconds at most.
    pub fn what_if(&self) -> WhatIf {
        self.as_work().what_if()
    }

    fn as_work(&self) -> Work {
        let tasks: Vec<StepReport<'_>> = self.steps().filter(|step| self.took_part(step)).collect();
        let indexes: BTreeMap<StepNumber, u32> = tasks.iter().map(|step| step.number).zip(0..).collect();
        let mut children: BTreeMap<StepNumber, Vec<u32>> = BTreeMap::new();
        for step in &tasks {
            // Whoever waits for an expanded step waits for everything inside of it, however deep.
            for parent in self.parents(step.parent) {
                children.entry(parent).or_default().push(indexes[&step.number]);
            }
        }
        let with_children = |number: StepNumber| {
            let inside = children.get(&number).into_iter().flatten().copied();
            indexes.get(&number).copied().into_iter().chain(inside)
        };
        let long = self.with_long_ends(tasks.iter().map(|step| step.number), &children);
        let ends: BTreeMap<StepNumber, u32> = long.into_iter().zip(tasks.len() as u32..).collect();
        // What is to be waited for if somebody waits for a step.
        let over = |number: StepNumber| {
            let end = ends.get(&number).copied();
            end.into_iter().chain(with_children(number).filter(move |_| end.is_none()))
        };
        let policy = self.widest_policy();
        let tools: BTreeMap<&str, &ToolSpec> =
            self.start().tools.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let (readers, selective) = (readers(self.start()), selective(self.start()));
        let reads = |task: u32| readers.contains(tasks[task as usize].tool);
        let all = indexes.keys().chain(children.keys()).copied();
        let free: BTreeSet<StepNumber> = all.filter(|number| with_children(*number).all(reads)).collect();
        let task = |step: &StepReport<'_>| {
            let before = self.scheduler.dependencies(step.number);
            let parent = step.parent.and_then(|parent| indexes.get(&parent).copied());
            let is_free = |number: &StepNumber| free.contains(number);
            let may_do_without = selective.contains(step.tool) && is_free(&step.number);
            let unused = if may_do_without { self.unused(step, before) } else { Vec::new() };
            let unused = unused.into_iter().filter(is_free).filter_map(|number| {
                Some(Unused { dependency: self.scheduler.step(number)?.id.clone(), tasks: over(number).collect() })
            });
            let attempts: Vec<&AttemptReport<'_>> = step.own_attempts().collect();
            let earlier = attempts.windows(2).map(|pair| Earlier::new(pair[0].duration(), pair[1].paused));
            Task {
                name: step.id.clone(),
                earlier: earlier.collect(),
                duration: attempts.last().map_or(Duration::ZERO, |last| last.duration()),
                after: before.iter().flat_map(|number| over(*number)).chain(parent).collect(),
                unused: unused.collect(),
                step: as_done_by(step.definition, tools.get(step.tool).copied(), &policy),
                whole: Some(indexes[&step.number]),
            }
        };
        let ends = ends.keys().map(|number| Task::end(with_children(*number).collect()));
        let tasks = tasks.iter().map(task).chain(ends).collect();
        Work { tasks, policy }
    }

    /// The steps that became so much (`inside`), and that so many of these steps wait for, that their end is a step of its
    /// own.
    pub(crate) fn with_long_ends<T>(
        &self,
        steps: impl Iterator<Item = StepNumber>,
        inside: &BTreeMap<StepNumber, Vec<T>>,
    ) -> Vec<StepNumber> {
        let mut dependents: BTreeMap<StepNumber, usize> = BTreeMap::new();
        for before in steps.flat_map(|step| self.scheduler.dependencies(step)) {
            *dependents.entry(*before).or_default() += 1;
        }
        let dependents = |number: &StepNumber| dependents.get(number).copied().unwrap_or_default();
        let is_long = |(number, inside): &(&StepNumber, &Vec<T>)| dependents(number) * inside.len() > MOST_WRITTEN_OUT;
        inside.iter().filter(is_long).map(|(number, _)| *number).collect()
    }

    /// The policy with the most room that the run ever had: with less, it might not have been as fast as it was.
    pub(crate) fn widest_policy(&self) -> Policy {
        let pools = |policy: &Arc<Policy>| {
            let mut pools = self.record.plan().map(|plan| plan.pools.clone()).unwrap_or_default();
            pools.extend(policy.pools.clone());
            pools
        };
        // A pool that had no size once is as large as anybody wants.
        let wider = |one: BTreeMap<String, u32>, other: BTreeMap<String, u32>| {
            let size = |(pool, size): (String, u32)| other.get(&pool).map(|other| (pool, size.max(*other)));
            one.into_iter().filter_map(size).collect()
        };
        let pools = self.record.policies().iter().map(pools).reduce(wider).unwrap_or_default();
        Policy { max_parallel: self.slots(), pools, ..self.scheduler.policy().clone() }
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
        has_run && step.member
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Launch, Output, Returned};
    use crate::journal::RunId;
    use crate::plan::{Plan, Step};
    use crate::simulate::Simulation;
    use crate::tool::ToolSpec;

    use super::*;

    const PARTS: u64 = 20;
    const DEPENDENTS: u64 = 60;

    /// Many steps wait for one that becomes many.
    fn large_expansion(slots: u32) -> RunReport {
        let one = Step::new("one", "split").estimate_ms(100);
        let dependent = |n| Step::new(format!("d{n}"), "x").estimate_ms(7 + n).depends_on(["one"]);
        let part = |n| Step::new(format!("p{n}"), "x").estimate_ms(5 + 3 * n);
        let parts: Plan = (0..PARTS).map(part).collect();
        let results = move |launch: &Launch| match launch.id.as_str() {
            "one" => Ok(Returned::Plan(Box::new(parts.clone()))),
            _ => Ok(Returned::Value(Output::inline(().into()))),
        };
        let plan = [one].into_iter().chain((0..DEPENDENTS).map(dependent)).collect();
        let tools = ["split", "x"].map(|name| ToolSpec::new(name, "")).into();
        let run = Simulation::new(plan).tools(tools).max_parallel(slots).results(results).run();
        RunReport::from_history(RunId::random(), &run.history).expect("a possible history")
    }

    #[test]
    fn who_waits_for_a_large_expansion_does_not_wait_for_each_part_by_itself() {
        for slots in [DEPENDENTS as u32, 7, 1] {
            let work = large_expansion(slots).as_work();
            let steps = (1 + PARTS + DEPENDENTS) as usize;
            let edges = |work: &Work| work.tasks.iter().map(|task| task.after.len()).sum::<usize>();
            assert_eq!((work.tasks.len(), edges(&work) as u64), (steps + 1, 2 * PARTS + 1 + DEPENDENTS));

            // Written out it comes to the same, and nobody hears of what is not a step.
            let mut long = work.clone();
            long.tasks.truncate(steps);
            let parts = |before: u32| match &work.tasks[before as usize] {
                Task { whole: None, after, .. } => after.clone(),
                _ => vec![before],
            };
            for task in &mut long.tasks {
                task.after = task.after.iter().flat_map(|before| parts(*before)).collect();
                for unused in &mut task.unused {
                    unused.tasks = unused.tasks.iter().flat_map(|before| parts(*before)).collect();
                }
            }
            assert!(edges(&long) as u64 > PARTS * DEPENDENTS);
            let what_if = work.what_if();
            assert_eq!(what_if, long.what_if(), "{slots} slots");
            assert!(what_if.savings.len() > 1, "{what_if:?}");
        }
    }
}
