//! How good schedules are: every policy on plans that nobody in this project wrote, beside their proven optima.

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]
#![expect(clippy::print_stdout, reason = "the table is what one looks at")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use plandag::simulate::workload::{self, Workload};
use plandag::simulate::{SimulatedRun, Simulation};
use plandag::{Dag, Limits, Order, Plan, Policy, Runner, Step, tool_fn};

/// The plans of every file, by its name.
fn sets() -> BTreeMap<String, Vec<Workload>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads");
    let mut sets = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "jsonl") {
            let plans = workload::read(BufReader::new(File::open(&file).unwrap())).map(Result::unwrap);
            sets.insert(file.file_stem().unwrap().to_string_lossy().into_owned(), plans.collect());
        }
    }
    assert!(!sets.is_empty());
    sets
}

/// The policy under which an optimum holds.
fn policy(limit: &str, order: Order) -> Policy {
    let max_parallel = limit.parse().unwrap_or(1_000_000);
    Policy { max_parallel, order, limits: Limits::NONE, ..Policy::default() }
}

fn makespan(plan: &Plan, policy: Policy) -> f64 {
    seconds(Simulation::new(plan.clone()).policy(policy).without_history().run().makespan)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Level by level: nothing of a level starts before the whole level before it is done.
fn waves(plan: &Plan, policy: &Policy) -> f64 {
    let dag = Dag::of(plan).unwrap();
    let level = |steps: Vec<u32>| {
        let alone = |index: u32| {
            Arc::new(Step {
                depends_on: Vec::new(),
                args: Default::default(),
                ..Step::clone(&dag.steps()[index as usize])
            })
        };
        let steps = Plan { steps: steps.into_iter().map(alone).collect(), pools: plan.pools.clone(), ..Plan::new() };
        makespan(&steps, policy.clone())
    };
    dag.levels().into_iter().map(level).sum()
}

/// How far over the optimum the schedules of a set are on average, as a share.
fn over(set: &[Workload], makespan: impl Fn(&Workload, &str) -> f64) -> f64 {
    let ratio = |workload: &Workload, limit: &str, optimum: u64| match optimum {
        0 => 1.0,
        optimum => makespan(workload, limit) / (optimum as f64 / 1_000.0),
    };
    let ratios: Vec<f64> = set
        .iter()
        .flat_map(|workload| workload.optima.iter().map(|(limit, optimum)| ratio(workload, limit, *optimum)))
        .collect();
    ratios.iter().sum::<f64>() / ratios.len().max(1) as f64 - 1.0
}

#[test]
fn the_longest_remaining_path_first_is_within_a_percent_of_the_optimum() {
    println!(
        "{:>12} {:>13} {:>8} {:>8} {:>8} {:>8}   % over the optimum",
        "set", "critical path", "hops", "fifo", "random", "waves"
    );
    for (name, set) in sets() {
        let by = |order: Order| over(&set, |workload, limit| makespan(&workload.plan, policy(limit, order)));
        let waves = over(&set, |workload, limit| waves(&workload.plan, &policy(limit, Order::CriticalPath)));
        let [critical, hops, fifo, random] =
            [by(Order::CriticalPath), by(Order::Hops), by(Order::Fifo), by(Order::Random(1))];
        let percent = |share: f64| share * 100.0;
        println!(
            "{name:>12} {:>13.3} {:>8.3} {:>8.3} {:>8.3} {:>8.3}",
            percent(critical),
            percent(hops),
            percent(fifo),
            percent(random),
            percent(waves)
        );
        assert!(critical <= 0.01, "{name}: {critical}");
        assert!(critical <= fifo, "{name}: {critical} is worse than first come first served, {fifo}");
    }
}

#[test]
fn estimates_that_are_far_off_cost_little() {
    let noise = |rng: &mut Rng| {
        // Log-normal with a sigma of 0.7, by Box and Muller.
        let (a, b) = (rng.f64().max(f64::MIN_POSITIVE), rng.f64());
        (0.7 * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()).exp()
    };
    let mut rng = Rng::with_seed(1);
    for (name, set) in sets() {
        let noisy: BTreeMap<String, Plan> = set
            .iter()
            .map(|workload| {
                let steps = workload.plan.steps.iter().map(|step| {
                    let estimate = step.estimate_ms.unwrap() as f64 * noise(&mut rng);
                    Arc::new(Step { estimate_ms: Some(estimate.round() as u64), ..Step::clone(step) })
                });
                (workload.id.clone(), Plan { steps: steps.collect(), ..workload.plan.clone() })
            })
            .collect();
        let over = over(&set, |workload, limit| {
            let durations: BTreeMap<&str, u64> =
                workload.plan.steps.iter().map(|step| (step.id.as_str(), step.estimate_ms.unwrap())).collect();
            let run: SimulatedRun = Simulation::new(noisy[&workload.id].clone())
                .policy(policy(limit, Order::CriticalPath))
                .durations(|launch| Duration::from_millis(durations[launch.id.as_str()]))
                .without_history()
                .run();
            seconds(run.makespan)
        });
        println!("{name:>12} {:>8.3} % over the optimum", over * 100.0);
        assert!(over <= 0.05, "{name}: {over}");
    }
}

#[test]
fn many_plans_under_one_cap_are_near_to_what_is_possible() {
    let batches = &sets()["batches"];
    let over = batches.iter().map(|batch| {
        let policy = policy("8", Order::CriticalPath);
        let run = Simulation::new(batch.plan.clone()).policy(policy).without_history().run();
        let over = seconds(run.makespan) / seconds(run.bound()) - 1.0;
        println!("{:>24} {:>8.3} % over the bound", batch.id, over * 100.0);
        assert!(over <= 0.015, "{}: {over}", batch.id);
        over
    });
    let mean = over.sum::<f64>() / batches.len() as f64;
    println!("{:>24} {:>8.3} % over the bound", "on average", mean * 100.0);
    assert!(mean <= 0.005, "{mean}");
}

/// As `plandag run --batch` does it: every line is a step that expands to its plan.
#[test]
fn batches_whose_plans_are_expansions_are_as_good_as_one_plan() {
    for batch in &sets()["batches"] {
        let policy = policy("8", Order::CriticalPath);
        let as_one = Simulation::new(batch.plan.clone()).policy(policy.clone()).without_history().run();
        let (bound, as_one) = (seconds(as_one.bound()), seconds(as_one.makespan));
        let expanded = virtual_time(run_expanded(batch, policy));
        println!("{}: {as_one:.3} s as one plan, {expanded:.3} s expanded, bound {bound:.3} s", batch.id);
        assert!(expanded <= as_one * 1.01 && expanded <= bound * 1.015, "{}", batch.id);
    }
}

/// In a runtime whose clock goes on only when everything sleeps.
fn virtual_time<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run)
}

async fn run_expanded(batch: &Workload, policy: Policy) -> f64 {
    let mut lines: BTreeMap<String, Plan> = BTreeMap::new();
    for step in &batch.plan.steps {
        let (line, _) = step.id.as_str().split_once('-').unwrap();
        let own = Step { tool: Some("nap".into()), ..Step::clone(step) };
        lines.entry(line.to_owned()).or_default().push(own);
    }
    // Each comes before what any of them expands to.
    let root: Plan = lines.keys().map(|line| Step::new(line.as_str(), "line").estimate_ms(1_000_000)).collect();
    let lines = Arc::new(lines);
    let line = tool_fn(move |cx| {
        let lines = Arc::clone(&lines);
        async move { Ok(lines[cx.id.as_str()].clone()) }
    });
    let nap = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.step.estimate_ms.unwrap_or_default())).await;
        Ok(())
    });
    let started = tokio::time::Instant::now();
    let report = Runner::new(root).tool("line", line).tool("nap", nap).policy(policy).run("all").await.unwrap();
    assert!(report.answer().is_ok());
    seconds(started.elapsed())
}

#[test]
fn an_order_decides_where_there_is_no_room_for_all() {
    let plan = Plan::from_iter([
        Step::new("short", "t").estimate_ms(10),
        Step::new("many", "t").estimate_ms(10),
        Step::new("after-many", "t").estimate_ms(10).depends_on(["many"]),
        Step::new("after-that", "t").estimate_ms(10).depends_on(["after-many"]),
        Step::new("long", "t").estimate_ms(100),
    ]);
    let first = |order: Order| {
        let run = Simulation::new(plan.clone()).policy(policy("1", order)).run();
        run.attempts.iter().map(|attempt| attempt.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(first(Order::CriticalPath), ["long", "many", "after-many", "short", "after-that"]);
    assert_eq!(first(Order::Hops), ["many", "after-many", "short", "after-that", "long"]);
    assert_eq!(first(Order::Fifo), ["short", "many", "long", "after-many", "after-that"]);
    let drawn: Vec<_> = (0..20).map(|seed| first(Order::Random(seed))).collect();
    assert!(drawn.iter().any(|order| *order != drawn[0]), "seeds lead to different orders");
    assert_eq!(first(Order::Random(3)), drawn[3], "and each to the same one again");
}
