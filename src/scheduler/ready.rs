//! Which ready step starts next: slots, pools, order, fairness.
//!
//! Ready steps are kept by shape (what they need of which pools). A launch looks only at the best step of each
//! shape, so a full pool holds nobody back who does not need it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::event::{Command, Input, Inputs, Launch, Output, RunEventKind, StepNumber, StopReason, Transition};
use crate::policy::Order;

use super::pools::Shape;
use super::queue::Key;
use super::state::UNRANKED;
use super::{Phase, Scheduler, StepState};

impl Scheduler {
    /// Starts everything that may start now.
    pub(super) fn launch_ready(&mut self, transition: &mut Transition) {
        while self.phase == Phase::Running && self.counts.ready > 0 && self.free_slots() > 0 {
            let Some(step) = self.next_launch() else { return };
            if let Some(from) = self.must_be_approved(step) {
                self.emit(RunEventKind::ApprovalRequested { step, from }, transition);
                continue;
            }
            if let Some(why) = self.exhausted(true) {
                // What runs may turn out to be no call.
                if why == StopReason::Attempts && self.counts.running > 0 {
                    return;
                }
                return self.emit(RunEventKind::StopRequested { why }, transition);
            }
            self.launch(step, transition);
        }
    }

    fn free_slots(&self) -> u32 {
        let (taken, size) = self.slots();
        size.saturating_sub(taken)
    }

    /// How many slots are taken, and how many there are.
    pub(super) fn slots(&self) -> (u32, u32) {
        (self.counts.running + self.aborting.len() as u32, self.policy.max_parallel.max(1))
    }

    /// The limit that forbids more work, if one does.
    pub(super) fn exhausted(&self, attempt_wanted: bool) -> Option<StopReason> {
        let limits = &self.policy.limits;
        let calls = || (self.attempts() - self.own.attempts).saturating_sub(self.no_calls);
        let is_called_enough = || attempt_wanted && limits.attempts.is_some_and(|limit| calls() >= limit);
        let used_up = self.usage.reaches(limits).or_else(|| self.noted.reaches(limits));
        used_up.or_else(|| is_called_enough().then_some(StopReason::Attempts))
    }

    /// The best ready step that fits. A better one that does not fit, or that has to leave a pool to one that is better
    /// still, is passed until its patience is over: then what it needs is kept for it, and only steps that rank higher,
    /// or need none of it, go first.
    fn next_launch(&mut self) -> Option<StepNumber> {
        if self.shapes.len() == 1 {
            return self.head(0).map(|(_, Reverse(step))| step);
        }
        // The same memory each time: a launch allocates nothing.
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.extend((0..self.shapes.len()).filter_map(|shape| Some((self.open_head(shape)?, shape))));
        let mut heads = BinaryHeap::from(heads);
        let mut reserved: Vec<u32> = Vec::new();
        let mut next = None;
        while let Some(((_, Reverse(step)), shape)) = heads.pop() {
            let needs = &self.shapes[shape].needs;
            let is_reserved = needs.iter().any(|(pool, _)| reserved.contains(pool));
            if self.pools.fit(needs) && !is_reserved {
                next = Some(step);
                break;
            }
            if self.node(step).passed >= self.policy.patience {
                reserved.extend(needs.iter().map(|(pool, _)| *pool));
            }
        }
        self.heads = heads.into_vec();
        next
    }

    /// The best ready step of a shape.
    fn head(&mut self, shape: usize) -> Option<Key> {
        let Shape { ready, .. } = &mut self.shapes[shape];
        while let Some((rank, Reverse(step))) = ready.peek() {
            let node = &self.nodes[step as usize];
            if node.state == StepState::Ready && node.rank == rank && node.shape as usize == shape {
                return Some((rank, Reverse(step)));
            }
            ready.pop();
        }
        None
    }

    /// As [`head`](Self::head), unless the shape's tool may not call its server now.
    fn open_head(&mut self, shape: usize) -> Option<Key> {
        let gate = self.shapes[shape].gate.and_then(|server| self.gates.get(&server));
        let is_closed = gate.is_some_and(|gate| gate.is_closed(self.now));
        if is_closed { None } else { self.head(shape) }
    }

    fn launch(&mut self, step: StepNumber, transition: &mut Transition) {
        let attempt = self.attempts();
        let inputs = self.inputs(step);
        self.emit(RunEventKind::AttemptStarted { step, attempt }, transition);
        let node = self.node(step);
        transition.commands.push(Command::Launch(Box::new(Launch {
            attempt,
            step,
            id: self.id(step).clone(),
            definition: Arc::clone(self.definition(step)),
            tool: node.tool,
            is_plain: node.is_plain,
            tries: node.tries,
            inputs,
            last_error: node.error.clone(),
            expansion: self.expansion(step),
            room: self.room(),
        })));
    }

    fn inputs(&self, step: StepNumber) -> Inputs {
        let (node, dependencies, grafted) = (self.node(step), self.dependencies(step), self.grafted(step));
        let is_value = |number: StepNumber| {
            self.node(number).state != StepState::Failed
                && matches!(self.output(number), None | Some(Output::Inline(_)))
        };
        // What was brought in later has a higher number than the step.
        let is_in_place =
            |&number: &StepNumber| number >= grafted.graft.first && (self.only_values || is_value(number));
        if !dependencies.is_empty() && dependencies.iter().all(is_in_place) {
            return Inputs::in_place(Arc::clone(grafted), step);
        }
        let input = |&number: &StepNumber| {
            let other = self.node(number);
            // A step knows its siblings by their local ids, and children of others by their full ones.
            let added = self.added(number);
            let id = if other.parent == node.parent { &added.step.id } else { added.full_id() };
            Input {
                id: id.clone(),
                number,
                output: self.output(number).cloned(),
                error: other.error.clone().filter(|_| other.state == StepState::Failed),
            }
        };
        dependencies.iter().map(input).collect::<Vec<_>>().into()
    }

    /// Puts a ready step into its place.
    pub(super) fn queue(&mut self, step: StepNumber) {
        let node = &mut self.nodes[step as usize];
        if self.policy.order == Order::Fifo {
            node.rank = UNRANKED - 1 - self.arrivals;
            self.arrivals += 1;
        }
        self.shapes[node.shape as usize].ready.push((node.rank, Reverse(step)));
    }

    /// Counts the launch of `step` against the patience of everything that outranks it. Called before it runs.
    pub(super) fn count_passed(&mut self, step: StepNumber) {
        if self.shapes.len() == 1 {
            return;
        }
        let key = (self.node(step).rank, Reverse(step));
        for shape in 0..self.shapes.len() {
            if let Some((_, Reverse(head))) = self.open_head(shape).filter(|head| *head > key) {
                let node = &mut self.nodes[head as usize];
                node.passed = node.passed.saturating_add(1);
            }
        }
    }
}
