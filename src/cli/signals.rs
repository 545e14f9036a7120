//! Ctrl-C and its relatives.

use std::io;

use futures::Stream;
use plandag::report::ExitCode;

/// Somebody wants the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: `kill`, a container that is stopped, a machine that goes down.
    Terminate,
    /// SIGHUP: the terminal was closed, or the connection to it was lost.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    HangUp,
}

impl Signal {
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate | Self::HangUp => ExitCode::Terminated,
        }
    }
}

/// The signals from now on.
#[cfg(unix)]
pub(crate) fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    use futures::stream::{poll_fn, select_all};
    use tokio::signal::unix::{SignalKind, signal};

    let mut awaited = vec![(SignalKind::interrupt(), Signal::Interrupt), (SignalKind::terminate(), Signal::Terminate)];
    if !outlives_its_terminal() {
        awaited.push((SignalKind::hangup(), Signal::HangUp));
    }
    let streams: io::Result<Vec<_>> = awaited
        .into_iter()
        .map(|(kind, meaning)| {
            let mut received = signal(kind)?;
            Ok(poll_fn(move |cx| received.poll_recv(cx).map(|received| received.map(|()| meaning))))
        })
        .collect();
    Ok(select_all(streams?))
}

/// Whether SIGHUP was ignored when this process began, as `nohup` has it, and has to stay so. Where the system does not
/// say, it is left as it is.
#[cfg(unix)]
fn outlives_its_terminal() -> bool {
    const HANG_UP: u64 = 1 << 0;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & HANG_UP != 0)
}

/// The signals from now on.
#[cfg(not(unix))]
pub(crate) fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    use futures::StreamExt as _;

    let interrupts = futures::stream::unfold((), |()| async {
        tokio::signal::ctrl_c().await.ok().map(|()| (Signal::Interrupt, ()))
    });
    Ok(interrupts.boxed())
}
