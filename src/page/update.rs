//! What has changed between two snapshots.

use serde::Serialize;

use crate::event::StepNumber;

use super::{Drawing, Head, PlanEntry, Snapshot, StepEntry, Suggestion};

/// What has changed since an earlier snapshot of the same run. What is null has not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Update<'a> {
    /// The run as a whole.
    pub head: &'a Head,
    /// The steps that have changed, or are new.
    pub steps: Vec<&'a StepEntry>,
    /// All plans.
    pub plans: Option<&'a [PlanEntry]>,
    /// The steps of the critical path.
    pub critical: Option<&'a [StepNumber]>,
    /// What would have made it faster.
    pub faster: Option<&'a [Suggestion]>,
    /// Where the steps are drawn, and the same with nothing folded.
    pub drawings: Option<(&'a Drawing, Option<&'a Drawing>)>,
}

impl Snapshot {
    /// What has changed since `old`, an earlier snapshot of the same run; none if nothing has.
    pub fn update_since(&self, old: &Self) -> Option<Update<'_>> {
        if self == old {
            return None;
        }
        let is_new = |step: &&StepEntry| old.steps.get(step.number as usize) != Some(step);
        let is_redrawn = (&self.layout, &self.unfolded) != (&old.layout, &old.unfolded);
        Some(Update {
            head: &self.head,
            steps: self.steps.iter().filter(is_new).collect(),
            plans: (self.plans != old.plans).then_some(&self.plans[..]),
            critical: (self.critical != old.critical).then_some(&self.critical[..]),
            faster: (self.faster != old.faster).then_some(&self.faster[..]),
            drawings: is_redrawn.then_some((&self.layout, self.unfolded.as_ref())),
        })
    }
}
