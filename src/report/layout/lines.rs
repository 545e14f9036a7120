//! The courses of lines.

use std::fmt::Write as _;

use super::grid::Grid;
use super::{BOX_HEIGHT, BOX_WIDTH, Graph, Line};

/// A line for each dependency between two boxes that are drawn.
pub(super) fn lines(graph: &Graph, places: &[Option<(u32, u32)>], grid: &Grid) -> Vec<Line> {
    let mut lines = Vec::new();
    for (to, before) in graph.iter().enumerate() {
        for &from in before.iter().flatten() {
            if let (Some(start), Some(end)) = (places[from], places[to])
                && let (Some(first), Some(last)) = (grid.column_of(from), grid.column_of(to))
                && first < last
            {
                let lanes = (first + 1..last).filter_map(|column| grid.lane(from, column));
                lines.push(Line { from, to, path: path(start, end, lanes) });
            }
        }
    }
    lines
}

/// From the right side of a box, through lanes, to the left side of another.
fn path(from: (u32, u32), to: (u32, u32), lanes: impl Iterator<Item = (u32, u32, u32)>) -> String {
    let (mut x, mut y) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
    let mut path = format!("M{x} {y}");
    for (left, right, middle) in lanes {
        bend(&mut path, (x, y), (left, middle));
        let _ = write!(path, "H{right}");
        (x, y) = (right, middle);
    }
    bend(&mut path, (x, y), (to.0, to.1 + BOX_HEIGHT / 2));
    path
}

fn bend(path: &mut String, from: (u32, u32), to: (u32, u32)) {
    let _ = if from.1 == to.1 {
        write!(path, "H{}", to.0)
    } else {
        let middle = from.0.midpoint(to.0);
        write!(path, "C{middle} {} {middle} {} {} {}", from.1, to.1, to.0, to.1)
    };
}
