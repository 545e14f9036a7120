//! What a run uses, counted as soon as it is known.

use std::sync::{Mutex, PoisonError};

use crate::error::{StepError, StepErrorKind};
use crate::event::{StopReason, Usage};
use crate::policy::Limits;

/// What a run with a limit on that has used. The scheduler learns what an attempt has used when that is over; a step that
/// asks a model again and again would be far past the limit by then.
pub(super) struct Spending {
    limits: Limits,
    used: Mutex<Usage>,
}

impl Spending {
    /// A run that has used so much before; none if nobody has to count.
    pub(super) fn new(limits: &Limits, used: Usage) -> Option<Self> {
        let is_limited = limits.tokens.is_some() || limits.micro_usd.is_some();
        is_limited.then(|| Self { limits: limits.clone(), used: Mutex::new(used) })
    }

    pub(super) fn add(&self, usage: Usage) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) += usage;
    }

    pub(super) fn used(&self) -> Usage {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of an attempt that would use more than there is. It is not to blame: the step is done when there is more.
    pub(super) fn check(&self) -> Result<(), StepError> {
        let what = match self.used().reaches(&self.limits) {
            None => return Ok(()),
            Some(StopReason::Money) => "money",
            Some(_) => "tokens",
        };
        let message = format!("the run's limit on {what} is reached");
        Err(StepError::new(StepErrorKind::Stopped, message))
    }
}
