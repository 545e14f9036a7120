//! How numbers and states are written on a page.

use std::time::Duration;

use crate::duration::human;

/// The sign of a state: its shape alone says what it is.
pub(super) fn sign(state: &str) -> &'static str {
    match state {
        "succeeded" => "✓",
        "failed" => "✗",
        "running" => "▸",
        "retrying" => "↻",
        "expanded" => "⊞",
        "skipped" => "⊘",
        "superseded" => "–",
        "unknown" | "unapproved" => "?",
        "interrupted" | "cancelled" | "stopped" => "■",
        _ => "○",
    }
}

/// Whether a step in this state is over.
pub(super) fn is_over(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "skipped" | "superseded")
}

/// A length of time.
pub(super) fn time(micros: u64) -> String {
    human(Duration::from_micros(micros))
}

/// An amount of money.
pub(super) fn money(micro_usd: u64) -> String {
    format!("${:.3}", micro_usd as f64 / 1_000_000.0)
}
