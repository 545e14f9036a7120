//! A checked plan on petgraph.

use std::sync::Arc;

use petgraph::graph::DiGraph;

use crate::error::PlanError;
use crate::event::RunStart;
use crate::plan::{Plan, Step, StepId};

/// A checked plan: ids unique and valid, every dependency known, no cycle.
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
    /// Checks a plan against what a run may do, and reports everything that is wrong with it at once.
    pub fn check(_plan: &Plan, _start: &RunStart) -> Result<Self, Vec<PlanError>> {
        unimplemented!()
    }
}
