//! How runs stop and end.

use std::sync::Arc;

use plandag::{
    Event, FailureReason, Limits, OnFailure, Output, Patch, Phase, Plan, PlanReply, Policy, Returned, Revision,
    RunEventKind, RunOutcome, Scheduler, Step, StepError, StepErrorKind, StepState, StopReason, Usage,
};
use serde_json::json;

use crate::driver::{Driver, diamond, start, two_chains};

/// What a step fails with whose model cannot be asked.
fn refused(code: &str) -> StepError {
    StepError::permanent("no").details(json!({ "code": code }))
}

#[test]
fn a_failure_that_no_plan_can_mend_ends_the_run_without_another_one() {
    for code in
        ["config.missing_key", "config.wrong_key", "config.unknown_model", "provider.no_quota", "provider.not_an_api"]
    {
        for review in [false, true] {
            let mut driver = Driver::with_plan(Policy { review, ..Policy::default() }, two_chains());
            driver.succeeds("a");
            driver.returns("b", Err(refused(code)));
            assert_eq!(driver.running(), ["d"], "what does not depend on it goes on");
            driver.succeeds("d");
            driver.succeeds("e");
            assert!(driver.requests.is_empty(), "{code}");
            let Some(RunOutcome::Failed { reason: FailureReason::StepsFailed(failed) }) = driver.scheduler.outcome()
            else {
                panic!("{code}: {:?}", driver.scheduler.outcome());
            };
            assert_eq!(*failed, [driver.number("b")]);
        }
    }
    for code in ["provider.unavailable", "provider.rate_limited", "model.context_overflow", "model.refused"] {
        let mut driver = Driver::with_plan(Policy::default(), two_chains());
        driver.returns("a", Err(refused(code)));
        assert_eq!(driver.requests.len(), 1, "{code}");
    }
}

#[test]
fn what_another_plan_can_mend_is_asked_about_beside_what_none_can() {
    let mut driver = Driver::with_plan(Policy::default(), two_chains());
    driver.returns("a", Err(refused("config.wrong_key")));
    assert!(driver.requests.is_empty());
    driver.fails("d");
    let both = [driver.number("a"), driver.number("d")];
    assert_eq!(driver.requests[0].failures, both, "the planner is told the truth");
    driver.reply(Revision::Patch(Patch {
        change: vec![Arc::new(Step::new("d", "gpu"))],
        drop: ["a", "b", "c"].map(Into::into).into(),
        ..Patch::default()
    }));
    driver.succeeds("d");
    driver.succeeds("e");
    assert!(matches!(driver.scheduler.outcome(), Some(RunOutcome::Succeeded { .. })));
}

#[test]
fn a_draft_that_no_plan_can_mend_is_not_asked_about_once_it_is_part_of_the_plan() {
    let mut driver = Driver::new(Policy::default());
    driver.send(Event::Begin);
    driver.send(Event::PlanStep { request: 0, step: Arc::new(Step::new("a", "read")) });
    driver.returns("a", Err(refused("config.wrong_key")));
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("a", "read"), Step::new("b", "read").depends_on(["a"])])));
    assert!(driver.requests.is_empty());
    assert!(matches!(driver.scheduler.outcome(), Some(RunOutcome::Failed { .. })));
}

#[test]
fn who_planned_a_part_is_not_asked_either_and_what_it_became_has_the_same_trouble() {
    for (first, other, asked) in [("config.wrong_key", "config.wrong_key", false), ("config.wrong_key", "step", true)] {
        let mut start = start(Policy::default());
        start.tools[0].replans = true;
        let mut driver = Driver::of(start).begin(Plan::from_iter([Step::new("map", "read")]));
        driver.expands("map", [Step::new("a", "gpu"), Step::new("b", "gpu")]);
        driver.returns("map/a", Err(refused(first)));
        driver.returns("map/b", Err(refused(other)));
        assert_eq!(driver.running() == ["map"], asked);
        if !asked {
            let step = driver.scheduler.step(driver.number("map")).expect("known");
            assert_eq!((step.state, step.error.expect("it failed").code()), (StepState::Failed, Some(first)));
            assert!(driver.requests.is_empty() && driver.scheduler.outcome().is_some());
        }
    }
}

#[test]
fn a_second_cancellation_ends_what_runs() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    driver.succeeds("a");
    driver.send(Event::CancelRequested { at_once: false });
    assert!(driver.aborted.is_empty());
    driver.send(Event::CancelRequested { at_once: false });
    assert_eq!(driver.aborted, [driver.launched["b"].attempt, driver.launched["c"].attempt]);
    assert_eq!(driver.scheduler.stop_reason(), Some(StopReason::Cancelled));
}

#[test]
fn a_cancellation_while_a_limit_stops_the_run_is_the_first_one() {
    let limits = Limits { tokens: Some(10), ..Limits::default() };
    let steps = ["a", "b", "c"].map(|id| Step::new(id, "read"));
    let last = Step::new("d", "read").depends_on(["a"]);
    let mut driver = Driver::with_plan(
        Policy { limits, grace_ms: 500, ..Policy::default() },
        Plan::from_iter(steps.into_iter().chain([last])),
    );
    driver.scheduler.note_usage(Usage { input_tokens: 10, ..Usage::default() });
    driver.succeeds("a");
    assert_eq!((driver.scheduler.phase(), driver.scheduler.stop_reason()), (Phase::Stopping, Some(StopReason::Tokens)));
    driver.send(Event::CancelRequested { at_once: false });
    assert!(driver.aborted.is_empty(), "what runs has its grace");
    driver.succeeds("b");
    driver.wait(500);
    assert_eq!(driver.aborted, [driver.launched["c"].attempt]);
    assert_eq!(driver.scheduler.stop_reason(), Some(StopReason::Cancelled));
    Scheduler::replay(&driver.history).expect("its history is a possible one");
}

#[test]
fn what_turns_out_to_be_no_call_is_not_limited() {
    let limits = Limits { attempts: Some(2), ..Limits::default() };
    let not = Step::new("not", "read").when("${inputs.go}");
    let lost = Step::new("lost", "read").on_failure(OnFailure::Continue);
    let steps = ["a", "b", "c"].map(|id| Step::new(id, "read"));
    let plan = Plan::from_iter([not, lost].into_iter().chain(steps));
    let mut start = start(Policy { limits, ..Policy::default() });
    start.inputs.insert("go".into(), json!(false));
    let mut driver = Driver::of(start).begin(plan);
    assert_eq!(driver.running(), ["lost", "not"], "each may be a call");
    driver.returns("lost", Err(StepError::new(StepErrorKind::BadReference, "nowhere")));
    assert_eq!(driver.running(), ["a", "not"]);
    driver.returns("not", Ok(Returned::ConditionFalse));
    assert_eq!(driver.running(), ["a", "b"]);
    driver.returns("b", Err(StepError::deferred("not yet", 100)));
    assert_eq!(driver.running(), ["a"], "what was put off has shut the door");
    driver.wait(100);
    assert_eq!((driver.running(), driver.scheduler.phase()), (vec!["a", "b"], Phase::Running));
    driver.succeeds("a");
    assert_eq!(driver.scheduler.phase(), Phase::Running, "`b` may be no call");
    driver.succeeds("b");
    assert_eq!(driver.scheduler.phase(), Phase::Stopped);
    assert_eq!(driver.scheduler.stop_reason(), Some(StopReason::Attempts));
    assert_eq!(driver.state("c"), StepState::Ready);
}

#[test]
fn who_stops_a_run_again_and_again_is_not_counted_against_its_steps() {
    let policy = Policy { max_interruptions: 2, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter([Step::new("long", "read")]));
    for _ in 0..10 {
        driver.send(Event::CancelRequested { at_once: true });
        assert_eq!(driver.scheduler.phase(), Phase::Stopped);
        driver.send(Event::Resumed { policy: None });
        assert!(matches!(driver.state("long"), StepState::Running(_)));
    }
    // A process that goes away under it is.
    driver.send(Event::Resumed { policy: None });
    assert!(matches!(driver.state("long"), StepState::Running(_)));
    driver.send(Event::Resumed { policy: None });
    assert_eq!(driver.state("long"), StepState::Failed);
}

#[test]
fn an_answer_of_the_planner_that_comes_after_the_stop_is_paid_once() {
    let mut driver = Driver::new(Policy::default());
    driver.send(Event::Begin);
    let request = driver.requests.pop().expect("the planner was asked").request;
    driver.send(Event::CancelRequested { at_once: true });
    for (request, input_tokens) in [(request + 1, 100), (request, 7), (request, 7)] {
        let usage = Usage { input_tokens, ..Usage::default() };
        let reply = PlanReply { usage, ..Revision::Plan(diamond()).into() };
        driver.send(Event::PlanReturned { request, reply: Box::new(Ok(reply)) });
    }
    assert_eq!((driver.scheduler.usage().input_tokens, driver.scheduler.step_count()), (7, 0));
}

#[test]
fn a_run_that_waits_for_nothing_that_can_come_says_for_which_steps() {
    let steps = [Step::new("a", "read"), Step::new("b", "read").depends_on(["a"]), Step::new("c", "read")];
    let policy = Policy { max_replans: 0, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter(steps));
    driver.succeeds("c");
    driver.fails("a");
    // Only a history that lost an event can be like that.
    let mut history = driver.history;
    history.retain(|event| !matches!(event.kind, RunEventKind::StepSkipped { .. } | RunEventKind::RunFinished { .. }));
    for (seq, event) in (0..).zip(&mut history) {
        event.seq = seq;
    }
    let mut scheduler = Scheduler::replay(&history).expect("it is a possible one");
    let _ = scheduler.on_event(Event::Resumed { policy: None }, driver.now);
    let waiting = scheduler.current("b").expect("known");
    let stalled = RunOutcome::Failed { reason: FailureReason::Stalled(vec![waiting]) };
    assert_eq!(scheduler.outcome(), Some(&stalled));
}

#[test]
fn attempts_and_replans_are_counted() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    assert_eq!((driver.scheduler.attempts(), driver.scheduler.replans()), (1, 0));
    assert_eq!(driver.scheduler.step_of(0), Some(driver.number("a")));
    driver.succeeds("a");
    assert_eq!(driver.scheduler.step_of(2), Some(driver.number("c")));
    assert_eq!(driver.scheduler.step_of(3), None);
    driver.fails("b");
    assert_eq!((driver.scheduler.attempts(), driver.scheduler.replans()), (3, 1));
}

#[test]
fn a_run_stops_when_its_tokens_or_its_money_are_used_up() {
    let ended = |limits: Limits, usage: Usage| {
        let mut driver = Driver::with_plan(Policy { limits, ..Policy::default() }, diamond());
        let attempt = driver.launched.remove("a").expect("running").attempt;
        let result = Ok(Returned::Value(Output::inline(json!("done"))));
        driver.send(Event::AttemptReturned { attempt, result, usage, draw: 0 });
        (driver.running().len(), driver.scheduler.stop_reason())
    };
    let tokens = |input_tokens, output_tokens| Usage { input_tokens, output_tokens, ..Usage::default() };
    let limits = || Limits { tokens: Some(10), ..Limits::default() };
    assert_eq!(ended(limits(), tokens(6, 3)), (2, None));
    assert_eq!(ended(limits(), tokens(6, 4)), (0, Some(StopReason::Tokens)));
    let money = |micro_usd| Usage { micro_usd, ..Usage::default() };
    let limits = || Limits { micro_usd: Some(10), ..Limits::default() };
    assert_eq!(ended(limits(), money(9)), (2, None));
    assert_eq!(ended(limits(), money(10)), (0, Some(StopReason::Money)));
}

#[test]
fn a_planner_is_asked_again_only_if_there_is_something_left_to_pay_it_with() {
    let limits = |tokens| Limits { tokens: Some(tokens), ..Limits::default() };
    let usage = Usage { input_tokens: 10, ..Usage::default() };
    let rejected = PlanReply { usage, ..Revision::Plan(Plan::new()).into() };
    // Its answer is refused, or comes when the run has stopped.
    for is_late in [false, true] {
        let mut driver = Driver::new(Policy { limits: limits(10), ..Policy::default() });
        driver.send(Event::Begin);
        if is_late {
            driver.send(Event::CancelRequested { at_once: true });
        }
        let request = driver.requests.pop().expect("the planner was asked").request;
        driver.send(Event::PlanReturned { request, reply: Box::new(Ok(rejected.clone())) });
        for more in [None, Some(limits(5)), None] {
            let policy = more.map(|limits| Box::new(Policy { limits, ..Policy::default() }));
            driver.send(Event::Resumed { policy });
            assert!(driver.requests.is_empty(), "it is not asked");
            assert_eq!(driver.scheduler.stop_reason(), Some(StopReason::Tokens));
            assert_eq!(driver.scheduler.phase(), Phase::Stopped);
        }
        driver.send(Event::Resumed { policy: Some(Box::new(Policy { limits: limits(11), ..Policy::default() })) });
        assert_eq!(driver.requests.len(), 1);
        driver.reply(Revision::Plan(diamond()));
        assert_eq!(driver.running(), ["a"]);
    }
}

#[test]
fn a_review_that_cannot_be_paid_for_costs_the_review_and_not_the_answer() {
    let limits = Limits { tokens: Some(10), ..Limits::default() };
    let policy = Policy { limits, review: true, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter([Step::new("a", "read")]));
    let attempt = driver.launched.remove("a").expect("running").attempt;
    let result = Ok(Returned::Value(Output::inline(json!("done"))));
    let usage = Usage { input_tokens: 10, ..Usage::default() };
    driver.send(Event::AttemptReturned { attempt, result, usage, draw: 0 });
    assert!(matches!(driver.scheduler.outcome(), Some(RunOutcome::Succeeded { .. })));
    assert!(!driver.scheduler.is_reviewed());
}

#[test]
fn a_run_without_a_plan_ends_with_what_was_wrong_with_the_last_one() {
    let ended = |replies: [Revision; 3]| {
        let mut driver = Driver::new(Policy::default());
        driver.send(Event::Begin);
        replies.into_iter().for_each(|reply| driver.reply(reply));
        match driver.scheduler.outcome() {
            Some(RunOutcome::Failed { reason: FailureReason::NoPlan(offences) }) => offences[0].code(),
            other => panic!("{other:?}"),
        }
    };
    let empty = || Revision::Plan(Plan::new());
    let unknown = || Revision::Plan(Plan::from_iter([Step::new("a", "nothing")]));
    assert_eq!(ended([empty(), empty(), unknown()]), "plan.unknown_tool");
    assert_eq!(ended([empty(), unknown(), Revision::Declined]), "plan.unknown_tool", "it declined to say more");
    let silent = || Revision::Unusable(Vec::new());
    assert_eq!(ended([silent(), silent(), silent()]), "planner.failed", "it is asked no more often for that");
}
