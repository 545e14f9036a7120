//! The server of pages, on loopback: what it answers, whom it answers, and what it stands.

#![cfg(feature = "web")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acting;
mod clumsy;
mod live;
mod reading;
mod safety;
mod support;
