//! What keeps a ready step from starting, for whoever asks: a launch itself only asks whether it may.

use std::fmt;
use std::sync::Arc;

use crate::error::StepError;
use crate::event::{StepNumber, Timestamp};

use super::{Scheduler, StepState};

/// What keeps a ready step from starting.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Hindrance {
    /// No slot is free.
    Slots {
        /// How many are taken.
        taken: u32,
        /// How many there are.
        size: u32,
    },
    /// A pool has not as much left as the step takes.
    Pool {
        /// Its name.
        name: String,
        /// How much of it is taken.
        taken: u32,
        /// How much there is.
        size: u32,
        /// How much the step takes.
        needs: u32,
    },
    /// The server behind its tool wants no call before an instant.
    Paused {
        /// The tool.
        tool: String,
        /// No call before.
        until: Timestamp,
        /// How it said so, if that is still known.
        error: Option<Arc<StepError>>,
    },
    /// The server behind its tool has turned calls away, and takes no more at a time than these.
    Throttled {
        /// The tool.
        tool: String,
        /// How many calls are being made.
        calls: u32,
        /// How many may be made at a time.
        most: u32,
    },
}

impl Hindrance {
    /// Whether it is about the same thing, however much of that was taken.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Slots { .. }, Self::Slots { .. }) => true,
            (Self::Pool { name, .. }, Self::Pool { name: other, .. }) => name == other,
            (Self::Paused { tool, .. } | Self::Throttled { tool, .. }, other) => match other {
                Self::Paused { tool: other, .. } | Self::Throttled { tool: other, .. } => tool == other,
                _ => false,
            },
            _ => false,
        }
    }
}

/// Goes on after `waits for`.
impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { taken, size } => write!(f, "a free slot ({taken}/{size} taken)"),
            Self::Pool { name, taken, size, needs: 1 } => write!(f, "room in a pool ({name} {taken}/{size})"),
            Self::Pool { name, taken, size, needs } => {
                write!(f, "room in a pool ({name} {taken}/{size}, it takes {needs})")
            }
            Self::Paused { tool, until, error } => {
                write!(f, "the server of `{tool}`, which wants no call before {until}")?;
                error.as_ref().map_or(Ok(()), |error| write!(f, " ({})", error.message))
            }
            Self::Throttled { tool, calls, most } => {
                write!(f, "the server of `{tool}`, which has turned calls away (calls {calls}/{most})")
            }
        }
    }
}

impl Scheduler {
    /// What keeps a step from starting that is ready, at an instant of the run's clock: that of its last event, or one
    /// after it. Nothing if the step is not ready, or if all that it lacks is its turn.
    pub fn hindrances(&self, step: StepNumber, now: Timestamp) -> Vec<Hindrance> {
        let Some(node) = self.nodes.get(step as usize).filter(|node| node.state == StepState::Ready) else {
            return Vec::new();
        };
        let shape = &self.shapes[node.shape as usize];
        let tool = || self.tool_name(node.tool).to_owned();
        let gate = shape.gate.and_then(|server| self.gates.get(&server)).filter(|gate| gate.is_closed(now));
        let gate = gate.map(|gate| {
            let (calls, most) = gate.calls();
            if gate.until <= now {
                return Hindrance::Throttled { tool: tool(), calls, most };
            }
            let told = self.nodes.get(gate.by as usize);
            let error = told.and_then(|told| told.error.clone()).filter(|error| error.retry_after_ms.is_some());
            Hindrance::Paused { tool: tool(), until: gate.until, error }
        });
        let pools = self.pools.lacking(&shape.needs).map(|(name, taken, size, needs)| Hindrance::Pool {
            name: name.to_owned(),
            taken,
            size,
            needs,
        });
        let (taken, size) = self.slots();
        let slots = (taken >= size).then_some(Hindrance::Slots { taken, size });
        gate.into_iter().chain(pools).chain(slots).collect()
    }
}
