//! Patience with whoever reads standard output.

/// As much is taken at once by a pipe that takes anything.
pub(crate) const PIECE: usize = 4_096;

/// What is given out first of these lines, and the rest. Where it can be, a piece is of whole lines: others may write to
/// the same file.
pub(crate) fn first_piece(lines: &[u8]) -> (&[u8], &[u8]) {
    let most = &lines[..lines.len().min(PIECE)];
    let end = most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |last| last + 1);
    lines.split_at(end)
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
