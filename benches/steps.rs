//! What a step that does nothing costs, by shape and number of steps: the floor written by hand, the scheduler alone, and
//! the whole [`Runner`](plandag::Runner). `overhead` puts them side by side in turns; this keeps track of each over time.

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

use support::floor::floor;
use support::plandag::{core_alone, runner, whole};
use support::{Dependencies, SHAPES};

const SIZES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

fn steps(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (name, shape) in SHAPES {
        let mut group = criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
        for size in SIZES {
            let graph: Dependencies = shape(size);
            let plan = support::plan(&graph);
            let runner = runner(plan.clone());
            group.throughput(Throughput::Elements(graph.len() as u64));
            group.bench_function(BenchmarkId::new("floor", size), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(floor(&graph))).sum());
            });
            group.bench_function(BenchmarkId::new("core", size), |bencher| {
                let both = |(accept, run): (Duration, Duration)| accept + run;
                bencher.iter_custom(|times| (0..times).map(|_| both(core_alone(&plan))).sum());
            });
            group.bench_function(BenchmarkId::new("runner", size), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(whole(&runner))).sum());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
