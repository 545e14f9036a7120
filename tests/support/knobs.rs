//! What can happen in a [`World`](super::world::World), each of which can be turned off to find the smallest world
//! that still goes wrong.

use fastrand::Rng;
use plandag::{Limits, Order, Policy, ReplanWhen, Retry};

use super::random::{one_of, percent};

/// What may happen.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// The most steps of a first plan.
    pub max_steps: usize,
    /// The most crashes.
    pub crashes: u32,
    /// How deep expansions nest.
    pub depth: usize,
    /// Attempts fail.
    pub failures: bool,
    /// Much fails, and the planner may try again and again.
    pub storms: bool,
    /// Steps have conditions.
    pub conditions: bool,
    /// Steps say `on_failure: continue`.
    pub covered: bool,
    /// Tools act.
    pub acting: bool,
    /// There are pools.
    pub pools: bool,
    /// Planners stream their steps.
    pub streams: bool,
    /// Planners send what cannot be used.
    pub garbage: bool,
    /// The planner is asked for revisions.
    pub replans: bool,
    /// The planner is asked for a review.
    pub reviews: bool,
    /// Results, plans and wake-ups come twice, late, or about things that are over or never were.
    pub noise: bool,
    /// Somebody cancels.
    pub cancels: bool,
    /// There are limits to run into.
    pub limits: bool,
    /// Tools bring in text from outside.
    pub untrusted: bool,
    /// Tools whose plan has failed are asked for another one.
    pub other_plans: bool,
    /// The run is forked when it is over.
    pub forks: bool,
}

impl Knobs {
    /// Everything.
    pub const ALL: Self = Self {
        max_steps: 500,
        crashes: 4,
        depth: 3,
        failures: true,
        storms: false,
        conditions: true,
        covered: true,
        acting: true,
        pools: true,
        streams: true,
        garbage: true,
        replans: true,
        reviews: true,
        noise: true,
        cancels: true,
        limits: true,
        untrusted: true,
        other_plans: true,
        forks: true,
    };

    /// Nothing but steps that succeed.
    pub const CALM: Self = Self {
        max_steps: 500,
        crashes: 0,
        depth: 0,
        failures: false,
        storms: false,
        conditions: false,
        covered: false,
        acting: false,
        pools: false,
        streams: false,
        garbage: false,
        replans: false,
        reviews: false,
        noise: false,
        cancels: false,
        limits: false,
        untrusted: false,
        other_plans: false,
        forks: false,
    };

    /// How a run in such a world is carried out.
    pub fn policy(&self, rng: &mut Rng) -> Policy {
        let pools = ["a", "b", "look"].into_iter().take(if self.pools { rng.usize(0..=3) } else { 0 });
        let limited = self.limits && percent(rng, 20);
        let mut limits = Limits::NONE;
        if limited {
            limits.steps = rng.u32(5..60);
            limits.attempts = rng.bool().then(|| rng.u32(1..200));
            limits.tokens = percent(rng, 30).then(|| rng.u64(10..2_000));
            limits.deadline_ms = percent(rng, 30).then(|| rng.u64(1..2_000));
            limits.depth = rng.u32(1..4);
            limits.edges = rng.u32(5..600);
        }
        Policy {
            max_parallel: *one_of(rng, &[1, 2, 3, 4, 6, 16, 1_000]),
            pools: pools.map(|pool| (pool.to_owned(), rng.u32(1..=4))).collect(),
            retry: Retry { max_attempts: rng.u32(1..=3), base_ms: 10, max_ms: 100 },
            timeout_ms: None,
            planner_timeout_ms: None,
            max_replans: match (self.replans, self.storms) {
                (false, _) => 0,
                (true, false) => rng.u32(0..=4),
                (true, true) => rng.u32(2..=8),
            },
            max_corrections: rng.u32(0..=2),
            replan_when: if rng.bool() { ReplanWhen::FirstFailure } else { ReplanWhen::Stuck },
            review: self.reviews && percent(rng, 20),
            limits,
            grace_ms: rng.u64(0..200),
            order: match rng.u32(0..8) {
                0 => Order::Hops,
                1 => Order::Fifo,
                2 => Order::Random(rng.u64(..)),
                _ => Order::CriticalPath,
            },
            patience: rng.u32(0..20),
            allow: percent(rng, 20).then(|| one_of(rng, &["pay", "put"]).to_string()).into_iter().collect(),
            attended: rng.bool(),
            labels: Default::default(),
            max_interruptions: rng.u32(if self.failures { 1..=5 } else { 2..=5 }),
        }
    }

    /// Worlds in which a little less can happen.
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut knobs = self.clone();
            change(&mut knobs);
            if knobs.size() < self.size() {
                smaller.push(knobs);
            }
        };
        add(&|knobs| knobs.max_steps = knobs.max_steps.div_ceil(4));
        add(&|knobs| knobs.max_steps = (knobs.max_steps - 1).max(1));
        add(&|knobs| knobs.crashes = 0);
        add(&|knobs| knobs.crashes = knobs.crashes.saturating_sub(1));
        add(&|knobs| knobs.depth = 0);
        add(&|knobs| knobs.depth = knobs.depth.saturating_sub(1));
        add(&|knobs| knobs.failures = false);
        add(&|knobs| knobs.storms = false);
        add(&|knobs| knobs.conditions = false);
        add(&|knobs| knobs.covered = false);
        add(&|knobs| knobs.acting = false);
        add(&|knobs| knobs.pools = false);
        add(&|knobs| knobs.streams = false);
        add(&|knobs| knobs.garbage = false);
        add(&|knobs| knobs.replans = false);
        add(&|knobs| knobs.reviews = false);
        add(&|knobs| knobs.noise = false);
        add(&|knobs| knobs.cancels = false);
        add(&|knobs| knobs.limits = false);
        add(&|knobs| knobs.untrusted = false);
        add(&|knobs| knobs.other_plans = false);
        add(&|knobs| knobs.forks = false);
        smaller
    }

    fn size(&self) -> usize {
        let flags = [
            self.failures,
            self.storms,
            self.conditions,
            self.covered,
            self.acting,
            self.pools,
            self.streams,
            self.garbage,
            self.replans,
            self.reviews,
            self.noise,
            self.cancels,
            self.limits,
            self.untrusted,
            self.other_plans,
            self.forks,
        ];
        self.max_steps + self.crashes as usize + self.depth + flags.into_iter().filter(|on| *on).count()
    }

    /// The smallest world, and its seed, in which `fails` still holds.
    pub fn shrink(&self, seed: u64, fails: impl Fn(&Self, u64) -> bool) -> (Self, u64) {
        let mut found = (self.clone(), seed);
        'search: loop {
            for knobs in found.0.smaller() {
                // Other knobs are another world, so the seed has to be looked for again.
                let seeds = std::iter::once(found.1).chain(0..200);
                if let Some(seed) = seeds.into_iter().find(|&seed| fails(&knobs, seed)) {
                    found = (knobs, seed);
                    continue 'search;
                }
            }
            return found;
        }
    }
}
