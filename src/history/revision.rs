//! How the plan of a run changed.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use crate::event::{Graft, PlanReason, RunEventKind, StepNumber, Timestamp, Usage};
use crate::plan::StepId;

use super::History;

/// One accepted plan, as a difference to the one before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RevisionChange {
    /// Which plan it is; the first is 1.
    pub revision: u32,
    /// When it was accepted.
    pub at: Timestamp,
    /// Why there is another plan.
    pub because: Because,
    /// Steps that are new.
    pub added: Vec<StepId>,
    /// Steps that were there, and are run anew: with another definition, other inputs, or after a failure.
    pub again: Vec<StepId>,
    /// Steps that are no longer part of the plan.
    pub dropped: Vec<StepId>,
    /// How many steps stayed as they were, or are again as an earlier plan had them.
    pub kept: usize,
    /// What the planner used to write it.
    pub usage: Usage,
}

/// Why there is another plan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Because {
    /// There was none.
    First,
    /// These steps failed for good.
    Failed(Vec<StepId>),
    /// Everything was done, and the planner was asked whether that is all.
    Review,
    /// A person had a part of an earlier run done again.
    Person,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("the first plan"),
            Self::Failed(steps) => {
                let names: Vec<String> = steps.iter().map(|step| format!("`{step}`")).collect();
                write!(f, "because {} failed", names.join(", "))
            }
            Self::Review => f.write_str("after a review of what was done"),
            Self::Person => f.write_str("forked from an earlier run"),
        }
    }
}

impl History {
    /// Every accepted plan, as a difference to the one before.
    pub fn revisions(&self) -> Vec<RevisionChange> {
        let mut changes = Vec::new();
        let mut plan = Members::default();
        let mut because = Because::First;
        for event in &self.events {
            match &event.kind {
                RunEventKind::PlanRequested { reason, reported, revision, .. } => {
                    because = match reason {
                        // Whoever corrects an answer does so for the reason it was asked for.
                        PlanReason::Rejected(_) => because,
                        PlanReason::First if *revision > 1 => Because::Person,
                        PlanReason::First => Because::First,
                        PlanReason::Failures => Because::Failed(reported.iter().map(|step| self.id(*step)).collect()),
                        PlanReason::Review => Because::Review,
                    };
                }
                RunEventKind::StepDrafted { graft, .. } => plan.drafted.extend(numbers(graft)),
                // A correction has those that stay.
                RunEventKind::PlanRejected { rejection, .. } => {
                    let gone = [&rejection.closed[..], &rejection.left].concat();
                    plan.drafted.retain(|step| !gone.contains(step));
                }
                RunEventKind::PlanAccepted { revision, graft, usage, .. } => {
                    let change = self.change(&mut plan, graft);
                    let because = because.clone();
                    changes.push(RevisionChange {
                        revision: *revision,
                        at: event.at,
                        because,
                        usage: *usage,
                        ..change
                    });
                }
                _ => {}
            }
        }
        changes
    }

    fn change(&self, plan: &mut Members, graft: &Graft) -> RevisionChange {
        let gone: BTreeSet<StepNumber> = graft.closed.iter().chain(&graft.left).copied().collect();
        let before = std::mem::take(&mut plan.members);
        let were: HashSet<StepNumber> = before.iter().copied().collect();
        let drafted: BTreeSet<StepNumber> = std::mem::take(&mut plan.drafted).into_iter().collect();
        let stays: Vec<StepNumber> = before.iter().copied().filter(|step| !gone.contains(step)).collect();
        let new: Vec<StepNumber> = drafted
            .into_iter()
            .filter(|step| !gone.contains(step))
            .chain(graft.joined.iter().copied())
            .chain(numbers(graft))
            .filter(|step| !were.contains(step))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let old: HashSet<StepId> = before.iter().map(|step| self.id(*step)).collect();
        let was = |step: &StepNumber| old.contains(&self.id(*step));
        let (changed, added): (Vec<StepNumber>, Vec<StepNumber>) = new.iter().copied().partition(was);
        // What an earlier plan had is as it was then: it is not run anew.
        let (back, again): (Vec<StepNumber>, Vec<StepNumber>) =
            changed.into_iter().partition(|step| plan.earlier.contains(step));
        let now: HashSet<StepId> = new.iter().chain(&stays).map(|step| self.id(*step)).collect();
        let is_there = |step: &StepNumber| now.contains(&self.id(*step));
        let ids = |steps: &[StepNumber]| steps.iter().map(|step| self.id(*step)).collect();
        let dropped: Vec<StepNumber> = before.iter().copied().filter(|step| !is_there(step)).collect();
        let change = RevisionChange {
            revision: 0,
            at: Timestamp::ZERO,
            because: Because::First,
            added: ids(&added),
            again: ids(&again),
            dropped: ids(&dropped),
            kept: stays.len() + back.len(),
            usage: Usage::default(),
        };
        plan.members = stays;
        plan.members.extend(new);
        plan.earlier.extend(before);
        change
    }

    /// The id of a step.
    pub(super) fn id(&self, step: StepNumber) -> StepId {
        self.report.scheduler().step(step).map_or_else(|| StepId::from("?"), |step| step.id.clone())
    }
}

/// The steps of the plan, as it goes through its revisions.
#[derive(Default)]
struct Members {
    members: Vec<StepNumber>,
    /// Those of all plans before.
    earlier: HashSet<StepNumber>,
    drafted: Vec<StepNumber>,
}

fn numbers(graft: &Graft) -> impl Iterator<Item = StepNumber> {
    (graft.first..).take(graft.added.len())
}
