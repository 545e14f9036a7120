//! The chain of steps that no number of slots would have shortened.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::StepNumber;

use super::RunReport;

/// The longest chain of steps, each waiting for the one before, by the time their tools ran and that they
/// [paused](super::StepReport::paused) between attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath {
    /// How long it took, waiting for slots and pools apart.
    pub length: Duration,
    /// Its steps, first to last.
    pub steps: Vec<StepNumber>,
}

/// The end of a chain: either the attempts of a step, or the whole of it with its expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    Attempts(StepNumber),
    Whole(StepNumber),
}

#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    length: Duration,
    via: Option<Link>,
}

struct Chains<'a> {
    report: &'a RunReport,
    /// How long each step took: its tool ran, or it paused before it was tried again.
    took: Vec<Duration>,
    /// Steps whose tools were called by the run that this is a fork of. They are a part of no chain.
    kept: BTreeSet<StepNumber>,
    /// The longest chain up to the end of each step.
    whole: Vec<Chain>,
    /// The longest chain up to the expansion of each expanded step.
    attempts: BTreeMap<StepNumber, Chain>,
    /// The longest chain that ends in a part of each expansion.
    parts: BTreeMap<StepNumber, Chain>,
}

pub(super) fn path(report: &RunReport) -> CriticalPath {
    let steps = report.scheduler.step_count() as usize;
    let mut chains = Chains {
        report,
        took: vec![Duration::ZERO; steps],
        kept: report.record.taken_over().iter().map(|times| times.step).collect(),
        whole: vec![Chain::default(); steps],
        attempts: BTreeMap::new(),
        parts: BTreeMap::new(),
    };
    let mut last = vec![None; steps];
    for (attempt, times) in (report.record.first_own()..).zip(report.record.own()) {
        let took = &mut chains.took[times.step as usize];
        *took += report.record.end_of(*times) - times.started;
        if let Some(before) = last[times.step as usize].replace(attempt) {
            *took += report.record.pause(before, attempt);
        }
        chains.kept.remove(&times.step);
    }
    // What a step waited for has settled before it, so one pass in that order is enough.
    for step in report.record.order() {
        chains.visit(*step);
    }
    // Steps that were dropped or cut off while they ran have no place in that order, and nothing waited for them.
    for step in (0..steps as StepNumber).filter(|step| report.record.settled_at(*step).is_none()) {
        if !report.record.is_expanded(step) {
            chains.visit(step);
        }
    }
    chains.longest()
}

impl Chains<'_> {
    fn visit(&mut self, step: StepNumber) {
        let chain = if !self.report.record.is_expanded(step) {
            self.up_to_attempts(step)
        } else if let Some(expanded) = self.attempts.get(&step) {
            let own = Chain { length: expanded.length, via: Some(Link::Attempts(step)) };
            self.parts.get(&step).copied().filter(|part| part.length > own.length).unwrap_or(own)
        } else {
            let chain = self.up_to_attempts(step);
            self.attempts.insert(step, chain);
            return;
        };
        self.whole[step as usize] = chain;
        if let Some(parent) = self.parent(step) {
            let longest = self.parts.entry(parent).or_default();
            if chain.length > longest.length {
                *longest = Chain { length: chain.length, via: Some(Link::Whole(step)) };
            }
        }
    }

    /// The longest chain up to the end of the step's own attempts.
    fn up_to_attempts(&self, step: StepNumber) -> Chain {
        let dependencies = self.report.scheduler.dependencies(step).iter().map(|number| Link::Whole(*number));
        let before = dependencies.chain(self.parent(step).map(Link::Attempts));
        let via = before.max_by_key(|link| self.length(*link));
        Chain { length: via.map_or(Duration::ZERO, |link| self.length(link)) + self.took[step as usize], via }
    }

    fn parent(&self, step: StepNumber) -> Option<StepNumber> {
        self.report.scheduler.step(step)?.parent
    }

    fn chain(&self, link: Link) -> Chain {
        match link {
            Link::Whole(step) => self.whole[step as usize],
            Link::Attempts(step) => self.attempts.get(&step).copied().unwrap_or_default(),
        }
    }

    fn length(&self, link: Link) -> Duration {
        self.chain(link).length
    }

    fn longest(&self) -> CriticalPath {
        let whole = (0..self.whole.len() as StepNumber).map(Link::Whole);
        let ends = whole.chain(self.attempts.keys().copied().map(Link::Attempts));
        // Of equal ones the first: a chain does not end with steps that took no time.
        let end = ends.min_by_key(|link| Reverse(self.length(*link)));
        let mut steps = Vec::new();
        let mut link = end;
        while let Some(Link::Attempts(step) | Link::Whole(step)) = link {
            // An expanded step is on the path for its own attempts, not again for what it was expanded to.
            let is_own = link == Some(Link::Attempts(step)) || !self.report.record.is_expanded(step);
            if is_own && !self.kept.contains(&step) {
                steps.push(step);
            }
            link = link.and_then(|link| self.chain(link).via);
        }
        steps.reverse();
        CriticalPath { length: end.map_or(Duration::ZERO, |end| self.length(end)), steps }
    }
}
