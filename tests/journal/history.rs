//! What a journal says about runs that are over, and the same runs again.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Place, Ran};

/// One branch fails, the other does not.
fn steps() -> Value {
    let sum =
        |id: &str, expression: &str| json!({ "id": id, "tool": "calculate", "args": { "expression": expression } });
    json!([
        { "id": "wait", "tool": "sleep", "args": { "ms": 5 } },
        sum("broken", "1 +"),
        sum("below", "${broken.result} + 1"),
        { "id": "good", "tool": "calculate", "args": { "expression": "6 * 7" }, "depends_on": ["wait"] },
        sum("last", "${good.result} + 1"),
    ])
}

fn failed_run() -> (Place, String) {
    let place = Place::new();
    place.plan(steps());
    assert_eq!(place.run("run plan.json -q").exit, Some(1));
    let run = place.query("SELECT run FROM runs").remove(0);
    (place, run)
}

fn line(ran: &Ran) -> Value {
    serde_json::from_str(ran.stdout.lines().next().expect("a line")).unwrap()
}

#[test]
fn runs_are_listed_and_filtered() {
    let (place, run) = failed_run();
    let listed = line(&place.run("runs --json"));
    assert_eq!(
        (&listed["run"], &listed["status"], &listed["objective"]),
        (&json!(run), &json!("failed"), &json!("test"))
    );
    for (filter, count) in [
        ("--status failed", 1),
        ("--status succeeded", 0),
        ("--status succeeded --status failed", 1),
        ("--since 1h", 1),
        ("--objective TES", 1),
        ("--objective other", 0),
    ] {
        let ran = place.run(&format!("runs --json {filter}"));
        assert_eq!((ran.exit, ran.stdout.lines().count()), (Some(0), count), "{filter}");
    }
    assert_eq!(place.run("runs --status odd").exit, Some(2));
    assert!(place.run("runs").stdout.contains("✗ failed"));
}

#[test]
fn a_step_of_a_run_that_goes_on_can_be_followed() {
    let place = Place::new();
    let sleep =
        |id: &str, after: &[&str]| json!({ "id": id, "tool": "sleep", "args": { "ms": 700 }, "depends_on": after });
    place.plan(json!([sleep("a", &[]), sleep("b", &["a"])]));
    let mut run = place.start("run plan.json");
    while !place.journal().exists() || place.run("logs a").exit != Some(0) {
        assert!(run.try_wait().unwrap().is_none(), "it is over too soon");
    }
    let now = place.run("logs b").stdout;
    let followed = place.run("logs b --follow");
    assert!(!now.contains("done in"), "{now}");
    assert_eq!(followed.exit, Some(0), "{followed:?}");
    assert!(followed.stdout.contains("started") && followed.stdout.contains("done in"), "{}", followed.stdout);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(place.run("logs b -f").stdout, followed.stdout, "one that is over has nothing to wait for");
}

#[test]
fn a_run_is_shown_with_its_steps_and_their_reasons() {
    let (place, run) = failed_run();
    let shown = place.run(&format!("show {}", &run[..3])).stdout;
    for part in ["1: 5 steps, the first plan", "✓ good", "✗ broken", "because broken failed", "\"result\":43"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let shown: Value = serde_json::from_str(&place.run(&format!("show {run} --json")).stdout).unwrap();
    assert_eq!(shown["steps"].as_array().map(Vec::len), Some(5));
    assert_eq!(shown["steps"][0]["attempts"].as_array().map(Vec::len), Some(1));
    assert!(place.run(&format!("show {run} --output last")).stdout.contains("\"result\": 43"));
    assert!(place.run("logs good").stdout.contains("done in"));
    assert!(place.run("why below").stdout.contains("because `broken` failed: "), "{}", place.run("why below").stdout);
    assert!(place.run("why last").stdout.contains("it waited for `good`"));
    let unknown = place.run("why nobody");
    assert_eq!(unknown.exit, Some(2));
    assert!(unknown.stderr.contains("its steps are wait, broken, below, good, last"), "{}", unknown.stderr);
}

#[test]
fn a_run_that_is_not_there_is_said_not_to_be() {
    let (place, run) = failed_run();
    let missing = place.run("show nothing");
    assert_eq!(missing.exit, Some(2));
    assert!(missing.stderr.starts_with("error[journal.unknown_run]: there is no run `nothing`"), "{}", missing.stderr);
    // Every id begins with the empty text, and so does nothing in particular.
    for _ in 0..40 {
        place.run("run plan.json -q");
    }
    let ids = place.query("SELECT run FROM runs");
    let twice =
        ids.iter().find(|id| **id != run && ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let ambiguous = place.run(&format!("show {}", &twice[..1]));
    assert_eq!(ambiguous.exit, Some(2));
    assert!(ambiguous.stderr.contains("could be") && ambiguous.stderr.contains(twice.as_str()), "{}", ambiguous.stderr);
}

#[test]
fn what_failed_is_run_again_and_the_rest_is_taken_over() {
    let (place, run) = failed_run();
    let again = place.run(&format!("retry {run}"));
    assert_eq!(again.exit, Some(1));
    assert!(
        again.stderr.contains("3 reused, 1 run again (broken), 1 run for the first time (below)"),
        "{}",
        again.stderr
    );
    assert!(!again.stderr.contains("good  "), "{}", again.stderr);

    // With the one that fails left out, the run can come to its end.
    place.plan(json!([
        { "id": "a", "tool": "calculate", "args": { "expression": "1 +" } },
        { "id": "b", "tool": "calculate", "args": { "expression": "2 + 2" } },
        { "id": "c", "tool": "calculate", "args": { "expression": "3 * ${b.result}" }, "depends_on": ["a"] },
    ]));
    assert_eq!(place.run("run plan.json -q").exit, Some(1));
    let run = line(&place.run("runs --json"))["run"].as_str().unwrap().to_owned();
    let forked = place.run(&format!("fork {run} --without a"));
    assert_eq!(forked.exit, Some(0), "{forked:?}");
    assert!(forked.stderr.contains("1 reused, 1 run for the first time (c), 1 left out (a)"), "{}", forked.stderr);
    assert!(forked.stdout.contains("\"result\": 12"), "{}", forked.stdout);

    let newer = line(&place.run("runs --json"))["run"].as_str().unwrap().to_owned();
    let set = place.run(&format!("fork {newer} --from b --set expression=5+5"));
    assert!(set.stderr.contains("2 run again (b, c)") && set.stdout.contains("\"result\": 30"), "{set:?}");
    let never = place.run(&format!("fork {run} --from c"));
    assert_eq!(never.exit, Some(2));
    assert!(never.stderr.contains("step `c` never ran"), "{}", never.stderr);
}

#[test]
fn a_run_is_exported() {
    let (place, run) = failed_run();
    let events = place.run(&format!("export {run}")).stdout;
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "run_started");
    assert!((0..).zip(&events).all(|(seq, event)| event["seq"] == json!(seq) && event["run"] == json!(run)));
    let trace: Value = serde_json::from_str(&place.run(&format!("export {run} --format trace")).stdout).unwrap();
    let slices = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    assert_eq!(slices.count(), 4);
    assert!(place.run(&format!("export {run} --format mermaid")).stdout.starts_with("flowchart"));
    assert!(place.run(&format!("export {run} --format dot")).stdout.starts_with("digraph"));
}

#[test]
fn a_step_that_was_interrupted_while_it_acted_is_decided_about() {
    for (decision, exit, starts) in [("--retry", 0, 2), ("--succeeded {\"stdout\":\"paid\"}", 0, 1), ("--failed", 1, 1)]
    {
        let place = Place::new();
        let pay = "echo start pay >> ../witness; [ -e ../slow ] && sleep 10; echo paid";
        place.plan(json!([
            { "id": "pay", "tool": "shell", "args": { "argv": ["sh", "-c", pay] } },
            { "id": "thank", "tool": "quote", "args": {}, "when": "${pay.stdout} == \"never\"" },
        ]));
        std::fs::write(place.path("slow"), "").unwrap();
        let mut child = place.start("run plan.json --allow shell");
        while place.witnessed().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(place.path("slow")).unwrap();
        let run = place.query("SELECT run FROM runs").remove(0);
        let retried = place.run(&format!("retry {run}"));
        assert!(retried.exit == Some(2) && retried.stderr.contains("nobody knows whether step `pay`"), "{retried:?}");
        let stopped = place.run(&format!("resume {run}"));
        assert_eq!(stopped.exit, Some(9), "{stopped:?}");
        let retried = place.run(&format!("retry {run}"));
        assert!(retried.exit == Some(2) && retried.stderr.contains(&format!("resolve {run} pay")), "{retried:?}");
        assert!(stopped.stderr.contains(&format!("plandag resolve {run} pay")), "{}", stopped.stderr);
        assert_eq!(place.run(&format!("approve {run} pay")).exit, Some(2));
        let resolved = place.run(&format!("resolve {run} pay {decision}"));
        assert_eq!(resolved.exit, Some(0), "{resolved:?}");
        assert_eq!(place.run(&format!("resume {run} -q")).exit, Some(exit), "{decision}");
        assert_eq!(place.witnessed().len(), starts, "{decision}");
    }
}

#[test]
fn the_demo_says_how_it_ended_and_where_it_is() {
    let place = Place::new();
    let forgotten = place.run("demo --no-journal");
    assert_eq!(forgotten.exit, Some(0), "{forgotten:?}");
    assert!(forgotten.stderr.contains("succeeded") && !forgotten.stderr.contains("plandag show"), "{forgotten:?}");
    let mut child = place.command("demo").stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("ask-north")));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let said: String = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(!said.contains("succeeded") && said.contains("plandag show"), "{said}");
}

#[test]
fn the_demo_is_killed_and_goes_on() {
    let place = Place::new();
    let shown = place.run("demo --crash");
    assert_eq!(shown.exit, Some(0), "{shown:?}");
    assert!(
        shown.stderr.contains("SIGKILL") && shown.stderr.contains("3 reused, 5 run, 0 repeated"),
        "{}",
        shown.stderr
    );
    assert!(shown.stderr.contains("south-by-phone"), "{}", shown.stderr);
}
