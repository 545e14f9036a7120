//! How the cost of a run grows with its size: the exponent of a fit through 10^3 to 10^6 steps, of the whole runner, of
//! the scheduler alone, and of a plain loop over the same graph, in the same run. What a loop pays for leaving the caches
//! of the processor, everything pays.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use support::plandag::{core_alone, runner, whole};
use support::{Dependencies, SHAPES};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Steps that are measured of each size, over all rounds.
const STEPS: usize = 3_000_000;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("ns per step, medians, and the exponent of growth of the whole time (1: the same cost per step)");
    println!("{:>8} {:>7} {:>8} {:>8} {:>8} {:>8} {:>9}", "shape", "of", 1_000, 10_000, 100_000, 1_000_000, "exponent");
    for (name, shape) in SHAPES {
        let mut costs: [Vec<f64>; 3] = Default::default();
        for size in SIZES {
            let graph = shape(size);
            let plan = support::plan(&graph);
            let runner = runner(plan.clone());
            let rounds = (STEPS / size).clamp(3, 100);
            let mut times: [Vec<Duration>; 3] = Default::default();
            // The first round warms up.
            for round in 0..=rounds {
                let (accept, run) = core_alone(&plan);
                let measured = [plain_loop(&graph), accept + run, runtime.block_on(whole(&runner))];
                if round > 0 {
                    times.iter_mut().zip(measured).for_each(|(times, time)| times.push(time));
                }
            }
            for (costs, times) in costs.iter_mut().zip(&mut times) {
                times.sort_unstable();
                costs.push(times[times.len() / 2].as_nanos() as f64 / graph.len() as f64);
            }
        }
        for (what, costs) in ["loop", "core", "runner"].into_iter().zip(&costs) {
            print!("{name:>8} {what:>7}");
            costs.iter().for_each(|cost| print!(" {cost:>8.1}"));
            println!(" {:>9.3}", 1.0 + slope(costs));
        }
    }
}

/// Every step of the graph, each after those that it depends on, with a counter for each and a queue.
fn plain_loop(graph: &Dependencies) -> Duration {
    let started = Instant::now();
    let mut dependents: Vec<Vec<u32>> = vec![Vec::new(); graph.len()];
    let mut unmet: Vec<u32> = Vec::with_capacity(graph.len());
    for (step, dependencies) in graph.iter().enumerate() {
        unmet.push(dependencies.len() as u32);
        dependencies.iter().for_each(|dependency| dependents[*dependency as usize].push(step as u32));
    }
    let mut results = vec![0_i64; graph.len()];
    let mut ready: Vec<u32> = (0..graph.len() as u32).filter(|step| unmet[*step as usize] == 0).collect();
    while let Some(step) = ready.pop() {
        let input = graph[step as usize].first().map_or(0, |input| results[*input as usize]);
        results[step as usize] = input + 1;
        for &dependent in &dependents[step as usize] {
            unmet[dependent as usize] -= 1;
            if unmet[dependent as usize] == 0 {
                ready.push(dependent);
            }
        }
    }
    black_box(results.last());
    drop((results, dependents));
    started.elapsed()
}

/// The slope of a line through the logarithms of costs at sizes that are ten times as large each.
fn slope(costs: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = costs.iter().enumerate().map(|(place, cost)| (place as f64, cost.log10())).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
