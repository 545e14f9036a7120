//! How much happened in a world, and where two snapshots of it differ.

use std::collections::BTreeMap;

use plandag::{PlanReason, RunEvent, RunEventKind, SkipReason};
use serde_json::Value;

/// How much of what happened, to see that a world is not too peaceful to mean anything.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts one.
    pub fn one(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&mut self, what: &'static str, count: usize) {
        *self.0.entry(what).or_default() += count as u64;
    }

    /// Counts an event of the record.
    pub fn event(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::PlanAccepted { graft, revision, .. } => {
                self.one(if *revision == 1 { "accepted plans" } else { "accepted revisions" });
                self.add("steps taken up again", graft.joined.len());
                self.add("dropped steps", graft.closed.len());
                self.add("changed settings", graft.settings.len());
                self.add("forgotten expansions", graft.forgotten.len());
                self.add("failures to report later", graft.unreported.len());
            }
            RunEventKind::PlanRejected { rejection, .. } => {
                self.one(if rejection.given_up { "given up requests" } else { "rejected revisions" });
            }
            RunEventKind::PlanPutOff { .. } => self.one("requests put off"),
            RunEventKind::PlanRequested { reason: PlanReason::Review, .. } => self.one("reviews"),
            RunEventKind::AttemptStarted { .. } => self.one("attempts"),
            RunEventKind::AttemptFailed { .. } => self.one("retries"),
            RunEventKind::AttemptDiscarded { .. } => self.one("discarded attempts"),
            RunEventKind::StepExpanded { graft, .. } => {
                self.one("expansions");
                self.add("reused children", graft.joined.len());
            }
            RunEventKind::StepDrafted { .. } => self.one("drafts"),
            RunEventKind::StepUnknown { .. } => self.one("unknown outcomes"),
            RunEventKind::ApprovalRequested { .. } => self.one("questions"),
            RunEventKind::StepApproved { .. } => self.one("approvals"),
            RunEventKind::StepSkipped { because: SkipReason::Condition, .. } => self.one("false conditions"),
            RunEventKind::StepSkipped { .. } => self.one("skipped steps"),
            RunEventKind::RunStopped { .. } => self.one("stops"),
            RunEventKind::RunResumed { .. } => self.one("resumes"),
            _ => {}
        }
    }

    /// Adds another world's.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// How much of something happened.
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Fails if the worlds were too peaceful for their silence to mean anything. A few worlds may be.
    pub fn assert_that_there_were(&self, what: &[&str]) {
        let worlds = self.of("worlds");
        for what in what {
            let count = self.of(what);
            assert!(count >= worlds / 200, "only {count} {what} in {worlds} worlds");
        }
    }
}

/// Where two snapshots differ, for a person.
pub fn difference(replayed: &Value, live: &Value) -> String {
    let mut stack = vec![(String::new(), replayed, live)];
    while let Some((path, one, other)) = stack.pop() {
        match (one, other) {
            _ if one == other => {}
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                    let missing = &Value::Null;
                    stack.push((format!("{path}.{key}"), a.get(key).unwrap_or(missing), b.get(key).unwrap_or(missing)));
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                stack.extend(a.iter().zip(b).enumerate().map(|(index, (a, b))| (format!("{path}[{index}]"), a, b)));
            }
            _ => return format!("at {path}: replayed {one}, live {other}"),
        }
    }
    "they differ".into()
}
