//! A run from its history: the live `apply`, behind a check that each event is possible where it stands. A history
//! comes from outside, so a damaged one must be an error and not a panic.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::JournalError;
use crate::event::{Graft, Output, RunEvent, RunEventKind, RunOutcome, StepNumber, StopReason};
use crate::policy::Limits;

use super::state::{NONE, Node};
use super::{Phase, Scheduler, StepState};

impl Scheduler {
    /// Rebuilds a run from its history. The result equals the live scheduler after the same events; to go on with the
    /// run, send it [`Event::Resumed`](crate::Event::Resumed).
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] for the first event that is not possible where it stands.
    pub fn replay(history: &[RunEvent]) -> Result<Self, JournalError> {
        let Some(RunEventKind::RunStarted { start }) = history.first().map(|event| &event.kind) else {
            let message = "a history begins with the start of its run".into();
            return Err(JournalError::Corrupt { seq: 0, message });
        };
        if start.tools.len() > Self::MOST_TOOLS {
            let message = format!("{} tools are more than a run can have", start.tools.len());
            return Err(JournalError::Corrupt { seq: 0, message });
        }
        let mut scheduler = Self::new(Arc::clone(start));
        history.iter().try_for_each(|event| scheduler.follow(event))?;
        Ok(scheduler)
    }

    /// Takes over the next event of a run that something else carries out.
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] if that event is not possible now: one before it was left out, say.
    pub fn follow(&mut self, event: &RunEvent) -> Result<(), JournalError> {
        self.check_event(event).map_err(|message| JournalError::Corrupt { seq: self.seq, message })?;
        self.apply(event);
        Ok(())
    }

    fn check_event(&self, event: &RunEvent) -> Result<(), String> {
        use RunEventKind as Kind;

        ensure(event.seq == self.seq, || format!("it has the number {}", event.seq))?;
        ensure(event.at >= self.at, || "it happened before the one in front of it".into())?;
        ensure((self.phase == Phase::New) == matches!(event.kind, Kind::RunStarted { .. }), || {
            "a run starts once, and first".into()
        })?;
        let is_noted = matches!(event.kind, Kind::UsageNoted { .. });
        ensure(self.phase != Phase::Finished || is_noted, || "the run has finished".into())?;
        match &event.kind {
            Kind::RunStarted { .. } | Kind::RunResumed { .. } => Ok(()),
            Kind::RunFinished { outcome, .. } => match outcome {
                RunOutcome::Succeeded { answer } => self.check_made(answer),
                RunOutcome::Failed { .. } => Ok(()),
            },
            Kind::StopRequested { why } => {
                let is_cancelled =
                    self.phase == Phase::Stopping && *why == StopReason::Cancelled && self.grace.is_none();
                ensure(self.phase == Phase::Running || is_cancelled, || "the run is stopping".into())
            }
            Kind::RunStopped { .. } => ensure(self.phase != Phase::Stopped, || "the run has stopped".into()),
            Kind::UsageNoted { attempt, .. } => {
                ensure(matches!(self.phase, Phase::Stopped | Phase::Finished), || "the run goes on".into())?;
                let is_open = attempt.is_none_or(|attempt| self.is_open(attempt));
                ensure(is_open && !self.late.contains(attempt), || "it is noted already".into())
            }
            Kind::PlanRequested { request, reported, .. } => {
                ensure(self.pending.is_none(), || "the planner is thinking".into())?;
                ensure(*request == self.requests, || format!("request {request} is out of order"))?;
                self.check_steps(reported)
            }
            Kind::PlanAccepted { request, revision, graft, .. } => {
                self.check_request(*request)?;
                let is_next = self.revision.checked_add(1) == Some(*revision);
                ensure(is_next, || format!("revision {revision} is out of order"))?;
                self.check_graft(graft, None)
            }
            Kind::PlanRejected { request, rejection, .. } => {
                self.check_request(*request)?;
                self.check_steps(&rejection.left)?;
                self.check_open(&rejection.closed)
            }
            Kind::PlanPutOff { request, .. } => self.check_request(*request),
            Kind::StepDrafted { request, graft } => {
                self.check_request(*request)?;
                ensure(graft.added.len() == 1, || "a draft is one step".into())?;
                self.check_graft(graft, None)
            }
            Kind::StepExpanded { step, attempt, graft, .. } => {
                self.check_state(*step, StepState::Running(*attempt))?;
                self.check_graft(graft, Some(*step))
            }
            Kind::AttemptStarted { step, attempt } => {
                ensure(*attempt == self.attempts(), || format!("attempt {attempt} is out of order"))?;
                self.check_state(*step, StepState::Ready)
            }
            Kind::AttemptDiscarded { attempt, .. } => {
                ensure(self.aborting.contains_key(attempt), || format!("attempt {attempt} was not told to end"))
            }
            Kind::AttemptFailed { step, attempt, .. } | Kind::StepUnknown { step, attempt, .. } => {
                self.check_state(*step, StepState::Running(*attempt))
            }
            Kind::StepSucceeded { step, attempt: None, output: output @ Output::Gathered(_), .. } => {
                self.check_state(*step, StepState::Expanded)?;
                self.check_made(output)
            }
            Kind::StepSucceeded { attempt: Some(_), output: Output::Gathered(_), .. } => {
                Err("no attempt comes to what others came to".into())
            }
            Kind::StepSucceeded { step, attempt, .. } | Kind::StepFailed { step, attempt, .. } => match attempt {
                Some(attempt) => self.check_state(*step, StepState::Running(*attempt)),
                None => self.check_one_of(*step, |state| match state {
                    StepState::Expanded | StepState::Unknown(_) => true,
                    StepState::Unapproved => matches!(event.kind, Kind::StepFailed { .. }),
                    _ => false,
                }),
            },
            Kind::ApprovalRequested { step, from } => {
                self.check_steps(&[*from])?;
                self.check_state(*step, StepState::Ready)
            }
            Kind::StepApproved { step } => self.check_state(*step, StepState::Unapproved),
            Kind::StepReady { step } => self.check_one_of(*step, |state| match state {
                StepState::Backoff(_) | StepState::Unknown(_) => true,
                StepState::Expanded => self.scope(*step).is_some_and(|scope| scope.open == 0),
                _ => false,
            }),
            Kind::StepSkipped { step, attempt, .. } => {
                self.check_state(*step, attempt.map_or(StepState::Waiting, StepState::Running))
            }
        }
    }

    fn check_request(&self, request: u32) -> Result<(), String> {
        let is_pending = self.pending.as_ref().is_some_and(|pending| pending.request == request);
        ensure(is_pending, || format!("request {request} is not under way"))
    }

    fn check_state(&self, step: StepNumber, expected: StepState) -> Result<(), String> {
        self.check_one_of(step, |state| state == expected)
    }

    fn check_one_of(&self, step: StepNumber, is_expected: impl Fn(StepState) -> bool) -> Result<(), String> {
        let Some(node) = self.nodes.get(step as usize) else { return Err(format!("there is no step {step}")) };
        ensure(is_expected(node.state), || format!("step {step} is {:?}", node.state))
    }

    fn check_steps(&self, steps: &[StepNumber]) -> Result<(), String> {
        match steps.iter().find(|step| **step >= self.step_count()) {
            Some(step) => Err(format!("there is no step {step}")),
            None => Ok(()),
        }
    }

    fn check_open(&self, steps: &[StepNumber]) -> Result<(), String> {
        self.check_steps(steps)?;
        let mut seen = BTreeSet::new();
        let settled = steps.iter().find(|step| self.node(**step).is_settled() || !seen.insert(**step));
        settled.map_or(Ok(()), |step| Err(format!("step {step} is settled and cannot be dropped")))
    }

    /// Whether an output can be put together: it is made of what other steps had come to before, which excludes circles,
    /// of each no more than once, and no deeper than expansions nest.
    fn check_made(&self, output: &Output) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut rest = vec![(output, 0)];
        while let Some((output, depth)) = rest.pop() {
            let Output::Gathered(parts) = output else { continue };
            ensure(depth <= Limits::MAX_DEPTH, || "it is made of outputs that nest too deep".into())?;
            for (_, part) in parts.iter() {
                let is_over = self.nodes.get(*part as usize).is_some_and(Node::is_finished);
                ensure(is_over, || format!("it is made of what step {part} came to, which is not finished"))?;
                ensure(seen.insert(*part), || format!("what step {part} came to is in it twice"))?;
                rest.extend(self.output(*part).map(|output| (output, depth + 1)));
            }
        }
        Ok(())
    }

    fn check_graft(&self, graft: &Graft, scope: Option<StepNumber>) -> Result<(), String> {
        ensure(graft.scope == scope, || "its plan belongs to another step".into())?;
        ensure(graft.first == self.step_count(), || "its step numbers are out of order".into())?;
        self.check_open(&graft.closed)?;
        for steps in [&graft.joined, &graft.left, &graft.unreported, &graft.forgotten] {
            self.check_steps(steps)?;
        }
        let stays = |step: &StepNumber| {
            let node = self.node(*step);
            node.is_settled() || node.parent == graft.scope.unwrap_or(NONE)
        };
        ensure(graft.joined.iter().all(stays), || "it takes an open step from another plan".into())?;
        for (step, definition) in &graft.settings {
            self.check_steps(&[*step])?;
            ensure(self.tools.index(&self.start, definition).is_some(), || format!("step {step} has no tool"))?;
        }
        for (added, number) in graft.added.iter().zip(graft.first..) {
            let is_lower = |dependency: &StepNumber| *dependency < number;
            ensure(added.dependencies.iter().all(is_lower), || format!("step {number} depends on a later one"))?;
            ensure(self.tools.index(&self.start, &added.step).is_some(), || format!("step {number} has no tool"))?;
        }
        let count = graft.first + graft.added.len() as u32;
        ensure(self.knows_answer(&graft.answer, count), || "its answer is no step of it".into())
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
