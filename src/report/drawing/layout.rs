//! Which items a picture has, which lines join them, and where on its level each item stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{label, mark};
use crate::report::graph::Graph;

/// Free columns between two items.
const GAP: usize = 2;
/// Down, up and down again: later sweeps change little.
const SWEEPS: usize = 3;

/// Something that takes up room on a level.
#[derive(Debug)]
pub(super) struct Item {
    /// What is written; a lane has no text of its own.
    pub(super) text: Option<String>,
    /// The lines that come in from the level above, by position in [`Layout::lines`].
    pub(super) incoming: Vec<usize>,
    pub(super) width: usize,
    /// Its leftmost column.
    pub(super) column: usize,
}

impl Item {
    /// The column where its line leaves, and where a single line arrives.
    pub(super) fn middle(&self) -> usize {
        self.column + self.width / 2
    }
}

/// One line, from some items of a level to some of the next.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) from: Vec<usize>,
    pub(super) to: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) levels: Vec<Vec<Item>>,
    /// `lines[level]` lead from `level` to the next.
    pub(super) lines: Vec<Vec<Line>>,
    /// `order[level]` are the positions of its items from left to right.
    order: Vec<Vec<usize>>,
}

impl Layout {
    /// Cuts the graph into levels, of each of which `shown` steps are drawn and the rest become `+12 more`.
    pub(super) fn new(graph: &Graph, shown: &[usize], columns: usize) -> Self {
        let Drawn { texts, node_of } = Drawn::new(graph, shown, columns);
        let mut targets: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for &(from, to) in &graph.edges {
            targets.entry(node_of[from]).or_default().insert(node_of[to]);
        }
        let mut layout = Self { levels: Vec::new(), lines: Vec::new(), order: Vec::new() };
        let mut incoming: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut lanes: Vec<(usize, BTreeSet<usize>)> = Vec::new();
        for (level, texts) in texts.into_iter().enumerate() {
            let mut items = Vec::new();
            let mut lines = Lines::default();
            for (node, text) in texts {
                let incoming = incoming.remove(&node).unwrap_or_default();
                // A column for each line that enters, and one between any two.
                let width = text.chars().count().max((2 * incoming.len()).saturating_sub(1));
                lines.join(items.len(), targets.remove(&node).unwrap_or_default());
                items.push(Item { text: Some(text), incoming, width, column: 0 });
            }
            for (line, targets) in lanes.drain(..) {
                lines.join(items.len(), targets);
                items.push(Item { text: None, incoming: vec![line], width: 1, column: 0 });
            }
            if let Some(above) = layout.lines.last_mut() {
                for (index, item) in items.iter().enumerate() {
                    item.incoming.iter().for_each(|&line| above[line].to.push(index));
                }
            }
            for (number, targets) in lines.targets.into_iter().enumerate() {
                let (next, beyond): (BTreeSet<usize>, BTreeSet<usize>) =
                    targets.into_iter().partition(|&node| graph.nodes[node].level == level + 1);
                for node in next {
                    incoming.entry(node).or_default().push(number);
                }
                if !beyond.is_empty() {
                    lanes.push((number, beyond));
                }
            }
            layout.order.push((0..items.len()).collect());
            layout.levels.push(items);
            layout.lines.push(lines.lines);
        }
        layout
    }

    /// How many columns a level takes at least.
    pub(super) fn width(&self, level: usize) -> usize {
        let widths = self.levels[level].iter().map(|item| item.width + GAP);
        widths.sum::<usize>().saturating_sub(GAP)
    }

    /// Gives every item its column: first an order in which few lines cross, then places near its neighbours.
    pub(super) fn arrange(&mut self, columns: usize) {
        let levels = self.levels.len();
        for sweep in 0..SWEEPS {
            if sweep % 2 == 0 {
                (1..levels).for_each(|level| self.sort(level, |layout, item| layout.middle_above(level, item)));
            } else {
                (0..levels).rev().for_each(|level| self.sort(level, |layout, item| layout.middle_below(level, item)));
            }
        }
        // The widest level stays packed, the others align with it.
        let widest = (0..levels).max_by_key(|&level| (self.width(level), std::cmp::Reverse(level))).unwrap_or_default();
        for level in (0..widest).rev() {
            self.align(level, columns, |layout, item| layout.middle_below(level, item));
        }
        for level in widest + 1..levels {
            self.align(level, columns, |layout, item| layout.middle_above(level, item));
        }
    }

    /// Sorts a level by where its neighbours are, and packs it.
    fn sort(&mut self, level: usize, middle: impl Fn(&Self, usize) -> Option<f64>) {
        let mut keyed: Vec<(f64, usize)> = self.order[level]
            .iter()
            .map(|&item| (middle(self, item).unwrap_or(self.levels[level][item].middle() as f64), item))
            .collect();
        keyed.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        self.order[level] = keyed.into_iter().map(|(_, item)| item).collect();
        let mut column = 0;
        for &item in &self.order[level] {
            self.levels[level][item].column = column;
            column += self.levels[level][item].width + GAP;
        }
    }

    /// Moves the items of a level as near to their neighbours as their order allows, in the least squares sense:
    /// items that want the same place form a block, whose place is the mean of what its items want.
    fn align(&mut self, level: usize, columns: usize, middle: impl Fn(&Self, usize) -> Option<f64>) {
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        let mut offset = 0;
        let mut offsets = Vec::with_capacity(self.order[level].len());
        for &index in &self.order[level] {
            let item = &self.levels[level][index];
            let wanted = middle(self, index).unwrap_or(item.middle() as f64) - (item.width / 2 + offset) as f64;
            offsets.push(offset);
            offset += item.width + GAP;
            let mut block = (wanted, 1);
            while let Some((place, size)) = blocks.pop_if(|(place, _)| *place > block.0) {
                block.0 = (block.0 * block.1 as f64 + place * size as f64) / (block.1 + size) as f64;
                block.1 += size;
            }
            blocks.push(block);
        }
        let room = columns.saturating_sub(self.width(level)) as f64;
        let starts = blocks.into_iter().flat_map(|(place, size)| std::iter::repeat_n(place.clamp(0.0, room), size));
        for ((&index, offset), start) in self.order[level].iter().zip(offsets).zip(starts) {
            self.levels[level][index].column = start.round() as usize + offset;
        }
    }

    fn middle_above(&self, level: usize, item: usize) -> Option<f64> {
        let above = level.checked_sub(1)?;
        let lines = self.levels[level][item].incoming.iter();
        mean(lines.flat_map(|&line| &self.lines[above][line].from).map(|&from| self.levels[above][from].middle()))
    }

    fn middle_below(&self, level: usize, item: usize) -> Option<f64> {
        let line = self.lines[level].iter().find(|line| line.from.contains(&item))?;
        mean(line.to.iter().map(|&to| self.levels[level + 1][to].middle()))
    }
}

/// The steps as they are drawn: one by one, or folded.
struct Drawn {
    /// What is written for the drawn steps of each level. Folded steps are drawn as the first of them.
    texts: Vec<BTreeMap<usize, String>>,
    /// The drawn step that stands for each step.
    node_of: Vec<usize>,
}

impl Drawn {
    fn new(graph: &Graph, shown: &[usize], columns: usize) -> Self {
        let critical = graph.critical_nodes();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); shown.len()];
        for (node, step) in graph.nodes.iter().enumerate() {
            members[step.level].push(node);
        }
        let mut node_of: Vec<usize> = (0..graph.nodes.len()).collect();
        let texts = members.into_iter().zip(shown).map(|(mut steps, &shown)| {
            let mut texts = BTreeMap::new();
            if shown < steps.len() {
                steps.sort_by_key(|node| (!critical.contains(node), *node));
                let folded = steps.split_off(shown);
                folded.iter().for_each(|&node| node_of[node] = folded[0]);
                let what = if steps.is_empty() { "steps" } else { "more" };
                texts.insert(folded[0], format!("{}+{} {what}", mark(critical.contains(&folded[0])), folded.len()));
            }
            let text = |node| format!("{}{}", mark(critical.contains(&node)), label(graph, node, columns));
            texts.extend(steps.into_iter().map(|node| (node, text(node))));
            texts
        });
        Self { texts: texts.collect(), node_of }
    }
}

/// The lines of one level: items that lead to the same steps share one.
#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    targets: Vec<BTreeSet<usize>>,
    known: HashMap<BTreeSet<usize>, usize>,
}

impl Lines {
    fn join(&mut self, item: usize, targets: BTreeSet<usize>) {
        if targets.is_empty() {
            return;
        }
        let line = *self.known.entry(targets).or_insert_with_key(|targets| {
            self.targets.push(targets.clone());
            self.lines.push(Line::default());
            self.lines.len() - 1
        });
        self.lines[line].from.push(item);
    }
}

fn mean(columns: impl Iterator<Item = usize>) -> Option<f64> {
    let (sum, count) = columns.fold((0, 0), |(sum, count), column| (sum + column, count + 1));
    (count > 0).then(|| sum as f64 / count as f64)
}
