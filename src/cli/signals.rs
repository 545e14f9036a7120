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
    /// SIGQUIT: Ctrl-\, or `plandag cancel --now`. What is running is ended at once. Two of another signal could become
    /// one on their way, and a third would leave.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Quit,
}

impl Signal {
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Self::Interrupt | Self::Quit => ExitCode::Interrupted,
            Self::Terminate | Self::HangUp => ExitCode::Terminated,
        }
    }
}

/// The signals from now on.
#[cfg(unix)]
pub(crate) fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    use futures::stream::{poll_fn, select_all};
    use tokio::signal::unix::{SignalKind, signal};

    let mut awaited = vec![
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::quit(), Signal::Quit),
    ];
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

/// Has a write fail where the limit of a file's size is reached, as on a full disk. The process would be killed otherwise,
/// and could tell nobody. What it starts is killed as ever: another program does not inherit what is done about a signal.
#[cfg(unix)]
pub(crate) fn outlive_size_limit() {
    use rustix::process::{Resource, Signal, getrlimit};
    use tokio::signal::unix::{SignalKind, signal};

    if getrlimit(Resource::Fsize).current.is_none() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    let _inside = runtime.enter();
    // It is caught from now on, also when nobody listens any more. If it cannot be, it is as it was.
    let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
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
