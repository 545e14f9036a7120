//! The edges of the run's graph, as they lie in memory.

use petgraph::graph::NodeIndex;

use crate::event::{Graft, StepNumber};

use super::Scheduler;
use super::state::NONE;

/// Fewer edges are in the caches of a processor wherever they are.
const MANY: usize = 4_096;

impl Scheduler {
    /// Adds the edges to the new steps, the last ones first: petgraph goes from the newest to the oldest, and dependents of
    /// a step become ready in their own order. Of a large plan, those from the same step come together: they are followed
    /// together when it is finished, and so they are in one place of memory and not in several.
    pub(super) fn connect(&mut self, graft: &Graft) {
        let edges = || {
            let numbered = (graft.first..self.nodes.len() as u32).zip(&graft.added);
            numbered.flat_map(|(to, added)| added.dependencies.iter().map(move |from| (*from, to)))
        };
        let count = graft.added.iter().map(|added| added.dependencies.len()).sum();
        self.graph.reserve_edges(count);
        let graph = &mut self.graph;
        let mut connect = |(from, to): (StepNumber, StepNumber)| {
            graph.add_edge(NodeIndex::new(from as usize), NodeIndex::new(to as usize), ());
        };
        if count < MANY || edges().is_sorted() {
            return edges().rev().for_each(connect);
        }
        // Sorted by counting, with the edges from one step in the order in which they were.
        let mut places = vec![0; self.nodes.len() + 1];
        edges().for_each(|(from, _)| places[from as usize + 1] += 1);
        let mut sum = 0;
        for place in &mut places {
            sum += *place;
            *place = sum;
        }
        let mut sorted = vec![NONE; count];
        for (from, to) in edges() {
            sorted[places[from as usize]] = to;
            places[from as usize] += 1;
        }
        let mut start = 0;
        for (from, &end) in (0..).zip(&places) {
            sorted[start..end].iter().rev().for_each(|&to| connect((from, to)));
            start = end;
        }
    }
}
