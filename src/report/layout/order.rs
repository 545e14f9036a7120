//! Where boxes stand: in an order in which few lines cross, near to what they are joined with.

use std::collections::HashMap;

use super::levels::{lanes, levels};

/// The room that something takes up in its column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How much it is, the gap to the next one included.
    pub(crate) size: u32,
    /// How far from its beginning its lines begin and end.
    pub(crate) joint: u32,
}

/// The room there is, and what of it is needed, in whatever is the unit of a drawing.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// What each box takes up.
    pub(super) boxes: Vec<Extent>,
    /// What a line takes up that passes a column.
    pub(super) lane: Extent,
    /// Columns of more boxes become several stacks.
    pub(super) most_in_stack: usize,
    /// The length of a column, unless it may be as long as it likes.
    pub(super) length: Option<u32>,
}

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
    size: f64,
    joint: f64,
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
        self.top + self.joint
    }
}

impl Arranged {
    /// `before` says what each box depends on.
    pub(super) fn new(before: &[Vec<usize>], room: &Room) -> Self {
        let levels = levels(before);
        let mut columns = Columns::new(before, &levels, room);
        columns.sort();
        columns.align();
        columns.finish(levels)
    }
}

struct Columns<'a> {
    room: &'a Room,
    items: Vec<Item>,
    /// The box of an item, or the box whose lines it is a lane of, and the column.
    what: Vec<(usize, usize)>,
    boxes: usize,
    /// The items of each column, from top to bottom.
    order: Vec<Vec<usize>>,
}

impl<'a> Columns<'a> {
    fn new(before: &[Vec<usize>], levels: &[usize], room: &'a Room) -> Self {
        let boxes = before.len();
        let mut what: Vec<(usize, usize)> = levels.iter().copied().enumerate().collect();
        let lanes = lanes(before, levels).unwrap_or_default();
        let lane_of: HashMap<(usize, usize), usize> = lanes.iter().copied().zip(boxes..).collect();
        what.extend(lanes);
        let mut order = vec![Vec::new(); levels.iter().max().map_or(0, |last| last + 1)];
        let mut items = Vec::with_capacity(what.len());
        for (item, &(_, level)) in what.iter().enumerate() {
            order[level].push(item);
            let Extent { size, joint } = room.boxes.get(item).copied().unwrap_or(room.lane);
            items.push(Item {
                size: f64::from(size),
                joint: f64::from(joint),
                top: 0.0,
                stack: 0,
                before: Vec::new(),
                after: Vec::new(),
            });
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
        Self { room, items, what, boxes, order }
    }

    /// Gives each column an order in which few lines cross: by the middle of what its items are joined with. Sweeps may
    /// also make it worse, so the best order is kept.
    fn sort(&mut self) {
        (0..self.order.len()).for_each(|level| self.pack(level));
        let mut best = (self.crossings(), self.order.clone());
        for sweep in 0..SWEEPS {
            if sweep % 2 == 0 {
                (1..self.order.len()).for_each(|level| self.sort_column(level, |item| &item.before));
            } else {
                (0..self.order.len()).rev().for_each(|level| self.sort_column(level, |item| &item.after));
            }
            let crossings = self.crossings();
            if crossings <= best.0 {
                best = (crossings, self.order.clone());
            }
        }
        self.order = best.1;
        (0..self.order.len()).for_each(|level| self.pack(level));
    }

    /// How many pairs of lines cross between neighbouring columns.
    fn crossings(&self) -> u64 {
        let mut position = vec![0; self.items.len()];
        for column in &self.order {
            column.iter().enumerate().for_each(|(place, &item)| position[item] = place);
        }
        let mut crossings = 0;
        for columns in self.order.windows(2) {
            // Lines from further down that end further up than those before them cross them. How many ended where is
            // kept in a tree of sums (Fenwick).
            let mut ended = vec![0_u64; columns[1].len() + 1];
            let mut lines = 0;
            for &item in &columns[0] {
                for &to in &self.items[item].after {
                    let mut at = position[to] + 1;
                    crossings += lines;
                    while at > 0 {
                        crossings -= ended[at];
                        at &= at - 1;
                    }
                }
                for &to in &self.items[item].after {
                    let mut at = position[to] + 1;
                    while at < ended.len() {
                        ended[at] += 1;
                        at += at & at.wrapping_neg();
                    }
                    lines += 1;
                }
            }
        }
        crossings
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
        let in_stack = self.in_stack(level);
        let begin = -self.length(level) / 2.0;
        let (mut top, mut place) = (begin, 0);
        for &item in &self.order[level] {
            if in_stack.is_some() && item >= self.boxes {
                continue;
            }
            if in_stack.is_some_and(|in_stack| place % in_stack == 0) {
                top = begin;
            }
            let item = &mut self.items[item];
            item.top = top;
            item.stack = in_stack.map_or(0, |in_stack| place / in_stack);
            top += item.size;
            place += 1;
        }
    }

    /// How many boxes of a column are below each other, if it becomes several stacks.
    fn in_stack(&self, level: usize) -> Option<usize> {
        let boxes = self.boxes_of(level).count();
        (boxes > self.room.most_in_stack).then(|| boxes.div_ceil(boxes.div_ceil(self.room.most_in_stack)))
    }

    fn boxes_of(&self, level: usize) -> impl Iterator<Item = usize> {
        self.order[level].iter().copied().filter(|item| *item < self.boxes)
    }

    /// How long a column is when it is packed.
    fn length(&self, level: usize) -> f64 {
        let length = |items: &[usize]| items.iter().map(|&item| self.items[item].size).sum();
        match self.in_stack(level) {
            Some(in_stack) => {
                let boxes: Vec<usize> = self.boxes_of(level).collect();
                boxes.chunks(in_stack).map(length).fold(0.0, f64::max)
            }
            None => length(&self.order[level]),
        }
    }

    fn mean(&self, items: &[usize]) -> Option<f64> {
        let sum: f64 = items.iter().map(|&item| self.items[item].middle()).sum();
        (!items.is_empty()).then(|| sum / items.len() as f64)
    }

    /// The longest column stays packed, the others align with it.
    fn align(&mut self) {
        let levels = 0..self.order.len();
        let longest = levels.rev().max_by(|left, right| self.length(*left).total_cmp(&self.length(*right)));
        let longest = longest.unwrap_or_default();
        for level in (0..longest).rev() {
            self.align_column(level, |item| &item.after);
        }
        for level in longest + 1..self.order.len() {
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
            let (mut place, mut size) = (middle - item.joint - offset, 1);
            while let Some((above, others)) = blocks.pop_if(|(above, _)| *above > place) {
                place = (place * size as f64 + above * others as f64) / (size + others) as f64;
                size += others;
            }
            blocks.push((place, size));
            offsets.push(offset);
            offset += item.size;
        }
        // Columns are centred, and so is what there is room for.
        let (first, last) = match self.room.length {
            Some(length) => (-f64::from(length) / 2.0, f64::from(length) / 2.0 - offset),
            None => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let within = |place: f64| place.min(last).max(first);
        let starts = blocks.into_iter().flat_map(|(place, size)| std::iter::repeat_n(within(place), size));
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
