//! Attempts that fail, take too long, or are ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use plandag::journal::{Journal as _, MemoryJournal};
use plandag::report::{Ending, StepOutcome};
use plandag::{
    Decision, OnFailure, Output, Patch, Plan, Retry, RunEventKind, RunReport, Runner, Step, StepContext, StepError,
    StepErrorKind, StopReason, planner_fn, tool_fn,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::sleeper;

/// What a step has left, which counts how often it is dropped.
struct Left(Arc<AtomicU32>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A run may be long, and what its steps have left for their next attempts large.
#[tokio::test(start_paused = true)]
async fn what_a_step_has_left_is_gone_when_it_is_over() {
    let dropped = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&dropped);
    let leaves = tool_fn(move |cx: StepContext| {
        let counted = Arc::clone(&counted);
        async move {
            assert_eq!(cx.carried_over::<Left>().is_some(), cx.tries > 1);
            cx.carry_over(Left(counted));
            match cx.tries {
                1 => Err(StepError::transient("not yet")),
                _ if cx.id == "fails" => Err(StepError::permanent("never")),
                _ => Ok(()),
            }
        }
    });
    let looks = tool_fn(move |_| {
        let dropped = dropped.load(Ordering::Relaxed);
        async move { Ok(dropped) }
    });
    let plan = Plan::from_iter([
        Step::new("succeeds", "leave"),
        Step::new("fails", "leave").on_failure(OnFailure::Continue),
        Step::new("look", "look").depends_on(["succeeds", "fails"]),
    ]);
    let report = Runner::new(plan).tool("leave", leaves).tool("look", looks).run("leave").await.expect("a report");
    assert_eq!(report.output::<u32>("look").expect("it has looked"), 4, "all that was left, twice by each");
}

/// An attempt that is ended leaves what it has paid for as it goes.
#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_end_of_an_attempt_that_nobody_wants_is_gone_with_it() {
    struct Leaves(StepContext, Arc<AtomicU32>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.carry_over(Left(Arc::clone(&self.1)));
        }
    }
    let dropped = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&dropped);
    let hangs = tool_fn(move |cx| {
        let leaves = Leaves(cx, Arc::clone(&counted));
        async move {
            sleep(Duration::from_secs(99)).await;
            drop(leaves);
            Ok(())
        }
    });
    let looks = tool_fn(move |_| {
        let dropped = Arc::clone(&dropped);
        async move {
            sleep(Duration::from_secs(1)).await;
            Ok(dropped.load(Ordering::Relaxed))
        }
    });
    let fails = tool_fn(|_| async {
        sleep(Duration::from_secs(1)).await;
        Err::<(), _>(StepError::permanent("never"))
    });
    let revised = |_| async {
        let (drop, add) = (vec!["hangs".into(), "fails".into()], vec![Arc::new(Step::new("look", "look"))]);
        Ok(Patch { drop, add, ..Patch::default() })
    };
    let plan = Plan::from_iter([Step::new("hangs", "hang"), Step::new("fails", "fail")]);
    let runner = Runner::new(plan.revised_by(planner_fn(revised)));
    let runner = runner.tool("hang", hangs).tool("look", looks).tool("fail", fails);
    let report = runner.run("leave").await.expect("a report");
    assert_eq!(report.output::<u32>("look").expect("it has looked"), 1);
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
async fn a_panic_that_panics_as_it_is_dropped_is_one_failure() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("again"));
        }
    }
    fn panics<T>() -> T {
        std::panic::resume_unwind(Box::new(Bomb))
    }
    let plan: Plan = (0..20).map(|n| Step::new(format!("s{n}"), "panic")).collect();
    let runner = Runner::new(plan).tool("panic", tool_fn(|_| async { panics::<Result<(), _>>() }));
    let report = timeout(Duration::from_secs(60), runner.run("x")).await.expect("it ends").expect("a report");
    assert!(report.steps().all(|step| step.error.expect("an error").message == "panicked: no message"));
    let runner = Runner::new(planner_fn(|_| async { panics::<Result<Plan, _>>() }));
    let report = timeout(Duration::from_secs(60), runner.run("x")).await.expect("it ends").expect("a report");
    assert!(report.answer().expect_err("no plan").to_string().contains("it panicked: no message"));
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
