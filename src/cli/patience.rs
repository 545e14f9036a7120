//! Patience with whoever reads what is written.

use std::future::pending;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::signals;

/// As much is taken at once by a pipe that takes anything.
pub(crate) const PIECE: usize = 4_096;

/// What is given out first of these lines, and the rest. Where it can be, a piece is of whole lines: others may write to
/// the same file.
pub(crate) fn first_piece(lines: &[u8]) -> (&[u8], &[u8]) {
    let most = &lines[..lines.len().min(PIECE)];
    let end = most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |last| last + 1);
    lines.split_at(end)
}

/// Lines that are not given out yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// So many of them are given out.
    given: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.given..]
    }

    /// So many more are given out.
    pub(crate) fn gave(&mut self, count: usize) {
        self.given += count;
        // What is moved is no more than what was given out, so a byte is moved once at most.
        if self.given >= self.bytes.len() - self.given {
            self.bytes.drain(..self.given);
            self.given = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.given = 0;
    }
}

/// One of the two streams that a command writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standard {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Standard {
    /// Whether it takes a piece within a time, or has nobody at its other end. None: however long that takes.
    pub(crate) fn takes_a_piece_within(self, time: Option<Duration>) -> bool {
        match self {
            Self::Output => takes_within(std::io::stdout(), time),
            Self::Error => takes_within(std::io::stderr(), time),
        }
    }

    /// Whether it takes a piece now.
    pub(crate) fn takes_a_piece(self) -> bool {
        self.takes_a_piece_within(Some(Duration::ZERO))
    }
}

/// Whoever reads a stream, as they are waited for while other things happen.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Standard,
    /// A thread that waits. It is kept if its end is not waited for: there is never more than one.
    waiting: Option<JoinHandle<bool>>,
}

impl Reader {
    pub(crate) fn of(stream: Standard) -> Self {
        Self { stream, waiting: None }
    }

    /// Waits until there is something to give out and the stream takes a piece of it. The thread goes on with other
    /// tasks meanwhile.
    pub(crate) async fn takes_a_piece_of(&mut self, lines: &Lines) {
        if lines.rest().is_empty() {
            return pending().await;
        }
        let stream = self.stream;
        // Whoever has waited may have been told before something else was given out.
        while !stream.takes_a_piece() {
            let waiting = self
                .waiting
                .get_or_insert_with(|| tokio::task::spawn_blocking(move || stream.takes_a_piece_within(None)));
            // It cannot panic, and nobody ends it.
            let _ = waiting.await;
            self.waiting = None;
        }
    }
}

#[cfg(unix)]
fn takes_within(file: impl std::os::fd::AsFd, time: Option<Duration>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::retry_on_intr;

    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(&file, PollFlags::OUT)], time.as_ref()));
    // Where it cannot be told, writing shows it.
    ready.map_or(true, |ready| ready > 0)
}

/// Here writing shows it.
#[cfg(not(unix))]
fn takes_within<T>(_: T, _: Option<Duration>) -> bool {
    true
}

/// From now on a signal ends the process: there is nothing left to be stopped but waiting for a reader.
pub(crate) fn leave_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| leave_after(0, Duration::ZERO));
}

/// From now on the third signal ends the process, whatever it is busy with.
pub(crate) fn leave_on_third_signal() {
    static ONCE: Once = Once::new();
    // Whoever obeys them and need not wait leaves first, and says how to go on.
    ONCE.call_once(|| leave_after(2, Duration::from_secs(1)));
}

/// Ends the process with a signal that comes after so many others, and some time after it. The first of all says the
/// exit code.
fn leave_after(others: usize, pause: Duration) {
    // Without a thread for it, the reader is waited for.
    let _ = thread::Builder::new().spawn(move || {
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
        let come = runtime.block_on(async { Some(signals::listen().ok()?.take(others + 1).collect::<Vec<_>>().await) });
        if let Some(signal) = come.and_then(|come| come.first().copied()) {
            thread::sleep(pause);
            std::process::exit(signal.exit().code().into());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_out_is_not_kept() {
        let mut lines = Lines::default();
        for number in 0..10_000 {
            lines.push(&format!("line {number} of many that are given out before the next one comes\n"));
            if lines.rest().len() > PIECE {
                let (piece, _) = first_piece(lines.rest());
                let length = piece.len();
                lines.gave(length);
            }
            assert!(lines.bytes.len() <= 3 * PIECE, "{} bytes after {number} lines", lines.bytes.len());
        }
    }

    #[test]
    fn a_piece_is_of_whole_lines_unless_one_is_longer() {
        let line = |length: usize| "x".repeat(length) + "\n";
        let lines = line(PIECE - 9) + &line(20) + &line(2 * PIECE);
        let mut rest = lines.as_bytes();
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let (piece, later) = first_piece(rest);
            lengths.push(piece.len());
            rest = later;
        }
        assert_eq!(lengths, [PIECE - 8, 21, PIECE, PIECE, 1]);
    }
}
