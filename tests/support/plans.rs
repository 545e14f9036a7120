//! Random plans.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use plandag::{Effect, OnFailure, OnInterrupt, Plan, Retry, Step, StepId, ToolSpec};
use serde_json::{Map, Value, json};

use super::knobs::Knobs;
use super::random::{log_uniform, one_of, percent, seed_of};

/// The tools of every world: two that read, one that acts, one that acts and may be repeated.
pub fn tools() -> Vec<ToolSpec> {
    let acts = |name| ToolSpec { effect: Effect::Acts, ..ToolSpec::new(name, "") };
    vec![
        ToolSpec::new("look", ""),
        ToolSpec { mean_ms: Some(20), ..ToolSpec::new("read", "") },
        acts("pay"),
        ToolSpec { idempotent: true, ..acts("put") },
    ]
}

/// A server that others call, too, or one of its own.
pub fn some_server(rng: &mut Rng) -> String {
    if rng.bool() { String::new() } else { "shared".into() }
}

/// The same tools, some of which may bring in text from outside.
pub fn some_untrusted(rng: &mut Rng, knobs: &Knobs) -> Vec<ToolSpec> {
    let is_watched = knobs.untrusted && rng.bool();
    let mut tools = tools();
    for tool in &mut tools {
        tool.untrusted = is_watched && percent(rng, 25);
        tool.server = some_server(rng);
    }
    tools
}

/// Some of the tools are asked for another plan when one that they returned has failed.
pub fn some_with_other_plans(seed: u64, knobs: &Knobs, tools: &mut [ToolSpec]) {
    let mut rng = Rng::with_seed(seed_of("other plans", seed));
    for tool in tools {
        tool.replans = knobs.other_plans && percent(&mut rng, 25);
    }
}

/// Makes the plans of one world.
#[derive(Clone, Debug)]
pub struct PlanMaker {
    knobs: Knobs,
    /// The sizes of all pools.
    pools: BTreeMap<String, u32>,
    default_tool: bool,
    /// So that the expansion of a step is the same each time it is made.
    salt: u64,
}

impl PlanMaker {
    /// Plans for a run with these pools.
    pub fn new(rng: &mut Rng, knobs: &Knobs, pools: BTreeMap<String, u32>, default_tool: bool) -> Self {
        Self { knobs: knobs.clone(), pools, default_tool, salt: rng.u64(..) }
    }

    /// A first plan of a random size and shape.
    pub fn plan(&self, rng: &mut Rng) -> Plan {
        let count = log_uniform(rng, 1, self.knobs.max_steps);
        let mut plan = self.plan_of(rng, "s", count);
        if percent(rng, 30) {
            plan.answer = Some(one_of(rng, &plan.steps).id.clone());
        }
        if percent(rng, 30) {
            // Ids still mean the same, but the plan is not in the order in which it can run.
            rng.shuffle(&mut plan.steps);
        }
        plan
    }

    /// Whether the tool of `id` returns a plan: nearly always the same as the last time.
    pub fn expands(&self, rng: &mut Rng, id: &StepId) -> bool {
        let chance = if id.as_str().contains('/') { 25 } else { 12 };
        let usually = seed_of(id.as_str(), self.salt) % 100 < chance;
        usually != percent(rng, 3)
    }

    /// The plan that the tool of `id` returns. Now and then it is another than the last time.
    pub fn expansion(&self, rng: &mut Rng, id: &StepId) -> Plan {
        let variant = if percent(rng, 20) { rng.u64(0..3) } else { 0 };
        let mut rng = Rng::with_seed(seed_of(id.as_str(), self.salt ^ variant));
        let count = rng.usize(0..=5);
        let mut plan = self.plan_of(&mut rng, "c", count);
        if count > 0 && percent(&mut rng, 30) {
            plan.answer = Some(one_of(&mut rng, &plan.steps).id.clone());
        }
        plan
    }

    fn plan_of(&self, rng: &mut Rng, prefix: &str, count: usize) -> Plan {
        let ids: Vec<StepId> = (0..count).map(|index| StepId::new(format!("{prefix}{index}"))).collect();
        let shape = Shape::random(rng, count);
        let steps = (0..count).map(|index| {
            let after: Vec<&StepId> = shape.dependencies(rng, index).into_iter().map(|before| &ids[before]).collect();
            self.step(rng, &ids[index], &after)
        });
        Plan::from_iter(steps.collect::<Vec<_>>())
    }

    /// A random step that depends on `after`, by name or by reference.
    pub fn step(&self, rng: &mut Rng, id: &StepId, after: &[&StepId]) -> Step {
        let mut step = Step::described(id.clone(), "");
        let tools: &[&str] = if self.knobs.acting { &["look", "read", "pay", "put"] } else { &["look", "read"] };
        if !self.default_tool || percent(rng, 90) {
            step.tool = Some((*one_of(rng, tools)).into());
        }
        let mut args = Map::new();
        for dependency in after {
            if percent(rng, 40) {
                let reference = match rng.u8(0..3) {
                    0 => format!("${{{dependency}}}"),
                    1 => format!("${{{dependency}.value}}"),
                    _ => format!("see ${{{dependency}}} and $${{nothing}}"),
                };
                args.insert(dependency.to_string(), Value::String(reference));
            } else {
                step.depends_on.push((*dependency).clone());
            }
        }
        if percent(rng, 30) {
            args.insert("n".into(), json!(rng.u8(0..4)));
        }
        step.args = Value::Object(args);
        if self.knobs.conditions && !after.is_empty() && percent(rng, 15) {
            step.when = Some(format!("${{{}}}", one_of(rng, after)).into());
        }
        self.settings(rng, &mut step);
        step
    }

    /// Gives a step other settings; its content stays.
    pub fn settings(&self, rng: &mut Rng, step: &mut Step) {
        step.retry = percent(rng, 30).then(|| Retry {
            max_attempts: rng.u32(1..=4),
            base_ms: rng.u64(0..40),
            max_ms: rng.u64(0..100),
        });
        step.on_failure = if self.knobs.covered && percent(rng, 15) { OnFailure::Continue } else { OnFailure::Fail };
        step.on_interrupt = if percent(rng, 25) { OnInterrupt::Retry } else { OnInterrupt::Ask };
        step.estimate_ms = percent(rng, 60).then(|| rng.u64(0..50));
        step.uses.clear();
        for (pool, size) in &self.pools {
            if percent(rng, 30) {
                step.uses.insert(pool.clone(), rng.u32(1..=*size));
            }
        }
    }
}

/// What a plan looks like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Wide,
    Chain,
    FanInOut,
    Tree { inwards: bool },
    Layers { width: usize },
    Stencil { width: usize },
    Random { degree: usize, reach: usize },
}

impl Shape {
    fn random(rng: &mut Rng, count: usize) -> Self {
        let width = log_uniform(rng, 1, count.max(1));
        match rng.u8(0..8) {
            0 => Self::Wide,
            1 => Self::Chain,
            2 => Self::FanInOut,
            3 => Self::Tree { inwards: rng.bool() },
            4 => Self::Layers { width },
            5 => Self::Stencil { width },
            _ => Self::Random { degree: rng.usize(1..=3), reach: width },
        }
    }

    fn dependencies(self, rng: &mut Rng, index: usize) -> BTreeSet<usize> {
        match self {
            Self::Wide => BTreeSet::new(),
            Self::Chain => index.checked_sub(1).into_iter().collect(),
            Self::FanInOut if index % 7 == 6 => (index - 5..index).collect(),
            Self::FanInOut => (index / 7 * 7 < index).then(|| index / 7 * 7).into_iter().collect(),
            Self::Tree { inwards: false } => index.checked_sub(1).map(|index| index / 2).into_iter().collect(),
            Self::Tree { inwards: true } if index >= 2 => {
                [index / 2, index / 2 - 1].into_iter().filter(|&before| before < index).collect()
            }
            Self::Tree { inwards: true } => BTreeSet::new(),
            Self::Layers { width } if index >= width => {
                let layer = (index / width - 1) * width;
                (0..rng.usize(1..=3)).map(|_| layer + rng.usize(0..width)).collect()
            }
            Self::Stencil { width } if index >= width => {
                let above = index - width;
                [above.saturating_sub(1), above, above + 1].into_iter().filter(|&before| before < index).collect()
            }
            Self::Layers { .. } | Self::Stencil { .. } => BTreeSet::new(),
            Self::Random { degree, reach } if index > 0 => {
                (0..rng.usize(0..=degree)).map(|_| rng.usize(index.saturating_sub(reach)..index)).collect()
            }
            Self::Random { .. } => BTreeSet::new(),
        }
    }
}
