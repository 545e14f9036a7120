//! A plan as a picture: Mermaid, Graphviz, and a drawing for the terminal.
//!
//! Whatever a plan says ends up in these texts as inert labels: nodes are called `n0`, `n1`, ..., and every character
//! that means something to Mermaid or Graphviz is escaped.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::iter;
use std::sync::Arc;

use crate::counted::counted;
use crate::dag::{Dag, longest_path};
use crate::event::StepNumber;
use crate::plan::Step;

use super::RunReport;
use super::layout::{self, Layout};
use super::svg::{Labelled, svg};

/// Mermaid refuses to draw more than 500 edges, with a message that does not say so.
const MERMAID_EDGES: usize = 400;
/// Every pair of this many blocks may be joined without passing [`MERMAID_EDGES`]: 28 * 27 / 2 = 378.
const BLOCKS: usize = 28;
/// What a step without an estimate is taken to last. The scheduler orders steps by the same number.
const UNKNOWN_MS: u64 = 1_000;
/// Longer labels are cut: a picture is not the place to read a prompt.
const LABEL_CHARS: usize = 60;

/// The picture of a checked plan. The path that takes longest is marked; steps without an estimate count as a second.
///
/// ```
/// use plandag::report::Graph;
/// use plandag::{Dag, Plan, Step};
///
/// let plan = Plan::from_iter([
///     Step::new("paris", "weather"),
///     Step::new("oslo", "weather"),
///     Step::new("compare", "warmest").depends_on(["paris", "oslo"]),
/// ]);
/// let graph = Graph::new(&Dag::of(&plan).unwrap());
/// let drawing = "\
/// ◆ paris  oslo
///    └───┬───┘
///    ◆ compare
///
/// ◆ critical path
/// ";
/// assert_eq!(graph.to_text(80), drawing);
/// assert!(graph.to_mermaid().starts_with("flowchart TD"));
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    /// From a step to one that depends on it, by position in `nodes`; sorted, no pair twice.
    pub(super) edges: Vec<(usize, usize)>,
    /// The longest path by estimated time.
    critical: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) label: String,
    detail: String,
    /// How many steps are before it on the longest way.
    pub(super) level: usize,
}

impl Graph {
    /// The picture of `dag`.
    pub fn new(dag: &Dag) -> Self {
        let edges = dag.graph().raw_edges().iter().map(|edge| (edge.source().index(), edge.target().index()));
        Self::of(dag.steps().iter(), edges.collect(), dag.order())
    }

    /// The picture of the plan that a run has now; what its steps became is not in it. None if there is no plan.
    pub(crate) fn of_run(report: &RunReport) -> Option<Self> {
        let scheduler = report.scheduler();
        let members: Vec<_> = report.steps().filter(|step| step.member && step.parent.is_none()).collect();
        let places: HashMap<StepNumber, usize> = members.iter().map(|step| step.number).zip(0..).collect();
        // Whoever depends on a part of what a step became is drawn below the step.
        let whole = |number| iter::successors(Some(number), |number| scheduler.step(*number)?.parent).last();
        let edges = members.iter().zip(0..).flat_map(|(step, to)| {
            let dependencies = scheduler.dependencies(step.number).iter();
            let places = dependencies.filter_map(|number| places.get(&whole(*number)?).copied());
            places.map(move |from| (from, to)).collect::<Vec<_>>()
        });
        // Numbers are given so that no step has a lower one than those it depends on.
        let order: Vec<u32> = (0..).take(members.len()).collect();
        (!members.is_empty()).then(|| Self::of(members.iter().map(|step| step.definition), edges.collect(), &order))
    }

    /// The picture of these steps, joined like this. `order` puts every step after those it depends on.
    fn of<'a>(
        steps: impl Iterator<Item = &'a Arc<Step>> + Clone,
        mut edges: Vec<(usize, usize)>,
        order: &[u32],
    ) -> Self {
        edges.sort_unstable();
        edges.dedup();
        let before = dependencies(steps.clone().count(), &edges);
        let levels = layout::levels(&before);
        let took: Vec<u64> = steps.clone().map(|step| step.estimate_ms.unwrap_or(UNKNOWN_MS)).collect();
        let critical = longest_path(
            order,
            |step| before[step as usize].iter().map(|&step| step as u32),
            |step| took[step as usize],
        );
        let nodes = steps.zip(levels).map(|(step, level)| Node {
            label: step.id.to_string(),
            detail: step.tool.as_ref().unwrap_or(&step.description).to_string(),
            level,
        });
        Self { nodes: nodes.collect(), edges, critical: critical.into_iter().map(|step| step as usize).collect() }
    }

    /// How many steps each level has.
    pub(super) fn level_sizes(&self) -> Vec<usize> {
        let mut sizes = Vec::new();
        for node in &self.nodes {
            if node.level >= sizes.len() {
                sizes.resize(node.level + 1, 0);
            }
            sizes[node.level] += 1;
        }
        sizes
    }

    /// A Mermaid flowchart, the critical path in bold. Mermaid gives up at 500 edges, so a plan of more than 400 is
    /// folded: first steps with the same neighbours into one node, then whole levels.
    pub fn to_mermaid(&self) -> String {
        let folded;
        let graph = if self.edges.len() > MERMAID_EDGES {
            folded = self.fold();
            &folded
        } else {
            self
        };
        let levels = graph.level_sizes();
        let direction = if levels.iter().max() > Some(&levels.len()) { "LR" } else { "TD" };
        let critical = Critical::of(graph);
        let mut text = format!("flowchart {direction}\n");
        for (index, node) in graph.nodes.iter().enumerate() {
            let (label, detail) = (mermaid_text(&node.label), mermaid_text(&node.detail));
            let separator = if detail.is_empty() { "" } else { "<br/>" };
            let class = if critical.nodes.contains(&index) { ":::critical" } else { "" };
            let _ = writeln!(text, "    n{index}[\"{label}{separator}{detail}\"]{class}");
        }
        for &(from, to) in &graph.edges {
            let arrow = if critical.edges.contains(&(from, to)) { "==>" } else { "-->" };
            let _ = writeln!(text, "    n{from} {arrow} n{to}");
        }
        text.push_str("    classDef critical stroke-width:3px\n");
        text
    }

    /// A Graphviz digraph, the critical path in bold. Never folded: Graphviz has no limit.
    pub fn to_dot(&self) -> String {
        let critical = Critical::of(self);
        let mut text =
            String::from("digraph plan {\n    rankdir=LR;\n    node [shape=box, fontname=\"sans-serif\"];\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let (label, detail) = (dot_text(&node.label), dot_text(&node.detail));
            let separator = if detail.is_empty() { "" } else { "\\n" };
            let style = if critical.nodes.contains(&index) { ", style=bold" } else { "" };
            let _ = writeln!(text, "    n{index} [label=\"{label}{separator}{detail}\"{style}];");
        }
        for &(from, to) in &self.edges {
            let style = if critical.edges.contains(&(from, to)) { " [style=bold]" } else { "" };
            let _ = writeln!(text, "    n{from} -> n{to}{style};");
        }
        text.push_str("}\n");
        text
    }

    /// An SVG picture, the critical path marked. It has a ground of its own and follows the reader's choice of dark or
    /// light, so it can stand in any document.
    pub fn to_svg(&self) -> String {
        let layout = Layout::of(&self.dependencies());
        let critical = Critical::of(self);
        let boxes = layout.places.iter().zip(&self.nodes).enumerate().filter_map(|(index, (place, node))| {
            Some(Labelled {
                place: (*place)?,
                name: &node.label,
                detail: node.detail.clone(),
                critical: critical.nodes.contains(&index),
                failed: false,
                outside: false,
            })
        });
        let lines = layout.lines.iter();
        let lines = lines.map(|line| (line.path.as_str(), critical.edges.contains(&(line.from, line.to))));
        svg((layout.width, layout.height), &format!("A plan of {}", counted(self.nodes.len(), "step")), boxes, lines)
    }

    /// A drawing for a terminal of `columns` columns, dependencies above their dependents. Levels that are too wide
    /// end in `+12 more`; a plan whose lines would be too many to follow is listed level by level instead.
    pub fn to_text(&self, columns: usize) -> String {
        super::drawing::draw(self, columns)
    }

    /// The nodes of the critical path.
    pub(super) fn critical_nodes(&self) -> BTreeSet<usize> {
        self.critical.iter().copied().collect()
    }

    /// What each node depends on.
    pub(super) fn dependencies(&self) -> Vec<Vec<usize>> {
        dependencies(self.nodes.len(), &self.edges)
    }

    /// A smaller graph that means the same from afar, of at most [`MERMAID_EDGES`] edges.
    fn fold(&self) -> Self {
        let dependents = neighbours(self.nodes.len(), self.edges.iter().copied());
        let dependencies = self.dependencies();
        let mut group_of = HashMap::new();
        let twins: Vec<usize> = (0..self.nodes.len())
            .map(|node| {
                let next = group_of.len();
                *group_of.entry((&dependencies[node], &dependents[node])).or_insert(next)
            })
            .collect();
        let folded = self.grouped(&twins, |nodes| match nodes {
            [only] => (only.label.clone(), only.detail.clone()),
            [first, rest @ ..] => (first.label.clone(), format!("+{} more like it", rest.len())),
            [] => unreachable!("a group has a node"),
        });
        if folded.edges.len() <= MERMAID_EDGES {
            return folded;
        }
        let levels = self.level_sizes().len();
        let per_block = levels.div_ceil(BLOCKS);
        let blocks: Vec<usize> = self.nodes.iter().map(|node| node.level / per_block).collect();
        self.grouped(&blocks, |nodes| {
            let first = nodes.iter().map(|node| node.level).min().unwrap_or_default() + 1;
            let last = nodes.iter().map(|node| node.level).max().unwrap_or_default() + 1;
            let label = if first == last { format!("level {first}") } else { format!("levels {first} to {last}") };
            (label, counted(nodes.len(), "step"))
        })
    }

    /// The graph of groups: `group_of[node]` is a number below the number of groups, and no group is empty.
    fn grouped(&self, group_of: &[usize], label: impl Fn(&[&Node]) -> (String, String)) -> Self {
        let mut groups: Vec<Vec<&Node>> = Vec::new();
        for (node, &group) in self.nodes.iter().zip(group_of) {
            if group >= groups.len() {
                groups.resize(group + 1, Vec::new());
            }
            groups[group].push(node);
        }
        let nodes = groups
            .iter()
            .map(|members| {
                let (label, detail) = label(members);
                Node { label, detail, level: members.iter().map(|node| node.level).min().unwrap_or_default() }
            })
            .collect();
        let edges: BTreeSet<(usize, usize)> = self
            .edges
            .iter()
            .map(|&(from, to)| (group_of[from], group_of[to]))
            .filter(|(from, to)| from != to)
            .collect();
        let mut critical: Vec<usize> = self.critical.iter().map(|&node| group_of[node]).collect();
        critical.dedup();
        Self { nodes, edges: edges.into_iter().collect(), critical }
    }
}

/// What is drawn in bold.
struct Critical {
    nodes: BTreeSet<usize>,
    edges: BTreeSet<(usize, usize)>,
}

impl Critical {
    fn of(graph: &Graph) -> Self {
        let edges = graph.critical.windows(2).map(|pair| (pair[0], pair[1])).collect();
        Self { nodes: graph.critical_nodes(), edges }
    }
}

/// What each node depends on.
fn dependencies(nodes: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    neighbours(nodes, edges.iter().map(|&(from, to)| (to, from)))
}

/// The neighbours of every node, in ascending order if the pairs are.
fn neighbours(nodes: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); nodes];
    for (from, to) in pairs {
        lists[from].push(to);
    }
    lists
}

/// The first [`LABEL_CHARS`] characters, on one line.
fn label_chars(text: &str) -> impl Iterator<Item = char> {
    let cut = text.chars().nth(LABEL_CHARS).is_some();
    let kept = if cut { LABEL_CHARS - 1 } else { LABEL_CHARS };
    text.chars().take(kept).map(|c| if c.is_control() { ' ' } else { c }).chain(cut.then_some('…'))
}

/// Text for a quoted Mermaid label. Everything that is not a letter, a digit or harmless punctuation becomes an entity
/// code, so nothing can end the label, start Markdown (a list is enough to break a chart) or name an HTML element.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::new();
    let mut inside_word = false;
    for c in label_chars(text) {
        let inert =
            c.is_alphanumeric() || matches!(c, ' ' | ',' | '/' | '…') || (inside_word && matches!(c, '-' | '_'));
        inside_word = c.is_alphanumeric();
        if inert {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "#{};", u32::from(c));
        }
    }
    escaped
}

/// Text for a quoted Graphviz label. Characters that could turn text around on a terminal become entities.
fn dot_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in label_chars(text) {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '&' => escaped.push_str("&amp;"),
            '…' => escaped.push(c),
            _ if c.is_ascii() || c.is_alphanumeric() => escaped.push(c),
            _ => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
        }
    }
    escaped
}

#[cfg(test)]
pub(super) mod tests;
