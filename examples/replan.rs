//! A step fails for good, and the planner is asked for another way. What is finished is kept.
//!
//! ```sh
//! cargo run --example replan
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use plandag::{Patch, Plan, PlanReason, PlanReply, PlanRequest, Runner, Step, StepError, planner_fn, tool_fn};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let planner = planner_fn(|request: PlanRequest| async move {
        Ok(match request.reason {
            PlanReason::First => PlanReply::from(Plan::from_iter([
                Step::new("price", "fetch").args(json!({ "from": "shop.example" })),
                Step::new("reviews", "fetch").args(json!({ "from": "reviews.example" })),
                Step::new("advice", "advise").args(json!({ "price": "${price}", "reviews": "${reviews}" })),
            ])),
            _ => {
                for failed in &request.failed {
                    println!("asked again, because `{}` failed: {}", failed.id, failed.error);
                }
                PlanReply::from(Patch {
                    add: vec![Arc::new(Step::new("forum", "fetch").args(json!({ "from": "forum.example" })))],
                    change: vec![Arc::new(
                        Step::new("advice", "advise").args(json!({ "price": "${price}", "reviews": "${forum}" })),
                    )],
                    drop: vec!["reviews".into()],
                    answer: None,
                })
            }
        })
    });
    let fetch = tool_fn(|cx| async move {
        println!("fetching {}", cx.args["from"]);
        match cx.args["from"].as_str() {
            Some("reviews.example") => Err(StepError::permanent("the site is gone")),
            Some(site) => Ok(format!("what {site} says")),
            None => Err(StepError::bad_input("`from` is missing")),
        }
    });
    let advise = tool_fn(|cx| async move { Ok(format!("by {} and {}: buy", cx.args["price"], cx.args["reviews"])) });

    let report = Runner::new(planner)
        .tool("fetch", fetch)
        .tool("advise", advise)
        .max_replans(1)
        .run("Should I buy this bicycle?")
        .await?;
    println!("{}", report.answer()?);
    println!("{} plans, {} calls", report.revisions(), report.attempt_count());
    Ok(())
}
