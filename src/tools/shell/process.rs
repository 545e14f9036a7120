//! A program and everything it starts: a process group that ends with the attempt.
//!
//! The program is the leader of a group of its own, which its children and their children belong to. When the program
//! has ended, or nobody waits for it any more, what is left of the group is ended too. A process that leaves the group
//! on purpose, as daemons do, is not found again.
//!
//! The number of a group is that of its leader, and the system gives it to somebody else as soon as the leader was
//! waited for and the group is empty. So the end of the leader is noticed without waiting for it, and once it has been
//! waited for no signal is sent.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{Either, join3, select};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::capture::Capture;
use super::watcher;
use crate::tool::Hold;

/// How long a group has to end by itself once it was asked to, or once its leader has ended.
const GRACE: Duration = Duration::from_secs(1);
/// How often, and how many times, it is looked whether the last process of a killed group is gone. Not for long: where
/// nobody waits for orphans, as in many containers, a dead one stays in its group for ever.
const GONE_EVERY: Duration = Duration::from_millis(10);
const GONE_CHECKS: u32 = 25;

/// What became of a program.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
}

/// Runs a program until it and its group have ended. When the future is dropped the group is ended, and the attempt
/// counts as over when it is gone.
pub(super) async fn run(mut command: Command, stdin: Option<String>, attempt: Hold) -> io::Result<Finished> {
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let group = Group::new(command.spawn()?)?;
    // Dropped with this future, the sender tells the task that nobody waits.
    let (_waiting, nobody_waits) = oneshot::channel();
    let task = tokio::spawn(async move {
        let _attempt = attempt;
        group.see_through(stdin, nobody_waits).await
    });
    task.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(io::Error::other("the runtime is shutting down")),
    })
}

/// A process group whose leader was not waited for.
struct Group {
    leader: Child,
    number: Pid,
}

impl Group {
    fn new(leader: Child) -> io::Result<Self> {
        match leader.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            Some(number) => {
                watcher::begun(number);
                Ok(Self { leader, number })
            }
            None => Err(io::Error::other("the process has no number")),
        }
    }

    async fn see_through(mut self, stdin: Option<String>, nobody_waits: oneshot::Receiver<()>) -> io::Result<Finished> {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let exchange = join3(
            feed(self.leader.stdin.take(), stdin),
            stdout.read(self.leader.stdout.take()),
            stderr.read(self.leader.stderr.take()),
        );
        let leader_ended = leader_ended(self.number);
        let ended = async {
            match select(leader_ended, pin!(exchange)).await {
                // What the leader left behind may still have something to write.
                Either::Left((_, exchange)) => drop(timeout(GRACE, exchange).await),
                Either::Right((_, leader_ended)) => drop(leader_ended.await),
            }
        };
        if let Either::Right((_, ended)) = select(pin!(ended), nobody_waits).await {
            self.signal(Signal::TERM);
            drop(timeout(GRACE, ended).await);
        }
        self.kill();
        let status = self.leader.wait().await?;
        gone(self.number).await;
        Ok(Finished { status, stdout, stderr })
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
        watcher::ended(self.number);
    }

    fn signal(&self, signal: Signal) {
        // It fails if there is nobody left, or if somebody has become another user: nothing can be done about either.
        let _ = kill_process_group(self.number, signal);
    }
}

impl Drop for Group {
    /// The runtime went away in the middle.
    fn drop(&mut self) {
        let waited_for = self.leader.id().is_none();
        if !waited_for {
            self.kill();
        }
    }
}

async fn feed(to: Option<ChildStdin>, text: Option<String>) {
    if let (Some(mut to), Some(text)) = (to, text) {
        // A program need not read all that it is given.
        let _ = to.write_all(text.as_bytes()).await;
    }
}

/// Ends when the leader of a group has, and leaves it to be waited for.
fn leader_ended(number: Pid) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let wait = || waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while wait().is_err_and(|error| error == Errno::INTR) {}
    })
}

/// Waits until a killed group is gone. That takes no time, but for processes which the system cannot end at once, and
/// those that nobody waits for.
async fn gone(number: Pid) {
    for _ in 0..GONE_CHECKS {
        if test_kill_process_group(number) == Err(Errno::SRCH) {
            return;
        }
        sleep(GONE_EVERY).await;
    }
}
