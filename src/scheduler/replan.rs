//! Asking the planner, and what its answers lead to.

use std::sync::Arc;

use crate::error::{ModelProblem, PlanError};
use crate::event::{
    Command, FailureReason, Output, PlanReason, Rejection, RequestNumber, RequestPlan, RunEventKind, RunOutcome,
    StepNumber, Transition, Usage,
};
use crate::planner::{PlanReply, Revision};
use crate::policy::{ReplanWhen, Retry};

use super::graft::Listed;
use super::{Phase, Scheduler, StepState};

impl Scheduler {
    /// Makes a request to the planner.
    pub(super) fn ask(&mut self, reason: PlanReason, reported: Vec<StepNumber>, transition: &mut Transition) {
        let request = self.requests;
        let revision = self.revision + 1;
        let kind = RunEventKind::PlanRequested { request, revision, reason, reported };
        self.emit(kind, transition);
        if let Some(pending) = &self.pending {
            transition.commands.push(Command::RequestPlan(Box::new(RequestPlan {
                request,
                revision,
                reason: pending.reason.clone(),
                failures: pending.reported.clone(),
                must_answer: pending.must_answer,
            })));
        }
    }

    /// Whether another plan could make up for the failure of a step. None can where the provider of the step's model lets
    /// nobody in: what is to be done about that, only a person can do.
    pub(super) fn may_be_mended(&self, step: StepNumber) -> bool {
        let problem = self.node(step).error.as_ref().and_then(|error| ModelProblem::of(error));
        !problem.is_some_and(ModelProblem::is_lasting)
    }

    /// Whether a request is to be made again that came to nothing, or a step failed that the planner does not know of.
    pub(super) fn wants_planner(&self) -> bool {
        self.again.is_some()
            || self.counts.unreported > 0
                && self.replans < self.policy.max_replans
                && match self.policy.replan_when {
                    ReplanWhen::FirstFailure => true,
                    ReplanWhen::Stuck => !self.moves(),
                    ReplanWhen::Inside => false,
                }
    }

    /// Whether its server does not want to be left alone.
    pub(super) fn may_ask_planner(&self) -> bool {
        self.gates.get(&self.tools.planner_server).is_none_or(|gate| gate.until <= self.now)
    }

    /// Asks the planner, if that is due and its server may be called.
    pub(super) fn ask_if_due(&mut self, transition: &mut Transition) {
        if self.phase != Phase::Running || self.pending.is_some() || !self.wants_planner() {
            return;
        }
        if let Some(why) = self.exhausted(false) {
            return self.emit(RunEventKind::StopRequested { why }, transition);
        }
        if !self.may_ask_planner() {
            return;
        }
        match self.again.clone() {
            Some(again) => self.ask(again.reason, again.reported, transition),
            None => self.ask(PlanReason::Failures, self.failed_members(), transition),
        }
    }

    pub(super) fn plan_returned(
        &mut self,
        request: RequestNumber,
        reply: Result<PlanReply, PlanError>,
        transition: &mut Transition,
    ) {
        let Some(pending) = self.pending.as_ref().filter(|pending| pending.request == request) else { return };
        let (must_answer, asked) = (pending.must_answer, pending.put_off + 1);
        let is_plan = |reply: &PlanReply| matches!(reply.revision, Revision::Plan(_) | Revision::Patch(_));
        let is_too_late = must_answer && reply.as_ref().is_ok_and(is_plan);
        let (reply, usage, text) = match reply {
            Ok(PlanReply { revision, usage, text }) => (Ok(revision), usage, text),
            Err(error) => (Err(error), Usage::default(), None),
        };
        let listed = match reply {
            Ok(Revision::Answer(answer)) => {
                let outcome = RunOutcome::Succeeded { answer: Output::inline(answer) };
                return self.finish(outcome, usage, transition);
            }
            Ok(Revision::PutOff { error, pause_ms }) if asked < Retry::BUSY_ATTEMPTS => {
                let (error, retry_at) = (Arc::new(error), self.now.plus_millis(pause_ms));
                return self.emit(RunEventKind::PlanPutOff { request, error, retry_at, usage }, transition);
            }
            Ok(Revision::PutOff { error, .. }) => Err(vec![match error {
                PlanError::Model { problem, message } => {
                    PlanError::Model { problem, message: format!("{message} (asked {asked} times)") }
                }
                other => other,
            }]),
            Ok(Revision::Declined) => Err(vec![PlanError::Declined]),
            Ok(Revision::Unusable(offences)) => Err(offences),
            Ok(Revision::Plan(plan)) => Ok(Listed::from(plan)),
            Ok(Revision::Patch(patch)) => self.patched(patch),
            Err(error) => Err(vec![error]),
        };
        let graft = match listed.and_then(|listed| self.graft_plan(listed)) {
            // The plan as it is: the answer that there is stands.
            Ok(graft) if is_too_late && graft.keeps_the_steps() => Ok(graft),
            _ if is_too_late => Err(vec![PlanError::Planner {
                message: "it planned more steps, but none can be added: it has to answer from what is done".into(),
            }]),
            graft => graft,
        };
        match graft {
            Err(offences) => self.reject(offences, text, usage, transition),
            Ok(graft) => {
                let aborts = self.aborts(&graft.closed);
                let first = graft.first;
                let revision = self.revision + 1;
                let graft = Arc::new(graft);
                self.emit(RunEventKind::PlanAccepted { request, revision, graft, usage }, transition);
                transition.commands.extend(aborts);
                self.skip_added(first, transition);
            }
        }
    }

    /// Sends the offences back, or gives up on the planner for this time.
    fn reject(
        &mut self,
        mut offences: Vec<PlanError>,
        answer: Option<Arc<str>>,
        usage: Usage,
        transition: &mut Transition,
    ) {
        let Some(pending) = &self.pending else { return };
        let request = pending.request;
        // None at all says that nobody answered, which may happen any number of times.
        if offences.is_empty() {
            offences.push(PlanError::Planner { message: "it has no usable answer, and does not say why".into() });
        }
        let declined = offences.contains(&PlanError::Declined);
        // A planner that has no other plan says nothing about what was wrong with the one it had.
        let rejected_before = match &pending.reason {
            PlanReason::Rejected(before) if declined => Some(Arc::clone(before)),
            _ => None,
        };
        let given_up = offences.iter().any(PlanError::is_final) || pending.rejections >= self.policy.max_corrections;
        let (closed, left) = self.rejected_drafts(given_up);
        let aborts = self.aborts(&closed);
        let offences = Arc::new(offences);
        let rejection = Rejection { offences: Arc::clone(&offences), closed, left, given_up, answer };
        let kind = RunEventKind::PlanRejected { request, rejection: Arc::new(rejection), usage };
        self.emit(kind, transition);
        transition.commands.extend(aborts);
        if given_up && self.revision == 0 {
            let reason = FailureReason::NoPlan(rejected_before.unwrap_or(offences));
            let outcome = RunOutcome::Failed { reason };
            self.finish(outcome, Usage::default(), transition);
        }
    }

    /// The process that asked is gone. Nobody is to blame, so nothing is counted.
    pub(super) fn take_back_request(&mut self, transition: &mut Transition) {
        if let Some(pending) = self.pending.clone() {
            let (closed, left) = self.rejected_drafts(false);
            let rejection = Arc::new(Rejection { closed, left, ..Rejection::default() });
            let kind = RunEventKind::PlanRejected { request: pending.request, rejection, usage: Usage::default() };
            self.emit(kind, transition);
        }
    }

    /// The number of the next request to the planner.
    pub(crate) fn next_request(&self) -> RequestNumber {
        self.requests
    }

    /// The request that the planner has not answered.
    pub(crate) fn pending_request(&self) -> Option<RequestNumber> {
        self.pending.as_ref().map(|pending| pending.request)
    }

    /// The request that is to be made again, as its answer was of no use, or is still to come.
    pub(crate) fn request_to_repeat(&self) -> Option<(PlanReason, Vec<StepNumber>)> {
        self.again.as_ref().map(|again| (again.reason.clone(), again.reported.clone()))
    }

    /// What becomes of drafts when the answer they belong to is rejected: those that have started go on, for the
    /// corrected plan to keep.
    pub(crate) fn rejected_drafts(&self, given_up: bool) -> (Vec<StepNumber>, Vec<StepNumber>) {
        let (mut closed, mut left) = (Vec::new(), Vec::new());
        for &draft in self.drafts.iter().filter(|draft| self.node(**draft).draft) {
            let node = self.node(draft);
            match node.state {
                StepState::Waiting | StepState::Ready => closed.push(draft),
                StepState::Skipped(_) => left.push(draft),
                _ if !given_up => {}
                _ if node.is_settled() => left.push(draft),
                _ => {
                    closed.push(draft);
                    self.close_below(draft, &mut closed);
                }
            }
        }
        (closed, left)
    }
}
