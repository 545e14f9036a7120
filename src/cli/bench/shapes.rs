//! Plans whose shapes are known, for measuring.

use fastrand::Rng;
use plandag::{Plan, Step};

/// What a step of a regular shape takes.
const STEP_MS: u64 = 200;
/// The name of the shape where nothing can be won.
pub(super) const CHAIN: &str = "chain 10";

/// The built-in shapes: two that gain from running in parallel, one where nothing can be won, and one without a shape.
pub(super) fn all(seed: u64) -> Vec<(String, Plan)> {
    let named = |name: &str, plan| (name.to_owned(), plan);
    vec![
        named("fan-out 8+2", fan_out()),
        named("two waves 8+8+1", two_waves()),
        named(CHAIN, chain(STEP_MS)),
        named("random 200", random(seed)),
    ]
}

fn step(id: String) -> Step {
    Step::new(id, "sleep").estimate_ms(STEP_MS)
}

/// Eight steps beside each other, one that joins them, and one after that.
fn fan_out() -> Plan {
    let mut plan: Plan = (0..8).map(|n| step(format!("search-{n}"))).collect();
    plan.push(step("compare".into()).depends_on((0..8).map(|n| format!("search-{n}"))));
    plan.push(step("report".into()).depends_on(["compare"]));
    plan
}

/// Eight chains of two steps, and one that joins them.
fn two_waves() -> Plan {
    let mut plan: Plan = (0..8).map(|n| step(format!("search-{n}"))).collect();
    plan.extend((0..8).map(|n| step(format!("read-{n}")).depends_on([format!("search-{n}")])));
    plan.push(step("report".into()).depends_on((0..8).map(|n| format!("read-{n}"))));
    plan
}

/// Ten steps, each after the one before.
pub(super) fn chain(millis: u64) -> Plan {
    (0..10_u32)
        .map(|n| {
            let before = n.checked_sub(1).map(|before| format!("step-{before}"));
            Step::new(format!("step-{n}"), "sleep").estimate_ms(millis).depends_on(before)
        })
        .collect()
}

/// Two hundred steps of 100 to 300 ms, each after up to three of the forty before it.
fn random(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Plan::new();
    for n in 0..200_usize {
        let mut before: Vec<usize> = (0..rng.usize(0..=3)).map(|_| rng.usize(n.saturating_sub(40)..n.max(1))).collect();
        before.retain(|&before| before < n);
        before.sort_unstable();
        before.dedup();
        let millis = rng.u64(100..=300);
        let before = before.into_iter().map(|before| format!("step-{before}"));
        plan.push(Step::new(format!("step-{n}"), "sleep").estimate_ms(millis).depends_on(before));
    }
    plan
}
