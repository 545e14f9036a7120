//! What is secret is taken out of texts. What programs read stays what it is: the names that a run is put together with,
//! and what makes a plan a plan and a page a page.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, Ran, calculate};

const CANARY: &str = "hush-canary-8a1f09c26de7";
const FORMATS: [&str; 5] = ["ndjson", "trace", "mermaid", "dot", "svg"];

/// Runs the command where a password is this.
fn with_password(place: &Place, password: &str, arguments: &[&str]) -> Ran {
    let ran: Ran = place.command(arguments).env("DB_PASSWORD", password).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran
}

#[test]
fn a_name_that_is_a_password_stays_a_name() {
    let place = Place::new();
    place.plan(json!([
        { "id": "postgres", "tool": "sleep", "description": "Wait for postgres.", "args": { "ms": 20 } },
        { "id": "after", "tool": "calculate", "args": { "expression": "${postgres.slept_ms} + 22" } },
    ]));
    let run = |arguments: &[&str]| with_password(&place, "postgres", arguments);
    run(&["plan", "plan.json", "-o", "planned.json"]);
    let plan: Value = serde_json::from_slice(&fs::read(place.path().join("planned.json")).unwrap()).unwrap();
    assert_eq!(plan["steps"][0]["id"], "postgres", "{plan}");
    assert_eq!(plan["steps"][0]["description"], "Wait for [redacted].", "{plan}");
    let ran = run(&["run", "planned.json", "--json"]);
    let last = ran.last_event();
    assert_eq!(
        (&last["answer"]["result"], &last["critical_path"][0]["step"]),
        (&json!(42), &json!("postgres")),
        "{last}"
    );
    let id = last["run"].as_str().unwrap();
    let shown = run(&["show", id, "--json"]).last_event();
    assert_eq!((&shown["steps"][0]["step"], &shown["plans"][0]["added"][0]), (&json!("postgres"), &json!("postgres")));
    for format in FORMATS {
        let exported = run(&["export", id, "--format", format]).stdout;
        assert!(exported.contains("postgres"), "{format}: {exported}");
        assert!(!exported.contains("Wait for postgres"), "{format}: {exported}");
    }
    for format in ["text", "mermaid", "dot", "svg"] {
        let drawn = run(&["graph", "plan.json", "--format", format]).stdout;
        assert!(drawn.contains("postgres"), "{format}: {drawn}");
    }
}

#[test]
fn a_password_that_is_a_word_of_pages_changes_no_page() {
    let place = Place::new();
    let mut step = calculate("a", "6 * 7");
    step["description"] = "by default".into();
    place.plan(json!([step]));
    assert_eq!(place.run(["run", "plan.json"]).exit, 0);
    let page = with_password(&place, "default", &["report"]).stdout;
    assert!(page.contains("default-src 'none'") && !page.contains("by default"), "{page}");
}

/// A record can have been written by somebody to whom this was no secret.
#[cfg(unix)]
#[test]
fn what_is_secret_by_now_is_shown_nowhere() {
    let place = Place::new();
    let told = format!("printf '%070000d {CANARY}' 1; printf '{CANARY}\\n' >&2");
    let fails = format!("echo {CANARY} >&2; exit 1");
    let shell = |id: &str, script: &str| {
        json!({ "id": id, "tool": "shell", "description": CANARY, "args": { "argv": ["sh", "-c", script, CANARY] },
                "on_failure": "continue" })
    };
    place.plan(json!([shell("tells", &told), shell("fails", &fails), shell("ends", &told)]));
    let ran = place.run(["run", "plan.json", "--allow", "shell", "--input", &format!("x={CANARY}"), "--json"]);
    assert!(ran.stdout.contains(CANARY), "{ran:?}");
    let id = ran.last_event()["run"].as_str().unwrap().to_owned();
    let mut asked: Vec<Vec<&str>> = FORMATS.iter().map(|format| vec!["export", &id, "--format", format]).collect();
    asked.extend([
        vec!["report", &id],
        vec!["show", &id],
        vec!["show", &id, "--json"],
        vec!["show", &id, "--output", "tells"],
        vec!["logs", "fails", "--json"],
        vec!["logs", "fails"],
        vec!["why", "fails", "--json"],
        vec!["replay", &id, "--speed", "1000"],
        vec!["runs", "--json"],
        vec!["graph", "plan.json", "--format", "svg"],
        vec!["plan", "plan.json", "--allow", "shell"],
    ]);
    for arguments in asked {
        let ran = with_password(&place, CANARY, &arguments);
        assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "{arguments:?}");
        let at = (ran.stdout.clone() + &ran.stderr).find("canary");
        assert_eq!(at, None, "{arguments:?}: {}", &ran.stdout[..ran.stdout.len().min(2_000)]);
    }
}
