//! Plans that come step by step, revisions and reviews.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plandag::journal::MemoryJournal;
use plandag::{
    Decision, Effect, Limits, Output, Patch, Plan, PlanError, PlanReason, PlanReply, PlanRequest, PlanSink, Planner,
    Policy, ReplanWhen, Revision, Runner, Step, StepError, ToolOutput, ToolSpec, Usage, planner_fn, tool_fn,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{echo, sleeper};

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

#[tokio::test(start_paused = true)]
async fn a_planner_that_never_answers_ends_the_run() {
    let planner = planner_fn(|_: PlanRequest| std::future::pending::<Result<Plan, PlanError>>());
    let runner = Runner::new(planner).planner_timeout(Duration::from_secs(60));
    let started = Instant::now();
    // An hour: without it nothing would ever end this, and a test that hangs says nothing.
    let report = tokio::time::timeout(Duration::from_secs(3600), runner.run("wait")).await;
    let report = report.expect("the run ends by itself").expect("a report");
    assert_eq!(started.elapsed().as_secs(), 180, "once, and for two corrections");
    let error = report.answer().expect_err("there is no plan").to_string();
    assert!(error.contains("nothing came of it within 60s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_planner_that_goes_on_writing_has_time() {
    let report = Runner::new(SlowWriter).planner_timeout(Duration::from_millis(1_100)).tool("sleep", sleeper());
    assert_eq!(report.run("stream").await.expect("a report").answer().expect("an answer"), "c");
}

#[tokio::test]
async fn the_text_of_a_revision_that_does_not_fit_is_kept() {
    let planner = planner_fn(|request: PlanRequest| async move {
        let text = request.rejected_answer.as_deref().map(str::to_owned);
        Ok(match request.reason {
            PlanReason::First => PlanReply::from(Plan::from_iter([Step::new("a", "fail")])),
            PlanReason::Failures => {
                let add = vec![Arc::new(Step::new("b", "echo").depends_on(["nobody"]))];
                PlanReply { text: Some("b after nobody".into()), ..Patch { add, ..Patch::default() }.into() }
            }
            _ => PlanReply::from(Revision::Answer(json!(text))),
        })
    });
    let fail = tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) });
    let runner = Runner::new(planner).tool("fail", fail).tool("echo", echo());
    let report = runner.run("try").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "b after nobody", "the planner sees what it wrote");
}

#[tokio::test]
async fn a_planner_is_told_for_how_many_steps_there_is_room() {
    for (more, fits) in [(0, true), (1, false)] {
        let planner = planner_fn(move |request: PlanRequest| async move {
            Ok(Plan::from_iter(match request.revision {
                1 => vec![
                    Step::new("a", "echo"),
                    Step::new("bad", "fail"),
                    Step::new("below", "echo").depends_on(["bad"]),
                ],
                _ => {
                    let new = (1..request.max_steps + more).map(|n| Step::new(format!("new-{n}"), "echo"));
                    new.chain([Step::new("a", "echo")]).collect()
                }
            }))
        });
        let policy = Policy {
            replan_when: ReplanWhen::Stuck,
            max_corrections: 0,
            limits: Limits { steps: 6, ..Limits::default() },
            ..Policy::default()
        };
        let fail = tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) });
        let report = Runner::new(planner).policy(policy).tool("echo", echo()).tool("fail", fail).run("fit").await;
        let report = report.expect("a report");
        // Two have come to nothing; one is done, and so are those in their place.
        assert_eq!((report.succeeded(), report.steps().count()), if fits { (true, 2 + 6) } else { (false, 3) });
    }
}

/// Does what a closure does, which is given the sink as well.
struct Writer<F>(F);

impl<F: Fn(PlanSink) -> PlanReply + Send + Sync> Planner for Writer<F> {
    fn plan<'a>(
        &'a self,
        _: PlanRequest,
        sink: PlanSink,
    ) -> futures::future::BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move { Ok((self.0)(sink)) })
    }
}

/// So deep that the usual way of dropping it overflows the stack.
fn deep() -> Value {
    (0..200_000).fold(Value::Null, |inner, _| vec![inner].into())
}

fn deep_step(id: &str) -> Arc<Step> {
    Arc::new(Step::new(id, "echo").args(deep()))
}

#[tokio::test]
async fn a_step_that_nests_too_deep_waits_for_the_whole_plan() {
    let late: Arc<Mutex<Option<PlanSink>>> = Arc::default();
    let kept = Arc::clone(&late);
    let streams = Writer(move |sink: PlanSink| {
        sink.step(Step::new("a", "echo").args(deep()));
        *kept.lock().expect("a sink") = Some(sink);
        Plan::from_iter([Step::new("a", "echo").args(json!("shallow"))]).into()
    });
    let report = Runner::new(streams).tool("echo", echo()).run("stream").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "shallow");
    let late = late.lock().expect("a sink").take().expect("it was kept");
    late.step(Step::new("a", "echo").args(deep()));
}

#[tokio::test]
async fn a_patch_that_nests_too_deep_is_rejected() {
    let patches: [fn() -> Patch; 3] = [
        || Patch { add: vec![deep_step("a")], change: vec![deep_step("b")], ..Patch::default() },
        || {
            let add = vec![Arc::new(Step::new("a", "echo"))];
            Patch { add, change: vec![deep_step("b"), deep_step("c")], ..Patch::default() }
        },
        || {
            let step = deep_step("a");
            Patch { add: vec![Arc::clone(&step), deep_step("b")], change: vec![step], ..Patch::default() }
        },
    ];
    for patch in patches {
        let planner = Writer(move |_| patch().into());
        let report = Runner::new(planner).tool("echo", echo()).run("patch").await.expect("a report");
        let error = report.answer().expect_err("there is no plan").to_string();
        assert!(error.contains("nest deeper than 100"), "{error}");
    }
}

#[tokio::test]
async fn what_a_run_is_given_is_refused_if_it_nests_too_deep() {
    let runner = Runner::new(Plan::from_iter([Step::new("a", "echo")])).tool("echo", echo());
    for runner in [runner.clone().input("given", deep()), runner.clone().label("given", deep())] {
        let error = runner.run("given").await.expect_err("it is refused").to_string();
        assert!(error.ends_with("`given` nests too deep"), "{error}");
        assert!(runner.input("given", 1).label("given", 1).run("given").await.expect("a report").succeeded());
    }
}

#[tokio::test]
async fn a_decision_that_nests_too_deep_is_refused_without_a_journal_as_well() {
    let decision = Decision::Succeeded(Output::inline(deep()));
    assert!(Runner::new(Plan::new()).decide("run", 0, decision).await.is_err());
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
            Ok(PlanReply { usage: Usage { output_tokens: 300, ..Usage::default() }, ..plan.into() })
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

#[tokio::test(start_paused = true)]
async fn a_correction_that_was_broken_off_is_asked_for_with_the_answer_that_it_is_about() {
    let asked = Arc::new(AtomicU32::new(0));
    let planner = planner_fn(move |request: PlanRequest| {
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            match asked {
                0 => {
                    let offences = vec![PlanError::Malformed { message: "what is this?".into() }];
                    Ok(PlanReply { text: Some("nonsense".into()), ..Revision::Unusable(offences).into() })
                }
                1 => std::future::pending().await,
                _ => {
                    assert!(matches!(request.reason, PlanReason::Rejected(_)), "{:?}", request.reason);
                    Ok(Revision::Answer(json!(request.rejected_answer.as_deref())).into())
                }
            }
        }
    });
    let runner = Runner::new(planner).journal(MemoryJournal::new());
    let handle = runner.start("x");
    let id = handle.id().clone();
    sleep(Duration::from_secs(1)).await;
    handle.cancel_now();
    handle.await.expect("a report");
    let report = runner.resume(&id).await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "nonsense");
}
