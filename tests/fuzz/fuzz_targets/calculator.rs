//! The calculator: an answer or an error, and in bounded time.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use plandag::tools::Calculate;
use plandag::{StepContext, Tool};
use serde_json::json;

fuzz_target!(|expression: &str| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let began = Instant::now();
    let _ = runtime.block_on(Calculate::new().call(StepContext::new(json!({ "expression": expression }))));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
});
