//! Watching a run: its events as they happen, a view of all steps at any time, and how to stop it.
//!
//! ```sh
//! cargo run --example observe
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use futures::StreamExt as _;
use plandag::{Plan, RunEventKind, Runner, Step, StepState, tool_fn};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::from_iter([
        Step::new("brew", "wait").args(json!({ "ms": 400 })),
        Step::new("toast", "wait").args(json!({ "ms": 200 })),
        Step::new("spread", "wait").args(json!({ "ms": 200 })).depends_on(["toast"]),
        Step::new("eat", "wait").args(json!({ "ms": 60_000 })).depends_on(["brew", "spread"]),
    ]);
    let wait = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
        Ok(())
    });
    let handle = Runner::new(plan).tool("wait", wait).start("Breakfast");

    // Any number of readers may come, at any time: each sees every event from the first on.
    let mut events = handle.events();
    let printer = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event.kind {
                RunEventKind::AttemptStarted { step, .. } => println!("{}  step {step} starts", event.at),
                RunEventKind::StepSucceeded { step, .. } => println!("{}  step {step} is done", event.at),
                RunEventKind::RunStopped { why } => println!("{}  stopped: {why:?}", event.at),
                _ => {}
            }
        }
    });

    tokio::time::sleep(Duration::from_millis(600)).await;
    for step in handle.view().steps {
        let word = match step.state {
            StepState::Succeeded => "done",
            StepState::Running(_) => "running",
            _ => "waiting",
        };
        println!("       {:>7}: {word} since {}", step.id, step.changed);
    }

    println!("       that takes too long");
    handle.cancel_now();
    let report = handle.await?;
    printer.await?;
    match report.answer() {
        Ok(answer) => println!("{answer}"),
        Err(why) => println!("no answer: {why}"),
    }
    Ok(())
}
