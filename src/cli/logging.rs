//! What goes on inside, for `-v` and `RUST_LOG`.

use std::io;

use anstream::ColorChoice;
use tracing_subscriber::EnvFilter;

use super::secrets::RedactedStderr;

/// Whether somebody wants to see what goes on inside.
pub(crate) fn is_wanted(verbose: u8) -> bool {
    verbose > 0 || by_variable().is_some()
}

fn by_variable() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty())
}

/// Starts logging to standard error if somebody wants it. `RUST_LOG` says in detail what, and wins.
pub(crate) fn start(verbose: u8) {
    let filter = match (by_variable(), verbose) {
        (Some(filter), _) => filter,
        // Building a subscriber takes longer than most commands.
        (None, 0) => return,
        (None, 1) => "plandag=info".to_owned(),
        (None, 2) => "plandag=debug".to_owned(),
        (None, _) => "plandag=trace".to_owned(),
    };
    let colour = anstream::AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(|| RedactedStderr)
        .with_ansi(colour)
        .init();
}
