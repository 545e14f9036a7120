//! Plans inside the plan: a step whose tool returned one, and steps of a plan that is still being written.

use std::sync::Arc;

use serde_json::json;

use crate::error::{PlanError, StepError, StepErrorKind};
use crate::event::{
    AnswerFrom, AttemptNumber, Graft, Output, RequestNumber, RunEventKind, StepNumber, Transition, Usage,
};
use crate::plan::{Plan, Step, StepId};
use crate::planner::{Expansion, FailedStep, FinishedStep};
use crate::policy::Limits;

use super::state::{NONE, Name};
use super::{Phase, Scheduler, StepState};

impl Scheduler {
    /// Puts the plan that an attempt returned in the step's place.
    pub(super) fn expand(
        &mut self,
        step: StepNumber,
        attempt: AttemptNumber,
        plan: &Plan,
        usage: Usage,
        transition: &mut Transition,
    ) -> Result<(), StepError> {
        if plan.steps.is_empty() {
            let output = Output::inline(json!({}));
            self.emit(RunEventKind::StepSucceeded { step, attempt: Some(attempt), output, usage }, transition);
            return Ok(());
        }
        let limit = self.policy.limits.depth.min(Limits::MAX_DEPTH);
        if self.depth(step) >= limit {
            let message = format!("step `{}` expands deeper than the limit of {limit}", self.id(step));
            return Err(StepError::permanent(message));
        }
        let graft = self.graft_expansion(step, plan.clone()).map_err(|offences| invalid_plan(&offences))?;
        let first = graft.first;
        let aborts = self.aborts(&graft.closed);
        self.emit(RunEventKind::StepExpanded { step, attempt, graft: Arc::new(graft), usage }, transition);
        transition.commands.extend(aborts);
        self.skip_added(first, transition);
        // Everything in it may have been done before.
        self.settle_parent(step, transition);
        Ok(())
    }

    /// Whether the tool of a step may be asked for another plan when one that it returned has failed.
    pub(super) fn has_other_plans(&self, step: StepNumber) -> bool {
        self.start.tools.get(usize::from(self.node(step).tool)).is_some_and(|tool| tool.replans)
    }

    /// What came of the plan that the tool of this step returned before, if it is to return another one.
    pub(super) fn expansion(&self, step: StepNumber) -> Option<Box<Expansion>> {
        if !self.has_other_plans(step) {
            return None;
        }
        let scope = self.scopes.get(&step)?;
        let mut expansion = Expansion::default();
        for &number in scope.members.iter().filter(|number| self.node(**number).member) {
            let (node, definition) = (self.node(number), Arc::clone(self.definition(number)));
            let id = definition.id.clone();
            expansion.plan.steps.push(Arc::clone(&definition));
            match (&node.state, &node.error) {
                _ if node.is_finished() => {
                    expansion.finished.push(FinishedStep {
                        id,
                        step: definition,
                        output: self.output(number).cloned(),
                    });
                }
                (StepState::Skipped(_), _) => expansion.skipped.push(id),
                (_, Some(error)) => {
                    expansion.failed.push(FailedStep { id, step: definition, error: Arc::clone(error) });
                }
                _ => {}
            }
        }
        expansion.plan.answer = match scope.answer {
            AnswerFrom::Step(number) => Some(self.definition(number).id.clone()),
            AnswerFrom::Open | AnswerFrom::Sinks(_) => None,
        };
        Some(Box::new(expansion))
    }

    /// Whether a step has become a plan, under this number or another.
    pub(crate) fn has_expanded(&self, step: StepNumber) -> bool {
        self.names().get(self.id(step)).is_some_and(|name| name.has_expanded)
    }

    fn depth(&self, step: StepNumber) -> u32 {
        let mut depth = 0;
        let mut parent = self.node(step).parent;
        while parent != NONE {
            depth += 1;
            parent = self.node(parent).parent;
        }
        depth
    }

    /// Takes up a step of a plan that is still being written. One that cannot be taken up yet is not an error: it
    /// comes again with the whole plan. Nor is one of a plan that will not be taken, as only an answer is of use.
    pub(super) fn plan_step(&mut self, request: RequestNumber, step: &Arc<Step>, transition: &mut Transition) {
        let Some(pending) = self.pending.as_ref().filter(|pending| pending.request == request) else { return };
        let room = self.room();
        if self.phase != Phase::Running || pending.must_answer || room.steps == 0 || self.names().contains_key(&step.id)
        {
            return;
        }
        if let Ok(graft) = self.graft_draft(step) {
            // No plan may have as many.
            if pending.edges + graft.edges() > u64::from(room.edges) {
                return;
            }
            let first = graft.first;
            self.emit(RunEventKind::StepDrafted { request, graft: Arc::new(graft) }, transition);
            self.skip_added(first, transition);
        }
    }

    /// How many dependencies the plan has, and the drafts that were kept of an answer which was not taken.
    pub(super) fn planned_edges(&self) -> u64 {
        let members = self.root.members.iter().filter(|number| self.node(**number).member);
        members.map(|number| self.added(*number).edges()).sum()
    }

    /// Whether a step may not act yet, because it is, or is inside, a step of a plan that is not accepted.
    pub(super) fn is_drafted(&self, step: StepNumber) -> bool {
        let mut node = self.node(step);
        while node.parent != NONE {
            node = self.node(node.parent);
        }
        node.draft
    }

    /// Forgets what expansions have come to.
    pub(super) fn forget(&mut self, graft: &Graft) {
        if graft.forgotten.is_empty() {
            return;
        }
        let forgotten = self.forgotten(graft);
        let is_inside = |id: &StepId| id.parents().any(|parent| forgotten.contains(parent));
        let inside: Vec<usize> =
            (0..).zip(self.names().keys()).filter(|(_, id)| is_inside(id)).map(|(index, _)| index).collect();
        for index in inside {
            self.names_mut()[index] = Name::NOTHING;
        }
    }

    /// Lets acting steps start whose plan has been accepted.
    pub(super) fn release_held(&mut self) {
        for number in 0..self.step_count() {
            if self.node(number).held && !self.is_drafted(number) {
                let (node, unmet) = (&mut self.nodes[number as usize], &mut self.unmet[number as usize]);
                node.held = false;
                *unmet = unmet.saturating_sub(1);
                if *unmet == 0 && node.state == StepState::Waiting {
                    self.set_state(number, StepState::Ready);
                }
            }
        }
    }
}

/// The error of an attempt whose plan cannot be run, so that a planning tool can do better on its next try.
fn invalid_plan(offences: &[PlanError]) -> StepError {
    let message = match offences {
        [only] => format!("the plan it returned cannot be run: {only}"),
        [first, rest @ ..] => format!("the plan it returned cannot be run: {first}, and {} more", rest.len()),
        [] => "the plan it returned cannot be run".to_owned(),
    };
    let offences: Vec<_> =
        offences.iter().map(|offence| json!({ "code": offence.code(), "message": offence.to_string() })).collect();
    StepError::new(StepErrorKind::InvalidPlan, message).details(json!(offences))
}
