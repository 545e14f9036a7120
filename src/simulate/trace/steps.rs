//! What of a trace is a step, and what waits for what.
//!
//! Links say at what grain a program is looked at. A span with a link is a step, whatever happened inside of it: nothing
//! says that it could have happened in another order. A span that only has steps inside of it is a frame: its own time,
//! in which nothing inside was going on, stays where it was, before what began after it; what it did last waits for all
//! inside. Every other span is a step of its own, unless it is part of one. Where no span has a link, those with nothing
//! inside are the steps.

use std::ops::Range;

use super::tree::Tree;
use super::{Trace, TraceError};

/// The most pairs of steps of which one waits for the other.
const MOST_LINKS: usize = 1_000_000;

/// A stretch of time in which a span did something itself.
pub(super) struct Piece {
    pub(super) span: usize,
    pub(super) start: i64,
    pub(super) end: i64,
    /// The numbers of the pieces that were waited for.
    pub(super) after: Vec<u32>,
}

impl Piece {
    pub(super) fn nanos(&self) -> i64 {
        self.end - self.start
    }
}

pub(super) struct Steps {
    /// All steps, and the own time of frames.
    pub(super) pieces: Vec<Piece>,
    /// How many of them are steps.
    pub(super) count: usize,
    /// How many links there are between steps, if there are any, or if every step is known to wait for nothing.
    pub(super) links: Option<usize>,
    /// The time of the steps that no link says anything of.
    pub(super) unlinked: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Step,
    Frame,
    /// It is a part of a step.
    Part,
}

/// What a span means for what is inside of it.
#[derive(Clone, Default)]
struct Inside {
    /// The own time of a frame.
    own: Range<usize>,
    /// The piece that is over before anything in the span begins.
    gate: Option<u32>,
    /// The piece that waits for everything in the span: the last of a frame around it.
    last: Option<u32>,
}

impl Steps {
    pub(super) fn of(trace: &Trace) -> Result<Self, TraceError> {
        let tree = Tree::of(&trace.spans);
        // Whoever is linked to what it is part of waits for nothing.
        let is_within = |one, other| tree.is_within(one, other) || tree.is_within(other, one);
        let mut links: Vec<_> =
            trace.links.iter().copied().filter(|&(after, before)| !is_within(after, before)).collect();
        links.sort_unstable();
        links.dedup();
        let mut is_linked = vec![false; trace.spans.len()];
        trace.waiting_for_nothing.iter().for_each(|&span| is_linked[span] = true);
        links.iter().for_each(|&(after, before)| (is_linked[after], is_linked[before]) = (true, true));
        let has_links = !links.is_empty() || tree.order().iter().all(|&span| is_linked[span] || !tree.is_leaf(span));
        let is_marked = |span: usize| if has_links { is_linked[span] } else { tree.is_leaf(span) };
        let roles = roles(trace, &tree, is_marked);
        let mut steps = Self { pieces: Vec::new(), count: 0, links: has_links.then_some(links.len()), unlinked: 0 };
        // How many pieces there are of what comes before each place.
        let mut before = vec![0];
        let mut children: Vec<Vec<(i64, i64)>> = vec![Vec::new(); trace.spans.len()];
        for span in &trace.spans {
            span.parent.into_iter().for_each(|parent| children[parent].push((span.start, span.end)));
        }
        let mut inside: Vec<Inside> = vec![Inside::default(); trace.spans.len()];
        for &index in tree.order() {
            let span = &trace.spans[index];
            let mut here =
                span.parent.map_or_else(Inside::default, |parent| steps.in_child(&inside[parent], span.start));
            match roles[index] {
                Role::Step => {
                    steps.push(Piece { span: index, start: span.start, end: span.end, after: Vec::new() }, &here);
                    steps.count += 1;
                    steps.unlinked += if is_linked[index] { 0 } else { span.end - span.start };
                }
                Role::Frame => steps.push_own(index, trace, &mut children[index], &mut here),
                Role::Part => {}
            }
            inside[index] = here;
            before.push(steps.pieces.len() as u32);
        }
        let inside = |span| {
            let places = tree.places(span);
            before[places.start]..before[places.end]
        };
        steps.link(&links, inside)?;
        Ok(steps)
    }

    /// What a span that began then is inside of, as the one around it has it.
    fn in_child(&self, outer: &Inside, start: i64) -> Inside {
        let own = &self.pieces[outer.own.clone()];
        let gate = match own.partition_point(|piece| piece.end <= start) {
            0 => outer.gate,
            over => Some((outer.own.start + over - 1) as u32),
        };
        Inside { own: 0..0, gate, last: outer.last }
    }

    fn push(&mut self, mut piece: Piece, inside: &Inside) {
        let number = self.pieces.len() as u32;
        piece.after.extend(inside.gate);
        self.pieces.push(piece);
        inside.last.into_iter().for_each(|last| self.pieces[last as usize].after.push(number));
    }

    /// The time of a frame in which nothing inside of it was going on.
    fn push_own(&mut self, index: usize, trace: &Trace, children: &mut [(i64, i64)], inside: &mut Inside) {
        let span = &trace.spans[index];
        let first = self.pieces.len();
        let mut gate = inside.gate;
        let mut at = span.start;
        children.sort_unstable();
        for &(start, end) in children.iter().chain([&(span.end, i64::MIN)]) {
            let until = start.min(span.end);
            if until > at {
                self.push(
                    Piece { span: index, start: at, end: until, after: Vec::new() },
                    &Inside { gate, ..inside.clone() },
                );
                gate = Some((self.pieces.len() - 1) as u32);
            }
            at = at.max(end);
        }
        inside.own = first..self.pieces.len();
        let last_end = children.iter().map(|&(_, end)| end).max();
        if self.pieces[inside.own.clone()].last().is_some_and(|last| last_end <= Some(last.start)) {
            inside.last = gate;
        }
    }

    /// A link of a step is one of all steps inside of it.
    fn link(&mut self, links: &[(usize, usize)], inside: impl Fn(usize) -> Range<u32>) -> Result<(), TraceError> {
        let mut pairs = 0;
        for &(after, before) in links {
            pairs += inside(after).len().saturating_mul(inside(before).len());
            if pairs > MOST_LINKS {
                return Err(TraceError::TooManyLinks { limit: MOST_LINKS });
            }
            for later in inside(after) {
                self.pieces[later as usize].after.extend(inside(before));
            }
        }
        for piece in &mut self.pieces {
            piece.after.sort_unstable();
            piece.after.dedup();
        }
        Ok(())
    }
}

fn roles(trace: &Trace, tree: &Tree, is_marked: impl Fn(usize) -> bool) -> Vec<Role> {
    let mut has_marked = vec![false; trace.spans.len()];
    for &index in tree.order().iter().rev() {
        if let Some(parent) = trace.spans[index].parent {
            has_marked[parent] |= is_marked(index) || has_marked[index];
        }
    }
    let mut roles = vec![Role::Step; trace.spans.len()];
    for &index in tree.order() {
        let is_in_frame = trace.spans[index].parent.is_none_or(|parent| roles[parent] == Role::Frame);
        roles[index] = match is_in_frame {
            _ if is_marked(index) => Role::Step,
            true if has_marked[index] => Role::Frame,
            true => Role::Step,
            false => Role::Part,
        };
    }
    roles
}
