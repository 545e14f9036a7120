//! A plan of three steps: the first two run side by side, the third takes what they found.
//!
//! ```sh
//! cargo run --example hello
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use plandag::{Plan, Runner, Step, StepError, tool_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::from_iter([
        Step::new("paris", "weather").args(json!({ "city": "Paris" })),
        Step::new("oslo", "weather").args(json!({ "city": "Oslo" })),
        Step::new("compare", "warmest").args(json!({ "a": "${paris}", "b": "${oslo}" })),
    ]);
    let report = Runner::new(plan)
        .tool("weather", tool_fn(|cx| async move { weather(&cx.args["city"]).await }))
        .tool("warmest", tool_fn(|cx| async move { warmest(&cx.args) }))
        .run("Which city is warmer today?")
        .await?;

    println!("{}", report.answer()?);
    println!("in {:.1?}; one at a time it had taken {:.1?}", report.wall_time(), report.work());
    Ok(())
}

/// Stands for a call of a weather service.
async fn weather(city: &Value) -> Result<Value, StepError> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let degrees = match city.as_str() {
        Some("Paris") => 24,
        Some("Oslo") => 17,
        _ => return Err(StepError::bad_input(format!("no weather for {city}"))),
    };
    Ok(json!({ "city": city, "degrees": degrees }))
}

fn warmest(args: &Value) -> Result<String, StepError> {
    let degrees = |city: &Value| city["degrees"].as_i64().ok_or(StepError::bad_input("`degrees` is missing"));
    let (a, b) = (&args["a"], &args["b"]);
    let warmer = if degrees(a)? >= degrees(b)? { a } else { b };
    Ok(format!("{} with {} degrees", warmer["city"].as_str().unwrap_or("?"), warmer["degrees"]))
}
