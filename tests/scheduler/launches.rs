//! What a launch says of a step, and what it is given.

use std::sync::Arc;

use plandag::{Event, Input, Output, Patch, Plan, Policy, Returned, Revision, Step, StepState, Usage};
use serde_json::{Value, json};

use crate::driver::{Driver, half_failed};

#[test]
fn inputs_are_the_same_whoever_brought_them_in() {
    let together = [
        Step::new("a", "read"),
        Step::new("not", "read").when("${inputs.go} == true"),
        Step::new("b", "read").depends_on(["not", "a"]),
    ];
    let mut start = crate::driver::start(Policy::default());
    start.inputs.insert("go".into(), json!(false));
    let mut driver = Driver::of(start).begin(Plan::from_iter(together.clone()));
    driver.succeeds("a");
    driver.returns("not", Ok(Returned::ConditionFalse));
    let expected = [
        Input { id: "not".into(), number: 1, output: None, error: None },
        Input { id: "a".into(), number: 0, output: Some(Output::inline(json!("result of a"))), error: None },
    ];
    let inputs = &driver.launched["b"].inputs;
    assert_eq!(inputs.to_vec(), expected);
    assert_eq!(
        inputs.iter().map(|(id, value)| (id.as_str(), value.clone())).collect::<Vec<_>>(),
        [("not", Value::Null), ("a", json!("result of a"))]
    );
    assert_eq!((inputs.get("a"), inputs.get("not")), (Some(&json!("result of a")), Some(&Value::Null)));
    assert_eq!((inputs.get("b"), inputs.error("a"), inputs.len()), (None, None, 2));

    // The same inputs from a revision.
    driver.fails("b");
    let again = together.into_iter().map(|step| if step.id == "b" { step.args(json!({ "again": 1 })) } else { step });
    driver.reply(Revision::Plan(Plan::from_iter(again)));
    assert_eq!(driver.launched["b"].inputs.to_vec(), expected);
    assert_eq!(driver.launched["b"].inputs, expected.to_vec().into());
}

#[test]
fn a_copied_scheduler_has_results_of_its_own() {
    let plan = Plan::from_iter([Step::new("a", "read"), Step::new("b", "read").depends_on(["a"])]);
    let driver = Driver::with_plan(Policy::default(), plan);
    let attempt = driver.launched["a"].attempt;
    let results = ["one", "two"].map(|result| {
        let mut scheduler = driver.scheduler.clone();
        let result = Ok(Returned::Value(Output::inline(json!(result))));
        let event = Event::AttemptReturned { attempt, result, usage: Usage::default(), draw: 0 };
        assert_eq!(scheduler.on_event(event, driver.now).commands.len(), 1, "`b` is launched");
        scheduler.output(driver.number("a")).cloned()
    });
    assert_eq!(results, ["one", "two"].map(|result| Some(Output::inline(json!(result)))));
}

#[test]
fn a_step_is_plain_until_its_settings_say_more() {
    let mut driver = half_failed();
    assert!(driver.launched["d"].is_plain);
    let slow = Step { timeout_ms: Some(5), ..Step::new("e", "read").depends_on(["d"]) };
    let b = Step::new("b", "read").args(json!({ "again": "${a}" })).depends_on(["a"]);
    driver.reply(Revision::Patch(Patch { change: vec![Arc::new(slow), Arc::new(b)], ..Patch::default() }));
    driver.succeeds("d");
    assert!(matches!(driver.state("e"), StepState::Running(_)));
    assert!(!driver.launched["e"].is_plain, "it has a timeout now");
    assert!(!driver.launched["b"].is_plain, "it has a reference now");
}
