//! How much of a run a fork does again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::event::{AnswerFrom, StepNumber};
use crate::plan::StepId;

use super::ForkError;
use super::draft::Draft;

/// The plan and its expansions, divided into what is kept and what is not.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// The new number of every step that gets one, by the old one. In each scope in ascending order, so that a step still
    /// has a higher number than what it depends on; those of a scope come one after the other.
    pub(super) again: BTreeMap<StepNumber, StepNumber>,
    /// Those of them that have another input, or are named: what they have become before is of no use.
    pub(super) whole: BTreeSet<StepNumber>,
    /// The others of which an expansion is done again in part, the outer ones first.
    pub(super) reopened: Vec<StepNumber>,
    /// The other steps of the scopes that are looked into.
    pub(super) kept: Vec<StepNumber>,
}

impl Extent {
    /// What follows from running `from` again, leaving out `without`, and finishing what is not finished.
    pub(super) fn of(
        draft: &Draft<'_>,
        from: Option<StepNumber>,
        without: &BTreeSet<StepNumber>,
    ) -> Result<Self, ForkError> {
        let changed: BTreeSet<StepNumber> = without.iter().copied().chain(from).collect();
        let around: BTreeSet<StepNumber> = changed.iter().flat_map(|number| draft.parents(*number)).collect();
        let mut extent = Self::default();
        let mut next = draft.step_count();
        let mut scopes = VecDeque::from([None]);
        while let Some(scope) = scopes.pop_front() {
            for &number in draft.members(scope) {
                let has_other_input = draft.dependencies(number).iter().any(|step| extent.again.contains_key(step));
                let is_whole = changed.contains(&number) || has_other_input;
                if !is_whole && !around.contains(&number) && draft.is_finished(number) {
                    extent.kept.push(number);
                    continue;
                }
                // What is named, or changed by what is named, is to be done again in any case.
                if !is_whole && draft.is_undecided(number) {
                    return Err(draft.undecided(number));
                }
                extent.again.insert(number, next);
                next += 1;
                if is_whole {
                    extent.whole.insert(number);
                } else if draft.expansion(number).is_some() {
                    extent.reopened.push(number);
                    scopes.push_back(Some(number));
                }
            }
        }
        let reaches = |number: &&StepNumber| !extent.again.contains_key(number);
        match changed.iter().find(reaches).copied().or_else(|| extent.used_from_outside(draft, without)) {
            Some(step) => Err(draft.part_of_expansion(step)),
            None => Ok(extent),
        }
    }

    /// The number of a step in the fork.
    pub(super) fn renamed(&self, number: StepNumber) -> StepNumber {
        self.again.get(&number).copied().unwrap_or(number)
    }

    pub(super) fn answer(&self, answer: &AnswerFrom) -> AnswerFrom {
        match answer {
            AnswerFrom::Open => AnswerFrom::Open,
            AnswerFrom::Step(number) => AnswerFrom::Step(self.renamed(*number)),
            AnswerFrom::Sinks(numbers) => AnswerFrom::Sinks(numbers.iter().map(|step| self.renamed(*step)).collect()),
        }
    }

    /// A part of an expansion that would be made again, and whose output is the answer or given to a step outside of it.
    /// That would have to have its number first.
    fn used_from_outside(&self, draft: &Draft<'_>, without: &BTreeSet<StepNumber>) -> Option<StepNumber> {
        // The part may have come in when the step had another number.
        let whole: BTreeSet<&str> = self.whole.iter().filter_map(|step| Some(draft.id(*step)?.as_str())).collect();
        let is_inside = |id: &StepId| id.parents().any(|parent| whole.contains(parent));
        let is_again = |step: StepNumber| self.again.contains_key(&step) || draft.id(step).is_some_and(is_inside);
        let mut scopes = std::iter::once(None).chain(self.reopened.iter().copied().map(Some));
        scopes.find_map(|scope| {
            // What is left out is given nothing.
            let members = draft.members(scope).iter().filter(|number| !without.contains(number));
            let mut used = members.flat_map(|number| draft.dependencies(*number)).copied().chain(draft.answer(scope));
            used.find(|step| draft.parent(*step) != scope && is_again(*step))
        })
    }
}
