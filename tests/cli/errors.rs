//! What is said when something is wrong: golden files, one for each case.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Place, calculate, sleep};

/// Runs the command and compares everything it says with a golden file.
macro_rules! golden {
    ($place:expr, $name:literal, [$($argument:expr),* $(,)?]) => {{
        let ran = $place.run([$($argument),*]);
        insta::assert_snapshot!($name, ran.transcript());
    }};
}

#[test]
fn a_cycle() {
    let place = Place::new();
    place.file(
        "research.yaml",
        "\
steps:
  - id: collect
    tool: sleep
    args: {ms: 1}
  - id: compare
    tool: sleep
    depends_on: [summarise]
  - id: rank
    tool: sleep
    depends_on: [compare]
  - id: summarise
    tool: sleep
    depends_on: [rank, collect]
",
    );
    golden!(place, "cycle", ["run", "research.yaml"]);
}

#[test]
fn an_unknown_dependency() {
    let place = Place::new();
    place.file(
        "plan.json",
        "\
{ \"steps\": [
  { \"id\": \"search-qdrant\", \"tool\": \"sleep\", \"args\": { \"ms\": 1 } },
  { \"id\": \"compare\", \"tool\": \"sleep\", \"args\": { \"ms\": 1 }, \"depends_on\": [\"serach-qdrant\"] }
] }
",
    );
    golden!(place, "unknown_dependency", ["run", "plan.json"]);
}

#[test]
fn a_duplicate_id() {
    let place = Place::new();
    place.file(
        "plan.json",
        "\
{ \"steps\": [
  { \"id\": \"search\", \"tool\": \"sleep\", \"args\": { \"ms\": 1 } },
  { \"id\": \"search\", \"tool\": \"sleep\", \"args\": { \"ms\": 2 } }
] }
",
    );
    golden!(place, "duplicate_id", ["check", "plan.json"]);
}

#[test]
fn everything_at_once() {
    let place = Place::new();
    place.file("plan.json", "\
{ \"answer\": \"reprot\", \"pools\": { \"gpu\": 1 }, \"steps\": [
  { \"id\": \"a b\", \"tool\": \"sleep\" },
  { \"id\": \"b\", \"tool\": \"slep\", \"depends_on\": [\"c\"] },
  { \"id\": \"report\", \"tool\": \"calculate\", \"args\": { \"expression\": \"${b. + ${inputs.n}\" }, \"uses\": { \"gpu\": 2 } },
  { \"id\": \"words\", \"description\": \"think\" }
] }
");
    golden!(place, "everything_at_once", ["check", "plan.json"]);
}

#[test]
fn a_file_that_is_no_plan() {
    let place = Place::new();
    place.file("comma.json", "{ \"steps\": [\n  { \"id\": \"a\" \"tool\": \"sleep\" }\n] }\n");
    place.file(
        "field.json",
        "{ \"steps\": [\n  { \"id\": \"a\", \"tool\": \"sleep\", \"depend_on\": [] },\n  { \"id\": 3 }\n] }\n",
    );
    place.file(
        "twice.json",
        "{ \"steps\": [\n  { \"id\": \"a\", \"tool\": \"sleep\", \"args\": { \"ms\": 1, \"ms\": 2 } }\n] }\n",
    );
    place.file("bad.yaml", "steps:\n  - id: a\n    tool: [sleep\n");
    place.file("empty.json", "");
    place.file("list.json", "[]");
    place.file("none.json", "{\"steps\": []}");
    place.file("latin.json", b"{\"steps\": [{\"id\": \"caf\xe9\"}]}");
    golden!(place, "malformed_comma", ["run", "comma.json"]);
    golden!(place, "malformed_field", ["run", "field.json"]);
    golden!(place, "malformed_twice", ["run", "twice.json"]);
    golden!(place, "malformed_yaml", ["run", "bad.yaml"]);
    golden!(place, "malformed_empty", ["run", "empty.json"]);
    golden!(place, "malformed_list", ["run", "list.json"]);
    golden!(place, "no_steps", ["run", "none.json"]);
    golden!(place, "not_utf8", ["run", "latin.json"]);
}

#[test]
fn a_plan_that_is_too_large() {
    let place = Place::new();
    place.file("plan.json", " ".repeat((1 << 20) + 1));
    golden!(place, "too_large", ["run", "plan.json"]);
}

#[test]
fn a_plan_that_is_trusted_may_be_larger() {
    let place = Place::new();
    let plan = |steps: usize| {
        let steps: Vec<Value> = (0..steps).map(|n| json!({ "id": format!("step-{n}"), "tool": "sleep" })).collect();
        json!({ "steps": steps }).to_string()
    };
    place.file("steps.json", plan(10_001));
    golden!(place, "too_many_steps", ["check", "steps.json"]);
    // Over a mebibyte, too.
    place.file("bytes.json", plan(30_000));
    for (file, most) in [("steps.json", "10001"), ("bytes.json", "30000")] {
        let ran = place.run(["check", file, "--max-steps", most]);
        assert_eq!(ran.exit, 0, "{}", ran.transcript());
    }
    let ran = place.run(["check", "bytes.json", "--max-steps", "29999"]);
    assert_eq!(ran.exit, 3, "{}", ran.transcript());
    assert_eq!(place.run(["simulate", "bytes.json", "--max-steps", "30000"]).exit, 0);
}

#[test]
fn tools_that_are_not_there() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "calclate", "args": { "expression": "1" } }]));
    golden!(place, "unknown_tool", ["run", "plan.json"]);
    place.plan(json!([{ "id": "a", "description": "summarise the findings" }]));
    golden!(place, "no_executor", ["run", "plan.json"]);
    place.plan(json!([{ "id": "a", "tool": "search_files", "args": { "query": "x" } }]));
    golden!(place, "no_files", ["run", "plan.json"]);
    place.plan(json!([sleep("a", 1, &[])]));
    golden!(place, "unknown_allow", ["run", "plan.json", "--allow", "shel"]);
}

#[test]
fn inputs_and_pools() {
    let place = Place::new();
    place.plan(json!([calculate("a", "${inputs.cuont}")]));
    golden!(place, "unknown_input", ["run", "plan.json", "--input", "count=3"]);
    let mut step = sleep("a", 1, &[]);
    step["uses"] = json!({ "gpu": 3 });
    place.plan(json!([step]));
    golden!(place, "over_pool", ["run", "plan.json", "--pool", "gpu=2"]);
}

#[test]
fn objectives() {
    let place = Place::new();
    place.file("docs/a.md", "text");
    golden!(place, "no_planner", ["run", "Compare A and B on X"]);
    golden!(place, "no_planner_file", ["run", "plan.jsn"]);
    golden!(place, "empty_objective", ["run", "  "]);
    golden!(place, "no_words", ["run", "?????", "--files", "docs"]);
    golden!(place, "folder_as_source", ["run", "docs"]);
}

#[test]
fn files_and_folders() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &[])]));
    golden!(place, "missing_plan", ["run", "missing.json"]);
    golden!(place, "missing_plan_check", ["check", "missing"]);
    golden!(place, "missing_folder", ["run", "x", "--files", "nowhere"]);
    golden!(place, "no_folder", ["run", "x", "--files", "plan.json"]);
    golden!(place, "output_folder", ["run", "plan.json", "-o", "nowhere/answer.txt"]);
    golden!(place, "output_is_folder", ["run", "plan.json", "-o", "."]);
}

#[test]
fn arguments() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &[])]));
    golden!(place, "no_unit", ["run", "plan.json", "--timeout", "30"]);
    golden!(place, "no_slots", ["run", "plan.json", "--max-parallel", "0"]);
    golden!(place, "bad_input_argument", ["run", "plan.json", "--input", "city"]);
    golden!(place, "sequential_and_parallel", ["run", "plan.json", "--sequential", "--max-parallel", "2"]);
    golden!(place, "mistyped_flag", ["run", "plan.json", "--fiels", "docs"]);
    golden!(place, "mistyped_command", ["rnu", "plan.json"]);
    golden!(place, "unknown_code", ["explain", "plan.cycel"]);
    golden!(place, "unknown_topic", ["help", "exit"]);
}

#[test]
fn a_question_without_a_terminal() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &[])]));
    golden!(place, "confirm", ["run", "plan.json", "--confirm"]);
}

/// The one error that a full disk leaves.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1")]));
    for arguments in [
        ["run", "plan.json", "-q"],
        ["run", "plan.json", "--json"],
        ["check", "nothing.json", "--json"],
        ["simulate", "plan.json", "--max-parallel=2"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(arguments).stdout(Stdio::from(full)).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("error[usage.output]: standard output cannot be written"), "{arguments:?}: {said}");
    }
}

#[test]
fn steps_that_fail() {
    let place = Place::new();
    place.plan(json!([
        calculate("a", "1 / 0"),
        sleep("b", 1, &["a"]),
        sleep("c", 1, &["b"]),
        calculate("d", "${e.result.rows.0}"),
        calculate("e", "2 + 2"),
    ]));
    let ran = place.run(["run", "plan.json", "-q"]);
    insta::assert_snapshot!("failed_steps", ran.transcript());
}

/// What a person gave is no bug of ours.
#[test]
fn what_nests_too_deep_is_said_to() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let place = Place::new();
    place.plan(json!([crate::support::calculate("a", "1")]));
    let ran = place.run(["run", "plan.json", "--input", &format!("x={}", deep(101))]);
    assert!(ran.exit == 5 && ran.stderr.contains("error[config.run]: `x` nests too deep"), "{ran:?}");
    // The deepest arguments that a plan may have, in a plan of its own and in one of many.
    let plan = |levels: usize| {
        let args = format!(r#"{{"expression": "1", "x": {}}}"#, deep(levels - 1));
        format!(r#"{{"steps": [{{"id": "a", "tool": "calculate", "args": {args}}}]}}"#)
    };
    place.file("deep.json", plan(100));
    place.file("deeper.json", plan(101));
    place.file("lines.txt", "deep.json\n");
    assert_eq!(place.run(["check", "deep.json"]).exit, 0);
    for arguments in [&["run", "deep.json", "--json"][..], &["run", "--batch", "lines.txt", "--json"]] {
        let ran = place.run(arguments);
        assert_eq!(ran.last_event()["ev"], "run.finished", "{ran:?}");
        let run = ran.last_event()["run"].as_str().unwrap().to_owned();
        assert_eq!(place.run(["show", &run]).exit, 0);
        let retried = place.run(["fork", &run, "--from", if arguments.len() == 3 { "a" } else { "1/a" }]);
        assert_eq!(retried.exit, ran.exit, "{retried:?}");
    }
    for command in ["check", "run"] {
        let ran = place.run([command, "deeper.json"]);
        assert!(ran.exit == 3 && ran.stderr.contains("nest deeper than 100"), "{command}: {ran:?}");
    }
}

#[test]
fn who_could_not_write_the_answer_is_told_as_programs_are() {
    let place = Place::new();
    place.plan(json!([crate::support::calculate("a", "1")]));
    let ran = place.run(["run", "plan.json", "--json", "-o", "/dev/full"]);
    let last = ran.last_event();
    assert_eq!((ran.exit, &last["ev"], &last["error"]["code"]), (2, &json!("run.finished"), &json!("usage.output")));
    assert_eq!(last["answer"]["result"], 1, "{last}");
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_may_be_written_where_a_link_leads_to_a_pipe() {
    let place = Place::new();
    place.plan(json!([crate::support::calculate("a", "1")]));
    let ran = place.run(["run", "plan.json", "-o", "/dev/stdout"]);
    assert!(ran.exit == 0 && ran.stdout.contains("\"result\": 1"), "{ran:?}");
}
