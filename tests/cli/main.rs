//! The command as a process: what it prints where, and how it exits.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acting;
mod analysing;
#[cfg(unix)]
mod approving;
mod batching;
mod benching;
#[cfg(unix)]
mod calling;
#[cfg(target_os = "linux")]
mod cancelled;
mod clumsy;
mod codes;
mod configuring;
mod drawing;
mod errors;
mod events;
mod faster;
mod hostile;
mod looking;
mod model;
mod model_server;
mod readme;
mod redacting;
mod resuming;
mod running;
#[cfg(unix)]
mod serving;
#[cfg(unix)]
mod signals;
mod support;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod unread;
