//! What the journal costs, as ratios to what cannot be avoided: one `fsync` of the same disk, and a journal in memory, in
//! the same run. Absolute times of a disk mean little anywhere else.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the result")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use plandag::journal::{Claim, Durability, Journal, MemoryJournal, RunId, SqliteJournal};
use plandag::report::RunReport;
use plandag::{Plan, RunEvent, Runner, Step, tool_fn};
use serde_json::json;
use tokio::runtime::Runtime;

/// Writes whose median is taken.
const WRITES: usize = 400;
/// Writers at once.
const AT_ONCE: usize = 64;
/// About 100,000 events: two a step.
const STEPS: usize = 50_000;

fn main() {
    let runtime = Runtime::new().unwrap();
    // Not the default for temporary files: that is often in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let fsync = median(&raw_fsync(folder.path()));
    println!("one fsync                      {fsync:>10.1?}");

    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap());
    let memory: Arc<dyn Journal> = Arc::new(MemoryJournal::new());
    for (name, journal, durability, bound) in [
        ("in memory", &memory, Durability::Process, None),
        ("survives the process", &journal, Durability::Process, None),
        ("survives the power", &journal, Durability::Power, Some(1.5)),
    ] {
        let alone = median(&runtime.block_on(writes(journal, durability, name)));
        println!("{name:22} alone   {alone:>10.1?}  {}", against(alone, fsync, bound));
    }
    let together = runtime.block_on(at_once(&journal));
    println!("survives the power     of {AT_ONCE}   {together:>10.1?}  {}", against(together, fsync, Some(0.05)));

    let (run, events) = long_run(&runtime, &journal);
    let begin = Instant::now();
    let listed = runtime.block_on(journal.runs()).unwrap().len();
    println!("list with {events} events: {:.1?} ({listed} runs)", begin.elapsed());
    let begin = Instant::now();
    let history = runtime.block_on(journal.history(&run)).unwrap();
    let read = begin.elapsed();
    RunReport::from_history(run, &history).unwrap();
    println!("resume {events} events: {:.1?} to read them, {:.1?} in all", read, begin.elapsed());
}

fn against(time: Duration, fsync: Duration, bound: Option<f64>) -> String {
    let ratio = time.as_secs_f64() / fsync.as_secs_f64();
    bound.map_or(format!("{ratio:.4} fsync"), |bound| format!("{ratio:.4} fsync (wanted: at most {bound})"))
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn raw_fsync(folder: &Path) -> Vec<Duration> {
    let mut file = File::create(folder.join("raw")).unwrap();
    let write = |_| {
        let begin = Instant::now();
        file.write_all(&[b'x'; 1024]).unwrap();
        file.sync_data().unwrap();
        begin.elapsed()
    };
    (0..WRITES).map(write).collect()
}

/// The events of a small run, to be written again and again.
async fn events() -> Vec<RunEvent> {
    let journal = MemoryJournal::new();
    let plan = Plan::from_iter([Step::new("a", "one").args(json!({ "text": "x".repeat(900) }))]);
    let runner = Runner::new(plan).tool("one", tool_fn(|cx| async move { Ok(cx.args) })).journal(journal.clone());
    let report = runner.run("bench").await.unwrap();
    journal.history(report.run()).await.unwrap()
}

/// A run that has begun, and an event of it to write.
async fn begun(journal: &Arc<dyn Journal>, name: &str) -> (Claim, RunEvent) {
    let events = events().await;
    let claim = journal.create(&RunId::new(name)).await.unwrap();
    journal.append(&claim, &events[..1], Durability::Process).await.unwrap();
    (claim, events[4].clone())
}

async fn writes(journal: &Arc<dyn Journal>, durability: Durability, name: &str) -> Vec<Duration> {
    let (claim, event) = begun(journal, name).await;
    let mut times = Vec::new();
    for seq in 1..=WRITES as u64 {
        let event = RunEvent { seq, ..event.clone() };
        let begin = Instant::now();
        journal.append(&claim, std::slice::from_ref(&event), durability).await.unwrap();
        times.push(begin.elapsed());
    }
    times
}

/// The time for each of many writes that come together.
async fn at_once(journal: &Arc<dyn Journal>) -> Duration {
    let runs = (0..AT_ONCE).map(|n| async move { begun(journal, &format!("together {n}")).await });
    let begun = join_all(runs).await;
    let begin = Instant::now();
    let writers = begun.iter().map(|(claim, event)| async move {
        for seq in 1..=10 {
            let event = RunEvent { seq, ..event.clone() };
            journal.append(claim, std::slice::from_ref(&event), Durability::Power).await.unwrap();
        }
    });
    join_all(writers).await;
    begin.elapsed() / (10 * AT_ONCE as u32)
}

fn long_run(runtime: &Runtime, journal: &Arc<dyn Journal>) -> (RunId, u64) {
    let steps: Plan = (0..STEPS).map(|n| Step::new(format!("s{n}"), "one").args(json!({ "n": n }))).collect();
    let limits = plandag::Limits { steps: STEPS as u32, ..Default::default() };
    let runner = Runner::new(steps).tool("one", tool_fn(|cx| async move { Ok(cx.args) })).limits(limits);
    let report = runtime.block_on(runner.journal(Arc::clone(journal)).run("long")).unwrap();
    let summary = runtime.block_on(journal.runs()).unwrap().into_iter().find(|summary| summary.run == *report.run());
    (report.run().clone(), summary.unwrap().events)
}
