//! `fork` and `retry` inside of what a step became: only what has to run runs.

use std::fs;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use plandag::history::{Changes, Fork, ForkError, History};
use plandag::journal::{Durability, Journal as _, MemoryJournal, RunId};
use plandag::report::StepOutcome;
use plandag::{
    Limits, Patch, Plan, PlanError, PlanReason, PlanReply, PlanRequest, PlanSink, Planner, Revision, RunEvent,
    RunEventKind, RunReport, Runner, Step, StepError, StepId, planner_fn, tool_fn,
};
use serde_json::{Value, json};

use crate::support::Place;

/// A tool that says that it was there.
fn say(id: &str) -> Step {
    Step::new(id, "say").args(json!({ "what": id }))
}

/// `map` becomes `one`, `two`, which comes after it, and `deep`, which becomes `x` and `y`.
fn plan() -> Plan {
    Plan::from_iter([
        say("list"),
        Step::new("map", "spread").args(json!({ "into": "outer" })).depends_on(["list"]),
        say("beside"),
        Step::new("join", "gather").args(json!({ "map": "${map}", "beside": "${beside}" })),
    ])
}

fn spread(into: &str) -> Plan {
    match into {
        "outer" => Plan::from_iter([
            say("one"),
            say("two").depends_on(["one"]),
            Step::new("deep", "spread").args(json!({ "into": "inner" })),
        ]),
        _ => Plan::from_iter([say("x"), say("y")]),
    }
}

fn all() -> Value {
    json!({ "map": { "two": "two", "deep": { "x": "x", "y": "y" } }, "beside": "beside" })
}

/// Runs of one plan, and which steps' tools were called.
struct Runs {
    journal: MemoryJournal,
    runner: Runner,
    called: Arc<Mutex<Vec<String>>>,
    fails: Arc<Mutex<Option<&'static str>>>,
}

impl Runs {
    fn new(planner: impl Planner + 'static) -> Self {
        let (called, fails) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let (log, failing) = (Arc::clone(&called), Arc::clone(&fails));
        let say = tool_fn(move |cx| {
            log.lock().unwrap().push(cx.id.to_string());
            let is_bad = *failing.lock().unwrap() == Some(cx.id.as_str());
            async move { if is_bad { Err(StepError::permanent("no luck")) } else { Ok(cx.args["what"].clone()) } }
        });
        let log = Arc::clone(&called);
        let spread = tool_fn(move |cx| {
            log.lock().unwrap().push(cx.id.to_string());
            async move { Ok(spread(cx.args["into"].as_str().unwrap())) }
        });
        let journal = MemoryJournal::new();
        let runner = Runner::new(planner)
            .tool("say", say)
            .tool("spread", spread)
            .tool("gather", tool_fn(|cx| async move { Ok(cx.args) }))
            .max_parallel(1)
            .journal(journal.clone());
        Self { journal, runner, called, fails }
    }

    /// What was called since this was asked for last, in alphabetical order.
    fn called(&self) -> Vec<String> {
        let mut called = std::mem::take(&mut *self.called.lock().unwrap());
        called.sort();
        called
    }

    async fn run(&self) -> RunId {
        let report = self.runner.run("spread").await.unwrap();
        self.called();
        report.run().clone()
    }

    async fn fork(&self, run: &RunId, changes: &Changes) -> Result<Fork, ForkError> {
        History::load(&self.journal, run).await.unwrap().fork(changes)
    }

    /// Carries a fork out.
    async fn finish(&self, fork: &Fork) -> RunReport {
        let run = RunId::random();
        fork.save(&self.journal, &run).await.unwrap();
        let report = self.runner.resume(run).await.unwrap();
        let summary = self.journal.summary(report.run()).await.unwrap();
        assert_eq!(summary.duration.since_start(), report.wall_time(), "what was taken over took another run's time");
        report
    }
}

fn from(step: &str) -> Changes {
    Changes { from: Some(StepId::from(step)), ..Changes::default() }
}

fn names(steps: &[StepId]) -> Vec<&str> {
    steps.iter().map(StepId::as_str).collect()
}

#[tokio::test]
async fn a_part_of_an_expansion_runs_again_with_what_depends_on_it() {
    let runs = Runs::new(plan());
    let run = runs.run().await;
    let fork = runs.fork(&run, &from("map/one")).await.unwrap();
    assert_eq!(names(&fork.reused), ["list", "beside", "map/deep"]);
    assert_eq!(names(&fork.again), ["join", "map/one", "map/two"]);
    assert_eq!(names(&fork.put_together), ["map"]);
    assert!(fork.first.is_empty() && fork.left_out.is_empty(), "{fork:?}");
    let report = runs.finish(&fork).await;
    assert_eq!(runs.called(), ["map/one", "map/two"]);
    assert_eq!(*report.answer().unwrap(), all());

    // A fork is a run like any other: it can be forked, too, and deeper inside.
    let fork = runs.fork(report.run(), &from("map/deep/y")).await.unwrap();
    assert_eq!(names(&fork.reused), ["list", "beside", "map/one", "map/two", "map/deep/x"]);
    assert_eq!(names(&fork.put_together), ["map", "map/deep"]);
    let report = runs.finish(&fork).await;
    assert_eq!(runs.called(), ["map/deep/y"]);
    assert_eq!(*report.answer().unwrap(), all());

    let set = Changes { set: [("what".to_owned(), json!("else"))].into(), ..from("map/deep/x") };
    let report = runs.finish(&runs.fork(&run, &set).await.unwrap()).await;
    assert_eq!(report.answer().unwrap()["map"]["deep"], json!({ "x": "else", "y": "y" }));
}

/// A plan that was revised may depend on a part of what a step became; it is drawn all the same.
#[tokio::test]
async fn a_plan_that_depends_on_a_part_of_an_expansion_is_drawn() {
    let runs = Runs::new(planner_fn(|request| async move {
        let map = Step::new("map", "spread").args(json!({ "into": "outer" }));
        Ok(match request.reason {
            PlanReason::First => Revision::Plan(Plan::from_iter([map, say("bad").depends_on(["map"])])),
            _ => Revision::Patch(Patch {
                drop: vec!["bad".into()],
                add: vec![say("after").depends_on(["map/one", "map/two"]).into()],
                answer: Some("after".into()),
                ..Patch::default()
            }),
        })
    }));
    *runs.fails.lock().unwrap() = Some("bad");
    let history = History::load(&runs.journal, &runs.run().await).await.unwrap();
    assert!(history.report().succeeded(), "{:?}", history.report());
    let dot = history.graph().unwrap().to_dot();
    let arrows: Vec<&str> = dot.lines().filter(|line| line.contains("->")).collect();
    assert_eq!(arrows, ["    n0 -> n1 [style=bold];"], "{dot}");
    assert!(dot.contains("n0 [label=\"map") && dot.contains("n1 [label=\"after"), "{dot}");
}

/// Plans one step, and the same again when it has failed.
struct Stubborn;

impl Planner for Stubborn {
    fn plan<'a>(&'a self, _: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async { Ok(Plan::from_iter([say("list"), say("bad").depends_on(["list"])]).into()) })
    }
}

#[tokio::test]
async fn a_fork_counts_what_it_does_itself() {
    let runs = Runs::new(plan());
    let run = runs.run().await;
    let report = runs.finish(&runs.fork(&run, &from("map/one")).await.unwrap()).await;
    // The step that is put together anew had its tool called before.
    assert_eq!((report.attempt_count(), report.retry_count()), (3, 0));

    let mut runs = Runs::new(Stubborn);
    runs.runner = runs.runner.max_replans(1);
    *runs.fails.lock().unwrap() = Some("bad");
    let run = runs.run().await;
    let before = RunReport::load(&runs.journal, &run).await.unwrap();
    assert_eq!((before.attempt_count(), before.replans()), (3, 1));
    let report = runs.finish(&runs.fork(&run, &Changes::default()).await.unwrap()).await;
    assert_eq!((report.attempt_count(), report.replans()), (2, 1), "it has replans of its own");
}

#[tokio::test]
async fn the_step_itself_runs_again_with_all_of_it_if_that_is_asked_for() {
    let runs = Runs::new(plan());
    let run = runs.run().await;
    let fork = runs.fork(&run, &from("map")).await.unwrap();
    assert_eq!((names(&fork.again), fork.put_together.len()), (vec!["map", "join"], 0));
    runs.finish(&fork).await;
    assert_eq!(runs.called(), ["map", "map/deep", "map/deep/x", "map/deep/y", "map/one", "map/two"]);

    // As it does where what it is given is made anew.
    runs.finish(&runs.fork(&run, &from("list")).await.unwrap()).await;
    assert_eq!(runs.called(), ["list", "map", "map/deep", "map/deep/x", "map/deep/y", "map/one", "map/two"]);
}

#[tokio::test]
async fn what_failed_in_an_expansion_is_all_that_is_tried_again() {
    for (fails, called) in [
        ("map/one", &["map/one", "map/two"][..]),
        ("map/two", &["map/two"]),
        ("map/deep/x", &["map/deep/x"]),
        ("beside", &["beside"]),
    ] {
        let runs = Runs::new(plan());
        *runs.fails.lock().unwrap() = Some(fails);
        let run = runs.run().await;
        let fork = runs.fork(&run, &Changes::default()).await.unwrap();
        let again: Vec<&str> = names(&fork.again).into_iter().chain(names(&fork.first)).collect();
        assert!(called.iter().all(|step| again.contains(step)), "{again:?}");
        assert_eq!(again.len(), called.len() + 1, "these and the join: {again:?}");
        let failed = runs.finish(&fork).await;
        assert!(failed.answer().is_err());
        assert_eq!(runs.called(), called[..1], "it fails again");

        *runs.fails.lock().unwrap() = None;
        let fork = runs.fork(failed.run(), &Changes::default()).await.unwrap();
        let report = runs.finish(&fork).await;
        assert_eq!(runs.called(), called, "{fails}");
        assert_eq!(*report.answer().unwrap(), all());
        assert_eq!(runs.fork(report.run(), &Changes::default()).await.unwrap_err(), ForkError::NothingToDo);
    }
}

#[tokio::test]
async fn parts_of_an_expansion_are_left_out() {
    let runs = Runs::new(plan());
    let run = runs.run().await;
    let without = |steps: &[&str]| Changes {
        without: steps.iter().map(|step| StepId::from(*step)).collect(),
        ..Changes::default()
    };
    let fork = runs.fork(&run, &without(&["map/deep/x"])).await.unwrap();
    assert_eq!((names(&fork.left_out), names(&fork.again)), (vec!["map/deep/x"], vec!["join"]));
    let report = runs.finish(&fork).await;
    assert_eq!(report.answer().unwrap()["map"], json!({ "deep": { "x": null, "y": "y" }, "two": "two" }));
    assert!(runs.called().is_empty());

    // It cannot be changed inside where it is left out itself.
    let both = Changes { from: Some("map/one".into()), ..without(&["map"]) };
    let error = runs.fork(&run, &both).await.unwrap_err();
    assert_eq!(error, ForkError::PartOfExpansion { step: "map/one".into(), parent: "map".into() });
    let unknown = runs.fork(&run, &from("map/three")).await.unwrap_err();
    assert_eq!(unknown, ForkError::UnknownStep { step: "map/three".into() });
}

/// However far a run came before it was given up, a fork of it comes to the same end, and calls nothing again that was
/// finished.
#[tokio::test]
async fn a_run_that_ended_anywhere_is_finished_by_a_fork() {
    let runs = Runs::new(plan());
    let run = runs.run().await;
    let history = runs.journal.history(&run).await.unwrap();
    let mut forks = 0;
    for length in 1..history.len() {
        let cut = RunId::random();
        let claim = runs.journal.create(&cut).await.unwrap();
        runs.journal.append(&claim, &history[..length], Durability::Process).await.unwrap();
        drop(claim);
        let loaded = History::load(&runs.journal, &cut).await.unwrap();
        let finished: Vec<String> = loaded
            .report()
            .steps()
            .filter(|step| step.outcome == StepOutcome::Succeeded)
            .map(|s| s.id.to_string())
            .collect();
        let fork = match loaded.fork(&Changes::default()) {
            Ok(fork) => fork,
            Err(ForkError::NoPlan | ForkError::NothingToDo) => continue,
            Err(error) => panic!("{length}: {error}"),
        };
        forks += 1;
        let report = runs.finish(&fork).await;
        assert_eq!(*report.answer().unwrap(), all(), "after {length} events");
        let called = runs.called();
        assert!(called.iter().all(|step| !finished.contains(step)), "after {length} events: {called:?}, {finished:?}");
        let counted = names(&fork.again).len() + names(&fork.first).len();
        assert!(counted >= 1 && names(&fork.reused).iter().all(|step| !called.contains(&(*step).to_owned())));
    }
    assert!(forks > 10, "{forks}");
}

/// After a failure, has a step take what is inside of an expansion.
struct Reaching;

impl Planner for Reaching {
    fn plan<'a>(&'a self, request: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            Ok(match request.reason {
                PlanReason::First => {
                    let map = Step::new("map", "spread").args(json!({ "into": "inner" }));
                    Plan::from_iter([map, say("bad").depends_on(["map"])]).into()
                }
                _ => Patch {
                    drop: vec!["bad".into()],
                    add: vec![Arc::new(Step::new("end", "gather").depends_on(["map/x"]))],
                    ..Patch::default()
                }
                .into(),
            })
        })
    }
}

#[tokio::test]
async fn a_part_that_is_used_from_outside_is_only_run_again_with_the_whole() {
    let runs = Runs::new(Reaching);
    *runs.fails.lock().unwrap() = Some("bad");
    let run = runs.run().await;
    let error = runs.fork(&run, &from("map/x")).await.unwrap_err();
    assert_eq!(error, ForkError::PartOfExpansion { step: "map/x".into(), parent: "map".into() });
    // What it would become this time, nobody knows before.
    assert_eq!(runs.fork(&run, &from("map")).await.unwrap_err(), error);
    let without = Changes { without: vec!["end".into()], ..from("map") };
    assert_eq!(names(&runs.fork(&run, &without).await.unwrap().again), ["map"]);
    let other = runs.fork(&run, &from("map/y")).await.unwrap();
    assert_eq!(names(&other.again), ["map/y"]);

    let runs = Runs::new(planner_fn(|request: PlanRequest| async move {
        let map = Step::new("map", "spread").args(json!({ "into": "inner" }));
        Ok(match request.reason {
            PlanReason::First => Revision::Plan(Plan::from_iter([map, say("bad").depends_on(["map"])])),
            _ => Revision::Plan(Plan::from_iter([map]).answer("map/x")),
        })
    }));
    *runs.fails.lock().unwrap() = Some("bad");
    let run = runs.run().await;
    for step in ["map", "map/x"] {
        assert_eq!(runs.fork(&run, &from(step)).await.unwrap_err(), error, "the answer is made of it");
    }
}

/// Has two more steps written after a failure, and never says the end of that.
struct Endless;

impl Planner for Endless {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            if let PlanReason::First = request.reason {
                return Ok(Plan::from_iter([say("good"), say("bad")]).into());
            }
            sink.step(say("draft"));
            sink.step(Step::new("going-on", "gather").args(json!("${draft}")));
            sink.step(Step::new("waiting", "never").depends_on(["going-on"]));
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn what_was_drafted_of_a_plan_that_was_never_accepted_is_not_run() {
    let mut runs = Runs::new(Endless);
    let never = tool_fn(|_| std::future::pending::<Result<Value, StepError>>());
    runs.runner = runs.runner.clone().tool("never", never);
    *runs.fails.lock().unwrap() = Some("bad");
    let handle = runs.runner.start("x");
    let run = handle.id().clone();
    let is_under_way = |history: &[RunEvent]| {
        history.iter().filter(|event| matches!(event.kind, RunEventKind::AttemptStarted { .. })).count() == 5
    };
    let history = loop {
        match runs.journal.history(&run).await {
            Ok(history) if is_under_way(&history) => break history,
            _ => tokio::task::yield_now().await,
        }
    };
    handle.cancel_now();
    handle.await.unwrap();
    runs.called();
    *runs.fails.lock().unwrap() = None;
    for length in 1..=history.len() {
        let cut = RunId::random();
        let claim = runs.journal.create(&cut).await.unwrap();
        runs.journal.append(&claim, &history[..length], Durability::Process).await.unwrap();
        drop(claim);
        let Ok(fork) = runs.fork(&cut, &Changes::default()).await else { continue };
        let report = runs.finish(&fork).await;
        assert_eq!(*report.answer().unwrap(), json!({ "good": "good", "bad": "bad" }), "after {length} events");
        let called = runs.called();
        assert!(called.iter().all(|step| step == "good" || step == "bad"), "after {length} events: {called:?}");
    }
}

#[tokio::test]
async fn a_fork_has_room_for_steps_of_its_own() {
    let mut runs = Runs::new(plan());
    let mut run = runs.run().await;
    // `list`, `map`, `join`, and what `map` becomes: eight steps.
    for (steps, fits) in [(8, true), (8, true), (7, false)] {
        runs.runner = runs.runner.limits(Limits { steps, ..Limits::default() });
        let report = runs.finish(&runs.fork(&run, &from("list")).await.unwrap()).await;
        assert_eq!(report.answer().ok(), fits.then_some(&all()));
        run = report.run().clone();
    }
}

#[tokio::test]
async fn what_a_fork_took_over_fits_into_its_plan() {
    let mut runs = Runs::new(planner_fn(|request: PlanRequest| async move {
        let is_first = request.reason == PlanReason::First;
        let last = if is_first { "bad" } else { "good" };
        assert_eq!(request.max_steps, if is_first { 10_000 } else { 7 }, "five that are done, and two more");
        Ok(Plan::from_iter(["a", "b", "c", "d", "e", last].map(say)))
    }));
    *runs.fails.lock().unwrap() = Some("bad");
    runs.runner = runs.runner.max_replans(0);
    let run = runs.run().await;
    runs.runner = runs.runner.max_replans(1).limits(Limits { steps: 2, ..Limits::default() });
    let report = runs.finish(&runs.fork(&run, &Changes::default()).await.unwrap()).await;
    assert!(report.succeeded(), "{:?}", report.answer());
}

#[tokio::test(start_paused = true)]
async fn a_fork_has_a_deadline_of_its_own() {
    let mut runs = Runs::new(Plan::from_iter([Step::new("slow", "slow"), say("bad").depends_on(["slow"])]));
    let two_seconds = std::time::Duration::from_secs(2);
    let slow = tool_fn(move |_| async move {
        tokio::time::sleep(two_seconds).await;
        Ok(Value::Null)
    });
    runs.runner = runs.runner.clone().tool("slow", slow).deadline(two_seconds * 3 / 2);
    *runs.fails.lock().unwrap() = Some("bad");
    let run = runs.run().await;
    *runs.fails.lock().unwrap() = None;
    let fork = runs.fork(&run, &from("slow")).await.unwrap();
    assert_eq!(runs.finish(&fork).await.answer().unwrap(), "bad", "the two seconds behind it are not its own");
}

#[test]
fn a_step_that_was_left_out_is_said_to_be() {
    let place = Place::new();
    let sum = |id: &str, depends_on: &[&str]| json!({ "id": id, "tool": "calculate", "args": { "expression": "1 + 1" }, "depends_on": depends_on });
    place.plan(json!([sum("a", &[]), sum("b", &["a"]), sum("c", &["a", "b"])]));
    assert_eq!(place.run("run plan.json").exit, Some(0));
    let newest = || -> Value {
        let run: Value = serde_json::from_str(place.run("runs --json").stdout.lines().next().unwrap()).unwrap();
        run["run"].clone()
    };
    let fork = place.run(&format!("fork {} --without b", newest().as_str().unwrap()));
    assert_eq!(fork.exit, Some(0), "{fork:?}");
    assert!(fork.stderr.contains("skipped   b, left out of this fork\n"), "{}", fork.stderr);
    let run = newest();
    let run = run.as_str().unwrap();
    let told = ["why b", "logs b", &format!("show {run}"), "why b --json"].map(|line| place.run(line).stdout);
    for told in &told {
        assert!(told.contains("left out of this fork") && !told.contains("condition"), "{told}");
    }
    let shown = told[2].lines().find(|line| line.contains("left out")).unwrap();
    assert!(!shown.contains("kept") && !shown.contains("attempt"), "{shown}");
}

/// The steps of a batch's lines are what the lines became.
#[test]
fn the_command_tries_the_failed_part_of_a_line_again() {
    let place = Place::new();
    let shell = |id: &str, script: &str, depends_on: &[&str]| {
        let script = format!("echo {id} >> ../witness; {script}");
        json!({ "id": id, "tool": "shell", "args": { "argv": ["sh", "-c", script] }, "depends_on": depends_on })
    };
    place.plan(json!([
        shell("good", "echo good", &[]),
        shell("picky", "test -e ../there && echo there", &["good"]),
        shell("last", "echo last", &["picky"]),
    ]));
    fs::write(place.path("lines.txt"), "plan.json\n").unwrap();
    let failed = place.run("run --batch lines.txt --allow shell");
    assert_eq!(failed.exit, Some(1), "{failed:?}");
    fs::write(place.path("there"), "").unwrap();
    fs::write(place.path("witness"), "").unwrap();
    let again = place.run("retry");
    assert_eq!(again.exit, Some(0), "{again:?}");
    let counts = "1 reused, 1 run again (1/picky), 1 run for the first time (1/last), 1 put together again (1)";
    assert!(again.stderr.contains(counts), "{}", again.stderr);
    assert_eq!(place.witnessed(), ["picky", "last"]);
    assert!(again.stderr.contains(" 2 attempts\n") && again.stderr.contains(" 3 steps "), "{}", again.stderr);
    let critical = again.stderr.lines().find(|line| line.contains("critical ")).unwrap();
    assert!(critical.contains("1/picky") && !critical.contains("1/good"), "{critical}");

    fs::write(place.path("witness"), "").unwrap();
    let run: Value = serde_json::from_str(place.run("runs --json").stdout.lines().next().unwrap()).unwrap();
    let run = run["run"].as_str().unwrap();
    let shown = place.run(&format!("show {run}")).stdout;
    let good = shown.lines().find(|line| line.contains("1/good")).unwrap();
    assert!(good.contains("kept") && !good.contains("attempt"), "{good}");
    let failed = shown.lines().find(|line| line.contains("✗ 1/picky")).unwrap();
    assert!(failed.contains("before the fork") && !failed.contains("attempt"), "{failed}");
    let forked = place.run(&format!("fork {run} --from 1/last"));
    assert_eq!(forked.exit, Some(0), "{forked:?}");
    assert!(forked.stderr.contains("2 reused, 1 run again (1/last), 1 put together again (1)"), "{}", forked.stderr);
    assert_eq!(place.witnessed(), ["last"]);
}

/// Says what it would begin with, waits for that, and has no plan that is one until it is asked for the fourth time.
struct Struggling(Mutex<u32>);

impl Planner for Struggling {
    fn plan<'a>(&'a self, _: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            sink.step(say("early"));
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let asked = {
                let mut asked = self.0.lock().unwrap();
                *asked += 1;
                *asked
            };
            match asked {
                1..=3 => Ok(Plan::from_iter([say("early"), say("late").depends_on(["nobody"])]).into()),
                _ => Ok(Plan::from_iter([say("early"), say("late").depends_on(["early"])]).into()),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_of_plans_that_were_never_accepted_is_kept_for_one_that_repeats_it() {
    let runs = Runs::new(Struggling(Mutex::default()));
    let run = runs.run().await;
    let history = History::load(&runs.journal, &run).await.unwrap();
    let early = history.report().step("early").unwrap();
    assert!(early.member && early.outcome == StepOutcome::Succeeded, "it counts: {early:?}");
    assert_eq!(history.fork(&from("early")).unwrap_err(), ForkError::NoPlan);
    let fork = history.fork(&Changes::default()).unwrap();
    assert_eq!(names(&fork.reused), ["early"]);
    let report = runs.finish(&fork).await;
    assert_eq!(report.answer().unwrap(), "late");
    assert_eq!(runs.called(), ["late"], "what is finished is not done again");
    assert_eq!((report.attempt_count(), report.revisions()), (1, 1));
}
