//! The process of a server, and everything it starts: a process group that does not outlive us.
//!
//! In the group there is one process of ours, the lifeline: a shell that reads from a pipe to us. When we are gone,
//! however that went, the pipe is closed; the shell gives the server a second to end by itself, since its own input is
//! closed too, and kills the group. While the lifeline is not waited for, the number of the group cannot become that of
//! somebody else.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::owner;
use crate::cut;
use crate::redact::Secrets;

/// How long a server has to end by itself once its input is closed, and once more when it was asked to.
const GRACE: Duration = Duration::from_secs(1);
/// How long it takes at most until it is known that a server has ended, and all that it wrote is read.
const MOMENT: Duration = Duration::from_millis(200);
/// How much of the end of what it writes on its standard error is kept.
const TAIL_BYTES: usize = 2 * 1024;
/// What a server inherits of our environment. Everything else could be a secret.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "USER"];
const LIFELINE: &str = "trap '' HUP INT TERM; read -r _; sleep 1; kill -KILL 0";

/// A running server.
pub(super) struct Process {
    leader: Child,
    lifeline: Child,
    group: Pid,
    tail: Tail,
    /// Reads the standard error.
    reader: Option<JoinHandle<()>>,
}

/// The end of what was written on the standard error.
#[derive(Clone)]
struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    /// What it may not tell.
    secrets: Secrets,
}

impl Process {
    pub(super) fn start<'a>(
        program: &str,
        args: &[String],
        env: impl Iterator<Item = (&'a String, &'a String)>,
        cwd: Option<&Path>,
        secrets: Secrets,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = Command::new(program);
        command.args(args).env_clear().kill_on_drop(true).process_group(0);
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(env);
        command.envs(owner::variable());
        if let Some(cwd) = cwd {
            command.current_dir(cwd);
        }
        let mut leader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let number = leader.id().and_then(|id| i32::try_from(id).ok());
        let group = number.and_then(Pid::from_raw).ok_or_else(|| io::Error::other("the process has no number"))?;
        let lifeline = Command::new("/bin/sh")
            .args(["-c", LIFELINE])
            .env_clear()
            .kill_on_drop(true)
            .process_group(group.as_raw_nonzero().get())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let tail = Tail { bytes: Arc::default(), secrets };
        let reader = leader.stderr.take().map(|stderr| tokio::spawn(tail.clone().read(stderr)));
        let pipes = leader.stdin.take().zip(leader.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other("the process has no pipes"))?;
        Ok((Self { leader, lifeline, group, tail, reader }, stdin, stdout))
    }

    /// The last lines that it wrote on its standard error.
    pub(super) fn tail(&self) -> String {
        self.tail.text()
    }

    /// How it has ended, if it has within a moment.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        let status = timeout(MOMENT, self.leader.wait()).await.ok()?.ok();
        if let Some(reader) = &mut self.reader {
            // Others may hold its standard error open for longer.
            let read = timeout(MOMENT, reader).await;
            self.reader = self.reader.take().filter(|_| read.is_err());
        }
        status
    }

    /// Ends it and its group, after its input was closed.
    pub(super) async fn end(mut self) {
        if timeout(GRACE, self.leader.wait()).await.is_err() {
            self.signal(Signal::TERM);
            // If it does not end now it is killed.
            let _ = timeout(GRACE, self.leader.wait()).await;
        }
        self.signal(Signal::KILL);
        // Both are gone, or going.
        let _ = self.leader.wait().await;
        let _ = self.lifeline.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if self.lifeline.id().is_some() {
            // It fails if somebody in it has become another user: nothing can be done about that.
            let _ = kill_process_group(self.group, signal);
        }
    }
}

impl Drop for Process {
    /// Nobody had the time to end it.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Tail {
    async fn read(self, mut stderr: ChildStderr) {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
            let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.extend(&buffer[..read]);
            // One more says that there was more.
            let excess = bytes.len().saturating_sub(TAIL_BYTES + 1);
            bytes.drain(..excess);
        }
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = match bytes.len().checked_sub(TAIL_BYTES) {
            Some(more @ 1..) => cut::ending(&bytes[more..]),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let text = self.secrets.redact(&text);
        let last: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        last[last.len().saturating_sub(3)..].join(" / ")
    }
}
