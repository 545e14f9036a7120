//! A checked plan on petgraph.
//!
//! Checking takes time linear in the plan and reports everything that is wrong with it at once. Nothing here recurses
//! over the graph, so a chain of a million steps needs no more stack than one of ten.

mod check;
mod order;

use std::cmp::Reverse;
use std::sync::Arc;

use petgraph::graph::DiGraph;

use crate::error::PlanError;
use crate::event::RunStart;
use crate::plan::{Plan, Step, StepId};

pub(crate) use check::{MAX_INDEX, Rules, check_with};

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
    pub(crate) steps: Vec<Arc<Step>>,
    /// One node a step, in plan order; an edge runs from a dependency to its dependent.
    pub(crate) graph: DiGraph<(), (), u32>,
    /// The steps' indexes in an order in which every dependency comes first; plan order wherever that allows.
    pub(crate) order: Vec<u32>,
    /// Flat dependency lists: those of step `i` are `flat[starts[i]..starts[i + 1]]`, in the order of
    /// [`Dag::dependencies`]. A value of `steps.len() + k` means `external[k]`.
    pub(crate) flat: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    /// Ids that are not in the plan but were allowed as dependencies.
    pub(crate) external: Vec<StepId>,
    /// The index into [`RunStart::tools`] of each step's tool; empty if tools were not checked.
    pub(crate) tools: Vec<u16>,
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
        check_with(&plan.steps, plan.answer.as_ref(), &pools, &rules)
    }

    /// Checks the shape of a plan only, against no run: any tool, input and size will do.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the plan's ids, dependencies, references and pools.
    pub fn of(plan: &Plan) -> Result<Self, Vec<PlanError>> {
        let rules = Rules { start: None, external: &|_| false, max_steps: MAX_INDEX, max_edges: MAX_INDEX };
        check_with(&plan.steps, plan.answer.as_ref(), &plan.pools, &rules)
    }

    /// The steps, in plan order.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The steps in an order in which every dependency comes first; plan order wherever that allows.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The graph: node `i` is step `i`, and an edge runs from a dependency to its dependent.
    pub fn graph(&self) -> &DiGraph<(), (), u32> {
        &self.graph
    }

    /// What a step depends on, without doubles: first what it declares, then what it refers to.
    pub fn dependencies(&self, step: usize) -> impl ExactSizeIterator<Item = &StepId> {
        self.flat_dependencies(step).iter().map(|&dependency| {
            let dependency = dependency as usize;
            match self.steps.get(dependency) {
                Some(step) => &step.id,
                None => &self.external[dependency - self.steps.len()],
            }
        })
    }

    /// The dependencies of a step as in `flat`.
    pub(crate) fn flat_dependencies(&self, step: usize) -> &[u32] {
        &self.flat[self.starts[step] as usize..self.starts[step + 1] as usize]
    }

    /// The steps by the number of steps before them on the longest path: those of the first level depend on nothing.
    ///
    /// Steps are not run level by level: each starts when its own dependencies are done.
    pub fn levels(&self) -> Vec<Vec<u32>> {
        let mut level_of = vec![0; self.steps.len()];
        let mut levels: Vec<Vec<u32>> = Vec::new();
        for &step in &self.order {
            let before = self.inner_dependencies(step).map(|dependency| level_of[dependency as usize] + 1);
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
        let mut finish = vec![0_u64; self.steps.len()];
        for &step in &self.order {
            let start = self.inner_dependencies(step).map(|dependency| finish[dependency as usize]).max();
            finish[step as usize] = start.unwrap_or(0).saturating_add(estimate(&self.steps[step as usize]));
        }
        // The first of several longest ones, so that the same plan always shows the same path.
        let longest = |steps: &mut dyn Iterator<Item = u32>| steps.min_by_key(|&step| Reverse(finish[step as usize]));
        let mut path = Vec::new();
        let mut last = longest(&mut self.order.iter().copied());
        while let Some(step) = last {
            path.push(step);
            last = longest(&mut self.inner_dependencies(step));
        }
        path.reverse();
        path
    }

    fn inner_dependencies(&self, step: u32) -> impl Iterator<Item = u32> {
        let steps = self.steps.len();
        self.flat_dependencies(step as usize).iter().copied().filter(move |&dependency| (dependency as usize) < steps)
    }
}
