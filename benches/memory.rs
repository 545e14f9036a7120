//! How much memory a run takes per step, beside the plan and the results, and how its time grows with its size.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::time::Instant;

use peak_alloc::PeakAlloc;
use plandag::{Limits, Plan, Policy, RunReport, Runner, tool_fn};
use serde_json::Value;

use support::SHAPES;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a step's result takes: a number, shared.
const RESULT_BYTES: usize = 2 * size_of::<usize>() + size_of::<Value>();

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("bytes per step: of the plan, and at most of the run beside the plan and the results; ns per step");
    println!("{:>8} {:>8} {:>6} {:>6} {:>6}", "shape", "steps", "plan", "run", "time");
    for (name, shape) in SHAPES {
        for size in [1_000, 10_000, 100_000, 1_000_000] {
            let graph = shape(size);
            let steps = graph.len();
            let before = MEMORY.current_usage();
            let plan = support::plan(&graph);
            let plan_bytes = MEMORY.current_usage() - before;
            drop(graph);
            let started = Instant::now();
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let report = runtime.block_on(run(plan));
            let took = started.elapsed();
            let run_bytes = (MEMORY.peak_usage() - before).saturating_sub(steps * RESULT_BYTES);
            report.answer().expect("an answer");
            println!(
                "{name:>8} {steps:>8} {:>6} {:>6} {:>6}",
                plan_bytes / steps,
                run_bytes / steps,
                took.as_nanos() / steps as u128
            );
        }
    }
}

async fn run(plan: Plan) -> RunReport {
    let next =
        tool_fn(|cx| async move { Ok(cx.inputs.iter().next().and_then(|(_, value)| value.as_i64()).unwrap_or(0) + 1) });
    let policy = Policy { limits: Limits::NONE, ..Policy::default() };
    Runner::new(plan).tool("next", next).policy(policy).run("nothing").await.expect("a report")
}
