//! Weighted pools: later steps may pass one that does not fit, and it is not starved. The bound that
//! [`Policy::patience`] states, on schedules of random plans.

use std::collections::BTreeMap;

use fastrand::Rng;
use plandag::simulate::{SimulatedRun, Simulation};
use plandag::{Limits, Plan, Policy, Step, Timestamp};

/// A step as it was drawn.
struct Drawn {
    id: String,
    millis: u64,
    uses: BTreeMap<String, u32>,
}

/// Steps beside each other, each longer or shorter than all others, so that their order is known: the longest first.
fn draw(rng: &mut Rng) -> (Vec<Drawn>, Policy) {
    let pools: BTreeMap<String, u32> =
        ["cpu", "gpu", "net"].into_iter().map(|name| (name.to_owned(), rng.u32(1..=6))).collect();
    let mut lengths: Vec<u64> = (1..=rng.u64(2..200)).collect();
    rng.shuffle(&mut lengths);
    let uses = |rng: &mut Rng| {
        let wanted = pools.iter().filter(|_| rng.u8(..3) == 0).collect::<Vec<_>>();
        wanted.into_iter().map(|(name, size)| (name.clone(), rng.u32(1..=*size))).collect()
    };
    let steps = lengths.into_iter().map(|millis| Drawn { id: format!("s{millis}"), millis, uses: uses(rng) }).collect();
    let policy = Policy {
        max_parallel: rng.u32(1..=12),
        patience: rng.u32(0..=20),
        limits: Limits::NONE,
        pools,
        ..Policy::default()
    };
    (steps, policy)
}

fn simulate(steps: &[Drawn], policy: &Policy) -> SimulatedRun {
    let plan: Plan = steps
        .iter()
        .map(|step| {
            let definition = Step::new(step.id.as_str(), "t").estimate_ms(step.millis);
            step.uses.iter().fold(definition, |definition, (pool, weight)| definition.uses(pool, *weight))
        })
        .collect();
    let run = Simulation::new(plan).policy(policy.clone()).run();
    assert!(run.succeeded(), "{:?}", run.ended);
    run
}

/// How often each step was passed, from the time when it was the best of its kind, by a shorter one that took of a pool
/// that it needs.
fn passed(steps: &[Drawn], run: &SimulatedRun) -> Vec<(String, u32)> {
    let place: BTreeMap<&str, usize> =
        run.attempts.iter().enumerate().map(|(place, attempt)| (attempt.id.as_str(), place)).collect();
    let by_id: BTreeMap<&str, &Drawn> = steps.iter().map(|step| (step.id.as_str(), step)).collect();
    let count = |step: &Drawn| {
        let own = place[step.id.as_str()];
        // It is the best of its kind once all longer ones of the same kind have started.
        let better = steps.iter().filter(|other| other.uses == step.uses && other.millis > step.millis);
        let head_from = better.map(|other| place[other.id.as_str()] + 1).max().unwrap_or(0);
        let passing = run.attempts[head_from.min(own)..own].iter().map(|attempt| by_id[attempt.id.as_str()]);
        let shares = |other: &&Drawn| other.uses.keys().any(|pool| step.uses.contains_key(pool));
        passing.filter(|other| other.millis < step.millis).filter(shares).count() as u32
    };
    steps.iter().map(|step| (step.id.clone(), count(step))).collect()
}

#[test]
fn nobody_is_passed_more_often_than_patience_allows() {
    let mut most = 0;
    for seed in 0..1_000 {
        let mut rng = Rng::with_seed(seed);
        let (steps, policy) = draw(&mut rng);
        let run = simulate(&steps, &policy);
        for (id, passed) in passed(&steps, &run) {
            assert!(passed <= policy.patience, "seed {seed}: `{id}` was passed {passed} times, {}", policy.patience);
            most = most.max(passed);
        }
    }
    assert!(most >= 15, "the test passes nobody: {most}");
}

#[test]
fn a_wide_step_is_not_starved_and_a_blocked_one_holds_nobody_back() {
    let wide = Step::new("wide", "t").estimate_ms(100).uses("pool", 4);
    let narrow = (0..1_000).map(|n| Step::new(format!("n{n}"), "t").estimate_ms(10).uses("pool", 1));
    // Something has to hold a part of the pool when the wide one comes.
    let first = Step::new("first", "t").estimate_ms(1_000).uses("pool", 1);
    let other = Step::new("other", "t").estimate_ms(5);
    let plan: Plan = [first, wide, other].into_iter().chain(narrow).collect::<Plan>().pool("pool", 4);
    let place = |patience: u32| {
        let policy = Policy { patience, limits: Limits::NONE, ..Policy::default() };
        let run = Simulation::new(plan.clone()).policy(policy).run();
        let place = |id: &str| run.attempts.iter().position(|attempt| attempt.id == id).unwrap();
        let other = &run.attempts[place("other")];
        assert_eq!(other.start, Timestamp::ZERO, "it needs nothing of the pool");
        (place("wide"), run.makespan)
    };
    let ((patient, with), (endless, without)) = (place(16), place(u32::MAX));
    assert!(patient <= 2 + 16 && endless > 200, "{patient} {endless}");
    assert!(with > without, "what is kept free for it idles for a while: {with:?} {without:?}");
}
