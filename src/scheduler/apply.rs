//! The only code that changes a run's state. It looks at nothing but a [`RunEvent`], so that live and replayed runs
//! cannot differ.

use std::cmp::Reverse;
use std::hint::black_box;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::dag::ById;
use crate::error::{PlanError, StepError, StepErrorKind};
use crate::event::{
    AnswerFrom, AttemptNumber, Graft, Grafted, Output, PlanReason, Rejection, RequestNumber, RunEvent, RunEventKind,
    RunOutcome, StepNumber, StopReason,
};
use crate::plan::{OnFailure, Step, StepId};
use crate::policy::Policy;
use crate::reference;
use crate::tool::Effect;

use super::pools::policy_pools;
use super::state::{Beginning, NONE, Name, Node, Request, Scope, UNRANKED};
use super::{Phase, Scheduler, StepState};

impl Scheduler {
    /// Makes the change that an event records.
    pub(super) fn apply(&mut self, event: &RunEvent) {
        self.seq = event.seq + 1;
        self.at = event.at;
        self.now = event.at;
        match &event.kind {
            RunEventKind::RunStarted { .. } => self.phase = Phase::Running,
            RunEventKind::RunResumed { policy } => self.apply_resumed(policy.as_ref()),
            RunEventKind::StopRequested { why } => {
                self.phase = Phase::Stopping;
                self.stop = Some(*why);
                self.grace = (*why == StopReason::Cancelled).then(|| self.at.plus_millis(self.policy.grace_ms));
            }
            RunEventKind::RunStopped { why } => {
                self.phase = Phase::Stopped;
                self.stop = Some(*why);
                self.grace = None;
            }
            RunEventKind::UsageNoted { attempt, usage } => {
                self.usage += *usage;
                self.late.insert(*attempt);
            }
            RunEventKind::RunFinished { outcome, usage } => {
                self.usage += *usage;
                self.apply_finished(outcome);
            }
            RunEventKind::PlanRequested { request, reason, reported, .. } => {
                self.apply_requested(*request, reason, reported);
            }
            RunEventKind::PlanAccepted { revision, graft, usage, .. } => {
                self.usage += *usage;
                self.apply_accepted(*revision, graft);
            }
            RunEventKind::PlanRejected { rejection, usage, .. } => {
                self.usage += *usage;
                self.apply_rejected(rejection);
            }
            RunEventKind::PlanPutOff { retry_at, usage, .. } => {
                self.usage += *usage;
                self.close_until(self.tools.planner_server, NONE, *retry_at);
                let pending = self.pending.take();
                self.again = pending.map(|pending| Request { put_off: pending.put_off + 1, ..pending });
            }
            RunEventKind::StepDrafted { graft, .. } => {
                self.apply_graft(graft, true);
                self.drafts.push(graft.first);
                self.pending.iter_mut().for_each(|pending| pending.edges += graft.edges());
                let rank = self.rank(graft.first, 0);
                self.set_rank(graft.first, rank);
            }
            RunEventKind::StepExpanded { step, attempt, graft, usage } => {
                self.usage += *usage;
                self.give_back(*step, *attempt);
                self.set_state(*step, StepState::Expanded);
                self.scopes.entry(*step).or_default();
                let id = self.id(*step).clone();
                self.names_mut().get_mut(&id).into_iter().for_each(|name| name.has_expanded = true);
                self.apply_graft(graft, false);
                self.rank_scope(*step);
                self.is_unrehearsed = true;
                self.rehearse_expansions();
            }
            RunEventKind::StepReady { step } => {
                let was_expanded = self.node(*step).state == StepState::Expanded;
                self.set_state(*step, StepState::Ready);
                if was_expanded {
                    self.nodes[*step as usize].tries = 0;
                    let scope = self.scope_mut(*step);
                    scope.failed = None;
                    scope.replans += 1;
                    self.set_rank(*step, self.rank(*step, self.beyond(*step)));
                }
            }
            RunEventKind::ApprovalRequested { step, .. } => {
                self.nodes[*step as usize].passed = 0;
                self.set_state(*step, StepState::Unapproved);
            }
            RunEventKind::StepApproved { step } => self.apply_approved(*step),
            RunEventKind::AttemptStarted { step, attempt } => self.apply_started(*step, *attempt),
            RunEventKind::StepUnknown { step, attempt, error, usage } => {
                self.usage += *usage;
                self.give_back(*step, *attempt);
                let node = &mut self.nodes[*step as usize];
                node.error = Some(Arc::clone(error));
                node.tries = node.tries.saturating_sub(u32::from(uses_no_try(error)));
                self.set_state(*step, StepState::Unknown(*attempt));
            }
            RunEventKind::AttemptFailed { step, attempt, error, retry_at, usage } => {
                self.usage += *usage;
                self.no_calls += u32::from(error.kind.is_no_call());
                self.give_back(*step, *attempt);
                let node = &mut self.nodes[*step as usize];
                node.error = Some(Arc::clone(error));
                node.tries = node.tries.saturating_sub(u32::from(uses_no_try(error)));
                if matches!(error.kind, StepErrorKind::Interrupted | StepErrorKind::Aborted) {
                    *self.interruptions.entry(*step).or_default() += 1;
                }
                self.set_state(*step, StepState::Backoff(*retry_at));
                self.backoffs.push(Reverse((*retry_at, *step)));
                self.close_gate(*step, error);
            }
            RunEventKind::AttemptDiscarded { attempt, usage } => {
                self.usage += *usage;
                if let Some(shape) = self.aborting.remove(attempt) {
                    self.pools.give_back(&self.shapes[shape as usize].needs);
                }
            }
            RunEventKind::StepSucceeded { step, attempt, output, usage } => {
                self.usage += *usage;
                if let Some(attempt) = attempt {
                    self.give_back(*step, *attempt);
                }
                self.only_values &= matches!(output, Output::Inline(_));
                self.grafted(*step).set_output(*step, output.clone());
                self.nodes[*step as usize].error = None;
                self.set_state(*step, StepState::Succeeded);
                self.finished(*step);
            }
            RunEventKind::StepFailed { step, attempt, error, usage } => {
                self.usage += *usage;
                if let Some(attempt) = attempt {
                    self.no_calls += u32::from(error.kind.is_no_call());
                    self.give_back(*step, *attempt);
                }
                self.apply_failed(*step, error);
                self.close_gate(*step, error);
            }
            RunEventKind::StepSkipped { step, because, attempt } => {
                if let Some(attempt) = attempt {
                    self.no_calls += 1;
                    self.give_back(*step, *attempt);
                }
                self.set_state(*step, StepState::Skipped(*because));
                if because.failed().is_none() {
                    self.finished(*step);
                }
            }
        }
    }

    fn apply_resumed(&mut self, policy: Option<&Arc<Policy>>) {
        self.phase = Phase::Running;
        self.late.clear();
        self.stop = None;
        self.grace = None;
        // Until now no tool was called.
        if std::mem::take(&mut self.own.is_forked) {
            self.own.attempts = self.attempts();
            self.no_calls = 0;
        }
        if let Some(policy) = policy {
            let before = std::mem::replace(&mut self.policy, Arc::clone(policy));
            // Sizes that plans have set stay, unless the new policy names the pool.
            let mut pools = policy_pools(policy);
            for (name, size) in self.grafts.0.iter().flat_map(|grafted| &grafted.graft.pools) {
                pools.size(name, *size);
            }
            self.replace_pools(pools);
            if policy.order != before.order {
                self.rank_all();
            }
        }
    }

    fn apply_finished(&mut self, outcome: &RunOutcome) {
        if self.counts.open > 0 {
            for number in 0..self.step_count() {
                if !self.node(number).is_settled() {
                    self.supersede(number);
                }
            }
        }
        self.phase = Phase::Finished;
        self.outcome = Some(Arc::new(outcome.clone()));
        self.pending = None;
        self.again = None;
        self.grace = None;
    }

    fn apply_requested(&mut self, request: RequestNumber, reason: &PlanReason, reported: &[StepNumber]) {
        self.requests = request + 1;
        let again = self.again.take();
        // Where there is a plan already, or the planner was given up, the run is a fork: from here on it is a run of its
        // own.
        let has_begun = self.revision > 0 || request > 0 && again.is_none();
        if *reason == PlanReason::First && has_begun {
            self.replans = 0;
            self.own = Beginning { at: self.at, attempts: self.attempts(), steps: self.step_count(), is_forked: true };
            self.counts.gone = 0;
        }
        match *reason == PlanReason::First && self.revision > 0 {
            true => self.take_over(),
            false => self.show_planner(),
        }
        let mut must_answer = again.as_ref().is_some_and(|again| again.must_answer);
        if again.is_none() && *reason != PlanReason::First {
            if *reason == PlanReason::Review {
                self.reviewed = true;
                must_answer = self.replans >= self.policy.max_replans || self.room().steps == 0;
            }
            if !must_answer {
                self.replans += 1;
            }
        }
        for &step in reported {
            self.set_unreported(step, false);
        }
        self.pending = Some(Request {
            request,
            reason: reason.clone(),
            reported: reported.to_vec(),
            must_answer,
            rejections: again.as_ref().map_or(0, |again| again.rejections),
            put_off: again.map_or(0, |again| again.put_off),
            edges: self.planned_edges(),
        });
    }

    fn apply_accepted(&mut self, revision: u32, graft: &Arc<Graft>) {
        self.revision = revision;
        self.pending = None;
        // Steps are new, too, that ran as drafts while the answer was being written.
        self.reviewed &= graft.added.is_empty() && !graft.joined.iter().any(|step| self.node(*step).draft);
        self.apply_graft(graft, false);
        for &step in &graft.unreported {
            self.set_unreported(step, true);
        }
        if !std::mem::take(&mut self.drafts).is_empty() {
            self.release_held();
        }
        self.rank_all();
    }

    fn apply_rejected(&mut self, rejection: &Rejection) {
        self.close(&rejection.closed);
        self.leave(&rejection.left);
        let nodes = &self.nodes;
        self.drafts.retain(|draft| nodes[*draft as usize].draft);
        if let Some(pause_ms) = rejection.offences.iter().find_map(PlanError::pause_ms) {
            self.close_until(self.tools.planner_server, NONE, self.at.plus_millis(pause_ms));
        }
        let pending = self.pending.take();
        self.again = pending.filter(|_| !rejection.given_up).map(|mut pending| {
            if !rejection.offences.is_empty() {
                pending.rejections += 1;
                pending.put_off = 0;
                // A run that is stopping asks again only when it is resumed, and then with the offences.
                pending.reason = PlanReason::Rejected(Arc::clone(&rejection.offences));
            }
            pending
        });
    }

    /// Obeys a graft. No rule is looked up here, so an old history means the same under newer rules.
    fn apply_graft(&mut self, graft: &Arc<Graft>, draft: bool) {
        let parent = graft.scope.unwrap_or(NONE);
        let is_watched = self.outside.is_watched();
        let writers = if is_watched { self.writers(graft) } else { Vec::new() };
        let mut sized = false;
        for (name, size) in &graft.pools {
            sized |= self.pools.size(name, *size);
        }
        self.close(&graft.closed);
        self.leave(&graft.left);
        self.forget(graft);
        for (number, definition) in &graft.settings {
            self.changed.insert(*number, Arc::clone(definition));
            let tool = self.node(*number).tool;
            self.expected_ms[*number as usize] = self.expected(definition, tool);
            let node = &mut self.nodes[*number as usize];
            (node.continues, node.is_plain) = (definition.on_failure == OnFailure::Continue, is_plain(definition));
            let shape = self.shape_of(definition, tool);
            if self.node(*number).shape != shape {
                self.nodes[*number as usize].shape = shape;
                if self.node(*number).state == StepState::Ready {
                    self.queue(*number);
                }
            }
        }
        if sized {
            self.reshape();
        }
        for &number in &graft.joined {
            self.join(number, parent);
            if is_watched {
                self.watch_joined(number, parent);
            }
        }
        self.add(graft, parent, draft);
        for (number, writer) in (graft.first..).zip(writers) {
            self.watch_added(number, graft, writer);
        }
        if draft {
            return;
        }
        let nodes = &self.nodes;
        let scope = if parent == NONE { &mut self.root } else { self.scopes.entry(parent).or_default() };
        scope.members.extend(&graft.joined);
        scope.members.retain(|number| nodes[*number as usize].member);
        scope.members.sort_unstable();
        scope.members.dedup();
        scope.answer = graft.answer.clone();
        if is_watched {
            self.watch_taken_over(parent);
        }
    }

    /// Adds the new steps of a graft. A closed or left step of the same id stays what it is, under its number.
    fn add(&mut self, graft: &Arc<Graft>, parent: StepNumber, draft: bool) {
        let index = self.grafts.0.len() as u32;
        self.grafts.0.push(Arc::new(Grafted::new(Arc::clone(graft))));
        self.nodes.reserve(graft.added.len());
        self.unmet.reserve(graft.added.len());
        self.expected_ms.reserve(graft.added.len());
        self.graph.reserve_nodes(graft.added.len());
        self.attempts.reserve(graft.added.len());
        self.scope_mut(parent).members.reserve(graft.added.len());
        // The names of the first steps are taken from the nodes, when somebody asks.
        let is_named_later = self.nodes.is_empty() && self.names.get().is_none();
        if !is_named_later {
            self.names_mut().reserve(graft.added.len());
        }
        // Steps in a row often share the name of their tool.
        let mut last: Option<(&Arc<str>, u16)> = None;
        for (added, number) in graft.added.iter().zip(graft.first..) {
            self.graph.add_node(());
            let mut unmet = 0;
            for &dependency in &added.dependencies {
                unmet += u32::from(!self.node(dependency).is_finished());
            }
            let name = added.step.tool.as_ref();
            let tool = match last {
                Some((known, tool)) if name.is_some_and(|name| Arc::ptr_eq(name, known)) => tool,
                _ => self.tools.index(&self.start, &added.step).unwrap_or(u16::MAX),
            };
            last = name.map(|name| (name, tool));
            let shape = self.shape_of(&added.step, tool);
            self.unmet.push(unmet);
            self.expected_ms.push(self.expected(&added.step, tool));
            self.nodes.push(Node {
                error: None,
                state: StepState::Waiting,
                rank: UNRANKED,
                graft: index,
                parent,
                tries: 0,
                passed: 0,
                tool,
                shape,
                taken: 0,
                member: true,
                draft,
                held: false,
                unreported: false,
                continues: added.step.on_failure == OnFailure::Continue,
                is_plain: is_plain(&added.step),
            });
            if !is_named_later {
                self.rename(added.full_id(), number);
            }
            let is_held = self.acts(tool) && (draft || (parent != NONE && self.is_drafted(parent)));
            self.counts.open += 1;
            let scope = self.scope_mut(parent);
            scope.open += 1;
            scope.members.push(number);
            if is_held {
                self.nodes[number as usize].held = true;
                self.unmet[number as usize] += 1;
            } else if unmet == 0 {
                self.set_state(number, StepState::Ready);
            }
        }
        self.connect(graft);
    }

    pub(super) fn names_mut(&mut self) -> &mut ById<StepId, Name> {
        self.names();
        self.names.get_mut().expect("it was made just now")
    }

    fn rename(&mut self, id: &StepId, number: StepNumber) {
        let before = self.names().get(id).copied().unwrap_or(Name::NOTHING);
        let was_finished = self.nodes.get(before.current as usize).is_some_and(Node::is_finished);
        let finished = if was_finished { before.current } else { before.finished };
        self.names_mut().insert(id.clone(), Name { current: number, finished, ..before });
    }

    /// Makes a step that is there part of a plan.
    fn join(&mut self, number: StepNumber, parent: StepNumber) {
        let id = self.id(number).clone();
        self.rename(&id, number);
        let node = &mut self.nodes[number as usize];
        node.member = true;
        node.draft = false;
        // A child of an earlier expansion has come to its end with it, so nothing that is open moves.
        node.parent = parent;
        if node.is_fatal() {
            self.scope_mut(parent).failed.get_or_insert(number);
        }
    }

    fn close(&mut self, closed: &[StepNumber]) {
        for &number in closed {
            self.supersede(number);
            self.leave(&[number]);
        }
    }

    fn supersede(&mut self, number: StepNumber) {
        if let StepState::Running(attempt) = self.node(number).state {
            // Its slot and pools are free once it is really gone.
            self.aborting.insert(attempt, self.node(number).taken);
        }
        self.set_state(number, StepState::Superseded);
    }

    fn leave(&mut self, left: &[StepNumber]) {
        for &number in left {
            self.set_unreported(number, false);
            let node = &mut self.nodes[number as usize];
            node.member = false;
            node.draft = false;
            node.held = false;
        }
    }

    fn apply_started(&mut self, step: StepNumber, attempt: AttemptNumber) {
        // A fork calls no tool before somebody goes on with it: nobody is passed by what it puts together.
        if !self.own.is_forked {
            self.count_passed(step);
        }
        debug_assert_eq!(attempt as usize, self.attempts.len(), "attempt numbers are dense");
        self.attempts.push(step);
        let node = &mut self.nodes[step as usize];
        node.tries += 1;
        node.passed = 0;
        node.taken = node.shape;
        let taken = node.taken as usize;
        self.pools.take(&self.shapes[taken].needs);
        self.set_state(step, StepState::Running(attempt));
        if self.node(step).parent != NONE {
            self.rehearse_expansions();
        }
    }

    fn apply_failed(&mut self, step: StepNumber, error: &Arc<StepError>) {
        self.nodes[step as usize].error = Some(Arc::clone(error));
        self.set_state(step, StepState::Failed);
        let node = self.node(step);
        let (parent, is_fatal, is_asked_about) = (node.parent, node.is_fatal(), !node.draft);
        if !is_fatal {
            self.only_values = false;
            self.finished(step);
        } else if parent != NONE {
            self.scope_mut(parent).failed.get_or_insert(step);
        } else if is_asked_about && self.may_be_mended(step) {
            self.set_unreported(step, true);
        }
    }

    /// A finished step counts for its dependents.
    fn finished(&mut self, step: StepNumber) {
        if self.outside.is_watched() {
            self.pass_on(step);
        }
        let mut dependents = self.graph.neighbors_directed(NodeIndex::new(step as usize), Direction::Outgoing).detach();
        while let Some(index) = dependents.next_node(&self.graph) {
            let unmet = &mut self.unmet[index.index()];
            *unmet = unmet.saturating_sub(1);
            match *unmet {
                0 if self.nodes[index.index()].state == StepState::Waiting => {
                    self.set_state(index.index() as u32, StepState::Ready);
                }
                1 => self.foresee(index.index() as u32),
                _ => {}
            }
        }
    }

    /// Looks at a step that is about to become ready. In a large plan it is far from the processor, which fetches it while
    /// it goes on with something else; otherwise the launch would wait for it.
    fn foresee(&self, step: StepNumber) {
        if let Some(grafted) = self.grafts.0.last().filter(|grafted| step >= grafted.graft.first) {
            let definition = &grafted.added(step).step;
            black_box((Arc::strong_count(definition), definition.args.is_null(), self.nodes[step as usize].state));
        }
    }

    pub(super) fn interruptions(&self, step: StepNumber) -> u32 {
        self.interruptions.get(&step).copied().unwrap_or(0)
    }

    /// Gives back the pools of an attempt that is over.
    fn give_back(&mut self, step: StepNumber, attempt: AttemptNumber) {
        let node = self.node(step);
        if node.state == StepState::Running(attempt) {
            self.pools.give_back(&self.shapes[node.taken as usize].needs);
            if self.outside.is_watched() {
                self.note_seen(step);
            }
        }
    }

    /// Changes a step's state, and everything that is counted by state.
    pub(super) fn set_state(&mut self, number: StepNumber, state: StepState) {
        let node = &mut self.nodes[number as usize];
        let was_settled = node.is_settled();
        let before = std::mem::replace(&mut node.state, state);
        let (is_settled, is_fatal, parent, tool) = (node.is_settled(), node.is_fatal(), node.parent, node.tool);
        for (state, change) in [(before, u32::MAX), (state, 1)] {
            let count = match state {
                StepState::Ready => &mut self.counts.ready,
                StepState::Running(_) => &mut self.counts.running,
                StepState::Backoff(_) => &mut self.counts.backoff,
                StepState::Unknown(_) => &mut self.counts.unknown,
                StepState::Unapproved => &mut self.counts.unapproved,
                _ => continue,
            };
            *count = count.wrapping_add(change);
        }
        if !self.gates.is_empty()
            && let Some(gate) = self.gates.get_mut(&self.tools.server(tool))
        {
            gate.change(before, state, self.at);
        }
        self.counts.fatal |= is_fatal;
        if is_settled && !was_settled {
            self.counts.open -= 1;
            self.counts.gone += u32::from((is_fatal || state == StepState::Superseded) && number >= self.own.steps);
            self.scope_mut(parent).open -= 1;
        }
        if state == StepState::Ready && self.node(number).rank != UNRANKED {
            self.queue(number);
        }
    }

    fn set_unreported(&mut self, number: StepNumber, unreported: bool) {
        let node = &mut self.nodes[number as usize];
        if node.unreported != unreported {
            node.unreported = unreported;
            self.counts.unreported = self.counts.unreported.wrapping_add(if unreported { 1 } else { u32::MAX });
        }
    }

    pub(super) fn acts(&self, tool: u16) -> bool {
        self.start.tools.get(usize::from(tool)).is_some_and(|tool| tool.effect == Effect::Acts)
    }

    pub(super) fn scope_mut(&mut self, parent: StepNumber) -> &mut Scope {
        if parent == NONE { &mut self.root } else { self.scopes.entry(parent).or_default() }
    }

    /// Whether the answer of every scope names steps that exist. For histories read from outside.
    pub(super) fn knows_answer(&self, answer: &AnswerFrom, count: u32) -> bool {
        match answer {
            AnswerFrom::Open => true,
            AnswerFrom::Step(step) => *step < count,
            AnswerFrom::Sinks(steps) => steps.iter().all(|step| *step < count),
        }
    }
}

fn is_plain(step: &Step) -> bool {
    step.timeout_ms.is_none() && step.when.is_none() && !reference::has_references(&step.args)
}

/// Whether an attempt ended by nobody's fault.
fn uses_no_try(error: &StepError) -> bool {
    use StepErrorKind::{Aborted, Deferred, Interrupted, Stopped};

    matches!(error.kind, Interrupted | Stopped | Deferred | Aborted)
}
