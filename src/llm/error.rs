//! Why a model could not be asked.

use serde_json::json;
use thiserror::Error;

use crate::error::{ModelProblem, PlanError, StepError, StepErrorKind};
use crate::event::Usage;

/// A model could not be asked, or did not answer. The message never holds a key or the request.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of trouble there is.
    pub problem: ModelProblem,
    /// What happened, for the person who has to act on it.
    pub message: String,
    /// How long the server asked to be left alone, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// What the call cost all the same.
    pub usage: Usage,
    /// Whether nothing was asked, as the provider is not to be asked yet: for how long, `retry_after_ms` says.
    pub is_deferred: bool,
}

impl ModelError {
    /// An error without more to say than this.
    pub fn new(problem: ModelProblem, message: impl Into<String>) -> Self {
        Self { problem, message: message.into(), retry_after_ms: None, usage: Usage::default(), is_deferred: false }
    }

    /// Nothing was asked, as the provider is not to be asked for so many milliseconds. A step that hears this is tried
    /// again then and has lost no try.
    pub fn deferred(message: impl Into<String>, pause_ms: u64) -> Self {
        let error = Self::new(ModelProblem::RateLimited, message).retry_after_ms(Some(pause_ms));
        Self { is_deferred: true, ..error }
    }

    /// Adds how long the server asked to be left alone, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(self, retry_after_ms: Option<u64>) -> Self {
        Self { retry_after_ms, ..self }
    }
}

impl From<ModelError> for StepError {
    fn from(error: ModelError) -> Self {
        let kind = match error.problem {
            _ if error.is_deferred => StepErrorKind::Deferred,
            problem if problem.may_pass() => StepErrorKind::Transient,
            _ => StepErrorKind::Permanent,
        };
        let details = json!({ "code": error.problem.code() });
        Self { retry_after_ms: error.retry_after_ms, ..Self::new(kind, error.message).details(details) }
    }
}

impl From<ModelError> for PlanError {
    fn from(error: ModelError) -> Self {
        Self::Model { problem: error.problem, message: error.message }
    }
}
