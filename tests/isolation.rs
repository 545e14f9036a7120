//! Whatever one tool does, its neighbours do not notice: each of these fails one step out of a hundred.

use std::time::Duration;

use plandag::report::StepOutcome;
use plandag::{Plan, Retry, RunReport, Runner, Step, StepError, StepErrorKind, ToolOutput, tool_fn};
use serde_json::{Value, json};

const NEIGHBOURS: usize = 99;

/// Runs one step of `bad` among many that do well.
async fn beside(bad: impl plandag::Tool + 'static) -> RunReport {
    let good = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
        Ok("well")
    });
    let mut plan = Plan::from_iter([Step::new("bad", "bad").timeout_ms(200)]);
    plan.extend((0..NEIGHBOURS).map(|n| Step::new(format!("good-{n}"), "good").args(json!({ "ms": n }))));
    let runner = Runner::new(plan).tool("bad", bad).tool("good", good).retry(Retry::NEVER);
    let report = runner.run("isolate").await.expect("a report");
    let succeeded = report.steps().filter(|step| step.outcome == StepOutcome::Succeeded).count();
    assert_eq!(succeeded, NEIGHBOURS);
    report
}

async fn error_beside(bad: impl plandag::Tool + 'static) -> StepError {
    let report = beside(bad).await;
    let step = report.step("bad").expect("the step");
    assert_eq!(step.outcome, StepOutcome::Failed);
    step.error.expect("an error").clone()
}

/// Lists within lists.
fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

#[tokio::test(start_paused = true)]
async fn a_panic() {
    let error = error_beside(tool_fn(|cx| async move {
        if cx.tries > 0 {
            panic!("index {} out of bounds", 7);
        }
        Ok(())
    }))
    .await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Panicked, "panicked: index 7 out of bounds"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_future() {
    let error = error_beside(tool_fn(|cx| {
        assert!(cx.args.is_object(), "needs an object");
        async move { Ok(()) }
    }))
    .await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Panicked, "panicked: needs an object"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let error = error_beside(tool_fn(|_| async move {
        let bomb = Bomb;
        std::future::pending::<()>().await;
        drop(bomb);
        Ok(())
    }))
    .await;
    assert_eq!(error.kind, StepErrorKind::Panicked);
}

#[tokio::test(start_paused = true)]
async fn a_hang() {
    let error = error_beside(tool_fn(|_| std::future::pending::<Result<(), StepError>>())).await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Timeout, "no result within 200ms"));
}

#[tokio::test(start_paused = true)]
async fn a_result_of_a_hundred_megabytes() {
    let error = error_beside(tool_fn(|_| async move { Ok("x".repeat(100 << 20)) })).await;
    assert_eq!(error.kind, StepErrorKind::BadOutput);
    assert_eq!(error.message, "the result is larger than 33554432 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_very_many_small_parts() {
    let error = error_beside(tool_fn(|_| async move { Ok(vec![Value::Null; 10 << 20]) })).await;
    assert_eq!(error.kind, StepErrorKind::BadOutput);
}

#[tokio::test(start_paused = true)]
async fn a_result_nested_so_deep_that_dropping_it_would_overflow_the_stack() {
    let error = error_beside(tool_fn(|_| async move { Ok(deep(1_000_000)) })).await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::BadOutput, "the result nests deeper than 128"));
    let error = error_beside(tool_fn(|_| async move {
        let steps = [Step::new("child", "good").args(deep(1_000_000))];
        Ok(ToolOutput::Plan(Plan::from_iter(steps)))
    }))
    .await;
    assert_eq!(error.kind, StepErrorKind::InvalidPlan);
    assert_eq!(error.message, "the arguments of step `child` nest deeper than 128");
    let within =
        beside(tool_fn(|_| async move { Err::<(), _>(StepError::permanent("deep").details(deep(1_000_000))) }));
    assert_eq!(within.await.step("bad").expect("the step").error.expect("an error").details, None);
}

#[tokio::test(start_paused = true)]
async fn a_result_at_the_limits_is_handed_on() {
    let plan = Plan::from_iter([Step::new("deep", "deep"), Step::new("text", "text")]);
    let runner = Runner::new(plan)
        .tool("deep", tool_fn(|_| async move { Ok(deep(128)) }))
        .tool("text", tool_fn(|_| async move { Ok("x".repeat(1_000)) }))
        .max_output_bytes(1_004);
    let report = runner.run("limits").await.expect("a report");
    assert!(report.succeeded(), "{:?}", report.answer());
}

#[tokio::test(start_paused = true)]
async fn an_endless_error_message() {
    let error = error_beside(tool_fn(|_| async move { Err::<(), _>(StepError::permanent("ä".repeat(1 << 20))) })).await;
    assert!(error.message.len() < 17 * 1024);
    assert!(error.message.ends_with("... (2097152 bytes in all)"));
}

#[tokio::test(start_paused = true)]
async fn a_reference_to_what_is_not_there() {
    let plan = Plan::from_iter([
        Step::new("page", "page"),
        Step::new("title", "page").args(json!({ "of": "${page.meta.title}" })),
    ]);
    let page = tool_fn(|_| async move { Ok(json!({ "text": "..." })) });
    let report = Runner::new(plan).tool("page", page).run("read").await.expect("a report");
    let error = report.step("title").expect("the step").error.expect("an error").clone();
    assert_eq!(error.kind, StepErrorKind::BadReference);
    assert!(error.message.contains("page") && error.message.contains("meta"), "{}", error.message);
    assert_eq!(report.step("title").expect("the step").attempts.len(), 1, "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn an_argument_of_the_wrong_shape() {
    #[derive(serde::Deserialize)]
    struct Arguments {
        #[expect(dead_code, reason = "only its absence matters")]
        query: String,
    }
    let error = error_beside(tool_fn(|cx| async move { cx.args_as::<Arguments>().map(|_| ()) })).await;
    assert_eq!(error.kind, StepErrorKind::BadInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_blocks_its_thread() {
    beside(tool_fn(|_| async move {
        std::thread::sleep(Duration::from_millis(50));
        Err::<(), _>(StepError::permanent("slow"))
    }))
    .await;
}
