//! Spans on other threads around everything that is linked. Who has others do its work waits for them, and so does what
//! stands for a program's whole time. Put inside of it, what they did is not counted twice.

use std::cmp::Reverse;

use super::Trace;
use super::tree::Tree;

/// Puts all threads that links say anything of into the spans of the others that were around all of them, and that had
/// little time of their own beside them.
pub(super) fn put_inside(trace: &mut Trace) {
    let linked = trace.links.iter().flat_map(|&(after, before)| [after, before]);
    let linked: Vec<usize> = linked.chain(trace.waiting_for_nothing.iter().copied()).collect();
    let spans = &mut trace.spans;
    let Some(start) = linked.iter().map(|&span| spans[span].start).min() else { return };
    let end = linked.iter().map(|&span| spans[span].end).max().unwrap_or(start);
    let tree = Tree::of(spans);
    // By the span, the outermost around it.
    let mut top = vec![0; spans.len()];
    tree.order().iter().for_each(|&span| top[span] = spans[span].parent.map_or(span, |parent| top[parent]));
    let mut has_links = vec![false; spans.len()];
    linked.iter().for_each(|&span| has_links[top[span]] = true);
    let of_links = (0..spans.len()).filter(|&span| has_links[span]);
    let busy = super::union(of_links.map(|span| (spans[span].start, spans[span].end)).collect());
    // By the outermost, the innermost that is around everything.
    let mut innermost = vec![None; spans.len()];
    for &span in tree.order() {
        let is_around = spans[span].start <= start && end <= spans[span].end && start < end;
        let is_next = spans[span].parent == innermost[top[span]];
        let took = spans[span].end.saturating_sub(spans[span].start);
        if is_around && is_next && !has_links[top[span]] && took <= busy.saturating_mul(2) {
            innermost[top[span]] = Some(span);
        }
    }
    let (mut around, inside): (Vec<usize>, Vec<usize>) =
        (0..spans.len()).filter(|&span| top[span] == span).partition(|&span| innermost[span].is_some());
    around.sort_by_key(|&span| (spans[span].start, Reverse(spans[span].end)));
    let mut parent = None;
    for &span in &around {
        spans[span].parent = parent;
        parent = innermost[span];
    }
    let Some(last) = parent else { return };
    for span in inside {
        let is_inside = spans[last].start <= spans[span].start && spans[span].end <= spans[last].end;
        if has_links[span] || is_inside {
            spans[span].parent = parent;
        }
    }
    trace.around = around.first().map(|&outermost| spans[outermost].name.clone());
}
