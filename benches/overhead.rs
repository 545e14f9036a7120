//! What a step costs that does nothing: the whole [`Runner`] beside a floor written by hand, in turns.
//!
//! The floor is the least that runs a graph in parallel on tokio: a counter of unmet dependencies for each step, one
//! spawned task for each step that is ready, results in [`OnceLock`] slots. It knows no caps, no retries, no events.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use plandag::{
    Command, Event, Limits, Output, Plan, Policy, Returned, Revision, RunStart, Runner, Scheduler, Timestamp, ToolSpec,
    Transition, Usage, tool_fn,
};
use serde_json::Value;
use tokio::sync::Notify;

use support::{Dependencies, SHAPES};

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let sizes: Vec<usize> = only.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    let names: Vec<&String> = only.iter().filter(|argument| argument.parse::<usize>().is_err()).collect();

    println!("ns per step, medians; the ratios are medians over the rounds of each round's ratio to its floor");
    println!(
        "{:>8} {:>8} {:>7} {:>7} {:>9} {:>7} {:>7} {:>7} {:>9}",
        "shape", "steps", "floor", "runner", "listener", "accept", "core", "ratio", "listener"
    );
    for size in sizes {
        for (name, shape) in SHAPES {
            if names.is_empty() || names.iter().any(|only| *only == name) {
                measure(&runtime, name, &shape(size));
            }
        }
    }
}

/// What the parts of one round took, per step.
struct Round {
    floor: f64,
    runner: f64,
    listener: f64,
    accept: f64,
    core: f64,
}

fn measure(runtime: &tokio::runtime::Runtime, name: &str, graph: &Dependencies) {
    let rounds = (1_000_000 / graph.len()).clamp(3, 30);
    let plan = support::plan(graph);
    let runner = runner(plan.clone());
    let per_step = |time: Duration| time.as_nanos() as f64 / graph.len() as f64;
    let mut measured = Vec::new();
    for _ in 0..=rounds {
        let (accept, core) = core_alone(&plan);
        measured.push(Round {
            floor: per_step(runtime.block_on(floor(graph))),
            runner: per_step(runtime.block_on(whole(&runner))),
            listener: per_step(runtime.block_on(listened(&runner))),
            accept: per_step(accept),
            core: per_step(core),
        });
    }
    // The first round warms up.
    let measured = &measured[1..];
    println!(
        "{name:>8} {:>8} {:>7.0} {:>7.0} {:>9.0} {:>7.0} {:>7.0} {:>7.2} {:>9.2}",
        graph.len(),
        median(measured, |round| round.floor),
        median(measured, |round| round.runner),
        median(measured, |round| round.listener),
        median(measured, |round| round.accept),
        median(measured, |round| round.core),
        median(measured, |round| round.runner / round.floor),
        median(measured, |round| round.listener / round.floor),
    );
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// One more than the first input.
fn next<'a>(mut inputs: impl Iterator<Item = &'a Value>) -> i64 {
    inputs.next().and_then(Value::as_i64).unwrap_or(0) + 1
}

struct Floor {
    graph: Dependencies,
    dependents: Vec<Vec<u32>>,
    unmet: Vec<AtomicU32>,
    results: Vec<OnceLock<Arc<Value>>>,
    left: AtomicU32,
    done: Notify,
}

impl Floor {
    fn new(graph: Dependencies) -> Self {
        let mut dependents = vec![Vec::new(); graph.len()];
        for (step, dependencies) in graph.iter().enumerate() {
            dependencies.iter().for_each(|dependency| dependents[*dependency as usize].push(step as u32));
        }
        Self {
            unmet: graph.iter().map(|dependencies| AtomicU32::new(dependencies.len() as u32)).collect(),
            results: graph.iter().map(|_| OnceLock::new()).collect(),
            left: AtomicU32::new(graph.len() as u32),
            done: Notify::new(),
            dependents,
            graph,
        }
    }

    fn spawn(self: Arc<Self>, step: u32) {
        tokio::spawn(async move {
            let inputs = self.graph[step as usize].iter().filter_map(|input| self.results[*input as usize].get());
            let result = Arc::new(Value::from(next(inputs.map(|value| &**value))));
            self.results[step as usize].get_or_init(|| result);
            for dependent in &self.dependents[step as usize] {
                if self.unmet[*dependent as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                    Arc::clone(&self).spawn(*dependent);
                }
            }
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.done.notify_one();
            }
        });
    }
}

async fn floor(graph: &Dependencies) -> Duration {
    let graph = graph.clone();
    let started = Instant::now();
    let run = Arc::new(Floor::new(graph));
    let first = Arc::clone(&run);
    tokio::spawn(async move {
        for step in (0..first.graph.len()).filter(|step| first.graph[*step].is_empty()) {
            Arc::clone(&first).spawn(step as u32);
        }
    });
    run.done.notified().await;
    black_box(run.results.last());
    drop(run);
    started.elapsed()
}

fn policy() -> Policy {
    Policy { limits: Limits::NONE, ..Policy::default() }
}

fn runner(plan: Plan) -> Runner {
    Runner::new(plan)
        .tool("next", tool_fn(|cx| async move { Ok(next(cx.inputs.iter().map(|(_, value)| value))) }))
        .policy(policy())
}

async fn whole(runner: &Runner) -> Duration {
    let started = Instant::now();
    let report = runner.run("nothing").await.expect("a report");
    black_box(report.answer().expect("an answer"));
    drop(report);
    started.elapsed()
}

async fn listened(runner: &Runner) -> Duration {
    let started = Instant::now();
    let handle = runner.start("nothing");
    let mut events = handle.events();
    let listener = tokio::spawn(async move {
        let mut count = 0_u64;
        while let Some(event) = events.next().await {
            black_box(event);
            count += 1;
        }
        (count, events.missed())
    });
    let report = handle.await.expect("a report");
    let counted = listener.await.expect("a listener");
    drop(report);
    black_box(counted);
    started.elapsed()
}

/// The scheduler without any driver: the time to accept the plan, and that to run it.
fn core_alone(plan: &Plan) -> (Duration, Duration) {
    let start = RunStart {
        objective: String::new(),
        inputs: Default::default(),
        policy: policy(),
        tools: vec![ToolSpec::new("next", "")],
        default_tool: None,
        labels: Default::default(),
    };
    let mut scheduler = Scheduler::new(Arc::new(start));
    let mut transition = Transition::default();
    scheduler.on_event_into(Event::Begin, Timestamp::ZERO, &mut transition);
    let plan = plan.clone();
    let started = Instant::now();
    let reply = Ok(Revision::Plan(plan));
    scheduler.on_event_into(
        Event::PlanReturned { request: 0, reply, usage: Usage::default() },
        Timestamp::ZERO,
        &mut transition,
    );
    let accepted = started.elapsed();
    let started = Instant::now();
    let mut running = std::collections::VecDeque::new();
    loop {
        transition.events.clear();
        running.extend(transition.commands.drain(..));
        match running.pop_front() {
            Some(Command::Launch(launch)) => {
                let value = next(launch.inputs.iter().filter_map(|input| match &input.output {
                    Some(Output::Inline(value)) => Some(&**value),
                    _ => None,
                }));
                let returned = Event::AttemptReturned {
                    attempt: launch.attempt,
                    result: Ok(Returned::Value(Output::inline(value.into()))),
                    usage: Usage::default(),
                    draw: 0,
                };
                scheduler.on_event_into(returned, Timestamp::ZERO, &mut transition);
            }
            Some(_) => {}
            None => break,
        }
    }
    assert!(scheduler.outcome().is_some(), "the run is over");
    drop(scheduler);
    (accepted, started.elapsed())
}
