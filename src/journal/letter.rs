//! Letters to the process that drives a run.

use serde::{Deserialize, Serialize};

use crate::event::{AttemptNumber, Decision, StepNumber};

/// A decision about a step, for the process that drives the run. That process alone writes to it, and acts on what was
/// decided if the step still waits for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The step.
    pub step: StepNumber,
    /// The attempt whose outcome is unknown; none if the step waits for approval. A step that is tried again can come to
    /// an unknown outcome again, and what was decided about the first is not meant for the second.
    pub attempt: Option<AttemptNumber>,
    /// What was decided.
    pub decision: Decision,
}
