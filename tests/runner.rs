//! The tokio driver: that it does what the scheduler says, when it says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use plandag::journal::{Journal as _, MemoryJournal};
use plandag::report::{Ending, StepOutcome};
use plandag::{
    Decision, Effect, Limits, NoAnswer, OnFailure, Output, Patch, Phase, Plan, PlanError, PlanReason, PlanReply,
    PlanRequest, PlanSink, Planner, Policy, ReplanWhen, Retry, Revision, RunError, RunEventKind, RunReport, Runner,
    SkipReason, Step, StepError, StepErrorKind, StepState, StopReason, ToolOutput, ToolSpec, Usage, planner_fn,
    tool_fn,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

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

#[tokio::test(start_paused = true)]
async fn independent_steps_run_at_the_same_time() {
    let eight = (0..8).map(|n| Step::new(format!("part-{n}"), "sleep").args(json!({ "ms": 500 })));
    let all: BTreeMap<String, String> = (0..8).map(|n| (n.to_string(), format!("${{part-{n}}}"))).collect();
    let plan: Plan = eight.chain([Step::new("join", "sleep").args(json!({ "ms": 500, "of": all }))]).collect();
    let runner = Runner::new(plan).tool("sleep", sleeper());

    let report = runner.run("wait").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "join");
    assert_eq!(report.wall_time().as_millis(), 1_000);
    assert_eq!(report.work().as_millis(), 4_500);
    assert_eq!(report.critical_path().length.as_millis(), 1_000);
    assert_eq!(report.critical_path().steps.len(), 2);
    assert_eq!(report.bound().as_millis(), 1_000);

    let one_at_a_time = runner.max_parallel(1).run("wait").await.expect("a report");
    assert_eq!(one_at_a_time.wall_time().as_millis(), 4_500);
    assert_eq!(one_at_a_time.bound().as_millis(), 4_500);
    let queued: Duration = one_at_a_time.steps().flat_map(|step| step.attempts).map(|attempt| attempt.queued).sum();
    // The eight wait 0, 1, .. 7 times half a second; the join does not wait at all.
    assert_eq!(queued.as_millis(), 28 * 500);
}

#[tokio::test]
async fn values_are_handed_on() {
    let plan = Plan::from_iter([
        Step::new("a", "echo").args(json!({ "list": [1, { "deep": "x" }] })),
        Step::new("b", "echo").args(json!({ "typed": "${a.list.1}", "text": "<${a.list.0}> ${inputs.city}" })),
    ]);
    let report = Runner::new(plan).tool("echo", echo()).input("city", "Oslo").run("hand on").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "typed": { "deep": "x" }, "text": "<1> Oslo" }));

    #[derive(serde::Deserialize)]
    struct Typed {
        text: String,
    }
    assert_eq!(report.output::<Typed>("b").expect("an output").text, "<1> Oslo");
    let wrong = report.output::<u32>("b").expect_err("not a number");
    assert!(wrong.to_string().starts_with("the output of step `b` is not of the wanted type"), "{wrong}");
    let unknown = report.output::<u32>("c").expect_err("no such step");
    assert_eq!(unknown.to_string(), "there is no step `c`");
}

#[tokio::test]
async fn several_sinks_answer_together() {
    let plan: Plan = ["a", "b"].map(|id| Step::new(id, "echo").args(json!(id))).into_iter().collect();
    let report = Runner::new(plan).tool("echo", echo()).run("both").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "a": "a", "b": "b" }));
}

#[tokio::test]
async fn a_step_without_tool_goes_to_the_default_tool() {
    let plan = || Plan::from_iter([Step::described("greet", "Say hello")]);
    let model = || tool_fn(|cx| async move { Ok(format!("did: {} for {}", cx.step.description, cx.objective())) });

    let named = Runner::new(plan()).tool("model", model()).default_tool("model").run("be kind").await;
    assert_eq!(named.expect("a report").answer().expect("an answer"), "did: Say hello for be kind");
    let given = Runner::new(plan()).default_tool(model()).run("be kind").await;
    assert_eq!(given.expect("a report").answer().expect("an answer"), "did: Say hello for be kind");

    let none = Runner::new(plan()).tool("model", model()).run("be kind").await.expect("a report");
    let error = none.answer().expect_err("nobody to do it");
    assert!(error.to_string().contains("names no tool"), "{error}");
    let missing = Runner::new(plan()).default_tool("nobody").run("be kind").await;
    assert!(matches!(missing, Err(RunError::Configuration(_))), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again_after_a_back_off() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let flaky = tool_fn(move |cx| {
        let tried = counted.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            assert_eq!(cx.tries, tried);
            assert_eq!(cx.last_error.is_some(), tried > 1);
            if tried < 3 { Err(StepError::transient("not yet")) } else { Ok(tried) }
        }
    });
    let plan = Plan::from_iter([Step::new("flaky", "flaky")]);
    let report = Runner::new(plan).tool("flaky", flaky).run("insist").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), 3);
    let step = report.step("flaky").expect("the step");
    assert_eq!(step.attempts.len(), 3);
    assert_eq!(step.attempts[0].error.expect("an error").message, "not yet");
    // Full jitter: at most half a second, then at most one.
    assert!(report.wall_time() <= Duration::from_millis(1_505), "{:?}", report.wall_time());
    assert!(step.attempts.iter().all(|attempt| attempt.queued < Duration::from_millis(5)), "{step:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_left_alone_as_long_as_it_asks() {
    let asked = tool_fn(|cx| async move {
        if cx.tries == 1 { Err(StepError::transient("busy").retry_after_ms(7_000)) } else { Ok(()) }
    });
    let plan = Plan::from_iter([Step::new("ask", "ask")]);
    let report = Runner::new(plan).tool("ask", asked).run("wait").await.expect("a report");
    assert!(report.succeeded());
    // The jitter of the usual back-off, up to half a second, only adds to it.
    assert!((7_000..7_510).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_ended() {
    let dropped = Arc::new(AtomicU32::new(0));
    struct Count(Arc<AtomicU32>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counted = Arc::clone(&dropped);
    let hang = tool_fn(move |_| {
        let guard = Count(Arc::clone(&counted));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(())
        }
    });
    let plan = Plan::from_iter([Step::new("hang", "hang").timeout_ms(2_000).retry(Retry::NEVER)]);
    let report = Runner::new(plan).tool("hang", hang).run("wait").await.expect("a report");
    let step = report.step("hang").expect("the step");
    assert_eq!(step.outcome, StepOutcome::Failed);
    assert_eq!(step.error.expect("an error").kind, StepErrorKind::Timeout);
    assert_eq!(step.error.expect("an error").message, "no result within 2s");
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert!((2_000..2_010).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
    let error = report.answer().expect_err("no answer");
    assert_eq!(error.to_string(), "step `hang` failed: no result within 2s");
}

#[tokio::test(start_paused = true)]
async fn an_acting_step_that_timed_out_is_unknown_until_somebody_decides() {
    let act = tool_fn(|cx| async move {
        if cx.args["hang"] == true {
            std::future::pending::<()>().await;
        }
        Ok("done")
    });
    let plan = Plan::from_iter([
        Step::new("pay", "pay").args(json!({ "hang": true })).timeout_ms(1_000),
        Step::new("thank", "pay").args(json!({ "for": "${pay}" })),
    ]);
    let journal = MemoryJournal::new();
    let runner = Runner::new(plan).tool("pay", act.acts()).journal(journal);
    let report = runner.run("pay").await.expect("a report");
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Undecided));
    let pay = report.step("pay").expect("the step");
    assert_eq!(pay.outcome, StepOutcome::Unknown);
    assert_eq!(report.step("thank").expect("the step").outcome, StepOutcome::Cancelled);

    runner.decide(report.run(), pay.number, Decision::Succeeded(Output::inline(json!("paid")))).await.expect("kept");
    let resumed = runner.resume(report.run()).await.expect("a report");
    assert_eq!(resumed.answer().expect("an answer"), "done");
    assert_eq!(resumed.value("pay").expect("an output").as_str(), Some("paid"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_lets_running_steps_finish_within_the_grace_period() {
    let plan = || {
        Plan::from_iter([
            Step::new("short", "sleep").args(json!({ "ms": 3_000 })),
            Step::new("long", "sleep").args(json!({ "ms": 60_000 })),
            Step::new("later", "sleep").args(json!({ "ms": 1, "after": "${short}" })),
        ])
    };
    let runner = Runner::new(plan()).tool("sleep", sleeper());
    let handle = runner.start("cancel me");
    sleep(Duration::from_secs(1)).await;
    handle.cancel();
    let report = handle.await.expect("a report");
    assert_eq!(report.ending(), Ending::Stopped(StopReason::Cancelled));
    assert_eq!(report.answer().expect_err("no answer").to_string(), "the run stopped: it was cancelled");
    assert_eq!(report.step("short").expect("the step").outcome, StepOutcome::Succeeded);
    assert_eq!(report.step("long").expect("the step").outcome, StepOutcome::Cancelled);
    assert_eq!(report.step("later").expect("the step").attempts.len(), 0);
    assert!((6_000..6_010).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());

    let handle = runner.start("cancel me at once");
    sleep(Duration::from_secs(1)).await;
    handle.cancel_now();
    let report = handle.await.expect("a report");
    assert!((1_000..1_010).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
    assert_eq!(report.step("short").expect("the step").outcome, StepOutcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_a_run_ends_its_tools() {
    let running = Arc::new(AtomicUsize::new(0));
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let counter = Arc::clone(&running);
    let tool = tool_fn(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&counter));
        async move {
            sleep(Duration::from_secs(60)).await;
            drop(running);
            Ok(())
        }
    });
    let journal = MemoryJournal::new();
    let plan: Plan = (0..5).map(|n| Step::new(format!("s{n}"), "wait")).collect();
    let runner = Runner::new(plan).tool("wait", tool).journal(journal.clone());
    tokio::select! {
        _ = runner.run("never finished") => panic!("it takes a minute"),
        () = sleep(Duration::from_secs(1)) => assert_eq!(running.load(Ordering::Relaxed), 5),
    }
    sleep(Duration::from_millis(10)).await;
    assert_eq!(running.load(Ordering::Relaxed), 0);
    let history = journal.history(&journal.runs().await.expect("a list")[0].run).await.expect("a history");
    let last = history.last().expect("events");
    assert_eq!(last.kind, RunEventKind::RunStopped { why: StopReason::Cancelled });

    drop(runner.start("dropped handle"));
    let detached = runner.start("detached");
    let id = detached.id().clone();
    detached.detach();
    sleep(Duration::from_secs(61)).await;
    let report = RunReport::load(&journal, &id).await.expect("a report");
    assert!(report.succeeded());
    assert_eq!(running.load(Ordering::Relaxed), 0);
    assert_eq!(journal.runs().await.expect("a list").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_guard_holds_the_slot_until_the_work_is_gone() {
    let at_work = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&at_work);
    let tool = tool_fn(move |cx| {
        let counter = Arc::clone(&counter);
        async move {
            assert_eq!(counter.fetch_add(1, Ordering::SeqCst), 0, "two attempts share one slot");
            let hold = cx.hold();
            tokio::spawn(async move {
                sleep(Duration::from_secs(10)).await;
                counter.fetch_sub(1, Ordering::SeqCst);
                drop(hold);
            });
            std::future::pending::<Result<(), StepError>>().await
        }
    });
    let plan: Plan = ["a", "b"].into_iter().map(|id| Step::new(id, "slow").timeout_ms(1_000)).collect();
    let runner = Runner::new(plan).tool("slow", tool).max_parallel(1).retry(Retry::NEVER);
    let report = runner.run("hold").await.expect("a report");
    assert!((20_000..20_010).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
    assert!(report.steps().all(|step| step.outcome == StepOutcome::Failed));
}

#[tokio::test(start_paused = true)]
async fn the_tools_themselves_never_see_more_than_the_caps_allow() {
    #[derive(Default)]
    struct Seen {
        now: usize,
        most: usize,
    }
    let seed = 42;
    let mut random = fastrand::Rng::with_seed(seed);
    let all = Arc::new(Mutex::new(Seen::default()));
    let gpu = Arc::new(Mutex::new(Seen::default()));
    let counting = |seen: Vec<Arc<Mutex<Seen>>>| {
        tool_fn(move |cx| {
            let seen = seen.clone();
            async move {
                for seen in &seen {
                    let mut seen = seen.lock().expect("no panic");
                    seen.now += 1;
                    seen.most = seen.most.max(seen.now);
                }
                sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
                for seen in &seen {
                    seen.lock().expect("no panic").now -= 1;
                }
                if cx.tries == 1 && cx.args["flaky"] == true { Err(StepError::transient("again")) } else { Ok(()) }
            }
        })
    };
    let mut plan = Plan::new();
    for n in 0..200_u32 {
        let tool = if random.bool() { "gpu" } else { "cpu" };
        let mut step =
            Step::new(format!("s{n}"), tool).args(json!({ "ms": random.u64(1..50), "flaky": random.bool() }));
        if n > 10 {
            step = step.depends_on([format!("s{}", random.u32(..n))]);
        }
        plan.push(step);
    }
    let runner = Runner::new(plan)
        .tool("gpu", counting(vec![Arc::clone(&all), Arc::clone(&gpu)]))
        .tool("cpu", counting(vec![Arc::clone(&all)]))
        .pool("gpu", 2)
        .max_parallel(7);
    let report = runner.run("count").await.expect("a report");
    assert!(report.succeeded(), "seed {seed}: {:?}", report.answer());
    assert_eq!(gpu.lock().expect("no panic").most, 2, "seed {seed}");
    assert_eq!(all.lock().expect("no panic").most, 7, "seed {seed}");
}

#[tokio::test]
async fn a_tool_may_return_a_plan_for_every_item_of_a_list() {
    let list = tool_fn(|_| async move { Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]) });
    let each = tool_fn(|cx| async move {
        let items: Vec<String> = serde_json::from_value(cx.args["items"].clone())?;
        let steps = items.iter().map(|item| Step::new(format!("item-{item}"), "upper").args(json!({ "text": item })));
        Ok(Plan::from_iter(steps))
    });
    let upper = tool_fn(|cx| async move { Ok(cx.args["text"].as_str().unwrap_or_default().to_uppercase()) });
    let plan = Plan::from_iter([
        Step::new("list", "list"),
        Step::new("each", "each").args(json!({ "items": "${list}" })),
        Step::new("all", "echo").args(json!({ "first": "${each.item-a}", "everything": "${each}" })),
    ]);
    let runner = Runner::new(plan).tool("list", list).tool("each", each).tool("upper", upper).tool("echo", echo());
    let report = runner.run("map").await.expect("a report");
    assert_eq!(
        *report.answer().expect("an answer"),
        json!({ "first": "A", "everything": { "item-a": "A", "item-b": "B", "item-c": "C" } })
    );
    assert_eq!(report.output::<String>("each/item-b").expect("an output"), "B");
    assert_eq!(report.steps().count(), 6);
}

#[tokio::test]
async fn a_false_condition_skips_the_step_and_hands_on_a_null() {
    let plan = Plan::from_iter([
        Step::new("look", "echo").args(json!({ "found": 0 })),
        Step::new("use", "echo").args(json!("used")).when("${look.found} != 0"),
        Step::new("report", "echo").args(json!({ "used": "${use}" })),
    ]);
    let report = Runner::new(plan).tool("echo", echo()).run("maybe").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "used": null }));
    assert_eq!(report.step("use").expect("the step").outcome, StepOutcome::Skipped(SkipReason::Condition));
}

#[tokio::test]
async fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    let fail = tool_fn(|_| async move { Err::<(), _>(StepError::permanent("no such page")) });
    let plan = Plan::from_iter([
        Step::new("page", "fail"),
        Step::new("text", "echo").args(json!("${page}")),
        Step::new("summary", "echo").args(json!("${text}")),
        Step::new("other", "echo").args(json!(1)),
    ]);
    let runner = Runner::new(plan).tool("fail", fail.clone()).tool("echo", echo());
    let report = runner.run("read").await.expect("a report");
    assert!(matches!(report.answer(), Err(NoAnswer::StepFailed { more: 0, .. })), "{:?}", report.answer());
    assert_eq!(report.answer().expect_err("failed").to_string(), "step `page` failed: no such page");
    let summary = report.step("summary").expect("the step");
    assert_eq!(summary.because.expect("a cause"), &"page");
    assert_eq!(report.output::<u32>("other").expect("an output"), 1);

    let plan = Plan::from_iter([
        Step::new("page", "fail").on_failure(OnFailure::Continue),
        Step::new("text", "why").depends_on(["page"]),
    ]);
    let why = tool_fn(|cx| async move {
        assert_eq!(cx.inputs.get("page"), Some(&Value::Null));
        Ok(cx.inputs.error("page").map_or("no error", |error| &error.message).to_owned())
    });
    let report = Runner::new(plan).tool("fail", fail).tool("why", why).run("read").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "no such page");
}

#[tokio::test]
async fn the_planner_is_asked_again_after_a_failure() {
    let planner = planner_fn(|request: PlanRequest| async move {
        Ok(match request.reason {
            PlanReason::First => PlanReply::from(Plan::from_iter([
                Step::new("good", "echo").args(json!("kept")),
                Step::new("bad", "fail"),
                Step::new("both", "echo").args(json!(["${good}", "${bad}"])),
            ])),
            _ => {
                assert_eq!(request.failed[0].id, "bad");
                assert_eq!(request.failed[0].error.message, "broken");
                assert_eq!(request.finished[0].output, Some(Output::inline(json!("kept"))));
                assert_eq!(request.plan.steps.len(), 3);
                assert_eq!(request.skipped, ["both"]);
                PlanReply::from(Patch {
                    add: vec![Arc::new(Step::new("better", "echo").args(json!("new")))],
                    change: vec![Arc::new(Step::new("both", "echo").args(json!(["${good}", "${better}"])))],
                    drop: vec!["bad".into()],
                    answer: None,
                })
            }
        })
    });
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let echo = tool_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(cx.args) }
    });
    let fail = tool_fn(|_| async move { Err::<(), _>(StepError::permanent("broken")) });
    let runner = Runner::new(planner).tool("echo", echo).tool("fail", fail).replan_when(ReplanWhen::Stuck);
    let report = runner.run("both").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!(["kept", "new"]));
    assert_eq!((report.replans(), report.revisions()), (1, 2));
    assert_eq!(calls.load(Ordering::Relaxed), 3, "`good` is not done again");
}

#[tokio::test]
async fn a_planner_that_fails_or_panics_is_asked_again_a_few_times() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let planner = planner_fn(move |request: PlanRequest| {
        let asked = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match asked {
                0 => panic!("no idea"),
                1 => {
                    let PlanReason::Rejected(offences) = request.reason else { panic!("not told why") };
                    assert_eq!(offences[0].to_string(), "the planner failed: it panicked: no idea");
                    Err(PlanError::Truncated { message: "length".into() })
                }
                _ => Ok(Plan::from_iter([Step::new("a", "echo").args(json!(1))])),
            }
        }
    });
    let report = Runner::new(planner).tool("echo", echo()).run("try").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// Writes a plan of three steps, one a second, the last of which needs the first two.
struct SlowWriter;

impl Planner for SlowWriter {
    fn plan<'a>(
        &'a self,
        _: PlanRequest,
        sink: PlanSink,
    ) -> futures::future::BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            let mut plan = Plan::new();
            for step in [
                Step::new("a", "sleep").args(json!({ "ms": 2_000 })),
                Step::new("b", "sleep").args(json!({ "ms": 2_000 })),
                Step::new("c", "sleep").args(json!({ "ms": 1_000, "after": ["${a}", "${b}"] })),
            ] {
                sleep(Duration::from_secs(1)).await;
                sink.step(step.clone());
                plan.push(step);
            }
            sleep(Duration::from_millis(500)).await;
            Ok(PlanReply { revision: Revision::Plan(plan), usage: Usage { output_tokens: 300, ..Usage::default() } })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn steps_start_while_the_planner_is_still_writing() {
    let report = Runner::new(SlowWriter).tool("sleep", sleeper()).run("stream").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "c");
    // a runs from 1 s to 3 s, b from 2 s to 4 s, c from 4 s to 5 s; the plan is whole only at 3.5 s.
    assert!((5_000..5_010).contains(&report.wall_time().as_millis()), "{:?}", report.wall_time());
    assert_eq!(report.step("a").expect("the step").attempts.len(), 1);
    assert_eq!(report.usage().output_tokens, 300);
}

#[tokio::test]
async fn readers_see_every_event_and_the_journal_has_the_same() {
    let journal = MemoryJournal::new();
    let runner = Runner::new(sleeps([("a", 0), ("b", 0)])).tool("sleep", sleeper()).journal(journal.clone());
    let handle = runner.start("watch");
    let (id, early, late) = (handle.id().clone(), handle.events(), handle.events());
    assert!(matches!(handle.view().phase, Phase::New | Phase::Running));
    let early = tokio::spawn(early.collect::<Vec<_>>());
    let report = handle.await.expect("a report");
    let (early, late) = (early.await.expect("events"), late.collect::<Vec<_>>().await);
    assert_eq!(
        words(&early),
        [
            "run_started",
            "plan_requested",
            "plan_accepted",
            "attempt_started 0",
            "attempt_started 1",
            "step_succeeded 0",
            "step_succeeded 1",
            "run_finished"
        ]
    );
    let history = journal.history(&id).await.expect("a history");
    assert_eq!(early, history);
    assert_eq!(late, history);
    let again = RunReport::from_history(id, &history).expect("a possible history");
    assert_eq!(again.answer(), report.answer());
    assert_eq!(again.wall_time(), report.wall_time());
    assert_eq!(again.critical_path(), report.critical_path());
}

#[tokio::test(start_paused = true)]
async fn a_view_shows_the_steps_as_they_are() {
    let plan = Plan::from_iter([
        Step::new("a", "sleep").args(json!({ "ms": 1_000 })),
        Step::new("b", "sleep").args(json!({ "ms": 1_000, "after": "${a}" })),
    ]);
    let runner = Runner::new(plan).tool("sleep", sleeper());
    let handle = runner.start("watch");
    sleep(Duration::from_millis(500)).await;
    let view = handle.view();
    assert_eq!(view.phase, Phase::Running);
    assert_eq!(view.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(matches!(view.steps[0].state, StepState::Running(_)), "{view:?}");
    assert_eq!(view.steps[1].state, StepState::Waiting);
    sleep(Duration::from_millis(1_000)).await;
    let view = handle.view();
    assert_eq!(view.steps[0].state, StepState::Succeeded);
    assert_eq!(view.steps[0].changed.as_millis(), 1_000);
    handle.await.expect("a report");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_what_it_has_missed() {
    let steps: u32 = 40_000;
    let plan: Plan = (0..steps).map(|n| Step::new(format!("s{n}"), "echo")).collect();
    let runner = Runner::new(plan).tool("echo", echo()).limits(Limits::NONE);
    let handle = runner.start("much");
    let mut events = handle.events();
    handle.await.expect("a report");
    let first = events.next().await.expect("an event");
    assert!(events.missed() > 0);
    assert_eq!(first.seq, events.missed());
    let rest = events.by_ref().collect::<Vec<_>>().await;
    // Started, asked, accepted and finished, and two for each step.
    assert_eq!(events.missed() + 1 + rest.len() as u64, u64::from(steps) * 2 + 4);
}

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

    let finished = runner.resume(&id).await.expect("a report");
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
async fn what_tools_use_is_added_up() {
    let tool = tool_fn(|cx| async move {
        cx.add_usage(Usage { input_tokens: 10, output_tokens: 1, micro_usd: 5 });
        cx.add_usage(Usage { input_tokens: 5, ..Usage::default() });
        if cx.tries == 1 { Err(StepError::transient("again")) } else { Ok(()) }
    });
    let plan = Plan::from_iter([Step::new("ask", "model")]);
    let retry = Retry { base_ms: 1, ..Retry::default() };
    let report = Runner::new(plan).tool("model", tool).retry(retry).run("ask").await.expect("a report");
    assert_eq!(report.usage(), Usage { input_tokens: 30, output_tokens: 2, micro_usd: 10 });
    let step = report.step("ask").expect("the step");
    assert_eq!(step.attempts.iter().map(|attempt| attempt.usage.input_tokens).collect::<Vec<_>>(), [15, 15]);
}

#[tokio::test(start_paused = true)]
async fn the_critical_path_goes_through_expansions() {
    let expand = tool_fn(|_| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(Plan::from_iter([
            Step::new("x", "sleep").args(json!({ "ms": 5_000 })),
            Step::new("y", "sleep").args(json!({ "ms": 1_000 })),
        ]))
    });
    let plan = Plan::from_iter([
        Step::new("first", "sleep").args(json!({ "ms": 1_000 })),
        Step::new("expand", "expand").depends_on(["first"]),
        Step::new("beside", "sleep").args(json!({ "ms": 6_000 })),
        Step::new("last", "sleep").args(json!({ "ms": 1_000 })).depends_on(["expand", "beside"]),
    ]);
    let runner = Runner::new(plan).tool("sleep", sleeper()).tool("expand", expand);
    let report = runner.run("expand").await.expect("a report");
    let path = report.critical_path();
    let ids: Vec<_> = path.steps.iter().map(|step| report.step_by_number(*step).expect("a step").id.as_str()).collect();
    assert_eq!(ids, ["first", "expand", "expand/x", "last"]);
    assert_eq!(path.length.as_millis(), 8_000);
    assert_eq!(report.wall_time().as_millis(), 8_000);
    assert_eq!(report.work().as_millis(), 15_000);
}

#[tokio::test]
async fn a_planner_may_answer_after_a_review() {
    let planner = planner_fn(|request: PlanRequest| async move {
        Ok(match request.reason {
            PlanReason::First => PlanReply::from(Plan::from_iter([Step::new("a", "echo").args(json!(20))])),
            _ => PlanReply::from(Revision::Answer(json!({ "answer": 42, "steps": request.finished.len() }))),
        })
    });
    let report = Runner::new(planner).tool("echo", echo()).review(true).run("think").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "answer": 42, "steps": 1 }));
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

#[tokio::test]
async fn a_runner_is_used_many_times_at_once() {
    let plan = Plan::from_iter([Step::new("a", "echo").args(json!("${inputs.n}"))]);
    let runner = Runner::new(plan).tool("echo", echo());
    let runs = (0..100).map(|n| {
        let runner = runner.clone().input("n", n);
        async move { runner.run("x").await.expect("a report").answer().cloned() }
    });
    let answers = futures::future::join_all(runs).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect("an answer"), json!(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_and_a_wide_fan_in_finish() {
    let steps = 20_000;
    let runner = |plan: Plan| Runner::new(plan).tool("echo", echo()).limits(Limits::NONE);
    let id = |n: u32| format!("s{n}");
    let chain: Plan = (0..steps).map(|n| Step::new(id(n), "echo").depends_on(n.checked_sub(1).map(id))).collect();
    assert!(runner(chain).run("chain").await.expect("a report").succeeded());
    let mut fan_in: Plan = (0..steps).map(|n| Step::new(id(n), "echo")).collect();
    fan_in.push(Step::new("last", "echo").depends_on((0..steps).map(id)));
    assert!(runner(fan_in).run("fan-in").await.expect("a report").succeeded());
}

#[tokio::test]
async fn specs_reach_the_planner() {
    let planner = planner_fn(|request: PlanRequest| async move {
        assert_eq!(request.objective, "look");
        assert_eq!(request.inputs["city"], "Oslo");
        let specs: Vec<_> = request.tools.iter().map(|spec| (spec.name.as_str(), spec.effect)).collect();
        assert_eq!(specs, [("look", Effect::Reads), ("act", Effect::Acts)]);
        Ok(Plan::from_iter([Step::new("a", "look").args(json!("${inputs.city}"))]))
    });
    let look = echo();
    let act = tool_fn(|_| async move { Ok(ToolOutput::Value(Value::Null)) })
        .with_spec(ToolSpec { effect: Effect::Acts, ..ToolSpec::new("ignored", "does things") });
    let policy = Policy { max_replans: 0, ..Policy::default() };
    let runner = Runner::new(planner).policy(policy).tool("look", look).tool("act", act).input("city", "Oslo");
    let started = Instant::now();
    let report = runner.run("look").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "Oslo");
    assert!(report.wall_time() <= started.elapsed());
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
