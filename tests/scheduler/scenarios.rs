//! Whole histories as golden files.

use std::sync::Arc;

use plandag::{
    Decision, Event, Output, Patch, Phase, Plan, PlanError, PlanReason, Policy, Returned, Revision, Step, StepError,
    StepState, Timestamp,
};
use serde_json::json;

use crate::driver::{Driver, diamond};

#[test]
fn scenario_diamond() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    assert_eq!(driver.running(), ["a"]);
    driver.wait(10);
    driver.succeeds("a");
    assert_eq!(driver.running(), ["b", "c"]);
    driver.succeeds("c");
    driver.wait(5);
    driver.succeeds("b");
    driver.succeeds("d");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
    insta::assert_snapshot!(driver.story());
}

#[test]
fn scenario_retries_then_replan() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    driver.succeeds("a");
    driver.returns("b", Err(StepError::transient("busy").retry_after_ms(2_000)));
    assert_eq!(driver.state("b"), StepState::Backoff(Timestamp::from_millis(2_500)));
    assert_eq!(driver.wake_at, Some(Timestamp::from_millis(2_000)));
    driver.succeeds("c");
    driver.wait(2_500);
    driver.fails("b");
    driver.reply(Revision::Patch(Patch {
        add: vec![Arc::new(Step::new("b2", "read").depends_on(["a"]))],
        change: vec![Arc::new(Step::new("d", "read").args(json!({ "b": "${b2}", "c": "${c}" })))],
        drop: vec!["b".into()],
        answer: None,
    }));
    assert_eq!(driver.running(), ["b2"]);
    driver.succeeds("b2");
    driver.succeeds("d");
    insta::assert_snapshot!(driver.story());
}

#[test]
fn scenario_map_over_a_list() {
    let plan = Plan::from_iter([Step::new("map", "read"), Step::new("sum", "read").args(json!("${map}"))]);
    let mut driver = Driver::with_plan(Policy::default(), plan);
    let children = Plan::from_iter([Step::new("one", "read"), Step::new("two", "read")]);
    driver.returns("map", Ok(Returned::Plan(Box::new(children))));
    assert_eq!(driver.running(), ["map/one", "map/two"]);
    driver.succeeds("map/one");
    driver.succeeds("map/two");
    let gathered = driver.launched["sum"].inputs.to_vec()[0].output.clone();
    assert!(matches!(gathered, Some(Output::Gathered(children)) if children.len() == 2));
    driver.succeeds("sum");
    insta::assert_snapshot!(driver.story());
}

#[test]
fn scenario_crash_with_an_acting_step() {
    let plan = Plan::from_iter([
        Step::new("look", "read"),
        Step::new("pay", "pay"),
        Step::new("report", "read").depends_on(["look", "pay"]),
    ]);
    let mut driver = Driver::with_plan(Policy::default(), plan);
    driver.wait(100);
    driver.crash();
    assert_eq!(driver.running(), ["look"], "reading is safe to repeat, paying is not");
    driver.succeeds("look");
    assert_eq!(driver.scheduler.phase(), Phase::Stopped, "only a person can go on");
    let step = driver.number("pay");
    driver.send(Event::Decided { step, decision: Decision::Succeeded(Output::inline(json!("paid"))) });
    driver.crash();
    driver.succeeds("report");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
    insta::assert_snapshot!(driver.story());
}

#[test]
fn scenario_streamed_plan_is_cut_off_and_corrected() {
    let mut driver = Driver::new(Policy::default());
    driver.send(Event::Begin);
    let request = driver.requests.last().expect("asked").request;
    for step in [Step::new("a", "read"), Step::new("pay", "pay"), Step::new("c", "read").depends_on(["a"])] {
        driver.send(Event::PlanStep { request, step: Arc::new(step) });
    }
    assert_eq!(driver.running(), ["a"], "an acting step waits for the whole plan");
    driver.requests.clear();
    let reply = Err(PlanError::Truncated { message: "no end mark".into() });
    driver.send(Event::PlanReturned { request, reply: Box::new(reply) });
    assert_eq!(driver.state("c"), StepState::Superseded);
    assert!(matches!(driver.requests.last().expect("asked again").reason, PlanReason::Rejected(_)));
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("a", "read"), Step::new("pay", "pay").depends_on(["a"])])));
    assert_eq!(driver.running(), ["a"], "what the corrected plan repeats goes on");
    driver.succeeds("a");
    driver.succeeds("pay");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
    insta::assert_snapshot!(driver.story());
}
