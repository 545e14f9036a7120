//! The checker's own books: what the record says about steps, requests and attempts, kept without the scheduler.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use plandag::{
    AttemptNumber, Effect, Graft, OnInterrupt, Output, PlanReason, Policy, RequestNumber, RunStart, Step, StepError,
    StepId, StepNumber, Timestamp, ToolSpec,
};
use serde_json::Value;

use super::gates::Gate;
use super::plan::{dependencies, same_content};

/// The state of a step, as far as the promises speak of it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Waits for dependencies, or for a slot.
    Open,
    Running(AttemptNumber),
    Backoff(Timestamp),
    Expanded,
    Unknown,
    /// Waits for a person to approve it.
    Unapproved,
    Succeeded(Output),
    /// Failed; its dependents run all the same.
    Covered(Arc<StepError>),
    Failed,
    /// Skipped because this step failed.
    SkippedFor(StepNumber),
    /// Its own condition was false.
    SkippedItself,
    Superseded,
}

impl State {
    /// It can never change again.
    pub fn is_terminal(&self) -> bool {
        use State::{Backoff, Expanded, Open, Running, Unapproved, Unknown};
        !matches!(self, Open | Running(_) | Backoff(_) | Expanded | Unknown | Unapproved)
    }

    /// Its dependents may run.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Covered(_) | Self::SkippedItself)
    }

    /// It is done, or may still be: it counts against the limit on steps.
    pub fn takes_room(&self) -> bool {
        !self.is_fatal() && *self != Self::Superseded
    }

    /// Its dependents cannot run.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed | Self::SkippedFor(_))
    }
}

/// A step by number.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: StepId,
    /// Content and current settings.
    pub definition: Arc<Step>,
    pub dependencies: Vec<StepNumber>,
    pub parent: Option<StepNumber>,
    pub state: State,
    pub member: bool,
    pub draft: bool,
    /// The planner has been told of its failure.
    pub reported: bool,
    /// Attempts that count.
    pub tries: u32,
    pub interruptions: u32,
    /// An attempt that acts was cut off, and nobody has decided about it.
    pub in_doubt: bool,
    /// Its plan was written with text from outside in view.
    pub written_in_view: bool,
    /// A fork has taken it up: whatever was finished of it is to be done again.
    pub is_forked: bool,
    /// How often its tool was asked for another plan.
    pub other_plans: u32,
    /// A fork has left it out.
    pub is_left_out: bool,
    /// A person, or the policy, has let it act.
    pub approved: bool,
    /// How many launches there had been when it could have started.
    pub startable_since: Option<u64>,
    /// It was redefined, so what its expansion had found out is forgotten.
    pub forgotten: bool,
    /// It was once replaced by its plan.
    pub was_expanded: bool,
}

/// The planner is being asked.
#[derive(Clone, Debug)]
pub struct Pending {
    pub request: RequestNumber,
    pub revision: u32,
    pub reason: PlanReason,
    pub reported: Vec<StepNumber>,
}

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    New,
    Running,
    Stopping,
    Stopped,
    Finished,
}

/// Everything that can be known from the record.
#[derive(Clone, Debug)]
pub struct Books {
    pub start: RunStart,
    pub policy: Policy,
    pub pools: BTreeMap<String, u32>,
    pub phase: Phase,
    pub steps: Vec<Record>,
    /// The number that an id stands for.
    pub current: HashMap<StepId, StepNumber>,
    /// Attempts that the record says are running.
    pub attempts: BTreeMap<AttemptNumber, StepNumber>,
    pub pending: Option<Pending>,
    /// Numbers that are neither settled nor under way: candidates for a launch.
    pub open: BTreeSet<StepNumber>,
    /// How many launches there have been, and how many of them have called nothing.
    pub launches: u64,
    pub no_calls: u64,
    /// The named answer of the root plan, if it names one.
    pub answer: Option<StepId>,
    /// Servers that have turned calls away, by name; that of a planner without one is empty.
    pub gates: BTreeMap<String, Gate>,
    /// An attempt has brought in text from outside.
    pub seen: bool,
    /// That was so when the planner was asked last.
    pub planner_saw: bool,
    /// When a fork began, and how many steps there were.
    pub own_at: Timestamp,
    pub own_steps: usize,
    /// What is written was so when the fork began.
    pub is_forking: bool,
    /// Steps whose expansions it has forgotten then.
    pub own_forgotten: BTreeSet<StepId>,
}

impl Books {
    /// Whether as many tools were called, or may have been, as the policy allows.
    pub fn is_called_enough(&self) -> bool {
        self.policy.limits.attempts.is_some_and(|most| self.launches - self.no_calls >= u64::from(most))
    }

    /// The books of a run that has not begun.
    pub fn new(start: &RunStart) -> Self {
        Self {
            start: start.clone(),
            policy: start.policy.clone(),
            pools: start.policy.pools.clone(),
            phase: Phase::New,
            steps: Vec::new(),
            current: HashMap::new(),
            attempts: BTreeMap::new(),
            pending: None,
            open: BTreeSet::new(),
            launches: 0,
            no_calls: 0,
            answer: None,
            gates: BTreeMap::new(),
            seen: false,
            planner_saw: false,
            own_at: Timestamp::ZERO,
            own_steps: 0,
            is_forking: false,
            own_forgotten: BTreeSet::new(),
        }
    }

    pub fn step(&self, number: StepNumber) -> &Record {
        &self.steps[number as usize]
    }

    pub fn step_mut(&mut self, number: StepNumber) -> &mut Record {
        &mut self.steps[number as usize]
    }

    pub fn set_state(&mut self, number: StepNumber, state: State) {
        if state == State::Open {
            self.open.insert(number);
        } else {
            self.open.remove(&number);
            self.step_mut(number).startable_since = None;
        }
        let was_running = matches!(self.step(number).state, State::Running(_));
        let has_succeeded = matches!(state, State::Succeeded(_) | State::Expanded);
        self.step_mut(number).state = state;
        if was_running && has_succeeded {
            self.answered(number);
        }
    }

    pub fn tool_of(&self, step: &Step) -> Option<&ToolSpec> {
        let name = step.tool.as_deref().or(self.start.default_tool.as_deref())?;
        self.start.tools.iter().find(|tool| tool.name == name)
    }

    /// Whether an attempt of it must not be repeated unasked.
    pub fn must_ask(&self, step: &Step) -> bool {
        let acts = self.tool_of(step).is_some_and(|tool| tool.effect == Effect::Acts && !tool.idempotent);
        acts && step.on_interrupt == OnInterrupt::Ask
    }

    /// What an attempt of a step takes from pools with a size.
    pub fn needs(&self, step: &Step) -> Vec<(String, u32)> {
        let uses = if step.uses.is_empty() {
            self.tool_of(step).map(|tool| (tool.name.clone(), 1)).into_iter().collect()
        } else {
            step.uses.clone()
        };
        uses.into_iter().filter(|(pool, _)| self.pools.contains_key(pool)).collect()
    }

    pub fn dependencies_are_finished(&self, number: StepNumber) -> bool {
        self.step(number).dependencies.iter().all(|&before| self.step(before).state.is_finished())
    }

    /// An acting step of a plan that is not accepted yet.
    pub fn is_held(&self, number: StepNumber) -> bool {
        let acts = self.tool_of(&self.step(number).definition).is_some_and(|tool| tool.effect == Effect::Acts);
        let is_draft = |step: StepNumber| self.step(step).draft;
        acts && (is_draft(number) || self.ancestors(number).into_iter().any(is_draft))
    }

    /// The steps whose expansions it is in, innermost first.
    pub fn ancestors(&self, number: StepNumber) -> Vec<StepNumber> {
        std::iter::successors(self.step(number).parent, |&parent| self.step(parent).parent).collect()
    }

    /// How many steps count against the limit: what a fork has taken over does not.
    pub fn room_taken(&self) -> usize {
        self.steps.iter().skip(self.own_steps).filter(|step| step.state.takes_room()).count()
    }

    pub fn children(&self, parent: Option<StepNumber>) -> impl Iterator<Item = StepNumber> {
        (0..).zip(&self.steps).filter(move |(_, step)| step.parent == parent && step.member).map(|(number, _)| number)
    }

    /// The newest finished number of an id.
    pub fn last_finished(&self, id: &StepId) -> Option<StepNumber> {
        let of_id = (0..).zip(&self.steps).filter(|(_, step)| step.id == *id && step.state.is_finished());
        of_id.map(|(number, _)| number).last()
    }

    /// Whether a fork has taken up a finished step to do it again.
    pub fn is_done_again(&self, finished: StepNumber) -> bool {
        let id = &self.step(finished).id;
        self.steps.iter().skip(finished as usize + 1).any(|step| step.is_forked && step.id == *id)
    }

    /// Whether two numbers do the same with the same inputs, and so do all that they are part of.
    pub fn same_work(&self, one: StepNumber, other: StepNumber) -> bool {
        let (mut one, mut other) = (one, other);
        loop {
            if one == other {
                return true;
            }
            let (a, b) = (self.step(one), self.step(other));
            let inputs = |step: &Record| step.dependencies.iter().copied().collect::<BTreeSet<_>>();
            if !same_content(&a.definition, &b.definition) || a.id != b.id || inputs(a) != inputs(b) {
                return false;
            }
            match (a.parent, b.parent) {
                (None, None) => return true,
                (Some(a), Some(b)) => (one, other) = (a, b),
                _ => return false,
            }
        }
    }

    /// Whether the results inside the expansion that a number is part of were forgotten.
    pub fn is_forgotten(&self, number: StepNumber) -> bool {
        self.ancestors(number).into_iter().any(|ancestor| self.step(ancestor).forgotten)
    }

    /// Whether nothing inside an expansion is open.
    pub fn is_done_inside(&self, parent: StepNumber) -> bool {
        self.children(Some(parent)).all(|child| self.step(child).state.is_terminal())
    }

    /// Whether the tool of an expanded step is to be asked for another plan, now that nothing inside is open.
    pub fn wants_another_plan(&self, parent: StepNumber) -> bool {
        let step = self.step(parent);
        let has_others = self.tool_of(&step.definition).is_some_and(|tool| tool.replans);
        let has_failed = || self.children(Some(parent)).any(|child| self.step(child).state == State::Failed);
        has_others && step.other_plans < self.policy.max_replans && has_failed()
    }

    /// The full id, in an expansion of `parent`, of what its plan calls `id`.
    pub fn full_id(&self, parent: Option<StepNumber>, id: &StepId) -> StepId {
        match parent {
            Some(parent) => StepId::new(format!("{}/{id}", self.step(parent).id)),
            None => id.clone(),
        }
    }

    /// The values of everything that a step depends on, by the ids it knows.
    pub fn values_for(&self, step: StepNumber) -> BTreeMap<StepId, Value> {
        let record = self.step(step);
        let values = dependencies(&record.definition).into_iter().map(|id| {
            let full = self.full_id(record.parent, &id);
            let number = record.dependencies.iter().find(|&&before| self.step(before).id == full);
            (id, number.map_or(Value::Null, |&number| self.value(number)))
        });
        values.collect()
    }

    /// The output of a step with all its parts.
    fn value(&self, step: StepNumber) -> Value {
        match &self.step(step).state {
            State::Succeeded(Output::Inline(value)) => (**value).clone(),
            State::Succeeded(Output::Gathered(parts)) => {
                Value::Object(parts.iter().map(|(id, step)| (id.to_string(), self.value(*step))).collect())
            }
            _ => Value::Null,
        }
    }

    /// Obeys a graft, and says what about it cannot be.
    pub fn graft(&mut self, graft: &Graft, draft: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for (pool, size) in &graft.pools {
            self.pools.entry(pool.clone()).or_insert(*size);
        }
        if graft.first as usize != self.steps.len() && !graft.added.is_empty() {
            wrong.push(format!("adds from {}, not from {}", graft.first, self.steps.len()));
            return wrong;
        }
        for &number in &graft.closed {
            if self.step(number).state.is_terminal() {
                wrong.push(format!("closes step {number}, which is {:?}", self.step(number).state));
            }
            self.set_state(number, State::Superseded);
            self.step_mut(number).member = false;
            self.step_mut(number).draft = false;
        }
        for &number in &graft.left {
            if !self.step(number).state.is_terminal() {
                wrong.push(format!("lets go of step {number}, which is not settled"));
            }
            self.step_mut(number).member = false;
            self.step_mut(number).draft = false;
        }
        for &number in &graft.forgotten {
            let id = self.step(number).id.clone();
            self.own_forgotten.extend(self.is_forking.then(|| id.clone()));
            for step in self.steps.iter_mut().filter(|step| step.id == id) {
                step.forgotten = true;
            }
        }
        for (number, definition) in &graft.settings {
            if !same_content(&self.step(*number).definition, definition) {
                wrong.push(format!("changes more than the settings of step {number}"));
            }
            self.step_mut(*number).definition = Arc::clone(definition);
        }
        for &number in &graft.joined {
            let id = self.step(number).id.clone();
            let step = self.step_mut(number);
            (step.member, step.draft, step.parent) = (true, false, graft.scope);
            self.current.insert(id, number);
        }
        let seen = graft.scope.map_or(self.planner_saw, |parent| self.may_give(parent));
        for (added, number) in graft.added.iter().zip(graft.first..) {
            let id = added.id.clone().unwrap_or_else(|| added.step.id.clone());
            if id != self.full_id(graft.scope, &added.step.id) {
                wrong.push(format!("calls `{}` of {:?} `{id}`", added.step.id, graft.scope));
            }
            let written_in_view = match self.is_forking {
                true => self.current.get(&id).is_some_and(|&before| self.step(before).written_in_view),
                false => seen,
            };
            self.steps.push(Record {
                id: id.clone(),
                definition: Arc::clone(&added.step),
                dependencies: added.dependencies.to_vec(),
                parent: graft.scope,
                state: State::Open,
                member: true,
                draft,
                reported: false,
                tries: 0,
                interruptions: 0,
                in_doubt: false,
                written_in_view,
                is_forked: self.is_forking,
                other_plans: 0,
                is_left_out: false,
                approved: false,
                startable_since: None,
                forgotten: false,
                was_expanded: false,
            });
            self.open.insert(number);
            self.current.insert(id, number);
        }
        for (_, number) in graft.added.iter().zip(graft.first..) {
            wrong.extend(self.wrong_edges(number));
        }
        wrong
    }

    /// Every dependency that the definition names must be one number of that id, and there must be no other.
    fn wrong_edges(&self, number: StepNumber) -> Vec<String> {
        let step = self.step(number);
        let mut wrong = Vec::new();
        if let Some(higher) = step.dependencies.iter().find(|before| **before >= number) {
            wrong.push(format!("step {number} depends on {higher}, which came after it"));
            return wrong;
        }
        let named: BTreeSet<StepId> =
            dependencies(&step.definition).iter().map(|id| self.full_id(step.parent, id)).collect();
        let found: BTreeSet<StepId> = step.dependencies.iter().map(|&before| self.step(before).id.clone()).collect();
        // What is left out waits for nothing.
        let is_left_out = self.is_forking && found.is_empty();
        if !is_left_out && named != found || found.len() != step.dependencies.len() {
            wrong.push(format!("step {number} (`{}`) names {named:?} and depends on {found:?}", step.id));
        }
        // What a fork does again depends on what it did, whatever that is called by now.
        let earlier =
            self.steps[..number as usize].iter().rev().find(|earlier| self.is_forking && earlier.id == step.id);
        let is_known = |before: &&StepNumber| earlier.is_some_and(|earlier| earlier.dependencies.contains(*before));
        for &before in step.dependencies.iter().filter(|before| !is_known(before)) {
            let id = &self.step(before).id;
            if self.current.get(id) != Some(&before) && self.last_finished(id) != Some(before) {
                wrong.push(format!("step {number} depends on {before}, but `{id}` is another step by now"));
            }
            let is_outside = self.step(before).parent != step.parent;
            if is_outside && (!self.step(before).state.is_finished() || self.is_forgotten(before)) {
                wrong.push(format!("step {number} depends on {before}, inside an expansion and not finished there"));
            }
            if self.step(before).state == State::Superseded {
                wrong.push(format!("step {number} depends on {before}, which is superseded"));
            }
        }
        wrong
    }
}
