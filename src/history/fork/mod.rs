//! The same run again, with a change: what is finished and not touched by it is taken over.
//!
//! A fork is a run of its own. Its history is that of the run it comes from, up to the end of that, and then one more
//! plan, in which every step that has to run has a new number. A step that became a plan, of which only a part has to
//! run, becomes the same plan once more, without its tool being called: with what is finished of it, and new numbers for
//! the rest. So a fork goes on by being resumed, like any other run.

mod draft;
mod extent;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use crate::error::JournalError;
use crate::event::{RunEvent, StepNumber};
use crate::journal::{Durability, Journal, RunId};
use crate::plan::StepId;

use super::History;
use draft::Draft;
use extent::Extent;

/// What a fork does differently. Without any, what failed or did not finish is run again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Runs this step again, and all that depends on it.
    pub from: Option<StepId>,
    /// Arguments of that step, by name; a dot leads into an object.
    pub set: BTreeMap<String, Value>,
    /// Steps that are left out. What depends on them sees a null.
    pub without: Vec<StepId>,
}

/// Why there can be no such fork.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ForkError {
    /// There is no such step.
    #[error("the run has no step `{step}`")]
    UnknownStep {
        /// The step.
        step: StepId,
    },
    /// The step has never been run.
    #[error("step `{step}` never ran, so there is nothing to go back to")]
    NeverRan {
        /// The step.
        step: StepId,
    },
    /// The step is one that an earlier fork has left out, so it waits for nothing and would be given nothing.
    #[error("step `{step}` was left out of this run: to run it, fork the run that this one comes from")]
    LeftOut {
        /// The step.
        step: StepId,
    },
    /// The step belongs to what another one became, and that one has to run again itself, or a step outside of it is
    /// given the step's output.
    #[error("step `{step}` is part of what `{parent}` became, and here it is only run again with it")]
    PartOfExpansion {
        /// The step.
        step: StepId,
        /// The step that became a plan.
        parent: StepId,
    },
    /// The step may have acted, and is not to be run again before somebody has said whether it has.
    #[error("nobody knows whether step `{step}` took effect, so it is not run again unasked")]
    Undecided {
        /// The step.
        step: StepId,
    },
    /// An argument cannot be set.
    #[error("argument `{name}` of step `{step}` cannot be set: {why}")]
    Argument {
        /// The step.
        step: StepId,
        /// The argument.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// Everything is finished.
    #[error("every step of the run is finished, so there is nothing to run again")]
    NothingToDo,
    /// There never was a plan, and nothing is finished of one.
    #[error("the run never had a plan")]
    NoPlan,
    /// What the fork would begin with cannot have happened.
    #[error("the fork would begin with what cannot have happened: {message}; this is a bug, please report it")]
    Unsound {
        /// What it is.
        message: String,
    },
}

impl ForkError {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownStep { .. } => "journal.unknown_step",
            _ => "journal.no_fork",
        }
    }
}

/// A run that goes on from another one. Nothing of it is written before it is [saved](Self::save).
#[derive(Clone, Debug)]
pub struct Fork {
    events: Vec<RunEvent>,
    /// Steps whose results are taken over.
    pub reused: Vec<StepId>,
    /// Steps that ran before and will run again.
    pub again: Vec<StepId>,
    /// Steps that will run for the first time.
    pub first: Vec<StepId>,
    /// Steps that became a plan of which a part will run: their tools are not called, their results put together anew.
    pub put_together: Vec<StepId>,
    /// Steps that are left out.
    pub left_out: Vec<StepId>,
}

impl Fork {
    /// Writes the fork down as a new run, which is to be resumed.
    ///
    /// # Errors
    ///
    /// If there is a run of this name already, or the journal fails.
    pub async fn save(&self, journal: &dyn Journal, run: &RunId) -> Result<(), JournalError> {
        let claim = journal.create(run).await?;
        journal.append(&claim, &self.events, Durability::Power).await
    }
}

impl History {
    /// A run that goes on from this one.
    ///
    /// # Errors
    ///
    /// If the changes make no sense, or there is nothing to do.
    pub fn fork(&self, changes: &Changes) -> Result<Fork, ForkError> {
        let mut draft = Draft::new(self)?;
        if !draft.has_plan() {
            return self.ask_anew(draft, changes);
        }
        let from = changes.from.as_ref().map(|id| draft.ran(id)).transpose()?;
        let without = changes.without.iter().map(|id| draft.member(id)).collect::<Result<BTreeSet<_>, _>>()?;
        let extent = Extent::of(&draft, from, &without)?;
        if extent.again.is_empty() {
            return Err(ForkError::NothingToDo);
        }
        let ids = |numbers: &[StepNumber]| numbers.iter().map(|number| self.id(*number)).collect();
        let is_run = |number: &StepNumber| !without.contains(number) && !extent.reopened.contains(number);
        let (again, first): (Vec<_>, Vec<_>) =
            extent.again.keys().copied().filter(is_run).partition(|number| draft.has_run(*number));
        let fork = Fork {
            reused: ids(&extent.kept),
            again: ids(&again),
            first: ids(&first),
            put_together: ids(&extent.reopened),
            left_out: without.iter().map(|number| self.id(*number)).collect(),
            events: Vec::new(),
        };
        draft.write(&extent, from, &without, &changes.set)?;
        Ok(Fork { events: draft.into_events(), ..fork })
    }

    /// A run whose planner is asked from the beginning, as there never was a plan. What was finished of those that were
    /// being written is there for one that repeats it.
    fn ask_anew(&self, mut draft: Draft<'_>, changes: &Changes) -> Result<Fork, ForkError> {
        let finished: Vec<StepNumber> = (0..draft.step_count()).filter(|number| draft.is_finished(*number)).collect();
        if finished.is_empty() || *changes != Changes::default() {
            return Err(ForkError::NoPlan);
        }
        draft.request()?;
        Ok(Fork {
            events: draft.into_events(),
            reused: finished.into_iter().map(|number| self.id(number)).collect(),
            again: Vec::new(),
            first: Vec::new(),
            put_together: Vec::new(),
            left_out: Vec::new(),
        })
    }
}
