//! The schedule, judged by an independently written list scheduler: plain event-list code on data of its own that
//! shares only the rules with the crate. Without faults, every start must be the same to the microsecond.

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]
#![expect(clippy::print_stdout, reason = "which workload it was, and how good the schedules are")]

pub mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use plandag::simulate::{SimulatedRun, Simulation, workload};
use plandag::{Limits, Plan, Policy, Step};
use support::for_each_seed;

/// What is scheduled, in milliseconds.
#[derive(Clone, Debug, Default)]
struct Task {
    name: String,
    duration: u64,
    /// What the scheduler is told; without it, it expects a second.
    estimate: Option<u64>,
    after: Vec<usize>,
    uses: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
struct Machine {
    slots: u32,
    pools: BTreeMap<String, u32>,
    patience: u32,
}

impl Machine {
    fn with_slots(slots: u32) -> Self {
        Self { slots, pools: BTreeMap::new(), patience: 16 }
    }
}

/// The start of each task, with the longest remaining path by estimate first, or what is better where slots are few.
fn list_schedule(tasks: &[Task], machine: &Machine) -> Vec<u64> {
    let number = numbers(tasks);
    let paths = ranks(tasks, &number);
    let rank = better_ranks(tasks, machine, &number, &paths).unwrap_or(paths);
    list_schedule_by(tasks, machine, &number, &rank)
}

/// The start of each task.
///
/// The highest rank first, the lower number on ties; the first of each kind that fits is started; one that was passed
/// `patience` times keeps its pools free; tasks end one by one, those of one instant in the order of their starts.
fn list_schedule_by(tasks: &[Task], machine: &Machine, number: &[usize], rank: &[u64]) -> Vec<u64> {
    let mut missing: Vec<usize> = tasks.iter().map(|task| task.after.len()).collect();
    let mut ready: Vec<usize> = (0..tasks.len()).filter(|&task| missing[task] == 0).collect();
    let mut passed = vec![0; tasks.len()];
    let mut starts = vec![0; tasks.len()];
    let mut free = machine.pools.clone();
    let mut running: BTreeSet<(u64, usize, usize)> = BTreeSet::new();
    let mut started = 0;
    let mut now = 0;
    loop {
        ready.sort_by_key(|&task| (u64::MAX - rank[task], number[task]));
        while running.len() < machine.slots as usize {
            let mut kinds = BTreeSet::new();
            let heads: Vec<usize> = ready.iter().copied().filter(|&task| kinds.insert(&tasks[task].uses)).collect();
            let mut kept_free = BTreeSet::new();
            let mut chosen = None;
            for (place, &head) in heads.iter().enumerate() {
                let uses = &tasks[head].uses;
                let fits = uses.iter().all(|(pool, weight)| free[pool] >= *weight);
                if fits && !uses.keys().any(|pool| kept_free.contains(pool)) {
                    chosen = Some((place, head));
                    break;
                }
                if passed[head] >= machine.patience {
                    kept_free.extend(uses.keys());
                }
            }
            let Some((place, task)) = chosen else { break };
            for &head in &heads[..place] {
                passed[head] += 1;
            }
            ready.retain(|&other| other != task);
            for (pool, weight) in &tasks[task].uses {
                *free.get_mut(pool).unwrap() -= weight;
            }
            starts[task] = now;
            running.insert((now + tasks[task].duration, started, task));
            started += 1;
        }
        let Some((end, _, task)) = running.pop_first() else { return starts };
        now = end;
        for (pool, weight) in &tasks[task].uses {
            *free.get_mut(pool).unwrap() += weight;
        }
        for (next, other) in tasks.iter().enumerate() {
            for _ in other.after.iter().filter(|&&before| before == task) {
                missing[next] -= 1;
                if missing[next] == 0 {
                    ready.push(next);
                }
            }
        }
    }
}

/// Plan order if every task comes after what it needs, else the topological order that takes the first task of the
/// plan that it can.
fn numbers(tasks: &[Task]) -> Vec<usize> {
    let mut number = vec![usize::MAX; tasks.len()];
    for next in 0..tasks.len() {
        let possible = |task: &usize| {
            number[*task] == usize::MAX && tasks[*task].after.iter().all(|&before| number[before] != usize::MAX)
        };
        let task = (0..tasks.len()).find(possible).expect("the tasks have a cycle");
        number[task] = next;
    }
    number
}

fn ranks(tasks: &[Task], number: &[usize]) -> Vec<u64> {
    let mut backwards: Vec<usize> = (0..tasks.len()).collect();
    backwards.sort_by_key(|&task| usize::MAX - number[task]);
    let mut below = vec![0; tasks.len()];
    let mut rank = vec![0; tasks.len()];
    for task in backwards {
        rank[task] = tasks[task].estimate.unwrap_or(1_000) + below[task];
        for &before in &tasks[task].after {
            below[before] = below[before].max(rank[task]);
        }
    }
    rank
}

/// Ranks from a schedule that is made backwards from one that is made forwards, by `paths` or by what could start first:
/// the last end comes first. They count if the tasks are over sooner by them, as far as estimates say. Not where there
/// are pools, or where all estimates are the same.
fn better_ranks(tasks: &[Task], machine: &Machine, number: &[usize], paths: &[u64]) -> Option<Vec<u64>> {
    let expected: Vec<Task> =
        tasks.iter().map(|task| Task { duration: task.estimate.unwrap_or(1_000), ..task.clone() }).collect();
    if !machine.pools.is_empty() || expected.iter().all(|task| task.duration == expected[0].duration) {
        return None;
    }
    let ends = |tasks: &[Task], slots: u32, number: &[usize], rank: &[u64]| -> Vec<u64> {
        let starts = list_schedule_by(tasks, &Machine { slots, ..machine.clone() }, number, rank);
        starts.iter().zip(tasks).map(|(start, task)| start + task.duration).collect()
    };
    let mut backwards: Vec<Task> = expected.iter().map(|task| Task { after: Vec::new(), ..task.clone() }).collect();
    for (task, forwards) in expected.iter().enumerate() {
        forwards.after.iter().for_each(|&before| backwards[before].after.push(task));
    }
    let from_behind: Vec<usize> = number.iter().map(|number| tasks.len() - 1 - number).collect();
    let unlimited = ends(&expected, u32::MAX, number, paths);
    let earliest: Vec<u64> =
        unlimited.iter().zip(&expected).map(|(end, task)| u64::MAX - (end - task.duration)).collect();
    let length = |rank: &[u64]| ends(&expected, machine.slots, number, rank).into_iter().max();
    let mut best = (length(paths), None);
    for begin in [paths, &earliest] {
        let forwards = ends(&expected, machine.slots, number, begin);
        let rank = ends(&backwards, machine.slots, &from_behind, &forwards);
        let length = length(&rank);
        if length < best.0 {
            best = (length, Some(rank));
        }
    }
    best.1
}

/// The same tasks as a plan, run by the crate.
fn simulate(tasks: &[Task], machine: &Machine) -> SimulatedRun {
    let durations: BTreeMap<&str, u64> = tasks.iter().map(|task| (&*task.name, task.duration)).collect();
    let plan = Plan::from_iter(tasks.iter().map(|task| {
        let mut step = Step::new(&*task.name, "work").depends_on(task.after.iter().map(|&task| &*tasks[task].name));
        step.estimate_ms = task.estimate;
        step.uses = task.uses.clone();
        step
    }));
    let policy = Policy {
        max_parallel: machine.slots,
        pools: machine.pools.clone(),
        patience: machine.patience,
        limits: Limits::NONE,
        ..Policy::default()
    };
    Simulation::new(plan)
        .policy(policy)
        .durations(move |launch| Duration::from_millis(durations[launch.id.as_str()]))
        .run()
}

fn assert_same(tasks: &[Task], machine: &Machine) {
    let expected = list_schedule(tasks, machine);
    let run = simulate(tasks, machine);
    assert!(run.succeeded(), "{:?}", run.ended);
    let starts: BTreeMap<&str, u64> =
        run.attempts.iter().map(|attempt| (attempt.id.as_str(), attempt.start.as_micros())).collect();
    assert_eq!(starts.len(), tasks.len(), "every task runs once");
    for (task, start) in tasks.iter().zip(&expected) {
        assert_eq!(starts[&*task.name], start * 1_000, "start of `{}` with {machine:?}", task.name);
    }
    let makespan = tasks.iter().zip(&expected).map(|(task, start)| start + task.duration).max();
    assert_eq!(run.makespan, Duration::from_millis(makespan.unwrap_or(0)));
    check_bounds(tasks, machine, &run);
}

/// Graham's bound holds where only slots limit; with slots for all, the critical path is reached.
fn check_bounds(tasks: &[Task], machine: &Machine, run: &SimulatedRun) {
    let path = critical_path(tasks);
    assert_eq!(run.critical_path, path);
    let on_it: Duration = run
        .critical_steps
        .iter()
        .map(|step| run.attempts.iter().find(|attempt| attempt.step == *step).map(|a| a.end - a.start).unwrap())
        .sum();
    assert_eq!(on_it, path, "the critical steps are as long as the critical path");
    assert_eq!(run.work, tasks.iter().map(|task| Duration::from_millis(task.duration)).sum());
    assert!(run.bound() <= run.makespan);
    if machine.pools.is_empty() {
        // makespan <= work / m + (1 - 1 / m) * path, times m.
        let slots = u128::from(machine.slots.min(tasks.len() as u32));
        let most = run.work.as_millis() + (slots - 1) * path.as_millis();
        assert!(run.makespan.as_millis() * slots <= most, "over Graham's bound");
        if machine.slots as usize >= tasks.len() {
            assert_eq!(run.makespan, path);
        }
    }
}

fn critical_path(tasks: &[Task]) -> Duration {
    let number = numbers(tasks);
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|&task| number[task]);
    let mut end = vec![0; tasks.len()];
    for task in order {
        end[task] = tasks[task].after.iter().map(|&before| end[before]).max().unwrap_or(0) + tasks[task].duration;
    }
    Duration::from_millis(end.into_iter().max().unwrap_or(0))
}

/// Tasks in one of several shapes, half of the time not in the order in which they can run.
fn random_tasks(rng: &mut Rng, count: usize, pools: &BTreeMap<String, u32>) -> Vec<Task> {
    let longest = *rng.choice(&[1, 3, 20, 1_000]).unwrap();
    let exact = rng.bool();
    let reach = rng.usize(1..=count);
    let degree = rng.usize(0..5);
    let mut tasks: Vec<Task> = Vec::new();
    for index in 0..count {
        let duration = rng.u64(0..=longest);
        let estimate = match rng.u8(0..4) {
            _ if exact => Some(duration),
            0 => None,
            _ => Some(rng.u64(0..=longest)),
        };
        let before: BTreeSet<usize> =
            (0..degree).filter(|_| index > 0).map(|_| rng.usize(index.saturating_sub(reach)..index)).collect();
        let mut uses = BTreeMap::new();
        for (pool, size) in pools {
            if rng.bool() {
                uses.insert(pool.clone(), rng.u32(1..=*size));
            }
        }
        if uses.is_empty() && !pools.is_empty() && rng.bool() {
            uses.insert("a".to_owned(), 1);
        }
        tasks.push(Task { name: format!("t{index}"), duration, estimate, after: before.into_iter().collect(), uses });
    }
    if rng.bool() { shuffle(rng, tasks) } else { tasks }
}

fn shuffle(rng: &mut Rng, tasks: Vec<Task>) -> Vec<Task> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    rng.shuffle(&mut order);
    let mut place = vec![0; tasks.len()];
    for (index, &task) in order.iter().enumerate() {
        place[task] = index;
    }
    let moved = |&task: &usize| Task {
        after: tasks[task].after.iter().map(|&before| place[before]).collect(),
        ..tasks[task].clone()
    };
    order.iter().map(moved).collect()
}

fn random_machine(rng: &mut Rng) -> Machine {
    let slots = *rng.choice(&[1, 2, 3, 4, 8, 16, 1_000]).unwrap();
    let pools = ["a", "b", "c"].into_iter().take(rng.usize(0..=3));
    let pools = pools.map(|pool| (pool.to_owned(), rng.u32(1..=6))).collect();
    Machine { slots, pools, patience: rng.u32(0..20) }
}

#[test]
fn random_dags_start_as_the_list_scheduler_says() {
    for_each_seed("random_dags_start_as_the_list_scheduler_says", 1_000, |seed| {
        let mut rng = Rng::with_seed(seed);
        let machine = random_machine(&mut rng);
        let count = support::random::log_uniform(&mut rng, 1, 200);
        let tasks = random_tasks(&mut rng, count, &machine.pools);
        assert_same(&tasks, &machine);
    });
}

/// Large plans are kept in memory in another way.
#[test]
fn large_dags_start_as_the_list_scheduler_says() {
    for_each_seed("large_dags_start_as_the_list_scheduler_says", 8, |seed| {
        let mut rng = Rng::with_seed(seed);
        let machine = random_machine(&mut rng);
        let tasks = random_tasks(&mut rng, 4_500, &machine.pools);
        assert_same(&tasks, &machine);
    });
}

#[test]
fn every_workload_starts_as_the_list_scheduler_says() {
    let mut ratios: Vec<f64> = Vec::new();
    for (name, workload) in workloads() {
        let tasks = tasks_of(&workload.plan);
        let mut machines: Vec<(String, Machine)> =
            [2, 4, 8, 16].into_iter().map(|slots| (slots.to_string(), Machine::with_slots(slots))).collect();
        machines.push(("unlimited".into(), Machine::with_slots(1_000_000)));
        if !workload.plan.pools.is_empty() {
            let pools = workload.plan.pools.clone();
            machines.push(("resources".into(), Machine { pools, ..Machine::with_slots(1_000_000) }));
        }
        for (limit, machine) in machines {
            println!("{name}: {} with {limit}", workload.id);
            assert_same(&tasks, &machine);
            if let Some(optimum) = workload.optima.get(&limit) {
                let makespan = simulate(&tasks, &machine).makespan.as_millis();
                assert!(makespan >= u128::from(*optimum), "faster than the proven optimum");
                ratios.push(makespan as f64 / *optimum as f64);
            }
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    println!("{} optima: on average {:.3} % over", ratios.len(), (mean - 1.0) * 100.0);
    assert!(mean < 1.01, "with true durations a schedule is within a percent of the best, not {mean}");
}

fn workloads() -> Vec<(String, workload::Workload)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    assert!(!files.is_empty());
    let read = files.iter().flat_map(|file| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let lines = workload::read(BufReader::new(File::open(file).unwrap()));
        lines.map(move |workload| (name.clone(), workload.unwrap()))
    });
    read.collect()
}

fn tasks_of(plan: &Plan) -> Vec<Task> {
    let place: BTreeMap<&str, usize> =
        plan.steps.iter().enumerate().map(|(index, step)| (step.id.as_str(), index)).collect();
    let tasks = plan.steps.iter().map(|step| {
        let duration = step.estimate_ms.unwrap();
        Task {
            name: step.id.to_string(),
            duration,
            estimate: Some(duration),
            after: step.depends_on.iter().map(|id| place[id.as_str()]).collect(),
            uses: if plan.pools.is_empty() { BTreeMap::new() } else { step.uses.clone() },
        }
    });
    tasks.collect()
}

/// A step of weight 4 in a pool of 4 that becomes ready beside 1,000 steps of weight 1, and outranks them.
fn wide_step_starts_as(patience: u32) -> usize {
    let narrow = |name: String| Task {
        name,
        duration: 10,
        estimate: Some(10),
        uses: BTreeMap::from([("pool".into(), 1)]),
        ..Task::default()
    };
    let mut tasks = vec![Task { duration: 5, estimate: Some(1_000), ..narrow("first".into()) }];
    tasks.push(Task {
        estimate: Some(1_000),
        after: vec![0],
        uses: BTreeMap::from([("pool".into(), 4)]),
        ..narrow("wide".into())
    });
    tasks.extend((0..1_000).map(|index| narrow(format!("narrow{index}"))));
    let machine = Machine { patience, pools: BTreeMap::from([("pool".into(), 4)]), ..Machine::with_slots(64) };
    assert_same(&tasks, &machine);
    let run = simulate(&tasks, &machine);
    run.attempts.iter().position(|attempt| attempt.id == "wide").unwrap() + 1
}

#[test]
fn a_wide_step_is_not_passed_for_ever() {
    assert_eq!(wide_step_starts_as(16), 21);
    assert_eq!(wide_step_starts_as(u32::MAX), 1_002, "without patience running out it is the last");
}
