//! Text from outside: whom it has reached, found by looking back from a step each time, and who may act on it.

use std::collections::BTreeMap;

use plandag::{Decision, Effect, Event, StepNumber};

use super::Checker;
use super::books::{Books, Record, State};

impl Books {
    /// Whether a person has to approve a step before it acts.
    pub fn must_be_approved(&self, number: StepNumber) -> bool {
        let Some(tool) = self.tool_of(&self.step(number).definition) else { return false };
        let is_free = tool.effect == Effect::Reads || self.policy.allow.contains(&tool.name);
        // Who is asked for another plan is shown what came of the first one.
        let is_shown = || self.children_give(number, &mut BTreeMap::new());
        !is_free && !self.step(number).approved && (self.is_reached(number) || is_shown())
    }

    /// Whether text from outside has reached a step: through what it depends on, or in what was in view when its plan
    /// was written.
    pub fn is_reached(&self, number: StepNumber) -> bool {
        self.reached(number, &mut BTreeMap::new())
    }

    fn reached(&self, number: StepNumber, known: &mut BTreeMap<StepNumber, bool>) -> bool {
        if let Some(&known) = known.get(&number) {
            return known;
        }
        let step = self.step(number);
        let is_reached =
            self.is_written(number, known) || step.dependencies.iter().any(|&before| self.gives(before, known));
        known.insert(number, is_reached);
        is_reached
    }

    /// Whether whoever wrote a step had text from outside in view.
    pub fn is_written_in_view(&self, number: StepNumber) -> bool {
        self.is_written(number, &mut BTreeMap::new())
    }

    fn is_written(&self, number: StepNumber, known: &mut BTreeMap<StepNumber, bool>) -> bool {
        let Record { written_in_view, parent, .. } = self.step(number);
        *written_in_view || parent.is_some_and(|parent| self.brings_in(parent) || self.reached(parent, known))
    }

    /// Whether text from outside may be in the output of a step.
    pub fn may_give(&self, number: StepNumber) -> bool {
        self.gives(number, &mut BTreeMap::new())
    }

    fn gives(&self, number: StepNumber, known: &mut BTreeMap<StepNumber, bool>) -> bool {
        self.brings_in(number) || self.reached(number, known) || self.children_give(number, known)
    }

    fn children_give(&self, number: StepNumber, known: &mut BTreeMap<StepNumber, bool>) -> bool {
        let is_child = |child: &StepNumber| self.step(*child).parent == Some(number);
        (0..self.steps.len() as StepNumber).filter(is_child).any(|child| self.gives(child, known))
    }

    pub fn brings_in(&self, number: StepNumber) -> bool {
        self.tool_of(&self.step(number).definition).is_some_and(|tool| tool.untrusted)
    }
}

impl Checker {
    pub(super) fn approval_requested(&mut self, step: StepNumber, from: StepNumber) {
        let state = self.books.step(step).state.clone();
        let could_start = state == State::Open && self.books.dependencies_are_finished(step);
        self.must(could_start, "a person is asked when a step could start", || format!("step {step} is {state:?}"));
        let must_ask = self.books.must_be_approved(step);
        self.must(must_ask, "a person is asked only about what acts on text from outside", || format!("step {step}"));
        let brings_in = self.books.brings_in(from);
        self.must(brings_in, "a person is told who brought the text in", || format!("step {from} for step {step}"));
        self.books.set_state(step, State::Unapproved);
    }

    pub(super) fn approved(&mut self, step: StepNumber) {
        let state = self.books.step(step).state.clone();
        let tool = self.books.tool_of(&self.books.step(step).definition).map(|tool| tool.name.clone());
        let is_told = match &self.told {
            Some(Event::Decided { step: decided, decision: Decision::Approve }) => *decided == step,
            Some(Event::Resumed { .. }) => tool.is_some_and(|tool| self.books.policy.allow.contains(&tool)),
            Some(_) => false,
            None => true,
        };
        self.must(is_told && state == State::Unapproved, "only people and policies approve", || {
            format!("step {step} was {state:?}")
        });
        self.books.step_mut(step).approved = true;
        self.books.set_state(step, State::Open);
    }

    /// Whether a person has just said that a step may not act.
    pub(super) fn is_denied(&self, step: StepNumber) -> bool {
        match &self.told {
            Some(Event::Decided { step: decided, decision: Decision::Deny }) => *decided == step,
            Some(_) => false,
            None => true,
        }
    }
}
