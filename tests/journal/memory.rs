//! Large results are kept in the journal and not in memory.

use std::process::Command;

use plandag::journal::SqliteJournal;
use plandag::{Plan, Runner, Step, StepError, tool_fn};
use serde_json::json;

/// The most that the process may have needed.
const MOST_KIB: u64 = 300 * 1024;

/// 1,000 results of 1 MiB, or as many as `PLANDAG_RESULTS` says, in a process of their own.
#[test]
fn large_results_do_not_stay_in_memory() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::a_run_with_large_results", "--ignored", "--nocapture"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by the test above"]
fn a_run_with_large_results() {
    let count: u32 = std::env::var("PLANDAG_RESULTS").map_or(1_000, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let make = tool_fn(|cx| async move {
        let n = cx.args["n"].as_u64().ok_or(StepError::bad_input("no number"))?;
        Ok(format!("{n:08}").repeat(1024 * 1024 / 8))
    });
    let length = tool_fn(|cx| async move { Ok(cx.args["text"].as_str().map_or(0, str::len) as u64) });
    let mut steps: Vec<Step> = (0..count).map(|n| Step::new(format!("s{n}"), "make").args(json!({ "n": n }))).collect();
    steps.push(Step::new("last", "length").args(json!({ "text": format!("${{s{}}}", count - 1) })));
    let mut plan: Plan = steps.into_iter().collect();
    plan.answer = Some("last".into());
    let limits = plandag::Limits { steps: count + 1, ..Default::default() };
    let runner = Runner::new(plan).tool("make", make).tool("length", length).max_parallel(8).limits(limits);
    let report = tokio::runtime::Runtime::new().unwrap().block_on(runner.journal(journal).run("large")).unwrap();
    assert_eq!(report.answer().unwrap(), 1024 * 1024);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MOST_KIB, "{peak} KiB for {count} results");
}
