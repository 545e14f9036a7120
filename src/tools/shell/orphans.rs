//! Programs that outlived the process which ran them: it was killed, so nobody ended them.
//!
//! Every program is told its idempotency key, which begins with the name of the run, and hands it on to what it starts.
//! So they are found by their environment, however deep they are, without a list that a killed process could have
//! failed to write.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// The environment variable with the idempotency key.
pub(super) const KEY: &str = "PLANDAG_IDEMPOTENCY_KEY";

/// How often, and how many times, it is looked whether the last one is gone.
const GONE_EVERY: Duration = Duration::from_millis(10);
const GONE_CHECKS: u32 = 100;

/// Ends the programs of a run that nobody drives. Only Linux says what environment a process has.
pub(super) async fn end(run: &str) {
    let entry = format!("{KEY}={run}/");
    for _ in 0..GONE_CHECKS {
        let orphans: Vec<Pid> = processes().filter(|pid| has_entry(*pid, entry.as_bytes())).collect();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            // One that has just ended is not seen the next time.
            let _ = kill_process(orphan, Signal::KILL);
        }
        sleep(GONE_EVERY).await;
    }
    tracing::warn!(run, "programs of an earlier process do not end");
}

fn processes() -> impl Iterator<Item = Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn has_entry(pid: Pid, entry: &[u8]) -> bool {
    // That of somebody else cannot be read, and is none of ours.
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(entry))
}
