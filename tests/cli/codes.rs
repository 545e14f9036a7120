//! Every error code has a page, and every page a code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plandag::report::ExitCode;
use serde_json::json;

use crate::support::{Place, calculate};

const GROUPS: [&str; 17] = [
    "batch", "bench", "trace", "plan", "planner", "step", "replan", "limit", "run", "config", "usage", "confirm",
    "journal", "internal", "provider", "model", "serve",
];

#[test]
fn every_code_in_the_sources_is_explained_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = codes(&fs::read_to_string(root.join("src/error.rs")).unwrap());
    for part in ["src/cli", "src/history", "src/web"] {
        for file in rust_files(&root.join(part)) {
            used.extend(codes(&fs::read_to_string(file).unwrap()));
        }
    }
    assert!(used.len() > 40, "the reader of sources finds too little: {used:?}");
    let list = Place::new().run(["explain"]);
    let explained: BTreeSet<String> =
        list.stdout.lines().filter_map(|line| line.split("  ").next()).map(str::to_owned).collect();
    assert_eq!(used, explained);
}

#[test]
fn a_page_says_what_it_is_about_and_what_to_do() {
    let place = Place::new();
    let page = place.run(["explain", "error[plan.cycle]"]);
    assert_eq!(page.exit, 0);
    assert!(page.stdout.starts_with("plan.cycle\n\nSome steps wait for each other"), "{}", page.stdout);
    assert!(page.stdout.lines().all(|line| line.len() <= 120));
}

#[test]
fn the_table_of_exit_codes_is_that_of_the_library() {
    let table = Place::new().run(["help", "exit-codes"]);
    for code in ExitCode::ALL {
        let line = table.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{} ", code.code())));
        assert!(line.is_some_and(|line| line.ends_with(code.meaning())), "{code:?}\n{}", table.stdout);
    }
    let rows = table.stdout.lines().take_while(|line| !line.is_empty());
    assert_eq!(rows.count(), ExitCode::ALL.len() + 1);
}

#[test]
fn the_table_of_exit_codes_says_what_goes_on_with_a_run() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 / 0")]));
    let ran = place.run(["run", "plan.json", "--json"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let run = ran.last_event()["run"].as_str().unwrap().to_owned();
    let (resumed, retried) = (place.run(["resume", &run]), place.run(["retry", &run, "--json"]));
    assert!(resumed.exit == 1 && resumed.stderr.contains(&format!("plandag retry {run}")), "{resumed:?}");
    assert_ne!(retried.last_event()["run"], json!(run), "{retried:?}");
    let table = place.run(["help", "exit-codes"]).stdout;
    let row = table.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap();
    assert!(row.contains("retry") && !row.contains("resume"), "{row}");
    assert!(table.lines().all(|line| line.len() <= 120), "{table}");
}

fn codes(source: &str) -> BTreeSet<String> {
    let is_code = |text: &&str| match text.split_once('.') {
        Some((group, name)) => {
            GROUPS.contains(&group) && !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }
        None => false,
    };
    // Names of events look like codes; those of a kind of event are not.
    let events = [
        "run.started",
        "run.resumed",
        "run.stopping",
        "run.finished",
        "run.stopped",
        "plan.requested",
        "plan.accepted",
        "plan.rejected",
        "step.drafted",
        "step.expanded",
        "step.ready",
        "step.unapproved",
        "step.approved",
        "step.started",
        "step.retrying",
        "step.unknown",
        "step.finished",
    ];
    source
        .split('"')
        .filter(is_code)
        .filter(|code| !events.contains(code) && !code.ends_with(".json"))
        .map(str::to_owned)
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
