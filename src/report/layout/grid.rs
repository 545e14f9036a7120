//! Where everything stands: whatever is there already stays where it is, as far as that can be, and the rest gets free
//! places.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::levels::{lanes, levels};
use super::order::Arranged;
use super::{BOX_HEIGHT, BOX_WIDTH, CHANNEL, GAP, Graph, LANE, MARGIN, MOST_IN_GROWN_STACK, MOST_IN_STACK, STACK_GAP};

/// Boxes and lanes with their places.
pub(super) struct Grid {
    columns: Vec<Column>,
    /// Where each box is, or was when it was drawn last.
    boxes: Vec<Option<Spot>>,
    is_shown: Vec<bool>,
    /// How far down the lines of a box pass a column.
    lanes: HashMap<(usize, usize), u32>,
    /// Where each column begins.
    left: Vec<u32>,
}

/// The place of a box.
#[derive(Clone, Copy, Debug)]
struct Spot {
    column: usize,
    stack: usize,
    top: u32,
}

#[derive(Clone, Default)]
struct Column {
    stacks: Vec<Stack>,
}

/// What is taken of a stack: where it begins and how high it is, sorted.
#[derive(Clone, Default)]
struct Stack {
    taken: Vec<(u32, u32)>,
    boxes: usize,
}

impl Grid {
    /// A grid for so many boxes, with those of the first plan in it.
    pub(super) fn new(boxes: usize, first: &Arranged) -> Self {
        let mut grid = Self {
            columns: Vec::new(),
            boxes: vec![None; boxes],
            is_shown: vec![false; boxes],
            lanes: HashMap::new(),
            left: Vec::new(),
        };
        for (node, (&column, &(stack, top))) in first.levels.iter().zip(&first.places).enumerate() {
            grid.put(node, Spot { column, stack, top });
        }
        for (&lane, &top) in &first.lanes {
            grid.put_lane(lane, top);
        }
        grid
    }

    /// Takes up what the graph is now. What depends on the same as before stays; what does not, or is new, goes where
    /// there is room near to where it was, or to what it depends on.
    pub(super) fn grow(&mut self, graph: &Graph) {
        let before: Vec<Vec<usize>> = graph.iter().map(|before| before.clone().unwrap_or_default()).collect();
        let levels = levels(&before);
        let stays = |spot: &Option<Spot>, node: usize| {
            graph[node].is_some() && spot.is_some_and(|spot| spot.column == levels[node])
        };
        for node in 0..graph.len() {
            if self.is_shown[node] && !stays(&self.boxes[node], node) {
                self.remove(node);
            }
        }
        let lanes = lanes(&before, &levels).unwrap_or_default();
        let is_lane: HashSet<(usize, usize)> = lanes.iter().copied().collect();
        let gone: Vec<(usize, usize)> =
            self.lanes.keys().copied().filter(|lane| !is_lane.contains(lane) || !self.is_shown[lane.0]).collect();
        gone.into_iter().for_each(|lane| self.remove_lane(lane));
        // What it depends on is further left, and has its place by then.
        let mut moved: Vec<usize> =
            (0..graph.len()).filter(|&node| graph[node].is_some() && !self.is_shown[node]).collect();
        moved.sort_by_key(|&node| levels[node]);
        let mut coming: BTreeMap<usize, usize> = BTreeMap::new();
        for &node in &moved {
            *coming.entry(levels[node]).or_default() += 1;
        }
        let most: BTreeMap<usize, usize> =
            coming.into_iter().map(|(column, coming)| (column, self.column(column).most_in_stack(coming))).collect();
        for node in moved {
            let wanted = self.boxes[node].map_or_else(|| self.middle(&before[node]), |spot| spot.top);
            let (stack, top) = self.column(levels[node]).free(wanted, most[&levels[node]]);
            self.put(node, Spot { column: levels[node], stack, top });
        }
        for lane in lanes {
            if let (None, Some(spot)) = (self.lanes.get(&lane), self.boxes[lane.0])
                && self.column(lane.1).stacks.len() <= 1
            {
                let top = self.column(lane.1).stack(0).free(spot.top + BOX_HEIGHT / 2, LANE);
                self.put_lane(lane, top);
            }
        }
    }

    /// Says how wide the columns are, once all has its place.
    pub(super) fn finish(&mut self) {
        let mut left = MARGIN;
        self.left = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            self.left.push(left);
            left += column.width() + CHANNEL;
        }
    }

    /// The left upper corner of a box; none if it is not drawn.
    pub(super) fn place(&self, node: usize) -> Option<(u32, u32)> {
        let Spot { column, stack, top } = self.boxes[node].filter(|_| self.is_shown[node])?;
        Some((self.left[column] + stack as u32 * (BOX_WIDTH + STACK_GAP), MARGIN + top))
    }

    /// The column of a box that is drawn.
    pub(super) fn column_of(&self, node: usize) -> Option<usize> {
        self.boxes[node].filter(|_| self.is_shown[node]).map(|spot| spot.column)
    }

    /// Where the lines of a box pass a column: from, to and how far down.
    pub(super) fn lane(&self, node: usize, column: usize) -> Option<(u32, u32, u32)> {
        let top = self.lanes.get(&(node, column))?;
        let left = self.left[column];
        Some((left, left + self.columns[column].width(), MARGIN + top + LANE / 2))
    }

    pub(super) fn width(&self) -> u32 {
        let ends = self.columns.iter().zip(&self.left).filter(|(column, _)| !column.is_empty());
        ends.map(|(column, left)| left + column.width()).max().unwrap_or_default() + MARGIN
    }

    pub(super) fn height(&self) -> u32 {
        let stacks = self.columns.iter().flat_map(|column| &column.stacks);
        stacks.filter_map(Stack::end).max().unwrap_or_default().saturating_sub(GAP) + 2 * MARGIN
    }

    fn column(&mut self, column: usize) -> &mut Column {
        if self.columns.len() <= column {
            self.columns.resize(column + 1, Column::default());
        }
        &mut self.columns[column]
    }

    fn put(&mut self, node: usize, spot: Spot) {
        (self.boxes[node], self.is_shown[node]) = (Some(spot), true);
        let stack = self.column(spot.column).stack(spot.stack);
        stack.take(spot.top, BOX_HEIGHT + GAP);
        stack.boxes += 1;
    }

    /// Frees the place of a box, which is remembered.
    fn remove(&mut self, node: usize) {
        self.is_shown[node] = false;
        if let Some(spot) = self.boxes[node] {
            let stack = self.column(spot.column).stack(spot.stack);
            stack.leave(spot.top, BOX_HEIGHT + GAP);
            stack.boxes -= 1;
        }
    }

    fn put_lane(&mut self, lane: (usize, usize), top: u32) {
        self.lanes.insert(lane, top);
        self.column(lane.1).stack(0).take(top, LANE);
    }

    fn remove_lane(&mut self, lane: (usize, usize)) {
        if let Some(top) = self.lanes.remove(&lane) {
            self.column(lane.1).stack(0).leave(top, LANE);
        }
    }

    /// The mean place of some boxes.
    fn middle(&self, nodes: &[usize]) -> u32 {
        let tops = nodes.iter().filter_map(|&node| self.boxes[node]).map(|spot| u64::from(spot.top));
        let sum: u64 = tops.sum();
        u32::try_from(sum / nodes.len().max(1) as u64).unwrap_or(u32::MAX)
    }
}

impl Column {
    fn stack(&mut self, stack: usize) -> &mut Stack {
        if self.stacks.len() <= stack {
            self.stacks.resize(stack + 1, Stack::default());
        }
        &mut self.stacks[stack]
    }

    /// How high its stacks may become when so many boxes come. One more stack moves all that is further right, so a few
    /// boxes make those that are there higher instead.
    fn most_in_stack(&self, coming: usize) -> usize {
        let boxes: usize = self.stacks.iter().map(|stack| stack.boxes).sum();
        let has_room = boxes + coming <= self.stacks.len() * MOST_IN_GROWN_STACK;
        if has_room { MOST_IN_GROWN_STACK } else { MOST_IN_STACK }
    }

    /// Free room for a box in the first stack that has any, as near to `wanted` as may be.
    fn free(&mut self, wanted: u32, most: usize) -> (usize, u32) {
        let has_room = |limit: usize| self.stacks.iter().position(|stack| stack.boxes < limit);
        let stack = has_room(MOST_IN_STACK).or_else(|| has_room(most)).unwrap_or(self.stacks.len());
        (stack, self.stack(stack).free(wanted, BOX_HEIGHT + GAP))
    }

    /// How wide it is: as wide as a box at least.
    fn width(&self) -> u32 {
        let stacks = self.stacks.iter().rposition(|stack| stack.boxes > 0).unwrap_or_default() as u32 + 1;
        stacks * (BOX_WIDTH + STACK_GAP) - STACK_GAP
    }

    fn is_empty(&self) -> bool {
        self.stacks.iter().all(|stack| stack.taken.is_empty())
    }
}

impl Stack {
    fn take(&mut self, top: u32, height: u32) {
        let at = self.taken.partition_point(|taken| *taken < (top, height));
        self.taken.insert(at, (top, height));
    }

    /// Frees what was taken there.
    fn leave(&mut self, top: u32, height: u32) {
        if let Ok(at) = self.taken.binary_search(&(top, height)) {
            self.taken.remove(at);
        }
    }

    /// The free place of this height that is nearest to `wanted`.
    fn free(&self, wanted: u32, height: u32) -> u32 {
        let mut best: Option<u32> = None;
        let mut from = 0;
        let ends = self.taken.iter().copied().chain([(u32::MAX, 0)]);
        for (top, taken) in ends {
            if top.saturating_sub(from) >= height {
                let here = wanted.clamp(from, top - height);
                if best.is_none_or(|best| here.abs_diff(wanted) < best.abs_diff(wanted)) {
                    best = Some(here);
                }
            }
            from = from.max(top.saturating_add(taken));
        }
        best.unwrap_or(from)
    }

    fn end(&self) -> Option<u32> {
        self.taken.iter().map(|(top, height)| top + height).max()
    }
}
