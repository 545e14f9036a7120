//! Text from outside: where it has got to, and which steps may not act on it unasked.
//!
//! A web page or the answer of somebody else's server can hold instructions, and whoever reads it (a model that plans,
//! a tool that passes it on) may follow them. So it is recorded which steps such text has reached, and a step that
//! acts is not started on it before a person approves it, unless the run's policy [allows](crate::Policy::allow) its
//! tool. The rule would rather ask once too often:
//!
//! - The output of a tool that is [`untrusted`](crate::ToolSpec::untrusted) is text from outside, whatever is in it.
//! - Text that has reached a step is in its output, too: it reaches everything that depends on it, even if it failed
//!   and the plan goes on (its error may quote the text).
//! - It reaches a step through its dependencies, or because its plan was written with the text in view. That holds for
//!   every step of an expansion whose expanded step it had reached, and for every step that a planner adds in answer to
//!   a request made after an attempt of an untrusted tool had ended. Steps that such an answer only repeats, and that
//!   keep their number, were written before.
//! - What has reached a step of an expansion has reached the output of the expanded step.
//! - A fork takes a plan over, and nobody writes it anew: what whoever wrote a step had in view stays what it was. Whoever
//!   is asked from then on sees what the fork took over, and nothing of what it does again.
//!
//! Who has approved a step has approved all its attempts. A step that gets a new number asks anew.

use std::collections::BTreeSet;

use crate::error::{StepError, StepErrorKind};
use crate::event::{Added, Decision, Graft, RunEventKind, RunStart, StepNumber, Transition};

use super::state::NONE;
use super::{Scheduler, StepState};

/// Where text from outside has got to.
#[derive(Clone, Debug)]
pub(super) struct Outside {
    /// Whether the run has a tool that brings such text in. If not, nothing below is ever touched.
    is_watched: bool,
    /// By step, the one that brought in what has reached it, or `NONE`.
    reached: Vec<StepNumber>,
    /// By step, what whoever wrote it had seen, or `NONE`.
    written: Vec<StepNumber>,
    /// The first step whose tool brought something in, so that planners have seen it that are asked from then on.
    seen: StepNumber,
    /// What the planner had seen when it was asked last, or `NONE`. None at all: a fork takes over the plan that there is.
    writer: Option<StepNumber>,
    approved: BTreeSet<StepNumber>,
}

impl Outside {
    pub(super) fn new(start: &RunStart) -> Self {
        Self {
            is_watched: start.tools.iter().any(|tool| tool.untrusted),
            reached: Vec::new(),
            written: Vec::new(),
            seen: NONE,
            writer: Some(NONE),
            approved: BTreeSet::new(),
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// The step that brought in what has reached a step.
    pub(super) fn reached(&self, number: StepNumber) -> Option<StepNumber> {
        self.reached.get(number as usize).copied().filter(|source| *source != NONE)
    }

    /// What distinguishes two states.
    pub(super) fn parts(&self) -> ([&[StepNumber]; 2], StepNumber, Option<StepNumber>, &BTreeSet<StepNumber>) {
        ([&self.reached, &self.written], self.seen, self.writer, &self.approved)
    }

    fn see(&mut self, source: StepNumber) {
        if self.seen == NONE {
            self.seen = source;
        }
    }
}

impl Scheduler {
    /// Whether a person has to approve a step before it is launched, and if so, whose text has reached it.
    pub(super) fn must_be_approved(&self, step: StepNumber) -> Option<StepNumber> {
        let source = self.outside.reached(step)?;
        let tool = self.node(step).tool;
        let is_free = !self.acts(tool) || self.is_allowed(tool) || self.outside.approved.contains(&step);
        (!is_free).then_some(source)
    }

    fn is_allowed(&self, tool: u16) -> bool {
        self.policy.allow.contains(self.tool_name(tool))
    }

    /// A person has said whether a step may act.
    pub(super) fn decide_approval(&mut self, step: StepNumber, decision: &Decision, transition: &mut Transition) {
        let kind = match decision {
            Decision::Approve => RunEventKind::StepApproved { step },
            Decision::Deny => {
                let error = StepError::new(StepErrorKind::Denied, "it was not allowed to act on text from outside");
                RunEventKind::StepFailed { step, attempt: None, error: error.into(), usage: Default::default() }
            }
            Decision::Succeeded(_) | Decision::Failed(_) | Decision::Retry => return,
        };
        self.emit(kind, transition);
        self.after_settling(step, transition);
    }

    /// Approves what a new policy allows.
    pub(super) fn approve_allowed(&mut self, transition: &mut Transition) {
        if self.counts.unapproved == 0 {
            return;
        }
        for step in 0..self.step_count() {
            let node = self.node(step);
            if node.state == StepState::Unapproved && self.is_allowed(node.tool) {
                self.emit(RunEventKind::StepApproved { step }, transition);
            }
        }
    }

    pub(super) fn apply_approved(&mut self, step: StepNumber) {
        self.outside.approved.insert(step);
        self.set_state(step, StepState::Ready);
    }

    /// A planner is asked: what it writes from now on, it writes with what there is in view.
    pub(super) fn show_planner(&mut self) {
        self.outside.writer = Some(self.outside.seen);
    }

    /// A fork begins. What its planner will see, its plan says.
    pub(super) fn take_over(&mut self) {
        (self.outside.seen, self.outside.writer) = (NONE, None);
    }

    /// An attempt is over, and planners may see what came of it.
    pub(super) fn note_seen(&mut self, step: StepNumber) {
        if self.brings_in(step) {
            self.outside.see(step);
        }
    }

    /// What had reached whoever wrote each new step of a graft: a planner, or an expanded step.
    pub(super) fn writers(&self, graft: &Graft) -> Vec<StepNumber> {
        let written = |before: StepNumber| self.outside.written.get(before as usize).copied();
        let before = |added: &Added| self.current(added.full_id().as_str()).and_then(written).unwrap_or(NONE);
        let expanded = graft.scope.map_or(NONE, |parent| self.source(parent));
        let writer = |added: &Added| match (graft.scope, self.outside.writer) {
            _ if expanded != NONE => expanded,
            (_, None) => before(added),
            (Some(_), Some(_)) => NONE,
            (None, Some(writer)) => writer,
        };
        graft.added.iter().map(writer).collect()
    }

    /// A step is new.
    pub(super) fn watch_added(&mut self, number: StepNumber, graft: &Graft, writer: StepNumber) {
        self.outside.reached.resize(self.nodes.len(), NONE);
        self.outside.written.resize(self.nodes.len(), NONE);
        self.outside.written[number as usize] = writer;
        self.reach(number, writer);
        for &dependency in &graft.added[(number - graft.first) as usize].dependencies {
            if self.node(dependency).is_finished() {
                self.reach(number, self.source(dependency));
            }
        }
        self.reach(self.node(number).parent, self.source(number));
    }

    /// A finished step is a part of a plan from now on.
    pub(super) fn watch_joined(&mut self, number: StepNumber, parent: StepNumber) {
        let source = self.source(number);
        self.reach(parent, source);
        if self.node(number).is_finished() {
            self.outside.see(source);
        }
    }

    /// Planners see a plan if it was taken over: what is finished of it, and the words of the rest.
    pub(super) fn watch_taken_over(&mut self, scope: StepNumber) {
        if self.outside.writer.is_some() {
            return;
        }
        for at in 0..self.scope_mut(scope).members.len() {
            let number = self.scope_mut(scope).members[at];
            let is_finished = self.node(number).is_finished();
            let source = if is_finished { self.source(number) } else { self.outside.written[number as usize] };
            self.outside.see(source);
        }
    }

    /// The output of a step is there for those that depend on it.
    pub(super) fn pass_on(&mut self, step: StepNumber) {
        let source = self.source(step);
        if source == NONE {
            return;
        }
        let dependents: Vec<StepNumber> = self.dependents(step).collect();
        for dependent in dependents {
            self.reach(dependent, source);
        }
    }

    /// The step that brought in what may be in the output of a step, or `NONE`.
    fn source(&self, number: StepNumber) -> StepNumber {
        if self.brings_in(number) { number } else { self.outside.reached(number).unwrap_or(NONE) }
    }

    fn brings_in(&self, step: StepNumber) -> bool {
        self.start.tools.get(usize::from(self.node(step).tool)).is_some_and(|tool| tool.untrusted)
    }

    /// Text has reached a step, and with it the steps whose expansions it is in.
    fn reach(&mut self, number: StepNumber, source: StepNumber) {
        let mut number = number;
        while source != NONE && number != NONE && self.outside.reached[number as usize] == NONE {
            self.outside.reached[number as usize] = source;
            number = self.node(number).parent;
        }
    }
}
