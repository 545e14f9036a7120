//! One step for every item of a list that is only known once another step has made it.
//!
//! A tool may return a plan instead of a value. Its steps run in place of the step, next to everything else, and their
//! outputs together are the step's output.
//!
//! ```sh
//! cargo run --example map_over_list
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use plandag::{Plan, Runner, Step, StepError, tool_fn};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::from_iter([
        Step::new("files", "list"),
        Step::new("counts", "count_each").args(json!({ "files": "${files}" })),
        Step::new("total", "add").args(json!({ "counts": "${counts}" })),
    ]);
    let list = tool_fn(|_| async move {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))?;
        let mut names: Vec<String> =
            folder.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.ends_with(".rs"));
        names.sort();
        Ok(names)
    });
    let count_each = tool_fn(|cx| async move {
        let files: Vec<String> = serde_json::from_value(cx.args["files"].clone())?;
        let step = |file: &String| Step::new(file.replace('.', "_"), "count").args(json!({ "file": file }));
        Ok(files.iter().map(step).collect::<Plan>())
    });
    let count = tool_fn(|cx| async move {
        let file = cx.args["file"].as_str().ok_or(StepError::bad_input("`file` must be text"))?;
        let text = std::fs::read_to_string(format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR")))?;
        Ok(text.lines().count() as u64)
    });
    let add = tool_fn(|cx| async move {
        let counts = cx.args["counts"].as_object().ok_or(StepError::bad_input("`counts` must be an object"))?;
        Ok(counts.values().filter_map(|count| count.as_u64()).sum::<u64>())
    });

    let report = Runner::new(plan)
        .tool("list", list)
        .tool("count_each", count_each)
        .tool("count", count)
        .tool("add", add)
        .run("How long are these examples?")
        .await?;
    for step in report.steps().filter(|step| step.parent.is_some()) {
        println!("{:>5} lines  {}", report.output::<u64>(step.id.as_str())?, step.id);
    }
    println!("{:>5} lines in all", report.answer()?);
    Ok(())
}
