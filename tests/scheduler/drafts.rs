//! Steps of a plan that is still being written.

use std::sync::Arc;

use plandag::{Event, Limits, Plan, PlanError, PlanReason, Policy, Revision, SkipReason, Step, StepState};
use serde_json::json;

use crate::driver::Driver;

fn read(id: &str) -> Step {
    Step::new(id, "read")
}

/// `run` is running and `wait` waits for it; `bad` has failed and `below` is skipped. All are drafts.
fn streamed() -> Driver {
    let mut driver = Driver::new(Policy::default());
    driver.send(Event::Begin);
    let request = driver.requests.last().expect("asked").request;
    for step in [read("run"), read("wait").depends_on(["run"]), read("bad"), read("below").depends_on(["bad"])] {
        driver.send(Event::PlanStep { request, step: Arc::new(step) });
    }
    driver.fails("bad");
    driver
}

fn members(driver: &Driver) -> Vec<&str> {
    driver.scheduler.members().map(|step| step.id.as_str()).collect()
}

#[test]
fn drafts_that_have_not_started_are_dropped_with_their_plan() {
    let truncated = |driver: &mut Driver| {
        let request = driver.requests.pop().expect("asked").request;
        let reply = Err(PlanError::Truncated { message: "no end mark".into() });
        driver.send(Event::PlanReturned { request, reply: Box::new(reply) });
    };
    for drop in [&truncated as &dyn Fn(&mut Driver), &Driver::crash] {
        let mut driver = streamed();
        assert_eq!(members(&driver), ["run", "wait", "bad", "below"]);
        drop(&mut driver);
        assert_eq!(driver.state("wait"), StepState::Superseded);
        let cause = driver.number("bad");
        assert_eq!(driver.state("below"), StepState::Skipped(SkipReason::Failed(cause)));
        assert_eq!(members(&driver), ["run", "bad"], "those that have started stay for the corrected plan");
        assert_eq!(driver.running(), ["run"]);
    }
}

#[test]
fn the_failure_of_a_draft_is_asked_about_once_the_plan_repeats_it() {
    let mut driver = streamed();
    driver.reply(Revision::Plan(Plan::from_iter([read("run"), read("bad")])));
    assert_eq!(driver.requests.last().expect("asked").failures, [driver.number("bad")]);
    let mut driver = streamed();
    driver.reply(Revision::Plan(Plan::from_iter([read("run")])));
    assert!(driver.requests.is_empty(), "it is not in the plan");
}

#[test]
fn no_more_steps_are_drafted_than_a_run_may_have() {
    let limits = Limits { steps: 2, ..Limits::default() };
    let mut driver = Driver::new(Policy { limits, ..Policy::default() });
    driver.send(Event::Begin);
    let request = driver.requests.last().expect("asked").request;
    for step in [read("a"), read("b"), read("c")] {
        driver.send(Event::PlanStep { request, step: Arc::new(step) });
    }
    assert_eq!(driver.running(), ["a", "b"]);
}

#[test]
fn no_more_dependencies_are_drafted_than_a_plan_may_have() {
    let drafts = |driver: &mut Driver, steps: &[Step]| {
        let request = driver.requests.last().expect("asked").request;
        for step in steps {
            driver.send(Event::PlanStep { request, step: Arc::new(step.clone()) });
        }
    };
    let limits = Limits { edges: 3, ..Limits::default() };
    let mut driver = Driver::new(Policy { limits, ..Policy::default() });
    driver.send(Event::Begin);
    let plan = [
        read("a"),
        read("b").depends_on(["a"]),
        read("doubled").depends_on(["a", "a", "a"]),
        read("c").depends_on(["a"]).args(json!("${b}")),
        read("d").depends_on(["c"]),
    ];
    drafts(&mut driver, &plan);
    assert_eq!(members(&driver), ["a", "b", "c"]);
    driver.succeeds("a");
    assert_eq!(driver.running(), ["b"]);
    driver.reply(Revision::Plan(Plan::from_iter(plan.clone())));
    let PlanReason::Rejected(offences) = &driver.requests.last().expect("asked again").reason else {
        panic!("rejected")
    };
    assert_eq!(**offences, [PlanError::TooLarge { what: "dependencies".into(), count: 6, limit: 3 }]);

    // The dependencies of drafts that have not started went with them.
    assert_eq!(members(&driver), ["a", "b"]);
    drafts(&mut driver, &[read("e").depends_on(["a", "b"]), read("f").depends_on(["a"])]);
    assert_eq!(members(&driver), ["a", "b", "e"]);
    driver.reply(Revision::Plan(Plan::from_iter([
        read("a"),
        read("b").depends_on(["a"]),
        read("e").depends_on(["a", "b"]),
    ])));
    driver.fails("b");
    // A revision begins with what the plan has.
    drafts(&mut driver, &[read("g"), read("h").depends_on(["a"])]);
    assert_eq!(members(&driver), ["a", "b", "e", "g"]);
}
