//! Servers that want to be left alone for a while, and how they are called after that.

use std::collections::BTreeMap;

use crate::error::{StepError, StepErrorKind};
use crate::event::{StepNumber, Timestamp};

use super::state::Node;
use super::{Scheduler, StepState};

/// Servers that have named an instant before which they want no call.
pub(super) type Gates = BTreeMap<u16, Gate>;

/// How far a server may be called that has turned a call away.
///
/// It has said when to come back, but not with how many calls: if all that wait came back at once, most of them would be
/// turned away once more. So from then on as many are made at a time as it did not turn away, and a little more with each
/// that succeeds, in the way of congestion avoidance (Jacobson, SIGCOMM 1988). At first only half as many: what a server
/// takes from one that has not called for a while says little of what it takes in the long run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// No call before.
    pub(super) until: Timestamp,
    /// The step that was told so last, or `NONE` if that was the planner.
    pub(super) by: StepNumber,
    /// Calls that are being made.
    running: u32,
    /// How many may be made at a time, in eighths of a call. Each that succeeds adds one: so a server may turn one of nine
    /// away for reasons of its own before they become fewer.
    parts: u32,
    /// Whether the server was called again since the gate is there.
    is_reopened: bool,
    /// The time from one call to the next, in milliseconds, where one at a time is too much.
    spacing_ms: u64,
    /// It becomes shorter by one part in so many with the next call that succeeds, by twice as much with the one after it,
    /// and so on: a pause may say little of what the server takes when it is over.
    shorter: u64,
}

impl Gate {
    /// So many calls at a time at least after the first was turned away: it may have been the only one.
    const FIRST: u32 = 8;
    const PARTS: u32 = 8;
    const SHORTER: u64 = 32;

    /// One that is open, while so many calls are being made.
    pub(super) fn new(by: StepNumber, running: u32) -> Self {
        Self {
            until: Timestamp::ZERO,
            by,
            running,
            parts: u32::MAX,
            is_reopened: false,
            spacing_ms: 0,
            shorter: Self::SHORTER,
        }
    }

    /// No call is to be made before.
    pub(super) fn close(&mut self, by: StepNumber, until: Timestamp) {
        if until >= self.until {
            (self.by, self.until) = (by, until);
        }
    }

    /// A call was turned away, for so long.
    pub(super) fn turn_away(&mut self, pause_ms: u64) {
        let carried = if self.is_reopened { self.running.max(1) } else { (self.running / 2).max(Self::FIRST) };
        self.parts = self.parts.min(carried.saturating_mul(Self::PARTS));
        if self.is_reopened && self.running == 0 {
            (self.spacing_ms, self.shorter) = (pause_ms, Self::SHORTER);
        }
    }

    /// A step that calls the server has another state.
    pub(super) fn change(&mut self, before: StepState, after: StepState, now: Timestamp) {
        if matches!(after, StepState::Running(_)) {
            self.running += 1;
            self.is_reopened = true;
            self.until = self.until.max(now.plus_millis(self.spacing_ms));
        }
        if matches!(before, StepState::Running(_)) {
            self.running = self.running.saturating_sub(1);
            if matches!(after, StepState::Succeeded | StepState::Expanded) {
                self.parts = self.parts.saturating_add(1);
                self.spacing_ms -= self.spacing_ms.div_ceil(self.shorter);
                self.shorter = (self.shorter / 2).max(1);
            }
        }
    }

    pub(super) fn is_closed(&self, now: Timestamp) -> bool {
        let (calls, most) = self.calls();
        self.until > now || calls >= most
    }

    /// How many calls are being made, and how many may be at a time.
    pub(super) fn calls(&self) -> (u32, u32) {
        (self.running, self.parts / Self::PARTS)
    }

    /// All of it, for comparisons.
    pub(super) fn all(&self) -> (Timestamp, u32, u32, bool, [u64; 2]) {
        (self.until, self.running, self.parts, self.is_reopened, [self.spacing_ms, self.shorter])
    }
}

impl Scheduler {
    /// A server has named an instant before which nobody shall call it, or the step's tool itself has. The step that was
    /// told is not running any more. One that may be called again at once has not been called too much.
    pub(super) fn close_gate(&mut self, step: StepNumber, error: &StepError) {
        let Some(retry_after_ms) = error.retry_after_ms.filter(|pause_ms| *pause_ms > 0) else { return };
        let tool = self.node(step).tool;
        if self.start.tools.get(usize::from(tool)).is_some_and(|tool| tool.many_servers) {
            return;
        }
        let until = self.at.plus_millis(retry_after_ms);
        let gate = self.close_until(self.tools.server(tool), step, until);
        // Where a tool itself knows when it may call, nothing says that it called too much.
        if let Some(gate) = gate.filter(|_| error.kind != StepErrorKind::Deferred) {
            gate.turn_away(retry_after_ms);
        }
    }

    /// Nobody shall call a server before this instant.
    pub(super) fn close_until(&mut self, server: u16, by: StepNumber, until: Timestamp) -> Option<&mut Gate> {
        if !self.gates.contains_key(&server) {
            let is_call =
                |node: &&Node| self.tools.server(node.tool) == server && matches!(node.state, StepState::Running(_));
            let running = self.nodes.iter().filter(is_call).count() as u32;
            self.gates.insert(server, Gate::new(by, running));
            self.reshape();
        }
        let gate = self.gates.get_mut(&server)?;
        gate.close(by, until);
        Some(gate)
    }
}
