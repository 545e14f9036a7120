//! What tests of whole runs share: a seeded [`World`](world::World) that misbehaves on purpose, and one
//! [checker](check::check) of what a run promises, whoever drives it.

#![expect(clippy::print_stderr, reason = "a failing test says how to run it alone")]

pub mod author;
pub mod check;
pub mod counts;
pub mod explore;
pub mod knobs;
pub mod plans;
pub mod random;
pub mod trace;
pub mod world;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Calls `test` with many seeds, on all cores, and says which seed failed and how to run it alone.
///
/// `PLANDAG_SEED` runs one seed; `PLANDAG_SEEDS` says how many instead of `count`.
pub fn for_each_seed(name: &str, count: u64, test: impl Fn(u64) + Sync) {
    if let Some(seed) = number_from_environment("PLANDAG_SEED") {
        return test(seed);
    }
    let count = number_from_environment("PLANDAG_SEEDS").unwrap_or(count);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| test(seed))) {
                failed.store(true, Ordering::Relaxed);
                eprintln!("seed {seed} failed; to run it alone: PLANDAG_SEED={seed} cargo test {name}");
                panic::resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                panic::resume_unwind(panic);
            }
        }
    });
}

/// How many seeds a test tries of the `full` number: all of them in an optimised build, a tenth where tests should be
/// quick.
pub fn seeds(full: u64) -> u64 {
    if cfg!(debug_assertions) { full / 10 } else { full }
}

/// Whether one seed is run alone.
pub fn is_one_seed() -> bool {
    number_from_environment("PLANDAG_SEED").is_some()
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}
