//! A number is read back as the number that was written, to the last bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fastrand::Rng;
use plandag::journal::SqliteJournal;
use plandag::{
    Limits, Plan, PlanFile, PlanFormat, PlanReason, PlanRequest, Runner, Step, StepError, planner_fn, tool_fn,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// As many of all sizes as of the usual ones.
fn floats(rng: &mut Rng, count: usize) -> Vec<f64> {
    let any = std::iter::repeat_with(|| match rng.bool() {
        true => f64::from_bits(rng.u64(..)),
        false => rng.f64() * 1_000.0,
    });
    any.filter(|number| number.is_finite()).take(count).collect()
}

fn bits(value: &Value) -> Vec<u64> {
    let items = value.as_array().unwrap();
    items.iter().map(|item| item.as_f64().unwrap().to_bits()).collect()
}

fn journal_in(folder: &TempDir) -> Arc<SqliteJournal> {
    Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap())
}

#[tokio::test]
async fn a_resumed_run_goes_on_with_the_same_numbers() {
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let journal = journal_in(&folder);
    // The second is kept apart from the events.
    for count in [500, 10_000] {
        let numbers = floats(&mut rng, count);
        let expected: Vec<u64> = numbers.iter().map(|number| number.to_bits()).collect();
        let plan = Plan::from_iter([
            Step::new("made", "make"),
            Step::new("planned", "echo").args(json!(numbers)).depends_on(["made"]),
            Step::new("both", "echo").args(json!(["${made}", "${planned}"])),
        ]);
        let runner = Runner::new(plan)
            .journal(Arc::clone(&journal))
            .tool(
                "make",
                tool_fn(move |_| {
                    let made = json!(numbers);
                    async move { Ok(made) }
                }),
            )
            .tool("echo", tool_fn(|cx| async move { Ok(cx.args) }));
        let stopped = runner.clone().limits(Limits { attempts: Some(1), ..Limits::default() }).run("x").await.unwrap();
        let report = runner.resume(stopped.run()).await.unwrap();
        let both = report.answer().unwrap();
        assert!([bits(&both[0]), bits(&both[1])] == [expected.clone(), expected], "{count} numbers, seed {seed}");
    }
}

#[test]
fn a_plan_file_has_the_numbers_that_were_written_into_it() {
    let seed = fastrand::u64(..);
    let numbers = floats(&mut Rng::with_seed(seed), 2_000);
    let plan = Plan::from_iter([Step::new("a", "echo").args(json!(numbers))]);
    let text = serde_json::to_string(&plan).unwrap();
    for format in [PlanFormat::Json, PlanFormat::Yaml] {
        let file = PlanFile::parse("numbers", &*text, format, u64::MAX).unwrap();
        assert!(bits(&file.plan.steps[0].args) == bits(&plan.steps[0].args), "{format:?}, seed {seed}");
    }
}

#[tokio::test]
async fn what_was_paid_for_is_not_paid_for_again_after_a_resume() {
    let paid = Arc::new(AtomicU32::new(0));
    let folder = tempfile::tempdir().unwrap();
    let planner = planner_fn(|request: PlanRequest| async move {
        let tool = if request.reason == PlanReason::First { "bad" } else { "good" };
        // A number that is easily read as its neighbour.
        let pay = Step::new("pay", "pay").args(json!({ "amount": 995.880_844_537_640_1 }));
        Ok(Plan::from_iter([pay, Step::new("note", tool).depends_on(["pay"])]))
    });
    let pay = {
        let paid = Arc::clone(&paid);
        move |_| {
            paid.fetch_add(1, Ordering::SeqCst);
            async { Ok("paid") }
        }
    };
    let runner = Runner::new(planner)
        .journal(journal_in(&folder))
        .tool("pay", tool_fn(pay).acts())
        .tool("bad", tool_fn(|_| async { Err::<(), _>(StepError::permanent("no")) }))
        .tool("good", tool_fn(|_| async { Ok("noted") }));
    let stopped = runner.clone().limits(Limits { attempts: Some(1), ..Limits::default() }).run("x").await.unwrap();
    let report = runner.resume(stopped.run()).await.unwrap();
    assert_eq!(report.answer().unwrap(), "noted");
    assert_eq!(paid.load(Ordering::SeqCst), 1);
}
