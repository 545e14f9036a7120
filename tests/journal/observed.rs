//! What earlier runs say about how long tools take, and what a new run makes of it.

use std::sync::Arc;
use std::time::Duration;

use plandag::journal::{Journal, MemoryJournal, RunId, SqliteJournal};
use plandag::{Plan, RunEventKind, RunStart, Runner, Scheduler, Step, StepError, StepId, tool_fn};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::Place;

/// Tools of two speeds.
fn runner(plan: Plan, journal: &Arc<dyn Journal>) -> Runner {
    let taking = |millis| {
        tool_fn(move |_| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(millis)
        })
    };
    let failing = tool_fn(|_| async { Err::<(), _>(StepError::permanent("it never works")) });
    Runner::new(plan)
        .tool("quick", taking(2))
        .tool("slow", taking(60))
        .tool("failing", failing)
        .default_tool("quick")
        .journal(Arc::clone(journal))
        .max_parallel(1)
}

fn run(runtime: &Runtime, plan: Plan, journal: &Arc<dyn Journal>) -> (RunId, Vec<StepId>) {
    let report = runtime.block_on(runner(plan, journal).run("observe")).unwrap();
    let mut started: Vec<_> =
        report.steps().filter_map(|step| Some((step.attempts.first()?.number, step.id.clone()))).collect();
    started.sort();
    (report.run().clone(), started.into_iter().map(|(_, id)| id).collect())
}

fn start(runtime: &Runtime, journal: &Arc<dyn Journal>, run: &RunId) -> Arc<RunStart> {
    let history = runtime.block_on(journal.history(run)).unwrap();
    let replayed = Scheduler::replay(&history).unwrap();
    match &history[0].kind {
        RunEventKind::RunStarted { start } => {
            assert_eq!(replayed.start(), start, "a replay expects the same");
            Arc::clone(start)
        }
        other => panic!("{other:?}"),
    }
}

fn mean(start: &RunStart, tool: &str) -> Option<u64> {
    start.tools.iter().find(|spec| spec.name == tool).unwrap().mean_ms
}

fn journals() -> (tempfile::TempDir, [Arc<dyn Journal>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    (folder, [Arc::new(MemoryJournal::new()), Arc::new(file)])
}

#[test]
fn a_tool_is_expected_to_take_as_long_as_it_took() {
    let runtime = Runtime::new().unwrap();
    let (_folder, journals) = journals();
    for journal in &journals {
        let plan =
            || Plan::from_iter([Step::new("a", "quick"), Step::new("b", "slow"), Step::described("c", "no tool")]);
        let (first, order) = run(&runtime, plan(), journal);
        assert_eq!(order, ["a", "b", "c"], "nothing is known yet");
        let before = start(&runtime, journal, &first);
        assert_eq!([mean(&before, "quick"), mean(&before, "slow")], [None, None]);

        let (second, order) = run(&runtime, plan(), journal);
        assert_eq!(order[0], "b", "the longest remaining path is that of the slow tool");
        let after = start(&runtime, journal, &second);
        assert!(mean(&after, "slow") >= Some(60) && mean(&after, "quick") < Some(60), "{after:?}");
        assert_eq!(mean(&after, "failing"), None, "it has not been called");
    }
}

#[test]
fn what_a_step_says_of_itself_counts_more_and_failures_count_nothing() {
    let runtime = Runtime::new().unwrap();
    let (_folder, journals) = journals();
    for journal in &journals {
        run(&runtime, Plan::from_iter([Step::new("a", "slow"), Step::new("b", "failing")]), journal);
        let plan = Plan::from_iter([
            Step::new("slow", "slow"),
            Step::new("estimated", "quick").estimate_ms(100),
            // A second, like every step that nobody knows anything about.
            Step::new("unknown", "failing"),
        ]);
        let (run, order) = run(&runtime, plan, journal);
        assert_eq!(order, ["unknown", "estimated", "slow"]);
        assert_eq!(mean(&start(&runtime, journal, &run), "failing"), None);
    }
}

#[test]
fn a_tool_that_is_called_late_in_a_long_run_is_known_also_after_others() {
    let quick = |from: usize, count: usize| (from..from + count).map(|n| Step::new(format!("q{n}"), "quick"));
    let runtime = Runtime::new().unwrap();
    let (_folder, journals) = journals();
    for journal in &journals {
        let slow = Step::new("slow", "slow").depends_on(["q149"]);
        let after = quick(150, 150).map(|step| step.depends_on(["slow"]));
        run(&runtime, quick(0, 150).chain([slow]).chain(after).collect(), journal);
        for _ in 0..2 {
            let (known, _) = run(&runtime, quick(0, 300).collect(), journal);
            let known = start(&runtime, journal, &known);
            assert!(mean(&known, "slow") >= Some(60) && mean(&known, "quick") < Some(60), "{known:?}");
        }
        // Longer ago than anybody looks, it is still what is known.
        for _ in 0..17 {
            run(&runtime, quick(0, 1).collect(), journal);
        }
        let (known, _) = run(&runtime, quick(0, 1).collect(), journal);
        assert!(mean(&start(&runtime, journal, &known), "slow") >= Some(60));
    }
}

/// The command predicts by the same means, says so, and does without where that is wanted.
#[test]
fn predictions_know_how_long_tools_took() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 120 } }]));
    assert_eq!(place.run("run plan.json -q").exit, Some(0));
    place.plan(json!([
        { "id": "b", "tool": "sleep", "args": { "ms": 1 } },
        { "id": "c", "tool": "sleep", "args": { "ms": 1 }, "estimate_ms": 5_000, "depends_on": ["b"] },
        { "id": "d", "tool": "calculate", "args": { "expression": "1" } },
    ]));
    let simulated = |more: &str| -> Value {
        let ran = place.run(&format!("simulate plan.json --json{more}"));
        assert_eq!(ran.exit, Some(0), "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let known = simulated("");
    assert!((5_120..5_900).contains(&known["makespan_ms"].as_u64().unwrap()), "{known}");
    assert_eq!(known["basis"], json!({ "estimate_ms": 1, "earlier_runs": 1, "nothing": 1 }));
    let unknown = simulated(" --no-journal");
    assert_eq!(unknown["makespan_ms"], 6_000);
    assert_eq!(unknown["basis"], json!({ "estimate_ms": 1, "earlier_runs": 0, "nothing": 2 }));

    let said = "1 step without an estimate_ms counts as long as its tool took in earlier runs";
    let guessed = "1 step without an estimate_ms counts as 1s";
    for verb in ["plan", "simulate"] {
        let ran = place.run(&format!("{verb} plan.json"));
        let text = ran.stdout + &ran.stderr;
        assert!(text.contains(said) && text.contains("5.1") && !text.contains("6s"), "{text}");
        let ran = place.run(&format!("{verb} plan.json --no-journal"));
        let text = ran.stdout + &ran.stderr;
        assert!(!text.contains("earlier runs"), "{text}");
        let ran = place.run(&format!("{verb} plan.json --journal nothing.db"));
        assert_eq!(ran.exit, Some(2), "{ran:?}");
    }
    let plan = place.run("plan plan.json");
    assert!(plan.stderr.contains(guessed), "{}", plan.stderr);
    assert!(!plan.stdout.contains("estimate_ms\": 1"), "the plan stays as it is: {}", plan.stdout);
}
