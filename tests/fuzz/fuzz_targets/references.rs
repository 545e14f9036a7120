//! References: found, checked, and filled when a plan of two steps is run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plandag::{Plan, Runner, Step, tool_fn};
use serde_json::json;

fuzz_target!(|texts: (String, String)| {
    let (text, when) = texts;
    let mut step = Step::new("b", "echo").args(json!({ "text": text, "more": [text] })).depends_on(["a"]);
    step.when = Some(when.as_str().into()).filter(|_| !when.is_empty());
    let plan = Plan::from_iter([Step::new("a", "echo").args(json!({ "x": [1, "two", null] })), step]);
    let runner = Runner::new(plan).tool("echo", tool_fn(|cx| async move { Ok(cx.args) }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // A plan that is refused is a report too.
    runtime.block_on(runner.run("fuzz")).expect("the engine goes on");
});
