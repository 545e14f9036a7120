//! How long the rest of a run should take: enough of it that a page can say so at any moment until the next news.

use std::time::Duration;

use serde::Serialize;

use crate::history::History;
use crate::report::{Forecast, Means, OpenStep, Progress, RunReport, StepOutcome, StepReport};
use crate::scheduler::StepState;

use super::gather::duration;
use super::micros;

/// How long the rest of a run should take: as long as the longest of some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rest {
    /// The paths that begin with a call that goes on, or with a pause: when that should be over, and how long what comes
    /// after it should take.
    pub paths: Vec<(u64, u64)>,
    /// The longest of the paths of which nothing has begun.
    pub waiting_us: u64,
    /// Whether nothing is known of some of the steps: it takes at least so long.
    pub is_partial: bool,
    /// What that rests on, in words.
    pub basis: String,
}

/// None if it would rest on nothing.
pub(super) fn rest(history: &History) -> Option<Rest> {
    let report = history.report();
    let scheduler = report.scheduler();
    let means = means(report);
    let steps: Vec<StepReport<'_>> = report.steps().filter(|step| step.member).collect();
    let forecast = Forecast::new(steps.iter().filter_map(|step| {
        let progress = match scheduler.step(step.number)?.state {
            StepState::Running(_) => Progress::Running(step.attempts.last()?.started),
            StepState::Backoff(until) => Progress::Retrying(until),
            StepState::Expanded => Progress::Expanded,
            state if state.is_settled() => return None,
            _ => Progress::Waiting,
        };
        let dependencies = scheduler.dependencies(step.number);
        let estimate = step.definition.estimate_ms.map(Duration::from_millis);
        let expected = means.expected(estimate, step.tool, report.start());
        Some(OpenStep { number: step.number, parent: step.parent, dependencies, progress, expected })
    }));
    let bases: Vec<String> = forecast.bases().map(|basis| basis.to_string()).collect();
    let waiting = forecast.paths().iter().filter(|path| path.due.is_none()).map(|path| path.after).max();
    (!bases.is_empty()).then(|| Rest {
        paths: forecast.paths().iter().filter_map(|path| Some((micros(path.due?), duration(path.after)))).collect(),
        waiting_us: duration(waiting.unwrap_or_default()),
        is_partial: forecast.has_unknown(),
        basis: bases.join(" + "),
    })
}

/// What successful calls have taken so far.
fn means(report: &RunReport) -> Means {
    let mut means = Means::default();
    for step in report.steps().filter(|step| step.outcome == StepOutcome::Succeeded) {
        if let Some(call) = step.attempts.last() {
            means.observe(step.tool, call.duration());
        }
    }
    means
}
