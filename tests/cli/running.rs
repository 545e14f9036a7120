//! `run`: what it takes, where the answer goes, how it ends.

use std::process::Stdio;

use serde_json::json;

use crate::support::{Place, calculate, sleep};

#[test]
fn the_answer_goes_to_standard_output_and_nothing_else_does() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7")]));
    let ran = place.run(["run", "plan.json"]);
    assert_eq!(ran.exit, 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["result"], 42);
    for said in
        ["✓ a", "succeeded", "critical", "may not   read files, reach private networks, write files, run commands"]
    {
        assert!(ran.stderr.contains(said), "{said} is missing\n{}", ran.stderr);
    }
    let first_step = ran.stderr.find('▸').unwrap();
    assert!(ran.stderr.find("may not").unwrap() < first_step, "said before the first step\n{}", ran.stderr);
}

#[test]
fn quiet_leaves_the_answer_and_the_errors() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7")]));
    assert_eq!(place.run(["run", "plan.json", "-q"]).stderr, "");
    place.plan(json!([calculate("a", "1 / 0")]));
    let failed = place.run(["-q", "run", "plan.json"]);
    assert!(failed.stderr.starts_with("error[step.bad_input]"), "{}", failed.stderr);
}

#[test]
fn an_answer_with_a_text_is_that_text() {
    let place = Place::new();
    place.file("docs/a.md", "one\ntwo\n");
    place.plan(json!([{ "id": "read", "tool": "read_file", "args": { "path": "a.md" } }]));
    let ran = place.run(["run", "plan.json", "--files", "docs"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, "one\ntwo\n"));
}

#[test]
fn a_file_gets_the_answer_instead() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7")]));
    place.file("answer.txt", "old");
    let ran = place.run(["run", "plan.json", "-o", "answer.txt"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, ""));
    let answer = std::fs::read_to_string(place.path().join("answer.txt")).unwrap();
    assert!(answer.contains("\"result\": 42"), "{answer}");
}

#[test]
fn a_failed_run_leaves_the_old_answer_as_it_was() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 / 0")]));
    place.file("answer.txt", "old");
    assert_eq!(place.run(["run", "plan.json", "-o", "answer.txt"]).exit, 1);
    assert_eq!(std::fs::read_to_string(place.path().join("answer.txt")).unwrap(), "old");
    let names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{names:?}");
}

#[test]
fn plans_and_objectives_come_on_standard_input() {
    let place = Place::new();
    let json = "\n  {\"steps\": [{\"id\": \"a\", \"tool\": \"calculate\", \"args\": {\"expression\": \"2 + 3\"}}]}";
    let yaml = "steps:\n  - id: a\n    tool: calculate\n    args: {expression: 2 + 3}\n";
    let (marked, quoted) = (format!("\u{feff}{json}"), yaml.replace("steps", "\"steps\""));
    for plan in [json, yaml, &quoted] {
        let ran = place.run_with_input(["run", "-"], plan);
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(ran.stdout.contains("\"result\": 5"), "{ran:?}");
    }
    let objective = place.run_with_input(["run", "-"], "Compare A and B on X");
    assert!(objective.stderr.contains("config.no_planner"), "{objective:?}");
    // A line of it looks like a part of a plan.
    let objective = place.run_with_input(["run", "-"], "Compare A and B\nsteps: find both");
    assert!(objective.stderr.contains("config.no_planner"), "{objective:?}");
    let marked = place.run_with_input(["run", "-"], &marked);
    assert!(marked.stderr.contains("byte order mark"), "{marked:?}");
    assert_eq!(place.run_with_input(["run", "-"], " \n").exit, 2);
    assert_eq!(place.run_with_input(["run", "-"], "{ broken").exit, 3);
}

#[test]
fn yaml_files_are_plans() {
    let place = Place::new();
    place.file("plan.yaml", "steps:\n  - id: a\n    tool: calculate\n    args: {expression: 2 + 3}\n");
    place.file("plan.yml", "steps: []\n");
    assert_eq!(place.run(["run", "plan.yaml"]).exit, 0);
    assert_eq!(place.run(["run", "plan.yml"]).exit, 3);
}

#[test]
fn inputs_are_handed_on_with_their_types() {
    let place = Place::new();
    place.plan(json!([calculate("a", "${inputs.price} * ${inputs.count}")]));
    let ran = place.run(["run", "plan.json", "--input", "price=2.5", "--input", "count=4"]);
    assert!(ran.stdout.contains("\"result\": 10"), "{ran:?}");
}

#[test]
fn limits_end_a_run_with_their_own_exit_code() {
    let place = Place::new();
    place.plan(json!([sleep("a", 60_000, &[])]));
    let late = place.run(["run", "plan.json", "--deadline", "20ms"]);
    assert_eq!(late.exit, 8, "{late:?}");
    assert!(late.stderr.contains("error[limit.deadline]"), "{late:?}");
    let mut step = sleep("a", 60_000, &[]);
    step["retry"] = json!({ "max_attempts": 1 });
    place.plan(json!([step]));
    let slow = place.run(["run", "plan.json", "--timeout", "20ms"]);
    assert_eq!(slow.exit, 1, "{slow:?}");
    assert!(slow.stderr.contains("error[step.timeout]"), "{slow:?}");
}

#[test]
fn a_step_the_plan_can_do_without_may_fail() {
    let place = Place::new();
    let mut step = calculate("a", "1 / 0");
    step["on_failure"] = json!("continue");
    place.plan(json!([step, sleep("b", 1, &["a"])]));
    let ran = place.run(["run", "plan.json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.stderr.contains("the plan went on without it"), "{}", ran.stderr);
}

#[test]
fn an_objective_is_answered_from_documents_without_a_model() {
    let place = Place::new();
    place.file(
        "docs/redis.md",
        "# Redis\n\nRedis keeps its data in memory. Persistence is done by snapshots or a log.\n",
    );
    place
        .file("docs/sqlite.md", "# SQLite\n\nSQLite keeps its data in one file. Persistence is what it is made for.\n");
    let ran = place.run(["run", "Compare Redis and SQLite on persistence", "--files", "docs"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.stdout.contains("without a language model"), "{}", ran.stdout);
    assert!(ran.stdout.contains("redis.md:3") && ran.stdout.contains("sqlite.md:3"), "{}", ran.stdout);
}

/// Unix programs end quietly when nobody reads on.
#[test]
fn a_closed_pipe_is_no_panic() {
    let place = Place::new();
    let steps: Vec<_> = (0..200).map(|n| calculate(&format!("s{n}"), "1 + 1")).collect();
    place.plan(json!(steps));
    for arguments in
        [vec!["run", "plan.json"], vec!["run", "plan.json", "--json"], vec!["graph", "plan.json"], vec!["schema"]]
    {
        let mut child = place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panic") && !said.contains("internal"), "{arguments:?}: {said}");
        assert!(output.status.code().is_some_and(|code| code != 70 && code != 101), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_replay_shows_what_the_run_showed() {
    let place = Place::new();
    place.plan(json!([sleep("a", 300, &[]), sleep("b", 100, &[]), calculate("c", "1 / ${a.slept_ms}")]));
    let ran = place.run(["run", "plan.json"]);
    let steps = |text: &str| -> Vec<String> {
        let begins_with_time = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
        text.lines().filter(begins_with_time).map(str::to_owned).collect()
    };
    assert_eq!(steps(&ran.stderr).len(), 6, "{}", ran.stderr);
    for speed in ["1", "1000"] {
        let replayed = place.run(["replay", "--speed", speed]);
        assert_eq!((replayed.exit, replayed.stdout.as_str()), (0, ""), "{}", replayed.stderr);
        assert_eq!(steps(&replayed.stderr), steps(&ran.stderr));
    }
    let refused = place.run(["replay", "--speed", "0"]);
    assert!(refused.exit == 2 && refused.stderr.contains("a number over 0"), "{}", refused.stderr);
}
