//! The same run again, with a change: what is finished and not touched by it is taken over.
//!
//! A fork is a run of its own. Its history is that of the run it comes from, up to the end of that, and then one more
//! plan, in which every step that has to run has a new number. So it goes on by being resumed, like any other run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::error::JournalError;
use crate::event::{
    Added, AnswerFrom, Graft, PlanReason, Rejection, RunEvent, RunEventKind, RunStart, SkipReason, StepNumber, Usage,
};
use crate::journal::{Durability, Journal, RunId};
use crate::plan::{OnFailure, Step, StepId};
use crate::reference;
use crate::scheduler::{Scheduler, StepState};

use super::History;

/// The label of a fork that says which run it comes from.
const FORKED_FROM: &str = "forked_from";

/// What a fork does differently. Without any, what failed or did not finish is run again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Runs this step again, and all that depends on it.
    pub from: Option<StepId>,
    /// Arguments of that step, by name; a dot leads into an object.
    pub set: BTreeMap<String, Value>,
    /// Steps that are left out. What depends on them sees a null.
    pub without: Vec<StepId>,
}

/// Why there can be no such fork.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ForkError {
    /// There is no such step.
    #[error("the run has no step `{step}`")]
    UnknownStep {
        /// The step.
        step: StepId,
    },
    /// The step has never been run.
    #[error("step `{step}` never ran, so there is nothing to go back to")]
    NeverRan {
        /// The step.
        step: StepId,
    },
    /// The step belongs to what another one became.
    #[error("step `{step}` is part of what `{parent}` became, and is only run again with it")]
    PartOfExpansion {
        /// The step.
        step: StepId,
        /// The step that became a plan.
        parent: StepId,
    },
    /// An argument cannot be set.
    #[error("argument `{name}` of step `{step}` cannot be set: {why}")]
    Argument {
        /// The step.
        step: StepId,
        /// The argument.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// Everything is finished.
    #[error("every step of the run is finished, so there is nothing to run again")]
    NothingToDo,
    /// There never was a plan.
    #[error("the run never had a plan")]
    NoPlan,
}

impl ForkError {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownStep { .. } => "journal.unknown_step",
            _ => "journal.no_fork",
        }
    }
}

/// A run that goes on from another one. Nothing of it is written before it is [saved](Self::save).
#[derive(Clone, Debug)]
pub struct Fork {
    events: Vec<RunEvent>,
    /// Steps whose results are taken over.
    pub reused: Vec<StepId>,
    /// Steps that ran before and will run again.
    pub again: Vec<StepId>,
    /// Steps that will run for the first time.
    pub first: Vec<StepId>,
    /// Steps that are left out.
    pub left_out: Vec<StepId>,
}

impl Fork {
    /// Writes the fork down as a new run, which is to be resumed.
    ///
    /// # Errors
    ///
    /// If there is a run of this name already, or the journal fails.
    pub async fn save(&self, journal: &dyn Journal, run: &RunId) -> Result<(), JournalError> {
        let claim = journal.create(run).await?;
        journal.append(&claim, &self.events, Durability::Power).await
    }
}

impl History {
    /// A run that goes on from this one.
    ///
    /// # Errors
    ///
    /// If the changes make no sense, or there is nothing to do.
    pub fn fork(&self, changes: &Changes) -> Result<Fork, ForkError> {
        let mut draft = Draft::new(self)?;
        let from = changes.from.as_ref().map(|id| draft.ran(id)).transpose()?;
        let without = changes.without.iter().map(|id| draft.member(id)).collect::<Result<BTreeSet<_>, _>>()?;
        let plan = self.events.iter().rev().find_map(|event| match &event.kind {
            RunEventKind::PlanAccepted { graft, .. } => Some(graft),
            _ => None,
        });
        let plan = plan.ok_or(ForkError::NoPlan)?;
        let again = draft.again(from, &without);
        if again.is_empty() {
            return Err(ForkError::NothingToDo);
        }
        let graft = draft.graft(&again, from, &without, &changes.set, plan)?;
        let fork = Fork {
            reused: draft
                .members()
                .filter(|number| !again.contains_key(number))
                .map(|number| self.id(number))
                .collect(),
            again: draft.named(&again, &without, true),
            first: draft.named(&again, &without, false),
            left_out: without.iter().map(|number| self.id(*number)).collect(),
            events: Vec::new(),
        };
        draft.accept(graft);
        for number in without {
            draft.leave_out(again[&number]);
        }
        Ok(Fork { events: draft.events, ..fork })
    }
}

/// The history of a fork while it is written.
struct Draft<'a> {
    history: &'a History,
    /// The run before its end.
    scheduler: Scheduler,
    events: Vec<RunEvent>,
}

impl<'a> Draft<'a> {
    fn new(history: &'a History) -> Result<Self, ForkError> {
        let mut events: Vec<RunEvent> = history.events.iter().map(without_usage).collect();
        events.pop_if(|last| matches!(last.kind, RunEventKind::RunFinished { .. }));
        if let Some(RunEventKind::RunStarted { start }) = events.first_mut().map(|event| &mut event.kind) {
            let mut forked = RunStart::clone(start);
            forked.labels.insert(FORKED_FROM.to_owned(), history.report.run().as_str().into());
            *start = Arc::new(forked);
        }
        // It is a part of what was replayed when the history was loaded.
        let scheduler = Scheduler::replay(&events).map_err(|_| ForkError::NoPlan)?;
        Ok(Self { history, scheduler, events })
    }

    fn members(&self) -> impl Iterator<Item = StepNumber> {
        self.scheduler.members().map(|step| step.number)
    }

    /// The number of a step of the plan.
    fn member(&self, id: &StepId) -> Result<StepNumber, ForkError> {
        let step = self.scheduler.current(id.as_str()).and_then(|number| self.scheduler.step(number));
        match step {
            Some(step) if step.parent.is_some() => Err(ForkError::PartOfExpansion {
                step: id.clone(),
                parent: step.parent.map_or_else(|| id.clone(), |parent| self.history.id(parent)),
            }),
            Some(step) if step.member => Ok(step.number),
            _ => Err(ForkError::UnknownStep { step: id.clone() }),
        }
    }

    /// The number of a step that has run.
    fn ran(&self, id: &StepId) -> Result<StepNumber, ForkError> {
        let number = self.member(id)?;
        if self.has_run(number) { Ok(number) } else { Err(ForkError::NeverRan { step: id.clone() }) }
    }

    fn has_run(&self, number: StepNumber) -> bool {
        self.history.report.step_by_number(number).is_some_and(|step| !step.attempts.is_empty())
    }

    fn is_finished(&self, number: StepNumber) -> bool {
        self.scheduler.step(number).is_some_and(|step| match step.state {
            StepState::Succeeded | StepState::Skipped(SkipReason::Condition) => true,
            StepState::Failed => step.definition.on_failure == OnFailure::Continue,
            _ => false,
        })
    }

    /// The steps that have to run, with their new numbers: in ascending order, so that each still has a higher number
    /// than what it depends on.
    fn again(&self, from: Option<StepNumber>, without: &BTreeSet<StepNumber>) -> BTreeMap<StepNumber, StepNumber> {
        let mut again = BTreeMap::new();
        let mut next = self.scheduler.step_count();
        for number in self.members() {
            let is_changed = from == Some(number) || without.contains(&number) || !self.is_finished(number);
            if is_changed || self.scheduler.dependencies(number).iter().any(|step| again.contains_key(step)) {
                again.insert(number, next);
                next += 1;
            }
        }
        again
    }

    fn graft(
        &self,
        again: &BTreeMap<StepNumber, StepNumber>,
        from: Option<StepNumber>,
        without: &BTreeSet<StepNumber>,
        set: &BTreeMap<String, Value>,
        plan: &Graft,
    ) -> Result<Graft, ForkError> {
        let renamed = |number: &StepNumber| again.get(number).copied().unwrap_or(*number);
        let mut added = Vec::new();
        for number in again.keys() {
            let Some(step) = self.scheduler.step(*number) else { continue };
            let definition = match from {
                Some(from) if from == *number => Arc::new(with_arguments(step.definition, set)?),
                _ => Arc::clone(step.definition),
            };
            // What is left out waits for nothing.
            let waits_for = if without.contains(number) { &[] } else { self.scheduler.dependencies(*number) };
            let dependencies = waits_for.iter().map(renamed).collect();
            added.push(Added { id: None, step: definition, dependencies });
        }
        let is_settled = |number: &StepNumber| {
            self.scheduler.step(*number).is_some_and(|step| {
                use StepState as State;
                matches!(step.state, State::Succeeded | State::Failed | State::Skipped(_) | State::Superseded)
            })
        };
        let (left, mut closed): (Vec<_>, Vec<_>) = again.keys().copied().partition(is_settled);
        closed.extend(self.inside(&closed).into_iter().filter(|number| !is_settled(number)));
        Ok(Graft {
            first: self.scheduler.step_count(),
            added,
            left,
            closed,
            pools: plan.pools.clone(),
            answer: match &plan.answer {
                AnswerFrom::Open => AnswerFrom::Open,
                AnswerFrom::Step(number) => AnswerFrom::Step(renamed(number)),
                AnswerFrom::Sinks(numbers) => AnswerFrom::Sinks(numbers.iter().map(renamed).collect()),
            },
            ..Graft::default()
        })
    }

    /// The steps of the expansions of these steps, and of theirs. A child has a higher number than its parent.
    fn inside(&self, parents: &[StepNumber]) -> Vec<StepNumber> {
        let mut inside: BTreeSet<StepNumber> = parents.iter().copied().collect();
        let mut children = Vec::new();
        for number in 0..self.scheduler.step_count() {
            let parent = self.scheduler.step(number).and_then(|step| step.parent);
            if parent.is_some_and(|parent| inside.contains(&parent)) {
                inside.insert(number);
                children.push(number);
            }
        }
        children
    }

    /// The ids of steps that have to run, as far as they have run before, or have not.
    fn named(
        &self,
        again: &BTreeMap<StepNumber, StepNumber>,
        without: &BTreeSet<StepNumber>,
        have_run: bool,
    ) -> Vec<StepId> {
        let wanted = again.keys().filter(|number| !without.contains(number) && self.has_run(**number) == have_run);
        wanted.map(|number| self.history.id(*number)).collect()
    }

    /// Writes the new plan down. Nobody was asked for it, so it does not count as a revision of the planner's.
    fn accept(&mut self, graft: Graft) {
        let mut request = 0;
        let mut pending = None;
        for event in &self.events {
            match &event.kind {
                RunEventKind::PlanRequested { request: asked, .. } => {
                    request = asked + 1;
                    pending = Some(*asked);
                }
                RunEventKind::PlanAccepted { .. } | RunEventKind::PlanRejected { .. } => pending = None,
                _ => {}
            }
        }
        if let Some(request) = pending {
            let rejection = Arc::new(Rejection { given_up: true, ..Rejection::default() });
            self.push(RunEventKind::PlanRejected { request, rejection, usage: Usage::default() });
        }
        let revision = self.scheduler.revision() + 1;
        self.push(RunEventKind::PlanRequested { request, revision, reason: PlanReason::First, reported: Vec::new() });
        let graft = Arc::new(graft);
        self.push(RunEventKind::PlanAccepted { request, revision, graft, usage: Usage::default() });
    }

    /// Has a step skipped as one whose condition is false, so that its dependents see a null.
    fn leave_out(&mut self, step: StepNumber) {
        let started = |event: &RunEvent| matches!(event.kind, RunEventKind::AttemptStarted { .. });
        let attempt = self.events.iter().filter(|event| started(event)).count() as u32;
        self.push(RunEventKind::AttemptStarted { step, attempt });
        self.push(RunEventKind::StepSkipped { step, because: SkipReason::Condition, attempt: Some(attempt) });
    }

    fn push(&mut self, kind: RunEventKind) {
        let at = self.events.last().map(|last| last.at).unwrap_or_default();
        self.events.push(RunEvent { seq: self.events.len() as u64, at, kind });
    }
}

/// What was paid for in one run is not paid for again in the other.
fn without_usage(event: &RunEvent) -> RunEvent {
    let mut event = event.clone();
    if let Some(usage) = event.kind.usage_mut() {
        *usage = Usage::default();
    }
    event
}

fn with_arguments(step: &Step, set: &BTreeMap<String, Value>) -> Result<Step, ForkError> {
    let mut changed = step.clone();
    for (name, value) in set {
        let error = |why| ForkError::Argument { step: step.id.clone(), name: name.clone(), why };
        if reference::has_references(value) {
            return Err(error("a value set here cannot refer to other steps"));
        }
        let mut place = &mut changed.args;
        for part in name.split('.') {
            if place.is_null() {
                *place = Value::Object(Default::default());
            }
            let fields = place.as_object_mut().ok_or_else(|| error("what it would be a part of is no object"))?;
            place = fields.entry(part).or_insert(Value::Null);
        }
        *place = value.clone();
    }
    Ok(changed)
}
