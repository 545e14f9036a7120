//! How steps of a plan are shown to a planner that revises it, and which of them it means by what it writes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text;
use crate::dag::dependencies;
use crate::plan::{Step, StepId};
use crate::reference;

/// The arguments of a step that a planner is shown. Those of a step without a tool are not: no planner can write such.
pub(super) fn shown_args(step: &Step) -> &Value {
    if step.tool.is_some() { &step.args } else { &Value::Null }
}

/// The steps that a planner is shown a step to need: all but those that it sees in the arguments.
pub(super) fn shown_needs(step: &Step) -> Vec<&str> {
    let mut needs: Vec<&str> = step.depends_on.iter().map(StepId::as_str).collect();
    if step.tool.is_none() {
        // One with a slash is to a step of what another step has become, which is not in the plan.
        let implied = reference::scan(step).unwrap_or_default().into_iter().filter(|id| !id.contains('/'));
        implied.for_each(|id| {
            if !needs.contains(&id) {
                needs.push(id)
            }
        });
    }
    needs
}

/// Has a step that is written anew keep what no planner can write: whether it is done at all and what its failure means,
/// and what is said of its tool as long as it is for that. Another call than before may not be made twice unasked.
pub(super) fn keep_unwritten(was: &Step, step: &mut Step) {
    (step.when, step.on_failure) = (was.when.clone(), was.on_failure);
    if step.tool == was.tool {
        (step.timeout_ms, step.estimate_ms) = (was.timeout_ms, was.estimate_ms);
        (step.uses, step.retry) = (was.uses.clone(), was.retry);
    }
    if step.same_content(was) {
        step.on_interrupt = was.on_interrupt;
    }
}

/// Whether a step is written as a planner was shown it, in whatever order it names what it depends on, and whether or not
/// it names what its arguments refer to. A call may be repeated without the words beside it.
pub(super) fn is_shown_alike(was: &Step, written: &Step) -> bool {
    // One with a slash is to a step of what another step has become, which is not in the plan.
    let is_in_plan = |id: &StepId| !id.as_str().contains('/');
    let needs = |step| dependencies(step).into_iter().filter(is_in_plan).collect::<BTreeSet<_>>();
    let task = |step: &Step| text::quoted(&step.description).trim().to_owned();
    let args = |step| text::quoted(&shown_args(step).to_string());
    let written_task = task(written);
    was.tool == written.tool
        && (written.tool.is_some() && written_task.is_empty() || task(was) == written_task)
        && (was.args == written.args || args(was) == args(written))
        && needs(was) == needs(written)
}
