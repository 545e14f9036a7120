//! What would make a run faster: where it is told.

use serde_json::{Value, json};

use crate::support::{Place, calculate, sleep};

#[test]
fn a_failed_run_tells_where_its_time_went_and_so_do_the_commands_that_look_at_it() {
    let place = Place::new();
    let mut bad = calculate("bad", "1 / 0");
    bad["depends_on"] = json!(["slow"]);
    place.plan(json!([sleep("slow", 200, &[]), bad, sleep("never", 200, &["bad"])]));
    let ran = place.run(["run", "plan.json", "--json"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let end = ran.last_event();
    let is_slow = |saving: &Value| saving["change"] == "halve" && saving["step"] == "slow";
    assert!(is_slow(&end["faster"][0]) && end["faster"][0]["saves_ms"].as_f64() >= Some(100.0), "{end}");
    assert_eq!(end["faster_untried"], 0);

    let run = end["run"].as_str().unwrap();
    let shown: Value = serde_json::from_str(&place.run(["show", run, "--json"]).stdout).unwrap();
    for field in ["ms", "work_ms", "critical_ms", "critical_path", "bound_ms", "faster", "faster_untried"] {
        assert_eq!(shown[field], end[field], "{field}");
    }
    let told = |said: &str| {
        assert!(said.contains("critical  slow "), "{said}");
        assert!(said.contains("bound     2") && said.contains("to go faster  halve slow: -1"), "{said}");
    };
    told(&place.run(["show", run]).stdout);
    told(&place.run(["replay", run, "--speed", "1000"]).stderr);
    told(&place.run(["run", "plan.json"]).stderr);
}

#[test]
fn what_a_step_paused_between_its_attempts_is_told() {
    let place = Place::new();
    let mut flaky = sleep("flaky", 900, &[]);
    let retry = json!({ "max_attempts": 6, "base_ms": 100, "max_ms": 100 });
    flaky.as_object_mut().unwrap().extend([
        ("timeout_ms".to_owned(), json!(20)),
        ("on_failure".to_owned(), json!("continue")),
        ("retry".to_owned(), retry),
    ]);
    place.plan(json!([sleep("slow", 10, &[]), flaky, sleep("end", 10, &["slow", "flaky"])]));
    let ran = place.run(["run", "plan.json", "--json"]);
    let end = ran.last_event();
    let paused = end["critical_path"][0]["paused_ms"].as_u64().unwrap();
    assert!(end["critical_path"][0]["step"] == "flaky" && paused > 0, "{end}");
    assert!(end["critical_path"][0]["ms"].as_u64().unwrap() >= 6 * 20 + paused, "{end}");
    assert_eq!(end["critical_path"][1]["paused_ms"], 0);
    assert!(end["bound_ms"].as_u64().unwrap() >= 6 * 20 + 10 + paused, "{end}");
    // No upper limit is below what nothing could have gone below.
    let told = place.run(["show", end["run"].as_str().unwrap()]).stdout;
    let millis = |word: &str| {
        let (_, rest) = told.split_once(word).unwrap();
        rest.trim_start().split_once("ms").and_then(|(millis, _)| millis.parse::<u64>().ok())
    };
    assert!(millis("one at a time: up to") >= millis("bound"), "{told}");
    let told = place.run(["show", end["run"].as_str().unwrap()]).stdout;
    assert!(told.contains("ms of it paused) > end "), "{told}");
}

#[test]
fn what_is_less_than_a_millisecond_is_told_to_programs_too() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 1 }, "estimate_ms": 1 }]));
    let row = place.run(["simulate", "plan.json", "--json"]).last_event();
    assert_eq!(row["faster"][0], json!({ "change": "halve", "step": "a", "saves_ms": 0.5 }), "{row}");
    assert_eq!(row["makespan_ms"], json!(1), "{row}");
}

#[test]
fn what_would_make_a_plan_of_a_file_faster_is_told() {
    let place = Place::new();
    let plan = |id: usize, ms: u64| json!({ "id": id.to_string(), "steps": [{ "id": "long", "duration_ms": ms }, { "id": "short", "duration_ms": 80 }] });
    let write = |count: usize| {
        let lines: Vec<String> = (0..count).map(|number| plan(number, 400).to_string()).collect();
        place.file("plans.jsonl", lines.join("\n"));
    };
    write(102);
    let rows = place.run(["simulate", "plans.jsonl", "--json"]).events();
    for row in &rows[..100] {
        let half = json!({ "change": "halve", "step": "long", "saves_ms": 200 });
        assert_eq!((&row["faster"][0], &row["faster_untried"]), (&half, &json!(0)), "{row}");
        assert_eq!(row.get("faster_left_out"), None);
    }
    for row in &rows[100..] {
        assert_eq!([row.get("faster"), row.get("faster_untried")], [None; 2]);
        assert_eq!(row["faster_left_out"], "only the first 100 plans of a file are looked at");
    }
    // Of one plan, it is told as of one with a file of its own.
    let told = |count: usize| {
        write(count);
        place.run(["simulate", "plans.jsonl"]).stdout
    };
    assert!(told(1).ends_with("\n  to go faster  halve long: -200ms   cap 65: -0ms\n"), "{}", told(1));
    let two = told(2);
    assert_eq!(two.matches("\n  to go faster  halve long: -200ms\n").count(), 2, "what saves most of each: {two}");
    assert_eq!(two.lines().count(), 4, "{two}");
    let many = told(102);
    assert_eq!(many.matches("halve long").count(), 100, "{many}");
    assert!(many.ends_with("\n  to go faster  only the first 100 plans of a file are looked at\n"), "{many}");
}

#[test]
fn no_prediction_says_that_a_command_need_not_be_waited_for() {
    let place = Place::new();
    let step = |id: &str, tool: &str, depends_on: &[&str]| {
        let args = if tool == "shell" { json!({ "argv": ["true"] }) } else { json!({ "ms": 1 }) };
        json!({ "id": id, "tool": tool, "args": args, "estimate_ms": 4_000, "depends_on": depends_on })
    };
    let said = |second: &str| {
        place.plan(json!([step("one", second, &[]), step("two", second, &["one"])]));
        let simulated = place.run(["simulate", "plan.json"]);
        let predicted = place.run(["plan", "plan.json", "-o", "out.json"]);
        assert_eq!((simulated.exit, predicted.exit), (0, 0), "{simulated:?} {predicted:?}");
        [simulated.stdout, predicted.stderr].map(|said| said.contains("two waits for one and never uses it"))
    };
    assert_eq!(said("sleep"), [true, true]);
    assert_eq!(said("shell"), [false, false]);
}

#[test]
fn a_plan_that_is_too_large_to_be_simulated_again_says_so() {
    let place = Place::new();
    let steps: Vec<Value> = (0..10_001).map(|n| sleep(&format!("s{n}"), 1, &[])).collect();
    place.plan(json!(steps));
    let ran = place.run(["simulate", "plan.json", "--max-steps", "20000"]);
    assert!(ran.stdout.contains("not tried  10002 changes: the run has too many steps"), "{ran:?}");
    let line = place.run(["simulate", "plan.json", "--max-steps", "20000", "--json"]).last_event();
    assert_eq!((&line["faster"], &line["faster_untried"]), (&json!([]), &json!(10_002)));
    let span = |n: u32| json!({ "ph": "X", "name": "s", "ts": n, "dur": 1, "tid": 1, "args": { "after": [] } });
    place.file("trace.json", (0..10_001).map(span).collect::<Value>().to_string());
    let line = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!((&line["faster"], &line["faster_untried"]), (&json!([]), &json!(10_002)));
}

/// Of a tool that nobody knows, references tell what is used, where there are any.
#[test]
fn a_dependency_is_unused_where_others_are_used() {
    let place = Place::new();
    let told = |tool: Option<&str>, third: Value| {
        let step = |id: &str, ms: u64, more: Value| {
            let mut step = json!({ "id": id, "description": id, "estimate_ms": ms });
            tool.into_iter().for_each(|tool| step["tool"] = json!(tool));
            step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            step
        };
        place.plan(json!([step("a", 1_000, json!({})), step("b", 3_000, json!({})), step("c", 2_000, third)]));
        let ran = place.run(["simulate", "plan.json"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        ran.stdout.contains("c waits for b and never uses it, costs 2.00s")
    };
    for tool in [Some("mytool"), None] {
        assert!(told(tool, json!({ "args": { "q": "${a}" }, "depends_on": ["a", "b"] })), "{tool:?}");
        assert!(!told(tool, json!({ "args": { "q": "x" }, "depends_on": ["a", "b"] })), "{tool:?}");
        assert!(!told(tool, json!({ "args": { "q": ["${a}", "${b}"] } })), "{tool:?}");
        assert!(!told(tool, json!({ "when": "${a} == 1", "depends_on": ["a", "b"] })), "{tool:?}");
    }
    // Of one that is known to use nothing else it need not refer to any, if what it waits for only reads.
    assert!(told(Some("sleep"), json!({ "args": { "ms": 1 }, "depends_on": ["a", "b"] })));
}
