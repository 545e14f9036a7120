//! Whole runs in seeded worlds that misbehave. What must hold is in `support/check`.

#![expect(clippy::print_stdout, reason = "how much happened belongs to the result")]

pub mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use plandag::{Phase, Plan, StepId};
use serde_json::Value;
use support::check::plan::{dependencies, topological_order};
use support::counts::Counts;
use support::explore::explore;
use support::knobs::Knobs;
use support::world::{World, value_of};
use support::{for_each_seed, seeds};

#[test]
fn random_dags_and_faults_keep_every_promise() {
    let test = "random_dags_and_faults_keep_every_promise";
    let totals = Mutex::new(Counts::default());
    for_each_seed(test, seeds(10_000), |seed| {
        explore(seed, &Knobs::ALL, &totals);
    });
    let totals = totals.into_inner().expect("every world was counted");
    println!("{totals:?}");
    totals.assert_that_there_were(&[
        "crashes",
        "accepted revisions",
        "rejected revisions",
        "given up requests",
        "requests put off",
        "reviews",
        "expansions",
        "drafts",
        "retries",
        "comparisons with a replay",
        "unknown outcomes",
        "questions",
        "approvals",
        "false conditions",
        "skipped steps",
        "stops",
        "ended attempts",
        "forks",
    ]);
}

/// A world in which that was not so once.
#[test]
fn a_limit_that_is_reached_when_failures_are_asked_about_stops_the_run_once() {
    explore(4274, &Knobs { other_plans: false, forks: false, ..Knobs::ALL }, &Mutex::new(Counts::default()));
}

/// Whatever the order in which results come, and whether they come late or twice: each step gets what its
/// dependencies produced, and the outputs are those of a calculation that knows no scheduler.
#[test]
fn any_schedule_leads_to_the_same_results() {
    let test = "any_schedule_leads_to_the_same_results";
    let totals = Mutex::new(Counts::default());
    let knobs = Knobs { max_steps: 12, noise: true, pools: true, streams: true, crashes: 1, ..Knobs::CALM };
    for_each_seed(test, seeds(100_000), |seed| {
        let plan = World::new(seed, &knobs).first_plan().clone();
        let journey = explore(seed, &knobs, &totals);
        assert_eq!(journey.scheduler.phase(), Phase::Finished);
        if journey.scheduler.revision() == 0 {
            return; // Its planner never came to an end.
        }
        let expected = calculate(&plan);
        for step in journey.scheduler.members() {
            assert_eq!(journey.value(step.number), expected[step.id], "output of `{}`", step.id);
        }
        assert_eq!(journey.scheduler.members().count(), plan.steps.len());
    });
    println!("{:?}", totals.into_inner().expect("every world was counted"));
}

/// The outputs of a plan, one step after the other.
fn calculate(plan: &Plan) -> BTreeMap<StepId, Value> {
    let steps: BTreeMap<&StepId, _> = plan.steps.iter().map(|step| (&step.id, step)).collect();
    let needs = plan.steps.iter().map(|step| (step.id.clone(), dependencies(step))).collect();
    let mut values: BTreeMap<StepId, Value> = BTreeMap::new();
    for id in topological_order(&needs).expect("a first plan can run") {
        let inputs = needs[&id].iter().map(|before| (before.to_string(), values[before].clone())).collect();
        values.insert(id.clone(), value_of(steps[&id], &inputs));
    }
    values
}
