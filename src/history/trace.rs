//! A run as a trace: what Perfetto and Chrome's `about:tracing` show.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::event::{StepNumber, Timestamp};
use crate::report::StepReport;
use crate::simulate::what_if::as_done_by;
use crate::tool::ToolSpec;

use super::History;

impl History {
    /// The run in the Trace Event Format. Every call of a tool is a slice; calls at the same time are on different
    /// tracks, as few as will do. Plans are marks. Calls of the run that this one is a fork of say that they were taken
    /// over. How many could be made at once, and how large the pools were, is said of the process.
    ///
    /// The format is described in "Trace Event Format" by the Chromium project.
    pub fn to_trace(&self) -> Value {
        let mut calls: Vec<_> = self
            .report
            .steps()
            .flat_map(|step| {
                step.attempts.clone().into_iter().zip(1..).map(move |(call, try_)| (step.clone(), call, try_))
            })
            .collect();
        calls.sort_by_key(|(_, call, _)| (call.started, call.number));
        let waits = Waits::of(self);
        let mut tracks: Vec<Timestamp> = Vec::new();
        let (start, policy) = (self.report.start(), self.report.widest_policy());
        let tools: BTreeMap<&str, &ToolSpec> = start.tools.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let mut events = vec![json!({
            "ph": "M", "pid": 1, "name": "process_name",
            "args": {
                "name": format!("run {}: {}", self.report.run(), start.objective),
                "max_parallel": policy.max_parallel,
                "pools": policy.pools,
            },
        })];
        for (step, call, try_) in &calls {
            let track = tracks.iter().position(|free| *free <= call.started).unwrap_or(tracks.len());
            if track == tracks.len() {
                tracks.push(call.ended);
            } else {
                tracks[track] = call.ended;
            }
            events.push(json!({
                "ph": "X", "pid": 1, "tid": track + 1, "cat": step.tool, "name": step.id,
                "ts": call.started.as_micros(),
                "dur": micros(call.duration()),
                "args": {
                    "attempt": try_,
                    "queued_us": micros(call.queued),
                    "paused_us": micros(call.paused),
                    "taken_over": call.taken_over,
                    "after": waits.names_before(step),
                    "uses": as_done_by(step.definition, tools.get(step.tool).copied(), &policy).uses,
                    "error": call.error.map(|error| error.message.as_str()),
                },
            }));
        }
        events.extend(waits.ends.iter().map(|(number, name)| {
            let inside = waits.inside[number].iter().chain([number]);
            let end = inside.clone().filter_map(|inner| self.report.step_by_number(*inner)?.settled).max();
            json!({
                "ph": "X", "pid": 1, "tid": 1, "name": name, "ts": end.unwrap_or_default().as_micros(), "dur": 0,
                "args": { "after": inside.map(|inner| self.id(*inner).to_string()).collect::<Vec<_>>() },
            })
        }));
        events.extend(self.revisions().into_iter().map(|change| {
            json!({
                "ph": "i", "s": "p", "pid": 1, "tid": 1, "ts": change.at.as_micros(),
                "name": format!("plan {}", change.revision), "cat": "plan",
                "args": { "because": change.because.to_string() },
            })
        }));
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

/// What steps waited for, by name.
struct Waits<'a> {
    history: &'a History,
    /// The steps inside of each expanded step, however deep.
    inside: BTreeMap<StepNumber, Vec<StepNumber>>,
    /// The end of an expanded step, as an event of its own, where too many steps would have to name too many.
    ends: BTreeMap<StepNumber, String>,
}

impl<'a> Waits<'a> {
    fn of(history: &'a History) -> Self {
        let report = &history.report;
        let mut inside: BTreeMap<StepNumber, Vec<StepNumber>> = BTreeMap::new();
        for step in report.steps() {
            for outer in report.parents(step.parent) {
                inside.entry(outer).or_default().push(step.number);
            }
        }
        // No step is called so.
        let end = |number| (number, format!("end of {}", history.id(number)));
        let ends =
            report.with_long_ends(report.steps().map(|step| step.number), &inside).into_iter().map(end).collect();
        Self { history, inside, ends }
    }

    /// Everything that a step waited for: its dependencies with all that they expanded to, and the step whose expansion
    /// it is part of.
    fn names_before(&self, step: &StepReport<'_>) -> Vec<String> {
        let name = |number: &StepNumber| self.history.id(*number).to_string();
        let dependencies = self.history.report.scheduler().dependencies(step.number).iter();
        let before = dependencies.flat_map(|number| match self.ends.get(number) {
            Some(end) => vec![end.clone()],
            None => [number].into_iter().chain(self.inside.get(number).into_iter().flatten()).map(name).collect(),
        });
        before.chain(step.parent.iter().map(name)).collect()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
