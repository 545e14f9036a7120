//! The state machine that runs a plan: it decides, others do.
//!
//! [`Scheduler::on_event`] is told what happened and answers with a [`Transition`]: the changes of state, as
//! [`RunEvent`]s, and the [`Command`]s for the driver. There is no clock, task, lock or randomness in here, and all
//! state is changed by one private function, `apply`, which looks at nothing but a `RunEvent`. So a history read
//! back from a journal rebuilds the very same state ([`Scheduler::replay`]), and a resumed run goes through the same
//! code as one that was never interrupted.
//!
//! Every edge of the graph runs from a lower step number to a higher one: a revision never changes the edges of a
//! step that stays. So ascending number order is a topological order, the graph cannot have a cycle, and nothing in
//! here recurses.

mod apply;
mod attempt;
mod edges;
mod expand;
mod gate;
mod graft;
mod hindrance;
mod outcome;
mod outside;
mod pools;
mod queue;
mod rank;
mod ready;
mod rehearse;
mod replan;
mod replay;
mod snapshot;
mod state;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, OnceLock};

use petgraph::graph::{DiGraph, NodeIndex};

use crate::dag::ById;
use crate::error::{StepError, StepErrorKind};
use crate::event::{
    Added, AttemptNumber, Command, Decision, Event, Grafted, Output, PlanReason, Returned, RunEvent, RunEventKind,
    RunOutcome, RunStart, SkipReason, StepNumber, StopReason, Timestamp, Transition, Usage,
};
use crate::plan::{Step, StepId};
use crate::policy::Policy;
use crate::tool::ToolSpec;

use gate::Gates;
pub use hindrance::Hindrance;
use outside::Outside;
use pools::{Pools, Shape};
use state::{Aborting, Beginning, Counts, Grafts, NONE, Name, Node, Request, Scope, Tools};

/// Runs one plan through all its revisions.
///
/// A driver creates it with [`new`](Self::new), sends [`Event::Begin`], and from then on writes down, tells and does
/// what each [`Transition`] says, in that order. It answers every [`Command::Launch`] and every [`Command::Abort`]
/// with exactly one [`Event::AttemptReturned`], once the tool is really gone. Late, doubled and stale answers harm
/// nobody.
#[derive(Clone, Debug)]
pub struct Scheduler {
    start: Arc<RunStart>,
    policy: Arc<Policy>,
    tools: Tools,
    phase: Phase,
    outcome: Option<Arc<RunOutcome>>,
    stop: Option<StopReason>,
    /// When running attempts are ended after a cancellation.
    grace: Option<Timestamp>,
    /// The next event's number, and the last event's instant.
    seq: u64,
    at: Timestamp,

    /// An edge runs from a dependency to its dependent; a node's index is the step's number.
    graph: DiGraph<(), (), u32>,
    nodes: Vec<Node>,
    /// By step: its dependencies that are not finished, and one more while it is held. Of no meaning once it has been
    /// ready. Steps are told in any order that a dependency is finished, and these are small enough to be at hand.
    unmet: Vec<u32>,
    /// By step: what it is expected to take, in milliseconds.
    expected_ms: Vec<u64>,
    /// How often steps were interrupted, of those that were.
    interruptions: BTreeMap<StepNumber, u32>,
    /// What brought the nodes in: ids, definitions and dependencies are looked up here.
    grafts: Grafts,
    /// Whether no step had anything but a value to hand on so far.
    only_values: bool,
    /// Definitions of steps whose settings were changed since.
    changed: BTreeMap<StepNumber, Arc<Step>>,
    /// What ids stand for. Made when it is first asked for: see [`names`](Self::names).
    names: OnceLock<ById<StepId, Name>>,
    root: Scope,
    /// Expansions by the number of the expanded step.
    scopes: BTreeMap<StepNumber, Scope>,
    drafts: Vec<StepNumber>,
    outside: Outside,
    counts: Counts,

    /// The step of every attempt.
    attempts: Vec<StepNumber>,
    /// How many of this run's own attempts turned out to be no calls.
    no_calls: u32,
    aborting: Aborting,
    pools: Pools,
    shapes: Vec<Shape>,
    /// Memory for the choice of the next launch.
    heads: Vec<(queue::Key, usize)>,
    /// How many steps have become ready, where that decides which comes first.
    arrivals: u64,
    /// Whether expansions have come in since the run was last rehearsed, and how many steps were looked at for that.
    is_unrehearsed: bool,
    rehearsed: u64,
    gates: Gates,
    backoffs: BinaryHeap<Reverse<(Timestamp, StepNumber)>>,

    requests: u32,
    revision: u32,
    replans: u32,
    own: Beginning,
    pending: Option<Request>,
    /// A request whose answer was rejected, and that is to be made again.
    again: Option<Request>,
    reviewed: bool,
    usage: Usage,
    /// Attempts, or the planner, that said only after the stop of the run what they had used.
    late: BTreeSet<Option<AttemptNumber>>,

    /// The driver's clock, the armed timer, and what the driver knows to be used: no part of the state. A lost timer is
    /// found again on the next event.
    now: Timestamp,
    armed: Option<Timestamp>,
    noted: Usage,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened yet.
    New,
    /// Steps are launched.
    Running,
    /// Nothing new is launched; running attempts may finish.
    Stopping,
    /// Nothing runs. The run can be resumed.
    Stopped,
    /// The run is over for good.
    Finished,
}

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// For dependencies, or for the plan to be accepted.
    Waiting,
    /// May start.
    Ready,
    /// A tool is executing it.
    Running(AttemptNumber),
    /// Waits before it is tried again.
    Backoff(Timestamp),
    /// The plan that its tool returned is being carried out.
    Expanded,
    /// It would act on text from outside; a person decides whether it may.
    Unapproved,
    /// Nobody knows whether this attempt took effect; a person decides.
    Unknown(AttemptNumber),
    /// It has its output.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It will not run.
    Skipped(SkipReason),
    /// A revision dropped it.
    Superseded,
}

impl StepState {
    /// A terminal state, for ever.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped(_) | Self::Superseded)
    }
}

/// A step of a run, as it is now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepView<'a> {
    /// Its number.
    pub number: StepNumber,
    /// Its full id.
    pub id: &'a StepId,
    /// Its definition.
    pub definition: &'a Arc<Step>,
    /// The name of its tool.
    pub tool: &'a str,
    /// Its state.
    pub state: StepState,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// Whether it is part of the plan (or of its expansion) as that is now.
    pub member: bool,
    /// Whether it was drafted by a planner that is still writing.
    pub draft: bool,
    /// Tries so far.
    pub tries: u32,
    /// The step that brought in text from outside which has reached this one, if any has.
    pub outside: Option<StepNumber>,
    /// Its output.
    pub output: Option<&'a Output>,
    /// The error of its last try, or its last word.
    pub error: Option<&'a Arc<StepError>>,
}

impl Scheduler {
    /// The most tools of a run: they are numbered, and so is the planner.
    pub(crate) const MOST_TOOLS: usize = u16::MAX as usize - 1;

    /// A run that has not begun.
    pub fn new(start: Arc<RunStart>) -> Self {
        Self {
            policy: Arc::new(start.policy.clone()),
            tools: Tools::new(&start),
            outside: Outside::new(&start),
            pools: pools::policy_pools(&start.policy),
            start,
            phase: Phase::New,
            outcome: None,
            stop: None,
            grace: None,
            seq: 0,
            at: Timestamp::ZERO,
            graph: DiGraph::default(),
            nodes: Vec::new(),
            unmet: Vec::new(),
            expected_ms: Vec::new(),
            interruptions: BTreeMap::new(),
            grafts: Grafts::default(),
            only_values: true,
            changed: BTreeMap::new(),
            names: OnceLock::new(),
            root: Scope::default(),
            scopes: BTreeMap::new(),
            drafts: Vec::new(),
            counts: Counts::default(),
            attempts: Vec::new(),
            no_calls: 0,
            aborting: Aborting::new(),
            shapes: vec![Shape::default()],
            heads: Vec::new(),
            arrivals: 0,
            is_unrehearsed: false,
            rehearsed: 0,
            gates: Gates::new(),
            backoffs: BinaryHeap::new(),
            requests: 0,
            revision: 0,
            replans: 0,
            own: Beginning::default(),
            pending: None,
            again: None,
            reviewed: false,
            usage: Usage::default(),
            now: Timestamp::ZERO,
            armed: None,
            noted: Usage::default(),
            late: BTreeSet::new(),
        }
    }

    /// Decides what `event` leads to. `now` is the run's own clock; an earlier instant than the last counts as that.
    pub fn on_event(&mut self, event: Event, now: Timestamp) -> Transition {
        let mut transition = Transition::default();
        self.on_event_into(event, now, &mut transition);
        transition
    }

    /// As [`on_event`](Self::on_event), adding to a transition that the driver uses again and again.
    pub fn on_event_into(&mut self, event: Event, now: Timestamp, transition: &mut Transition) {
        self.now = self.now.max(now);
        match (self.phase, event) {
            // What was running when the run came to its end, nobody asks for any more. What it used is to be paid all the
            // same.
            (Phase::Finished | Phase::Stopped, Event::AttemptReturned { attempt, usage, .. }) => {
                return self.note_late(Some(attempt), usage, transition);
            }
            (Phase::Finished, _) => return,
            (Phase::New, Event::Begin | Event::Resumed { .. }) => self.begin(transition),
            (Phase::New, _) => return,
            (_, Event::Begin) => {}
            // The driver's timer is used up, also if it went off too early.
            (_, Event::Woke) => self.armed = None,
            (_, Event::Resumed { policy }) => self.resume(policy, transition),
            (_, Event::CancelRequested { at_once }) => self.cancel(at_once, transition),
            // What an output is made of, only the scheduler says: it knows what is there.
            (_, Event::Decided { decision: Decision::Succeeded(Output::Gathered(_)), .. }) => {}
            (_, Event::Decided { step, decision }) => self.decided(step, decision, transition),
            (Phase::Stopped, Event::PlanReturned { request, reply }) => {
                if self.pending.as_ref().is_some_and(|pending| pending.request == request) {
                    reply.iter().for_each(|reply| self.note_late(None, reply.usage, transition));
                }
                return;
            }
            (Phase::Stopped, _) => return,
            (_, Event::PlanStep { request, step }) => self.plan_step(request, &step, transition),
            (_, Event::PlanReturned { request, reply }) => self.plan_returned(request, *reply, transition),
            (_, Event::AttemptReturned { attempt, result: Ok(Returned::Value(Output::Gathered(_))), usage, draw }) => {
                let error = StepError::new(StepErrorKind::BadOutput, "no attempt comes to what others came to");
                self.attempt_returned(attempt, Err(Arc::new(error)), usage, draw, transition);
            }
            (_, Event::AttemptReturned { attempt, result, usage, draw }) => {
                self.attempt_returned(attempt, result, usage, draw, transition);
            }
        }
        self.proceed(transition);
    }

    /// Takes note of what was used and is known only now that the run has stopped, or is finished.
    fn note_late(&mut self, attempt: Option<AttemptNumber>, usage: Usage, transition: &mut Transition) {
        let is_open = attempt.is_none_or(|attempt| self.is_open(attempt));
        if is_open && !usage.is_zero() && !self.late.contains(&attempt) {
            self.emit(RunEventKind::UsageNoted { attempt, usage }, transition);
        }
    }

    /// Whether the attempt has not been answered yet, as far as the record says.
    fn is_open(&self, attempt: AttemptNumber) -> bool {
        let step = self.attempts.get(attempt as usize);
        self.aborting.contains_key(&attempt)
            || step.is_some_and(|step| self.node(*step).state == StepState::Running(attempt))
    }

    /// Takes note of what the run has used, by attempts that are still running as well: nothing more is launched once a
    /// limit is reached by that.
    pub fn note_usage(&mut self, used: Usage) {
        self.noted = used;
    }

    fn begin(&mut self, transition: &mut Transition) {
        self.emit(RunEventKind::RunStarted { start: Arc::clone(&self.start) }, transition);
        self.ask(PlanReason::First, Vec::new(), transition);
    }

    /// Everything that follows from the state alone, whatever the event was.
    fn proceed(&mut self, transition: &mut Transition) {
        self.check_deadline(transition);
        if matches!(self.phase, Phase::Running | Phase::Stopping) {
            self.end_backoffs(transition);
        }
        self.ask_if_due(transition);
        self.launch_ready(transition);
        // Nothing may move any more, now that the last ready step waits for a person.
        self.ask_if_due(transition);
        if self.phase == Phase::Running && !self.moves() {
            self.come_to_rest(transition);
        }
        if self.phase == Phase::Stopping {
            let grace_over = self.grace.is_some_and(|grace| grace <= self.now);
            if grace_over || (self.counts.running == 0 && self.aborting.is_empty()) {
                self.stop_now(self.stop.unwrap_or(StopReason::Cancelled), transition);
            }
        }
        self.arm(transition);
    }

    /// Records a change of state and makes it.
    fn emit(&mut self, kind: RunEventKind, transition: &mut Transition) {
        transition.events.push(RunEvent { seq: self.seq, at: self.now, kind });
        if let Some(event) = transition.events.last() {
            self.apply(event);
        }
    }

    /// Asks the driver to wake the run when the next thing is due.
    fn arm(&mut self, transition: &mut Transition) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping) {
            return;
        }
        let backoff = self.backoffs.peek().map(|Reverse((until, _))| *until);
        let gate = self.gates.values().map(|gate| gate.until).filter(|until| *until > self.now).min();
        let next = [backoff, gate, self.grace, self.deadline()].into_iter().flatten().min();
        if let Some(next) = next.filter(|next| Some(*next) != self.armed) {
            transition.commands.push(Command::WakeAt(next));
            self.armed = Some(next);
        }
    }

    /// Whether the run goes on by itself. Aborted attempts count until they are really gone.
    fn moves(&self) -> bool {
        self.counts.running + self.counts.ready + self.counts.backoff > 0 || !self.aborting.is_empty()
    }

    /// What ids stand for.
    ///
    /// A run whose first plan is never revised does not ask, and for large plans this is a good part of what there is
    /// to do. So the map is made on first use, and before a second graft: up to then every id has one step.
    fn names(&self) -> &ById<StepId, Name> {
        let name = |number: StepNumber| (self.id(number).clone(), Name { current: number, ..Name::NOTHING });
        self.names.get_or_init(|| (0..self.step_count()).map(name).collect())
    }

    fn node(&self, number: StepNumber) -> &Node {
        &self.nodes[number as usize]
    }

    /// What brought a step in.
    fn grafted(&self, number: StepNumber) -> &Arc<Grafted> {
        &self.grafts.0[self.node(number).graft as usize]
    }

    /// A step as it was brought in.
    fn added(&self, number: StepNumber) -> &Added {
        self.grafted(number).added(number)
    }

    /// The full id of a step.
    fn id(&self, number: StepNumber) -> &StepId {
        self.added(number).full_id()
    }

    fn definition(&self, number: StepNumber) -> &Arc<Step> {
        self.changed.get(&number).unwrap_or_else(|| &self.added(number).step)
    }

    fn scope(&self, parent: StepNumber) -> Option<&Scope> {
        if parent == NONE { Some(&self.root) } else { self.scopes.get(&parent) }
    }

    fn tool_name(&self, tool: u16) -> &str {
        self.start.tools.get(usize::from(tool)).map_or("", |tool| &tool.name)
    }

    /// The pool of a tool's steps that name none.
    fn tool_pool(&self, tool: u16) -> &str {
        match self.start.tools.get(usize::from(tool)) {
            Some(ToolSpec { pool, .. }) if !pool.is_empty() => pool,
            _ => self.tool_name(tool),
        }
    }

    /// What the run was started with.
    pub fn start(&self) -> &Arc<RunStart> {
        &self.start
    }

    /// How the run is carried out now: the policy it was started with, or the last one it was resumed with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where the run is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How the run ended, once it has.
    pub fn outcome(&self) -> Option<&RunOutcome> {
        self.outcome.as_deref()
    }

    /// Why the run stopped or is about to.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stop
    }

    /// How many plans were accepted.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// How often a revision was asked for after failures or for a review.
    pub fn replans(&self) -> u32 {
        self.replans
    }

    /// Whether the planner was asked, or is, if anything is missing from what is done.
    pub fn is_reviewed(&self) -> bool {
        self.reviewed
    }

    /// How many attempts were started.
    pub fn attempts(&self) -> u32 {
        self.attempts.len() as u32
    }

    /// The step of an attempt.
    pub fn step_of(&self, attempt: AttemptNumber) -> Option<StepNumber> {
        self.attempts.get(attempt as usize).copied()
    }

    /// What the run has used so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// How many steps there have been: numbers run from 0 to this.
    pub fn step_count(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// How many steps there are about which a person has to decide.
    pub fn undecided(&self) -> u32 {
        self.counts.unknown + self.counts.unapproved
    }

    /// A step by number.
    pub fn step(&self, number: StepNumber) -> Option<StepView<'_>> {
        let node = self.nodes.get(number as usize)?;
        Some(StepView {
            number,
            id: self.id(number),
            definition: self.definition(number),
            tool: self.tool_name(node.tool),
            state: node.state,
            parent: Some(node.parent).filter(|parent| *parent != NONE),
            member: node.member,
            draft: node.draft,
            tries: node.tries,
            outside: self.outside.reached(number),
            output: self.output(number),
            error: node.error.as_ref(),
        })
    }

    /// The numbers a step depends on, in the order of [`Dag::dependencies`](crate::Dag::dependencies).
    ///
    /// # Panics
    ///
    /// If there is no such step.
    pub fn dependencies(&self, number: StepNumber) -> &[StepNumber] {
        &self.added(number).dependencies
    }

    /// The numbers of the steps that depend on a step.
    pub fn dependents(&self, number: StepNumber) -> impl Iterator<Item = StepNumber> {
        self.graph.neighbors(NodeIndex::new(number as usize)).map(|index| index.index() as u32)
    }

    /// The step that an id stands for now.
    pub fn current(&self, id: &str) -> Option<StepNumber> {
        self.names().get(id).map(|name| name.current).filter(|number| *number != NONE)
    }

    /// The output of a step that succeeded.
    pub fn output(&self, number: StepNumber) -> Option<&Output> {
        let node = self.nodes.get(number as usize)?;
        self.grafts.0[node.graft as usize].output(number)
    }

    /// The members of the plan as it stands, in ascending order of number.
    pub fn members(&self) -> impl Iterator<Item = StepView<'_>> {
        self.root.members.iter().filter_map(|number| self.step(*number)).filter(|step| step.member)
    }
}
