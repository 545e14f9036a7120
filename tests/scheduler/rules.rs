//! The rules of a run, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use plandag::{
    Decision, Event, FailureReason, ModelProblem, OnFailure, Output, Patch, Phase, Plan, PlanError, PlanReason, Policy,
    Retry, Returned, Revision, RunEventKind, RunOutcome, Scheduler, Step, StepError, StepErrorKind, StepState,
    Timestamp, Usage,
};
use serde_json::json;

use crate::driver::{Driver, diamond, half_failed, start, two_chains};

#[test]
fn a_failure_skips_what_is_below_it_and_nothing_else() {
    let driver = half_failed();
    let cause = driver.number("b");
    assert_eq!(driver.state("c"), StepState::Skipped(plandag::SkipReason::Failed(cause)));
    assert_eq!(driver.running(), ["d"]);
}

#[test]
fn a_reported_failure_that_a_whole_plan_repeats_is_tried_again() {
    let mut driver = half_failed();
    driver.reply(Revision::Plan(two_chains()));
    assert_eq!(driver.running(), ["b", "d"]);
    driver.succeeds("b");
    assert_eq!(driver.running(), ["c", "d"]);
}

#[test]
fn a_whole_plan_drops_what_it_leaves_out() {
    let mut driver = half_failed();
    let running = driver.launched["d"].attempt;
    driver.reply(Revision::Plan(Plan::from_iter([
        Step::new("a", "read"),
        Step::new("b2", "read").depends_on(["a"]),
        Step::new("c", "read").depends_on(["b2"]),
    ])));
    assert_eq!(driver.aborted, [running]);
    assert_eq!(driver.state("d"), StepState::Superseded);
    assert_eq!(driver.state("e"), StepState::Superseded);
    assert_eq!(driver.state("a"), StepState::Succeeded);
}

#[test]
fn a_finished_step_is_a_fact_that_a_plan_need_not_repeat() {
    let mut driver = half_failed();
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("x", "read").depends_on(["a"])])));
    assert_eq!(driver.running(), ["d", "x"], "`d` is told to end, and holds its slot until it has");
    assert_eq!(driver.launched["x"].inputs.to_vec()[0].output, Some(Output::inline(json!("result of a"))));
    driver.fails("d");
    driver.succeeds("x");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
}

#[test]
fn a_patch_may_not_build_on_a_failure_that_it_does_not_mention() {
    let mut driver = half_failed();
    driver.reply(Revision::Patch(Patch { add: vec![Arc::new(Step::new("z", "read"))], ..Patch::default() }));
    let request = driver.requests.last().expect("sent back");
    let PlanReason::Rejected(offences) = &request.reason else { panic!("it was accepted") };
    let expected = PlanError::DependsOnFailed { step: "c".into(), dependency: "b".into() };
    assert_eq!(**offences, [expected]);
}

#[test]
fn a_redefinition_that_is_taken_back_uses_the_first_result() {
    let mut driver = half_failed();
    let first = driver.number("a");
    driver.reply(Revision::Plan(Plan::from_iter([
        Step::new("a", "read").args(json!({ "other": true })),
        Step::new("d", "read"),
    ])));
    driver.fails("a");
    driver.reply(Revision::Plan(two_chains()));
    assert_eq!(driver.number("a"), first);
    assert_eq!(driver.running(), ["b", "d"]);
}

#[test]
fn a_failure_while_the_planner_thinks_is_asked_about_next() {
    let mut driver = half_failed();
    driver.fails("d");
    driver.reply(Revision::Plan(Plan::from_iter([
        Step::new("a", "read"),
        Step::new("b2", "read").depends_on(["a"]),
        Step::new("d", "read"),
        Step::new("e", "read").depends_on(["d"]),
    ])));
    assert_eq!(driver.state("d"), StepState::Failed);
    assert_eq!(driver.requests.last().expect("asked about `d`").failures, [driver.number("d")]);
}

#[test]
fn a_covered_failure_is_handed_on_as_a_null() {
    let plan = Plan::from_iter([
        Step::new("a", "read").on_failure(OnFailure::Continue),
        Step::new("b", "read").depends_on(["a"]),
    ]);
    let mut driver = Driver::with_plan(Policy::default(), plan);
    driver.fails("a");
    let input = &driver.launched["b"].inputs.to_vec()[0];
    assert_eq!(input.output, None);
    assert_eq!(input.error.as_ref().expect("told why").message, "no");
    driver.succeeds("b");
    assert!(matches!(driver.scheduler.outcome(), Some(plandag::RunOutcome::Succeeded { .. })));
}

#[test]
fn an_aborted_attempt_holds_its_slot_until_it_is_gone() {
    let policy = Policy { max_parallel: 1, ..Policy::default() };
    let plan = Plan::from_iter([Step::new("bad", "read"), Step::new("slow", "read")]);
    let mut driver = Driver::with_plan(policy, plan);
    driver.fails("bad");
    assert_eq!(driver.running(), ["slow"]);
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("other", "read")])));
    assert_eq!(driver.running(), ["slow"], "its tool still runs");
    driver.succeeds("slow");
    assert_eq!(driver.running(), ["other"]);
}

#[test]
fn a_full_pool_holds_nobody_else_back() {
    let policy = Policy { pools: BTreeMap::from([("gpu".into(), 1)]), ..Policy::default() };
    let plan = Plan::from_iter([Step::new("x", "gpu"), Step::new("y", "gpu"), Step::new("z", "read")]);
    let mut driver = Driver::with_plan(policy, plan);
    assert_eq!(driver.running(), ["x", "z"]);
    driver.succeeds("x");
    assert_eq!(driver.running(), ["y", "z"]);
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_left_alone_by_all_its_steps() {
    let policy = Policy { max_parallel: 1, ..Policy::default() };
    let plan = Plan::from_iter([Step::new("x", "gpu"), Step::new("y", "gpu"), Step::new("z", "read")]);
    let mut driver = Driver::with_plan(policy, plan);
    driver.returns("x", Err(StepError::transient("429").retry_after_ms(1_000)));
    assert_eq!(driver.running(), ["z"], "another tool's step goes on");
    driver.succeeds("z");
    assert!(driver.running().is_empty());
    driver.wait(1_000);
    assert_eq!(driver.running(), ["y"]);
}

#[test]
fn a_server_is_left_alone_by_all_who_call_it_also_after_a_resume() {
    let mut start = start(Policy::default());
    for tool in &mut start.tools[..2] {
        tool.server = "shared".into();
    }
    start.planner_server = "shared".into();
    let put_off = |pause_ms| Revision::PutOff { error: PlanError::Planner { message: "busy".into() }, pause_ms };
    let plan =
        || Plan::from_iter([Step::new("x", "read"), Step::new("y", "gpu"), Step::new("z", "pay").depends_on(["y"])]);
    for crashes in [false, true] {
        let pass = |driver: &mut Driver, millis: u64| {
            if crashes {
                driver.crash();
            }
            driver.wait(millis);
        };
        let mut driver = Driver::of(start.clone());
        driver.send(Event::Begin);
        driver.reply(put_off(1_000));
        pass(&mut driver, 999);
        assert!(driver.requests.is_empty(), "the planner was told to wait");
        assert_eq!(driver.scheduler.phase(), Phase::Running);
        driver.wait(1);
        assert_eq!(driver.requests.pop().map(|request| request.reason), Some(PlanReason::First), "the same is asked");
        driver.crash();
        driver.reply(Revision::Plan(plan()));
        driver.returns("x", Err(StepError::permanent("429").retry_after_ms(1_000)));
        driver.succeeds("y");
        pass(&mut driver, 999);
        assert!(driver.requests.is_empty() && driver.running().is_empty(), "the step was, and speaks for all");
        driver.wait(1);
        assert_eq!((driver.requests.len(), driver.running()), (1, vec!["z"]));
        driver.reply(put_off(1_000));
        driver.returns("z", Err(StepError::transient("again")));
        pass(&mut driver, 999);
        assert!(driver.requests.is_empty() && driver.running().is_empty(), "the planner speaks for the steps, too");
        driver.wait(1);
        assert_eq!((driver.requests.len(), driver.running()), (1, vec!["z"]));
    }
}

#[test]
fn a_planner_that_puts_its_answer_off_again_and_again_is_given_up() {
    let mut driver = Driver::new(Policy { max_corrections: 0, ..Policy::default() });
    driver.send(Event::Begin);
    for asked in 1..=8 {
        assert_eq!((driver.requests.len(), driver.scheduler.phase()), (1, Phase::Running), "asked {asked} times");
        let error = PlanError::Model { problem: ModelProblem::RateLimited, message: "busy".into() };
        driver.reply(Revision::PutOff { error, pause_ms: 10 });
        driver.wait(10);
    }
    let error = PlanError::Model { problem: ModelProblem::RateLimited, message: "busy (asked 8 times)".into() };
    let reason = FailureReason::NoPlan(Arc::new(vec![error]));
    assert_eq!(driver.scheduler.outcome(), Some(&RunOutcome::Failed { reason }));
}

#[test]
fn what_a_tool_puts_off_holds_nothing_and_loses_no_try() {
    let retry = Retry { max_attempts: 2, base_ms: 0, max_ms: 400 };
    let policy = Policy { max_parallel: 4, retry, ..Policy::default() };
    let plan = Plan::from_iter((0..20).map(|index| Step::new(format!("x{index}"), "gpu")));
    let mut driver = Driver::with_plan(policy, plan);
    assert_eq!(driver.running(), ["x0", "x1", "x2", "x3"]);
    for _ in 0..5 {
        driver.returns("x0", Err(StepError::deferred("not yet", 1_000)));
        assert!(!driver.running().contains(&"x4"), "none of this tool's steps may begin");
        driver.wait(999);
        assert!(!driver.running().contains(&"x0"));
        driver.wait(1);
        assert!(driver.running().contains(&"x0"));
    }
    driver.returns("x0", Err(StepError::transient("it went wrong")));
    driver.wait(0);
    assert!(driver.running().contains(&"x0"), "it has lost no try");
    // It was not turned away, so as many as before may be called at a time.
    for step in ["x0", "x1", "x2", "x3"] {
        driver.succeeds(step);
    }
    assert_eq!(driver.running().len(), 4);
    // One that names no pause is not asked again at once, however soon its step may be tried again.
    driver.returns("x4", Err(StepError::new(StepErrorKind::Deferred, "not yet")));
    driver.wait(999);
    driver.succeeds("x5");
    assert!(!driver.running().contains(&"x4"));
    driver.wait(1);
    driver.succeeds("x6");
    assert!(driver.running().contains(&"x4"));
}

#[test]
fn only_the_run_says_that_it_is_stopped() {
    let stopped = || Err(StepError::new(StepErrorKind::Stopped, "another run was"));
    let policy = Policy { max_interruptions: 3, grace_ms: 1_000, ..Policy::default() };
    let mut driver = Driver::with_plan(policy.clone(), Plan::from_iter([Step::new("a", "read")]));
    for _ in 0..2 {
        driver.returns("a", stopped());
        assert_eq!(driver.running(), ["a"], "it was interrupted");
    }
    driver.returns("a", stopped());
    assert_eq!(driver.state("a"), StepState::Failed);

    let mut driver = Driver::with_plan(policy, Plan::from_iter([Step::new("a", "read"), Step::new("b", "read")]));
    for _ in 0..9 {
        driver.send(Event::CancelRequested { at_once: false });
        driver.returns("a", stopped());
        driver.send(Event::CancelRequested { at_once: true });
        driver.send(Event::Resumed { policy: None });
        assert_eq!(driver.running(), ["a", "b"], "it is not to blame");
    }
}

#[test]
fn one_of_many_servers_keeps_nobody_from_the_others() {
    let mut start = start(Policy { max_parallel: 1, ..Policy::default() });
    start.tools[0].many_servers = true;
    let plan = Plan::from_iter([Step::new("x", "read"), Step::new("y", "read")]);
    let mut driver = Driver::of(start).begin(plan);
    driver.returns("x", Err(StepError::transient("429").retry_after_ms(1_000)));
    assert_eq!(driver.running(), ["y"]);
    driver.succeeds("y");
    assert!(driver.running().is_empty(), "whoever was told waits");
    driver.wait(2_000);
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn a_timer_that_goes_off_too_early_is_set_again() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([Step::new("a", "read")]));
    driver.returns("a", Err(StepError::transient("busy")));
    let due = driver.wake_at.take().expect("a timer");
    driver.now = Timestamp::from_micros(due.as_micros() - 1);
    driver.wait(0);
    assert_eq!(driver.wake_at.take(), Some(due), "nothing else would wake the run");
    driver.now = due;
    driver.wait(0);
    assert_eq!(driver.running(), ["a"]);
}

#[test]
fn cancelling_lets_running_steps_finish_and_loses_nothing() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    driver.succeeds("a");
    driver.send(Event::CancelRequested { at_once: false });
    driver.succeeds("b");
    assert_eq!(driver.scheduler.phase(), Phase::Stopping);
    driver.wait(5_000);
    assert_eq!(driver.scheduler.phase(), Phase::Stopped);
    driver.crash();
    assert_eq!(driver.running(), ["c"]);
    driver.succeeds("c");
    driver.succeeds("d");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
}

#[test]
fn the_attempt_limit_stops_the_run_and_can_be_raised() {
    let mut policy = Policy::default();
    policy.limits.attempts = Some(1);
    let mut driver = Driver::with_plan(policy.clone(), diamond());
    driver.succeeds("a");
    assert_eq!(driver.scheduler.phase(), Phase::Stopped);
    assert_eq!(driver.scheduler.stop_reason(), Some(plandag::StopReason::Attempts));
    policy.limits.attempts = None;
    driver.send(Event::Resumed { policy: Some(Box::new(policy)) });
    assert_eq!(driver.running(), ["b", "c"]);
}

#[test]
fn a_failed_expansion_repeats_only_what_failed() {
    let plan = || Plan::from_iter([Step::new("map", "read")]);
    let children = || Plan::from_iter([Step::new("one", "read"), Step::new("two", "read")]);
    let mut driver = Driver::with_plan(Policy::default(), plan());
    driver.returns("map", Ok(Returned::Plan(Box::new(children()))));
    driver.succeeds("map/one");
    driver.fails("map/two");
    let request = driver.requests.last().expect("asked");
    assert_eq!(request.failures, [driver.number("map")], "the planner knows the step, not its children");
    driver.reply(Revision::Plan(plan()));
    assert_eq!(driver.launched["map"].last_error.as_ref().map(|error| error.kind), None);
    driver.returns("map", Ok(Returned::Plan(Box::new(children()))));
    assert_eq!(driver.running(), ["map/two"]);
    driver.succeeds("map/two");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
}

#[test]
fn an_invalid_expansion_is_a_failed_try() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([Step::new("map", "read")]));
    let cycle = Plan::from_iter([Step::new("x", "read").depends_on(["y"]), Step::new("y", "read").depends_on(["x"])]);
    driver.returns("map", Ok(Returned::Plan(Box::new(cycle))));
    let Some(RunEventKind::AttemptFailed { error, .. }) = driver.history.last().map(|event| &event.kind) else {
        panic!("the attempt did not fail")
    };
    assert_eq!(error.kind, StepErrorKind::InvalidPlan);
    driver.wait(500);
    driver.returns("map", Ok(Returned::Plan(Box::new(Plan::new()))));
    assert_eq!(driver.scheduler.phase(), Phase::Finished, "an empty expansion succeeds");
}

#[test]
fn a_review_may_add_steps_and_is_made_to_answer_at_the_cap() {
    let policy = Policy { review: true, max_replans: 1, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter([Step::new("a", "read")]));
    driver.succeeds("a");
    assert_eq!(driver.requests.last().expect("asked").reason, PlanReason::Review);
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("b", "read").depends_on(["a"])])));
    driver.succeeds("b");
    assert!(driver.requests.last().expect("asked").must_answer);
    let request = driver.requests.last().expect("asked").request;
    driver.send(Event::PlanStep { request, step: Arc::new(Step::new("in-vain", "read")) });
    assert!(driver.running().is_empty(), "no step begins of a plan that cannot be taken");
    driver.reply(Revision::Plan(Plan::from_iter([Step::new("c", "read").depends_on(["b"])])));
    assert!(driver.requests.last().expect("asked again").must_answer);
    driver.reply(Revision::Answer(json!(42)));
    let answer = plandag::RunOutcome::Succeeded { answer: Output::inline(json!(42)) };
    assert_eq!(driver.scheduler.outcome(), Some(&answer));
}

#[test]
fn an_unusable_planner_is_given_up_after_its_corrections() {
    let mut driver = Driver::new(Policy::default());
    driver.send(Event::Begin);
    for _ in 0..3 {
        driver.reply(Revision::Plan(Plan::new()));
    }
    assert!(driver.requests.is_empty());
    let Some(plandag::RunOutcome::Failed { reason }) = driver.scheduler.outcome() else { panic!("it has ended") };
    assert_eq!(*reason, plandag::FailureReason::NoPlan(Arc::new(vec![PlanError::Empty])));
}

#[test]
fn late_and_doubled_results_change_nothing() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    let attempt = driver.launched["a"].attempt;
    driver.succeeds("a");
    let events = driver.history.len();
    let again = Event::AttemptReturned {
        attempt,
        result: Ok(Returned::Value(Output::inline(json!("other")))),
        usage: Usage::default(),
        draw: 0,
    };
    driver.send(again);
    driver.send(Event::PlanReturned { request: 0, reply: Box::new(Ok(Revision::Declined.into())) });
    driver.send(Event::AttemptReturned {
        attempt: 999,
        result: Ok(Returned::ConditionFalse),
        usage: Usage::default(),
        draw: 0,
    });
    assert_eq!(driver.history.len(), events);
}

#[test]
fn a_damaged_history_is_an_error() {
    let mut driver = Driver::with_plan(Policy::default(), diamond());
    driver.succeeds("a");
    let history = driver.history;
    for missing in 0..history.len() {
        let mut damaged = history.clone();
        damaged.remove(missing);
        let is_prefix = missing + 1 == history.len();
        assert_eq!(Scheduler::replay(&damaged).is_ok(), is_prefix, "without event {missing}");
    }
}

#[test]
fn an_interrupted_acting_attempt_uses_up_no_try() {
    let plan = Plan::from_iter([Step::new("pay", "pay").retry(Retry::attempts(2))]);
    let mut driver = Driver::with_plan(Policy::default(), plan);
    driver.crash();
    let step = driver.number("pay");
    driver.send(Event::Decided { step, decision: Decision::Retry });
    driver.crash();
    assert_eq!(driver.launched["pay"].tries, 1);
    driver.returns("pay", Err(StepError::transient("busy")));
    assert!(matches!(driver.state("pay"), StepState::Backoff(_)), "the second try is left");
}

#[test]
fn a_redefinition_forgets_the_expansion_of_an_earlier_try() {
    let plan = |step: Step| Plan::from_iter([step]);
    let map = || Step::new("map", "read");
    let children = || Plan::from_iter([Step::new("good", "read"), Step::new("bad", "read")]);
    let mut driver = Driver::with_plan(Policy { max_replans: 5, ..Policy::default() }, plan(map()));
    driver.returns("map", Ok(Returned::Plan(Box::new(children()))));
    driver.succeeds("map/good");
    driver.fails("map/bad");
    // The second try of the same step fails before it has a plan.
    driver.reply(Revision::Plan(plan(map())));
    driver.fails("map");
    driver.reply(Revision::Plan(plan(map().args(json!({ "other": true })))));
    driver.returns("map", Ok(Returned::Plan(Box::new(children()))));
    assert_eq!(driver.running(), ["map/bad", "map/good"], "`good` was the result of another step");
}

#[test]
fn a_resume_may_change_the_pools_under_settled_steps() {
    let policy = Policy { pools: BTreeMap::from([("gpu".into(), 1)]), ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter([Step::new("a", "gpu"), Step::new("b", "read")]));
    driver.succeeds("a");
    driver.send(Event::CancelRequested { at_once: true });
    driver.send(Event::Resumed { policy: Some(Box::default()) });
    driver.launched.retain(|_, launch| launch.attempt > 1);
    driver.succeeds("b");
    assert_eq!(driver.scheduler.phase(), Phase::Finished);
}

#[test]
fn an_answer_rejected_while_the_run_stops_is_sent_back_when_it_is_resumed() {
    let mut driver = half_failed();
    driver.send(Event::CancelRequested { at_once: false });
    driver.reply(Revision::Plan(Plan::new()));
    driver.succeeds("d");
    assert_eq!(driver.scheduler.phase(), Phase::Stopped);
    assert!(driver.requests.is_empty());
    driver.crash();
    let request = driver.requests.last().expect("asked again");
    assert_eq!(request.reason, PlanReason::Rejected(Arc::new(vec![PlanError::Empty])));
    assert_eq!(driver.scheduler.replans(), 1);
}

#[test]
fn a_result_that_was_replaced_by_another_is_not_taken_up_again() {
    let plan = |version: u32| Plan::from_iter([Step::new("a", "read").args(json!(version)), Step::new("b", "read")]);
    let policy = Policy { max_replans: 9, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, plan(1));
    driver.succeeds("a");
    driver.fails("b");
    driver.reply(Revision::Plan(plan(2)));
    driver.succeeds("a");
    driver.fails("b");
    driver.reply(Revision::Plan(plan(1)));
    assert_eq!(driver.running(), ["a", "b"], "its last finished definition is another one");
}
