//! The graph itself: its order, and its cycles where it has none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

type Graph = DiGraph<(), (), u32>;
type Node = NodeIndex<u32>;

/// Builds the graph of dependency lists as [`Dag`](super::Dag) keeps them. External dependencies are left out.
pub(super) fn build_graph(steps: usize, flat: &[u32], starts: &[u32]) -> Graph {
    let mut graph = Graph::with_capacity(steps, flat.len());
    for _ in 0..steps {
        graph.add_node(());
    }
    for (dependent, bounds) in (0..).zip(starts.windows(2)) {
        for &dependency in &flat[bounds[0] as usize..bounds[1] as usize] {
            if (dependency as usize) < steps {
                graph.add_edge(Node::new(dependency as usize), Node::new(dependent), ());
            }
        }
    }
    graph
}

/// The topological order that is closest to plan order: always the earliest step whose dependencies are all there.
/// None if there is a cycle.
pub(super) fn plan_order(graph: &Graph) -> Option<Vec<u32>> {
    // petgraph's own order is a valid one too, but unlike plan order it depends on how the graph was built.
    toposort(graph, None).ok()?;
    let mut unmet = vec![0_u32; graph.node_count()];
    for edge in graph.raw_edges() {
        unmet[edge.target().index()] += 1;
    }
    let mut ready: BinaryHeap<_> = graph.node_indices().filter(|node| unmet[node.index()] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node.index() as u32);
        for dependent in graph.neighbors(node) {
            unmet[dependent.index()] -= 1;
            if unmet[dependent.index()] == 0 {
                ready.push(Reverse(dependent));
            }
        }
    }
    Some(order)
}

/// One cycle for each group of nodes that wait for each other, along the edges; the earliest group first. Each is a
/// shortest one through the earliest node of its group.
pub(super) fn cycles(graph: &Graph) -> Vec<Vec<Node>> {
    let mut groups: Vec<Vec<Node>> = kosaraju_scc(graph)
        .into_iter()
        .filter(|group| group.len() > 1 || graph.contains_edge(group[0], group[0]))
        .collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort_unstable_by_key(|group| group[0]);
    let mut group_of = vec![usize::MAX; graph.node_count()];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|node| group_of[node.index()] = number);
    }
    // Groups do not overlap, so one table of predecessors serves them all.
    let mut before = vec![None; graph.node_count()];
    groups.iter().map(|group| shortest_cycle(graph, group[0], &group_of, &mut before)).collect()
}

/// Walks outward from `start` within its group until it is back.
fn shortest_cycle(graph: &Graph, start: Node, group_of: &[usize], before: &mut [Option<Node>]) -> Vec<Node> {
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors(node) {
            if next == start {
                let mut path: Vec<_> = std::iter::successors(Some(node), |node| before[node.index()]).collect();
                path.reverse();
                return path;
            }
            if group_of[next.index()] == group_of[start.index()] && before[next.index()].is_none() {
                before[next.index()] = Some(node);
                queue.push_back(next);
            }
        }
    }
    vec![start]
}
