//! What a journal promises, with real processes: killed, stopped, locked out.

#![cfg(all(unix, feature = "cli"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod at_once;
mod damage;
mod decisions;
mod depth;
mod floats;
mod forks;
mod forks_further;
mod history;
mod in_flight;
mod kills;
mod letters;
#[cfg(target_os = "linux")]
mod memory;
mod observed;
mod older;
mod owner;
mod read_back;
mod redacted;
mod support;
mod told;
mod views;
