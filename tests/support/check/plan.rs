//! What a plan means, read again without the crate's own eyes.

use std::collections::{BTreeMap, BTreeSet};

use plandag::{RunStart, Step, StepId};
use serde_json::Value;

/// What a step depends on: what it says, and what its arguments and its condition refer to.
pub fn dependencies(step: &Step) -> BTreeSet<StepId> {
    let mut found: BTreeSet<StepId> = step.depends_on.iter().cloned().collect();
    found.extend(texts(step).into_iter().flat_map(|text| references(text).0));
    found
}

/// Whether a reference in it does not end.
pub fn has_broken_reference(step: &Step) -> bool {
    texts(step).into_iter().any(|text| !references(text).1)
}

/// Every text of a step that may hold references.
fn texts(step: &Step) -> Vec<&str> {
    let mut found: Vec<&str> = step.when.as_deref().into_iter().collect();
    let mut values = vec![&step.args];
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => values.extend(items),
            Value::Object(fields) => values.extend(fields.values()),
            _ => {}
        }
    }
    found
}

/// The steps that a text refers to, `${id}` or `${id.path}` but not `$${`, and whether every reference ends.
fn references(text: &str) -> (Vec<StepId>, bool) {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some((inside, after)) = after.split_once('}') else { return (found, false) };
            let id = inside.split('.').next().unwrap_or_default();
            if id != "inputs" {
                found.push(StepId::new(id));
            }
            rest = after;
        } else {
            rest = &rest[1..];
        }
    }
    (found, true)
}

/// Whether two steps do the same, settings and dependencies apart.
pub fn same_content(one: &Step, other: &Step) -> bool {
    one.tool == other.tool && one.description == other.description && one.args == other.args && one.when == other.when
}

/// Whether two steps are done in the same way, whatever it is that they do.
pub fn same_settings(one: &Step, other: &Step) -> bool {
    let settings = |step: &Step| {
        (step.timeout_ms, step.retry, step.on_failure, step.on_interrupt, step.uses.clone(), step.estimate_ms)
    };
    settings(one) == settings(other)
}

/// Whether the step, looked at alone, is one that the run can do.
pub fn is_usable(start: &RunStart, pools: &BTreeMap<String, u32>, step: &Step) -> bool {
    let id = step.id.as_str();
    let id_is_fine = (1..=64).contains(&id.len())
        && id != "inputs"
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let tool = step.tool.as_deref().or(start.default_tool.as_deref());
    let tool_is_there = tool.is_some_and(|name| start.tools.iter().any(|tool| tool.name == name));
    let fits = step.uses.iter().all(|(pool, weight)| pools.get(pool).is_none_or(|size| weight <= size));
    id_is_fine && tool_is_there && fits && !has_broken_reference(step)
}

/// The ids in an order in which each comes after what it depends on; none if there is a cycle. Dependencies that are
/// not among the steps are left aside.
pub fn topological_order(steps: &BTreeMap<StepId, BTreeSet<StepId>>) -> Option<Vec<StepId>> {
    let mut missing: BTreeMap<&StepId, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&StepId, Vec<&StepId>> = BTreeMap::new();
    for (id, after) in steps {
        let inside = after.iter().filter(|before| steps.contains_key(*before));
        missing.insert(id, inside.clone().count());
        for before in inside {
            dependents.entry(before).or_default().push(id);
        }
    }
    let mut next: Vec<&StepId> = missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(id) = next.pop() {
        order.push(id.clone());
        for dependent in dependents.get(id).into_iter().flatten() {
            let count = missing.get_mut(dependent).expect("every step has a count");
            *count -= 1;
            if *count == 0 {
                next.push(dependent);
            }
        }
    }
    (order.len() == steps.len()).then_some(order)
}
