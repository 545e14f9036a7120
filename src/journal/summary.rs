//! A run in a list: what is known of it without reading its history.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::event::{PlanReason, RunEvent, RunEventKind, RunOutcome, StopReason, Timestamp};

use super::{Owner, RunId};

/// The label of a fork that says which run it comes from.
pub(crate) const FORKED_FROM: &str = "forked_from";

/// A run in a list.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// What it is for.
    pub objective: String,
    /// Where it is.
    pub status: RunStatus,
    /// When it was started.
    pub started: SystemTime,
    /// When its last event was written.
    pub updated: SystemTime,
    /// How long it has been driven, by its own clock. That of a fork goes on where that of the run it comes from had got
    /// to, which does not count.
    pub duration: Timestamp,
    /// How many events it has.
    pub events: u64,
    /// The process that drives it.
    pub owner: Option<Owner>,
    /// Where its clock began, if it is a fork.
    pub(super) begun: Option<Timestamp>,
}

/// Where a run is, as far as its last events say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunStatus {
    /// Neither finished nor stopped: a process drives it, or did until it was killed.
    Unfinished,
    /// It stopped before its end.
    Stopped(StopReason),
    /// It has its answer.
    Succeeded,
    /// It is over without an answer.
    Failed,
}

impl RunStatus {
    /// The status after an event, if that changes it.
    pub(super) fn after(event: &RunEvent) -> Option<Self> {
        match &event.kind {
            RunEventKind::RunStarted { .. } | RunEventKind::RunResumed { .. } => Some(Self::Unfinished),
            RunEventKind::RunStopped { why } => Some(Self::Stopped(*why)),
            RunEventKind::RunFinished { outcome: RunOutcome::Succeeded { .. }, .. } => Some(Self::Succeeded),
            RunEventKind::RunFinished { outcome: RunOutcome::Failed { .. }, .. } => Some(Self::Failed),
            _ => None,
        }
    }
}

#[cfg(feature = "sqlite")]
impl RunStatus {
    /// The status in a word, as a journal keeps it.
    pub(super) fn word(self) -> String {
        match self {
            Self::Unfinished => "unfinished".to_owned(),
            Self::Succeeded => "succeeded".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Stopped(why) => {
                serde_json::to_value(why).ok().and_then(|why| why.as_str().map(str::to_owned)).unwrap_or_default()
            }
        }
    }

    /// The status that a word stands for. A word of a later release is a reason to stop that is not known here.
    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            word => serde_json::from_value(word.into()).map_or(Self::Unfinished, Self::Stopped),
        }
    }
}

impl RunSummary {
    /// A run that begins `now`.
    pub(super) fn new(run: RunId, now: SystemTime) -> Self {
        Self {
            run,
            objective: String::new(),
            status: RunStatus::Unfinished,
            started: now,
            updated: now,
            duration: Timestamp::ZERO,
            events: 0,
            owner: None,
            begun: None,
        }
    }

    /// Takes up an event that is written `now`.
    pub(super) fn apply(&mut self, event: &RunEvent, now: SystemTime) {
        match &event.kind {
            RunEventKind::RunStarted { start } => {
                self.objective = start.objective.clone();
                self.begun = start.labels.contains_key(FORKED_FROM).then_some(event.at);
            }
            // The last of them made it a run of its own.
            RunEventKind::PlanRequested { reason: PlanReason::First, .. } => {
                self.begun = self.begun.map(|_| event.at);
            }
            _ => {}
        }
        self.status = RunStatus::after(event).unwrap_or(self.status);
        self.updated = now;
        let begun = self.begun.unwrap_or(Timestamp::ZERO);
        self.duration = Timestamp::from_micros(event.at.as_micros().saturating_sub(begun.as_micros()));
        self.events = event.seq.saturating_add(1);
    }

    /// Whether it can be gone on with.
    pub fn is_resumable(&self) -> bool {
        matches!(self.status, RunStatus::Unfinished | RunStatus::Stopped(_))
    }

    /// Where it is, in a word: `running`, `interrupted`, `undecided`, `stopped`, `succeeded` or `failed`.
    pub fn state(&self) -> &'static str {
        match self.status {
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            _ if self.owner.is_some() => "running",
            RunStatus::Unfinished => "interrupted",
            RunStatus::Stopped(StopReason::Undecided) => "undecided",
            RunStatus::Stopped(_) => "stopped",
        }
    }
}

impl RunSummary {
    /// All that [`state`](Self::state) can be.
    pub const STATES: [&str; 6] = ["running", "interrupted", "stopped", "undecided", "succeeded", "failed"];
}

/// As `plandag runs --json` and the HTTP API have it: times in seconds since 1970, `ms` by the run's own clock.
impl Serialize for RunSummary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds =
            |time: SystemTime| (time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64) / 1_000.0;
        let mut fields = serializer.serialize_struct("RunSummary", 8)?;
        fields.serialize_field("run", &self.run)?;
        fields.serialize_field("status", self.state())?;
        fields.serialize_field("objective", &self.objective)?;
        fields.serialize_field("started", &seconds(self.started))?;
        fields.serialize_field("updated", &seconds(self.updated))?;
        fields.serialize_field("ms", &self.duration.as_millis())?;
        fields.serialize_field("events", &self.events)?;
        fields.serialize_field("pid", &self.owner.map(|owner| owner.pid))?;
        fields.end()
    }
}

/// Which runs of a list are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFilter {
    /// In one of these [states](RunSummary::state); in any, if there is none.
    pub states: Vec<String>,
    /// Started no longer ago.
    pub since: Option<Duration>,
    /// With this text in the objective, in upper or lower case.
    pub objective: Option<String>,
}

impl RunFilter {
    /// Whether a run is one of them, seen from `now`.
    pub fn wants(&self, summary: &RunSummary, now: SystemTime) -> bool {
        let is_recent = |since: Duration| now.duration_since(summary.started).unwrap_or_default() <= since;
        let has_words = |words: &String| summary.objective.to_lowercase().contains(&words.to_lowercase());
        (self.states.is_empty() || self.states.iter().any(|state| state == summary.state()))
            && self.since.is_none_or(is_recent)
            && self.objective.as_ref().is_none_or(has_words)
    }
}
