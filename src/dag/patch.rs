//! What a patch makes of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::PlanError;
use crate::plan::{Patch, Plan, Step, StepId};

use super::{ById, dependencies};

impl Patch {
    /// The plan that this patch makes of another. A failed step that the patch does not mention is given up.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the patch: it changes nothing, adds a step that is there, changes or drops one that
    /// is not or does both, or leaves a step that needs one that is given up. The plan that it leads to is not checked.
    pub fn apply_to(self, plan: &Plan, failed: &BTreeSet<StepId>) -> Result<Plan, Vec<PlanError>> {
        let mut offences = Vec::new();
        let bad = |message: String| PlanError::BadPatch { message };
        if self.add.is_empty() && self.change.is_empty() && self.drop.is_empty() && self.answer.is_none() {
            offences.push(bad("changes nothing".into()));
        }
        let members: ById<&StepId, ()> = plan.steps.iter().map(|step| (&step.id, ())).collect();
        for step in self.add.iter().filter(|step| members.contains_key(&step.id)) {
            offences.push(bad(format!("adds `{}`, which is in the plan: change it", step.id)));
        }
        let mut changed = BTreeMap::new();
        for step in &self.change {
            if !members.contains_key(&step.id) {
                offences.push(bad(format!("changes `{}`, which is not in the plan", step.id)));
            } else if changed.insert(&step.id, step).is_some() {
                offences.push(PlanError::DuplicateId { id: step.id.clone() });
            }
        }
        let mut dropped = BTreeSet::new();
        for id in &self.drop {
            if !members.contains_key(id) {
                offences.push(bad(format!("drops `{id}`, which is not in the plan")));
            } else if changed.contains_key(id) {
                offences.push(bad(format!("changes and drops `{id}`")));
            } else {
                dropped.insert(id);
            }
        }
        let is_mentioned = |id: &StepId| changed.contains_key(id) || dropped.contains(id);
        let given_up: BTreeSet<&StepId> =
            failed.iter().filter(|id| members.contains_key(id) && !is_mentioned(id)).collect();
        let stays = |step: &&Arc<Step>| !dropped.contains(&step.id) && !given_up.contains(&step.id);
        let kept = plan.steps.iter().filter(stays);
        let steps: Vec<Arc<Step>> =
            kept.map(|step| changed.get(&step.id).copied().unwrap_or(step)).chain(&self.add).cloned().collect();
        if !given_up.is_empty() {
            for step in &steps {
                for dependency in dependencies(step).into_iter().filter(|id| given_up.contains(id)) {
                    offences.push(PlanError::DependsOnFailed { step: step.id.clone(), dependency });
                }
            }
        }
        // It may be in what one of the steps has become: of that, a patch says nothing.
        let answer = self.answer.as_ref().or(plan.answer.as_ref().filter(|id| !dropped.contains(id)));
        if let Some(answer) = answer.filter(|answer| given_up.contains(answer)) {
            offences.push(PlanError::AnswerFailed { answer: answer.clone() });
        }
        let answer = answer.cloned();
        if offences.is_empty() { Ok(Plan { steps, answer, ..plan.clone() }) } else { Err(offences) }
    }
}
