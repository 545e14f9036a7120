//! What of a trace is a step, and what waits for what.
//!
//! Links say at what grain a program is looked at. A span with a link is a step, whatever happened inside of it: nothing
//! says that it could have happened in another order. A span with linked spans inside is a frame: its own time, in which
//! nothing inside was going on, stays where it was, before what began after it; what it did last waits for all inside.
//! Where a frame is linked itself, that holds for its own time and for all inside. Every other span is a step of its
//! own, unless it is part of one. Where no span has a link, those with nothing inside are the steps.

use std::iter;
use std::ops::Range;

use super::attempts::{Again, Later, join};
use super::tree::Tree;
use super::{Span, Trace, TraceError};

/// The most pairs of steps of which one waits for the other.
const MOST_LINKS: usize = 1_000_000;

/// A stretch of time in which a span did something itself.
pub(super) struct Piece {
    pub(super) span: usize,
    pub(super) start: i64,
    pub(super) end: i64,
    /// The numbers of the pieces that were waited for.
    pub(super) after: Vec<u32>,
    /// The same again, where it was tried more than once.
    pub(super) later: Vec<Later>,
    /// What waits for everything around it, as [`Inside`] has it.
    last: Option<u32>,
}

impl Piece {
    fn new(span: usize, start: i64, end: i64) -> Self {
        Self { span, start, end, after: Vec::new(), later: Vec::new(), last: None }
    }

    pub(super) fn nanos(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }

    /// When a pause began, and when it was over.
    pub(super) fn pauses(&self) -> impl Iterator<Item = (i64, i64)> {
        let ends = iter::once(self.end).chain(self.later.iter().map(|later| later.end));
        ends.zip(&self.later).map(|(end, later)| (end, end.saturating_add(later.pause)))
    }
}

pub(super) struct Steps {
    /// All steps, and the own time of frames.
    pub(super) pieces: Vec<Piece>,
    /// How many of them are steps.
    pub(super) count: usize,
    /// How many links there are between steps, if there are any, or if every step is known to wait for nothing.
    pub(super) links: Option<usize>,
    /// The time of the pieces that no link says anything of.
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
                    steps.push(Piece::new(index, span.start, span.end), &here);
                    steps.count += 1;
                }
                Role::Frame => steps.push_own(index, trace, &mut children[index], &mut here),
                Role::Part => {}
            }
            inside[index] = here;
            before.push(steps.pieces.len() as u32);
        }
        let unlinked = steps.pieces.iter().filter(|piece| !is_linked[piece.span]);
        steps.unlinked = unlinked.map(Piece::nanos).fold(0, i64::saturating_add);
        let inside = |span| {
            let places = tree.places(span);
            before[places.start]..before[places.end]
        };
        steps.link(&trace.spans, &links, inside)?;
        let piece = |span| {
            let Range { start, end } = inside(span);
            (roles[span] == Role::Step && start + 1 == end).then_some(start)
        };
        let attempts = trace.attempts.iter().filter_map(|&Again { again, before, pause }| {
            Some(Again { again: piece(again)?, before: piece(before)?, pause })
        });
        let attempts: Vec<Again<u32>> = attempts.collect();
        let all = steps.pieces.len();
        steps.pieces = join(steps.pieces, &attempts);
        let joined = all - steps.pieces.len();
        steps.count -= joined;
        steps.links = steps.links.map(|links| links - joined);
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

    /// Adds a piece, which was not held up by what was not over by then, nor held up what had begun: what is inside of a
    /// span may begin before it and outlive it.
    fn push(&mut self, mut piece: Piece, inside: &Inside) {
        let number = self.pieces.len() as u32;
        piece.after.extend(inside.gate.filter(|&gate| self.pieces[gate as usize].end <= piece.start));
        piece.last = inside.last;
        let later = |&last: &u32| self.pieces[last as usize].last;
        let last = iter::successors(inside.last, later).find(|&last| self.pieces[last as usize].start >= piece.end);
        last.into_iter().for_each(|last| self.pieces[last as usize].after.push(number));
        self.pieces.push(piece);
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
                self.push(Piece::new(index, at, until), &Inside { gate, ..inside.clone() });
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

    /// A link of a frame is one of its own time and of all inside of it, but for what was not over by then, or had begun.
    fn link(
        &mut self,
        spans: &[Span],
        links: &[(usize, usize)],
        inside: impl Fn(usize) -> Range<u32>,
    ) -> Result<(), TraceError> {
        let mut pairs = 0;
        for &(after, before) in links {
            pairs += inside(after).len().saturating_mul(inside(before).len());
            if pairs > MOST_LINKS {
                return Err(TraceError::TooManyLinks { limit: MOST_LINKS });
            }
            // What is declared and cannot have been holds all the same.
            let was_over = spans[before].end <= spans[after].start;
            let is_step = |span| inside(span).all(|piece| self.pieces[piece as usize].span == span);
            let is_of_steps = is_step(after) && is_step(before);
            for later in inside(after) {
                let Piece { start, end, .. } = self.pieces[later as usize];
                let was_before = |before: &u32| {
                    let before = &self.pieces[*before as usize];
                    // Of two that took no time at one instant, neither was.
                    before.end <= start && before.start < end
                };
                let over: Vec<u32> = match was_over && !is_of_steps {
                    true => inside(before).filter(was_before).collect(),
                    false => inside(before).collect(),
                };
                self.pieces[later as usize].after.extend(over);
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
    let mut roles = vec![Role::Part; trace.spans.len()];
    for &index in tree.order() {
        if trace.spans[index].parent.is_none_or(|parent| roles[parent] == Role::Frame) {
            roles[index] = if has_marked[index] { Role::Frame } else { Role::Step };
        }
    }
    roles
}
