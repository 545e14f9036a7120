//! Which items a picture has, and which lines join them. Where each stands is for [`crate::report::layout`] to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{label, mark};
use crate::report::graph::Graph;
use crate::report::layout::{Extent, places};

/// Free columns between two items.
const GAP: usize = 2;

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
}

impl Layout {
    /// Cuts the graph into levels, of each of which `shown` steps are drawn and the rest become `+12 more`.
    pub(super) fn new(graph: &Graph, shown: &[usize], columns: usize) -> Self {
        let Drawn { texts, node_of } = Drawn::new(graph, shown, columns);
        let mut targets: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for &(from, to) in &graph.edges {
            targets.entry(node_of[from]).or_default().insert(node_of[to]);
        }
        let mut layout = Self { levels: Vec::new(), lines: Vec::new() };
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

    /// Gives every item its column.
    pub(super) fn arrange(&mut self, columns: usize) {
        let (mut before, mut extents) = (Vec::new(), Vec::new());
        // The number of the first item of the level above.
        let mut above = 0;
        for (level, items) in self.levels.iter().enumerate() {
            let first = before.len();
            let lines = level.checked_sub(1).map_or(&[][..], |above| &self.lines[above]);
            for item in items {
                let sources = item.incoming.iter().flat_map(|&line| &lines[line].from);
                before.push(sources.map(|source| above + source).collect());
                extents.push(Extent { size: (item.width + GAP) as u32, joint: (item.width / 2) as u32 });
            }
            above = first;
        }
        let places = places(&before, extents, (columns + GAP) as u32);
        for (item, place) in self.levels.iter_mut().flatten().zip(places) {
            item.column = place as usize;
        }
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
