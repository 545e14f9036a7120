//! What can still be read of a plan whose shape is wrong, so that its other problems are told at the same time.

use crate::plan::{Plan, Step, StepId};

use super::node::{Data, Node};

/// The plan as far as its shape is right. None where a step has no readable id or list of dependencies: what is wrong
/// with the others would be guessed.
pub(super) fn salvage(tree: &Node) -> Option<Plan> {
    let Data::List(steps) = &tree.get("steps")?.data else { return None };
    let mut plan: Plan = steps.iter().map(step).collect::<Option<_>>()?;
    plan.answer = tree.get("answer").and_then(Node::text).map(StepId::from);
    Some(plan)
}

fn step(node: &Node) -> Option<Step> {
    let depends_on = match node.get("depends_on") {
        None => Vec::new(),
        Some(Node { data: Data::List(ids), .. }) => {
            ids.iter().map(|id| id.text().map(StepId::from)).collect::<Option<_>>()?
        }
        Some(_) => return None,
    };
    let mut step = Step::described(node.get("id")?.text()?, "").depends_on(depends_on);
    step.tool = node.get("tool").and_then(Node::text).map(Into::into);
    step.when = node.get("when").and_then(Node::text).map(Into::into);
    if let Some(args) = node.get("args") {
        step = step.args(args.to_value());
    }
    Some(step)
}
