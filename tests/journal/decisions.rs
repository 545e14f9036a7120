//! What a person says about a step is taken if it can be read back, and otherwise refused: the run stays as it was.

use std::sync::Arc;
use std::time::Duration;

use plandag::history::{History, Told};
use plandag::journal::{Journal as _, Letter, SqliteJournal};
use plandag::{Decision, JournalError, Output, Plan, RunError, Runner, Step, StepState, StoredOutput, tool_fn};
use serde_json::json;

use super::depth::deep;
use super::support::Place;

/// Decisions that no run can take up, and what is said about them.
fn unfit() -> Vec<(Decision, &'static str)> {
    let value = |value| Decision::Succeeded(Output::inline(value));
    let output = Decision::Succeeded;
    vec![
        (value(deep(101)), "deeper than 100"),
        (value(deep(300)), "deeper than 100"),
        (value((0..200_000).fold(json!(0), |value, _| vec![value].into())), "deeper than 100"),
        (value(json!("x".repeat(33 << 20))), "larger than 33554432 bytes"),
        (output(Output::Gathered(vec![("pay".into(), 0)].into())), "not given as a value"),
        (output(Output::Stored(StoredOutput::of("nowhere".into(), "17").into())), "not given as a value"),
    ]
}

fn expect_refusal(error: RunError, why: &str) {
    assert!(error.to_string().contains(why), "{error}");
    assert!(matches!(error, RunError::Journal(JournalError::BadDecision { .. })), "{error:?}");
}

/// A run in which nobody knows what became of `pay`.
fn paying(journal: &Arc<SqliteJournal>, steps: impl IntoIterator<Item = Step>) -> Runner {
    let pay = Step::new("pay", "pay").timeout_ms(20);
    Runner::new(Plan::from_iter(std::iter::once(pay).chain(steps)).answer("pay"))
        .tool("pay", tool_fn(|_| std::future::pending::<Result<(), _>>()).acts())
        .tool("wait", tool_fn(|_| std::future::pending::<Result<(), _>>()))
        .journal(Arc::clone(journal))
}

#[tokio::test]
async fn what_could_not_be_read_back_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap());
    let runner = paying(&journal, []);
    let run = runner.run("pay").await.unwrap().run().clone();
    for (decision, why) in unfit() {
        expect_refusal(runner.decide(&run, 0, decision).await.unwrap_err(), why);
    }
    let deepest = deep(100);
    let decision = Decision::Succeeded(Output::inline(deepest.clone()));
    assert_eq!(runner.decide(&run, 0, decision).await.unwrap(), Told::Recorded);
    assert_eq!(*runner.resume(&run).await.unwrap().answer().unwrap(), deepest);
    assert_eq!(*History::load(&*journal, &run).await.unwrap().report().answer().unwrap(), deepest);
}

#[tokio::test]
async fn a_run_that_goes_on_takes_up_nothing_that_could_not_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap());
    let handle = paying(&journal, [Step::new("rest", "wait")]).start("pay");
    let state = || handle.view().steps.first().map(|step| step.state);
    while !matches!(state(), Some(StepState::Unknown(_))) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (decision, why) in unfit() {
        expect_refusal(handle.decide(0, decision).unwrap_err(), why);
    }
    // One that somebody has left who did not ask first.
    let decision = Decision::Succeeded(Output::inline(deep(110)));
    journal.leave(handle.id(), &Letter { step: 0, attempt: Some(0), decision }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(), Some(StepState::Unknown(0)));
    handle.decide(0, Decision::Succeeded(Output::inline(json!(17)))).unwrap();
    while state() != Some(StepState::Succeeded) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let run = handle.id().clone();
    handle.cancel_now();
    handle.await.unwrap();
    History::load(&*journal, &run).await.unwrap();
}

#[test]
fn the_command_says_why_it_does_not_record_what_became_of_a_step() {
    let place = Place::new();
    let pay = json!({ "id": "pay", "tool": "shell", "timeout_ms": 100, "args": { "argv": ["sleep", "60"] } });
    place.plan(json!([pay]));
    assert_eq!(place.run("run plan.json --allow shell").exit, Some(9));
    let run = place.query("SELECT run FROM runs").remove(0);
    let refused = place.run(&format!("resolve {run} pay --succeeded {}", deep(101)));
    let said = "error[journal.bad_decision]: the decision cannot be recorded: the result nests deeper than 100\n";
    assert!(refused.exit == Some(2) && refused.stderr.contains(said), "{refused:?}");
    let taken = place.run(&format!("resolve {run} pay --succeeded {}", deep(100)));
    assert_eq!(taken.exit, Some(0), "{taken:?}");
    assert_eq!(place.run(&format!("resume {run}")).exit, Some(0));
}
