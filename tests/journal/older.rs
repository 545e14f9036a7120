//! Journals of older releases open, and their runs go on.
//!
//! `schema-N.db` is a journal as a release wrote it whose layout had the number N. Whoever changes the layout adds one
//! of the number before (`cargo test --test journal make_a_journal -- --ignored`, on the release), and leaves those that
//! are there alone.

use std::fs;
use std::path::{Path, PathBuf};

use plandag::history::{Changes, History};
use plandag::journal::{Journal as _, RunId, SCHEMA_VERSION, SqliteJournal};
use plandag::{
    Limits, Patch, Plan, PlanReason, PlanRequest, Revision, RunReport, Runner, Step, StepError, planner_fn, tool_fn,
};
use serde_json::{Value, json};

use crate::support::{Place, query};

/// So often repeated, an id has a place of its own in the journal.
const LARGE: usize = 11_000;

/// A run with every kind of event that is usual: a failure, a revision, an expansion, a large result.
fn runner() -> Runner {
    let say = |id: &str| Step::new(id, "say").args(json!({ "what": id }));
    let first = move || {
        Plan::from_iter([
            say("a"),
            Step::new("each", "spread").depends_on(["a"]),
            Step::new("bad", "fails").depends_on(["a"]),
            Step::new("join", "gather").args(json!({ "each": "${each}", "a": "${a}" })).depends_on(["bad"]),
        ])
    };
    let patch = move || Patch {
        add: vec![say("good").depends_on(["a"]).into()],
        change: vec![Step::new("join", "gather").args(json!({ "each": "${each}", "good": "${good}" })).into()],
        drop: vec!["bad".into()],
        answer: None,
    };
    let planner = planner_fn(move |request: PlanRequest| async move {
        Ok(match request.reason {
            PlanReason::First => Revision::Plan(first()),
            _ => Revision::Patch(patch()),
        })
    });
    let spread = move || Plan::from_iter([Step::new("x", "large"), say("y")]);
    Runner::new(planner)
        .tool("say", tool_fn(|cx| async move { Ok(cx.args["what"].clone()) }))
        .tool("spread", tool_fn(move |_| async move { Ok(spread()) }))
        .tool("large", tool_fn(|cx| async move { Ok(cx.id.as_str().repeat(LARGE)) }))
        .tool("fails", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("no luck")) }))
        .tool("gather", tool_fn(|cx| async move { Ok(cx.args) }))
        .max_parallel(1)
}

fn answer() -> Value {
    json!({ "each": { "x": "each/x".repeat(LARGE), "y": "y" }, "good": "good" })
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal")
}

/// Writes the journal of this release's layout: one run that is finished, one that failed, one that was stopped halfway.
#[test]
#[ignore = "makes what the test below reads, once for each layout"]
fn make_a_journal() {
    let path = fixtures().join(format!("schema-{SCHEMA_VERSION}.db"));
    assert!(!path.exists(), "a journal that was written by a release is not written again");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let keep = || SqliteJournal::open_with(&path, Default::default(), None).unwrap();
        runner().journal(keep()).run("finished").await.unwrap();
        runner().max_replans(0).journal(keep()).run("failed").await.unwrap();
        let limits = Limits { attempts: Some(4), ..Limits::default() };
        runner().limits(limits).journal(keep()).run("stopped").await.unwrap();
    });
    fs::remove_dir_all(path.with_extension("db.locks")).unwrap();
}

#[test]
fn an_older_journal_is_copied_before_its_layout_is_changed_and_the_user_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    for version in 1..=SCHEMA_VERSION {
        let place = Place::new();
        let (path, copy) = (place.path("runs.db"), place.path(&format!("runs.db.schema-{version}")));
        fs::copy(fixtures().join(format!("schema-{version}.db")), &path).unwrap();
        let events = |path: &Path| query(path, "SELECT count(*) || ' ' || max(wall_ms) FROM events");
        let before = events(&path);
        let first = place.run("runs --journal runs.db");
        assert_eq!(first.exit, Some(0), "{first:?}");
        assert_eq!(events(&path), before);
        if version == SCHEMA_VERSION {
            assert!(!copy.exists() && !first.stderr.contains("schema"), "{first:?}");
            continue;
        }
        assert!(first.stderr.contains(&format!("runs.db.schema-{version}")), "{first:?}");
        assert_eq!(query(&copy, "SELECT user_version || '' FROM pragma_user_version"), [version.to_string()]);
        assert_eq!(query(&copy, "PRAGMA integrity_check"), ["ok"]);
        assert_eq!(events(&copy), before);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        // It is a journal as any other, and nothing is left beside it.
        let names = || -> std::collections::BTreeSet<_> {
            fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert!(names().iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{:?}", names());
        let again = place.run("runs --journal runs.db");
        assert!(again.exit == Some(0) && !again.stderr.contains("schema"), "{again:?}");
        // A copy that is there is not written over.
        let kept = fs::read(&copy).unwrap();
        fs::copy(fixtures().join(format!("schema-{version}.db")), &path).unwrap();
        assert_eq!(place.run("runs --journal runs.db").exit, Some(0));
        assert!(fs::read(&copy).unwrap() == kept);
    }
}

#[tokio::test]
async fn journals_of_older_releases_open_and_their_runs_go_on() {
    for version in 1..=SCHEMA_VERSION {
        let place = Place::new();
        let path = place.path("runs.db");
        fs::copy(fixtures().join(format!("schema-{version}.db")), &path).unwrap();
        assert_eq!(query(&path, "SELECT user_version || '' FROM pragma_user_version"), [version.to_string()]);
        let journal = std::sync::Arc::new(SqliteJournal::open(&path).unwrap());
        let runs = journal.runs().await.unwrap();
        let run = |objective: &str| -> RunId {
            runs.iter().find(|summary| summary.objective == objective).unwrap().run.clone()
        };
        let finished = History::load(&*journal, &run("finished")).await.unwrap();
        assert_eq!(*finished.report().answer().unwrap(), answer());
        assert_eq!(finished.revisions().len(), 2);

        let resume = async |run: RunId| -> RunReport {
            runner().journal(std::sync::Arc::clone(&journal)).resume(run).await.unwrap()
        };
        assert_eq!(*resume(run("stopped")).await.answer().unwrap(), answer(), "version {version}");
        let failed = History::load(&*journal, &run("failed")).await.unwrap();
        let fork = failed.fork(&Changes::default()).unwrap();
        assert_eq!(fork.again.len() + fork.first.len(), 2, "{fork:?}");
        let new = RunId::random();
        fork.save(&*journal, &new).await.unwrap();
        assert_eq!(*resume(new).await.answer().unwrap(), answer());
        drop(journal);

        assert_eq!(query(&path, "SELECT user_version || '' FROM pragma_user_version"), [SCHEMA_VERSION.to_string()]);
        let checked = place.run("doctor --journal runs.db");
        assert_eq!(checked.exit, Some(0), "{checked:?}");
        assert_eq!(query(&path, "SELECT count(*) || '' FROM runs WHERE status = 'succeeded'"), ["3"]);
        assert_eq!(place.run(&format!("show {} --journal runs.db", finished.report().run())).exit, Some(0));
    }
}
