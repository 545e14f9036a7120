//! At every call of a tool: order, inputs, slots, pools, and whether the work was done before.

use std::collections::BTreeSet;

use plandag::{AttemptNumber, Input, StepNumber};

use super::super::trace::{Call, Given};
use super::Checker;
use super::books::{Phase, State};
use super::plan::same_content;

impl Checker {
    pub(super) fn attempt_started(&mut self, step: StepNumber, attempt: AttemptNumber) {
        let phase = self.books.phase;
        self.must(phase == Phase::Running, "nothing is started while the run stops", || format!("step {step}"));
        let record = self.books.step(step);
        let state = record.state.clone();
        let is_wanted = record.member && state == State::Open;
        self.must(is_wanted, "only open steps of the plan are started", || format!("step {step} is {state:?}"));
        let finished = self.books.dependencies_are_finished(step);
        self.must(finished, "no step starts before what it depends on is finished", || format!("step {step}"));
        self.must(!self.books.is_held(step), "acting drafts are never started", || format!("step {step}"));
        let unasked = self.books.must_be_approved(step);
        self.must(!unasked, "nothing acts on text from outside unasked", || format!("step {step}"));
        let is_open = self.books.may_be_called(step, self.now);
        self.must(is_open, "a server that asked to be left alone is", || format!("step {step} calls it"));
        let is_new = !self.over.contains(&attempt) && self.books.attempts.insert(attempt, step).is_none();
        self.must(is_new, "attempt numbers are unique", || format!("{attempt}"));
        self.check_budget(step);
        self.check_done_before(step);
        self.books.set_state(step, State::Running(attempt));
        self.books.called(step, self.now);
        self.books.launches += 1;
        self.started.push(attempt);
    }

    fn check_budget(&mut self, step: StepNumber) {
        let limits = self.books.policy.limits.clone();
        let launches = self.books.launches;
        self.must(!self.books.is_called_enough(), "attempts are limited", || format!("step {step} after {launches}"));
        let usage = self.usage;
        self.must(!self.is_used_up(), "what is used is limited", || format!("step {step} after {usage:?}"));
        let within =
            limits.deadline_ms.is_none_or(|most| (self.now - self.books.own_at).as_millis() < u128::from(most));
        self.must(within, "the deadline is kept", || format!("step {step}"));
        let within = self.books.room_taken() <= limits.steps as usize;
        self.must(within, "steps are limited", || format!("step {step}"));
    }

    /// Whether a limit on what the run uses is reached.
    pub(super) fn is_used_up(&self) -> bool {
        let tokens = self.usage.input_tokens + self.usage.output_tokens;
        self.books.policy.limits.tokens.is_some_and(|most| tokens >= most)
    }

    /// A finished step runs again only if it does something else, or with something else.
    fn check_done_before(&mut self, step: StepNumber) {
        let id = self.books.step(step).id.clone();
        if let Some(before) = self.books.last_finished(&id).filter(|before| !self.books.is_done_again(*before)) {
            let again = before != step && self.books.same_work(before, step) && !self.books.is_forgotten(before);
            self.must(!again, "finished work is never repeated", || format!("step {step} is step {before}, `{id}`"));
        }
        let in_doubt = self.books.step(step).in_doubt && self.books.must_ask(&self.books.step(step).definition);
        self.must(!in_doubt, "an acting step of unknown outcome is not repeated unasked", || format!("step {step}"));
        self.books.step_mut(step).in_doubt = false;
    }

    pub(super) fn call(&mut self, call: &Call) {
        self.called.push(call.attempt);
        let Some(&step) = self.books.attempts.get(&call.attempt) else {
            return self.wrong("what is called is in the record", format!("attempt {}", call.attempt));
        };
        self.check_inputs(step, call);
        let needs = self.books.needs(&call.definition);
        let cap = self.books.policy.max_parallel as usize;
        self.must(self.alive.len() < cap, "no more than max_parallel tools run", || format!("step {step}"));
        for (pool, weight) in &needs {
            let held = self.held(pool);
            let size = self.books.pools[pool];
            self.must(held + weight <= size, "no pool is overdrawn", || {
                format!("step {step} takes {weight} of {pool}, {held} of {size} are taken")
            });
        }
        let is_new = self.alive.insert(call.attempt, needs).is_none();
        self.must(is_new, "an attempt is called once", || format!("attempt {}", call.attempt));
    }

    /// How much of a pool is held by tools that have not gone.
    pub(super) fn held(&self, pool: &str) -> u32 {
        self.alive.values().flatten().filter(|(name, _)| name == pool).map(|(_, weight)| weight).sum()
    }

    /// A step gets exactly what the record says of its dependencies.
    fn check_inputs(&mut self, step: StepNumber, call: &Call) {
        match &call.inputs {
            Given::Recorded(inputs) => self.check_recorded(step, inputs),
            Given::Values(values) => {
                let expected = self.books.values_for(step);
                self.must(*values == expected, "inputs are the recorded results", || {
                    format!("step {step} gets {values:?}, recorded is {expected:?}")
                });
            }
        }
        let same = same_content(&call.definition, &self.books.step(step).definition);
        self.must(same, "a call is of the step as the plan has it", || format!("step {step}"));
        self.must(!self.books.is_held(step), "acting drafts are never started", || format!("step {step}"));
    }

    fn check_recorded(&mut self, step: StepNumber, inputs: &[Input]) {
        let record = self.books.step(step).clone();
        let given: BTreeSet<StepNumber> = inputs.iter().map(|input| input.number).collect();
        let wanted: BTreeSet<StepNumber> = record.dependencies.iter().copied().collect();
        self.must(given == wanted, "a step gets what it depends on", || format!("step {step}: {given:?}"));
        for input in inputs {
            let Some(before) = self.books.steps.get(input.number as usize).cloned() else { continue };
            let is_right = match &before.state {
                State::Succeeded(output) => input.output.as_ref() == Some(output) && input.error.is_none(),
                State::Covered(error) => input.output.is_none() && input.error.as_ref() == Some(error),
                State::SkippedItself => input.output.is_none() && input.error.is_none(),
                _ => false,
            };
            let is_named = self.books.full_id(record.parent, &input.id) == before.id;
            self.must(is_right && is_named, "inputs are the recorded results", || {
                format!("step {step} gets {input:?}, recorded is {before:?}")
            });
        }
    }
}
