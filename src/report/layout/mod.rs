//! Where the boxes and lines of a graph are: computed once, for pages, for pictures and for terminals.
//!
//! Boxes stand in columns, each to the right of all that it depends on. The first plan of a run decides where its boxes
//! are; whatever is added later takes free places beside them, so what was there does not move unless what it depends on
//! did. A line that passes other columns has a lane of its own through each of them. Nothing recurses, and the number of
//! lanes is bounded, so a plan of any size that may be run can be drawn.
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

/// A graph that has grown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    /// What each box of the first plan depended on then, by position.
    pub(crate) first: Vec<Vec<usize>>,
    /// What each box depends on now; those of the first plan come first. None if it is not drawn any more.
    pub(crate) now: Vec<Option<Vec<usize>>>,
}

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
        Self::grown(&Growth { first: graph.to_vec(), now: graph.iter().cloned().map(Some).collect() })
    }

    /// The layout of a graph that has grown: boxes of its beginning are where they were, as far as that can be.
    pub(crate) fn grown(growth: &Growth) -> Self {
        let first = Arranged::new(&growth.first, &room(growth.first.len()));
        let now: Vec<Vec<usize>> = growth.now.iter().map(|before| before.clone().unwrap_or_default()).collect();
        let levels = levels::levels(&now);
        let grid = Grid::new(growth, &now, &levels, &first);
        let places: Vec<Option<(u32, u32)>> =
            growth.now.iter().enumerate().map(|(node, shown)| shown.as_ref().map(|_| grid.place(node))).collect();
        let lines = lines::lines(&now, &levels, &places, &grid);
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
