//! Runs worlds, and shows the smallest one that goes wrong.

use std::fmt::Write as _;
use std::sync::Mutex;

use super::counts::Counts;
use super::is_one_seed;
use super::knobs::Knobs;
use super::world::{Journey, World};

/// How much of a trace is shown before the place where it goes wrong.
const SHOWN: usize = 60;

/// Runs a world and fails if a promise is broken. Alone, the world is shown in full; among many, the smallest world
/// in which the same promise is broken.
pub fn explore(seed: u64, knobs: &Knobs, totals: &Mutex<Counts>) -> Journey {
    let journey = World::new(seed, knobs).run();
    totals.lock().expect("no world panics while it counts").merge(&journey.counts);
    let Some(violation) = journey.violations.first() else { return journey };
    if is_one_seed() {
        panic!("{}", show(&journey, usize::MAX));
    }
    let breaks = |knobs: &Knobs, seed: u64| {
        let violations = World::new(seed, knobs).run().violations;
        violations.iter().any(|other| other.promise == violation.promise)
    };
    let (small, small_seed) = knobs.shrink(seed, breaks);
    let shown = show(&World::new(small_seed, &small).run(), SHOWN);
    panic!("{violation}\nsmallest: seed {small_seed} of {small:?}\n{shown}");
}

fn show(journey: &Journey, entries: usize) -> String {
    let at = journey.violations.first().map_or(0, |violation| violation.at);
    let mut text = format!("{:?}\n", journey.start.policy);
    for (index, entry) in journey.trace.iter().enumerate().take(at + 2).skip((at + 2).saturating_sub(entries)) {
        let _ = writeln!(text, "{index}: {entry}");
    }
    for violation in journey.violations.iter().take(5) {
        let _ = writeln!(text, "{violation}");
    }
    text
}
