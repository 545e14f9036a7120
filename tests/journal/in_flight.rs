//! `kill -9` while a plan is being written, an expansion goes on, or a failure in it or beside it is being replanned.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::future::BoxFuture;
use plandag::journal::{Journal as _, SqliteJournal};
use plandag::{
    Patch, Plan, PlanError, PlanReason, PlanReply, PlanRequest, PlanSink, Planner, Runner, Step, StepContext,
    StepError, Tool, ToolOutput, ToolSpec, tool_fn,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kills::{MOST_KILLS_OF_A_RUN, kills, no_repetition};
use crate::support::query;

/// A step that appends its start and its end to the witness.
fn work(id: &str, ms: u64) -> Step {
    Step::new(id, "work").args(json!({ "ms": ms }))
}

/// Writes its plan step by step, then answers a failure first with a revision that cannot be, and then with a good one.
struct Slow;

impl Planner for Slow {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            let pause = || tokio::time::sleep(Duration::from_millis(10));
            let join =
                |bad: &str| Step::new("join", "gather").args(json!({ "each": "${each}" })).depends_on(["a", bad]);
            let patch = |new: &str| Patch {
                add: vec![Arc::new(work("good", 10))],
                change: vec![Arc::new(join(new))],
                drop: vec!["bad".into()],
                answer: None,
            };
            Ok(match request.reason {
                PlanReason::First => {
                    let steps = [
                        work("a", 30),
                        work("list", 5),
                        Step::new("bad", "fails").depends_on(["list"]),
                        Step::new("each", "spread").depends_on(["list"]),
                        join("bad"),
                    ];
                    for step in &steps {
                        pause().await;
                        sink.step(step.clone());
                    }
                    pause().await;
                    Plan::from_iter(steps).into()
                }
                PlanReason::Failures => {
                    pause().await;
                    patch("nowhere").into()
                }
                _ => {
                    pause().await;
                    patch("good").into()
                }
            })
        })
    }
}

/// Becomes three steps, of which the last one fails; then another one in its place.
struct Spread;

impl Tool for Spread {
    fn spec(&self) -> ToolSpec {
        ToolSpec { replans: true, ..ToolSpec::new("spread", "") }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        let last = match &cx.expansion {
            None => Step::new("n2", "fails").depends_on(["n0"]),
            Some(before) => {
                assert_eq!(before.finished.len(), 2);
                work("n3", 12).depends_on(["n0"])
            }
        };
        let plan = Plan::from_iter([work("n0", 10), work("n1", 11), last]);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(plan.into())
        })
    }
}

fn runner(witness: PathBuf) -> Runner {
    let write = move |line: String| {
        let mut file = OpenOptions::new().append(true).create(true).open(&witness)?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    let work = tool_fn(move |cx| {
        let write = write.clone();
        async move {
            write(format!("start {}", cx.id))?;
            tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or_default())).await;
            write(format!("end {}", cx.id))?;
            Ok(format!("did {}", cx.id))
        }
    });
    Runner::new(Slow)
        .tool("work", work)
        .tool("fails", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("no luck")) }))
        .tool("spread", Spread)
        .tool("gather", tool_fn(|cx| async move { Ok(cx.args) }))
}

/// What the test below starts, kills and starts again: it runs, or goes on with, the one run in its folder.
#[test]
#[ignore = "run by the test below"]
fn the_program() {
    let folder = PathBuf::from(std::env::var("PLANDAG_TEST_FOLDER").expect("it is started by a test"));
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let journal = Arc::new(SqliteJournal::open(folder.join("runs.db")).unwrap());
        let runner = runner(folder.join("witness")).journal(Arc::clone(&journal));
        let report = match journal.runs().await.unwrap().first() {
            Some(summary) => runner.resume(summary.run.clone()).await.unwrap(),
            None => runner.run("in flight").await.unwrap(),
        };
        assert_eq!((report.replans(), report.revisions()), (1, 2));
        report.answer().unwrap().to_string()
    });
    fs::write(folder.join("answer.part"), answer).unwrap();
    fs::rename(folder.join("answer.part"), folder.join("answer")).unwrap();
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_flight::the_program", "--ignored", "--nocapture"])
        .env("PLANDAG_TEST_FOLDER", folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn witnessed(folder: &TempDir) -> Vec<String> {
    let log = fs::read_to_string(folder.path().join("witness")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// As many kills as [`kills`] says.
#[test]
fn expansions_and_replans_go_on_where_they_were() {
    let undisturbed = tempfile::tempdir().unwrap();
    assert!(start(undisturbed.path()).wait().unwrap().success());
    let expected = fs::read_to_string(undisturbed.path().join("answer")).unwrap();
    assert_eq!(expected, r#"{"each":{"n1":"did each/n1","n3":"did each/n3"}}"#);

    let mut rng = fastrand::Rng::new();
    let mut done = 0;
    while done < kills() {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged = BTreeSet::new();
        let mut killed = 0;
        loop {
            let seed = rng.get_seed();
            let before = witnessed(&folder);
            let mut child = start(folder.path());
            if done < kills() && killed < MOST_KILLS_OF_A_RUN && rng.u8(..) > 32 {
                thread::sleep(Duration::from_micros(rng.u64(1_000..160_000)));
                done += u64::from(child.try_wait().unwrap().is_none());
                killed += 1;
                child.kill().unwrap();
                child.wait().unwrap();
            } else {
                assert!(child.wait().unwrap().success(), "seed {seed}");
            }
            no_repetition(&acknowledged, &before, &witnessed(&folder), seed);
            let journal = folder.path().join("runs.db");
            if journal.exists() {
                assert_eq!(query(&journal, "PRAGMA integrity_check"), ["ok"], "seed {seed}");
                let sql = "SELECT step FROM steps WHERE state = 'succeeded'";
                acknowledged = query(&journal, sql).into_iter().collect();
            }
            if let Ok(answer) = fs::read_to_string(folder.path().join("answer")) {
                assert_eq!(answer, expected, "seed {seed}");
                break;
            }
        }
        in_order(&witnessed(&folder));
    }
}

/// Children and replacements start after what they follow has ended for the last time.
fn in_order(witnessed: &[String]) {
    for (step, before) in [("each/n0", "list"), ("each/n1", "list"), ("each/n3", "each/n0"), ("good", "list")] {
        let first = witnessed.iter().position(|line| *line == format!("start {step}")).unwrap();
        let ended = witnessed[..first].contains(&format!("end {before}"));
        let again = witnessed[first..].contains(&format!("start {before}"));
        assert!(ended && !again, "{step} and {before}: {witnessed:?}");
    }
}
