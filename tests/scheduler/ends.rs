//! How runs stop and end.

use plandag::{
    Event, FailureReason, Limits, Output, Plan, Policy, Returned, Revision, RunEventKind, RunOutcome, Scheduler, Step,
    StopReason, Usage,
};
use serde_json::json;

use crate::driver::{Driver, diamond};

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
}
