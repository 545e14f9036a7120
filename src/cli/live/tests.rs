use plandag::simulate::Simulation;
use plandag::{Launch, Patch, Plan, Returned, Revision, RunStart, Step, StepError, Usage};

use super::*;
use crate::cli::ledger::State;
use crate::cli::prediction::Prediction;
use crate::cli::progress::{Beside, Progress};

fn searches() -> Plan {
    let names = ["qdrant", "milvus", "lancedb", "pgvector", "chroma", "weaviate", "vespa", "elastic"];
    let search = |(index, name): (usize, &&str)| {
        Step::new(format!("search-{name}"), "search").estimate_ms(2_000 + 500 * index as u64)
    };
    let mut plan: Plan = names.iter().enumerate().map(search).collect();
    let compare = Step::new("compare", "llm").depends_on(names.map(|name| format!("search-{name}")));
    plan.push(compare.estimate_ms(3_000));
    plan.push(Step::new("report", "llm").depends_on(["compare"]));
    plan
}

/// What is known of a simulated run at an instant.
fn at(history: &[RunEvent], ms: u64) -> (Ledger, Option<Scheduler>, Timestamp) {
    let now = Timestamp::from_millis(ms);
    let (mut ledger, mut run) = (Ledger::default(), None);
    for event in history.iter().filter(|event| event.at <= now) {
        ledger.take(event);
        follow(&mut run, event);
    }
    (ledger, run, now)
}

fn picture(history: &[RunEvent], ms: u64, columns: usize, rows: usize) -> String {
    let (ledger, run, now) = at(history, ms);
    let lines = frame(&ledger, run.as_ref(), now, Size { columns, rows });
    let plain: Vec<String> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
    for line in &plain {
        assert!(unicode_width::UnicodeWidthStr::width(line.as_str()) < columns, "{columns}: {line}");
    }
    assert!(lines.len() <= rows.saturating_sub(4).max(1), "{rows}: {plain:#?}");
    plain.join("\n")
}

/// One search fails and is tried again; the others take what the plan says.
fn history() -> Vec<RunEvent> {
    let flaky = |launch: &Launch| match (launch.id.as_str(), launch.tries) {
        ("search-pgvector", 1) => Err(StepError::transient("HTTP 503")),
        _ => Ok(Returned::Value(plandag::Output::inline(().into()))),
    };
    Simulation::new(searches()).max_parallel(6).results(flaky).run().history
}

#[test]
fn a_run_in_pictures() {
    let history = history();
    let mut pictures = String::new();
    for (ms, columns, rows) in [
        (0, 80, 24),
        (2_600, 80, 24),
        (3_600, 80, 24),
        (3_600, 200, 50),
        (3_600, 40, 10),
        (3_600, 20, 5),
        (8_600, 80, 24),
    ] {
        pictures.push_str(&format!("{ms}ms, {columns}x{rows}\n{}\n\n", picture(&history, ms, columns, rows)));
    }
    insta::assert_snapshot!(pictures);
}

/// More slots are of no use to a step that waits for something else.
#[test]
fn what_waits_says_what_it_waits_for() {
    let one = |id: &str, ms| Step::new(id, "x").uses("gpu", 1).estimate_ms(ms);
    let plan =
        Plan::from_iter([one("first", 3_000), one("second", 1_000), Step::new("last", "x").depends_on(["first"])]);
    let mut history = Simulation::new(plan.pool("gpu", 1)).run().history;
    let full = picture(&history, 1_000, 120, 24);
    assert!(full.contains("waits for room in a pool (gpu 1/1)"), "{full}");
    assert!(full.contains("waits for first (running, ~2.0s left)"), "{full}");
    // What it was is not known without all that happened before.
    history.remove(1);
    let missed = picture(&history, 1_000, 120, 24);
    assert!(missed.contains("waits for its turn"), "{missed}");

    let plan = Plan::from_iter(["one", "two"].map(|id| Step::new(id, "x").estimate_ms(1_000)));
    let busy = |launch: &Launch| match (launch.id.as_str(), launch.tries) {
        ("one", 1) => Err(StepError::transient("HTTP 429\u{1b}").retry_after_ms(4_000)),
        _ => Ok(Returned::Value(plandag::Output::inline(().into()))),
    };
    let history = Simulation::new(plan).max_parallel(1).results(busy).run().history;
    let paused = picture(&history, 2_000, 120, 24);
    assert!(paused.contains("two  x  waits for x, paused for 3.0s: HTTP 429"), "{paused}");
    assert!(!paused.contains('\u{1b}'), "{paused}");
}

#[test]
fn no_size_and_no_instant_breaks_it() {
    let history = history();
    for ms in (0..12_000).step_by(700) {
        for columns in [2, 3, 10, 33, 44, 45, 64, 65, 300] {
            for rows in [0, 1, 6, 7, 8, 13, 100] {
                picture(&history, ms, columns, rows);
            }
        }
    }
}

#[test]
fn without_a_basis_there_is_no_eta() {
    let plan = Plan::from_iter([Step::new("a", "x"), Step::new("b", "x").depends_on(["a"]), Step::new("c", "y")]);
    let history = Simulation::new(plan).durations(|_| Duration::from_secs(2)).run().history;
    assert!(!picture(&history, 500, 120, 24).contains("ETA"));
    // `a` has shown how long `x` takes.
    let later = picture(&history, 2_500, 120, 24);
    assert!(later.contains("ETA ~1.5s from this run"), "{later}");
    // What takes longer than it should says nothing about how much longer.
    let overdue = Simulation::new(Plan::from_iter([Step::new("a", "x").estimate_ms(100)]))
        .durations(|_| Duration::from_secs(2))
        .run()
        .history;
    let overdue = picture(&overdue, 1_000, 120, 24);
    assert!(overdue.contains("over ~0.1s") && !overdue.contains("ETA"), "{overdue}");
}

/// As long as a plan may say, and more of them than can be added up.
#[test]
fn a_chain_of_steps_that_are_expected_to_take_for_ever_is_predicted_and_shown() {
    let step = |n: u32| {
        let before = n.checked_sub(1).map(|before| format!("s{before}"));
        Step::new(format!("s{n}"), "x").estimate_ms(u64::MAX).depends_on(before)
    };
    let plan: Plan = (0..1_100).map(step).collect();
    let start = Simulation::new(plan.clone()).run().scheduler.start().as_ref().clone();
    let predicted = Prediction::new(&plan, &plandag::Dag::check(&plan, &start).unwrap(), &start).render();
    assert!(predicted.contains("~5124095576h 02m with 64 slots"), "{predicted}");
    let history = Simulation::new(plan).durations(|_| Duration::from_millis(1)).run().history;
    for ms in [0, 1, 500, 1_099] {
        let picture = picture(&history, ms, 120, 24);
        assert!(picture.contains("ETA ~") && picture.contains("h ") && picture.contains("from estimates"), "{picture}");
    }
}

/// Children come after the steps that wait for their parent, and yet before them.
#[test]
fn the_longest_path_leads_through_expansions() {
    let plan = Plan::from_iter([
        Step::new("split", "list").estimate_ms(1_000),
        Step::new("join", "join").depends_on(["split"]).estimate_ms(4_000),
    ]);
    let children =
        Plan::from_iter([Step::new("one", "x").estimate_ms(2_000), Step::new("two", "x").estimate_ms(5_000)]);
    let results = move |launch: &Launch| match launch.id.as_str() {
        "split" => Ok(Returned::Plan(Box::new(children.clone()))),
        _ => Ok(Returned::Value(plandag::Output::inline(().into()))),
    };
    let mut tools = vec!["list", "join", "x"];
    let tools = tools.drain(..).map(|name| plandag::ToolSpec::new(name, "")).collect();
    let history = Simulation::new(plan).tools(tools).results(results).run().history;
    let picture = picture(&history, 2_000, 120, 24);
    assert!(picture.contains("ETA ~8.0s from estimates"), "{picture}");
    let critical = picture.lines().find(|line| line.contains("critical")).unwrap();
    assert!(critical.contains("split/two"), "{picture}");
}

#[test]
fn a_revision_is_a_difference() {
    let plan = Plan::from_iter([
        Step::new("a", "x"),
        Step::new("b", "x"),
        Step::new("c", "x"),
        Step::new("join", "y").depends_on(["a", "b", "c"]),
    ]);
    let mut first = Some(plan);
    let start = RunStart {
        objective: String::new(),
        inputs: Default::default(),
        policy: Default::default(),
        tools: vec![plandag::ToolSpec::new("x", ""), plandag::ToolSpec::new("y", "")],
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    };
    let planner = move |_: &_, _: &_| {
        Ok(first.take().map_or_else(
            || {
                Revision::Patch(Patch {
                    add: vec![Step::new("other", "y").depends_on(["a"]).into()],
                    change: vec![Step::new("join", "y").depends_on(["a", "b", "other"]).into()],
                    drop: vec!["c".into()],
                    ..Patch::default()
                })
            },
            Revision::Plan,
        ))
    };
    let results = |launch: &Launch| match launch.id.as_str() {
        "c" => Err(StepError::permanent("HTTP 403")),
        _ => Ok(Returned::Value(plandag::Output::inline(().into()))),
    };
    let durations = |launch: &Launch| Duration::from_millis(if launch.id.as_str() == "c" { 20 } else { 10 });
    let run = Simulation::with_planner(start, planner).results(results).durations(durations).run();
    let (mut ledger, mut progress) = (Ledger::default(), Progress::new(Beside::Picture));
    let mut lines = String::new();
    for event in &run.history {
        ledger.take(event);
        lines.extend(progress.line(event, &ledger).map(|line| anstream::adapter::strip_str(&line).to_string() + "\n"));
    }
    insta::assert_snapshot!(lines);
    assert!(ledger.steps().iter().filter(|entry| entry.is_member).all(|entry| entry.state == State::Succeeded));
    assert_eq!(ledger.used(), Usage::default());
}

#[test]
fn a_picture_takes_the_place_of_the_last_one() {
    let mut region = Region::default();
    let line = |text: &str| vec![text.to_owned()];
    assert_eq!(region.draw(&[], &line("one"), 80), "one\r\n");
    assert_eq!(region.draw(&line("done"), &line("two"), 80), "\r\u{1b}[1A\u{1b}[Jdone\r\ntwo\r\n");
    // Broken into two by a terminal that is narrower now.
    assert_eq!(region.draw(&[], &line(&"x".repeat(60)), 80), format!("\r\u{1b}[1A\u{1b}[J{}\r\n", "x".repeat(60)));
    assert_eq!(region.draw(&[], &[], 40), "\r\u{1b}[2A\u{1b}[J");
    assert_eq!(region.draw(&[], &[], 40), "");
}

#[test]
fn a_planner_that_waits_says_for_what() {
    let history = history();
    let asked = history.iter().position(|event| matches!(event.kind, RunEventKind::PlanRequested { .. })).unwrap();
    let mut ledger = Ledger::default();
    history[..=asked].iter().for_each(|event| ledger.take(event));
    ledger.planner_begins_to_wait(Timestamp::from_millis(60_000), "too many\u{1b} calls");
    let shown = |ms| frame(&ledger, None, Timestamp::from_millis(ms), Size { columns: 80, rows: 24 }).join("\n");
    assert!(shown(1_000).contains("planner  waits another 59s: too many\\u{1b} calls"), "{}", shown(1_000));
    assert!(shown(60_000).contains("planner  thinks about the plan"), "{}", shown(60_000));
}
