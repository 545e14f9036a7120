//! The tokio driver: that it does what the scheduler says, when it says so.

mod ending;
mod failing;
mod faster;
mod inside;
mod keeping;
mod planning;
mod running;
mod turned_away;
mod watching;

use std::time::Duration;

use plandag::{Plan, Step, tool_fn};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Sleeps for `ms` milliseconds and returns its id.
fn sleeper() -> impl plandag::Tool + 'static {
    tool_fn(|cx| async move {
        sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
        Ok(cx.id.to_string())
    })
}

/// Returns its arguments.
fn echo() -> impl plandag::Tool + 'static {
    tool_fn(|cx| async move { Ok(cx.args) })
}

fn sleeps(steps: impl IntoIterator<Item = (&'static str, u64)>) -> Plan {
    steps.into_iter().map(|(id, ms)| Step::new(id, "sleep").args(json!({ "ms": ms }))).collect()
}

/// The words of a run's events, in order, with the step they are about.
fn words(events: &[plandag::RunEvent]) -> Vec<String> {
    let word = |event: &plandag::RunEvent| {
        let event = serde_json::to_value(event).expect("events are data");
        match &event["step"] {
            Value::Number(step) => format!("{} {step}", event["event"].as_str().unwrap_or("?")),
            _ => event["event"].as_str().unwrap_or("?").to_owned(),
        }
    };
    events.iter().map(word).collect()
}
