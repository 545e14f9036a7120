//! What follows when a step is settled: skips below it, its parent's end, the end of the run.

use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use serde_json::{Value, json};

use crate::error::{StepError, StepErrorKind};
use crate::event::{
    AnswerFrom, Command, FailureReason, Output, PlanReason, RunEventKind, RunOutcome, SkipReason, StepNumber,
    StopReason, Transition, Usage,
};

use super::state::NONE;
use super::{Scheduler, StepState};

impl Scheduler {
    /// Everything that the end of a step entails: its dependents may be impossible now, and its parent complete.
    pub(super) fn after_settling(&mut self, step: StepNumber, transition: &mut Transition) {
        let node = self.node(step);
        if node.parent == NONE && !node.is_fatal() {
            return;
        }
        let mut settled = vec![step];
        while let Some(step) = settled.pop() {
            let node = self.node(step);
            let parent = node.parent;
            let cause = match node.state {
                StepState::Skipped(SkipReason::Failed(cause)) => Some(cause),
                _ if node.is_fatal() => Some(step),
                _ => None,
            };
            if let Some(cause) = cause {
                self.skip_dependents(step, cause, &mut settled, transition);
            }
            if parent != NONE && self.settle_parent(parent, transition) {
                settled.push(parent);
            }
        }
    }

    fn skip_dependents(
        &mut self,
        step: StepNumber,
        cause: StepNumber,
        settled: &mut Vec<StepNumber>,
        transition: &mut Transition,
    ) {
        let mut dependents = self.graph.neighbors_directed(NodeIndex::new(step as usize), Direction::Outgoing).detach();
        while let Some(index) = dependents.next_node(&self.graph) {
            let dependent = index.index() as StepNumber;
            if self.node(dependent).state == StepState::Waiting {
                let because = SkipReason::Failed(cause);
                self.emit(RunEventKind::StepSkipped { step: dependent, because, attempt: None }, transition);
                settled.push(dependent);
            }
        }
    }

    /// Ends an expanded step in which nothing is open any more, or has its tool asked for another plan.
    pub(super) fn settle_parent(&mut self, parent: StepNumber, transition: &mut Transition) -> bool {
        let Some(scope) = self.scopes.get(&parent) else { return false };
        if self.node(parent).state != StepState::Expanded || scope.open > 0 {
            return false;
        }
        let usage = Usage::default();
        let kind = match scope.failed {
            None => {
                let output = self.answer_of(&scope.answer);
                RunEventKind::StepSucceeded { step: parent, attempt: None, output, usage }
            }
            Some(_)
                if scope.replans < self.policy.max_replans
                    && self.has_other_plans(parent)
                    && scope.members.iter().any(|child| self.has_failed(*child) && self.may_be_mended(*child)) =>
            {
                self.emit(RunEventKind::StepReady { step: parent }, transition);
                return false;
            }
            Some(child) => {
                let id = self.id(child);
                let error = self.node(child).error.as_ref();
                let why = error.map_or("", |error| &error.message);
                let message = format!("step `{id}` of its expansion failed: {why}");
                let mut details = json!({ "child": id.as_str() });
                // Trouble with a provider is that of the parent, too.
                if let Some(code) = error.and_then(|error| error.code()) {
                    details["code"] = json!(code);
                }
                let error = StepError::new(StepErrorKind::ExpansionFailed, message).details(details);
                RunEventKind::StepFailed { step: parent, attempt: None, error: Arc::new(error), usage }
            }
        };
        self.emit(kind, transition);
        true
    }

    /// The output that a plan's answer stands for. Values are never put together here: the driver does that.
    fn answer_of(&self, answer: &AnswerFrom) -> Output {
        let output = |step: StepNumber| self.output(step).cloned().unwrap_or_else(|| Output::inline(Value::Null));
        match answer {
            AnswerFrom::Step(step) => output(*step),
            AnswerFrom::Sinks(sinks) if sinks.len() == 1 => output(sinks[0]),
            AnswerFrom::Sinks(sinks) => {
                let named = sinks.iter().map(|step| (self.definition(*step).id.clone(), *step));
                Output::Gathered(Arc::new(named.collect()))
            }
            AnswerFrom::Open => Output::inline(json!({})),
        }
    }

    /// Nothing moves: ask the planner, wait for it or for a person, or end the run.
    pub(super) fn come_to_rest(&mut self, transition: &mut Transition) {
        // A planner that is to be asked, and is not yet, waits for its server.
        if self.pending.is_some() || self.wants_planner() {
            return;
        }
        if self.counts.unapproved > 0 && self.policy.attended {
            return;
        }
        if self.counts.unknown + self.counts.unapproved > 0 {
            return self.stop_now(StopReason::Undecided, transition);
        }
        let failed = self.failed_members();
        let is_lost = !failed.is_empty() && !failed.iter().any(|step| self.may_be_mended(*step));
        if self.policy.review && !self.reviewed && !is_lost {
            match self.exhausted(false) {
                None if !self.may_ask_planner() => return,
                None => return self.ask(PlanReason::Review, failed, transition),
                // What there is no more for is the review, not the answer.
                Some(_) if failed.is_empty() => {}
                Some(why) => return self.emit(RunEventKind::StopRequested { why }, transition),
            }
        }
        let outcome = if self.root.open > 0 {
            let open = |step: &StepNumber| !self.node(*step).is_settled();
            let blocking = (0..self.step_count()).filter(open).collect();
            RunOutcome::Failed { reason: FailureReason::Stalled(blocking) }
        } else if self.counts.fatal
            && self.root.members.iter().any(|step| self.node(*step).member && self.node(*step).is_fatal())
        {
            RunOutcome::Failed { reason: FailureReason::StepsFailed(failed) }
        } else {
            RunOutcome::Succeeded { answer: self.answer_of(&self.root.answer) }
        };
        self.finish(outcome, Usage::default(), transition);
    }

    /// Ends the run for good. What still runs is ended, what is open is superseded.
    pub(super) fn finish(&mut self, outcome: RunOutcome, usage: Usage, transition: &mut Transition) {
        self.abort_running(transition);
        self.emit(RunEventKind::RunFinished { outcome, usage }, transition);
    }

    /// The members of the plan that failed for good.
    pub(super) fn failed_members(&self) -> Vec<StepNumber> {
        if !self.counts.fatal {
            return Vec::new();
        }
        self.root.members.iter().copied().filter(|step| self.has_failed(*step)).collect()
    }

    /// Whether a member of a plan failed for good, and the plan with it.
    fn has_failed(&self, step: StepNumber) -> bool {
        let node = self.node(step);
        node.member && !node.draft && node.state == StepState::Failed && node.is_fatal()
    }

    /// Skips steps that were added below a failed one, or the run would wait for them for ever.
    pub(super) fn skip_added(&mut self, first: StepNumber, transition: &mut Transition) {
        if !self.counts.fatal {
            return;
        }
        for step in first..self.step_count() {
            let cause = self.dependencies(step).iter().find_map(|dependency| {
                let node = self.node(*dependency);
                match node.state {
                    StepState::Skipped(SkipReason::Failed(cause)) => Some(cause),
                    _ => node.is_fatal().then_some(*dependency),
                }
            });
            if let Some(cause) = cause.filter(|_| self.node(step).state == StepState::Waiting) {
                let because = SkipReason::Failed(cause);
                self.emit(RunEventKind::StepSkipped { step, because, attempt: None }, transition);
            }
        }
    }

    /// The commands that end the attempts of steps about to be dropped.
    pub(super) fn aborts(&self, closed: &[StepNumber]) -> Vec<Command> {
        let running = |step: &StepNumber| match self.node(*step).state {
            StepState::Running(attempt) => Some(Command::Abort { attempt }),
            _ => None,
        };
        closed.iter().filter_map(running).collect()
    }
}
