//! Caps, pools, retries, timeouts and a deadline.
//!
//! ```sh
//! cargo run --example limits
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use plandag::{Plan, Retry, Runner, Step, StepError, tool_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::from_iter((0..6).map(|n| Step::new(format!("page-{n}"), "fetch")));
    // Takes the whole pool, so it runs when no page is being fetched.
    plan.push(Step::new("index", "build").uses("fetch", 2));
    plan.push(Step::new("flaky", "flaky"));
    plan.push(Step::new("stuck", "stuck").timeout_ms(100).retry(Retry::NEVER));

    let fetch = tool_fn(|_| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    });
    let flaky = tool_fn(|cx| async move {
        match cx.tries {
            1 => Err(StepError::transient("connection reset")),
            2 => Err(StepError::transient("too many requests").retry_after_ms(300)),
            tries => Ok(format!("worked at try {tries}")),
        }
    });
    let stuck = tool_fn(|_| std::future::pending::<Result<(), StepError>>());

    let report = Runner::new(plan)
        .tool("fetch", fetch.clone())
        .tool("build", fetch)
        .tool("flaky", flaky)
        .tool("stuck", stuck)
        .max_parallel(8)
        .pool("fetch", 2)
        .retry(Retry { max_attempts: 4, base_ms: 50, max_ms: 1_000 })
        .timeout(Duration::from_secs(5))
        .deadline(Duration::from_secs(60))
        .run("Six pages, two at a time")
        .await?;

    for step in report.steps() {
        println!("{:>7}: {:?}", step.id, step.outcome);
        for attempt in &step.attempts {
            let error = attempt.error.map(|error| format!("  {error}")).unwrap_or_default();
            println!("         {} to {}, queued {:.0?}{error}", attempt.started, attempt.ended, attempt.queued);
        }
    }
    println!("{:.2?}, at best {:.2?}", report.wall_time(), report.bound());
    Ok(())
}
