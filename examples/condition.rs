//! A step that runs only if an earlier one says so.
//!
//! ```sh
//! cargo run --example condition
//! cargo run --example condition -- 30
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use plandag::{Plan, Runner, Step, tool_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let degrees: i64 = std::env::args().nth(1).map_or(Ok(12), |degrees| degrees.parse())?;

    let plan = Plan::from_iter([
        Step::new("look", "thermometer").args(json!({ "degrees": "${inputs.degrees}" })),
        Step::new("heat", "say").args(json!("The heating is on.")).when("${look.cold}"),
        Step::new("open", "say").args(json!("The windows are open.")).when("${look.cold} == false"),
        // What was skipped is null here.
        Step::new("done", "report").args(json!(["${heat}", "${open}"])),
    ]);
    let report = Runner::new(plan)
        .tool("thermometer", tool_fn(|cx| async move { Ok(json!({ "cold": cx.args["degrees"].as_i64() < Some(18) })) }))
        .tool("say", tool_fn(|cx| async move { Ok(cx.args) }))
        .tool(
            "report",
            tool_fn(|cx| async move {
                let said = cx.args.as_array().cloned().unwrap_or_default();
                Ok(said.into_iter().filter(|line| !line.is_null()).collect::<Vec<Value>>())
            }),
        )
        .input("degrees", degrees)
        .run("Make it comfortable")
        .await?;

    for line in report.answer()?.as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("{line}");
    }
    for step in report.steps() {
        println!("{:>6}: {:?}", step.id, step.outcome);
    }
    Ok(())
}
