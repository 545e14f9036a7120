//! What would have made a run faster.

use std::time::Duration;

use futures::future::BoxFuture;
use plandag::history::{Changes, History};
use plandag::journal::{MemoryJournal, RunId};
use plandag::simulate::{Change, WhatIf};
use plandag::{
    Effect, Order, Patch, Plan, PlanError, PlanReason, PlanReply, PlanRequest, PlanSink, Planner, Policy, Retry,
    Runner, Step, StepContext, StepError, StepId, Tool, ToolOutput, ToolSpec, tool_fn,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::sleeper;

fn asleep(id: &str, ms: u64) -> Step {
    Step::new(id, "sleep").args(json!({ "ms": ms }))
}

/// What the changes save, in milliseconds, those that save nothing left out.
fn savings(what_if: &WhatIf) -> Vec<(Change, u128)> {
    let savings = what_if.savings.iter().map(|saving| (saving.change.clone(), saving.saves.as_millis()));
    savings.filter(|(_, saves)| *saves > 0).collect()
}

fn halve(step: &str) -> Change {
    Change::Halve { step: step.into() }
}

fn independent(step: &str, dependency: &str) -> Change {
    Change::Independent { step: step.into(), dependency: dependency.into() }
}

#[tokio::test(start_paused = true)]
async fn what_a_fork_takes_over_takes_no_time() {
    let journal = MemoryJournal::new();
    let plan = Plan::from_iter([asleep("a", 400), asleep("b", 300).depends_on(["a"])]);
    let runner = Runner::new(plan).tool("sleep", sleeper()).journal(journal.clone());
    let first = runner.run("wait").await.unwrap();
    let expected = [(independent("b", "a"), 300), (halve("a"), 200), (halve("b"), 150)];
    assert_eq!(savings(&first.what_if()), expected);

    let changes = Changes { from: Some(StepId::from("b")), ..Changes::default() };
    let fork = History::load(&journal, first.run()).await.unwrap().fork(&changes).unwrap();
    let again = RunId::random();
    fork.save(&journal, &again).await.unwrap();
    let again = runner.resume(again).await.unwrap();
    assert_eq!(again.wall_time().as_millis(), 300);
    assert_eq!(again.work().as_millis(), 300);
    assert_eq!(again.bound().as_millis(), 300);
    let critical = again.critical_path();
    assert_eq!(critical.length.as_millis(), 300);
    let named: Vec<_> = critical.steps.iter().filter_map(|number| again.step_by_number(*number)).collect();
    assert_eq!(named.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["b"]);
    let (a, b) = (again.step("a").unwrap(), again.step("b").unwrap());
    assert_eq!((a.taken_over(), a.duration().as_millis()), (true, 0));
    assert_eq!((b.taken_over(), b.duration().as_millis()), (false, 300));
    let what_if = again.what_if();
    assert_eq!(what_if.makespan.as_millis(), 300);
    assert_eq!(savings(&what_if), [(halve("b"), 150)]);
    assert_eq!(again.ended().since_start().as_millis(), 1_000, "its events go on from those it took over");
}

#[tokio::test(start_paused = true)]
async fn what_a_step_paused_between_its_attempts_cannot_be_won_elsewhere() {
    let flaky = tool_fn(|cx: StepContext| async move {
        sleep(Duration::from_millis(50)).await;
        match cx.tries {
            1 | 2 => Err(StepError::transient("busy").retry_after_ms(1_500)),
            _ => Ok(json!(null)),
        }
    });
    let retry = Retry { base_ms: 0, max_ms: 0, ..Retry::attempts(3) };
    let plan = Plan::from_iter([
        asleep("slow", 2_000),
        Step::new("flaky", "flaky").retry(retry),
        asleep("end", 100).args(json!({ "ms": 100, "after": ["${slow}", "${flaky}"] })),
    ]);
    let journal = MemoryJournal::new();
    let runner = Runner::new(plan).tool("sleep", sleeper()).tool("flaky", flaky).journal(journal.clone());
    let report = runner.run("wait").await.unwrap();
    let step = report.step("flaky").unwrap();
    assert_eq!((step.duration().as_millis(), step.paused().as_millis()), (150, 3_000));
    assert_eq!(report.wall_time().as_millis(), 3_250);
    let critical = report.critical_path();
    let named: Vec<_> = critical.steps.iter().filter_map(|number| report.step_by_number(*number)).collect();
    assert_eq!(named.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["flaky", "end"]);
    assert_eq!([critical.length.as_millis(), report.bound().as_millis()], [3_250; 2]);
    let what_if = report.what_if();
    assert_eq!(what_if.makespan.as_millis(), 3_250);
    assert_eq!(savings(&what_if), [(halve("flaky"), 75), (halve("end"), 50)]);

    // Of a fork that calls it anew only the new pauses count.
    let changes = Changes { from: Some(StepId::from("flaky")), ..Changes::default() };
    let fork = History::load(&journal, report.run()).await.unwrap().fork(&changes).unwrap();
    let again = RunId::random();
    fork.save(&journal, &again).await.unwrap();
    let again = runner.resume(again).await.unwrap();
    assert_eq!(again.step("flaky").unwrap().paused().as_millis(), 3_000);
    assert_eq!([again.critical_path().length, again.what_if().makespan].map(|time| time.as_millis()), [3_250; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_compared_with_the_most_room_that_it_ever_had() {
    let journal = MemoryJournal::new();
    let first = (0..4).map(|n| asleep(&format!("s{n}"), 1_000).uses("gpu", 1));
    let plan: Plan = first.chain([asleep("last", 1_000).uses("gpu", 1).depends_on(["s0"])]).collect();
    let runner = Runner::new(plan).tool("sleep", sleeper()).journal(journal.clone());
    let with_room = |size| runner.clone().max_parallel(size).pool("gpu", size);
    let handle = with_room(4).start("wait");
    let id = handle.id().clone();
    sleep(Duration::from_millis(500)).await;
    handle.cancel();
    handle.await.unwrap();
    let report = with_room(1).resume(&id).await.unwrap();
    assert_eq!([report.work(), report.wall_time()].map(|time| time.as_millis()), [5_000, 2_000]);
    assert_eq!((report.slots(), report.bound().as_millis()), (4, 2_000));
    let what_if = report.what_if();
    assert_eq!(what_if.makespan.as_millis(), 2_000);
    assert_eq!(what_if.savings[2].change, Change::Slots { from: 4, to: 5 });
    assert_eq!(savings(&what_if), [(halve("s0"), 500), (halve("last"), 500)]);

    // A fork has had what it ran on itself.
    let changes = Changes { from: Some(StepId::from("s0")), ..Changes::default() };
    let fork = History::load(&journal, &id).await.unwrap().fork(&changes).unwrap();
    let again = RunId::random();
    fork.save(&journal, &again).await.unwrap();
    let again = with_room(1).resume(again).await.unwrap();
    assert_eq!((again.slots(), again.bound().as_millis()), (1, 2_000));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_does_not_pause() {
    let flaky = tool_fn(|cx: StepContext| async move {
        sleep(Duration::from_millis(100)).await;
        if cx.tries == 1 { Err(StepError::transient("busy")) } else { Ok(json!(null)) }
    });
    let plan = Plan::from_iter([Step::new("flaky", "flaky"), asleep("other", 2_000)]);
    let retry = Retry { base_ms: 0, max_ms: 0, ..Retry::attempts(2) };
    let policy = Policy { max_parallel: 1, retry, order: Order::Fifo, ..Policy::default() };
    let runner = Runner::new(plan).tool("sleep", sleeper()).tool("flaky", flaky).policy(policy);
    let report = runner.run("wait").await.unwrap();
    let step = report.step("flaky").unwrap();
    assert_eq!((step.duration().as_millis(), step.paused().as_millis()), (200, 0));
    assert_eq!(step.attempts[1].queued.as_millis(), 2_000);
    assert_eq!(report.critical_path().length.as_millis(), 2_000);
    assert_eq!([report.bound().as_millis(), report.what_if().makespan.as_millis()], [2_200; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_step_does_not_pause_while_what_it_became_runs() {
    let fails = tool_fn(|_| async { Err::<Value, _>(StepError::permanent("no luck")) });
    let plan = Plan::from_iter([Step::new("it", "resourceful")]);
    let runner = Runner::new(plan).tool("sleep", sleeper()).tool("fails", fails).tool("resourceful", Resourceful);
    let report = runner.run("wait").await.unwrap();
    let step = report.step("it").unwrap();
    assert_eq!((step.attempts.len(), report.wall_time().as_millis()), (2, 500));
    assert_eq!(step.paused(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_a_tool_takes_unasked_is_not_said_to_be_unnecessary() {
    let unnecessary = async |takes_inputs| {
        let spec = ToolSpec { takes_inputs, ..ToolSpec::new("take", "") };
        let take = tool_fn(|_| async {
            sleep(Duration::from_millis(300)).await;
            Ok("all of it")
        });
        let plan = Plan::from_iter([asleep("a", 400), Step::new("b", "take").depends_on(["a"])]);
        let runner = Runner::new(plan).tool("sleep", sleeper()).tool("take", take.with_spec(spec));
        savings(&runner.run("wait").await.unwrap().what_if()).contains(&(independent("b", "a"), 300))
    };
    assert!(unnecessary(false).await && !unnecessary(true).await);
}

/// A tool whose first plan takes a while and fails.
struct Resourceful;

impl Tool for Resourceful {
    fn spec(&self) -> ToolSpec {
        ToolSpec { replans: true, ..ToolSpec::new("resourceful", "") }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        let plan = match cx.expansion {
            None => vec![asleep("wait", 400), Step::new("last", "fails").depends_on(["wait"])],
            Some(_) => vec![asleep("other", 100)],
        };
        Box::pin(async move { Ok(Plan::from_iter(plan).into()) })
    }
}

/// A tool that takes a while and acts.
struct Acts;

impl Tool for Acts {
    fn spec(&self) -> ToolSpec {
        ToolSpec { effect: Effect::Acts, ..ToolSpec::new("act", "") }
    }

    fn call<'a>(&'a self, _: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async {
            sleep(Duration::from_millis(500)).await;
            Ok(json!("done").into())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_became_a_plan_is_dropped_as_a_whole_unless_a_part_of_it_acts() {
    let run = async |second: &'static str| {
        let spread = tool_fn(move |_| async move {
            sleep(Duration::from_millis(250)).await;
            let second = Step::new("2", second).args(json!({ "ms": 500, "after": "${1}" }));
            Ok(Plan::from_iter([asleep("1", 500), second]))
        });
        let plan = Plan::from_iter([Step::new("sub", "spread"), asleep("after", 2_000).depends_on(["sub"])]);
        let runner = Runner::new(plan).tool("sleep", sleeper()).tool("spread", spread).tool("act", Acts);
        runner.run("wait").await.unwrap().what_if()
    };
    let what_if = run("sleep").await;
    assert_eq!(what_if.makespan.as_millis(), 3_250);
    let unnecessary = |what_if: &WhatIf| {
        let is_dependency = |(change, _): &(Change, u128)| matches!(change, Change::Independent { .. });
        savings(what_if).into_iter().filter(is_dependency).collect::<Vec<_>>()
    };
    assert_eq!(unnecessary(&what_if), [(independent("after", "sub"), 1_250)]);
    assert_eq!(unnecessary(&run("act").await), []);
}

/// Has another step do what one has failed at.
struct Another;

impl Planner for Another {
    fn plan<'a>(&'a self, request: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            Ok(match request.reason {
                PlanReason::First => Plan::from_iter([asleep("list", 100), Step::new("bad", "bad")]).into(),
                _ => Patch {
                    drop: vec!["bad".into()],
                    add: vec![asleep("good", 400).args(json!({ "ms": 400, "of": "${list}" })).into()],
                    ..Patch::default()
                }
                .into(),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_replaced_or_has_failed_holds_up_nobody_else() {
    let bad = || {
        tool_fn(|_| async {
            sleep(Duration::from_millis(1_000)).await;
            Err::<(), _>(StepError::permanent("no luck"))
        })
    };
    let replaced = Runner::new(Another).tool("sleep", sleeper()).tool("bad", bad()).run("wait").await.unwrap();
    assert!(replaced.succeeded());
    assert_eq!(replaced.wall_time().as_millis(), 1_400);
    let what_if = replaced.what_if();
    assert_eq!(what_if.makespan.as_millis(), 500, "as the last plan would have taken alone");
    assert_eq!(savings(&what_if), [(halve("good"), 200), (halve("list"), 50)]);

    let plan = Plan::from_iter([asleep("first", 400), Step::new("bad", "bad").args(json!("${first}"))]);
    let plan = plan.steps.into_iter().map(|step| Step::clone(&step)).chain([asleep("never", 300).depends_on(["bad"])]);
    let failed = Runner::new(plan.collect::<Plan>()).tool("sleep", sleeper()).tool("bad", bad());
    let failed = failed.run("wait").await.unwrap();
    assert!(!failed.succeeded());
    assert_eq!(savings(&failed.what_if()), [(halve("bad"), 500), (halve("first"), 200)]);
}
