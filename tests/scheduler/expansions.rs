//! Plans inside the plan.

use plandag::{
    Limits, OnFailure, Output, Patch, Plan, PlanError, PlanReason, Policy, Revision, RunOutcome, Step, StepErrorKind,
    StepState,
};
use serde_json::json;

use crate::driver::Driver;

fn read(id: &str) -> Step {
    Step::new(id, "read")
}

#[test]
fn an_expansion_deeper_than_the_limit_fails() {
    let policy = Policy { limits: Limits { depth: 2, ..Limits::default() }, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter([read("a")]));
    driver.expands("a", [read("b")]);
    driver.expands("a/b", [read("c")]);
    assert_eq!(driver.running(), ["a/b/c"]);
    driver.expands("a/b/c", [read("d")]);
    let step = driver.scheduler.step(driver.number("a/b/c")).expect("known");
    let error = step.error.expect("it failed");
    assert_eq!((step.state, error.kind), (StepState::Failed, StepErrorKind::Permanent));
    assert_eq!(error.message, "step `a/b/c` expands deeper than the limit of 2");
}

#[test]
fn a_plan_may_build_on_what_an_expansion_produced_and_on_nothing_that_it_has_not() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([read("map"), read("bad")]));
    driver.expands("map", [read("done"), read("open"), read("covered").on_failure(OnFailure::Continue)]);
    driver.succeeds("map/done");
    driver.fails("map/covered");
    driver.fails("bad");
    let revision =
        |child: &str| Revision::Plan(Plan::from_iter([read("map"), read("next").depends_on([format!("map/{child}")])]));
    let before = driver.history.len();
    driver.reply(revision("open"));
    assert!(!driver.running().contains(&"next"), "nobody knows what will become of it");
    assert!(driver.history.len() > before && driver.requests.len() == 1, "it is sent back");
    driver.reply(revision("done"));
    let input = &driver.launched["next"].inputs.to_vec()[0];
    assert_eq!((input.id.as_str(), &input.output), ("map/done", &Some(Output::inline(json!("result of map/done")))));
}

#[test]
fn an_expansion_may_not_build_on_steps_outside_of_it() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([read("before"), read("map")]));
    driver.succeeds("before");
    driver.expands("map", [read("child").depends_on(["before"])]);
    let step = driver.scheduler.step(driver.number("map")).expect("known");
    let error = step.error.expect("it is tried again");
    assert_eq!(error.kind, StepErrorKind::InvalidPlan);
    assert!(error.message.contains("`before`, which is not in the plan"), "{}", error.message);
}

#[test]
fn the_limit_of_steps_is_for_all_plans_of_a_run_together() {
    let expanded = |steps: u32| {
        let policy = Policy { limits: Limits { steps, ..Limits::default() }, ..Policy::default() };
        let mut driver = Driver::with_plan(policy, Plan::from_iter([read("map")]));
        driver.expands("map", [read("one"), read("two")]);
        driver.state("map")
    };
    assert_eq!(expanded(3), StepState::Expanded);
    assert!(matches!(expanded(2), StepState::Backoff(_)), "it may return a smaller plan on its next try");
}

/// `p` has become `p/c`, which is finished; then `bad` has failed.
fn expanded() -> Driver {
    let plan = Plan::from_iter([read("p").args(json!("old")), read("bad").depends_on(["p"])]);
    let mut driver = Driver::with_plan(Policy::default(), plan);
    driver.expands("p", [read("c")]);
    driver.succeeds("p/c");
    driver.fails("bad");
    driver
}

#[test]
fn no_answer_is_taken_from_an_expansion_that_the_same_revision_makes_anew() {
    let mut driver = expanded();
    driver.reply(Revision::Plan(Plan::from_iter([read("p").args(json!("new"))]).answer("p/c")));
    let PlanReason::Rejected(offences) = &driver.requests.last().expect("sent back").reason else {
        panic!("it was accepted: {}", driver.story());
    };
    assert_eq!(**offences, [PlanError::UnknownAnswer { answer: "p/c".into(), suggestion: None }]);
    driver.reply(Revision::Plan(Plan::from_iter([read("p").args(json!("old"))]).answer("p/c")));
    let answer = Output::inline(json!("result of p/c"));
    assert_eq!(driver.scheduler.outcome(), Some(&RunOutcome::Succeeded { answer }));
}

#[test]
fn a_patch_that_names_no_answer_leaves_one_that_is_inside_of_an_expansion() {
    let mut driver = expanded();
    let plan = Plan::from_iter([read("p").args(json!("old")), read("worse").depends_on(["p"])]);
    driver.reply(Revision::Plan(plan.answer("p/c")));
    driver.fails("worse");
    let mended = read("worse").args(json!("mended")).depends_on(["p"]);
    driver.reply(Revision::Patch(Patch { change: vec![mended.into()], ..Patch::default() }));
    driver.succeeds("worse");
    let answer = Output::inline(json!("result of p/c"));
    assert_eq!(driver.scheduler.outcome(), Some(&RunOutcome::Succeeded { answer }));
}

/// Whichever of its tries has become what: all of that is forgotten, however deep, and nothing of steps that are called
/// nearly the same.
#[test]
fn what_every_try_of_a_step_has_become_is_forgotten_with_it() {
    let plan = |p: &str| {
        let q = read("p-c").depends_on(["p"]).args(json!("q"));
        Plan::from_iter([read("p").args(json!(p)), q])
    };
    let mut driver = Driver::with_plan(Policy::default(), plan("old"));
    driver.expands("p", [read("c"), read("bad")]);
    driver.expands("p/c", [read("deep")]);
    driver.succeeds("p/c/deep");
    driver.fails("p/bad");
    driver.reply(Revision::Plan(plan("old")));
    assert_eq!(driver.running(), ["p"], "it is tried again");
    driver.fails("p");
    let depends =
        |on: &str| Revision::Plan(Plan::from_iter([read("p").args(json!("new")), read("x").depends_on([on])]));
    let before = driver.scheduler.revision();
    driver.reply(depends("p/c/deep"));
    assert_eq!(driver.scheduler.revision(), before, "it is sent back");
    driver.reply(Revision::Plan(plan("new")));
    assert_eq!(driver.running(), ["p"]);
    for id in ["p/c", "p/c/deep", "p/bad"] {
        assert_eq!(driver.scheduler.current(id), None, "{id}");
    }
    assert!(driver.scheduler.current("p-c").is_some());
}
