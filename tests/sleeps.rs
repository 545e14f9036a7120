//! Schedules executed for real: plans that nobody in this project wrote, their steps asleep for as long as they take, on
//! a scale on which the critical path is two seconds. What the runner adds is all that is more than in virtual time.
//!
//! ```sh
//! cargo test --test sleeps -- --ignored --nocapture a_sample     # a minute or two
//! cargo test --test sleeps -- --ignored --nocapture every_plan   # all of them
//! ```

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]
#![expect(clippy::print_stdout, reason = "the table is what one looks at")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use plandag::simulate::Simulation;
use plandag::simulate::workload::{self, Workload};
use plandag::{Limits, Plan, Policy, Runner, Step, StepError, StepId, tool_fn};

/// How long the critical path is made.
const CRITICAL_PATH: Duration = Duration::from_secs(2);
/// How much longer a run may take than the same in virtual time.
const MOST: f64 = 1.02;
/// Plans that are run beside each other: they only sleep.
const BESIDE: usize = 4;
/// A machine that does something else for a moment is given another chance, so often.
const TRIES: usize = 4;
/// Steps that can sleep at once.
const SLEEPERS: usize = 8_192;
/// How much virtual time the sample comes to.
const SAMPLE: Duration = Duration::from_secs(240);

/// A plan under one of the caps for which its optimum is on file.
struct Case {
    set: String,
    id: String,
    limit: String,
    plan: Plan,
    policy: Policy,
    durations: Arc<HashMap<StepId, Duration>>,
    simulated: Duration,
    optimum: Duration,
}

impl Case {
    fn new(set: &str, workload: &Workload, limit: &str, optimum_ms: u64) -> Self {
        let max_parallel = limit.parse().unwrap_or(1_000_000);
        let policy = Policy { max_parallel, limits: Limits::NONE, timeout_ms: None, ..Policy::default() };
        let unscaled = Simulation::new(workload.plan.clone()).policy(policy.clone()).without_history().run();
        let scale = CRITICAL_PATH.as_secs_f64() / unscaled.critical_path.as_secs_f64().max(f64::MIN_POSITIVE);
        let millis = |millis: u64| Duration::from_secs_f64(millis as f64 * scale / 1_000.0);
        let durations: HashMap<StepId, Duration> =
            workload.plan.steps.iter().map(|step| (step.id.clone(), millis(step.estimate_ms.unwrap()))).collect();
        let steps =
            workload.plan.steps.iter().map(|step| Arc::new(Step { tool: Some("nap".into()), ..Step::clone(step) }));
        let plan = Plan { steps: steps.collect(), ..workload.plan.clone() };
        let simulation = Simulation::new(plan.clone()).policy(policy.clone()).durations(|launch| durations[&launch.id]);
        let simulated = simulation.without_history().run().makespan;
        Self {
            set: set.to_owned(),
            id: workload.id.clone(),
            limit: limit.to_owned(),
            plan,
            policy,
            durations: Arc::new(durations),
            simulated,
            optimum: millis(optimum_ms),
        }
    }

    async fn run(&self) -> Duration {
        let durations = Arc::clone(&self.durations);
        let nap = tool_fn(move |cx| {
            let time = durations[&cx.id];
            async move {
                // The timer of the runtime rounds up to the next millisecond or two; that of the system does not.
                let slept = tokio::task::spawn_blocking(move || std::thread::sleep(time)).await;
                slept.map_err(|error| StepError::permanent(error.to_string()))
            }
        });
        let runner = Runner::new(self.plan.clone()).tool("nap", nap).policy(self.policy.clone());
        let report = runner.run("sleep").await.unwrap();
        assert!(report.succeeded(), "{}", self.id);
        report.wall_time()
    }
}

/// Every plan under every cap on file. Those that nobody can tell from nothing are left out.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let set = file.file_stem().unwrap().to_string_lossy();
        for workload in workload::read(BufReader::new(File::open(&file).unwrap())).map(Result::unwrap) {
            let optima = workload.optima.iter().filter(|(_, optimum)| **optimum > 0);
            cases.extend(optima.map(|(limit, optimum)| Case::new(&set, &workload, limit, *optimum)));
        }
    }
    cases
}

/// Of every set the same share, spread over its plans and caps.
fn sample(cases: Vec<Case>) -> Vec<Case> {
    let all: Duration = cases.iter().map(|case| case.simulated).sum();
    let share = (SAMPLE.as_secs_f64() / all.as_secs_f64()).min(1.0);
    let mut taken: BTreeMap<String, f64> = BTreeMap::new();
    let is_taken = |case: &Case| {
        // The first of a set is always taken.
        let due = taken.entry(case.set.clone()).or_insert(1.0);
        *due += share;
        let is_due = *due >= 1.0;
        *due -= f64::from(is_due);
        is_due
    };
    cases
        .into_iter()
        .filter({
            let mut is_taken = is_taken;
            move |case| is_taken(case)
        })
        .collect()
}

fn execute(cases: &[Case]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(SLEEPERS).build().unwrap();
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    let measured: Vec<(&Case, f64)> = runtime.block_on(async {
        let run = |case| async move {
            let mut best = f64::INFINITY;
            for _ in 0..TRIES {
                let time = case_ratio(case).await;
                best = best.min(time);
                if best <= MOST {
                    break;
                }
            }
            (case, best)
        };
        futures::stream::iter(cases).map(run).buffer_unordered(BESIDE).collect().await
    });
    let mut sets: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    measured.iter().for_each(|(case, ratio)| sets.entry(&case.set).or_default().push(*ratio));
    println!("{:>12} {:>6} {:>8} {:>8}   of the time in virtual time", "set", "runs", "median", "most");
    for (set, ratios) in &mut sets {
        ratios.sort_by(f64::total_cmp);
        println!("{set:>12} {:>6} {:>8.4} {:>8.4}", ratios.len(), ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    }
    for (case, measured) in &measured {
        let name = format!("{}: {} with {}", case.set, case.id, case.limit);
        assert!(*measured <= MOST, "{name} took {measured:.3} times as long as in virtual time");
        assert!(*measured >= 0.999, "{name} took {measured:.3} times as long as in virtual time: it did not sleep");
        if case.set == "asynchow" && case.limit == "unlimited" {
            let over = measured * ratio(case.simulated, case.optimum);
            assert!(over <= MOST, "{name} took {over:.3} times its published optimum");
        }
    }
}

async fn case_ratio(case: &Case) -> f64 {
    case.run().await.as_secs_f64() / case.simulated.as_secs_f64()
}

#[test]
#[ignore = "takes a minute or two"]
fn a_sample_takes_as_long_as_in_virtual_time() {
    let cases = sample(cases());
    assert!(
        cases.iter().any(|case| case.set == "asynchow" && case.limit == "unlimited"),
        "one with a published optimum"
    );
    execute(&cases);
}

#[test]
#[ignore = "takes six minutes"]
fn every_plan_takes_as_long_as_in_virtual_time() {
    execute(&cases());
}
