//! What people find who ask the journal with `sqlite3`: the same as the report says.

use std::sync::{Arc, Mutex};

use plandag::journal::SqliteJournal;
use plandag::{
    Plan, PlanError, PlanReason, PlanReply, PlanRequest, Revision, Runner, Step, StepContext, Usage, planner_fn,
    tool_fn,
};
use tokio::sync::Semaphore;

use crate::support::query;

fn tokens(input_tokens: u64) -> Usage {
    Usage { input_tokens, ..Usage::default() }
}

#[tokio::test]
async fn calls_and_costs_of_a_run_that_was_stopped_are_those_of_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let journal = Arc::new(SqliteJournal::open(&path).unwrap());
    let was_asked = Arc::new(Mutex::new(false));
    let planner = planner_fn(move |request: PlanRequest| {
        let was_asked = Arc::clone(&was_asked);
        async move {
            let (revision, cost) = match request.reason {
                PlanReason::Review => (Revision::Answer("that is all".into()), 1_000),
                PlanReason::First if !std::mem::replace(&mut *was_asked.lock().unwrap(), true) => {
                    let error = PlanError::Planner { message: "busy".into() };
                    (Revision::PutOff { error, pause_ms: 1 }, 7)
                }
                _ => (Revision::Plan(Plan::from_iter([Step::new("a", "slow"), Step::new("b", "slow")])), 100),
            };
            Ok(PlanReply { usage: tokens(cost), ..revision.into() })
        }
    });
    // Its first two calls end with the run.
    let called = Arc::new(Semaphore::new(0));
    let calls = Arc::clone(&called);
    let slow = tool_fn(move |cx: StepContext| {
        let calls = Arc::clone(&calls);
        async move {
            cx.add_usage(tokens(10));
            calls.add_permits(1);
            if cx.attempt < 2 {
                std::future::pending::<()>().await;
            }
            cx.add_usage(tokens(1));
            Ok(())
        }
    });
    let runner = Runner::new(planner).tool("slow", slow).review(true).journal(journal);
    let mut handle = runner.start("look");
    let run = handle.id().clone();
    called.acquire_many(2).await.unwrap().forget();
    handle.cancel_now();
    (&mut handle).await.unwrap();
    let report = runner.resume(run).await.unwrap();
    assert_eq!(report.answer().unwrap(), "that is all");
    assert_eq!(report.usage(), tokens(1_149));

    assert_eq!(
        query(&path, "SELECT state || ' ' || input_tokens FROM attempts ORDER BY attempt"),
        ["failed 10", "failed 10", "succeeded 11", "succeeded 11",]
    );
    assert_eq!(query(&path, "SELECT step || ' ' || attempts FROM timings ORDER BY step"), ["a 2", "b 2"]);
    let costs = query(&path, "SELECT coalesce(step, tool) || ' ' || input_tokens FROM costs ORDER BY input_tokens, 1");
    assert_eq!(costs, ["a 21", "b 21", "planner 1107"]);
}
