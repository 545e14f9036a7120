//! METG(50 %): the shortest step at which at least half of the machine's time goes into steps, on a stencil.
//!
//! The metric is that of "Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime Performance" (Slaughter
//! et al., SC20): steps of a stencil, as many columns as cores, each with its neighbours in the row before; each step
//! computes for a while, and the while is made shorter until what the cores compute together is half of what they could.
//! Granularity is the time of the run times the cores, divided by the steps. The floor is measured beside.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use plandag::{Runner, tool_fn};

use support::Dependencies;
use support::floor::floor_with;

/// Rows of the stencil, as in the paper.
const ROWS: usize = 1_000;
/// Rounds of which the median is taken: on a busy machine a single one measures its other work.
const ROUNDS: usize = 7;
/// The turns of the loop that are tried, one after the other: from a few dozen microseconds a step downwards, and closer
/// together where the figure is expected, as between two of them it is taken from a line.
const TURNS: [u64; 15] =
    [16_000, 11_000, 8_000, 5_600, 4_000, 2_800, 2_000, 1_400, 1_000, 700, 520, 400, 300, 230, 170];

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build().expect("a runtime");
    println!("stencils of {ROWS} rows on {cores} cores; us of a core that a step takes where half of that is its own");
    println!("{:>8} {:>8} {:>8} {:>8}", "columns", "steps", "floor", "runner");
    // The paper has one column for each core. With more there is more to choose from, as in a plan.
    for columns in [cores, 8 * cores] {
        let graph = stencil(columns, ROWS);
        let plan = support::plan(&graph);
        let floor = metg(cores, graph.len(), |turns| runtime.block_on(floor_with(&graph, move || compute(turns))));
        let runner = metg(cores, graph.len(), |turns| {
            let compute = tool_fn(move |_| async move {
                compute(turns);
                Ok(())
            });
            let runner = Runner::new(plan.clone()).tool("next", compute).policy(support::plandag::policy());
            runtime.block_on(support::plandag::whole(&runner))
        });
        let shown = |metg: Option<f64>| metg.map_or_else(|| "-".to_owned(), |metg| format!("{metg:.2}"));
        println!("{columns:>8} {:>8} {:>8} {:>8}", graph.len(), shown(floor), shown(runner));
    }
}

/// The granularity at which efficiency falls below a half, in microseconds. None if it is below from the start: the
/// machine does something else.
fn metg(cores: usize, steps: usize, run: impl Fn(u64) -> Duration) -> Option<f64> {
    let mut before: Option<(f64, f64)> = None;
    for turns in TURNS {
        // What the cores can do is measured in turns with what they do.
        let round = |_| {
            let ideal = ideal(cores, steps, turns);
            let took = run(turns);
            let granularity = took.as_nanos() as f64 * cores as f64 / steps as f64 / 1_000.0;
            (granularity, ideal.as_secs_f64() / took.as_secs_f64())
        };
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(round).collect();
        rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
        let now = rounds[ROUNDS / 2];
        if now.1 < 0.5 {
            // On a line between the last two: where it is a half.
            let (granularity, efficiency) = before?;
            let share = (efficiency - 0.5) / (efficiency - now.1);
            return Some(granularity + (now.0 - granularity) * share);
        }
        before = Some(now);
    }
    before.map(|(granularity, _)| granularity)
}

/// The time in which the cores compute all steps when nobody hands them out.
fn ideal(cores: usize, steps: usize, turns: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for core in 0..cores {
            let own = steps / cores + usize::from(core < steps % cores);
            scope.spawn(move || (0..own).for_each(|_| compute(turns)));
        }
    });
    started.elapsed()
}

/// A loop that keeps a core busy and touches no memory.
fn compute(turns: u64) {
    let mut value = 1.0_f64;
    for _ in 0..turns {
        value = black_box(value * 1.000_000_1 + 1.0e-9);
    }
    black_box(value);
}

fn stencil(columns: usize, rows: usize) -> Dependencies {
    let columns = columns as u32;
    (0..rows as u32 * columns)
        .map(|step| {
            let (row, column) = (step / columns, step % columns);
            let Some(above) = row.checked_sub(1) else { return Vec::new() };
            let neighbours = column.saturating_sub(1)..=(column + 1).min(columns - 1);
            neighbours.map(|column| above * columns + column).collect()
        })
        .collect()
}
