//! How steps of a plan are shown to a planner that revises it, and which of them it means by what it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::plan_text::PlanTextFormat;
use super::text;
use crate::dag::dependencies;
use crate::plan::{Step, StepId};
use crate::planner::PlanRequest;
use crate::reference;

/// The ids of the steps of the plan that is being revised, by what the planner is shown of them, and `reads` what is the same
/// of that: who repeats it means the step that it stands for, whatever else it could be read as.
pub(super) fn ids(
    format: PlanTextFormat,
    request: &PlanRequest,
    reads: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, StepId> {
    let steps = request.plan.steps.iter().filter(|_| request.revision > 1);
    steps.filter_map(|step| Some((reads(&written(format, step))?, step.id.clone()))).collect()
}

/// A step in the form in which the planner writes it.
pub(super) fn written(format: PlanTextFormat, step: &Step) -> String {
    let task = text::quoted(&step.description);
    if format == PlanTextFormat::Json {
        let item = serde_json::json!({
            "id": step.id, "task": task, "tool": step.tool,
            "args": shown_args(step), "depends_on": shown_needs(step),
        });
        return text::quoted(&item.to_string());
    }
    let mut line = format!("{}.", step.id);
    if let Some(tool) = &step.tool {
        let _ = write!(line, " @{tool}");
        if !step.args.is_null() {
            let _ = write!(line, " {}", step.args);
        }
    }
    if !task.is_empty() {
        let _ = write!(line, " {task}");
    }
    let needs = shown_needs(step);
    if !needs.is_empty() {
        let _ = write!(line, " <- {}", needs.join(","));
    }
    text::quoted(&line)
}

/// The arguments of a step that a planner is shown. Those of a step without a tool are not: no planner can write such.
fn shown_args(step: &Step) -> &Value {
    if step.tool.is_some() { &step.args } else { &Value::Null }
}

/// The steps that a planner is shown a step to need: all but those that it sees in the arguments.
fn shown_needs(step: &Step) -> Vec<&str> {
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
