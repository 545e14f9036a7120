//! Programs that outlived the process which started them: it was killed, so nobody ended them.
//!
//! They are found by a variable of their environment, which they hand on to what they start: however deep they are, and
//! without a list that a killed process could have failed to write. Only Linux says what environment a process has.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// How often, and how many times, it is looked whether the last one is gone.
const GONE_EVERY: Duration = Duration::from_millis(10);
const GONE_CHECKS: u32 = 100;

/// Ends all programs with a variable, as `NAME=value`, that marks them, and waits until they are gone.
pub(super) async fn end(marks: impl Fn(&[u8]) -> bool) {
    for _ in 0..GONE_CHECKS {
        let orphans: Vec<Pid> = processes().filter(|pid| is_marked(*pid, &marks)).collect();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            // One that has just ended is not seen the next time.
            let _ = kill_process(orphan, Signal::KILL);
        }
        sleep(GONE_EVERY).await;
    }
    tracing::warn!("programs of an earlier process do not end");
}

fn processes() -> impl Iterator<Item = Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn is_marked(pid: Pid, marks: &impl Fn(&[u8]) -> bool) -> bool {
    // That of somebody else cannot be read, and is none of ours.
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(marks)
}
