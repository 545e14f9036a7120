//! Limits, journals and what a run is resumed from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::ready;
use plandag::journal::{Journal as _, MemoryJournal};
use plandag::report::{Ending, StepOutcome};
use plandag::{
    Limits, OnFailure, Output, Patch, Phase, Plan, PlanReason, PlanReply, PlanRequest, Retry, Revision, RunEventKind,
    RunReport, Runner, Step, StepError, StopReason, Tool, Usage, planner_fn, tool_fn,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{echo, sleeper};

#[tokio::test(start_paused = true)]
async fn a_resumed_run_does_not_repeat_what_is_finished() {
    let calls: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let counted = Arc::clone(&calls);
    let tool = tool_fn(move |cx| {
        *counted.lock().expect("no panic").entry(cx.id.to_string()).or_default() += 1;
        async move {
            sleep(Duration::from_secs(1)).await;
            Ok(cx.id.to_string())
        }
    });
    let mut plan = Plan::from_iter([Step::new("s0", "work")]);
    for n in 1..10 {
        plan.push(Step::new(format!("s{n}"), "work").depends_on([format!("s{}", n - 1)]));
    }
    let journal = MemoryJournal::new();
    let runner = Runner::new(plan).tool("work", tool).journal(journal.clone());
    let handle = runner.start("a chain");
    let id = handle.id().clone();
    sleep(Duration::from_millis(3_500)).await;
    handle.cancel_now();
    let stopped = handle.await.expect("a report");
    assert_eq!(stopped.ending(), Ending::Stopped(StopReason::Cancelled));

    let handle = runner.start_resume(&id);
    let events = handle.events();
    let report = handle.await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "s9");
    let calls = calls.lock().expect("no panic").clone();
    assert_eq!(calls["s3"], 2, "it was interrupted");
    assert!(calls.iter().all(|(step, calls)| step == "s3" || *calls == 1), "{calls:?}");
    // The clock stood still while nobody drove the run.
    assert!((10_500..10_510).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
    let events: Vec<_> = events.collect().await;
    let history = journal.history(&id).await.expect("a history");
    assert_eq!(events[..], history[history.len() - events.len()..]);
    assert!(matches!(events[0].kind, RunEventKind::RunResumed { .. }));

    let mut handle = runner.start_resume(&id);
    let finished = (&mut handle).await.expect("a report");
    let view = handle.view();
    assert_eq!((view.phase, view.revision), (Phase::Finished, 1), "though nothing has happened any more");
    assert_eq!(finished.answer().expect("an answer"), "s9");
    let unknown = runner.resume("nothing").await.expect_err("no such run");
    assert_eq!(unknown.to_string(), "no run `nothing` in the journal");
}

#[tokio::test]
async fn a_run_is_resumed_only_with_all_its_tools() {
    let plan = || Plan::from_iter([Step::new("a", "echo")]);
    let journal = MemoryJournal::new();
    let first = Runner::new(plan()).tool("echo", echo()).journal(journal.clone()).run("x").await.expect("a report");
    let error = Runner::new(plan()).journal(journal).resume(first.run()).await.expect_err("it has no tool");
    assert!(error.to_string().ends_with("was started with other tools: `echo` is missing"), "{error}");
    let error = Runner::new(plan()).max_parallel(0).run("x").await.expect_err("no slots");
    assert_eq!(error.to_string(), "`max_parallel` must be at least 1");
}

#[tokio::test]
async fn large_results_go_to_the_journal_and_come_back() {
    let large = "x".repeat(Output::INLINE_BYTES + 1);
    let expected = large.len();
    let make = tool_fn(move |_| {
        let large = large.clone();
        async move { Ok(large) }
    });
    let length = tool_fn(|cx| async move { Ok(cx.args["text"].as_str().map_or(0, str::len) as u64) });
    let journal = MemoryJournal::new();
    let plan =
        Plan::from_iter([Step::new("make", "make"), Step::new("length", "length").args(json!({ "text": "${make}" }))]);
    let with_answer = |answer: &str| plan.clone().answer(answer);
    let runner = |plan| {
        let (make, length) = (make.clone(), length.clone());
        Runner::new(plan).tool("make", make).tool("length", length).journal(journal.clone())
    };
    let report = runner(with_answer("length")).run("measure").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!(expected));
    assert!(report.output::<String>("make").expect_err("not in memory").to_string().ends_with("only in the journal"));
    let history = journal.history(report.run()).await.expect("a history");
    assert!(serde_json::to_string(&history).expect("events are data").len() < 10_000);

    let report = runner(with_answer("make")).run("make").await.expect("a report");
    assert_eq!(report.answer().expect("an answer").as_str().map(str::len), Some(expected));
    let loaded = RunReport::load(&journal, report.run()).await.expect("a report");
    assert_eq!(loaded.answer(), report.answer());
}

#[tokio::test(start_paused = true)]
async fn limits_stop_a_run_with_what_is_done() {
    let plan: Plan = (0..10).map(|n| Step::new(format!("s{n}"), "sleep").args(json!({ "ms": 1_000 }))).collect();
    let runner = Runner::new(plan).tool("sleep", sleeper()).max_parallel(1);
    let report = runner.clone().deadline(Duration::from_millis(3_500)).run("x").await.expect("a report");
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Deadline));
    assert_eq!(report.wall_time().as_millis(), 3_500);
    assert_eq!(report.steps().filter(|step| step.outcome == StepOutcome::Succeeded).count(), 3);

    let limits = Limits { attempts: Some(4), ..Limits::default() };
    let report = runner.limits(limits).run("x").await.expect("a report");
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Attempts));
    assert_eq!(report.attempt_count(), 4);
}

#[tokio::test]
async fn only_calls_are_counted_and_limited() {
    let called = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&called);
    let tool = tool_fn(move |_| {
        let calls = counter.fetch_add(1, Ordering::SeqCst);
        ready(if calls == 0 { Err(StepError::deferred("not yet", 1)) } else { Ok(calls) })
    });
    let plan = Plan::from_iter([
        Step::new("not", "count").when("${inputs.no}"),
        Step::new("nowhere", "count").args(json!("${inputs.list.x}")).on_failure(OnFailure::Continue),
        Step::new("large", "count").args(json!(["${inputs.text}", "${inputs.text}"])).on_failure(OnFailure::Continue),
        Step::new("put_off", "count"),
        Step::new("last", "count").depends_on(["not", "nowhere", "large", "put_off"]),
    ]);
    let runner = Runner::new(plan).tool("count", tool).input("no", false).input("list", json!([]));
    let runner = runner.input("text", "x".repeat(700_000)).limits(Limits { attempts: Some(2), ..Limits::default() });
    let report = runner.run("x").await.expect("a report");
    assert_eq!((report.answer(), called.load(Ordering::SeqCst)), (Ok(&json!(2)), 3));
    assert_eq!((report.attempt_count(), report.retry_count(), report.deferral_count()), (2, 0, 1));
    let calls = |id| report.step(id).map(|step| (step.attempt_count(), step.attempts.len()));
    for (id, expected) in [("not", (0, 1)), ("nowhere", (0, 1)), ("large", (0, 1)), ("put_off", (1, 2))] {
        assert_eq!(calls(id), Some(expected), "{id}");
    }
}

#[tokio::test]
async fn what_tools_use_is_added_up() {
    let tool = tool_fn(|cx| async move {
        cx.add_usage(Usage { input_tokens: 10, output_tokens: 1, micro_usd: 5, calls: 1 });
        cx.add_usage(Usage { input_tokens: 5, ..Usage::default() });
        if cx.tries == 1 { Err(StepError::transient("again")) } else { Ok(()) }
    });
    let plan = Plan::from_iter([Step::new("ask", "model")]);
    let retry = Retry { base_ms: 1, ..Retry::default() };
    let report = Runner::new(plan).tool("model", tool).retry(retry).run("ask").await.expect("a report");
    assert_eq!(report.usage(), Usage { input_tokens: 30, output_tokens: 2, micro_usd: 10, calls: 2 });
    let step = report.step("ask").expect("the step");
    assert_eq!(step.attempts.iter().map(|attempt| attempt.usage.input_tokens).collect::<Vec<_>>(), [15, 15]);
    let older = json!({ "input_tokens": 1, "output_tokens": 2, "micro_usd": 3 });
    let usage: Usage = serde_json::from_value(older.clone()).expect("an older record can be read");
    assert_eq!((usage.calls, serde_json::to_value(usage).expect("data")), (0, older), "and what has none is as it was");
}

/// Asks something that costs, `rounds` times, as long as it may. Says in the books how often it has.
fn asker(rounds: u32, asked: &Arc<AtomicU32>) -> impl Tool + 'static {
    let asked = Arc::clone(asked);
    tool_fn(move |cx| {
        let asked = Arc::clone(&asked);
        async move {
            for _ in 0..rounds {
                cx.check_limits()?;
                asked.fetch_add(1, Ordering::SeqCst);
                cx.add_usage(Usage { input_tokens: 2, output_tokens: 1, micro_usd: 5, calls: 1 });
                sleep(Duration::from_secs(1)).await;
            }
            Ok("asked")
        }
    })
}

#[tokio::test(start_paused = true)]
async fn what_steps_use_counts_while_they_run_for_each_other_and_for_what_would_start() {
    for limits in [Limits { tokens: Some(7), ..Limits::default() }, Limits { micro_usd: Some(15), ..Limits::default() }]
    {
        let asked = Arc::new(AtomicU32::new(0));
        let plan = Plan::from_iter([
            Step::new("one", "ask"),
            Step::new("two", "ask"),
            Step::new("short", "sleep").args(json!({ "ms": 1_500 })),
            Step::new("late", "sleep").args(json!({ "ms": 1 })).depends_on(["short"]),
        ]);
        let journal = MemoryJournal::new();
        let runner = Runner::new(plan).tool("ask", asker(5, &asked)).tool("sleep", sleeper()).journal(journal);
        let reason = if limits.tokens.is_some() { StopReason::Tokens } else { StopReason::Money };
        let report = runner.clone().limits(limits).run("x").await.expect("a report");
        assert_eq!(report.ending(), Ending::Stopped(reason));
        assert_eq!(asked.load(Ordering::SeqCst), 3, "two rounds would be too few, and the fourth too many");
        assert_eq!(report.usage(), Usage { input_tokens: 6, output_tokens: 3, micro_usd: 15, calls: 3 });
        assert_eq!(report.step("short").expect("the step").outcome, StepOutcome::Succeeded, "what runs may end");
        assert!(report.step("late").expect("the step").attempts.is_empty(), "nothing starts any more");
        let error = report.steps().find_map(|step| step.attempts.first()?.error).expect("a reason");
        assert!(error.message.starts_with("the run's limit on "), "{error:?}");

        let report = runner.resume(report.run().clone()).await.expect("a report");
        assert!(report.succeeded(), "{:?}", report.ending());
        assert_eq!(report.step("short").expect("the step").attempts.len(), 1, "what is done is kept");
    }
}

/// An attempt that does not ask whether it may go on keeps others from starting all the same.
#[tokio::test(start_paused = true)]
async fn nothing_starts_once_a_running_step_has_reached_a_limit() {
    let ask = || {
        tool_fn(|cx| async move {
            cx.add_usage(Usage { input_tokens: 9, ..Usage::default() });
            sleep(Duration::from_secs(5)).await;
            Ok(())
        })
    };
    let plan = Plan::from_iter([
        Step::new("asks", "ask"),
        Step::new("short", "sleep").args(json!({ "ms": 1_000 })),
        Step::new("late", "sleep").args(json!({ "ms": 1_000 })).depends_on(["short"]),
    ]);
    let runner = Runner::new(plan).tool("ask", ask()).tool("sleep", sleeper());
    let limits = Limits { tokens: Some(9), ..Limits::default() };
    let report = runner.clone().limits(limits.clone()).run("x").await.expect("a report");
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Tokens));
    assert_eq!((report.attempt_count(), report.wall_time().as_secs()), (2, 5));

    let last = Runner::new(Plan::from_iter([Step::new("asks", "ask")])).tool("ask", ask()).limits(limits);
    assert!(last.run("x").await.expect("a report").succeeded(), "nothing is left that would use more");
}

/// What was used until the run stopped counts, also of attempts that were cut off by that and of an answer that came then.
#[tokio::test(start_paused = true)]
async fn what_was_used_by_what_a_stop_cut_off_counts_when_the_run_goes_on() {
    let ask = tool_fn(|cx| async move {
        cx.add_usage(Usage { input_tokens: 10, calls: 1, ..Usage::default() });
        sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    let journal = MemoryJournal::new();
    let steps = ["a", "b"].map(|id| Step::new(id, "ask"));
    let runner = |deadline_ms| {
        let limits = Limits { tokens: Some(50), deadline_ms: Some(deadline_ms), ..Limits::default() };
        Runner::new(Plan::from_iter(steps.clone())).tool("ask", ask.clone()).journal(journal.clone()).limits(limits)
    };
    let mut report = runner(1_000).run("x").await.expect("a report");
    for (round, deadline_ms) in [(1, 2_000), (2, 3_000), (3, 4_000)] {
        assert_eq!(report.ending(), Ending::Stopped(StopReason::Deadline));
        assert_eq!((report.usage().input_tokens, report.usage().calls), (20 * round, 2 * round));
        report = runner(deadline_ms).resume(report.run().clone()).await.expect("a report");
    }
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Tokens), "60 of 50");
    assert_eq!(report.usage().input_tokens, 60);
    let of_attempts: u64 =
        report.steps().flat_map(|step| step.attempts).map(|attempt| attempt.usage.input_tokens).sum();
    assert_eq!(of_attempts, 60);
}

/// What running steps have used and what the planner's answer cost are one sum.
#[tokio::test(start_paused = true)]
async fn nothing_starts_once_an_answer_of_the_planner_has_reached_a_limit() {
    let ask = tool_fn(|cx| async move {
        cx.add_usage(Usage { input_tokens: 5, ..Usage::default() });
        sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    let steps = |ids: &[&str]| ids.iter().map(|id| Arc::new(Step::new(*id, "ask"))).collect::<Vec<_>>();
    let planner = planner_fn(move |request: PlanRequest| {
        let more = steps(&["b", "c", "d"]);
        async move {
            let plan = Plan::from_iter([Step::new("a", "ask"), Step::new("fails", "fail")]);
            let revision = match request.reason {
                PlanReason::First => Revision::Plan(plan),
                _ => Revision::Patch(Patch { add: more, drop: vec!["fails".into()], ..Patch::default() }),
            };
            Ok(PlanReply { usage: Usage { input_tokens: 3, ..Usage::default() }, ..revision.into() })
        }
    });
    let fail = tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) });
    let limits = Limits { tokens: Some(11), ..Limits::default() };
    let report = Runner::new(planner).tool("ask", ask).tool("fail", fail).limits(limits).run("x").await.unwrap();
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Tokens));
    assert_eq!((report.attempt_count(), report.usage().input_tokens), (2, 11), "none of the new steps has begun");
}

#[tokio::test]
async fn a_journal_that_fails_ends_the_run() {
    struct Full(AtomicU32);
    impl plandag::journal::Journal for Full {
        fn create<'a>(
            &'a self,
            run: &'a plandag::journal::RunId,
        ) -> futures::future::BoxFuture<'a, Result<plandag::journal::Claim, plandag::JournalError>> {
            Box::pin(async { Ok(plandag::journal::Claim::new(run.clone(), 1, ())) })
        }

        fn claim<'a>(
            &'a self,
            _: &'a plandag::journal::RunId,
        ) -> futures::future::BoxFuture<'a, Result<plandag::journal::Claim, plandag::JournalError>> {
            Box::pin(async { Err(full()) })
        }

        fn runs<'a>(
            &'a self,
        ) -> futures::future::BoxFuture<'a, Result<Vec<plandag::journal::RunSummary>, plandag::JournalError>> {
            Box::pin(async { Err(full()) })
        }

        fn append<'a>(
            &'a self,
            _: &'a plandag::journal::Claim,
            _: &'a [plandag::RunEvent],
            _: plandag::journal::Durability,
        ) -> futures::future::BoxFuture<'a, Result<(), plandag::JournalError>> {
            let appended = self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { if appended < 2 { Ok(()) } else { Err(full()) } })
        }

        fn history<'a>(
            &'a self,
            _: &'a plandag::journal::RunId,
        ) -> futures::future::BoxFuture<'a, Result<Vec<plandag::RunEvent>, plandag::JournalError>> {
            Box::pin(async { Err(full()) })
        }

        fn put_output<'a>(
            &'a self,
            _: &'a plandag::journal::Claim,
            _: Arc<Value>,
        ) -> futures::future::BoxFuture<'a, Result<plandag::StoredOutput, plandag::JournalError>> {
            Box::pin(async { Err(full()) })
        }

        fn get_output<'a>(
            &'a self,
            _: &'a plandag::journal::RunId,
            _: &'a plandag::StoredOutput,
        ) -> futures::future::BoxFuture<'a, Result<Arc<Value>, plandag::JournalError>> {
            Box::pin(async { Err(full()) })
        }
    }
    fn full() -> plandag::JournalError {
        plandag::JournalError::Store { message: "disk full".into(), source: None }
    }
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let tool = tool_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok("x".repeat(Output::INLINE_BYTES)) }
    });
    let plan = Plan::from_iter([Step::new("a", "big"), Step::new("b", "big").depends_on(["a"])]);
    let error = Runner::new(plan).tool("big", tool).journal(Full(AtomicU32::new(0))).run("x").await;
    assert_eq!(error.expect_err("it failed").to_string(), "the journal failed: disk full");
    assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing goes on that cannot be written down");
}

/// On one thread, the task of `after` has no chance to begin between the turn that launches it and the one that ends
/// the run: both messages are taken together.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_ended_before_it_begins_is_answered() {
    let plan = Plan::from_iter([
        Step::new("first", "echo"),
        Step::new("stop", "stop"),
        Step::new("after", "echo").depends_on(["first"]),
    ]);
    let slot: Arc<Mutex<Option<Arc<plandag::RunHandle>>>> = Arc::default();
    let stop = {
        let slot = Arc::clone(&slot);
        tool_fn(move |_| {
            let handle = slot.lock().expect("not poisoned").take().expect("set before the run begins");
            async move {
                handle.cancel_now();
                drop(handle);
                sleep(Duration::from_secs(3_600)).await;
                Ok(())
            }
        })
    };
    let began = Instant::now();
    let handle = Arc::new(Runner::new(plan).tool("echo", echo()).tool("stop", stop).start("stop"));
    let mut events = handle.events();
    *slot.lock().expect("not poisoned") = Some(Arc::clone(&handle));
    while events.next().await.is_some() {}
    let report = Arc::into_inner(handle).expect("the tool has let go of it").await.expect("a report");
    assert_eq!(report.step("after").expect("the step").attempts.len(), 1, "it was launched");
    assert_eq!(began.elapsed(), Duration::ZERO, "nothing was waited for");
}

/// It goes on with what it has recorded: only a step that needs the tool misses it.
#[tokio::test]
async fn a_tool_that_is_gone_is_missed_only_where_it_is_needed() {
    for (needed, answer) in [("echo", Some(json!("c"))), ("two", None)] {
        let step = |id: &str, tool: &str| Step::new(id, tool).args(json!(id));
        let plan = || {
            Plan::from_iter([
                step("a", "echo"),
                step("b", "echo").depends_on(["a"]),
                step("c", needed).depends_on(["b"]),
            ])
        };
        let journal = MemoryJournal::new();
        let runner = || Runner::new(plan()).tool("echo", echo()).journal(journal.clone());
        let one = Limits { attempts: Some(1), ..Limits::default() };
        let stopped = runner().tool("two", echo()).limits(one).run("x").await.expect("a report");
        assert_eq!(stopped.ending(), Ending::Stopped(StopReason::Attempts));
        let refused = runner().resume(stopped.run()).await.expect_err("it lacks a tool");
        assert!(refused.to_string().ends_with("`two` is missing"), "{refused}");
        let report = runner().accept_changes(true).max_replans(0).resume(stopped.run()).await.expect("a report");
        assert_eq!(report.answer().ok().cloned(), answer);
        let error = report.step("c").and_then(|step| step.error).map(|error| error.message.clone());
        let said = "the tool `two` is not there any more, and the run goes on without it";
        assert_eq!(error, answer.is_none().then(|| said.to_owned()));
    }
}
