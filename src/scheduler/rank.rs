//! The order of ready steps: which of them comes first where there is no room for all.

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

impl Scheduler {
    /// Ranks the steps of a scope by their longest remaining path, in one pass from the last to the first; those of the
    /// run's plan by more than that, where it does not have the slots to start whatever is ready.
    pub(super) fn rank_scope(&mut self, parent: StepNumber) {
        // What comes after the parent comes after a child on which no other child depends.
        let beyond = if parent == NONE { 0 } else { self.highest_dependent(parent).unwrap_or(0) };
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
        if parent == NONE && self.policy.order == Order::CriticalPath {
            self.rehearse(&members);
        }
        self.scope_mut(parent).members = members;
    }

    /// Ranks steps so that slots are not left empty at the end, where a rehearsal shows that it makes the run shorter.
    /// It knows of slots only, and is not worth the while where every step is expected to take the same.
    fn rehearse(&mut self, members: &[StepNumber]) {
        let slots = self.policy.max_parallel.max(1) as usize;
        let is_open = |&number: &StepNumber| !self.node(number).is_settled();
        let count = self.root.open as usize;
        if count <= slots || count > MOST_REHEARSED || !self.pools.is_empty() {
            return;
        }
        let open: Vec<StepNumber> = members.iter().copied().filter(is_open).collect();
        let mut expected = open.iter().map(|&number| self.expected_ms[number as usize]);
        let first = expected.next();
        if open.len() <= slots || expected.all(|other| Some(other) == first) {
            return;
        }
        let mut place = vec![NONE; self.nodes.len()];
        for (index, &number) in (0..).zip(&open) {
            place[number as usize] = index;
        }
        let dependents = |number: StepNumber| self.graph.neighbors(NodeIndex::new(number as usize));
        let edges: Vec<(u32, u32)> = (0..)
            .zip(&open)
            .flat_map(|(index, &number)| dependents(number).map(move |dependent| (index, dependent.index())))
            .map(|(index, dependent)| (index, place[dependent]))
            .filter(|(_, dependent)| *dependent != NONE)
            .collect();
        let expected = open.iter().map(|&number| self.expected_ms[number as usize]).collect();
        let paths: Vec<u64> = open.iter().map(|&number| self.node(number).rank).collect();
        if let Some(ranks) = Rehearsal::new(expected, &edges).better_ranks(&paths, slots) {
            for (&number, rank) in open.iter().zip(ranks) {
                self.set_rank(number, rank);
            }
        }
    }

    fn highest_dependent(&self, number: StepNumber) -> Option<u64> {
        let dependents = self.graph.neighbors(NodeIndex::new(number as usize));
        dependents.map(|index| &self.nodes[index.index()]).filter(|node| !node.is_settled()).map(|node| node.rank).max()
    }

    /// The place of a step among the ready ones, with the highest rank of those that wait for it.
    pub(super) fn rank(&self, number: StepNumber, rest: u64) -> u64 {
        match self.policy.order {
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
