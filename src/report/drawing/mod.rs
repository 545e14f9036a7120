//! A plan drawn for a terminal: levels from top to bottom, lines between them. On which level each step is, and where on
//! it, is what [`layout`](super::layout) says of every drawing; here it is put into characters.
//!
//! Steps with the same dependents share one line, and a dependency that skips levels runs through them as a lane. Every
//! step has a column of its own for each line that enters it, so lines may cross but never run into each other: what
//! is drawn can be read back exactly. Where that takes more room than there is, levels are folded, and where that does
//! not help the plan is listed.

mod layout;
mod list;
mod route;

use super::graph::Graph;

/// Narrower terminals are drawn for as if they were this wide: their lines wrap, but nothing is lost.
const NARROWEST: usize = 40;
/// Nobody follows lines through more levels than this.
const MOST_LEVELS: usize = 100;
/// How often folding is tried.
const FOLDS: usize = 8;

/// Draws `graph` in at most `columns` columns.
pub(super) fn draw(graph: &Graph, columns: usize) -> String {
    let columns = columns.max(NARROWEST);
    let picture = fitting_layout(graph, columns).and_then(|layout| route::render(&layout));
    let mut text = picture.unwrap_or_else(|| list::list(graph, columns));
    text.push_str("\n◆ critical path\n");
    text
}

/// A layout of the graph, its widest levels folded until all fit.
fn fitting_layout(graph: &Graph, columns: usize) -> Option<layout::Layout> {
    let mut shown = graph.level_sizes();
    if shown.len() > MOST_LEVELS {
        return None;
    }
    for _ in 0..FOLDS {
        let mut layout = layout::Layout::new(graph, &shown, columns);
        let mut fits = true;
        for (level, shown) in shown.iter_mut().enumerate() {
            let width = layout.width(level);
            if width > columns {
                fits = false;
                *shown = (*shown * columns / width).min(shown.saturating_sub(1));
            }
        }
        if fits {
            layout.arrange(columns);
            return Some(layout);
        }
    }
    None
}

/// What a step is called in the picture: its id, cut so that one long id neither folds its whole level nor leaves no
/// room for what it waits for.
fn label(graph: &Graph, node: usize, columns: usize) -> String {
    const MOST_CHARS: usize = 32;
    let most = MOST_CHARS.min(columns / 2 - 4);
    let id = &graph.nodes[node].label;
    match id.char_indices().nth(most) {
        Some(_) => format!("{}…", id.chars().take(most - 1).collect::<String>()),
        None => id.clone(),
    }
}

/// The mark of a step on the critical path.
fn mark(critical: bool) -> &'static str {
    if critical { "◆ " } else { "" }
}

#[cfg(test)]
mod tests;
