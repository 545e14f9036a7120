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
}

impl Signal {
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        }
    }
}

/// The signals from now on.
#[cfg(unix)]
pub(crate) fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    use futures::stream::{poll_fn, select};
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(select(
        poll_fn(move |cx| interrupt.poll_recv(cx).map(|received| received.map(|()| Signal::Interrupt))),
        poll_fn(move |cx| terminate.poll_recv(cx).map(|received| received.map(|()| Signal::Terminate))),
    ))
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
