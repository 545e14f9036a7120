//! The commands that run nothing.

use serde_json::{Value, json};

use crate::support::{Place, calculate, sleep};

/// Eight half-second steps and a join: the numbers that `run` has to come near to, exactly.
fn eight_and_a_join() -> Value {
    let mut steps: Vec<Value> = (1..=8).map(|n| sleep(&format!("s{n}"), 500, &[])).collect();
    let all: Vec<String> = (1..=8).map(|n| format!("s{n}")).collect();
    steps.push(sleep("join", 500, &all.iter().map(String::as_str).collect::<Vec<_>>()));
    for step in &mut steps {
        step["estimate_ms"] = json!(500);
    }
    json!(steps)
}

#[test]
fn simulate_is_exact() {
    let place = Place::new();
    place.plan(eight_and_a_join());
    let makespan = |slots: &str| {
        let ran = place.run(["simulate", "plan.json", "--max-parallel", slots, "--json"]);
        let line = ran.last_event();
        assert_eq!((ran.exit, &line["id"]), (0, &json!("plan")));
        line["makespan_ms"].as_u64().unwrap()
    };
    assert_eq!([makespan("8"), makespan("4"), makespan("3"), makespan("1")], [1_000, 1_500, 2_000, 4_500]);
}

#[test]
fn simulate_reads_many_plans() {
    let place = Place::new();
    let lines = [
        json!({ "id": "tea", "steps": [{ "id": "boil", "duration_ms": 300 }, { "id": "0/pour", "depends_on": ["boil"], "duration_ms": 60 }] }),
        json!({ "id": "pool", "steps": [{ "id": "a", "duration_ms": 5, "resources": { "r": 2 } }, { "id": "b", "duration_ms": 7, "resources": { "r": 2 } }],
                "meta": { "resource_capacity": { "r": 3 } } }),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    place.file("plans.jsonl", &text);
    for ran in
        [place.run(["simulate", "plans.jsonl", "--json"]), place.run_with_input(["simulate", "-", "--json"], &text)]
    {
        assert_eq!(ran.exit, 0, "{ran:?}");
        let made: Vec<(Value, Value)> =
            ran.events().iter().map(|line| (line["id"].clone(), line["makespan_ms"].clone())).collect();
        assert_eq!(made, [(json!("tea"), json!(360)), (json!("pool"), json!(12))]);
    }
}

/// As `plandag plan` writes them, on a line each.
#[test]
fn a_line_may_be_a_plan_as_it_is() {
    let place = Place::new();
    let step = |id: &str, ms: u64, on: &str| json!({ "id": id, "tool": "t", "args": { "on": on }, "estimate_ms": ms });
    let plan = json!({ "objective": "x", "steps": [step("a", 20, ""), step("b", 30, "${a}")] });
    let text = format!("{plan}\n{plan}\n");
    place.file("plans.jsonl", &text);
    for ran in
        [place.run(["simulate", "plans.jsonl", "--json"]), place.run_with_input(["simulate", "-", "--json"], &text)]
    {
        let made: Vec<Value> = ran.events().iter().map(|line| line["makespan_ms"].clone()).collect();
        assert_eq!((ran.exit, made), (0, vec![json!(50), json!(50)]), "{ran:?}");
    }
}

#[test]
fn a_single_one_is_counted_as_one() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &[]), sleep("b", 1, &["a"])]));
    let checked = place.run(["check", "plan.json"]);
    assert!(checked.stdout.contains("2 steps, 1 dependency, 2 levels"), "{checked:?}");
}

#[test]
fn lines_on_standard_input_need_not_begin_with_a_good_one() {
    let place = Place::new();
    let good = r#"{"id":"good","steps":[{"id":"x","duration_ms":5}]}"#;
    for first in ["not json", r#"{"id":"empty","steps":[]}"#] {
        let ran = place.run_with_input(["simulate", "-", "--json"], &format!("{first}\n{good}\n"));
        assert_eq!((ran.exit, &ran.events()[1]["id"]), (3, &json!("good")), "{ran:?}");
    }
}

#[test]
fn inputs_need_not_be_known_to_simulate() {
    let place = Place::new();
    let greet = json!({ "id": "greet", "tool": "sleep", "args": { "ms": "${inputs.pause}" }, "when": "${inputs.polite}", "estimate_ms": 70 });
    place.plan(json!([greet]));
    for arguments in
        [vec!["simulate", "plan.json", "--json"], vec!["simulate", "plan.json", "--json", "--input", "pause=7"]]
    {
        let ran = place.run(arguments);
        assert_eq!((ran.exit, &ran.last_event()["makespan_ms"]), (0, &json!(70)), "{ran:?}");
    }
}

#[test]
fn simulate_says_what_it_knows_nothing_about() {
    let place = Place::new();
    let known = json!({ "id": "known", "tool": "sleep", "estimate_ms": 10 });
    place.plan(json!([known, sleep("a", 1, &[]), sleep("b", 1, &["a"])]));
    let ran = place.run(["simulate", "plan.json", "--no-journal"]);
    assert!(ran.stdout.contains("2 steps without an estimate_ms count as 1s each"), "{}", ran.stdout);
    place.plan(json!([sleep("a", 1, &[])]));
    let ran = place.run(["simulate", "plan.json", "--no-journal"]);
    assert!(ran.stdout.contains("no step has an estimate_ms: each counts as 1s"), "{}", ran.stdout);
}

#[test]
fn a_pool_that_is_too_small_for_a_step_is_told_as_any_error_of_a_plan() {
    let place = Place::new();
    place.plan(json!([{ "id": "wide", "tool": "sleep", "uses": { "R": 2 }, "estimate_ms": 5 }]));
    let ran = place.run(["simulate", "plan.json", "--pool", "R=1"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stderr.contains("error[plan.") && ran.stderr.contains("plan.json:1:"), "{}", ran.stderr);
}

#[test]
fn a_bad_line_does_not_hide_the_good_ones() {
    let place = Place::new();
    place.file("plans.jsonl", "{\"id\":\"a\",\"steps\":[{\"id\":\"x\",\"duration_ms\":5}]}\nnonsense\n{\"id\":\"c\",\"steps\":[{\"id\":\"x\",\"depends_on\":[\"x\"],\"duration_ms\":5}]}\n");
    let ran = place.run(["simulate", "plans.jsonl"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.stdout.starts_with("a "), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("✗ plans.jsonl:2: not JSON, from column 2 on")
            && ran.stderr.contains("✗ plans.jsonl:3: plan `c`: the plan has a cycle: x -> x"),
        "{}",
        ran.stderr
    );
}

#[test]
fn whatever_is_wrong_with_a_line_says_which_one_it_is() {
    let place = Place::new();
    let step = |more: Value| {
        let mut step = json!({ "id": "x", "duration_ms": 5 });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let bad = [
        ("cycle", json!([step(json!({ "depends_on": ["x"] }))]), "cycle"),
        ("unknown", json!([step(json!({ "depends_on": ["y"] }))]), "`y`"),
        ("empty", json!([]), "no steps"),
        ("pool", json!([step(json!({ "resources": { "r": 2 } }))]), "`r`"),
        ("twice", json!([step(json!({})), step(json!({}))]), "two steps are called `x`"),
        ("negative", json!([step(json!({ "duration_ms": -5 }))]), "a whole number from 0, but is -5"),
    ];
    let line = |(id, steps, _): &(&str, Value, &str)| json!({ "id": id, "steps": steps }).to_string();
    let text = bad.iter().map(line).collect::<Vec<_>>().join("\n");
    place.file("plans.jsonl", &text);
    let ran = place.run(["simulate", "plans.jsonl", "--pool", "r=1"]);
    let rows = place.run(["simulate", "plans.jsonl", "--pool", "r=1", "--json"]).events();
    assert_eq!(ran.exit, 3, "{ran:?}");
    for (number, (id, _, told)) in (1..).zip(&bad) {
        let begin = format!("✗ plans.jsonl:{number}: plan `{id}`: ");
        let line = ran.stderr.lines().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.contains(told)), "{begin}: {}", ran.stderr);
        let row = &rows[number - 1];
        assert_eq!([&row["file"], &row["line"], &row["id"]], [&json!("plans.jsonl"), &json!(number), &json!(id)]);
        assert!(row["error"].as_str().unwrap().contains(told), "{row}");
    }
    let ran =
        place.run_with_input(["simulate", "-"], &format!("{{\"id\":\"e\",\"steps\":[{{\"duration_ms\":1}}]}}\n{text}"));
    assert!(ran.stderr.contains("✗ <stdin>:2: plan `cycle`: "), "{}", ran.stderr);
}

#[test]
fn a_run_whose_length_is_mostly_a_guess_is_not_said_to_take_so_long() {
    let place = Place::new();
    let step = |id: &str, estimate: Option<u64>, after: &[&str]| {
        let mut step = sleep(id, 1, after);
        step.as_object_mut().unwrap().extend(estimate.map(|ms| ("estimate_ms".to_owned(), json!(ms))));
        step
    };
    let head = |steps: Value| {
        place.plan(steps);
        let ran = place.run(["run", "plan.json", "--no-journal"]);
        ran.stderr.lines().find(|line| line.contains(" at once")).unwrap().to_owned()
    };
    let guess = |known: u64| json!([step("a", Some(known), &[]), step("b", None, &["a"]), step("c", None, &["b"])]);
    assert!(head(guess(1)).ends_with("up to 1 at once"), "{}", head(guess(1)));
    let told = head(guess(2_000));
    assert!(told.ends_with("up to 1 at once, ~4.00s expected if 2 steps of unknown length take 1s each"), "{told}");
    let told = head(json!([step("a", Some(1_500), &[]), step("b", None, &[])]));
    assert!(told.ends_with("~1.50s expected if 1 step of unknown length takes 1s"), "{told}");
    let told = head(json!([step("a", Some(1_500), &[])]));
    assert!(told.ends_with("~1.50s expected"), "{told}");
}

#[test]
fn plan_writes_the_plan_and_says_what_to_expect() {
    let place = Place::new();
    place.plan(eight_and_a_join());
    let ran = place.run(["plan", "plan.json"]);
    insta::assert_snapshot!("plan_prediction", ran.stderr);
    let written: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(written["steps"].as_array().unwrap().len(), 9);
}

#[test]
fn a_planned_objective_can_be_run() {
    let place = Place::new();
    place.file("docs/a.md", "Redis keeps its data in memory.\n");
    let objective = "Compare Redis and SQLite on memory";
    let planned = place.run(["plan", objective, "--files", "docs", "-o", "made.json"]);
    assert_eq!((planned.exit, planned.stdout.as_str()), (0, ""), "{planned:?}");
    let checked = place.run(["check", "made.json"]);
    assert_eq!(checked.exit, 0, "{checked:?}");
    let by_plan = place.run(["run", "made.json", "--files", "docs"]);
    let at_once = place.run(["run", objective, "--files", "docs"]);
    assert_eq!((by_plan.exit, &by_plan.stdout), (0, &at_once.stdout));
}

#[test]
fn check_says_that_a_plan_can_be_run() {
    let place = Place::new();
    place.plan(eight_and_a_join());
    let ran = place.run(["check", "plan.json"]);
    insta::assert_snapshot!("check_ok", ran.transcript());
    let json = place.run(["check", "plan.json", "--json"]).last_event();
    assert_eq!(
        json,
        json!({ "v": 1, "ok": true, "steps": 9, "dependencies": 8, "levels": 2, "width": 8, "needs": [] })
    );
}

#[test]
fn graph_draws() {
    let place = Place::new();
    place.plan(eight_and_a_join());
    insta::assert_snapshot!("graph_text", place.run(["graph", "plan.json"]).stdout);
    assert!(
        place
            .run(["graph", "plan.json", "--format", "mermaid"])
            .stdout
            .starts_with("flowchart LR\n    n0[\"s1<br/>sleep\"]")
    );
    assert!(place.run(["graph", "plan.json", "--format", "dot"]).stdout.starts_with("digraph plan {"));
}

/// A plan that this machine could not run can still be drawn.
#[test]
fn graph_asks_for_no_tools() {
    let place = Place::new();
    place.plan(
        json!([{ "id": "a", "tool": "somebody_elses" }, { "id": "b", "description": "in words", "depends_on": ["a"] }]),
    );
    assert_eq!(place.run(["graph", "plan.json"]).exit, 0);
    assert_eq!(place.run(["simulate", "plan.json"]).exit, 0);
}

#[test]
fn the_schema_is_one() {
    let schema: Value = serde_json::from_str(&Place::new().run(["schema"]).stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["steps"].is_object(), "{schema}");
}

#[test]
fn tools_are_listed_with_their_arguments() {
    let place = Place::new();
    let list = place.run(["tools"]);
    for said in ["sleep", "calculate", "search_files", "read_file", "needs --files", "expression  string", "only reads"]
    {
        assert!(list.stdout.contains(said), "{said}\n{}", list.stdout);
    }
    let tools: Value = serde_json::from_str(&place.run(["tools", "--json"]).stdout).unwrap();
    let argument = |tool: &str, name: &str| {
        let tool = tools.as_array().unwrap().iter().find(|spec| spec["name"] == tool).unwrap();
        tool["arguments"]["properties"][name].is_object()
    };
    for (tool, name) in [("sleep", "ms"), ("calculate", "expression"), ("search_files", "query"), ("read_file", "path")]
    {
        assert!(argument(tool, name), "{tool} {name}");
    }
}

#[test]
fn completions_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(["completions", shell]);
        assert_eq!(script.exit, 0);
        assert!(script.stdout.contains("simulate"), "{shell}");
    }
}

#[test]
fn help_leads_with_examples() {
    let place = Place::new();
    for arguments in [vec!["--help"], vec!["run", "--help"], vec!["help", "simulate"], vec!["plan", "-h"]] {
        let help = place.run(&arguments);
        assert_eq!((help.exit, help.stderr.as_str()), (0, ""), "{arguments:?}");
        let (examples, usage) = (help.stdout.find("Example").unwrap(), help.stdout.find("Usage:").unwrap());
        assert!(examples < usage, "{}", help.stdout);
    }
    let version = place.run(["--version"]);
    assert_eq!(version.stdout, concat!("plandag ", env!("CARGO_PKG_VERSION"), "\n"));
    let nothing = place.run::<[&str; 0]>([]);
    assert_eq!((nothing.exit, nothing.stdout.as_str()), (2, ""));
    assert!(nothing.stderr.contains("Examples:"), "{}", nothing.stderr);
}

#[test]
fn logs_are_for_those_who_ask() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 + 1")]));
    let plain = place.run(["run", "plan.json"]);
    let logged = Ran::from(place.command(["run", "plan.json"]).env("RUST_LOG", "plandag=trace").output().unwrap());
    assert!(!plain.stderr.contains("TRACE") && !plain.stderr.contains("DEBUG"));
    assert!(logged.stderr.contains("plandag"), "{}", logged.stderr);
    assert_eq!(plain.stdout, logged.stdout);
}

use crate::support::Ran;

#[test]
fn one_of_something_is_said_as_one() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 + 1")]));
    let planned = place.run(["plan", "plan.json"]);
    assert!(planned.stderr.contains("levels    1 of 1 step; up to 1 at once"), "{planned:?}");
    let drawn = place.run(["graph", "plan.json", "--format", "svg"]);
    assert!(drawn.stdout.contains("<title>A plan of 1 step<"), "{drawn:?}");
    assert_eq!(place.run(["run", "plan.json"]).exit, 0);
    let page = place.run(["report"]).stdout;
    assert!(page.contains("<span id=\"done\">1 of 1 step</span>"), "{page}");
    let none = place.run(["runs", "--status", "failed"]);
    assert_eq!(none.stderr, "the only run is not of this kind\n");
}
