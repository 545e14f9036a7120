//! What it costs to get from the text of a plan to a checked DAG, per step.

#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the measurement")]

use std::hint::black_box;
use std::time::{Duration, Instant};

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
        labels: Default::default(),
    }
}

/// The shortest of many runs: on a busy machine the others measure its other work.
fn shortest<T>(name: &str, mut run: impl FnMut() -> T) {
    let mut shortest = Duration::MAX;
    for _ in 0..40 {
        let began = Instant::now();
        let result = black_box(run());
        shortest = shortest.min(began.elapsed());
        drop(result);
    }
    println!("{name}: {:.0} ns a step", shortest.as_nanos() as f64 / STEPS as f64);
}

fn main() {
    let (plan, start) = (layered(), start());
    shortest("check", || Dag::check(&plan, &start).unwrap());
    let text = serde_json::to_string(&plan).unwrap();
    let parse = || PlanFile::parse("plan.json", text.as_str(), PlanFormat::Json, u64::MAX).unwrap().plan;
    shortest("parse", parse);
    shortest("parse and check", || {
        let plan = parse();
        (Dag::check(&plan, &start).unwrap(), plan)
    });
}
