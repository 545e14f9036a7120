//! Patience with whoever reads standard output.

/// As much is taken at once by a pipe that takes anything.
pub(crate) const PIECE: usize = 4_096;

/// Waits until standard output takes a piece, or has nobody at its other end. The thread goes on with other tasks
/// meanwhile.
#[cfg(unix)]
pub(crate) async fn stdout_takes_a_piece() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::retry_on_intr;

    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let takes_within = |time: Option<&Timespec>| {
        let stdout = std::io::stdout();
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], time));
        // Where it cannot be told, writing shows it.
        ready.map_or(true, |ready| ready > 0)
    };
    if !takes_within(Some(&AT_ONCE)) {
        // It cannot panic, and nobody ends it.
        let _ = tokio::task::spawn_blocking(move || takes_within(None)).await;
    }
}

/// Here whoever tells has a thread of their own.
#[cfg(not(unix))]
pub(crate) async fn stdout_takes_a_piece() {}
