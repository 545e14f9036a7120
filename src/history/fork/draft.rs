//! The history of a fork while it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::dag::dependencies;
use crate::depth::is_too_deep;
use crate::event::{
    Added, AnswerFrom, Graft, PlanReason, Rejection, RequestNumber, RunEvent, RunEventKind, RunStart, SkipReason,
    StepNumber, Usage,
};
use crate::journal::FORKED_FROM;
use crate::plan::{OnFailure, Step, StepId};
use crate::reference;
use crate::scheduler::{Scheduler, StepState};

use super::extent::Extent;
use super::{ForkError, History};

/// A run before its end, and what is added to it.
pub(super) struct Draft<'a> {
    history: &'a History,
    /// Follows all events.
    scheduler: Scheduler,
    events: Vec<RunEvent>,
    /// The plan as it was accepted last, if one was.
    plan: Option<Arc<Graft>>,
    /// What steps became.
    expansions: BTreeMap<StepNumber, Arc<Graft>>,
    /// The members of the plan, and of what steps became, in ascending order.
    members: BTreeMap<Option<StepNumber>, Vec<StepNumber>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(history: &'a History) -> Result<Self, ForkError> {
        let mut events: Vec<RunEvent> = history.events.iter().map(without_usage).collect();
        let is_end = |event: &RunEvent| matches!(event.kind, RunEventKind::RunFinished { .. });
        events.truncate(events.iter().rposition(is_end).unwrap_or(events.len()));
        if let Some(RunEventKind::RunStarted { start }) = events.first_mut().map(|event| &mut event.kind) {
            let mut forked = RunStart::clone(start);
            forked.labels.insert(FORKED_FROM.to_owned(), history.report.run().as_str().into());
            *start = Arc::new(forked);
        }
        // It is a part of what was replayed when the history was loaded.
        let scheduler = Scheduler::replay(&events).map_err(|_| ForkError::NoPlan)?;
        let mut plan = None;
        let mut expansions = BTreeMap::new();
        for event in &events {
            match &event.kind {
                RunEventKind::PlanAccepted { graft, .. } => plan = Some(Arc::clone(graft)),
                RunEventKind::StepExpanded { step, graft, .. } => drop(expansions.insert(*step, Arc::clone(graft))),
                _ => {}
            }
        }
        let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let steps = (0..scheduler.step_count()).filter_map(|number| scheduler.step(number));
        // Drafts are of an answer that was never accepted.
        for step in steps.filter(|step| step.member && !step.draft) {
            members.entry(step.parent).or_default().push(step.number);
        }
        Ok(Self { history, scheduler, events, plan, expansions, members })
    }

    pub(super) fn into_events(self) -> Vec<RunEvent> {
        self.events
    }

    pub(super) fn has_plan(&self) -> bool {
        self.plan.is_some()
    }

    pub(super) fn step_count(&self) -> u32 {
        self.scheduler.step_count()
    }

    pub(super) fn dependencies(&self, number: StepNumber) -> &[StepNumber] {
        self.scheduler.dependencies(number)
    }

    /// The members of the plan, or of what a step became.
    pub(super) fn members(&self, scope: Option<StepNumber>) -> &[StepNumber] {
        self.members.get(&scope).map_or(&[], Vec::as_slice)
    }

    pub(super) fn expansion(&self, number: StepNumber) -> Option<&Arc<Graft>> {
        self.expansions.get(&number)
    }

    /// The step whose output is that of the plan, or of what a step became, if it names one.
    pub(super) fn answer(&self, scope: Option<StepNumber>) -> Option<StepNumber> {
        let graft = scope.map_or(self.plan.as_ref(), |parent| self.expansion(parent))?;
        match graft.answer {
            AnswerFrom::Step(step) => Some(step),
            AnswerFrom::Open | AnswerFrom::Sinks(_) => None,
        }
    }

    pub(super) fn id(&self, number: StepNumber) -> Option<&StepId> {
        Some(self.scheduler.step(number)?.id)
    }

    pub(super) fn parent(&self, number: StepNumber) -> Option<StepNumber> {
        self.scheduler.step(number)?.parent
    }

    /// The step that became the plan that this one is part of, and so on, outwards.
    pub(super) fn parents(&self, number: StepNumber) -> impl Iterator<Item = StepNumber> {
        std::iter::successors(self.parent(number), |parent| self.parent(*parent))
    }

    /// The number of a step of the plan, or of what one of its steps became.
    pub(super) fn member(&self, id: &StepId) -> Result<StepNumber, ForkError> {
        let number = self.scheduler.current(id.as_str());
        let is_member = |number| self.scheduler.step(number).is_some_and(|step| step.member && !step.draft);
        number
            .filter(|number| is_member(*number) && self.parents(*number).all(is_member))
            .ok_or_else(|| ForkError::UnknownStep { step: id.clone() })
    }

    /// The number of a step that has run.
    pub(super) fn ran(&self, id: &StepId) -> Result<StepNumber, ForkError> {
        let number = self.member(id)?;
        match self.scheduler.step(number).map(|step| step.state) {
            Some(StepState::Skipped(SkipReason::LeftOut)) => Err(ForkError::LeftOut { step: id.clone() }),
            _ if self.has_run(number) => Ok(number),
            _ => Err(ForkError::NeverRan { step: id.clone() }),
        }
    }

    pub(super) fn has_run(&self, number: StepNumber) -> bool {
        self.history.report.step_by_number(number).is_some_and(|step| !step.attempts.is_empty())
    }

    pub(super) fn is_finished(&self, number: StepNumber) -> bool {
        self.scheduler.step(number).is_some_and(|step| match step.state {
            StepState::Succeeded => true,
            StepState::Skipped(because) => because.failed().is_none(),
            StepState::Failed => step.definition.on_failure == OnFailure::Continue,
            _ => false,
        })
    }

    /// Whether nobody knows if a step has taken effect that must not do so twice.
    pub(super) fn is_undecided(&self, number: StepNumber) -> bool {
        self.scheduler.step(number).is_some_and(|step| match step.state {
            StepState::Unknown(_) => true,
            StepState::Running(_) => self.scheduler.may_have_acted(number),
            _ => false,
        })
    }

    pub(super) fn undecided(&self, step: StepNumber) -> ForkError {
        ForkError::Undecided { step: self.history.id(step) }
    }

    pub(super) fn part_of_expansion(&self, step: StepNumber) -> ForkError {
        let parent = self.parent(step).unwrap_or(step);
        ForkError::PartOfExpansion { step: self.history.id(step), parent: self.history.id(parent) }
    }

    /// Writes down the plan with the new numbers, then what its steps become, and what is left out.
    pub(super) fn write(
        &mut self,
        extent: &Extent,
        from: Option<StepNumber>,
        without: &BTreeSet<StepNumber>,
        set: &BTreeMap<String, Value>,
    ) -> Result<(), ForkError> {
        let add = |number: &StepNumber, has_own_id: bool| -> Result<Added, ForkError> {
            let step = self.scheduler.step(*number).ok_or(ForkError::NoPlan)?;
            let definition = match from {
                Some(from) if from == *number => Arc::new(with_arguments(step.definition, set)?),
                _ => Arc::clone(step.definition),
            };
            // What is left out waits for nothing.
            let waits_for = if without.contains(number) { &[] } else { self.dependencies(*number) };
            let dependencies = waits_for.iter().map(|step| extent.renamed(*step)).collect();
            Ok(Added { id: has_own_id.then(|| step.id.clone()), step: definition, dependencies })
        };
        let mut first = self.step_count();
        let mut graft = |scope: Option<StepNumber>, was: &Graft| -> Result<Graft, ForkError> {
            let is_again = |number: &StepNumber| extent.again.contains_key(number);
            let is_forgotten = |step: &StepNumber| extent.whole.contains(step) && self.scheduler.has_expanded(*step);
            let (again, kept): (Vec<StepNumber>, Vec<StepNumber>) =
                self.members(scope).iter().partition(|n| is_again(n));
            let graft = Graft {
                scope: scope.map(|parent| extent.renamed(parent)),
                first,
                added: again.iter().map(|number| add(number, scope.is_some())).collect::<Result<_, _>>()?,
                joined: if scope.is_some() { kept } else { Vec::new() },
                // What a step becomes that is run again as a whole is run again, too.
                forgotten: again.iter().copied().filter(is_forgotten).collect(),
                answer: extent.answer(&was.answer),
                ..Graft::default()
            };
            first += graft.added.len() as u32;
            Ok(graft)
        };
        let (left, closed) = self.replaced(extent);
        let was = self.plan.as_ref().ok_or(ForkError::NoPlan)?;
        let plan = Graft { left, closed, pools: was.pools.clone(), ..graft(None, was)? };
        let mut expansions = Vec::new();
        for parent in &extent.reopened {
            if let Some(was) = self.expansion(*parent) {
                expansions.push((extent.renamed(*parent), graft(Some(*parent), was)?));
            }
        }
        self.accept(plan)?;
        for (step, graft) in expansions {
            let (attempt, graft) = (self.start(step)?, Arc::new(graft));
            self.push(RunEventKind::StepExpanded { step, attempt, graft, usage: Usage::default() })?;
        }
        for step in without {
            let step = extent.renamed(*step);
            let attempt = Some(self.start(step)?);
            self.push(RunEventKind::StepSkipped { step, because: SkipReason::LeftOut, attempt })?;
        }
        Ok(())
    }

    /// Members of the plan that get a new number: those that are over, and those that are not, with all that is going on
    /// inside of them.
    fn replaced(&self, extent: &Extent) -> (Vec<StepNumber>, Vec<StepNumber>) {
        let is_settled = |number: &StepNumber| self.scheduler.step(*number).is_some_and(|step| step.state.is_settled());
        let replaced = self.members(None).iter().copied().filter(|number| extent.again.contains_key(number));
        let (left, mut closed): (Vec<_>, Vec<_>) = replaced.partition(is_settled);
        let mut next = 0;
        while let Some(parent) = closed.get(next) {
            closed.extend(self.members(Some(*parent)).iter().copied().filter(|number| !is_settled(number)));
            next += 1;
        }
        (left, closed)
    }

    /// Writes the new plan down. Nobody was asked for it, so it does not count as a revision of the planner's.
    fn accept(&mut self, graft: Graft) -> Result<(), ForkError> {
        let request = self.request()?;
        let revision = self.scheduler.revision() + 1;
        let graft = Arc::new(graft);
        self.push(RunEventKind::PlanAccepted { request, revision, graft, usage: Usage::default() })
    }

    /// Writes down that a plan is asked for, as at the beginning of a run.
    pub(super) fn request(&mut self) -> Result<RequestNumber, ForkError> {
        // What was drafted of an answer that was put off, or sent back, ends with the request for it.
        if let Some((reason, reported)) = self.scheduler.request_to_repeat() {
            self.ask(reason, reported)?;
        }
        if let Some(request) = self.scheduler.pending_request() {
            let (closed, left) = self.scheduler.rejected_drafts(true);
            let rejection = Arc::new(Rejection { given_up: true, closed, left, ..Rejection::default() });
            self.push(RunEventKind::PlanRejected { request, rejection, usage: Usage::default() })?;
        }
        self.ask(PlanReason::First, Vec::new())
    }

    fn ask(&mut self, reason: PlanReason, reported: Vec<StepNumber>) -> Result<RequestNumber, ForkError> {
        let (request, revision) = (self.scheduler.next_request(), self.scheduler.revision() + 1);
        self.push(RunEventKind::PlanRequested { request, revision, reason, reported })?;
        Ok(request)
    }

    /// Has a step's next attempt start.
    fn start(&mut self, step: StepNumber) -> Result<u32, ForkError> {
        let attempt = self.scheduler.attempts();
        self.push(RunEventKind::AttemptStarted { step, attempt })?;
        Ok(attempt)
    }

    /// Writes an event down that is possible where it stands.
    fn push(&mut self, kind: RunEventKind) -> Result<(), ForkError> {
        let at = self.events.last().map(|last| last.at).unwrap_or_default();
        let event = RunEvent { seq: self.events.len() as u64, at, kind };
        self.scheduler.follow(&event).map_err(|error| ForkError::Unsound { message: error.to_string() })?;
        self.events.push(event);
        Ok(())
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

const TOO_DEEP: &str = "it would nest too deep";

fn with_arguments(step: &Step, set: &BTreeMap<String, Value>) -> Result<Step, ForkError> {
    let mut changed = step.clone();
    for (name, value) in set {
        let error = |why| ForkError::Argument { step: step.id.clone(), name: name.clone(), why };
        if name.split('.').count() > reference::MAX_DEPTH || is_too_deep(value) {
            return Err(error(TOO_DEEP));
        }
        if reference::has_references(value) {
            return Err(error("a value set here can neither refer to other steps nor nest too deep"));
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
        if is_too_deep(&changed.args) {
            return Err(error(TOO_DEEP));
        }
    }
    // What it does not refer to any more, it comes after as before: the plan keeps its shape.
    let (before, after) = (dependencies(step), dependencies(&changed));
    if before.iter().any(|id| !after.contains(id)) {
        let mut seen = BTreeSet::new();
        changed.depends_on = before.into_iter().filter(|id| seen.insert(id.clone())).collect();
    }
    Ok(changed)
}
