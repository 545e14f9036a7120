//! The order of ready steps: which of them comes first where there is no room for all.

use std::collections::BTreeSet;

use petgraph::graph::NodeIndex;

use crate::event::StepNumber;
use crate::plan::Step;
use crate::policy::Order;

use super::rehearse::Rehearsal;
use super::state::{NONE, UNRANKED};
use super::{Scheduler, StepState};

/// What a step is expected to take if nobody says, in milliseconds: all the same, so that hops are counted.
const USUAL_MS: u64 = 1_000;

/// Plans of more steps than this are not rehearsed: what stands empty at their end is nothing beside the whole.
const MOST_REHEARSED: usize = 4_096;

/// How often each step of a run is rehearsed at most, on average.
const MOST_OFTEN: u64 = 32;

impl Scheduler {
    /// Ranks the steps of the plan, and of what its steps have become.
    pub(super) fn rank_all(&mut self) {
        self.rank_scope(NONE);
        let open: Vec<_> = self.scopes.keys().copied().filter(|p| self.node(*p).state == StepState::Expanded).collect();
        for parent in open {
            self.rank_scope(parent);
        }
        self.rehearse();
    }

    /// Ranks the steps of a scope by their longest remaining path, in one pass from the last to the first.
    pub(super) fn rank_scope(&mut self, parent: StepNumber) {
        let beyond = if parent == NONE { 0 } else { self.beyond(parent) };
        if parent != NONE {
            self.set_rank(parent, self.rank(parent, beyond));
        }
        let mut members = std::mem::take(&mut self.scope_mut(parent).members);
        if self.policy.order == Order::Fifo {
            // What is ready together has become ready in the order of its numbers.
            members.reverse();
        }
        for &number in members.iter().rev() {
            if self.node(number).is_settled() {
                continue;
            }
            let rest = self.highest_dependent(number).unwrap_or(beyond);
            self.set_rank(number, self.rank(number, rest));
        }
        if self.policy.order == Order::Fifo {
            members.reverse();
        }
        self.scope_mut(parent).members = members;
    }

    /// What comes after a step on which no other step of its scope depends: that waits for whatever the scope is a part of.
    pub(super) fn beyond(&self, mut step: StepNumber) -> u64 {
        loop {
            let parent = self.node(step).parent;
            match self.highest_dependent(step) {
                Some(rank) => return rank,
                None if parent == NONE => return 0,
                None => step = parent,
            }
        }
    }

    /// Rehearses the run anew for what expansions have brought in. Not every time if there are very many of them, so that
    /// it stays cheap; then when the next of these steps starts.
    pub(super) fn rehearse_expansions(&mut self) {
        if self.is_unrehearsed {
            let budget = u64::from(self.step_count()) * MOST_OFTEN + MOST_REHEARSED as u64;
            if self.rehearsed < budget {
                self.rehearse();
            }
        }
    }

    /// Ranks steps so that slots are not left empty at the end, where a rehearsal shows that it makes the run shorter.
    /// It knows of slots only, and is not worth the while where every step is expected to take the same.
    pub(super) fn rehearse(&mut self) {
        self.is_unrehearsed = false;
        let slots = self.policy.max_parallel.max(1) as usize;
        let count = self.counts.open as usize;
        if self.policy.order != Order::CriticalPath || count <= slots || count > MOST_REHEARSED {
            return;
        }
        self.rehearsed += u64::from(self.step_count());
        let open: Vec<StepNumber> = (0..self.step_count()).filter(|&number| !self.node(number).is_settled()).collect();
        // A step that stands for others only waits for them; what one will stand for nobody knows before.
        let planners: BTreeSet<u16> = self.scopes.keys().map(|parent| self.node(*parent).tool).collect();
        let stands_for_others = |number: StepNumber| planners.contains(&self.node(number).tool);
        let leaves: Vec<StepNumber> = open.iter().copied().filter(|number| !stands_for_others(*number)).collect();
        let expected = |number: StepNumber| self.expected_ms[number as usize];
        let uses_pools = |number: StepNumber| !self.shapes[self.node(number).shape as usize].needs.is_empty();
        let is_like_the_next = |pair: &[StepNumber]| expected(pair[0]) == expected(pair[1]);
        if leaves.iter().copied().any(uses_pools) || leaves.windows(2).all(is_like_the_next) {
            return;
        }
        let mut place = vec![NONE; self.nodes.len()];
        for (index, &number) in (0..).zip(&open) {
            place[number as usize] = index;
        }
        let mut edges: Vec<(u32, u32)> = Vec::new();
        for (index, &number) in (0..).zip(&open) {
            let before = edges.len();
            let dependents = self.graph.neighbors(NodeIndex::new(number as usize));
            let open = dependents.map(|dependent| place[dependent.index()]).filter(|place| *place != NONE);
            edges.extend(open.map(|dependent| (index, dependent)));
            let parent = place.get(self.node(number).parent as usize).filter(|place| **place != NONE);
            if edges.len() == before {
                edges.extend(parent.map(|parent| (index, *parent)));
            }
        }
        let takes = |number: StepNumber| if stands_for_others(number) { 0 } else { expected(number) };
        let is_running = |number: StepNumber| matches!(self.node(number).state, StepState::Running(_));
        let rehearsal = Rehearsal::new(
            open.iter().map(|number| takes(*number)).collect(),
            open.iter().map(|number| is_running(*number)).collect(),
            &edges,
        );
        let paths: Vec<u64> = open.iter().map(|&number| self.node(number).rank).collect();
        let ranks = rehearsal.better_ranks(&paths, slots);
        let ranked = ranks.into_iter().flat_map(|ranks| open.iter().copied().zip(ranks));
        let ranked: Vec<_> = ranked.filter(|(number, _)| !stands_for_others(*number)).collect();
        ranked.into_iter().for_each(|(number, rank)| self.set_rank(number, rank));
    }

    fn highest_dependent(&self, number: StepNumber) -> Option<u64> {
        let dependents = self.graph.neighbors(NodeIndex::new(number as usize));
        dependents.map(|index| &self.nodes[index.index()]).filter(|node| !node.is_settled()).map(|node| node.rank).max()
    }

    /// The place of a step among the ready ones, with the highest rank of those that wait for it.
    pub(super) fn rank(&self, number: StepNumber, rest: u64) -> u64 {
        match self.policy.order {
            // It has been done itself.
            Order::CriticalPath | Order::Hops if self.node(number).state == StepState::Expanded => rest,
            Order::CriticalPath => self.expected_ms[number as usize].saturating_add(rest),
            Order::Hops => rest.saturating_add(1),
            // Its place is found when it becomes ready, and stays.
            Order::Fifo => Some(self.node(number).rank).filter(|rank| *rank != UNRANKED).unwrap_or(0),
            Order::Random(seed) => scramble(seed, number),
        }
    }

    pub(super) fn set_rank(&mut self, number: StepNumber, rank: u64) {
        let node = &mut self.nodes[number as usize];
        let rank = rank.min(UNRANKED - 1);
        if node.rank != rank {
            node.rank = rank;
            if node.state == StepState::Ready {
                self.queue(number);
            }
        }
    }

    /// What a step is expected to take that is done by this tool.
    pub(super) fn expected(&self, step: &Step, tool: u16) -> u64 {
        let mean = || self.start.tools.get(usize::from(tool)).and_then(|tool| tool.mean_ms);
        step.estimate_ms.or_else(mean).unwrap_or(USUAL_MS)
    }
}

/// A number that looks as if it were drawn: the finalizer of MurmurHash3 (Austin Appleby, 2011, public domain).
fn scramble(seed: u64, number: StepNumber) -> u64 {
    let mut mixed = seed ^ (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drawn order is the same on every machine and in every version: a resumed run goes on in it.
    #[test]
    fn what_looks_drawn_is_always_the_same() {
        let drawn = [0, 1, 1_000_000].map(|number| scramble(7, number));
        assert_eq!(drawn, [0x2d54_0be8_3487_5d2f, 0xa59c_30e5_a24e_d8dd, 0x06a2_e051_5ee0_c765]);
        // What others have published for 1.
        assert_eq!(scramble(1 ^ 0x9e37_79b9_7f4a_7c15, 0), 0xb456_bcfc_34c2_cb2c);
    }
}
