//! Steps in which a model calls tools that act.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use plandag::llm::{LlmPlanner, Message, ModelError, ModelReply, ReplyEnd, StepModel, ToolCall};
use plandag::report::{Ending, StepOutcome};
use plandag::{
    Effect, Limits, ModelProblem, OnInterrupt, Plan, RunReport, Runner, Step, StepContext, StepError, StepErrorKind,
    StopReason, Tool, ToolOutput, ToolSpec, tool_fn,
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

/// The keys of the calls that a model makes in a step, without the run: these answers one after the other, each of calls
/// with these arguments. The first call for `fails` does so.
async fn keys(answers: &'static [&'static [&str]]) -> Vec<String> {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let (noted, failed) = (Arc::clone(&keys), AtomicBool::new(false));
    let pay = tool_fn(move |cx: StepContext| {
        noted.lock().unwrap().push(cx.idempotency_key());
        let fails = cx.args["to"] == "fails" && !failed.swap(true, Ordering::SeqCst);
        async move { if fails { Err(StepError::transient("busy")) } else { Ok("paid") } }
    });
    let model = Script::new(move |request| {
        let round = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
        let Some(answer) = answers.get(round) else { return Ok(says("done")) };
        let call = |(index, arguments): (usize, &&str)| ToolCall {
            id: index.to_string(),
            name: "pay".to_owned(),
            arguments: serde_json::from_str(arguments).unwrap(),
            signatures: None,
        };
        Ok(ModelReply { calls: answer.iter().enumerate().map(call).collect(), ..says("") })
    });
    let plan = Plan::from_iter([Step::described("1", "pay the bills")]);
    let asks = StepModel::new(model).offer("pay", pay.acts());
    let report = Runner::new(plan).default_tool(asks).run("").await.unwrap();
    let own = format!("{}/0/", report.run());
    keys.lock().unwrap().iter().map(|key: &String| key.strip_prefix(&own).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_call_of_a_model_has_a_key_of_its_own_and_has_it_again_if_it_is_made_again() {
    const ALICE: &str = r#"{"to": "Alice", "sum": 1}"#;
    const BOB: &str = r#"{"to": "Bob", "sum": 1}"#;
    const FAILS: &str = r#"{"to": "fails"}"#;
    let first = keys(&[&[ALICE, BOB, ALICE]]).await;
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    let again = keys(&[&[r#"{"sum": 1, "to": "Bob"}"#], &[r#"{"sum": 1, "to": "Alice"}"#], &[ALICE]]).await;
    assert_eq!(again, [&*first[1], &*first[0], &*first[2]]);
    let failed = keys(&[&[FAILS, FAILS], &[FAILS], &[FAILS]]).await;
    assert_eq!((&failed[2], failed.iter().collect::<BTreeSet<_>>().len()), (&failed[0], 3), "{failed:?}");
}

/// What a killed process has left running is ended also where a model had started it.
#[tokio::test]
async fn what_a_model_is_offered_ends_what_it_has_left_running() {
    struct Reaps(Arc<AtomicU32>);
    impl Tool for Reaps {
        fn call<'a>(&'a self, _: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
            Box::pin(async { Ok(().into()) })
        }

        fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
            assert_eq!(run, "7f3k");
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }
    }
    let reaped = Arc::new(AtomicU32::new(0));
    let model = StepModel::new(Script::new(|_| Ok(says("x"))));
    let model = model.offer("one", Reaps(Arc::clone(&reaped))).offer("two", Reaps(Arc::clone(&reaped)));
    model.reap("7f3k").await;
    assert_eq!(reaped.load(Ordering::SeqCst), 2);
}
