//! A checked plan on petgraph.
//!
//! Checking takes time linear in the plan and reports everything that is wrong with it at once. Nothing here recurses
//! over the graph, so a chain of a million steps needs no more stack than one of ten.

mod check;
mod order;
mod patch;

use std::cmp::Reverse;
use std::sync::Arc;

use indexmap::IndexMap;
use petgraph::graph::DiGraph;

use crate::error::PlanError;
use crate::event::RunStart;
use crate::plan::{Plan, Step, StepId};
use crate::reference;

#[cfg(feature = "plan-file")]
pub(crate) use check::shown_id;
pub(crate) use check::{Checked, MAX_INDEX, Rules, check_with};
use order::build_graph;

/// A map by the ids of a plan, in the order of insertion. Seeded at random like the standard map, and several times
/// faster on short ids, which is what most of a check's time goes into.
pub(crate) type ById<K, V> = IndexMap<K, V, foldhash::fast::RandomState>;

/// A checked plan: ids unique and valid, every dependency known, no cycle.
///
/// Steps are spoken of by their index in the plan.
///
/// ```
/// use plandag::{Dag, Plan, Step};
/// use serde_json::json;
///
/// let plan = Plan::from_iter([
///     Step::new("compare", "warmest").args(json!({ "a": "${paris}", "b": "${oslo}" })),
///     Step::new("paris", "weather"),
///     Step::new("oslo", "weather"),
/// ]);
/// let dag = Dag::of(&plan).unwrap();
/// assert_eq!(dag.order(), [1, 2, 0]);
/// assert_eq!(dag.levels(), [vec![1, 2], vec![0]]);
///
/// let circular = Plan::from_iter([
///     Step::new("a", "echo").depends_on(["b"]),
///     Step::new("b", "echo").depends_on(["a"]),
/// ]);
/// assert_eq!(Dag::of(&circular).unwrap_err()[0].to_string(), "the plan has a cycle: a -> b -> a");
/// ```
#[derive(Clone, Debug)]
pub struct Dag {
    steps: Vec<Arc<Step>>,
    /// One node a step, in plan order; an edge runs from a dependency to its dependent.
    graph: DiGraph<(), (), u32>,
    checked: Checked,
}

impl Dag {
    /// Checks a plan against what a run may do.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the plan, except that one over a limit is not looked into.
    pub fn check(plan: &Plan, start: &RunStart) -> Result<Self, Vec<PlanError>> {
        let policy = &start.policy;
        let mut pools = plan.pools.clone();
        pools.extend(policy.pools.iter().map(|(name, &size)| (name.clone(), size)));
        let rules = Rules {
            start: Some(start),
            external: &|_| false,
            max_steps: policy.limits.steps,
            max_edges: policy.limits.edges,
        };
        Ok(Self::of_checked(plan, check_with(&plan.steps, plan.answer.as_ref(), &pools, &rules)?))
    }

    /// Checks the shape of a plan only, against no run: any tool, input and size will do.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the plan's ids, dependencies, references and pools.
    pub fn of(plan: &Plan) -> Result<Self, Vec<PlanError>> {
        let rules = Rules { start: None, external: &|_| false, max_steps: MAX_INDEX, max_edges: MAX_INDEX };
        Ok(Self::of_checked(plan, check_with(&plan.steps, plan.answer.as_ref(), &plan.pools, &rules)?))
    }

    fn of_checked(plan: &Plan, checked: Checked) -> Self {
        let graph = build_graph(plan.steps.len(), &checked.flat, &checked.starts);
        Self { steps: plan.steps.clone(), graph, checked }
    }

    /// The steps, in plan order.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The steps in an order in which every dependency comes first; plan order wherever that allows.
    pub fn order(&self) -> &[u32] {
        &self.checked.order
    }

    /// The graph: node `i` is step `i`, and an edge runs from a dependency to its dependent.
    pub fn graph(&self) -> &DiGraph<(), (), u32> {
        &self.graph
    }

    /// What a step depends on, without doubles: first what it declares, then what it refers to.
    pub fn dependencies(&self, step: usize) -> impl ExactSizeIterator<Item = &StepId> {
        self.checked.dependencies(step).iter().map(|&dependency| &self.steps[dependency as usize].id)
    }

    /// The steps by the number of steps before them on the longest path: those of the first level depend on nothing.
    ///
    /// Steps are not run level by level: each starts when its own dependencies are done.
    pub fn levels(&self) -> Vec<Vec<u32>> {
        let mut level_of = vec![0; self.steps.len()];
        let mut levels: Vec<Vec<u32>> = Vec::new();
        for &step in &self.checked.order {
            let before = self.before(step).map(|dependency| level_of[dependency as usize] + 1);
            level_of[step as usize] = before.max().unwrap_or(0);
        }
        for (step, &level) in (0..).zip(&level_of) {
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            levels[level].push(step);
        }
        levels
    }

    /// The size of the largest of the [levels](Self::levels).
    pub fn width(&self) -> usize {
        self.levels().iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The path that takes longest, first step first: no schedule is shorter than it.
    pub fn critical_path(&self, estimate: impl Fn(&Step) -> u64) -> Vec<u32> {
        longest_path(self.order(), |step| self.before(step), |step| estimate(&self.steps[step as usize]))
    }

    /// What a step depends on, as steps of the plan: nothing outside of it is let in here.
    fn before(&self, step: u32) -> impl Iterator<Item = u32> {
        self.checked.dependencies(step as usize).iter().copied()
    }
}

/// The path that takes longest through steps in an order in which those that are `before` a step come first.
pub(crate) fn longest_path<I: Iterator<Item = u32>>(
    order: &[u32],
    before: impl Fn(u32) -> I,
    estimate: impl Fn(u32) -> u64,
) -> Vec<u32> {
    let mut finish = vec![0_u64; order.len()];
    for &step in order {
        let start = before(step).map(|dependency| finish[dependency as usize]).max();
        finish[step as usize] = start.unwrap_or(0).saturating_add(estimate(step));
    }
    // The first of several longest ones, so that the same plan always shows the same path.
    let longest = |steps: &mut dyn Iterator<Item = u32>| steps.min_by_key(|&step| Reverse(finish[step as usize]));
    let mut path = Vec::new();
    let mut last = longest(&mut order.iter().copied());
    while let Some(step) = last {
        path.push(step);
        last = longest(&mut before(step));
    }
    path.reverse();
    path
}

/// What a step depends on: first what it declares, then what it refers to. Bad references are found by the check.
pub(crate) fn dependencies(step: &Step) -> Vec<StepId> {
    let referred = reference::scan(step).unwrap_or_default();
    step.depends_on.iter().cloned().chain(referred.into_iter().map(StepId::from)).collect()
}
