//! What running as a DAG would have made of a trace.

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crate::error::PlanError;
use crate::event::{FailureReason, RunOutcome};
use crate::plan::{Step, StepId};
use crate::policy::Policy;
use crate::simulate::Ended;
use crate::simulate::what_if::{Earlier, Task, Trial, WhatIf, Work, index};

use super::steps::{Piece, Steps};
use super::{Trace, TraceError, union};

/// What an answer about a trace rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// So many links between steps: each waits for what it is linked to, and for nothing else. With none, every step
    /// says itself that it waited for nothing.
    Links(usize),
    /// Nothing: there are no links, and the steps ran one after the other. Each may have needed the one before, or none
    /// of them: the time as a DAG is the least that is possible.
    Nothing,
}

/// A trace, run again in virtual time as a DAG.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Analysis {
    /// Spans that are work of their own, as the [module](super) has it.
    pub steps: usize,
    /// What the answer rests on.
    pub basis: Basis,
    /// From the first start to the last end.
    pub took: Duration,
    /// How much of that nothing in the trace was running in.
    pub idle: Duration,
    /// The time of all steps together, and of what was around them.
    pub work: Duration,
    /// How much of the work no link says anything of: it may have waited for other work, or other work for it.
    pub unlinked: Duration,
    /// The name of a span on another thread around everything linked, which is taken to have waited for that.
    pub around: Option<String>,
    /// The most work that had to be done one after the other, with the pauses between its attempts.
    pub critical_path: Duration,
    /// The names of the steps of that work, in its order.
    pub critical_steps: Vec<String>,
    /// What no schedule could go below: the critical path, or the work spread evenly over the slots.
    pub bound: Duration,
    /// How long the run would have taken as a DAG, each step as long as it was, and the idle time, too.
    pub dag: Duration,
    /// What would have made that faster.
    pub what_if: WhatIf,
}

impl Trace {
    /// Runs the steps of the trace as a DAG, with so many at once, and with the pools that it has.
    ///
    /// # Errors
    ///
    /// If steps overlap and nothing links them, or links have a cycle.
    pub fn analyse(&self, max_parallel: u32) -> Result<Analysis, TraceError> {
        let steps = Steps::of(self)?;
        let pieces = &steps.pieces;
        let mut wholes = HashMap::new();
        let tasks = (0..).zip(pieces).map(|(number, piece)| {
            let later = || piece.later.iter().map(|later| nanos(later.end.saturating_sub(later.start)));
            let durations = iter::once(nanos(piece.nanos())).chain(later());
            let pauses = || piece.pauses().map(|(start, end)| nanos(end.saturating_sub(start)));
            let takes = durations.clone().chain(pauses()).fold(Duration::ZERO, Duration::saturating_add);
            let step = Step {
                // Which come first is all that it says, and many are shorter than a millisecond.
                estimate_ms: Some(u64::try_from(takes.as_micros()).unwrap_or(u64::MAX)),
                uses: self.spans[piece.span].uses.clone(),
                ..Step::new("span", "a span")
            };
            Task {
                name: StepId::from(self.name(piece)),
                earlier: durations.zip(pauses()).map(|(took, pause)| Earlier::new(took, pause)).collect(),
                duration: later().next_back().unwrap_or(nanos(piece.nanos())),
                after: piece.after.clone(),
                unused: Vec::new(),
                step: Arc::new(step),
                // Stretches of a frame are made faster together.
                whole: Some(*wholes.entry(piece.span).or_insert(number)),
            }
        });
        let policy = Policy { max_parallel, pools: self.pools.clone(), ..Policy::default() };
        let work = Work { tasks: tasks.collect(), policy };
        let run = work.run();
        let piece = |id: &StepId| pieces.get(index(id)? as usize);
        if let Ended::Finished(RunOutcome::Failed { reason: FailureReason::NoPlan(offences) }) = &run.ended
            && let Some(path) = offences.iter().find_map(cycle)
        {
            let path = path.iter().chain(path.first()).filter_map(piece);
            return Err(TraceError::Cycle { path: path.map(|piece| self.name(piece).to_owned()).collect() });
        }
        let (start, end) = self.extent();
        let took = nanos(end.saturating_sub(start));
        let idle = took.saturating_sub(self.busy(pieces));
        if let (None, Some(overlap)) = (steps.links, overlap(pieces)) {
            return Err(TraceError::NoLinks {
                overlap: overlap.map(|piece| self.name(piece).to_owned()),
                at_best: run.makespan + idle,
                at_worst: in_order(pieces).max(run.makespan) + idle,
            });
        }
        let (critical_path, critical) = critical(&work);
        let mut critical: Vec<&Piece> = critical.into_iter().map(|task| &pieces[task as usize]).collect();
        // Stretches of a frame with nothing in between.
        critical.dedup_by_key(|piece| piece.span);
        Ok(Analysis {
            steps: steps.count,
            basis: steps.links.map_or(Basis::Nothing, Basis::Links),
            took,
            idle,
            work: run.work,
            unlinked: nanos(steps.unlinked),
            around: self.around.as_deref().map(|name| named(name).to_owned()),
            critical_path,
            critical_steps: critical.into_iter().map(|piece| self.name(piece).to_owned()).collect(),
            bound: critical_path.max(run.work / max_parallel.max(1)),
            dag: run.makespan + idle,
            what_if: work.what_if(),
        })
    }

    fn name(&self, piece: &Piece) -> &str {
        named(&self.spans[piece.span].name)
    }

    /// The time in which at least one span was running, or was not to be tried again.
    fn busy(&self, pieces: &[Piece]) -> Duration {
        let pauses = pieces.iter().flat_map(Piece::pauses);
        nanos(union(self.spans.iter().map(|span| (span.start, span.end)).chain(pauses).collect()))
    }

    fn extent(&self) -> (i64, i64) {
        let start = self.spans.iter().map(|span| span.start).min().unwrap_or(0);
        (start, self.spans.iter().map(|span| span.end).max().unwrap_or(start))
    }
}

fn named(name: &str) -> &str {
    if name.is_empty() { "(unnamed)" } else { name }
}

/// The longest chain of tasks that wait for each other, by what they take with their pauses.
fn critical(work: &Work) -> (Duration, Vec<u32>) {
    let mut ends = vec![0; work.tasks.len()];
    let mut before = vec![None; work.tasks.len()];
    for task in work.in_order().unwrap_or_default() {
        let end = |before: &u32| ends[*before as usize];
        let last = work.tasks[task as usize].after.iter().copied().rev().max_by_key(end);
        let took: u64 = work.micros(Trial::Nothing, task).map(|(took, pause)| took + pause).sum();
        ends[task as usize] = last.as_ref().map_or(0, end) + took;
        before[task as usize] = last;
    }
    let end = (0..work.tasks.len() as u32).max_by_key(|task| ends[*task as usize]);
    let mut chain: Vec<u32> = iter::successors(end, |task| before[*task as usize]).collect();
    chain.reverse();
    (Duration::from_micros(end.map_or(0, |end| ends[end as usize])), chain)
}

/// Two pieces that ran at the same time, if there are any.
fn overlap(pieces: &[Piece]) -> Option<[&Piece; 2]> {
    let in_order = by_start(pieces);
    in_order
        .windows(2)
        .map(|pair| [pair[0], pair[1]].map(|number| &pieces[number]))
        .find(|[one, other]| one.end > other.start)
}

/// How long the pieces take if each waits for everything that was over before it began.
fn in_order(pieces: &[Piece]) -> Duration {
    let mut by_end: Vec<usize> = (0..pieces.len()).collect();
    by_end.sort_by_key(|&number| pieces[number].end);
    let mut over = by_end.into_iter().peekable();
    let mut lengths = vec![0; pieces.len()];
    let mut longest_over = 0;
    for number in by_start(pieces) {
        let piece = &pieces[number];
        while let Some(before) = over.next_if(|&before| before != number && pieces[before].end <= piece.start) {
            longest_over = longest_over.max(lengths[before]);
        }
        lengths[number] = piece.nanos().saturating_add(longest_over);
    }
    nanos(lengths.into_iter().max().unwrap_or(0))
}

fn by_start(pieces: &[Piece]) -> Vec<usize> {
    let mut in_order: Vec<usize> = (0..pieces.len()).collect();
    in_order.sort_by_key(|&number| (pieces[number].start, pieces[number].end));
    in_order
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
