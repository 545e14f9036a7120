//! A tool that returned a plan is asked for another one when a step of it has failed.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use plandag::history::{Changes, History};
use plandag::journal::{Durability, Journal as _, MemoryJournal, RunId};
use plandag::report::StepOutcome;
use plandag::{
    Output, Plan, PlanRequest, Planner, RunReport, Runner, Step, StepContext, StepError, StepErrorKind, Tool,
    ToolOutput, ToolSpec, planner_fn, tool_fn,
};
use serde_json::{Value, json};

fn say(id: &str) -> Step {
    Step::new(id, "say").args(json!({ "what": id }))
}

/// Knows a way that fails, and for each failure of it another one.
struct Resourceful {
    /// The way that does not fail, if there is one.
    good: u32,
}

impl Tool for Resourceful {
    fn spec(&self) -> ToolSpec {
        ToolSpec { replans: true, ..ToolSpec::new("resourceful", "") }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        let way = match &cx.expansion {
            None => 0,
            Some(before) => {
                let ids = |ids: Vec<&plandag::StepId>| ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>();
                let failed = ids(before.failed.iter().map(|step| &step.id).collect());
                let way: u32 = failed[0].trim_start_matches("way").parse().expect("a way has a number");
                assert_eq!(failed, [format!("way{way}")]);
                assert_eq!(ids(before.finished.iter().map(|step| &step.id).collect()), ["before"]);
                assert_eq!(ids(before.skipped.iter().collect()), ["after"]);
                assert_eq!(before.plan.answer, Some("after".into()));
                assert_eq!(before.failed[0].error.message, "no luck");
                way + 1
            }
        };
        let attempt = say(&format!("way{way}")).depends_on(["before"]);
        let attempt = if way == self.good { attempt } else { Step { tool: Some("fails".into()), ..attempt } };
        let after = Step::new("after", "say").args(json!({ "what": format!("${{way{way}}}") }));
        let plan = Plan::from_iter([say("before"), attempt, after]).answer("after");
        Box::pin(async move { Ok(plan.into()) })
    }
}

fn plan() -> Plan {
    let steps = [Step::new("it", "resourceful"), Step::new("end", "say").args(json!({ "what": "${it}" }))];
    Plan::from_iter(steps)
}

fn runner(good: u32, called: &Arc<Mutex<Vec<String>>>) -> Runner {
    runner_of(plan(), good, called)
}

fn runner_of(planner: impl Planner + 'static, good: u32, called: &Arc<Mutex<Vec<String>>>) -> Runner {
    let called = Arc::clone(called);
    let say = tool_fn(move |cx| {
        called.lock().expect("nobody panics").push(cx.id.to_string());
        async move { Ok(cx.args["what"].clone()) }
    });
    Runner::new(planner)
        .tool("resourceful", Resourceful { good })
        .tool("fails", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("no luck")) }))
        .tool("say", say)
}

async fn run(runner: Runner) -> RunReport {
    runner.run("by whatever way").await.expect("it comes to an end")
}

#[tokio::test]
async fn what_is_done_is_kept_and_the_rest_done_another_way() {
    let called = Arc::default();
    let report = run(runner(2, &called)).await;
    assert_eq!(*report.answer().unwrap(), json!("way2"));
    assert_eq!(*called.lock().unwrap(), ["it/before", "it/way2", "it/after", "end"]);
    let it = report.step("it").unwrap();
    assert_eq!((it.attempts.len(), it.outcome), (3, StepOutcome::Succeeded));
    assert_eq!(report.replans(), 0, "that is no affair of the run's planner");
}

#[tokio::test]
async fn what_a_step_became_before_it_was_planned_anew_is_no_part_of_the_last_plan() {
    let again = planner_fn(|request: PlanRequest| async move {
        Ok(Plan::from_iter([Step::new("it", "resourceful").args(json!({ "plan": request.revision }))]))
    });
    let report = run(runner_of(plan().revised_by(again), 9, &Arc::default()).max_replans(1)).await;
    assert_eq!((report.replans(), report.step("it").unwrap().outcome), (1, StepOutcome::Failed));
    let failed = report.steps().filter(|step| step.member && step.outcome == StepOutcome::Failed);
    assert_eq!(failed.map(|step| step.id.to_string()).collect::<Vec<_>>(), ["it", "it/way1"]);
}

#[tokio::test]
async fn a_tool_is_asked_as_often_as_a_planner() {
    for max_replans in 0..4 {
        let called = Arc::default();
        let report = run(runner(9, &called).max_replans(max_replans)).await;
        let it = report.step("it").unwrap();
        assert_eq!(it.attempts.len(), max_replans as usize + 1);
        assert_eq!(it.error.unwrap().kind, StepErrorKind::ExpansionFailed);
        assert!(it.error.unwrap().message.contains(&format!("way{max_replans}")), "{:?}", it.error);
        assert_eq!(*called.lock().unwrap(), ["it/before"]);
        assert!(report.answer().is_err());
    }
}

/// Wherever the process ended, the run goes on: no way is tried again that has failed, and nothing done twice.
#[tokio::test]
async fn a_run_goes_on_in_the_middle_of_it() {
    let journal = MemoryJournal::new();
    let called = Arc::default();
    let whole = run(runner(2, &called).journal(journal.clone())).await;
    let history = journal.history(whole.run()).await.unwrap();
    // What happened at one instant was written at once.
    let cuts = (1..history.len()).filter(|&length| history[length - 1].at < history[length].at);
    for length in cuts {
        let cut = RunId::random();
        let claim = journal.create(&cut).await.unwrap();
        journal.append(&claim, &history[..length], Durability::Process).await.unwrap();
        drop(claim);
        let called: Arc<Mutex<Vec<String>>> = Arc::default();
        let report = runner(2, &called).journal(journal.clone()).resume(cut).await.unwrap();
        assert_eq!(*report.answer().unwrap(), json!("way2"), "after {length} events");
        let called = called.lock().unwrap();
        let all = ["it/before", "it/way2", "it/after", "end"];
        assert!(all.ends_with(&called.iter().map(String::as_str).collect::<Vec<_>>()), "after {length}: {called:?}");
        assert_eq!(report.step("it").unwrap().attempts.iter().filter(|call| call.error.is_none()).count(), 3);
    }
}

#[tokio::test]
async fn what_is_tried_again_begins_with_the_last_plan() {
    let journal = MemoryJournal::new();
    let called = Arc::default();
    let failed = run(runner(9, &called).max_replans(1).journal(journal.clone())).await;
    let history = History::load(&journal, failed.run()).await.expect("it is kept");
    let fork = history.fork(&Changes::default()).expect("something failed");
    let names = |steps: &[plandag::StepId]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names(&fork.reused), names(&fork.put_together)), (vec!["it/before".into()], vec!["it".into()]));
    assert_eq!(
        (names(&fork.again), names(&fork.first)),
        (vec!["it/way1".into()], vec!["end".into(), "it/after".into()])
    );
    let new = RunId::random();
    fork.save(&journal, &new).await.expect("there is room for it");
    let called: Arc<Mutex<Vec<String>>> = Arc::default();
    let report = runner(2, &called).journal(journal).resume(new).await.expect("it comes to an end");
    assert_eq!(*report.answer().unwrap(), json!("way2"));
    assert_eq!(*called.lock().unwrap(), ["it/way2", "it/after", "end"]);
}

#[tokio::test]
async fn what_a_step_inside_has_become_is_one_value() {
    struct Reader;
    impl Tool for Reader {
        fn spec(&self) -> ToolSpec {
            ToolSpec { replans: true, ..ToolSpec::new("reader", "") }
        }

        fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
            let returned = match &cx.expansion {
                None => {
                    let bad = Step::new("bad", "fails").depends_on(["sub"]);
                    Plan::from_iter([Step::new("sub", "pair"), bad]).into()
                }
                Some(before) => match &before.finished[0].output {
                    Some(Output::Inline(value)) => ToolOutput::Value(Value::clone(value)),
                    other => panic!("{other:?}"),
                },
            };
            Box::pin(async move { Ok(returned) })
        }
    }
    let pair = tool_fn(|_| async { Ok(Plan::from_iter([say("left"), Step::new("right", "pairs")])) });
    let pairs = tool_fn(|_| async { Ok(Plan::from_iter([say("x"), say("y")])) });
    let report = runner_of(Plan::from_iter([Step::new("it", "reader")]), 0, &Arc::default())
        .tool("reader", Reader)
        .tool("pair", pair)
        .tool("pairs", pairs);
    let report = run(report).await;
    assert_eq!(report.answer().expect("an answer"), &json!({ "left": "left", "right": { "x": "x", "y": "y" } }));
}
