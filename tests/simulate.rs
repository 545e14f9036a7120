//! The public simulator: what a plan would do, without doing it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plandag::simulate::{Ended, Simulation};
use plandag::{
    FailureReason, Limits, Patch, Plan, Policy, Retry, Returned, Revision, RunOutcome, RunStart, Scheduler, Step,
    StepError, StopReason, ToolSpec,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Eight searches of half a second and a join.
fn research() -> Plan {
    let searches = (0..8).map(|number| Step::new(format!("search{number}"), "search").estimate_ms(500));
    let mut plan = Plan::from_iter(searches.collect::<Vec<_>>());
    let all: Vec<_> = plan.steps.iter().map(|step| step.id.clone()).collect();
    plan.push(Step::new("join", "write").estimate_ms(500).depends_on(all));
    plan
}

#[test]
fn parallel_and_sequential_times_are_as_calculated() {
    let parallel = Simulation::new(research()).run();
    assert!(parallel.succeeded());
    assert_eq!(parallel.makespan, millis(1_000));
    assert_eq!(parallel.critical_path, millis(1_000));
    assert_eq!(parallel.critical_steps, [0, 8]);
    assert_eq!(parallel.bound(), millis(1_000));
    let sequential = Simulation::new(research()).sequential().run();
    assert_eq!(sequential.makespan, millis(4_500));
    assert_eq!(sequential.work, sequential.makespan);
    assert_eq!(sequential.bound(), millis(4_500));
    let pooled = Simulation::new(research()).pool("search", 3).run();
    assert_eq!(pooled.makespan, millis(2_000));
}

#[test]
fn the_same_input_is_the_same_run() {
    let run = || Simulation::new(research()).max_parallel(3).run();
    let (one, other) = (run(), run());
    assert_eq!(one.history, other.history);
    assert_eq!(one.attempts, other.attempts);
    let replayed = Scheduler::replay(&one.history).expect("a simulated history can be replayed");
    assert_eq!(replayed.snapshot(), one.scheduler.snapshot());
    assert!(Simulation::new(research()).without_history().run().history.is_empty());
}

#[test]
fn an_expected_time_comes_from_the_step_else_its_tool_else_is_a_second() {
    let plan = || Plan::from_iter([Step::new("a", "read"), Step::new("b", "write")]);
    let tools = vec![ToolSpec { mean_ms: Some(300), ..ToolSpec::new("read", "") }, ToolSpec::new("write", "")];
    let run = Simulation::new(plan()).tools(tools).sequential().run();
    assert_eq!(run.makespan, millis(1_300));
    let run = Simulation::new(plan()).durations(|launch| millis(if launch.id == "a" { 7 } else { 5 })).run();
    assert_eq!(run.makespan, millis(7));
}

#[test]
fn a_failing_step_is_tried_again_and_then_fails_the_run() {
    let plan =
        || Plan::from_iter([Step::new("a", "read").retry(Retry { max_attempts: 3, base_ms: 100, max_ms: 1_000 })]);
    let busy_until = |tries: u32| {
        Simulation::new(plan()).results(move |launch| match launch.tries {
            try_number if try_number < tries => Err(StepError::transient("busy")),
            _ => Ok(Returned::ConditionFalse),
        })
    };
    let run = busy_until(3).run();
    assert!(run.succeeded());
    assert_eq!(run.attempts.len(), 3);
    assert_eq!(run.work, millis(3_000));
    assert_eq!(run.critical_path, millis(3_000), "one try after the other");
    assert!(run.makespan > run.work, "with back-off between them");
    let run = busy_until(9).run();
    assert_eq!(run.ended, Ended::Finished(RunOutcome::Failed { reason: FailureReason::StepsFailed(vec![0]) }));
}

#[test]
fn a_bad_plan_is_an_outcome() {
    let run = Simulation::new(Plan::from_iter([Step::new("a", "read").depends_on(["a"])])).run();
    let Ended::Finished(RunOutcome::Failed { reason: FailureReason::NoPlan(_) }) = run.ended else {
        panic!("{:?}", run.ended)
    };
    assert_eq!((run.makespan, run.critical_path), (Duration::ZERO, Duration::ZERO));
    assert!(run.critical_steps.is_empty());
}

#[test]
fn a_planner_may_revise_what_fails() {
    let start = RunStart {
        objective: "the better answer".into(),
        inputs: BTreeMap::new(),
        policy: Policy::default(),
        tools: vec![ToolSpec::new("read", "")],
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    };
    let run = Simulation::with_planner(start, |request, scheduler| {
        Ok(match request.failures[..] {
            [] => Revision::Plan(Plan::from_iter([Step::new("bad", "read"), Step::new("good", "read")])),
            [failed, ..] => Revision::Patch(Patch {
                drop: vec![scheduler.step(failed).expect("it failed").id.clone()],
                add: vec![Arc::new(Step::new("better", "read").depends_on(["good"]))],
                ..Patch::default()
            }),
        })
    })
    .results(|launch| match launch.id.as_str() {
        "bad" => Err(StepError::permanent("no")),
        _ => Ok(Returned::ConditionFalse),
    })
    .run();
    assert!(run.succeeded());
    assert_eq!(run.makespan, millis(2_000));
    let ids: Vec<&str> = run.attempts.iter().map(|attempt| attempt.id.as_str()).collect();
    assert_eq!(ids, ["bad", "good", "better"]);
}

#[test]
fn the_critical_path_leads_through_expansions() {
    let plan = Plan::from_iter([
        Step::new("map", "read").estimate_ms(100),
        Step::new("short", "read").estimate_ms(50),
        Step::new("sum", "read").estimate_ms(10).depends_on(["map", "short"]),
    ]);
    let children =
        || Plan::from_iter([Step::new("one", "read").estimate_ms(400), Step::new("two", "read").estimate_ms(300)]);
    let run = Simulation::new(plan)
        .results(move |launch| match launch.id.as_str() {
            "map" => Ok(Returned::Plan(Box::new(children()))),
            _ => Ok(Returned::ConditionFalse),
        })
        .run();
    assert_eq!(run.makespan, millis(510));
    assert_eq!(run.critical_path, millis(510));
    let ids: Vec<String> =
        run.critical_steps.iter().map(|number| run.scheduler.step(*number).expect("it ran").id.to_string()).collect();
    assert_eq!(ids, ["map", "map/one", "sum"]);
}

#[test]
fn a_limit_stops_the_run() {
    let limits = Limits { deadline_ms: Some(700), ..Limits::NONE };
    let run = Simulation::new(research()).policy(Policy { limits, ..Policy::default() }).run();
    assert_eq!(run.ended, Ended::Stopped(StopReason::Deadline));
    assert_eq!(run.makespan, millis(700));
    let limits = Limits { attempts: Some(4), ..Limits::NONE };
    let run = Simulation::new(research()).policy(Policy { limits, ..Policy::default() }).run();
    assert_eq!(run.ended, Ended::Stopped(StopReason::Attempts));
    assert_eq!(run.attempts.len(), 4);
}

/// Not a measurement, only far from quadratic: a hundred thousand steps of each shape.
#[test]
fn large_plans_are_simulated() {
    let count = 100_000_u32;
    let chain = (0..count).map(|number| {
        let step = Step::new(number.to_string(), "read").estimate_ms(1);
        if number == 0 { step } else { step.depends_on([(number - 1).to_string()]) }
    });
    let run = Simulation::new(chain.collect()).without_history().run();
    assert_eq!(run.makespan, millis(u64::from(count)));
    assert_eq!(run.critical_steps.len(), count as usize);
    let wide = (0..count).map(|number| Step::new(number.to_string(), "read").estimate_ms(1));
    let run = Simulation::new(wide.collect()).max_parallel(1_000).without_history().run();
    assert_eq!(run.makespan, millis(100));
    let fan_in = Step::new("join", "read").depends_on((0..count).map(|number| number.to_string()));
    let wide = (0..count).map(|number| Step::new(number.to_string(), "read"));
    let run = Simulation::new(wide.chain([fan_in]).collect()).max_parallel(u32::MAX).without_history().run();
    assert_eq!(run.makespan, millis(2_000));
}

#[test]
fn steps_without_a_tool_take_the_pool_of_the_model_that_does_them() {
    let steps = ["a", "b", "c"].map(|id| Step::described(id, "think").estimate_ms(100));
    let plan = Plan::from_iter(steps);
    let run = Simulation::new(plan.clone()).pool("model", 1).run();
    assert_eq!((run.makespan.as_millis(), Simulation::new(plan).run().makespan.as_millis()), (300, 100));
}
