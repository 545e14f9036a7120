//! What steps hand on to each other by references, through whole runs.

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]

use std::time::{Duration, Instant};

use plandag::report::StepOutcome;
use plandag::{Plan, RunReport, Runner, SkipReason, Step, StepError, StepErrorKind, Tool, tool_fn};
use serde_json::{Value, json};

/// Returns its arguments.
fn echo() -> impl Tool + 'static {
    tool_fn(|cx| async move { Ok(cx.args) })
}

async fn run(steps: impl IntoIterator<Item = Step>) -> RunReport {
    let runner = Runner::new(Plan::from_iter(steps))
        .tool("echo", echo())
        .tool("fail", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("on purpose")) }))
        .input("city", "Paris");
    runner.run("test").await.unwrap()
}

fn output(report: &RunReport, step: &str) -> Value {
    report.output(step).unwrap()
}

fn error(report: &RunReport, step: &str) -> StepError {
    report.step(step).unwrap().error.unwrap().clone()
}

#[tokio::test]
async fn results_are_handed_on_typed_or_as_text() {
    let report = run([
        Step::new("source", "echo").args(json!({ "list": [{ "n": 1.5 }, null], "text": "${inputs.city}, $${inputs}" })),
        Step::new("typed", "echo")
            .args(json!(["${source.list.0.n}", { "deep": "${source.list}" }, "${source.list.1.x}"])),
        Step::new("text", "echo").args(json!("<${source.text}> <${source.list.0}> <${inputs.city}>")),
        // What was handed on once is not looked at again, though it looks like a reference.
        Step::new("again", "echo").args(json!({ "sly": "${source.text}" })),
    ])
    .await;
    assert_eq!(output(&report, "typed"), json!([1.5, { "deep": [{ "n": 1.5 }, null] }, null]));
    assert_eq!(output(&report, "text"), json!("<Paris, ${inputs}> <{\"n\":1.5}> <Paris>"));
    assert_eq!(output(&report, "again"), json!({ "sly": "Paris, ${inputs}" }));
}

#[tokio::test]
async fn a_path_that_is_not_there_fails_the_step_that_asks_for_it() {
    let report = run([
        Step::new("source", "echo").args(json!({ "hits": [1, 2] })),
        Step::new("asks", "echo").args(json!("${source.hits.2}")),
        Step::new("other", "echo").args(json!("${source.hits.1}")),
        Step::new("below", "echo").depends_on(["asks"]),
    ])
    .await;
    let error = error(&report, "asks");
    assert_eq!(error.kind, StepErrorKind::BadReference);
    assert_eq!(error.message, "`${source.hits.2}`: `source.hits` is a list of 2, so has no `2`");
    assert_eq!(output(&report, "other"), json!(2));
    assert_eq!(report.step("below").unwrap().because.unwrap(), &"asks");
}

#[tokio::test]
async fn what_has_no_result_is_null() {
    let report = run([
        Step::new("failed", "fail").on_failure(plandag::OnFailure::Continue),
        Step::new("skipped", "echo").when("${failed.ok}"),
        Step::new("last", "echo").args(json!(["${failed}", "${skipped.a.b}", "x${skipped}"])),
    ])
    .await;
    assert_eq!(report.step("skipped").unwrap().outcome, StepOutcome::Skipped(SkipReason::Condition));
    assert_eq!(output(&report, "last"), json!([null, null, "xnull"]));
}

#[tokio::test]
async fn a_chain_of_doubling_steps_ends_at_the_bound() {
    let began = Instant::now();
    let first = Step::new("s0", "echo").args(json!("0123456789abcdef"));
    let doubled = (1..64).map(|n| Step::new(format!("s{n}"), "echo").args(json!(format!("${{s{0}}}${{s{0}}}", n - 1))));
    let report = run(std::iter::once(first).chain(doubled)).await;
    assert!(!report.succeeded());
    let failed = report.steps().find(|step| step.outcome == StepOutcome::Failed).unwrap();
    let message = &failed.error.unwrap().message;
    assert_eq!(message, "the references of the step stand for more than 1048576 bytes");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
