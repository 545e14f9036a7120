//! Where everything stands in the end: what the first plan had where it was, the rest in free places.

use std::collections::HashMap;

use super::levels::lanes;
use super::order::Arranged;
use super::{BOX_HEIGHT, BOX_WIDTH, CHANNEL, GAP, Growth, LANE, MARGIN, MOST_IN_STACK, STACK_GAP};

/// Boxes and lanes with their places.
pub(super) struct Grid {
    columns: Vec<Column>,
    /// The column, the stack and the place of each box.
    boxes: Vec<(usize, usize, u32)>,
    /// How far down the lines of a box pass a column.
    lanes: HashMap<(usize, usize), u32>,
    /// Where each column begins.
    left: Vec<u32>,
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
    pub(super) fn new(growth: &Growth, now: &[Vec<usize>], levels: &[usize], first: &Arranged) -> Self {
        let columns = vec![Column::default(); levels.iter().max().map_or(0, |last| last + 1)];
        let mut grid = Self { columns, boxes: vec![(0, 0, 0); now.len()], lanes: HashMap::new(), left: Vec::new() };
        let is_shown = |node: &usize| growth.now[*node].is_some();
        let stays = |node: &usize| first.levels.get(*node) == Some(&levels[*node]);
        for node in (0..now.len()).filter(is_shown).filter(stays) {
            let (stack, top) = first.places[node];
            grid.put(node, levels[node], stack, top);
        }
        let lanes = lanes(now, levels).unwrap_or_default();
        let (old, new): (Vec<_>, Vec<_>) =
            lanes.into_iter().partition(|lane| stays(&lane.0) && first.lanes.contains_key(lane));
        for lane in old {
            grid.put_lane(lane, first.lanes[&lane]);
        }
        // Whoever has moved, or is new, goes where there is room near what it depends on. That is further left.
        let mut moved: Vec<usize> = (0..now.len()).filter(is_shown).filter(|node| !stays(node)).collect();
        moved.sort_by_key(|&node| levels[node]);
        for node in moved {
            let wanted = match first.places.get(node) {
                Some((_, top)) => *top,
                None => grid.middle(&now[node]),
            };
            let (stack, top) = grid.columns[levels[node]].free(wanted);
            grid.put(node, levels[node], stack, top);
        }
        for (node, level) in new {
            if grid.columns[level].stacks.len() <= 1 {
                let stack = grid.columns[level].stack(0);
                let top = stack.free(grid.boxes[node].2 + BOX_HEIGHT / 2, LANE);
                grid.put_lane((node, level), top);
            }
        }
        let mut left = MARGIN;
        for column in &grid.columns {
            grid.left.push(left);
            left += column.width() + CHANNEL;
        }
        grid
    }

    /// The left upper corner of a box.
    pub(super) fn place(&self, node: usize) -> (u32, u32) {
        let (column, stack, top) = self.boxes[node];
        (self.left[column] + stack as u32 * (BOX_WIDTH + STACK_GAP), MARGIN + top)
    }

    /// Where the lines of a box pass a column: from, to and how far down.
    pub(super) fn lane(&self, node: usize, column: usize) -> Option<(u32, u32, u32)> {
        let top = self.lanes.get(&(node, column))?;
        let left = self.left[column];
        Some((left, left + self.columns[column].width(), MARGIN + top + LANE / 2))
    }

    pub(super) fn width(&self) -> u32 {
        let last = self.columns.last().map_or(0, Column::width);
        self.left.last().map_or(0, |left| left + last) + MARGIN
    }

    pub(super) fn height(&self) -> u32 {
        let stacks = self.columns.iter().flat_map(|column| &column.stacks);
        stacks.filter_map(Stack::end).max().unwrap_or_default().saturating_sub(GAP) + 2 * MARGIN
    }

    fn put(&mut self, node: usize, column: usize, stack: usize, top: u32) {
        self.boxes[node] = (column, stack, top);
        let stack = self.columns[column].stack(stack);
        stack.take(top, BOX_HEIGHT + GAP);
        stack.boxes += 1;
    }

    fn put_lane(&mut self, lane: (usize, usize), top: u32) {
        self.lanes.insert(lane, top);
        self.columns[lane.1].stack(0).take(top, LANE);
    }

    /// The mean place of some boxes.
    fn middle(&self, nodes: &[usize]) -> u32 {
        let sum: u64 = nodes.iter().map(|&node| u64::from(self.boxes[node].2)).sum();
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

    /// Free room for a box in the first stack that has any, as near to `wanted` as may be.
    fn free(&mut self, wanted: u32) -> (usize, u32) {
        let has_room = |stack: &Stack| stack.boxes < MOST_IN_STACK;
        let stack = self.stacks.iter().position(has_room).unwrap_or(self.stacks.len());
        (stack, self.stack(stack).free(wanted, BOX_HEIGHT + GAP))
    }

    fn width(&self) -> u32 {
        let stacks = self.stacks.len().max(1) as u32;
        stacks * (BOX_WIDTH + STACK_GAP) - STACK_GAP
    }
}

impl Stack {
    fn take(&mut self, top: u32, height: u32) {
        let at = self.taken.partition_point(|taken| *taken < (top, height));
        self.taken.insert(at, (top, height));
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
