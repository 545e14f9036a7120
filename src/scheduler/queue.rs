//! The queue of ready steps.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::event::StepNumber;

/// The place of a ready step: higher rank first, then lower number.
pub(super) type Key = (u64, Reverse<StepNumber>);

/// Ready steps, the best first.
///
/// Most steps become ready in the order in which they are to start, as a whole level does. They stand in a row, of which
/// only the ends are looked at; the others are in a heap. To take one from a large heap is to wait for memory again and
/// again: for a tree of a million steps, that was a seventh of the time.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyQueue {
    /// In descending order.
    row: VecDeque<Key>,
    others: BinaryHeap<Key>,
}

impl ReadyQueue {
    pub(super) fn push(&mut self, key: Key) {
        match self.row.back() {
            Some(last) if *last < key => self.others.push(key),
            _ => self.row.push_back(key),
        }
    }

    pub(super) fn peek(&self) -> Option<Key> {
        match (self.row.front(), self.others.peek()) {
            (Some(first), Some(best)) => Some(*first.max(best)),
            (first, best) => first.or(best).copied(),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Key> {
        match (self.row.front(), self.others.peek()) {
            (Some(first), Some(best)) if first < best => self.others.pop(),
            (None, _) => self.others.pop(),
            _ => self.row.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_step_comes_first_whatever_order_they_came_in() {
        for stride in 1..60 {
            let mut queue = ReadyQueue::default();
            let mut kept: Vec<Key> = Vec::new();
            for step in 0..300 {
                if step % 5 < 3 {
                    let key = (u64::from(step * stride % 7), Reverse(step));
                    queue.push(key);
                    kept.push(key);
                } else {
                    let best = kept.iter().copied().max();
                    kept.retain(|key| Some(*key) != best);
                    assert_eq!(queue.peek(), best, "stride {stride}, step {step}");
                    assert_eq!(queue.pop(), best, "stride {stride}, step {step}");
                }
            }
        }
    }
}
