//! Revisions of all kinds, on small plans in which much goes wrong: what is accepted is whole and acyclic, what is
//! finished is kept, nothing is dropped silently. What must hold is in `support/check`.

#![expect(clippy::print_stdout, reason = "how much happened belongs to the result")]

pub mod support;

use std::sync::Mutex;

use support::counts::Counts;
use support::explore::explore;
use support::knobs::Knobs;
use support::{for_each_seed, seeds};

#[test]
fn random_replans_keep_every_promise() {
    let test = "random_replans_keep_every_promise";
    let knobs = Knobs { max_steps: 15, storms: true, crashes: 2, limits: false, cancels: false, ..Knobs::ALL };
    let totals = Mutex::new(Counts::default());
    for_each_seed(test, seeds(20_000), |seed| {
        explore(seed, &knobs, &totals);
    });
    let totals = totals.into_inner().expect("every world was counted");
    println!("{totals:?}");
    totals.assert_that_there_were(&[
        "accepted revisions",
        "rejected revisions",
        "given up requests",
        "steps taken up again",
        "dropped steps",
        "changed settings",
        "forgotten expansions",
        "failures to report later",
        "reused children",
    ]);
}
