//! How long the rest of a run should take: enough of it that a page can say so at any moment until the next news.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::history::History;
use crate::report::{Basis, Forecast, OpenStep, Progress, StepReport};
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
    let means = means(history);
    let expected = |step: &StepReport<'_>| -> Option<(Duration, Basis)> {
        if let Some(estimate) = step.definition.estimate_ms {
            return Some((Duration::from_millis(estimate), Basis::Estimate));
        }
        if let Some((total, count)) = means.get(step.tool) {
            return Some((*total / *count, Basis::ThisRun));
        }
        let spec = report.start().tools.iter().find(|spec| spec.name == step.tool)?;
        spec.mean_ms.map(|mean| (Duration::from_millis(mean), Basis::EarlierRuns))
    };
    let steps: Vec<StepReport<'_>> = report.steps().filter(|step| step.member).collect();
    let forecast = Forecast::new(steps.iter().filter_map(|step| {
        let progress = match scheduler.step(step.number)?.state {
            StepState::Running(_) => Progress::Running(step.attempts.last()?.started),
            StepState::Backoff(until) => Progress::Retrying(until),
            StepState::Expanded => Progress::Expanded,
            StepState::Waiting | StepState::Ready | StepState::Unapproved | StepState::Unknown(_) => Progress::Waiting,
            StepState::Succeeded | StepState::Failed | StepState::Skipped(_) | StepState::Superseded => return None,
        };
        let dependencies = scheduler.dependencies(step.number);
        Some(OpenStep { number: step.number, parent: step.parent, dependencies, progress, expected: expected(step) })
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

/// What successful calls of each tool have taken so far: all together, and how many there were.
fn means(history: &History) -> HashMap<&str, (Duration, u32)> {
    let mut means: HashMap<&str, (Duration, u32)> = HashMap::new();
    for step in history.report().steps() {
        let is_answered =
            matches!(history.report().scheduler().step(step.number), Some(step) if step.state == StepState::Succeeded);
        if let (true, Some(call)) = (is_answered, step.attempts.last()) {
            let (total, count) = means.entry(step.tool).or_default();
            *total += call.ended - call.started;
            *count += 1;
        }
    }
    means
}
