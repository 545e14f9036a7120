//! How long the rest of a run should take: its longest path, each step as long as it is expected to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plandag::{StepNumber, Timestamp};

use crate::cli::ledger::{Entry, Ledger, State};

/// What an expectation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Basis {
    /// The plan says so.
    Estimate,
    /// The same tool in this run, so far.
    ThisRun,
    /// The same tool in earlier runs.
    EarlierRuns,
}

impl Basis {
    fn words(self) -> &'static str {
        match self {
            Self::Estimate => "estimates",
            Self::ThisRun => "this run",
            Self::EarlierRuns => "earlier runs",
        }
    }
}

/// How long one call of a step should take. None if nothing is known: a guess would look like knowledge.
pub(super) fn expected(ledger: &Ledger, entry: &Entry) -> Option<(Duration, Basis)> {
    if let Some(estimate) = entry.estimate {
        return Some((estimate, Basis::Estimate));
    }
    let tool = entry.tool.as_deref()?;
    if let Some(mean) = ledger.observed_mean(tool) {
        return Some((mean, Basis::ThisRun));
    }
    let spec = ledger.start()?.tools.iter().find(|spec| spec.name == tool)?;
    spec.mean_ms.map(|mean| (Duration::from_millis(mean), Basis::EarlierRuns))
}

/// The rest of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forecast {
    left: Duration,
    bases: BTreeSet<Basis>,
    /// Whether nothing is known about some of the steps, or something wrong.
    is_partial: bool,
    /// The step at the head of the longest path.
    pub(super) critical: Option<StepNumber>,
}

impl Forecast {
    pub(super) fn new(ledger: &Ledger, now: Timestamp) -> Self {
        let mut forecast = Self::default();
        if ledger.is_stopping() {
            return forecast;
        }
        let steps = ledger.steps();
        let mut scopes: BTreeMap<Option<StepNumber>, Vec<StepNumber>> = BTreeMap::new();
        for (number, entry) in (0..).zip(steps) {
            if entry.is_open() {
                scopes.entry(entry.scope).or_default().push(number);
            }
        }
        // What comes after each step. Numbers grow along dependencies, and an expanded step has a lower one than its
        // children, so each scope is done before those inside of it, and each step before what it depends on.
        let mut after = vec![Duration::ZERO; steps.len()];
        for (scope, numbers) in &scopes {
            let rest_of_parent = scope.map_or(Duration::ZERO, |parent| after[parent as usize]);
            for &number in numbers.iter().rev() {
                let entry = &steps[number as usize];
                let own = match (entry.state, expected(ledger, entry)) {
                    (State::Expanded, _) => Duration::ZERO,
                    (_, None) => {
                        forecast.is_partial = true;
                        Duration::ZERO
                    }
                    (state, Some((expected, basis))) => {
                        forecast.bases.insert(basis);
                        match state {
                            State::Running { since } => expected.checked_sub(now - since).unwrap_or_else(|| {
                                // It takes longer than was expected; nobody knows how much.
                                forecast.is_partial = true;
                                Duration::ZERO
                            }),
                            State::Retrying { at } => (at - now) + expected,
                            _ => expected,
                        }
                    }
                };
                let after_this = after[number as usize].max(rest_of_parent);
                after[number as usize] = after_this;
                let path = own + after_this;
                for &dependency in &entry.dependencies {
                    let after = &mut after[dependency as usize];
                    *after = path.max(*after);
                }
                let is_head = !matches!(entry.state, State::Expanded)
                    && !entry.dependencies.iter().any(|dependency| steps[*dependency as usize].is_open());
                if is_head && (path > forecast.left || forecast.critical.is_none()) {
                    forecast.left = path;
                    forecast.critical = Some(number);
                }
            }
        }
        // With one step left there is no other path to be longer than; with unknown lengths nobody can tell.
        if forecast.is_partial || scopes.values().map(Vec::len).sum::<usize>() < 2 {
            forecast.critical = None;
        }
        forecast
    }

    /// `ETA ~6s`, with what that rests on in words of its own. None if it would rest on nothing.
    pub(super) fn words(&self) -> Option<(String, String)> {
        if self.bases.is_empty() || (self.is_partial && self.left.is_zero()) {
            return None;
        }
        let least = if self.is_partial { "at least " } else { "" };
        let bases: Vec<&str> = self.bases.iter().map(|basis| basis.words()).collect();
        Some((format!("ETA {least}~{}", rough(self.left)), format!("from {}", bases.join(" + "))))
    }
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
