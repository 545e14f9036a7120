//! Steps in which a model calls tools that act.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plandag::llm::{LlmPlanner, ModelError, ModelReply, ReplyEnd, StepModel};
use plandag::report::{Ending, StepOutcome};
use plandag::{
    Effect, Limits, ModelProblem, OnInterrupt, Plan, RunReport, Runner, Step, StepContext, StepErrorKind, StopReason,
    Tool, ToolSpec, tool_fn,
};
use serde_json::json;

use crate::support::{Script, calls, ends, says};

/// A tool that acts, and counts how often.
fn counting() -> (Arc<AtomicU32>, impl Tool + 'static) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let tool = tool_fn(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok("paid") }
    });
    (count, tool.acts())
}

type Reply = Result<ModelReply, ModelError>;

/// Ends of a step for good.
fn ends_for_good() -> [fn() -> Reply; 4] {
    [
        || Err(ModelError::new(ModelProblem::ContextOverflow, "too long")),
        || Ok(says("UNEXPECTED: the bill is another one")),
        || Ok(ends("half an ans", ReplyEnd::Length)),
        || Ok(ends("no", ReplyEnd::Refused)),
    ]
}

/// A run of one step whose model calls `tool`, and then answers this.
async fn run_of(step: Step, tool: impl Tool + 'static, fails: fn() -> Reply) -> RunReport {
    let model = Script::new(move |request| match request.messages.len() {
        1 => Ok(calls([("pay", json!({}))])),
        _ => fails(),
    });
    // Who is asked after a failure wants the same once more.
    let planner = LlmPlanner::new(Script::new(|_| Ok(says("1. pay the bill\nEND"))));
    let asks = StepModel::new(model).offer("pay", tool);
    let runner = Runner::new(Plan::from_iter([step]).revised_by(planner)).default_tool(asks).max_replans(1);
    runner.run("").await.unwrap()
}

#[tokio::test]
async fn a_step_whose_tools_have_acted_is_not_done_again_whatever_it_fails_by() {
    for (index, fails) in ends_for_good().into_iter().enumerate() {
        let (paid, pay) = counting();
        let report = run_of(Step::described("1", "pay the bill"), pay, fails).await;
        let step = report.step("1").unwrap();
        assert_eq!((paid.load(Ordering::SeqCst), step.outcome), (1, StepOutcome::Unknown), "{index}: {report:?}");
        let error = step.error.unwrap();
        assert!(error.message.ends_with(", and tools that act were called before"), "{error}");
    }
}

#[tokio::test]
async fn a_step_that_has_not_acted_or_may_act_again_fails_as_any_other() {
    for fails in ends_for_good() {
        let (paid, pay) = counting();
        let mut again = Step::described("1", "pay the bill");
        again.on_interrupt = OnInterrupt::Retry;
        let report = run_of(again, pay, fails).await;
        assert_eq!(paid.load(Ordering::SeqCst), 2, "{report:?}");
        assert!(matches!(report.ending(), Ending::Failed(_)), "{report:?}");

        let spec = ToolSpec { effect: Effect::Acts, idempotent: true, ..ToolSpec::default() };
        let writes = tool_fn(|_| async { Ok(()) }).with_spec(spec);
        let report = run_of(Step::described("1", "pay the bill"), writes, fails).await;
        assert!(matches!(report.ending(), Ending::Failed(_)), "{report:?}");
    }
    // Nothing is called with arguments that are none.
    let model = Script::new(|request| match request.messages.len() {
        1 => Ok(calls([("pay", json!("all of it"))])),
        _ => Ok(says("UNEXPECTED: no")),
    });
    let (paid, pay) = counting();
    let plan = Plan::from_iter([Step::described("1", "pay the bill")]);
    let report = Runner::new(plan).default_tool(StepModel::new(model).offer("pay", pay)).run("").await.unwrap();
    let error = report.step("1").unwrap().error.unwrap();
    assert_eq!((paid.load(Ordering::SeqCst), error.kind), (0, StepErrorKind::Unexpected));
}

#[tokio::test]
async fn a_step_that_could_act_and_has_not_is_done_when_there_is_more_to_spend() {
    for (called, outcome) in [("look", StepOutcome::Cancelled), ("pay", StepOutcome::Unknown)] {
        let (_, pay) = counting();
        let model = Script::new(move |_| Ok(calls([(called, json!({}))])));
        let asks =
            StepModel::new(model).offer("pay", pay).offer("look", tool_fn(|_: StepContext| async { Ok("seen") }));
        let limits = Limits { tokens: Some(4), ..Limits::default() };
        let plan = Plan::from_iter([Step::described("1", "see to the bill")]);
        let report = Runner::new(plan).default_tool(asks).limits(limits).run("").await.unwrap();
        assert_eq!(report.step("1").unwrap().outcome, outcome, "{called}: {report:?}");
        let why = if called == "pay" { StopReason::Undecided } else { StopReason::Tokens };
        assert_eq!(report.ending(), Ending::Stopped(why));
    }
}
