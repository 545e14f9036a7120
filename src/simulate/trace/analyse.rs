//! What running as a DAG would have made of a trace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::error::PlanError;
use crate::event::{FailureReason, RunOutcome};
use crate::plan::{Step, StepId};
use crate::policy::Policy;
use crate::simulate::what_if::{Task, WhatIf, Work};
use crate::simulate::{DEFAULT_TOOL, Ended};

use super::{Trace, TraceError};

/// The most pairs of steps of which one waits for the other.
const MOST_LINKS: usize = 1_000_000;
/// The most spans around a step that are looked at.
const MOST_DEPTH: usize = 256;

/// What an answer about a trace rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// So many links between steps: each waits for what it is linked to, and for nothing else.
    Links(usize),
    /// Nothing: there are no links, and the steps ran one after the other. Each may have needed the one before, or none
    /// of them: the time as a DAG is the least that is possible.
    Nothing,
}

/// A trace, run again in virtual time as a DAG.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Analysis {
    /// Spans with no other inside of them.
    pub steps: usize,
    /// What the answer rests on.
    pub basis: Basis,
    /// From the first start to the last end.
    pub took: Duration,
    /// How much of that no step was running in.
    pub idle: Duration,
    /// The time of all steps together.
    pub work: Duration,
    /// The most work that had to be done one after the other.
    pub critical_path: Duration,
    /// The names of the steps of that work, in its order.
    pub critical_steps: Vec<String>,
    /// What no schedule could go below: the critical path, or the work spread evenly over the slots.
    pub bound: Duration,
    /// How long the steps would have taken as a DAG, each as long as it was.
    pub dag: Duration,
    /// What would have made that faster.
    pub what_if: WhatIf,
}

impl Trace {
    /// Runs the steps of the trace as a DAG, with so many at once.
    ///
    /// # Errors
    ///
    /// If steps overlap and nothing links them, or links have a cycle.
    pub fn analyse(&self, max_parallel: u32) -> Result<Analysis, TraceError> {
        let steps = self.steps();
        let tasks = self.tasks(&steps)?;
        let links = tasks.iter().map(|task| task.after.len()).sum();
        let overlap = self.overlap(&steps);
        let policy = Policy { max_parallel, ..Policy::default() };
        let work = Work { tasks, policy };
        let run = work.run();
        if let Ended::Finished(RunOutcome::Failed { reason: FailureReason::NoPlan(offences) }) = &run.ended
            && let Some(path) = offences.iter().find_map(cycle)
        {
            let name = |id: &StepId| work.task(id).map_or_else(String::new, |task| task.name.to_string());
            return Err(TraceError::Cycle { path: path.iter().chain(path.first()).map(name).collect() });
        }
        if let (0, Some([one, other])) = (links, overlap) {
            return Err(TraceError::NoLinks {
                overlap: [one, other].map(|index| self.spans[index].name.clone()),
                at_best: run.makespan,
                at_worst: self.in_order(&steps),
            });
        }
        let critical = run.critical_steps.iter().filter_map(|&number| work.task(run.scheduler.step(number)?.id));
        let (start, end) = self.extent();
        Ok(Analysis {
            steps: steps.len(),
            basis: if links > 0 { Basis::Links(links) } else { Basis::Nothing },
            took: nanos(end - start),
            idle: nanos(end - start).saturating_sub(self.busy(&steps)),
            work: run.work,
            critical_path: run.critical_path,
            critical_steps: critical.map(|task| task.name.to_string()).collect(),
            bound: run.bound(),
            dag: run.makespan,
            what_if: work.what_if(),
        })
    }

    /// The spans that are work: those with no other inside, and, where links say who waited for whom, without those
    /// that nothing is linked to and that everything linked happened within.
    fn steps(&self) -> Vec<usize> {
        let mut is_step = vec![true; self.spans.len()];
        self.spans.iter().filter_map(|span| span.parent).for_each(|parent| is_step[parent] = false);
        let linked: BTreeSet<usize> = self.links.iter().flat_map(|&(after, before)| [after, before]).collect();
        let first = linked.iter().map(|&index| self.spans[index].start).min();
        let last = linked.iter().map(|&index| self.spans[index].end).max();
        if let (Some(first), Some(last)) = (first, last) {
            for (index, span) in self.spans.iter().enumerate() {
                if !linked.contains(&index) && span.start <= first && span.end >= last {
                    is_step[index] = false;
                }
            }
        }
        (0..self.spans.len()).filter(|&index| is_step[index]).collect()
    }

    /// The steps with what they wait for. A link of a span is one of every step inside of it.
    fn tasks(&self, steps: &[usize]) -> Result<Vec<Task>, TraceError> {
        let mut inside: Vec<Vec<u32>> = vec![Vec::new(); self.spans.len()];
        for (number, &step) in (0..).zip(steps) {
            inside[step].push(number);
            self.around(step).for_each(|outer| inside[outer].push(number));
        }
        let task = |&index: &usize| {
            let span = &self.spans[index];
            Task {
                name: StepId::from(span.name.as_str()),
                duration: nanos(span.end - span.start),
                after: Vec::new(),
                unused: Vec::new(),
                step: Arc::new(Step::new("span", DEFAULT_TOOL)),
            }
        };
        let mut tasks: Vec<Task> = steps.iter().map(task).collect();
        let mut links = 0;
        for &(after, before) in &self.links {
            // Whoever is linked to what it is part of waits for nothing.
            let is_within = after != before && (self.is_within(after, before) || self.is_within(before, after));
            if is_within {
                continue;
            }
            links += inside[after].len().saturating_mul(inside[before].len());
            if links > MOST_LINKS {
                return Err(TraceError::TooManyLinks { limit: MOST_LINKS });
            }
            for &later in &inside[after] {
                tasks[later as usize].after.extend(&inside[before]);
            }
        }
        for task in &mut tasks {
            task.after.sort_unstable();
            task.after.dedup();
        }
        Ok(tasks)
    }

    fn is_within(&self, inner: usize, outer: usize) -> bool {
        self.around(inner).any(|around| around == outer)
    }

    /// The spans around one, from the inside out. A file may say that two are inside of each other.
    fn around(&self, span: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.spans[span].parent, |&parent| self.spans[parent].parent).take(MOST_DEPTH)
    }

    /// Two steps that ran at the same time, if there are any.
    fn overlap(&self, steps: &[usize]) -> Option<[usize; 2]> {
        let in_order = self.by_start(steps);
        let mut latest: Option<usize> = None;
        for index in in_order {
            match latest {
                Some(before) if self.spans[before].end > self.spans[index].start => return Some([before, index]),
                _ => latest = Some(index),
            }
        }
        None
    }

    /// How long the steps take if each waits for everything that was over before it began.
    fn in_order(&self, steps: &[usize]) -> Duration {
        let mut by_end = steps.to_vec();
        by_end.sort_by_key(|&index| self.spans[index].end);
        let mut over = by_end.into_iter().peekable();
        let mut lengths = vec![0; self.spans.len()];
        let mut longest_over = 0;
        for index in self.by_start(steps) {
            let span = &self.spans[index];
            while let Some(before) = over.next_if(|&before| before != index && self.spans[before].end <= span.start) {
                longest_over = longest_over.max(lengths[before]);
            }
            lengths[index] = longest_over + span.end - span.start;
        }
        nanos(lengths.into_iter().max().unwrap_or(0))
    }

    /// The time in which at least one step was running.
    fn busy(&self, steps: &[usize]) -> Duration {
        let mut busy = 0;
        let mut until = i64::MIN;
        for index in self.by_start(steps) {
            let span = &self.spans[index];
            busy += (span.end - span.start.max(until)).max(0);
            until = until.max(span.end);
        }
        nanos(busy)
    }

    fn by_start(&self, steps: &[usize]) -> Vec<usize> {
        let mut in_order = steps.to_vec();
        in_order.sort_by_key(|&index| (self.spans[index].start, self.spans[index].end));
        in_order
    }

    fn extent(&self) -> (i64, i64) {
        let start = self.spans.iter().map(|span| span.start).min().unwrap_or(0);
        (start, self.spans.iter().map(|span| span.end).max().unwrap_or(start))
    }
}

fn cycle(offence: &PlanError) -> Option<&Vec<StepId>> {
    match offence {
        PlanError::Cycle { path } => Some(path),
        _ => None,
    }
}

fn nanos(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
