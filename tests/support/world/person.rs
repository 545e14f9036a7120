//! A person who decides: what became of an acting step, and whether one may act on text from outside.

use plandag::{Decision, Event, Output, Phase, StepNumber, StepState};
use serde_json::json;

use super::World;
use crate::support::random::percent;

impl World {
    pub(super) fn is_undecided(&self, step: StepNumber) -> bool {
        let state = self.scheduler.step(step).map(|step| step.state);
        matches!(state, Some(StepState::Unknown(_) | StepState::Unapproved))
    }

    /// What a person says about a step.
    pub(super) fn decision(&mut self, step: StepNumber) -> Decision {
        let is_unapproved = self.scheduler.step(step).is_some_and(|step| step.state == StepState::Unapproved);
        match self.rng.u8(0..3) {
            0 if is_unapproved => Decision::Deny,
            _ if is_unapproved => Decision::Approve,
            0 => Decision::Succeeded(Output::inline(json!({ "value": "done by hand" }))),
            1 => Decision::Failed("it did not happen".into()),
            _ => Decision::Retry,
        }
    }

    /// A person says at last what everything waits for.
    pub(super) fn late_decision(&mut self) -> Option<Event> {
        let step = (0..self.scheduler.step_count()).find(|step| self.is_undecided(*step))?;
        Some(Event::Decided { step, decision: self.decision(step) })
    }

    /// A person decides about steps that wait for it, most of the time.
    pub(super) fn decide(&mut self) {
        let undecided = (0..self.scheduler.step_count()).filter(|step| self.is_undecided(*step)).count();
        assert_eq!(self.scheduler.undecided() as usize, undecided, "how many steps a person has to decide about");
        for step in 0..self.scheduler.step_count() {
            let is_open = self.is_undecided(step) && self.scheduler.phase() == Phase::Stopped;
            if is_open && percent(&mut self.rng, 90) {
                let decision = self.decision(step);
                self.tell(Event::Decided { step, decision });
            }
        }
    }
}
