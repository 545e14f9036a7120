//! Patches: what is wrong with one, and what a good one leaves of the plan.

use std::sync::Arc;

use plandag::{OnFailure, Patch, PlanError, PlanReason, Policy, Revision, Step, StepState};

use crate::driver::{Driver, half_failed};

fn read(id: &str) -> Arc<Step> {
    Arc::new(Step::new(id, "read"))
}

/// What is said about a patch of the plan of [`half_failed`].
fn offences(patch: Patch) -> Vec<PlanError> {
    let mut driver = half_failed();
    driver.reply(Revision::Patch(patch));
    match &driver.requests.last().expect("sent back").reason {
        PlanReason::Rejected(offences) => offences.to_vec(),
        other => panic!("it was accepted: {other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_patch() {
    let bad = |message: &str| PlanError::BadPatch { message: message.to_owned() };
    // What failed, and what depends on it, is dropped, so that nothing is wrong with that.
    let drop = || vec!["b".into(), "c".into()];
    let with = |patch: Patch| offences(Patch { drop: [drop(), patch.drop].concat(), ..patch });
    let empty = Patch::default();
    let needs_failed = PlanError::DependsOnFailed { step: "c".into(), dependency: "b".into() };
    assert_eq!(offences(empty.clone()), [bad("changes nothing"), needs_failed]);
    assert_eq!(
        with(Patch { add: vec![read("a")], ..empty.clone() })[0],
        bad("adds `a`, which is in the plan: change it")
    );
    assert_eq!(
        with(Patch { change: vec![read("zz")], ..empty.clone() }),
        [bad("changes `zz`, which is not in the plan")]
    );
    assert_eq!(
        with(Patch { change: vec![read("d"), read("d")], ..empty.clone() }),
        [PlanError::DuplicateId { id: "d".into() }]
    );
    assert_eq!(
        with(Patch { change: vec![read("d")], drop: vec!["d".into()], ..empty.clone() }),
        [bad("changes and drops `d`")]
    );
    assert_eq!(with(Patch { drop: vec!["zz".into()], ..empty.clone() }), [bad("drops `zz`, which is not in the plan")]);
    let needs_failed = PlanError::AnswerFailed { answer: "b".into() };
    let patch = Patch { drop: vec!["c".into()], answer: Some("b".into()), ..empty };
    assert_eq!(offences(patch), [needs_failed]);
}

#[test]
fn a_failure_that_nothing_needs_is_given_up_by_a_patch_that_does_not_mention_it() {
    let mut driver = half_failed();
    driver.reply(Revision::Patch(Patch { drop: vec!["c".into()], ..Patch::default() }));
    driver.succeeds("d");
    driver.succeeds("e");
    assert!(matches!(driver.scheduler.outcome(), Some(plandag::RunOutcome::Succeeded { .. })));
    assert_eq!(driver.state("b"), StepState::Failed);
}

#[test]
fn a_patch_may_only_say_what_the_answer_is() {
    let steps = || [Step::new("a", "read"), Step::new("b", "read"), Step::new("bad", "read")];
    let bad = |plan: plandag::Plan| plan.answer("a");
    let mut driver = Driver::with_plan(Policy::default(), bad(plandag::Plan::from_iter(steps())));
    driver.succeeds("a");
    driver.succeeds("b");
    driver.fails("bad");
    driver.reply(Revision::Patch(Patch { answer: Some("b".into()), ..Patch::default() }));
    let Some(plandag::RunOutcome::Succeeded { answer }) = driver.scheduler.outcome() else { panic!("it has ended") };
    assert_eq!(*answer, plandag::Output::inline(serde_json::json!("result of b")));
}

#[test]
fn an_answer_that_a_patch_does_not_mention_stays() {
    let steps = [Step::new("a", "read"), Step::new("b", "read"), Step::new("bad", "read")];
    let plan = plandag::Plan::from_iter(steps).answer("a");
    let mut driver = Driver::with_plan(Policy::default(), plan);
    driver.succeeds("a");
    driver.succeeds("b");
    driver.fails("bad");
    driver.reply(Revision::Patch(Patch { drop: vec!["bad".into()], ..Patch::default() }));
    let Some(plandag::RunOutcome::Succeeded { answer }) = driver.scheduler.outcome() else { panic!("it has ended") };
    assert_eq!(*answer, plandag::Output::inline(serde_json::json!("result of a")));
}

#[test]
fn a_failure_that_is_covered_is_no_reason_for_a_patch_to_leave_its_dependents_out() {
    let steps = [
        Step::new("a", "read").on_failure(OnFailure::Continue),
        Step::new("b", "read").depends_on(["a"]),
        Step::new("bad", "read"),
    ];
    let mut driver = Driver::with_plan(Policy::default(), plandag::Plan::from_iter(steps));
    driver.fails("a");
    driver.fails("bad");
    driver.reply(Revision::Patch(Patch { drop: vec!["bad".into()], ..Patch::default() }));
    assert_eq!(driver.running(), ["b"]);
}
