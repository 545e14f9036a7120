//! Where the boxes and lines of a graph are: computed once, for pages, for pictures and for terminals.
//!
//! Boxes stand in columns, each to the right of all that it depends on. The first plan of a run decides where its boxes
//! are. After that the graph is followed from change to change: what is added takes free places, and what was there does
//! not move unless it has to be in another column, since what it depends on has changed; only where very many boxes come
//! to a column, or go, so that it becomes wider or narrower, those to the right of it make room. A line that passes other
//! columns has a lane of its own through each of them. Nothing recurses, and the number of lanes is bounded, so a plan of
//! any size that may be run can be drawn.
//!
//! Crates that lay graphs out were looked at: those that give more than the places of boxes, or bound what they do, could
//! not keep earlier boxes where they are.

mod grid;
mod levels;
mod lines;
mod order;

use grid::Grid;
use order::{Arranged, Room};

pub(crate) use levels::levels;
pub(crate) use order::Extent;

/// How wide a box is.
pub(crate) const BOX_WIDTH: u32 = 184;
/// How high a box is.
pub(crate) const BOX_HEIGHT: u32 = 38;
/// Free room between boxes of a column.
const GAP: u32 = 14;
/// Room that a line takes up where it passes a column.
const LANE: u32 = 12;
/// Free room between columns, for lines.
const CHANNEL: u32 = 76;
/// Free room between the stacks of one column.
const STACK_GAP: u32 = 20;
/// A column of more boxes becomes several stacks.
const MOST_IN_STACK: usize = 24;
/// A stack that is there already becomes so high before a column gets one more.
const MOST_IN_GROWN_STACK: usize = 2 * MOST_IN_STACK;
/// More lanes than these cannot be followed by eye: then such lines run straight, behind the boxes.
const MOST_LANES: usize = 600;
/// Free room around everything.
const MARGIN: u32 = 12;

/// Where the boxes and lines of a graph are.
#[derive(Debug)]
pub(crate) struct Layout {
    /// How wide everything is together.
    pub(crate) width: u32,
    /// How high everything is together.
    pub(crate) height: u32,
    /// The left upper corner of each box; none for one that is not drawn.
    pub(crate) places: Vec<Option<(u32, u32)>>,
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

/// A line from a box to one that depends on it.
#[derive(Debug)]
pub(crate) struct Line {
    /// Where it begins, as a position in [`Layout::places`].
    pub(crate) from: usize,
    /// Where it ends.
    pub(crate) to: usize,
    /// Its course, as the `d` of an SVG path.
    pub(crate) path: String,
}

/// What each box depends on, by position; none for one that is not drawn.
pub(crate) type Graph = [Option<Vec<usize>>];

/// The places of boxes of any sizes along the columns they are in, for drawings with a unit of their own: boxes of the
/// same [level](levels) do not overlap, and all end within `length` if each column has room in that. `before` says what
/// each box depends on.
pub(crate) fn places(before: &[Vec<usize>], boxes: Vec<Extent>, length: u32) -> Vec<u32> {
    let lane = Extent { size: 0, joint: 0 };
    let arranged = Arranged::new(before, &Room { boxes, lane, most_in_stack: usize::MAX, length: Some(length) });
    arranged.places.into_iter().map(|(_, place)| place).collect()
}

impl Layout {
    /// The layout of a graph, of which it is said what each box depends on.
    pub(crate) fn of(graph: &[Vec<usize>]) -> Self {
        let now: Vec<Option<Vec<usize>>> = graph.iter().cloned().map(Some).collect();
        Self::grown(graph, now.len(), [now])
    }

    /// The layout of a graph of so many boxes that has changed: the boxes of its beginning come first, and `changes` are
    /// what it was after each change. The last one is drawn.
    pub(crate) fn grown(
        first: &[Vec<usize>],
        boxes: usize,
        changes: impl IntoIterator<Item = Vec<Option<Vec<usize>>>>,
    ) -> Self {
        let mut grid = Grid::new(boxes, &Arranged::new(first, &room(first.len())));
        let mut now = Vec::new();
        for graph in changes {
            grid.grow(&graph);
            now = graph;
        }
        grid.finish();
        let places: Vec<Option<(u32, u32)>> = (0..boxes).map(|node| grid.place(node)).collect();
        let lines = lines::lines(&now, &places, &grid);
        Self { width: grid.width(), height: grid.height(), places, lines }
    }
}

/// The room that so many boxes take up on a page.
fn room(boxes: usize) -> Room {
    Room {
        boxes: vec![Extent { size: BOX_HEIGHT + GAP, joint: BOX_HEIGHT / 2 }; boxes],
        lane: Extent { size: LANE, joint: LANE / 2 },
        most_in_stack: MOST_IN_STACK,
        length: None,
    }
}

#[cfg(test)]
mod tests;
