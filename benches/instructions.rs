//! Some whole runs of a plan of steps that do nothing, to be counted by valgrind: see `instructions.sh`.
//!
//! On one thread, so that every run is the same. The arguments are a shape, its number of steps, and how often.

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::hint::black_box;

use support::SHAPES;
use support::plandag::{runner, whole};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, steps, times] = arguments.as_slice() else { return };
    let named = SHAPES.into_iter().find(|(name, _)| name == shape);
    let (Some((_, shape)), Ok(steps), Ok(times)) = (named, steps.parse(), times.parse::<usize>()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let runner = runner(support::plan(&shape(steps)));
    for _ in 0..times {
        black_box(runtime.block_on(whole(&runner)));
    }
}
