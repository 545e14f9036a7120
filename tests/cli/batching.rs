//! `run --batch`: many objectives and plans as one run.

use serde_json::{Value, json};
use wiremock::{Request, Respond, ResponseTemplate};

use crate::model_server::{Model, Server, streamed};
use crate::support::{Place, Ran, calculate, sleep};

fn plan(place: &Place, name: &str, steps: Value) {
    place.file(name, json!({ "steps": steps }).to_string());
}

/// What became of each line, by its number.
fn states(ran: &Ran) -> Vec<(u64, String)> {
    let last = ran.last_event();
    let state = |line: &Value| (line["line"].as_u64().unwrap(), line["state"].as_str().unwrap().to_owned());
    last["lines"].as_array().unwrap().iter().map(state).collect()
}

/// The most steps of plans that ran at once.
fn most_at_once(ran: &Ran) -> usize {
    let (mut now, mut most) = (0, 0);
    for event in ran.events() {
        let is_of_plan = event["step"].as_str().is_some_and(|step| step.contains('/'));
        match event["ev"].as_str() {
            Some("step.started") if is_of_plan => now += 1,
            Some("step.finished") if is_of_plan => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[test]
fn every_line_fails_alone_and_a_table_says_how() {
    let place = Place::new();
    plan(&place, "sum.json", json!([calculate("a", "1 + 2")]));
    plan(&place, "wrong.json", json!([calculate("b", "1 +"), sleep("c", 1, &["b"])]));
    plan(&place, "cycle.json", json!([sleep("x", 1, &["x"])]));
    place.file("notes/lmdb.md", "# LMDB\n\nLMDB is durable: a commit is on disk when it returns.\n");
    let lines = "# what is to be done\nsum.json\n\nwrong.json\nmissing.json\ncycle.json\nIs LMDB durable?\n";
    place.file("objectives.txt", lines);
    let ran = place.run(["run", "--batch", "objectives.txt", "--files", "notes", "--offline"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    for part in [
        "✗ line 5: there is no file `missing.json`",
        "✗ line 6: the plan has a cycle: x -> x",
        "✓ 2  sum.json",
        "✗ 4  wrong.json",
        "4/b: ",
        "✗ 5  missing.json",
        "✓ 7  Is LMDB durable?",
        "error[batch.incomplete]: 3 of 5 lines failed",
    ] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
    assert!(ran.stdout.starts_with("# 2  sum.json\n\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("# 7  Is LMDB durable?\n\n") && ran.stdout.contains("lmdb.md:3"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("wrong.json"), "{}", ran.stdout);
    let runs = place.run(["runs", "--json"]);
    assert_eq!(runs.stdout.lines().count(), 1, "they are one run: {}", runs.stdout);
    // Nothing else can be done with a file of objectives.
    place.file("good.txt", "sum.json\n");
    let ran = place.run(["run", "--batch", "good.txt", "--no-journal"]);
    assert!(ran.exit == 0 && ran.stderr.contains("next      plandag help run"), "{ran:?}");
}

#[test]
fn all_lines_share_the_caps() {
    let place = Place::new();
    let steps = || json!([sleep("a", 60, &[]), sleep("b", 60, &[]), sleep("c", 60, &["a"])]);
    plan(&place, "one.json", steps());
    place.file("two.json", json!({ "steps": steps(), "pools": { "sleep": 2 } }).to_string());
    place.file("objectives.txt", "one.json\ntwo.json\none.json\n");
    let run = |cap: &str| place.run(["run", "--batch", "objectives.txt", "--max-parallel", cap, "--json"]);
    let ran = run("1");
    assert_eq!((ran.exit, most_at_once(&ran)), (0, 1), "{ran:?}");
    assert!(ran.last_event()["ms"].as_u64() >= Some(9 * 60), "{}", ran.last_event());
    assert_eq!(states(&ran), [1, 2, 3].map(|line| (line, "succeeded".to_owned())));
    assert_eq!(most_at_once(&run("64")), 2, "the pool that one of them sizes holds for all");
    assert_eq!(run("64").last_event()["lines"][1]["steps"], 3);
}

#[test]
fn a_batch_that_was_stopped_goes_on() {
    let place = Place::new();
    plan(&place, "long.json", json!([sleep("a", 150, &[]), sleep("b", 150, &["a"])]));
    plan(&place, "wrong.json", json!([calculate("b", "1 +")]));
    place.file("objectives.txt", "long.json\nwrong.json\n");
    let ran = place.run(["run", "--batch", "objectives.txt", "--deadline", "80ms", "--json"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    assert_eq!(states(&ran), [(1, "unfinished".to_owned()), (2, "failed".to_owned())]);
    // What the lines stand for is kept with the run.
    place.file("objectives.txt", "something else\n");
    std::fs::remove_file(place.path().join("long.json")).unwrap();
    let ran = place.run(["resume", "--deadline", "1m", "--json"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert_eq!(states(&ran), [(1, "succeeded".to_owned()), (2, "failed".to_owned())]);
}

#[test]
fn what_failed_of_a_batch_is_tried_again() {
    let place = Place::new();
    plan(&place, "good.json", json!([sleep("a", 1, &[])]));
    plan(&place, "wrong.json", json!([calculate("b", "1 +")]));
    place.file("objectives.txt", "good.json\nwrong.json\n");
    assert_eq!(place.run(["run", "--batch", "objectives.txt"]).exit, 1);
    let ran = place.run(["retry", "--json"]);
    assert_eq!(states(&ran), [(1, "succeeded".to_owned()), (2, "failed".to_owned())], "{ran:?}");
    let started: Vec<Value> = ran
        .events()
        .into_iter()
        .filter(|event| event["ev"] == "step.started")
        .map(|event| event["step"].clone())
        .collect();
    assert_eq!(started, ["2/b"], "what is finished is not done again");
}

#[test]
fn a_batch_without_a_line_that_can_be_run_runs_nothing() {
    let place = Place::new();
    let refused = |content: &str| {
        place.file("objectives.txt", content);
        place.run(["run", "--batch", "objectives.txt", "--offline"])
    };
    let ran = refused("\n# nothing\n");
    assert_eq!(ran.exit, 3);
    assert!(ran.stderr.contains("error[batch.empty]: `objectives.txt` has no lines"), "{}", ran.stderr);
    let ran = refused("missing.json\nCompare A and B\n-\n");
    assert_eq!(ran.exit, 3);
    assert!(ran.stderr.contains("error[batch.empty]: none of 3 lines can be run"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 2: there is no model to plan this objective"), "{}", ran.stderr);
    assert_eq!(place.run(["run", "--batch", "nothing.txt"]).exit, 2);
    assert_eq!(place.run(["run", "--batch", "objectives.txt", "--confirm"]).exit, 2);
}

#[test]
fn a_line_may_want_more_of_a_pool_than_another_leaves() {
    let place = Place::new();
    let step = |weight: u32| json!({ "id": "a", "tool": "sleep", "args": { "ms": 1 }, "uses": { "gpu": weight } });
    place.file("small.json", json!({ "steps": [step(1)], "pools": { "gpu": 1 } }).to_string());
    place.file("large.json", json!({ "steps": [step(3)], "pools": { "gpu": 4 } }).to_string());
    place.file("objectives.txt", "small.json\nlarge.json\n");
    let ran = place.run(["run", "--batch", "objectives.txt", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(states(&ran), [1, 2].map(|line| (line, "succeeded".to_owned())));
}

#[test]
fn a_line_may_be_as_large_as_if_it_was_run_alone() {
    let place = Place::new();
    let steps = |count: u32| (0..count).map(|n| sleep(&format!("s{n}"), 1, &[])).collect();
    plan(&place, "three.json", steps(3));
    plan(&place, "four.json", steps(4));
    place.file("objectives.txt", "three.json\nthree.json\nfour.json\nthree.json\nthree.json\n");
    let run = |more: &[&str]| place.run([&["run", "--batch", "objectives.txt", "--max-steps", "3"], more].concat());
    let ran = run(&["--json"]);
    let expected = [(1, "succeeded"), (2, "succeeded"), (3, "refused"), (4, "succeeded"), (5, "succeeded")];
    assert_eq!(states(&ran), expected.map(|(line, state)| (line, state.to_owned())), "{ran:?}");
    let told = run(&[]).stderr;
    assert!(told.contains("line 3: 4 steps, over the limit of 3\n     help: "), "{told}");
    assert!(told.contains("let it be larger: --max-steps N"), "{told}");
    // A run that goes on has the same limits.
    let ran = run(&["--deadline", "1ms", "--sequential", "--json"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    let ran = place.run(["resume", "--deadline", "1m", "--json"]);
    assert_eq!(states(&ran), expected.map(|(line, state)| (line, state.to_owned())), "{ran:?}");
}

/// Has nine steps planned for what is called large.
struct Greedy;

impl Respond for Greedy {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let said = String::from_utf8_lossy(&request.body);
        if !said.contains("\"stream\":true") || !said.contains("Objective: large") {
            return Model.respond(request);
        }
        let steps: String = (1..10).map(|number| format!("{number}. look it up\n")).collect();
        streamed(&(steps + "END\n"), &json!({}))
    }
}

#[test]
fn a_line_that_is_planned_takes_no_room_of_the_others() {
    let (server, place) = (Server::with(Greedy), Place::new());
    place.file("objectives.txt", "large\nsmall\nsmall\n");
    let line = ["run", "--batch", "objectives.txt", "--model", "m", "--max-steps", "3", "--sequential", "--json"];
    let ran = server.run(&place, line);
    let expected = [(1, "failed"), (2, "succeeded"), (3, "succeeded")];
    assert_eq!(states(&ran), expected.map(|(line, state)| (line, state.to_owned())), "{ran:?}");
    assert!(ran.stdout.contains("steps, over the limit of 3"), "{ran:?}");
}

#[test]
fn what_is_expected_of_a_batch_is_said_of_the_steps_of_its_lines() {
    let place = Place::new();
    let step = |id: u32| json!({ "id": id.to_string(), "tool": "sleep", "args": { "ms": 1 }, "estimate_ms": 2_000 });
    plan(&place, "one.json", (0..3).map(step).collect());
    let unknown = |id: u32| sleep(&id.to_string(), 1, &[]);
    plan(&place, "unknown.json", (0..3).map(unknown).collect());
    let head = |lines: &str| {
        place.file("objectives.txt", lines);
        let ran = place.run(["run", "--batch", "objectives.txt", "--max-parallel", "2", "--no-journal"]);
        ran.stderr.lines().find(|line| line.contains("run       ")).unwrap().split_once("  ").unwrap().1.to_owned()
    };
    let expected = head("\u{feff}one.json\none.json\n");
    assert!(expected.ends_with("2 lines, 6 steps, up to 2 at once, ~6.00s expected"), "{expected}");
    let unknown = head("unknown.json\n");
    assert!(unknown.ends_with("1 line, 3 steps, up to 2 at once"), "{unknown}");
}

/// The size that counts is the one that the run was told.
#[test]
fn a_pool_has_the_size_that_the_run_was_told() {
    let place = Place::new();
    let uses = |id: &str, weight: u32| {
        let mut step = sleep(id, 400, &[]);
        step["uses"] = json!({ "gpu": weight });
        step
    };
    place.file("a.json", json!({ "pools": { "gpu": 4 }, "steps": [uses("a", 3), uses("b", 3)] }).to_string());
    place.file("b.json", json!({ "pools": { "gpu": 2 }, "steps": [calculate("c", "1")] }).to_string());
    place.file("lines.txt", "a.json\nb.json\n");
    let ran = place.run(["run", "--batch", "lines.txt", "--pool", "gpu=4", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let at = |name: &str, step: &str| {
        let events = ran.events();
        let event = events.iter().find(|event| event["ev"] == name && event["step"] == step);
        event.unwrap_or_else(|| panic!("{name} {step}: {ran:?}"))["t"].as_f64().unwrap()
    };
    let apart = at("step.started", "1/b") >= at("step.finished", "1/a");
    assert!(apart || at("step.started", "1/a") >= at("step.finished", "1/b"), "{ran:?}");
}

/// What is large is kept in the journal alone.
#[test]
fn an_answer_that_only_the_journal_has_is_given_out() {
    let place = Place::new();
    place.file("docs/big.txt", "a line of very many lines\n".repeat(7_000));
    plan(&place, "big.json", json!([{ "id": "a", "tool": "read_file", "args": { "path": "big.txt" } }]));
    plan(&place, "wrong.json", json!([calculate("b", "1 +")]));
    for (lines, exit) in [("big.json\nbig.json\n", 0), ("big.json\nwrong.json\n", 1)] {
        place.file("lines.txt", lines);
        let line = ["run", "--batch", "lines.txt", "--files", "docs"];
        let ran = place.run(line.into_iter().chain(["--json"]));
        let last = ran.last_event();
        assert_eq!(ran.exit, exit, "{last}");
        let length = |answer: &Value| answer["text"].as_str().unwrap_or_default().len();
        assert!(length(&last["lines"][0]["answer"]) > 150_000, "{lines}");
        for ran in [place.run(line), place.run(["resume", last["run"].as_str().unwrap()])] {
            assert!(ran.stdout.starts_with("# 1  big.json\n\n") && ran.stdout.len() > 150_000, "{}", ran.stderr);
        }
    }
}

#[test]
fn a_line_that_a_fork_leaves_out_has_not_failed() {
    let place = Place::new();
    plan(&place, "good.json", json!([sleep("a", 1, &[])]));
    plan(&place, "wrong.json", json!([calculate("b", "1 +")]));
    place.file("lines.txt", "good.json\nwrong.json\n");
    let run = place.run(["run", "--batch", "lines.txt", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    let ran = place.run(["fork", &run, "--without", "2", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["error"]), (0, &Value::Null), "{ran:?}");
    assert_eq!(states(&ran), [(1, "succeeded".to_owned()), (2, "left_out".to_owned())]);
    let ran = place.run(["fork", &run, "--without", "2"]);
    assert!(ran.stderr.contains(" - 2  wrong.json") && !ran.stderr.contains("error["), "{}", ran.stderr);
    // What has failed is told of without it.
    let ran = place.run(["fork", &run, "--without", "1"]);
    assert!(ran.exit == 1 && ran.stderr.contains("1 of 1 line failed"), "{}", ran.stderr);
}
