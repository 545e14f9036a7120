//! Events and views of a run that goes on.

use std::time::Duration;

use futures::StreamExt as _;
use plandag::journal::{Journal as _, MemoryJournal};
use plandag::{
    Limits, Phase, Plan, RunEventKind, RunReport, RunView, Runner, Step, StepContext, StepError, StepState, Usage,
    planner_fn, tool_fn,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{echo, sleeper, sleeps, words};

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
async fn what_is_known_only_after_the_stop_is_told_and_shown() {
    let journal = MemoryJournal::new();
    let endless = tool_fn(|cx: StepContext| async move {
        cx.add_usage(Usage { input_tokens: 5, ..Usage::default() });
        std::future::pending::<Result<(), StepError>>().await
    });
    let runner = Runner::new(Plan::from_iter([Step::new("a", "endless")])).tool("endless", endless);
    for runner in [runner.clone(), runner.journal(journal.clone())] {
        let mut handle = runner.start("watch");
        let (id, events) = (handle.id().clone(), handle.events());
        sleep(Duration::from_millis(1)).await;
        handle.cancel_now();
        let report = (&mut handle).await.expect("a report");
        let events = events.collect::<Vec<_>>().await;
        assert_eq!(words(&events)[4..], ["run_stopped", "usage_noted"]);
        let used = RunReport::from_history(id, &events).expect("a possible history").usage();
        assert_eq!([used, handle.view().usage, report.usage()].map(|usage| usage.input_tokens), [5; 3]);
    }
    let runs = journal.runs().await.expect("its runs");
    assert_eq!(journal.history(&runs[0].run).await.expect("a history").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_view_shows_of_what_a_step_that_was_kept_is_a_part() {
    let fails = tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) });
    let becomes = tool_fn(|_| async { Ok(Plan::from_iter([Step::new("kept", "echo"), Step::new("lost", "fails")])) });
    let planner = planner_fn(|_| async { Ok(Plan::from_iter([Step::new("whole", "becomes")])) });
    let journal = MemoryJournal::new();
    let runner = Runner::new(planner).tool("becomes", becomes).tool("fails", fails).tool("echo", echo());
    let runner = runner.max_replans(1).journal(journal.clone());
    let mut handle = runner.start("watch");
    let report = (&mut handle).await.expect("a report");
    let shown = |view: RunView| view.steps.iter().map(|step| (step.number, step.parent)).collect::<Vec<_>>();
    let expected: Vec<_> = report.steps().map(|step| (step.number, step.parent)).collect();
    assert_eq!(expected[1], (1, Some(3)), "the second try at the whole took over what was there of the first");
    assert_eq!(shown(handle.view()), expected);
    let mut again = runner.start_resume(report.run().clone());
    (&mut again).await.expect("a report");
    assert_eq!(shown(again.view()), expected);
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
    sleep(Duration::from_millis(1_000)).await;
    let view = handle.view();
    assert_eq!(view.phase, Phase::Finished);
    // The end of the run changes nothing about what had ended before.
    assert_eq!(view.steps.iter().map(|step| step.changed.as_millis()).collect::<Vec<_>>(), [1_000, 2_000]);
    handle.await.expect("a report");
}

#[tokio::test(start_paused = true)]
async fn a_view_shows_all_steps_of_a_large_plan_in_order() {
    let plan: Plan = (0..1_000).map(|n| Step::new(format!("s{n}"), "sleep").args(json!({ "ms": 1_000 }))).collect();
    let handle = Runner::new(plan).tool("sleep", sleeper()).max_parallel(100).start("watch");
    sleep(Duration::from_millis(500)).await;
    let view = handle.view();
    assert_eq!(view.steps.iter().map(|step| step.number).collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
    let running = view.steps.iter().filter(|step| matches!(step.state, StepState::Running(_)));
    assert_eq!(running.count(), 100);
    handle.cancel_now();
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
async fn what_one_turn_made_happen_is_not_lost_with_the_next() {
    let below = 70_000;
    let mut plan = Plan::from_iter([Step::new("fails", "fail")]);
    plan.extend((0..below).map(|n| Step::new(format!("s{n}"), "fail").depends_on(["fails"])));
    let fail = tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) });
    let handle = Runner::new(plan).tool("fail", fail).limits(Limits::NONE).max_replans(1).start("much");
    let mut events = handle.events();
    handle.await.expect("a report");
    let mut skipped = 0;
    while let Some(event) = events.next().await {
        skipped += usize::from(matches!(event.kind, RunEventKind::StepSkipped { .. }));
    }
    assert_eq!(skipped, below, "{} are missed", events.missed());
}
