//! What it costs to get from the text of a plan to a checked DAG: parsing and validation, for a plan of 100,000 steps.

#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the measurement")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plandag::{Dag, Limits, Plan, PlanFile, PlanFormat, Policy, RunStart, Step, ToolSpec};

const STEPS: usize = 100_000;

/// Steps that each depend on up to three earlier ones, and refer to nothing.
fn layered() -> Plan {
    let id = |index: usize| format!("step-{index}");
    Plan::from_iter((0..STEPS).map(|index| {
        let dependencies = [1, 7, 100].into_iter().filter_map(|back| index.checked_sub(back));
        Step::new(id(index), "echo").depends_on(dependencies.map(id))
    }))
}

fn start() -> RunStart {
    RunStart {
        objective: "measure".to_owned(),
        inputs: [].into(),
        policy: Policy { limits: Limits::NONE, ..Policy::default() },
        tools: vec![ToolSpec::new("echo", "")],
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    }
}

fn input(criterion: &mut Criterion) {
    let (plan, start) = (layered(), start());
    let text = serde_json::to_string(&plan).unwrap();
    let parse = || PlanFile::parse("plan.json", text.as_str(), PlanFormat::Json, u64::MAX).unwrap().plan;
    let mut group = criterion.benchmark_group("input");
    group.throughput(Throughput::Elements(STEPS as u64)).sample_size(20);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("check", |bencher| bencher.iter_with_large_drop(|| Dag::check(&plan, &start).unwrap()));
    group.bench_function("parse", |bencher| bencher.iter_with_large_drop(|| black_box(parse())));
    group.bench_function("parse and check", |bencher| {
        bencher.iter_with_large_drop(|| {
            let plan = parse();
            (Dag::check(&plan, &start).unwrap(), plan)
        });
    });
    group.finish();
}

criterion_group!(benches, input);
criterion_main!(benches);
