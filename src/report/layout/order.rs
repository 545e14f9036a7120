//! Where the boxes of the first plan stand: in an order in which few lines cross, near to what they are joined with.

use std::collections::HashMap;

use super::levels::{lanes, levels};
use super::{BOX_HEIGHT, GAP, LANE, MOST_IN_STACK};

/// Down, up, and so on: later sweeps change little.
const SWEEPS: usize = 8;

/// A graph in columns.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// The column of each box.
    pub(super) levels: Vec<usize>,
    /// The stack of its column that each box is in, and how far down it is.
    pub(super) places: Vec<(usize, u32)>,
    /// How far down the lines of a box pass a column, by box and column.
    pub(super) lanes: HashMap<(usize, usize), u32>,
}

/// Something in a column.
#[derive(Debug)]
struct Item {
    height: f64,
    top: f64,
    /// Which stack of its column it is in.
    stack: usize,
    /// Items of the column before that it is joined with.
    before: Vec<usize>,
    /// Items of the next column.
    after: Vec<usize>,
}

impl Item {
    fn middle(&self) -> f64 {
        self.top + self.height / 2.0
    }
}

impl Arranged {
    pub(super) fn new(before: &[Vec<usize>]) -> Self {
        let levels = levels(before);
        let mut columns = Columns::new(before, &levels);
        columns.sort();
        columns.align();
        columns.finish(levels)
    }
}

struct Columns {
    items: Vec<Item>,
    /// The box of an item, or the box whose lines it is a lane of, and the column.
    what: Vec<(usize, usize)>,
    boxes: usize,
    /// The items of each column, from top to bottom.
    order: Vec<Vec<usize>>,
}

impl Columns {
    fn new(before: &[Vec<usize>], levels: &[usize]) -> Self {
        let boxes = before.len();
        let mut what: Vec<(usize, usize)> = levels.iter().copied().enumerate().collect();
        let lanes = lanes(before, levels).unwrap_or_default();
        let lane_of: HashMap<(usize, usize), usize> = lanes.iter().copied().zip(boxes..).collect();
        what.extend(lanes);
        let mut order = vec![Vec::new(); levels.iter().max().map_or(0, |last| last + 1)];
        let mut items = Vec::with_capacity(what.len());
        for (item, &(_, level)) in what.iter().enumerate() {
            order[level].push(item);
            let height = f64::from(if item < boxes { BOX_HEIGHT + GAP } else { LANE });
            items.push(Item { height, top: 0.0, stack: 0, before: Vec::new(), after: Vec::new() });
        }
        // The last item of a box's lines before a column: a lane, or the box itself.
        let up_to = |node: usize, level: usize| match level.checked_sub(1) {
            Some(level) if level > levels[node] => lane_of.get(&(node, level)).copied(),
            Some(level) if level == levels[node] => Some(node),
            _ => None,
        };
        let mut join = |from: Option<usize>, to: usize| {
            if let Some(from) = from {
                items[from].after.push(to);
                items[to].before.push(from);
            }
        };
        for (node, before) in before.iter().enumerate() {
            before.iter().for_each(|&earlier| join(up_to(earlier, levels[node]), node));
        }
        for (&(node, level), &lane) in &lane_of {
            join(up_to(node, level), lane);
        }
        for item in &mut items {
            item.before.sort_unstable();
            item.after.sort_unstable();
        }
        Self { items, what, boxes, order }
    }

    /// Gives each column an order in which few lines cross: by the middle of what its items are joined with.
    fn sort(&mut self) {
        (0..self.order.len()).for_each(|level| self.pack(level));
        for sweep in 0..SWEEPS {
            if sweep % 2 == 0 {
                (1..self.order.len()).for_each(|level| self.sort_column(level, |item| &item.before));
            } else {
                (0..self.order.len()).rev().for_each(|level| self.sort_column(level, |item| &item.after));
            }
        }
    }

    fn sort_column(&mut self, level: usize, neighbours: fn(&Item) -> &Vec<usize>) {
        let mut keyed: Vec<(f64, usize)> = self.order[level]
            .iter()
            .map(|&item| (self.mean(neighbours(&self.items[item])).unwrap_or(self.items[item].middle()), item))
            .collect();
        keyed.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        self.order[level] = keyed.into_iter().map(|(_, item)| item).collect();
        self.pack(level);
    }

    /// Puts the items of a column below each other, centred so that columns can be compared. Many boxes become several
    /// stacks, and lines pass behind them.
    fn pack(&mut self, level: usize) {
        let order = &self.order[level];
        if let Some(in_stack) = self.in_stack(level) {
            let top = -(in_stack as f64) * f64::from(BOX_HEIGHT + GAP) / 2.0;
            for (place, &item) in order.iter().filter(|item| **item < self.boxes).enumerate() {
                self.items[item].top = top + (place % in_stack) as f64 * f64::from(BOX_HEIGHT + GAP);
                self.items[item].stack = place / in_stack;
            }
            return;
        }
        let mut top = -self.height(level) / 2.0;
        for &item in order {
            self.items[item].top = top;
            top += self.items[item].height;
        }
    }

    /// How many boxes of a column are below each other, if it becomes several stacks.
    fn in_stack(&self, level: usize) -> Option<usize> {
        let boxes = self.order[level].iter().filter(|item| **item < self.boxes).count();
        (boxes > MOST_IN_STACK).then(|| boxes.div_ceil(boxes.div_ceil(MOST_IN_STACK)))
    }

    fn height(&self, level: usize) -> f64 {
        match self.in_stack(level) {
            Some(in_stack) => in_stack as f64 * f64::from(BOX_HEIGHT + GAP),
            None => self.order[level].iter().map(|&item| self.items[item].height).sum(),
        }
    }

    fn mean(&self, items: &[usize]) -> Option<f64> {
        let sum: f64 = items.iter().map(|&item| self.items[item].middle()).sum();
        (!items.is_empty()).then(|| sum / items.len() as f64)
    }

    /// The highest column stays packed, the others align with it.
    fn align(&mut self) {
        let levels = 0..self.order.len();
        let highest = levels.rev().max_by(|left, right| self.height(*left).total_cmp(&self.height(*right)));
        let highest = highest.unwrap_or_default();
        for level in (0..highest).rev() {
            self.align_column(level, |item| &item.after);
        }
        for level in highest + 1..self.order.len() {
            self.align_column(level, |item| &item.before);
        }
    }

    /// Moves the items of a column as near to their neighbours as their order allows, in the least squares sense: items
    /// that want the same place form a block, whose place is the mean of what its items want.
    fn align_column(&mut self, level: usize, neighbours: fn(&Item) -> &Vec<usize>) {
        if self.in_stack(level).is_some() {
            return;
        }
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        let mut offsets = Vec::with_capacity(self.order[level].len());
        let mut offset = 0.0;
        for &index in &self.order[level] {
            let item = &self.items[index];
            let middle = self.mean(neighbours(item)).unwrap_or(item.middle());
            let (mut place, mut size) = (middle - item.height / 2.0 - offset, 1);
            while let Some((above, others)) = blocks.pop_if(|(above, _)| *above > place) {
                place = (place * size as f64 + above * others as f64) / (size + others) as f64;
                size += others;
            }
            blocks.push((place, size));
            offsets.push(offset);
            offset += item.height;
        }
        let starts = blocks.into_iter().flat_map(|(place, size)| std::iter::repeat_n(place, size));
        for ((&index, offset), start) in self.order[level].iter().zip(offsets).zip(starts) {
            self.items[index].top = start + offset;
        }
    }

    /// Whole numbers from 0 on.
    fn finish(self, levels: Vec<usize>) -> Arranged {
        let least = self.items.iter().map(|item| item.top).fold(f64::INFINITY, f64::min);
        let top = |item: usize| (self.items[item].top - least).round() as u32;
        let is_stacked: Vec<bool> = (0..self.order.len()).map(|level| self.in_stack(level).is_some()).collect();
        let lanes = (self.boxes..self.items.len()).filter(|&item| !is_stacked[self.what[item].1]);
        Arranged {
            places: (0..self.boxes).map(|item| (self.items[item].stack, top(item))).collect(),
            lanes: lanes.map(|item| (self.what[item], top(item))).collect(),
            levels,
        }
    }
}
