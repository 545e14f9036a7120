//! How long the rest of a run should take, by what a terminal knows of it.

use std::time::Duration;

use plandag::Timestamp;
use plandag::report::{Basis, Forecast, OpenStep, Progress};

use crate::cli::ledger::{Entry, Ledger, State};

/// How long one call of a step should take. None if nothing is known: a guess would look like knowledge.
pub(super) fn expected(ledger: &Ledger, entry: &Entry) -> Option<(Duration, Basis)> {
    ledger.means().expected(entry.estimate, entry.tool.as_deref().unwrap_or_default(), ledger.start()?)
}

/// The rest of a run. A run that is being stopped has none.
pub(super) fn forecast(ledger: &Ledger) -> Forecast {
    let open = (0..).zip(ledger.steps()).filter(|(_, entry)| entry.is_open() && !ledger.is_stopping());
    Forecast::new(open.map(|(number, entry)| OpenStep {
        number,
        parent: entry.scope,
        dependencies: &entry.dependencies,
        progress: match entry.state {
            State::Running { since } => Progress::Running(since),
            State::Retrying { at } => Progress::Retrying(at),
            State::Expanded => Progress::Expanded,
            _ => Progress::Waiting,
        },
        expected: expected(ledger, entry),
    }))
}

/// `ETA ~6s`, with what that rests on in words of its own. None if it would rest on nothing.
pub(super) fn words(forecast: &Forecast, now: Timestamp) -> Option<(String, String)> {
    let left = rough(forecast.left(now)?);
    let least = if forecast.is_partial(now) { "at least " } else { "" };
    let bases: Vec<String> = forecast.bases().map(|basis| basis.to_string()).collect();
    Some((format!("ETA {least}~{left}"), format!("from {}", bases.join(" + "))))
}

/// A duration that is not known better than this.
pub(super) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..10.0 => format!("{seconds:.1}s"),
        ..60.0 => format!("{seconds:.0}s"),
        ..3_600.0 => format!("{}m {:02}s", duration.as_secs() / 60, duration.as_secs() % 60),
        _ => format!("{}h {:02}m", duration.as_secs() / 3_600, duration.as_secs() / 60 % 60),
    }
}
