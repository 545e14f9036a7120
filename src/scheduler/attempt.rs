//! What becomes of an attempt: a result, another try, an interruption, a person's decision. And the timers.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::error::{StepError, StepErrorKind};
use crate::event::{
    AttemptNumber, Command, Decision, Returned, RunEventKind, SkipReason, StepNumber, StopReason, Timestamp,
    Transition, Usage,
};
use crate::plan::OnInterrupt;
use crate::policy::{Policy, Retry};
use crate::tool::ToolSpec;

use super::{Phase, Scheduler, StepState};

/// For how long at least a step is put off by an error that does not say how long.
const LEAST_DEFERRAL_MS: u64 = 1_000;

impl Scheduler {
    pub(super) fn attempt_returned(
        &mut self,
        attempt: AttemptNumber,
        result: Result<Returned, Arc<StepError>>,
        usage: Usage,
        draw: u16,
        transition: &mut Transition,
    ) {
        if self.aborting.contains_key(&attempt) {
            return self.emit(RunEventKind::AttemptDiscarded { attempt, usage }, transition);
        }
        let Some(&step) = self.attempts.get(attempt as usize) else { return };
        if self.node(step).state != StepState::Running(attempt) {
            return;
        }
        match result {
            Ok(Returned::Value(output)) => {
                self.emit(RunEventKind::StepSucceeded { step, attempt: Some(attempt), output, usage }, transition);
            }
            Ok(Returned::ConditionFalse) => {
                let because = SkipReason::Condition;
                self.emit(RunEventKind::StepSkipped { step, because, attempt: Some(attempt) }, transition);
            }
            Ok(Returned::Plan(plan)) => {
                if let Err(error) = self.expand(step, attempt, &plan, usage, transition) {
                    self.attempt_failed(step, attempt, Arc::new(error), usage, draw, transition);
                }
            }
            Err(error) => {
                let error = self.taken_for(error);
                self.attempt_failed(step, attempt, error, usage, draw, transition);
            }
        }
        self.after_settling(step, transition);
    }

    /// What a tool's error is taken for. That the run was stopped, which may happen any number of times, is only said by
    /// the run: a tool that passes on what became of another run would be called again and again.
    fn taken_for(&self, error: Arc<StepError>) -> Arc<StepError> {
        let is_told_to_stop = || self.phase != Phase::Running || self.exhausted(false).is_some();
        if error.kind != StepErrorKind::Stopped || is_told_to_stop() {
            return error;
        }
        Arc::new(StepError { kind: StepErrorKind::Interrupted, ..(*error).clone() })
    }

    /// Decides between another try, a failure for good, and a question to a person.
    fn attempt_failed(
        &mut self,
        step: StepNumber,
        attempt: AttemptNumber,
        error: Arc<StepError>,
        usage: Usage,
        draw: u16,
        transition: &mut Transition,
    ) {
        use StepErrorKind::{Aborted, Deferred, Interrupted, InvalidPlan, Stopped, Timeout, Transient};

        let node = self.node(step);
        let kind = match error.kind {
            kind if kind.is_open_end() && self.may_have_acted(step) => {
                RunEventKind::StepUnknown { step, attempt, error, usage }
            }
            Deferred => {
                // Whoever says nothing of a pause would be asked again and again.
                let longest_ms = || self.retry(step).max_ms.max(LEAST_DEFERRAL_MS);
                let pause_ms = error.retry_after_ms.filter(|pause_ms| *pause_ms > 0).unwrap_or_else(longest_ms);
                let retry_at = self.now.plus_millis(pause_ms);
                RunEventKind::AttemptFailed { step, attempt, error, retry_at, usage }
            }
            Stopped => RunEventKind::AttemptFailed { step, attempt, error, retry_at: self.now, usage },
            Interrupted | Aborted if self.interruptions(step) + 1 < self.policy.max_interruptions => {
                RunEventKind::AttemptFailed { step, attempt, error, retry_at: self.now, usage }
            }
            Transient | Timeout | InvalidPlan if node.tries < self.retry(step).attempts_after(&error) => {
                let retry_at = self.now.plus_millis(back_off(self.retry(step), node.tries, draw, error.retry_after_ms));
                RunEventKind::AttemptFailed { step, attempt, error, retry_at, usage }
            }
            _ => RunEventKind::StepFailed { step, attempt: Some(attempt), error, usage },
        };
        self.emit(kind, transition);
    }

    fn retry(&self, step: StepNumber) -> Retry {
        self.definition(step).retry.unwrap_or(self.policy.retry)
    }

    /// Whether an attempt that has no result may still have had an effect that must not happen twice.
    pub(crate) fn may_have_acted(&self, step: StepNumber) -> bool {
        let node = self.node(step);
        self.definition(step).on_interrupt == OnInterrupt::Ask
            && self.start.tools.get(usize::from(node.tool)).is_some_and(ToolSpec::acts_once)
    }

    /// A person has said what became of a step whose outcome nobody knew, or whether one may act.
    pub(super) fn decided(&mut self, step: StepNumber, decision: Decision, transition: &mut Transition) {
        let state = self.nodes.get(step as usize).map(|node| node.state);
        match state {
            Some(StepState::Unknown(_)) => {}
            Some(StepState::Unapproved) => return self.decide_approval(step, &decision, transition),
            _ => return,
        }
        let usage = Usage::default();
        self.emit(
            match decision {
                Decision::Succeeded(output) => RunEventKind::StepSucceeded { step, attempt: None, output, usage },
                Decision::Failed(message) => {
                    let error = Arc::new(StepError::permanent(message));
                    RunEventKind::StepFailed { step, attempt: None, error, usage }
                }
                Decision::Retry => RunEventKind::StepReady { step },
                Decision::Approve | Decision::Deny => return,
            },
            transition,
        );
        self.after_settling(step, transition);
    }

    /// Another process takes over. Whatever was running is interrupted; whoever was asked is asked again.
    pub(super) fn resume(&mut self, policy: Option<Box<Policy>>, transition: &mut Transition) {
        let policy = policy.filter(|policy| **policy != *self.policy).map(Arc::from);
        // A step is not to blame for what it was cut off by when somebody stopped the run.
        let (kind, what) = match self.phase {
            Phase::Stopped => (StepErrorKind::Stopped, "the run was stopped"),
            _ => (StepErrorKind::Interrupted, "the process ended"),
        };
        self.emit(RunEventKind::RunResumed { policy }, transition);
        let aborting: Vec<_> = self.aborting.keys().copied().collect();
        for attempt in aborting {
            self.emit(RunEventKind::AttemptDiscarded { attempt, usage: Usage::default() }, transition);
        }
        for step in 0..self.step_count() {
            if let StepState::Running(attempt) = self.node(step).state {
                let error = Arc::new(StepError::new(kind, format!("{what} while the step was running")));
                self.attempt_failed(step, attempt, error, Usage::default(), 0, transition);
                self.after_settling(step, transition);
            }
        }
        // A fork may have left out the last part of an expansion.
        let parents: Vec<_> = self.scopes.keys().copied().collect();
        for parent in parents {
            if self.settle_parent(parent, transition) {
                self.after_settling(parent, transition);
            }
        }
        self.approve_allowed(transition);
        self.take_back_request(transition);
        self.armed = None;
    }

    /// Makes steps ready whose back-off is over.
    pub(super) fn end_backoffs(&mut self, transition: &mut Transition) {
        while let Some(&Reverse((until, step))) = self.backoffs.peek() {
            let is_stale = self.node(step).state != StepState::Backoff(until);
            if !is_stale && until > self.now {
                return;
            }
            self.backoffs.pop();
            if !is_stale {
                self.emit(RunEventKind::StepReady { step }, transition);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.policy.limits.deadline_ms.map(|millis| self.own.at.plus_millis(millis))
    }

    pub(super) fn check_deadline(&mut self, transition: &mut Transition) {
        if matches!(self.phase, Phase::Running | Phase::Stopping)
            && self.deadline().is_some_and(|deadline| deadline <= self.now)
        {
            self.stop_now(StopReason::Deadline, transition);
        }
    }

    /// Stops starting things; ends what runs at once, or after the grace period.
    pub(super) fn cancel(&mut self, at_once: bool, transition: &mut Transition) {
        let why = StopReason::Cancelled;
        // A second request means: now. That a limit stops the run was nobody's request.
        let is_first = self.grace.is_none();
        match self.phase {
            Phase::Running | Phase::Stopping if is_first && !at_once => {
                self.emit(RunEventKind::StopRequested { why }, transition);
            }
            Phase::Running | Phase::Stopping => self.stop_now(why, transition),
            Phase::New | Phase::Stopped | Phase::Finished => {}
        }
    }

    /// Ends what runs. No step changes: a stopped run is picked up exactly like a crashed one.
    pub(super) fn stop_now(&mut self, why: StopReason, transition: &mut Transition) {
        self.emit(RunEventKind::RunStopped { why }, transition);
        self.abort_running(transition);
    }

    pub(super) fn abort_running(&self, transition: &mut Transition) {
        if self.counts.running == 0 {
            return;
        }
        let running = self.nodes.iter().filter_map(|node| match node.state {
            StepState::Running(attempt) => Some(Command::Abort { attempt }),
            _ => None,
        });
        transition.commands.extend(running);
    }
}

/// The wait before the next try, in milliseconds. A time named by the server is a floor: jitter only adds to it.
fn back_off(retry: Retry, tries: u32, draw: u16, retry_after_ms: Option<u64>) -> u64 {
    let factor = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    let longest = retry.base_ms.saturating_mul(factor).min(retry.max_ms);
    let jittered = (u128::from(longest) * u128::from(draw) / u128::from(u16::MAX)) as u64;
    retry_after_ms.unwrap_or(0).saturating_add(jittered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_cap_and_is_scaled_by_the_draw() {
        let retry = Retry { max_attempts: 9, base_ms: 500, max_ms: 3_000 };
        let longest: Vec<u64> = (1..=5).map(|tries| back_off(retry, tries, u16::MAX, None)).collect();
        assert_eq!(longest, [500, 1_000, 2_000, 3_000, 3_000]);
        assert_eq!(back_off(retry, 1, 0, None), 0);
        assert_eq!(back_off(retry, u32::MAX, u16::MAX, None), 3_000);
    }

    #[test]
    fn a_time_named_by_the_server_is_a_floor() {
        let retry = Retry::attempts(3);
        assert_eq!(back_off(retry, 1, 0, Some(7_000)), 7_000);
        assert_eq!(back_off(retry, 1, u16::MAX, Some(7_000)), 7_500);
    }
}
