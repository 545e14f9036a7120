//! The graphs that are measured, as dependency lists and as plans, and what runs them.

pub(crate) mod floor;
pub(crate) mod plandag;

use std::sync::Arc;

use ::plandag::{Plan, Step, StepId};
use serde_json::Value;

/// Which steps each step depends on; only earlier ones.
pub(crate) type Dependencies = Vec<Vec<u32>>;

/// A named way to draw a graph of about so many steps.
pub(crate) type Shape = (&'static str, fn(usize) -> Dependencies);

pub(crate) const SHAPES: [Shape; 5] =
    [("chain", chain), ("wide", wide), ("layered", layered), ("stencil", stencil), ("tree", tree)];

/// Each step after the one before.
fn chain(steps: usize) -> Dependencies {
    (0..steps as u32).map(|step| step.checked_sub(1).into_iter().collect()).collect()
}

/// One step, then all others beside each other, then one after them all.
fn wide(steps: usize) -> Dependencies {
    let last = steps as u32 - 1;
    (0..=last)
        .map(|step| match step {
            0 => Vec::new(),
            _ if step == last => (1..last).collect(),
            _ => vec![0],
        })
        .collect()
}

/// Layers of 100 steps, each with three random dependencies in the layer before.
fn layered(steps: usize) -> Dependencies {
    const WIDTH: u32 = 100;
    let mut random = fastrand::Rng::with_seed(7);
    (0..steps as u32)
        .map(|step| {
            let Some(before) = (step / WIDTH).checked_sub(1) else { return Vec::new() };
            let mut drawn: Vec<u32> = (0..3).map(|_| before * WIDTH + random.u32(..WIDTH)).collect();
            drawn.sort_unstable();
            drawn.dedup();
            drawn
        })
        .collect()
}

/// A square of steps, each with its three neighbours in the row before.
fn stencil(steps: usize) -> Dependencies {
    let width = steps.isqrt() as u32;
    (0..steps as u32)
        .map(|step| {
            let (row, column) = (step / width, step % width);
            let Some(above) = row.checked_sub(1) else { return Vec::new() };
            let columns = column.saturating_sub(1)..=(column + 1).min(width - 1);
            columns.map(|column| above * width + column).collect()
        })
        .collect()
}

/// Half of the steps beside each other, joined two by two until one is left.
fn tree(steps: usize) -> Dependencies {
    let leaves = steps as u32 / 2 + 1;
    (0..steps as u32)
        .map(|step| match step.checked_sub(leaves) {
            None => Vec::new(),
            Some(inner) => vec![2 * inner, 2 * inner + 1],
        })
        .collect()
}

/// The plan of a graph: every step is done by the tool `next`. The last step answers.
pub(crate) fn plan(graph: &Dependencies) -> Plan {
    let ids: Vec<StepId> = (0..graph.len()).map(|step| StepId::from(format_args!("s{step}"))).collect();
    let tool: Arc<str> = "next".into();
    let steps = graph.iter().zip(&ids).map(|(dependencies, id)| {
        Step::new(id.clone(), Arc::clone(&tool)).depends_on(dependencies.iter().map(|step| ids[*step as usize].clone()))
    });
    let plan = Plan::from_iter(steps);
    match ids.last() {
        Some(last) => plan.answer(last.clone()),
        None => plan,
    }
}

/// One more than the first input.
pub(crate) fn next<'a>(mut inputs: impl Iterator<Item = &'a Value>) -> i64 {
    inputs.next().and_then(Value::as_i64).unwrap_or(0) + 1
}
