//! Attempts at one thing, made one step: what is made faster is so each time, and the pauses between stay as they were.

use super::steps::Piece;

/// What is tried more often is several steps, one after the other.
const MOST_ATTEMPTS: usize = 1_000;

/// An attempt, and the one before it at the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Again<T> {
    pub(super) again: T,
    pub(super) before: T,
    /// How long nobody was to try in between, in nanoseconds.
    pub(super) pause: i64,
}

/// An attempt after the first.
pub(super) struct Later {
    /// From the end of the one before.
    pub(super) pause: i64,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Makes one piece of all attempts at one thing: but for one that waited for more than the one before it, and for one
/// that is not all that others waited for.
pub(super) fn join(mut pieces: Vec<Piece>, attempts: &[Again<u32>]) -> Vec<Piece> {
    // By the attempt before.
    let mut next: Vec<Option<Again<u32>>> = vec![None; pieces.len()];
    for attempt in attempts {
        let [before, again] = [attempt.before, attempt.again].map(|number| &pieces[number as usize]);
        let is_known = |waited: &u32| *waited == attempt.before || before.after.binary_search(waited).is_ok();
        if before.start < again.start && again.after.iter().all(is_known) {
            next[attempt.before as usize] = Some(*attempt);
        }
    }
    for (number, piece) in (0..).zip(&pieces) {
        for &before in &piece.after {
            let waits_for = |again| again == number || piece.after.binary_search(&again).is_ok();
            next[before as usize] = next[before as usize].filter(|attempt| waits_for(attempt.again));
        }
    }
    let mut in_order: Vec<u32> = (0..pieces.len() as u32).collect();
    in_order.sort_by_key(|&number| pieces[number as usize].start);
    // By each attempt, the first at the same thing.
    let mut first: Vec<u32> = (0..pieces.len() as u32).collect();
    for number in in_order {
        let Some(Again { again, pause, .. }) = next[number as usize] else { continue };
        let one = first[number as usize];
        if pieces[one as usize].later.len() < MOST_ATTEMPTS {
            first[again as usize] = one;
            let Piece { start, end, .. } = pieces[again as usize];
            pieces[one as usize].later.push(Later { pause, start, end });
        }
    }
    let mut renamed: Vec<u32> = Vec::with_capacity(pieces.len());
    let mut kept = 0;
    for (number, one) in (0..).zip(&first) {
        renamed.push(kept);
        kept += u32::from(number == *one);
    }
    let mut number = 0..;
    pieces.retain(|_| number.next().is_some_and(|number: u32| first[number as usize] == number));
    for (number, piece) in (0..).zip(&mut pieces) {
        piece.after.iter_mut().for_each(|before| *before = renamed[first[*before as usize] as usize]);
        piece.after.sort_unstable();
        piece.after.dedup();
        piece.after.retain(|before| *before != number);
    }
    pieces
}
