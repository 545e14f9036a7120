//! `fetch`: what it reads, and where it does not go.

#![cfg(feature = "fetch")]

mod guard;
mod reading;
mod support;
