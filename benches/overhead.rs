//! What a step costs that does nothing: the whole [`Runner`] beside a floor written by hand, in turns.
//! What the floor is, `support/floor.rs` says.
//!
//! Whoever comes next finds in the caches and in the heap what the one before has left, and that is worth a fifth. So
//! every round goes through all of them forwards and then backwards, and a figure is the mean of the two.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

mod support;

use std::time::Duration;

use support::floor::floor;
use support::plandag::{core_alone, listened, runner, whole};
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

/// What is measured, in its order: the floor, the runner, the runner with a listener, and of the scheduler alone the
/// time to accept the plan and that to run it.
#[derive(Clone, Copy, Default)]
struct Round {
    floor: f64,
    runner: f64,
    listener: f64,
    accept: f64,
    core: f64,
}

fn measure(runtime: &tokio::runtime::Runtime, name: &str, graph: &Dependencies) {
    let rounds = (500_000 / graph.len()).clamp(3, 15);
    let plan = support::plan(graph);
    let runner = runner(plan.clone());
    // Half of what it takes per step: each is measured twice.
    let half = |time: Duration| time.as_nanos() as f64 / graph.len() as f64 / 2.0;
    let parts: [&dyn Fn(&mut Round); 4] = [
        &|round| round.floor += half(runtime.block_on(floor(graph))),
        &|round| round.runner += half(runtime.block_on(whole(&runner))),
        &|round| round.listener += half(runtime.block_on(listened(&runner))),
        &|round| {
            let (accept, core) = core_alone(&plan);
            round.accept += half(accept);
            round.core += half(core);
        },
    ];
    let measured: Vec<Round> = (0..=rounds)
        .map(|_| {
            let mut round = Round::default();
            parts.iter().chain(parts.iter().rev()).for_each(|part| part(&mut round));
            round
        })
        .collect();
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
