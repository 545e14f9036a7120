//! `fetch`: what it reads, and where it does not go.

#![cfg(feature = "fetch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod guard;
mod reading;
mod support;
