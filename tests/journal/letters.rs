//! What is decided about a run that another process drives.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::Decision;
use plandag::history::{Told, decide};
use plandag::journal::{Journal, Letter, MemoryJournal, RunId, SqliteJournal};
use serde_json::json;

use crate::support::{Place, witnessed};

/// How long a machine with much else to do may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A step that acts and takes too long, so that nobody knows whether it took effect, and what depends on it; and one that
/// goes on for long.
fn paying(place: &Place) -> (Child, String) {
    let pay = json!({ "id": "pay", "tool": "shell", "timeout_ms": 200, "args": { "argv": ["sleep", "60"] } });
    let mut receipt = witnessed("receipt", 0, &[]);
    receipt["depends_on"] = json!(["pay"]);
    place.plan(json!([pay, receipt, { "id": "other", "tool": "sleep", "args": { "ms": 600_000 } }]));
    let child = place.start("run plan.json --allow shell");
    let unknown = || place.query("SELECT event FROM events WHERE event = 'step_unknown'");
    until("the step is unknown", || place.journal().exists() && is_made(place) && !unknown().is_empty());
    (child, place.query("SELECT run FROM runs").remove(0))
}

fn is_made(place: &Place) -> bool {
    place.query("SELECT name FROM sqlite_master WHERE name = 'runs'").len() == 1
}

/// Ends a run that must have gone on all the while.
fn end(place: &Place, mut child: Child, run: &str) {
    assert_eq!(child.try_wait().unwrap(), None, "the rest goes on");
    assert_eq!(place.run(&format!("cancel {run} --now")).exit, Some(0));
    child.wait().unwrap();
}

#[test]
fn what_became_of_a_step_is_said_while_the_rest_goes_on() {
    let place = Place::new();
    let (child, run) = paying(&place);
    let said = place.run(&format!("resolve {run} pay --succeeded 17"));
    assert_eq!(said.exit, Some(0), "{said:?}");
    assert!(said.stderr.contains(&format!("done: run {run} goes on with it")), "{said:?}");
    until("what depends on it is done", || place.witnessed() == ["start receipt", "end receipt"]);
    let again = place.run(&format!("resolve {run} pay --failed"));
    assert!(again.exit == Some(2) && again.stderr.contains("error[journal.nothing_to_decide]"), "{again:?}");
    end(&place, child, &run);
}

/// The outcome is unknown a second time: what was said about the first does not hold for it.
#[test]
fn what_is_tried_again_asks_again() {
    let place = Place::new();
    let (child, run) = paying(&place);
    for tries in 1..=2 {
        until("it is unknown again", || {
            place.query("SELECT event FROM events WHERE event = 'step_unknown'").len() == tries
        });
        if tries == 2 {
            leave_late(&place, &run);
        }
        let said = place.run(&format!("resolve {run} pay --retry"));
        assert_eq!(said.exit, Some(0), "{said:?}");
    }
    end(&place, child, &run);
    let ready = place.query("SELECT event FROM events WHERE event = 'step_ready'");
    assert_eq!(ready.len(), 2, "each decision was acted on once");
    let failed = place.query("SELECT event FROM events WHERE event = 'step_failed'");
    assert!(failed.is_empty(), "what was said about the first attempt is not about the second");
}

/// Leaves what somebody had to say about the first attempt of the first step, and waits until it was taken.
fn leave_late(place: &Place, run: &str) {
    let journal = SqliteJournal::open(place.journal()).unwrap();
    let letter = Letter { step: 0, attempt: Some(0), decision: Decision::Failed("it did not".into()) };
    let left = tokio::runtime::Runtime::new().unwrap().block_on(journal.leave(&run.into(), &letter));
    left.unwrap();
    until("it was taken", || !has_letter(place));
}

fn has_letter(place: &Place) -> bool {
    let locks = std::fs::read_dir(place.path(".state/plandag/runs.db.locks")).unwrap();
    locks.into_iter().any(|entry| entry.unwrap().path().extension() == Some("letter".as_ref()))
}

/// Who drives the run stands still, is killed, and has not answered: what was decided is written down all the same.
#[test]
fn a_decision_does_not_get_lost_with_the_process_it_was_left_for() {
    let place = Place::new();
    let (mut child, run) = paying(&place);
    signal(&child, "-STOP");
    let said = place.command(&format!("resolve {run} pay --succeeded 17")).spawn().unwrap();
    until("there is a letter", || has_letter(&place));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.wait_with_output().unwrap().status.success());
    assert!(!has_letter(&place), "nobody finds it later");
    let resumed = place.start(&format!("resume {run}"));
    until("what depends on it is done", || place.witnessed() == ["start receipt", "end receipt"]);
    end(&place, resumed, &run);
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Two people decide, and each is told whether it was they.
#[tokio::test]
async fn of_two_that_decide_one_is_told_that_it_was_too_late() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let journals: [Arc<dyn Journal>; 2] = [Arc::new(MemoryJournal::new()), Arc::new(sqlite)];
    for journal in journals {
        let send = plandag::tool_fn(|_| async move { Ok("sent") }).acts();
        let fetch = plandag::tool_fn(|_| async move { Ok("a page") }).untrusted();
        let plan = plandag::Plan::from_iter([
            plandag::Step::new("page", "fetch"),
            plandag::Step::new("send", "send").depends_on(["page"]),
        ]);
        let runner = plandag::Runner::new(plan).tool("fetch", fetch).tool("send", send).journal(Arc::clone(&journal));
        let handle = runner.attended(true).start("test");
        while handle.view().steps.iter().all(|step| step.state != plandag::StepState::Unapproved) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let run = handle.id().clone();
        let unfitting = decide(&*journal, &run, 1, Decision::Retry).await.unwrap();
        assert_eq!(unfitting, Told::Nothing, "it is no answer to what was asked");
        let (yes, no) =
            tokio::join!(decide(&*journal, &run, 1, Decision::Approve), decide(&*journal, &run, 1, Decision::Deny));
        let report = handle.await.unwrap();
        let told = [yes.unwrap(), no.unwrap()];
        let expected = if report.succeeded() { [Told::Taken, Told::Nothing] } else { [Told::Nothing, Told::Taken] };
        assert_eq!(told, expected);
    }
}

/// Letters are for one owner of a run.
#[tokio::test]
async fn who_takes_a_run_anew_finds_no_letters() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let journals: [Arc<dyn Journal>; 2] = [Arc::new(MemoryJournal::new()), Arc::new(sqlite)];
    for journal in journals {
        let plan = plandag::Plan::from_iter([plandag::Step::new("a", "a")]);
        let runner = plandag::Runner::new(plan).tool("a", plandag::tool_fn(|_| async move { Ok(1) }));
        let run: RunId = runner.journal(Arc::clone(&journal)).run("test").await.unwrap().run().clone();
        let letter = |step| Letter { step, attempt: Some(3), decision: Decision::Failed("\u{1F4A5} \"no\"".into()) };

        let claim = journal.claim(&run).await.unwrap();
        for step in [1, 2, 2] {
            journal.leave(&run, &letter(step)).await.unwrap();
        }
        let mut taken = journal.letters(&claim).await.unwrap();
        taken.sort_by_key(|letter| letter.step);
        assert_eq!(taken, [letter(1), letter(2)]);
        assert_eq!(journal.letters(&claim).await.unwrap(), [], "each is taken once");

        journal.leave(&run, &letter(1)).await.unwrap();
        drop(claim);
        let claim = journal.claim(&run).await.unwrap();
        assert_eq!(journal.letters(&claim).await.unwrap(), []);
        assert!(journal.leave(&"nobody".into(), &letter(1)).await.is_err());
    }
}
