//! What kept ready steps from starting.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{AttemptNumber, RunEvent, StepNumber};
use crate::report::RunReport;
use crate::scheduler::{Hindrance, Scheduler};

use super::History;
use super::why::SHORT;

/// By attempt: what kept its step from starting.
pub(super) type Waits = HashMap<AttemptNumber, Vec<Hindrance>>;

/// A moment at which a step was ready and did not start.
struct Moment {
    /// After so many events.
    after: usize,
    attempt: AttemptNumber,
    step: StepNumber,
}

impl History {
    /// What kept the step of an attempt from starting while it was ready.
    pub(super) fn kept_back(&self, attempt: AttemptNumber) -> &[Hindrance] {
        let waits = self.waits.get_or_init(|| waits(&self.events, &self.report));
        waits.get(&attempt).map_or(&[], Vec::as_slice)
    }
}

/// The run is gone through once more, and looked at twice for each wait: when the step had become ready and all that could
/// start had, and just before it started itself.
fn waits(events: &[RunEvent], report: &RunReport) -> Waits {
    let mut moments: Vec<Moment> = Vec::new();
    for step in report.steps() {
        for call in step.attempts.iter().filter(|call| call.queued >= SHORT) {
            let started = events.partition_point(|event| event.at < call.started);
            let ready = events.partition_point(|event| event.at + call.queued <= call.started);
            let both = [started, ready].into_iter().take(if ready < started { 2 } else { 1 });
            moments.extend(both.map(|after| Moment { after, attempt: call.number, step: step.number }));
        }
    }
    moments.sort_by_key(|moment| moment.after);
    let mut waits = Waits::new();
    let mut scheduler = Scheduler::new(Arc::clone(report.scheduler().start()));
    let mut followed = 0;
    for Moment { after, attempt, step } in moments {
        // What could be read back can be followed once more.
        if events[followed..after].iter().try_for_each(|event| scheduler.follow(event)).is_err() {
            break;
        }
        followed = after;
        let Some(now) = events[..after].last().map(|last| last.at) else { continue };
        let mut found = scheduler.hindrances(step, now);
        let known = waits.entry(attempt).or_default();
        known.retain(|earlier| !found.iter().any(|later| later.is_of(earlier)));
        found.append(known);
        *known = found;
    }
    waits
}
