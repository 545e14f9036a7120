//! Histories come from outside. One that is not possible is refused, and the message says why.

use std::sync::Arc;

use plandag::{
    Decision, Event, JournalError, Limits, Output, Plan, Policy, Returned, RunEvent, RunEventKind, RunStart, Scheduler,
    Step, StepError, StepErrorKind, StepState, Timestamp, ToolSpec,
};
use serde_json::{Value, json};

use crate::driver::{Driver, start};

/// `map` has expanded, one of its children is done, `bad` has failed and `below` is skipped, `busy` is tried again, the
/// planner is asked, and `send` waits for a person.
fn eventful() -> Driver {
    let mut start = start(Policy { attended: true, ..Policy::default() });
    start.tools.push(ToolSpec { untrusted: true, ..ToolSpec::new("fetch", "") });
    let plan = Plan::from_iter([
        Step::new("page", "fetch"),
        Step::new("map", "read"),
        Step::new("bad", "read"),
        Step::new("below", "read").depends_on(["bad"]),
        Step::new("busy", "gpu"),
        Step::new("send", "pay").depends_on(["page"]),
    ])
    .pool("gpu", 2);
    let mut driver = Driver::of(start).begin(plan);
    driver.wait(10);
    driver.succeeds("page");
    driver.expands("map", [Step::new("one", "read"), Step::new("two", "gpu").uses("gpu", 2).depends_on(["one"])]);
    driver.succeeds("map/one");
    driver.fails("bad");
    driver.returns("busy", Err(StepError::transient("busy")));
    driver
}

#[test]
fn a_snapshot_holds_the_whole_state() {
    let mut snapshot = eventful().scheduler.snapshot();
    snapshot["policy"] = json!("...");
    // The order of fields is that of the map behind them, which another crate of the build may choose.
    snapshot.sort_all_objects();
    insta::assert_json_snapshot!(snapshot);
}

fn name(event: &RunEvent) -> String {
    serde_json::to_value(event).expect("events are data")["event"].as_str().expect("tagged").to_owned()
}

/// What is said about a history with one value changed in the last event of that name.
fn refusal(mut history: Vec<RunEvent>, event: &str, pointer: &str, value: Value) -> String {
    let place = history.iter().rposition(|other| name(other) == event).unwrap_or_else(|| panic!("no `{event}`"));
    let mut changed = serde_json::to_value(&history[place]).expect("events are data");
    match changed.pointer_mut(pointer) {
        Some(old) => *old = value,
        None => {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            changed.pointer_mut(parent).expect("it is there")[field] = value;
        }
    }
    history[place] = serde_json::from_value(changed).expect("still an event");
    match Scheduler::replay(&history) {
        Err(JournalError::Corrupt { message, .. }) => message,
        other => panic!("{event}{pointer}: {other:?}"),
    }
}

#[test]
fn what_cannot_have_happened_is_refused() {
    assert!(Scheduler::replay(&eventful().history).is_ok());
    let mut said = String::new();
    for (event, pointer, value) in [
        ("plan_requested", "/request", json!(0)),
        ("plan_requested", "/reported", json!([8])),
        ("plan_accepted", "/request", json!(7)),
        ("plan_accepted", "/revision", json!(u32::MAX)),
        ("plan_accepted", "/graft/first", json!(1)),
        ("plan_accepted", "/graft/scope", json!(0)),
        ("plan_accepted", "/graft/added/3/dependencies", json!([3])),
        ("plan_accepted", "/graft/added/3/dependencies", json!([4])),
        ("plan_accepted", "/graft/added/3/step/tool", json!("nothing")),
        ("plan_accepted", "/graft/answer", json!({ "step": 6 })),
        ("plan_accepted", "/graft/answer", json!({ "sinks": [5, 6] })),
        ("plan_accepted", "/graft/joined", json!([0])),
        ("plan_accepted", "/graft/closed", json!([0])),
        ("step_expanded", "/graft/scope", json!(0)),
        ("step_expanded", "/graft/joined", json!([4])),
        ("step_expanded", "/graft/closed", json!([0])),
        ("step_expanded", "/graft/closed", json!([4, 4])),
        ("step_expanded", "/graft/left", json!([6])),
        ("step_expanded", "/graft/forgotten", json!([6])),
        ("step_expanded", "/graft/unreported", json!([6])),
        ("step_expanded", "/graft/settings", json!([[6, { "id": "x", "tool": "read" }]])),
        ("step_expanded", "/graft/settings", json!([[4, { "id": "x", "tool": "nothing" }]])),
        ("step_expanded", "/graft/answer", json!({ "step": 8 })),
        ("step_expanded", "/attempt", json!(7)),
        ("attempt_started", "/attempt", json!(0)),
        ("attempt_started", "/step", json!(0)),
        ("attempt_started", "/step", json!(99)),
        ("attempt_failed", "/attempt", json!(0)),
        ("step_succeeded", "/attempt", json!(0)),
        ("step_succeeded", "/attempt", Value::Null),
        ("step_failed", "/attempt", Value::Null),
        ("step_skipped", "/step", json!(0)),
        ("step_skipped", "/attempt", json!(0)),
        ("approval_requested", "/step", json!(0)),
        ("approval_requested", "/from", json!(99)),
        ("attempt_failed", "/at", json!(0)),
        ("attempt_failed", "/seq", json!(0)),
    ] {
        said +=
            &format!("{event}{pointer} = {value}: {}\n", refusal(eventful().history, event, pointer, value.clone()));
    }
    insta::assert_snapshot!(said);
}

/// `map` became `one` and `two`, and its output is made of theirs; so is the answer, of those of `map` and `other`.
fn gathered() -> Driver {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([read("map"), read("other")]));
    driver.expands("map", [read("one"), read("two")]);
    driver.succeeds("map/one");
    driver.succeeds("map/two");
    driver.succeeds("other");
    driver
}

fn read(id: &str) -> Step {
    Step::new(id, "read")
}

/// Whoever puts an output together goes by this.
#[test]
fn an_output_is_made_of_what_was_there_before_and_of_each_part_once() {
    let history = gathered().history;
    assert!(Scheduler::replay(&history).is_ok());
    let until_map = || history[..=history.iter().position(|event| made_of(event).is_some()).expect("map")].to_vec();
    let mut said = String::new();
    for parts in [json!([["a", 0]]), json!([["a", 2], ["b", 1]]), json!([["a", 4]]), json!([["a", 2], ["b", 2]])] {
        let refused = refusal(until_map(), "step_succeeded", "/output/gathered", parts.clone());
        said += &format!("map = {parts}: {refused}\n");
    }
    for parts in [json!([["a", 9]]), json!([["a", 0], ["b", 2]])] {
        let refused = refusal(history.clone(), "run_finished", "/outcome/succeeded/answer/gathered", parts.clone());
        said += &format!("the answer = {parts}: {refused}\n");
    }
    let parts = json!({ "gathered": [["a", 2]] });
    said += &format!("other = {parts}: {}\n", refusal(history, "step_succeeded", "/output", parts.clone()));
    insta::assert_snapshot!(said);
}

fn made_of(event: &RunEvent) -> Option<&Output> {
    match &event.kind {
        RunEventKind::StepSucceeded { output: output @ Output::Gathered(_), .. } => Some(output),
        _ => None,
    }
}

#[test]
fn an_edited_history_does_not_nest_outputs_without_end() {
    let ids: Vec<String> = (0..70).map(|n| format!("m{n}")).collect();
    let policy = Policy { max_parallel: 70, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, ids.iter().map(|id| read(id)).collect());
    for id in &ids {
        driver.expands(id, [read("c")]);
    }
    for id in &ids {
        driver.succeeds(&format!("{id}/c"));
    }
    for event in &mut driver.history {
        if let RunEventKind::StepSucceeded { step: step @ 1.., attempt: None, output, .. } = &mut event.kind {
            *output = Output::Gathered(vec![("before".into(), *step - 1)].into());
        }
    }
    match Scheduler::replay(&driver.history) {
        Err(JournalError::Corrupt { message, .. }) => assert_eq!(message, "it is made of outputs that nest too deep"),
        other => panic!("{other:?}"),
    }
}

/// A value of as many levels could be put together, and then neither written nor dropped.
#[test]
fn an_output_is_not_made_of_outputs_without_end() {
    let limits = Limits { depth: u32::MAX, ..Limits::default() };
    let mut driver = Driver::with_plan(Policy { limits, ..Policy::default() }, Plan::from_iter([read("m")]));
    let mut id = "m".to_owned();
    for _ in 0..64 {
        driver.expands(&id, [read("m"), read("n")]);
        driver.succeeds(&format!("{id}/n"));
        id += "/m";
    }
    driver.expands(&id, [read("m"), read("n")]);
    let step = driver.scheduler.step(driver.number(&id)).expect("known");
    assert!(step.error.is_some_and(|error| error.message.ends_with("deeper than the limit of 64")), "{step:?}");
}

/// Those of others are for the scheduler to name: it knows which are there.
#[test]
fn nobody_else_says_what_an_output_is_made_of() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([read("look"), Step::new("pay", "pay")]));
    let of = |step: u32| Output::Gathered(vec![("a".into(), step)].into());
    driver.returns("look", Ok(Returned::Value(of(0))));
    let look = driver.scheduler.step(0).expect("known");
    assert_eq!(look.error.map(|error| error.kind), Some(StepErrorKind::BadOutput));
    driver.crash();
    let unknown = driver.state("pay");
    assert!(matches!(unknown, StepState::Unknown(_)));
    driver.send(Event::Decided { step: 1, decision: Decision::Succeeded(of(1)) });
    assert_eq!(driver.state("pay"), unknown);
}

#[test]
fn a_possible_history_may_name_the_last_step_that_there_is() {
    let mut history = eventful().history;
    let place = history.iter().position(|event| name(event) == "plan_accepted").expect("accepted");
    let mut changed = serde_json::to_value(&history[place]).expect("events are data");
    changed["graft"]["answer"] = json!({ "step": 5 });
    history[place] = serde_json::from_value(changed).expect("still an event");
    assert!(Scheduler::replay(&history).is_ok());
}

#[test]
fn nothing_happens_in_a_run_before_its_start_or_after_its_end() {
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([Step::new("a", "read")]));
    driver.succeeds("a");
    let refused = |history: &[RunEvent]| match Scheduler::replay(history) {
        Err(JournalError::Corrupt { message, seq }) => (seq, message),
        other => panic!("{other:?}"),
    };
    let history = driver.history;
    assert_eq!(refused(&history[1..]), (0, "a history begins with the start of its run".to_owned()));
    let count = history.len() as u64;
    let twice = |mut event: RunEvent| {
        event.seq = count;
        event.at = history.last().expect("not empty").at;
        refused(&[&history[..], &[event]].concat())
    };
    assert_eq!(twice(history[0].clone()), (count, "a run starts once, and first".to_owned()));
    assert_eq!(twice(history[3].clone()), (count, "the run has finished".to_owned()));
    let mut stopped = Driver::with_plan(Policy::default(), Plan::from_iter([Step::new("a", "read")]));
    stopped.send(Event::CancelRequested { at_once: true });
    let mut again = stopped.history.last().expect("not empty").clone();
    again.seq += 1;
    assert_eq!(refused(&[&stopped.history[..], &[again]].concat()).1, "the run has stopped");
}

/// Tools are counted in few bits. A history that comes from outside may have any number of them.
#[test]
fn a_history_with_more_tools_than_a_run_can_have_is_an_error() {
    for (tools, fits) in [(65_534, true), (65_535, false), (70_000, false)] {
        let tools = (0..tools).map(|index| ToolSpec::new(format!("t{index}"), "")).collect();
        let start = Arc::new(RunStart { tools, ..start(Policy::default()) });
        let begun = RunEvent { seq: 0, at: Timestamp::ZERO, kind: RunEventKind::RunStarted { start } };
        assert_eq!(Scheduler::replay(&[begun]).is_ok(), fits);
    }
}
