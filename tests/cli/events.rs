//! The lines of `--json`.

use serde_json::{Value, json};

use crate::support::{Place, calculate, sleep};

/// What scripts rely on: every line is JSON with these four, and time does not go back.
#[test]
fn every_line_has_its_four_names() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7"), calculate("b", "1 / 0"), sleep("c", 1, &["b"]), sleep("d", 1, &["a"])]));
    let ran = place.run(["run", "plan.json", "--json"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert_eq!(ran.stderr, "");
    let events = ran.events();
    let mut before = 0.0;
    for event in &events {
        assert_eq!(event["v"], 1, "{event}");
        assert!(event["run"].is_string() && event["ev"].is_string(), "{event}");
        let t = event["t"].as_f64().unwrap();
        assert!(t >= before, "{event}");
        before = t;
        assert_eq!(event["run"], events[0]["run"]);
    }
    let line = ran.stdout.lines().next().unwrap();
    assert!(line.starts_with(r#"{"v":1,"t":0.0,"run":""#), "{line}");
}

#[test]
fn each_step_starts_and_finishes_once() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7"), calculate("b", "1 / 0"), sleep("c", 1, &["b"]), sleep("d", 1, &["a"])]));
    let events = place.run(["run", "plan.json", "--json"]).events();
    let of = |step: &str, ev: &str| -> Vec<Value> {
        events.iter().filter(|event| event["step"] == step && event["ev"] == ev).cloned().collect()
    };
    for (step, state) in [("a", "succeeded"), ("b", "failed"), ("c", "skipped"), ("d", "succeeded")] {
        let finished = of(step, "step.finished");
        assert_eq!(finished.len(), 1, "{step}");
        assert_eq!(finished[0]["state"], state, "{step}");
        assert_eq!(finished[0]["gen"], 1, "{step}");
        assert_eq!(of(step, "step.started").len(), usize::from(state != "skipped"), "{step}");
    }
    let failed = &of("b", "step.finished")[0];
    assert_eq!(failed["kind"], "bad_input");
    assert!(failed["error"].as_str().unwrap().contains("division by zero"));
    assert_eq!(of("c", "step.finished")[0]["because"], "b");
}

#[test]
fn the_last_line_has_the_answer_and_the_times() {
    let place = Place::new();
    place.plan(json!([calculate("a", "6 * 7")]));
    let ran = place.run(["run", "plan.json", "--json"]);
    let last = ran.last_event();
    assert_eq!((ran.exit, &last["ev"], &last["state"]), (0, &json!("run.finished"), &json!("succeeded")));
    assert_eq!(last["answer"]["result"], 42);
    assert_eq!(last["steps"], json!({ "all": 1, "succeeded": 1, "failed": 0, "skipped": 0, "unfinished": 0 }));
    assert_eq!(last["critical_path"][0]["step"], "a");
    assert!(["ms", "work_ms", "critical_ms", "bound_ms"].iter().all(|name| last[name].is_u64()), "{last}");
}

#[test]
fn a_failed_run_says_why_in_its_last_line() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 / 0"), sleep("b", 1, &["a"])]));
    let ran = place.run(["run", "plan.json", "--json"]);
    let last = ran.last_event();
    assert_eq!((ran.exit, &last["exit"], &last["state"]), (1, &json!(1), &json!("failed")));
    assert_eq!(last["answer"], Value::Null);
    assert_eq!(last["error"]["code"], "step.bad_input");
}

#[test]
fn a_retry_is_an_event_of_its_own() {
    let place = Place::new();
    let mut step = sleep("slow", 60_000, &[]);
    step["timeout_ms"] = json!(5);
    step["retry"] = json!({ "max_attempts": 2, "base_ms": 1, "max_ms": 1 });
    place.plan(json!([step]));
    let ran = place.run(["run", "plan.json", "--json"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let seen: Vec<(Value, Value)> = ran
        .events()
        .iter()
        .filter(|event| event["step"] == "slow")
        .map(|event| (event["ev"].clone(), event["attempt"].clone()))
        .collect();
    let expected =
        [("step.started", 1), ("step.retrying", 1), ("step.ready", 1), ("step.started", 2), ("step.finished", 2)];
    assert_eq!(seen, expected.map(|(ev, attempt)| (json!(ev), json!(attempt))));
}

#[test]
fn where_nothing_was_called_no_attempt_is_counted() {
    let place = Place::new();
    let [mut not, mut lost] = ["not", "lost"].map(|id| sleep(id, 1, &["a"]));
    not["when"] = json!("${a.result} == 0");
    lost["args"]["ms"] = json!("${a.nothing}");
    place.plan(json!([calculate("a", "6 * 7"), not, lost]));
    let events = place.run(["run", "plan.json", "--json"]).events();
    let finished = events.iter().filter(|event| event["ev"] == "step.finished");
    let mut seen: Vec<_> = finished.map(|event| (&event["step"], &event["state"], &event["attempt"])).collect();
    seen.sort_by_key(|(step, ..)| step.as_str());
    let expected = [("a", "succeeded", 1), ("lost", "failed", 0), ("not", "skipped", 0)];
    let expected = expected.map(|(step, state, attempt)| (json!(step), json!(state), json!(attempt)));
    assert_eq!(seen, expected.each_ref().map(|(step, state, attempt)| (step, state, attempt)));
    assert_eq!(events.last().map(|last| &last["attempts"]), Some(&json!(1)));
}

/// At no instant are more steps running than there are slots: each line is in the order in which things happened.
#[test]
fn caps_hold_at_every_instant() {
    let place = Place::new();
    let steps: Vec<Value> = (0..12).map(|n| sleep(&format!("s{n}"), 3, &[])).collect();
    place.plan(json!(steps));
    for (arguments, cap) in [
        (vec!["--sequential"], 1),
        (vec!["--max-parallel", "3"], 3),
        (vec!["--pool", "sleep=2"], 2),
        (vec!["--pool", "calculate=1"], 12),
    ] {
        let ran = place.run(["run", "plan.json", "--json"].into_iter().chain(arguments.iter().copied()));
        let (mut running, mut most) = (0_i32, 0);
        for event in ran.events() {
            match event["ev"].as_str().unwrap() {
                "step.started" => running += 1,
                "step.finished" => running -= 1,
                _ => {}
            }
            most = most.max(running);
        }
        assert_eq!((most, running), (cap, 0), "{arguments:?}");
    }
}

#[test]
fn errors_before_the_run_are_lines_too() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &["b"]), { "id": "c", "tool": "slep" }]));
    for (arguments, code, exit) in [
        (vec!["run", "plan.json", "--json"], "plan.unknown_dep", 3),
        (vec!["check", "plan.json", "--json"], "plan.unknown_dep", 3),
        (vec!["run", "an objective", "--json"], "config.no_planner", 5),
        (vec!["run", "missing.json", "--json"], "usage.missing_file", 2),
        (vec!["run", "plan.json", "--json", "--nonsense"], "usage.arguments", 2),
    ] {
        let ran = place.run(&arguments);
        assert_eq!((ran.exit, ran.stderr.as_str()), (exit, ""), "{arguments:?}");
        let error = ran.last_event();
        assert_eq!(
            (&error["ev"], &error["code"], &error["exit"]),
            (&json!("error"), &json!(code), &json!(exit)),
            "{error}"
        );
        assert_eq!((&error["v"], &error["t"], &error["run"]), (&json!(1), &json!(0.0), &Value::Null));
        if exit == 3 {
            let problems = error["problems"].as_array().unwrap();
            assert_eq!(problems.len(), 2, "all at once: {error}");
            assert_eq!(problems[0]["places"][0]["line"], 1);
        }
    }
}
