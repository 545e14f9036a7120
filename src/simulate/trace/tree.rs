//! Which spans are inside of which.

use std::ops::Range;

use super::Span;

/// The spans in an order in which each is before all that is inside of it, and that before all else.
pub(super) struct Tree {
    /// The indexes of the spans.
    order: Vec<usize>,
    /// By the span's index, the places in that order of the span and all inside of it.
    places: Vec<Range<usize>>,
}

impl Tree {
    /// No span may be inside of itself.
    pub(super) fn of(spans: &[Span]) -> Self {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        let mut waiting = Vec::new();
        for (index, span) in spans.iter().enumerate().rev() {
            span.parent.map_or(&mut waiting, |parent| &mut children[parent]).push(index);
        }
        let mut order = Vec::with_capacity(spans.len());
        let mut places = vec![0..0; spans.len()];
        while let Some(index) = waiting.pop() {
            places[index] = order.len()..order.len() + 1;
            order.push(index);
            waiting.append(&mut children[index]);
        }
        for &index in order.iter().rev() {
            if let Some(parent) = spans[index].parent {
                places[parent].end = places[parent].end.max(places[index].end);
            }
        }
        Self { order, places }
    }

    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The places of a span and of all inside of it.
    pub(super) fn places(&self, span: usize) -> Range<usize> {
        self.places[span].clone()
    }

    /// Whether nothing is inside of a span.
    pub(super) fn is_leaf(&self, span: usize) -> bool {
        self.places[span].len() == 1
    }

    pub(super) fn is_within(&self, inner: usize, outer: usize) -> bool {
        inner != outer && self.places[outer].contains(&self.places[inner].start)
    }
}
