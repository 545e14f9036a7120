//! Which changes are tried: all of a small run, and of a large one those that promise most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::work::{Schedule, Task, Trial, Work};
use super::{Change, Saving, WhatIf};

/// A larger run is not simulated at all.
const MOST_STEPS: usize = 10_000;
/// How many steps are simulated over all changes, but so many changes are tried at least: a few milliseconds.
const BUDGET: usize = 2_500;
const FEWEST: usize = 4;
/// As many times cheaper is a run in which nothing waits for a slot or a pool.
const CHEAPER: usize = 32;
/// As many dependencies cost as much as a step.
const EDGES: usize = 16;
/// So many of each kind are told.
const BEST: usize = 6;

/// A change that could be tried.
struct Candidate<'a> {
    trial: Trial<'a>,
    /// It cannot save more, in microseconds.
    most: u64,
    /// What can be expected of it: compared with others of its kind.
    promise: (bool, u64),
}

/// The run as it is, and what that says about changes of it.
struct Search<'a> {
    work: &'a Work,
    order: Vec<u32>,
    base: Schedule,
    /// How long each task takes, and how much of that is work: in the rest it pauses.
    micros: Vec<u64>,
    busy: Vec<u64>,
    /// The longest chains that end with each task, and those that begin with it.
    heads: Vec<u64>,
    tails: Vec<u64>,
    /// The longest chain of all, and what all slots together have to do.
    critical: u64,
    total: u64,
    /// How long each task was held up by something else than what it waits for.
    held_up: Vec<u64>,
    /// Whether each task holds up the end of the run.
    is_pressing: Vec<bool>,
}

impl Work {
    /// Tries the changes that can be expected to save most.
    pub(crate) fn what_if(&self) -> WhatIf {
        let Some(order) = self.in_order() else { return WhatIf::default() };
        let unhindered = self.unhindered(&order, Trial::Nothing);
        let cost = self.size() / if unhindered.is_some() { CHEAPER } else { 1 };
        if cost > MOST_STEPS {
            let unused: usize = self.tasks.iter().map(|task| task.unused.len()).sum();
            let wholes = (0..).zip(&self.tasks).filter(|(number, task)| task.whole == Some(*number)).count();
            let untried = 1 + self.policy.pools.len() + wholes + unused;
            return WhatIf { untried, ..WhatIf::default() };
        }
        let base = unhindered.unwrap_or_else(|| self.scheduled(Trial::Nothing));
        if base.makespan == 0 {
            return WhatIf::default();
        }
        Search::new(self, order, base).what_if(cost)
    }

    /// How much work it is to simulate it, in steps.
    pub(super) fn size(&self) -> usize {
        let edges: usize = self.tasks.iter().map(|task| task.after.len()).sum();
        self.tasks.len().max(edges / EDGES)
    }
}

impl<'a> Search<'a> {
    fn new(work: &'a Work, order: Vec<u32>, base: Schedule) -> Self {
        let count = work.tasks.len();
        let sums = |part: fn((u64, u64)) -> u64| -> Vec<u64> {
            (0..count as u32).map(|number| work.micros(Trial::Nothing, number).map(part).sum()).collect()
        };
        let (micros, busy) = (sums(|(took, pause)| took + pause), sums(|(took, _)| took));
        let (mut heads, mut tails) = (vec![0; count], micros.clone());
        let mut held_up = vec![0; count];
        for &number in &order {
            let (task, index) = (&work.tasks[number as usize], number as usize);
            let longest = task.after.iter().map(|before| heads[*before as usize]).max().unwrap_or(0);
            heads[index] = longest + micros[index];
            let over = task.after.iter().map(|before| base.ends[*before as usize]).max().unwrap_or(0);
            held_up[index] = base.ends[index].saturating_sub(over + micros[index]);
        }
        for &number in order.iter().rev() {
            for before in &work.tasks[number as usize].after {
                let before = *before as usize;
                tails[before] = tails[before].max(micros[before] + tails[number as usize]);
            }
        }
        let (critical, total) = (heads.iter().copied().max().unwrap_or(0), busy.iter().sum());
        let mut search =
            Self { work, order, base, micros, busy, heads, tails, critical, total, held_up, is_pressing: Vec::new() };
        search.is_pressing = search.pressing();
        search
    }

    fn end(&self, number: u32) -> u64 {
        self.base.ends[number as usize]
    }

    /// The tasks from which an unbroken chain leads to the end of the run: each begins when the one before ends, because
    /// it waits for it or for the room that it takes.
    fn pressing(&self) -> Vec<bool> {
        let count = self.work.tasks.len();
        let mut is_pressing = vec![false; count];
        let mut by_end: Vec<u32> = (0..count as u32).collect();
        by_end.sort_by_key(|number| Reverse((self.end(*number), self.base.starts[*number as usize])));
        // When tasks started that somebody's end had held up.
        let mut instants = HashSet::from([self.base.makespan]);
        for number in by_end {
            let index = number as usize;
            is_pressing[index] |= instants.contains(&self.end(number));
            if !is_pressing[index] {
                continue;
            }
            let start = self.base.starts[index];
            if self.held_up[index] > 0 {
                // Its last attempt may have been what waited.
                let last = self.work.micros(Trial::Nothing, number).last();
                instants.extend([start, last.map_or(start, |(took, _)| self.end(number) - took)]);
            } else {
                let before = self.work.tasks[index].after.iter().filter(|before| self.end(**before) == start);
                before.for_each(|before| is_pressing[*before as usize] = true);
            }
        }
        is_pressing
    }

    /// What no change can save more than that leaves so long a chain, so much work and so many slots.
    fn most(&self, critical: u64, total: u64, slots: u32) -> u64 {
        self.base.makespan.saturating_sub(critical.max(total / u64::from(slots.max(1))))
    }

    fn slots(&self) -> Candidate<'a> {
        let more = self.work.policy.max_parallel.saturating_add(1);
        let most = self.most(self.critical, self.total, more);
        Candidate { trial: Trial::Slots(more), most, promise: (true, most) }
    }

    /// A pool that nobody waited for is wide enough.
    fn pools(&self) -> Vec<Candidate<'a>> {
        let policy = &self.work.policy;
        let mut held_up: HashMap<&str, u64> = HashMap::new();
        for (task, held) in self.work.tasks.iter().zip(&self.held_up).filter(|(_, held)| **held > 0) {
            for (pool, _) in task.takes(&policy.pools).filter(|(_, weight)| *weight > 0) {
                *held_up.entry(pool).or_default() += held;
            }
        }
        let pool = |(pool, &size): (&'a String, &u32)| {
            let held_up = held_up.get(pool.as_str()).copied().unwrap_or(0);
            let most = self.most(self.critical, self.total, policy.max_parallel);
            let trial = Trial::Pool(pool, size.saturating_add(1));
            Candidate { trial, most: if held_up > 0 { most } else { 0 }, promise: (true, held_up) }
        };
        policy.pools.iter().map(pool).collect()
    }

    fn halvings(&self) -> Vec<Candidate<'a>> {
        // What is saved of all parts of each, and whether one of them is critical, or holds up the end of the run.
        let mut wholes: BTreeMap<u32, (u64, bool, bool)> = BTreeMap::new();
        for (index, task) in self.work.tasks.iter().enumerate() {
            let Some(whole) = task.whole else { continue };
            let (saved, is_critical, is_pressing) = wholes.entry(whole).or_default();
            // Each of its attempts may be rounded; no more is saved than all of it.
            *saved += (self.busy[index].div_ceil(2) + task.earlier.len() as u64).min(self.busy[index]);
            *is_critical |= self.heads[index] + self.tails[index] - self.micros[index] == self.critical;
            *is_pressing |= self.is_pressing[index];
        }
        let halving = |(whole, (saved, is_critical, is_pressing))| {
            let critical = if is_critical { self.critical.saturating_sub(saved) } else { self.critical };
            let most = self.most(critical, self.total - saved, self.work.policy.max_parallel);
            Candidate { trial: Trial::Halve(whole), most, promise: (is_pressing, most.min(saved)) }
        };
        wholes.into_iter().map(halving).collect()
    }

    fn dependencies(&self) -> Vec<Candidate<'a>> {
        let mut candidates = Vec::new();
        for (number, task) in (0..).zip(&self.work.tasks) {
            if task.unused.is_empty() {
                continue;
            }
            // By two measures of when what it waits for is over.
            let (head, end) = (|before: u32| self.heads[before as usize], |before: u32| self.end(before));
            let (by_head, by_end) = (latest_first(task, head), latest_first(task, end));
            for unused in &task.unused {
                let trial = Trial::Independent(number, unused);
                // When the last is over that it would still wait for.
                let others = |latest: &[(u64, u32)]| {
                    latest.iter().find(|(_, before)| !unused.tasks.contains(before)).map_or(0, |(over, _)| *over)
                };
                let freed = unused.tasks.iter().copied().map(head).max().unwrap_or(0);
                let tail = self.tails[number as usize];
                let is_critical = freed + tail == self.critical;
                let critical = if is_critical { freed.max(others(&by_head) + tail) } else { self.critical };
                let most = self.most(critical, self.total, self.work.policy.max_parallel);
                let is_pressing = self.is_pressing[number as usize] && self.held_up[number as usize] == 0;
                let freed = unused.tasks.iter().copied().map(end).max().unwrap_or(0);
                let promise = (is_pressing, freed.saturating_sub(others(&by_end)).min(most));
                candidates.push(Candidate { trial, most, promise });
            }
        }
        candidates
    }

    /// Tries one change after the other, of each kind in turns.
    fn what_if(&self, cost: usize) -> WhatIf {
        let mut kinds = [vec![self.slots()], self.pools(), self.dependencies(), self.halvings()];
        for candidates in &mut kinds {
            candidates.sort_by_key(|candidate| Reverse(candidate.promise));
        }
        let mut best: [Vec<Saving>; 4] = Default::default();
        let mut left = BUDGET.max(FEWEST * cost);
        let mut untried = 0;
        for place in 0..kinds.iter().map(Vec::len).max().unwrap_or(0) {
            for (candidates, best) in kinds.iter().zip(&mut best) {
                let Some(Candidate { trial, most, .. }) = candidates.get(place) else { continue };
                let enough = best.get(BEST - 1).map_or(Duration::ZERO, |saving| saving.saves);
                let saves = if Duration::from_micros(*most) <= enough {
                    Duration::ZERO
                } else if left < cost {
                    untried += 1;
                    continue;
                } else {
                    let (then, cost) = self.carry_out(*trial);
                    left = left.saturating_sub(cost);
                    Duration::from_micros(self.base.makespan.saturating_sub(then))
                };
                if saves > enough || matches!(trial, Trial::Slots(_)) {
                    let place = best.partition_point(|other| other.saves >= saves);
                    best.insert(place, Saving { change: self.change(*trial), saves });
                    best.truncate(BEST);
                }
            }
        }
        let mut savings = best.concat();
        savings.sort_by_key(|saving| Reverse(saving.saves));
        WhatIf { makespan: Duration::from_micros(self.base.makespan), savings, untried }
    }

    /// How long the run takes with a change, and how many steps it took to find out.
    fn carry_out(&self, trial: Trial<'_>) -> (u64, usize) {
        let size = self.work.size();
        match self.work.unhindered(&self.order, trial) {
            Some(schedule) => (schedule.makespan, size / CHEAPER),
            None => (self.work.scheduled(trial).makespan, size),
        }
    }

    fn change(&self, trial: Trial<'_>) -> Change {
        let name = |task: u32| self.work.tasks[task as usize].name.clone();
        let policy = &self.work.policy;
        match trial {
            Trial::Halve(task) => Change::Halve { step: name(task) },
            Trial::Pool(pool, to) => {
                Change::Pool { pool: pool.to_owned(), from: policy.pools.get(pool).copied().unwrap_or(to), to }
            }
            Trial::Independent(task, free) => {
                Change::Independent { step: name(task), dependency: free.dependency.clone() }
            }
            Trial::Slots(_) | Trial::Nothing => {
                Change::Slots { from: policy.max_parallel, to: policy.max_parallel.saturating_add(1) }
            }
        }
    }
}

/// What a task waits for, the latest first: when each is over, and which it is.
fn latest_first(task: &Task, over: impl Fn(u32) -> u64) -> Vec<(u64, u32)> {
    let mut latest: Vec<_> = task.after.iter().map(|before| (over(*before), *before)).collect();
    latest.sort_unstable_by_key(|before| Reverse(*before));
    latest.dedup();
    latest
}
