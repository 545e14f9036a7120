//! A planner of your own: it turns the objective into a plan by a rule, where others would ask a model.
//!
//! It writes the plan step by step, so the first steps run while it is still thinking about the last.
//!
//! ```sh
//! cargo run --example own_planner -- "Compare bread, rice and pasta"
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use futures::future::BoxFuture;
use plandag::{Plan, PlanError, PlanReply, PlanRequest, PlanSink, Planner, Runner, Step, tool_fn};
use serde_json::{Value, json};

/// Looks up each thing in "Compare A, B and C" by itself, then compares them all.
struct Comparer;

impl Planner for Comparer {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            let things = request.objective.strip_prefix("Compare ").ok_or(PlanError::Planner {
                message: format!("an objective begins with `Compare`, not `{}`", request.objective),
            })?;
            let mut plan = Plan::new();
            let mut facts = Vec::new();
            for thing in things.replace(" and ", ", ").split(", ") {
                tokio::time::sleep(Duration::from_millis(200)).await; // It thinks.
                let step = Step::new(format!("find-{thing}"), "look_up").args(json!({ "thing": thing }));
                facts.push(format!("${{{}}}", step.id));
                sink.step(step.clone());
                plan.push(step);
            }
            plan.push(Step::new("compare", "compare").args(json!({ "facts": facts })));
            Ok(plan.into())
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let objective = std::env::args().nth(1).unwrap_or("Compare apples, pears and plums".to_owned());
    let report = Runner::new(Comparer)
        .tool(
            "look_up",
            tool_fn(|cx| async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let thing = cx.args["thing"].as_str().unwrap_or_default();
                Ok(json!({ "thing": thing, "letters": thing.len() }))
            }),
        )
        .tool(
            "compare",
            tool_fn(|cx| async move {
                let facts = cx.args["facts"].as_array().cloned().unwrap_or_default();
                let longest = facts.iter().max_by_key(|fact| fact["letters"].as_u64());
                Ok(format!("the longest word is {}", longest.map_or(&Value::Null, |fact| &fact["thing"])))
            }),
        )
        .run(objective)
        .await?;

    println!("{}", report.answer()?);
    for step in report.steps() {
        for attempt in &step.attempts {
            println!("{:>14}  from {} to {}", step.id, attempt.started, attempt.ended);
        }
    }
    Ok(())
}
