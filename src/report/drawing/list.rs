//! A plan level by level in words, for plans whose lines nobody could follow.

use std::fmt::Write as _;

use super::{label, mark};
use crate::counted::counted;
use crate::report::graph::Graph;

/// Longer levels are cut.
const MOST_STEPS: usize = 12;

/// Lists the steps of each level with what they wait for.
pub(super) fn list(graph: &Graph, columns: usize) -> String {
    let dependencies = graph.dependencies();
    let critical = graph.critical_nodes();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); graph.level_sizes().len()];
    for (node, step) in graph.nodes.iter().enumerate() {
        members[step.level].push(node);
    }
    let mut text = String::new();
    for (level, mut steps) in members.into_iter().enumerate() {
        let _ = writeln!(text, "level {}: {}", level + 1, counted(steps.len(), "step"));
        if steps.len() > MOST_STEPS {
            steps.sort_by_key(|node| (!critical.contains(node), *node));
        }
        for &node in steps.iter().take(MOST_STEPS) {
            let mut line = format!("  {}{}", mark(critical.contains(&node)), label(graph, node, columns));
            push_dependencies(&mut line, graph, &dependencies[node], columns);
            let _ = writeln!(text, "{line}");
        }
        if let Some(more @ 1..) = steps.len().checked_sub(MOST_STEPS) {
            let _ = writeln!(text, "  +{more} more");
        }
    }
    text
}

/// Adds as many dependencies as the line has room for.
fn push_dependencies(line: &mut String, graph: &Graph, dependencies: &[usize], columns: usize) {
    for (index, &dependency) in dependencies.iter().enumerate() {
        let separator = if index == 0 { "  after " } else { ", " };
        let name = label(graph, dependency, columns);
        let rest = dependencies.len() - index;
        let more = format!("{separator}{rest} {}", if index == 0 { "steps" } else { "more" });
        let room_after = if rest > 1 { more.chars().count() } else { 0 };
        let length = line.chars().count() + separator.len() + name.chars().count();
        if length + room_after > columns {
            line.push_str(&more);
            return;
        }
        let _ = write!(line, "{separator}{name}");
    }
}
