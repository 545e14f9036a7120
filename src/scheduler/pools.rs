//! Pools, and the steps that need the same of them.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::plan::Step;
use crate::policy::Policy;

use super::queue::ReadyQueue;
use super::{Scheduler, StepState};

/// Pools with a size; the others are unlimited and need no book-keeping.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    sizes: IndexMap<String, u32>,
    /// More than there is, where a pool got its size when much of it was taken.
    used: Vec<u64>,
}

impl Pools {
    /// Sizes a pool. The first to name one decides: nobody can take a pool away from steps that rely on it.
    pub(super) fn size(&mut self, name: &str, size: u32) -> bool {
        if self.sizes.contains_key(name) {
            return false;
        }
        self.sizes.insert(name.to_owned(), size.max(1));
        self.used.push(0);
        true
    }

    pub(super) fn sizes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.sizes.iter().map(|(name, size)| (name.as_str(), *size))
    }

    pub(super) fn used(&self) -> &[u64] {
        &self.used
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// What a step takes: at most what there is, so that it can start when its pools are empty.
    pub(super) fn needs(&self, step: &Step, usual: &str) -> Vec<(u32, u32)> {
        let need = |name: &str, weight: u32| {
            let (index, _, size) = self.sizes.get_full(name)?;
            Some((index as u32, weight.min(*size))).filter(|(_, weight)| *weight > 0)
        };
        if step.uses.is_empty() {
            need(usual, 1).into_iter().collect()
        } else {
            step.uses.iter().filter_map(|(name, weight)| need(name, *weight)).collect()
        }
    }

    pub(super) fn fit(&self, needs: &[(u32, u32)]) -> bool {
        needs.iter().all(|need| self.fits(*need))
    }

    fn fits(&self, (pool, weight): (u32, u32)) -> bool {
        self.used[pool as usize] + u64::from(weight) <= u64::from(self.sizes[pool as usize])
    }

    /// The pools that have not enough left: name, how much is taken, how much there is, how much is needed.
    pub(super) fn lacking(&self, needs: &[(u32, u32)]) -> impl Iterator<Item = (&str, u32, u32, u32)> {
        needs.iter().filter(|need| !self.fits(**need)).filter_map(|&(pool, weight)| {
            let (name, size) = self.sizes.get_index(pool as usize)?;
            let used = u32::try_from(self.used[pool as usize]).unwrap_or(u32::MAX);
            Some((name.as_str(), used, *size, weight))
        })
    }

    pub(super) fn take(&mut self, needs: &[(u32, u32)]) {
        for &(pool, weight) in needs {
            self.used[pool as usize] += u64::from(weight);
        }
    }

    pub(super) fn give_back(&mut self, needs: &[(u32, u32)]) {
        for &(pool, weight) in needs {
            self.used[pool as usize] -= u64::from(weight);
        }
    }
}

/// Steps that need the same of the same pools. Only the first ready one of each shape is ever looked at, so a full
/// pool delays nobody who does not need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) needs: Vec<(u32, u32)>,
    /// A server for which all steps wait until an instant that it named.
    pub(super) gate: Option<u16>,
    /// Ready steps; those that are not ready any more are dropped when they come up.
    pub(super) ready: ReadyQueue,
}

/// The policy's pools.
pub(super) fn policy_pools(policy: &Policy) -> Pools {
    let mut pools = Pools::default();
    for (name, size) in &policy.pools {
        pools.size(name, *size);
    }
    pools
}

impl Scheduler {
    /// The shape of a step, made if it is new.
    pub(super) fn shape_of(&mut self, step: &Step, tool: u16) -> u32 {
        let gate = Some(self.tools.server(tool)).filter(|server| self.gates.contains_key(server));
        if self.pools.is_empty() && gate.is_none() {
            return 0;
        }
        let needs = self.pools.needs(step, self.tool_pool(tool));
        let found = self.shapes.iter().position(|shape| shape.needs == needs && shape.gate == gate);
        let index = found.unwrap_or_else(|| {
            self.shapes.push(Shape { needs, gate, ..Shape::default() });
            self.shapes.len() - 1
        });
        index as u32
    }

    /// Finds the shapes of all unsettled steps anew, after pools were sized or a tool was told to wait.
    pub(super) fn reshape(&mut self) {
        for number in 0..self.step_count() {
            let node = &self.nodes[number as usize];
            if node.is_settled() {
                continue;
            }
            let (definition, tool, before) = (Arc::clone(self.definition(number)), node.tool, node.shape);
            let shape = self.shape_of(&definition, tool);
            if shape != before {
                self.nodes[number as usize].shape = shape;
                if self.nodes[number as usize].state == StepState::Ready {
                    self.queue(number);
                }
            }
        }
    }

    /// Sizes all pools anew and counts again what running attempts hold.
    pub(super) fn replace_pools(&mut self, pools: Pools) {
        self.pools = pools;
        self.shapes = vec![Shape::default()];
        for number in 0..self.step_count() {
            let node = &mut self.nodes[number as usize];
            if node.is_settled() {
                (node.shape, node.taken) = (0, 0);
                continue;
            }
            let (tool, state) = (node.tool, node.state);
            let definition = Arc::clone(self.definition(number));
            let shape = self.shape_of(&definition, tool);
            let node = &mut self.nodes[number as usize];
            node.shape = shape;
            match state {
                StepState::Ready => self.queue(number),
                StepState::Running(_) => {
                    node.taken = shape;
                    self.pools.take(&self.shapes[shape as usize].needs);
                }
                _ => {}
            }
        }
        // Attempts that were told to end are gone with the process, as the next events say. They hold nothing.
        self.aborting.values_mut().for_each(|taken| *taken = 0);
    }
}
