//! What may be run can be read back: plans from files and from journals, and how a run is carried out.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use plandag::history::History;
use plandag::journal::SqliteJournal;
use plandag::{
    Dag, Limits, OnFailure, OnInterrupt, Order, Plan, PlanFile, PlanFormat, Policy, ReplanWhen, Retry, RunError,
    Runner, Step, tool_fn,
};
use serde_json::{Value, json};

fn number(rng: &mut Rng) -> u64 {
    [0, 1, 2, rng.u64(..), u64::from(u32::MAX), u64::MAX][rng.usize(..6)]
}

fn count(rng: &mut Rng) -> u32 {
    number(rng) as u32
}

fn some<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    if rng.bool() { Some(value(rng)) } else { None }
}

fn text(rng: &mut Rng) -> String {
    ["", "a", "\u{0}\u{7f}\"\\\n", "\u{2028}\u{feff}\u{1f600}", "$${x}", " ", "null", "~"][rng.usize(..8)].to_owned()
}

fn value(rng: &mut Rng, depth: u32) -> Value {
    match rng.u8(..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(number(rng)),
        3 => json!(rng.i64(..)),
        4 => json!(f64::from_bits(rng.u64(..))),
        5 => json!(text(rng)),
        6 => (0..rng.u8(..3)).map(|_| value(rng, depth - 1)).collect(),
        _ => Value::Object((0..rng.u8(..3)).map(|_| (text(rng), value(rng, depth - 1))).collect()),
    }
}

fn retry(rng: &mut Rng) -> Retry {
    Retry { max_attempts: count(rng), base_ms: number(rng), max_ms: number(rng) }
}

fn step(rng: &mut Rng, index: usize) -> Step {
    let mut step = Step::new(format!("s{index}"), "echo").description(text(rng)).args(value(rng, 4));
    step.depends_on = (0..index).filter(|_| rng.u8(..4) == 0).map(|before| format!("s{before}").into()).collect();
    step.when = step.depends_on.first().map(|first| format!("${{{first}}} == {}", json!(text(rng))).into());
    step.timeout_ms = some(rng, number);
    step.on_failure = if rng.bool() { OnFailure::Fail } else { OnFailure::Continue };
    step.on_interrupt = if rng.bool() { OnInterrupt::Ask } else { OnInterrupt::Retry };
    step.estimate_ms = some(rng, number);
    step.uses = (0..rng.u8(..3)).map(|_| (text(rng), count(rng))).collect();
    step.retry = some(rng, retry);
    step
}

fn plan(rng: &mut Rng) -> Plan {
    let steps = 1 + rng.usize(..3);
    let mut plan: Plan = (0..steps).map(|index| step(rng, index)).collect();
    plan.objective = some(rng, text);
    plan.answer = some(rng, |_| "s0".into());
    plan.pools = (0..rng.u8(..3)).map(|_| (text(rng), count(rng))).collect();
    plan
}

fn policy(rng: &mut Rng) -> Policy {
    Policy {
        max_parallel: count(rng),
        pools: (0..rng.u8(..2)).map(|_| (text(rng), count(rng))).collect(),
        retry: retry(rng),
        timeout_ms: some(rng, number),
        planner_timeout_ms: some(rng, number),
        max_replans: count(rng),
        max_corrections: rng.u32(..3),
        replan_when: [ReplanWhen::FirstFailure, ReplanWhen::Stuck, ReplanWhen::Inside][rng.usize(..3)],
        review: rng.bool(),
        limits: Limits {
            steps: count(rng),
            edges: count(rng),
            attempts: some(rng, count),
            tokens: some(rng, number),
            micro_usd: some(rng, number),
            deadline_ms: some(rng, number),
            depth: count(rng),
        },
        grace_ms: number(rng),
        order: [Order::CriticalPath, Order::Hops, Order::Fifo, Order::Random(number(rng))][rng.usize(..4)],
        patience: count(rng),
        max_interruptions: count(rng),
        allow: [text(rng)].into(),
        attended: rng.bool(),
        labels: [(text(rng), text(rng))].into(),
    }
}

#[test]
fn a_plan_that_passes_its_check_can_be_read_back_from_a_file() {
    let first = fastrand::u64(..);
    let mut passed = 0;
    for seed in (first..).take(2_000) {
        let plan = plan(&mut Rng::with_seed(seed));
        if Dag::of(&plan).is_err() {
            continue;
        }
        passed += 1;
        let json = serde_json::to_string(&plan).unwrap();
        let file = PlanFile::parse("plan", &*json, PlanFormat::Json, u64::MAX);
        let file = file.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{json}"));
        assert_eq!(file.plan, plan, "seed {seed}");
    }
    assert!(passed > 200, "only {passed}");
}

#[tokio::test]
async fn a_run_that_began_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap());
    let first = fastrand::u64(..);
    let (mut begun, mut done) = (0, 0);
    for seed in (first..).take(400) {
        let mut rng = Rng::with_seed(seed);
        let policy = policy(&mut rng);
        let runner = Runner::new(plan(&mut rng))
            .policy(policy.clone())
            .tool("echo", tool_fn(|cx| async move { Ok(cx.args) }))
            .journal(Arc::clone(&journal));
        let ran = tokio::time::timeout(Duration::from_secs(60), runner.run(text(&mut rng))).await;
        let report = match ran.unwrap_or_else(|_| panic!("seed {seed} does not end")) {
            Ok(report) => report,
            Err(RunError::Configuration(_)) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        begun += 1;
        done += u32::from(report.succeeded());
        let history = History::load(&*journal, report.run()).await;
        let history = history.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(history.report().start().policy, policy, "seed {seed}");
        assert_eq!(history.report().ending(), report.ending(), "seed {seed}");
    }
    assert!(begun > 100 && done > 5, "{begun} began, {done} were done");
}
