//! How a plan changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::StepNumber;
use crate::error::PlanError;
use crate::plan::{Step, StepId};

/// How the plan of a run, or of one expansion, changes. [`Scheduler`](crate::Scheduler) obeys it without computing
/// any rule, so an old history means the same under newer rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graft {
    /// The expanded step; none for the run's own plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<StepNumber>,
    /// The number of the first added step.
    pub first: StepNumber,
    /// New steps, numbered from `first`.
    pub added: Vec<Added>,
    /// Steps that were there and are part of the plan now: drafts, steps that had been left out, results taken up
    /// again. They carry on as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<StepNumber>,
    /// Unsettled steps that are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<StepNumber>,
    /// Settled steps that are no longer part of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<StepNumber>,
    /// Failed steps that the planner has not been told about yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreported: Vec<StepNumber>,
    /// Unsettled steps whose settings change, and steps that a fork has left out and that are to wait for others by now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<(StepNumber, Arc<Step>)>,
    /// Expanded steps whose children's results are forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<StepNumber>,
    /// Pools whose size the plan sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, u32>,
    /// Where the answer comes from.
    pub answer: AnswerFrom,
}

impl Graft {
    /// Whether the plan has the same steps after it.
    pub(crate) fn keeps_the_steps(&self) -> bool {
        [&self.joined, &self.closed, &self.left].into_iter().all(Vec::is_empty) && self.added.is_empty()
    }

    /// How many dependencies the new steps have.
    pub(crate) fn edges(&self) -> u64 {
        self.added.iter().map(Added::edges).sum()
    }
}

/// A new step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// It is as large as what a processor loads at once, and lies so that one load is enough.
#[repr(align(64))]
pub struct Added {
    /// Its full id, if that is not the one in the definition: `parent/child`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<StepId>,
    /// Its definition.
    pub step: Arc<Step>,
    /// The numbers it depends on, all lower than its own, in the order of
    /// [`Dag::dependencies`](crate::Dag::dependencies).
    pub dependencies: SmallVec<[StepNumber; 4]>,
}

impl Added {
    /// Its full id.
    pub(crate) fn full_id(&self) -> &StepId {
        self.id.as_ref().unwrap_or(&self.step.id)
    }

    /// How many dependencies it has. One that it declares twice is twice in its definition.
    pub(crate) fn edges(&self) -> u64 {
        self.step.depends_on.len().max(self.dependencies.len()) as u64
    }
}

/// Why an answer of the planner could not be used, and what becomes of the steps it had already sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// What is wrong with it. Empty: the request was interrupted, and is made again.
    pub offences: Arc<Vec<PlanError>>,
    /// Drafted steps that are dropped with the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<StepNumber>,
    /// Settled drafted steps that are no longer part of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<StepNumber>,
    /// Whether the planner is not asked about this again.
    pub given_up: bool,
    /// The text of the answer, if it was read from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Arc<str>>,
}

/// Where the answer of a plan comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFrom {
    /// Not said yet: the plan is still being written.
    #[default]
    Open,
    /// The output of the step that the plan names.
    Step(StepNumber),
    /// The steps without dependents: the output of the only one, or an object of the outputs of all.
    Sinks(Vec<StepNumber>),
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Added>() == 64);
