//! Servers that have turned calls away: from when on, and how many at a time, they may be called again.

use plandag::{StepNumber, Timestamp};

use super::books::{Books, State};

#[derive(Clone, Debug)]
pub struct Gate {
    until: Timestamp,
    /// Calls at a time, in eighths.
    most: u32,
    /// It was called again since.
    was_called: bool,
    /// What lies between two calls at least.
    spacing_ms: u64,
    /// By one part in so many it becomes shorter with the next success.
    shorter: u64,
}

impl Books {
    /// Whom a step calls.
    fn server(&self, step: StepNumber) -> Option<String> {
        let tool = self.tool_of(&self.step(step).definition)?;
        Some(if tool.server.is_empty() { format!("that of {}", tool.name) } else { tool.server.clone() })
    }

    /// Whether the planner may be asked now.
    pub fn may_be_asked(&self, now: Timestamp) -> bool {
        self.gates.get(&self.start.planner_server).is_none_or(|gate| gate.until <= now)
    }

    /// The planner is not to be asked before, and its server not to be called.
    pub fn planner_closed(&mut self, until: Timestamp) {
        let gate = self.gates.entry(self.start.planner_server.clone());
        let gate = gate.or_insert(Gate { until, most: u32::MAX, was_called: false, spacing_ms: 0, shorter: 32 });
        gate.until = gate.until.max(until);
    }

    fn calls(&self, server: &str) -> u32 {
        let is_call = |number: &StepNumber| {
            matches!(self.step(*number).state, State::Running(_)) && self.server(*number).as_deref() == Some(server)
        };
        (0..self.steps.len() as StepNumber).filter(is_call).count() as u32
    }

    /// Whether a step's tool may be called now.
    pub fn may_be_called(&self, step: StepNumber, now: Timestamp) -> bool {
        let Some((server, gate)) =
            self.server(step).and_then(|server| Some((server.clone(), self.gates.get(&server)?)))
        else {
            return true;
        };
        gate.until <= now && self.calls(&server) * 8 + 8 <= gate.most
    }

    /// A call of a step's tool was turned away, or put off by the tool itself; it is not being made any more.
    pub fn closed(&mut self, step: StepNumber, now: Timestamp, pause_ms: u64, is_deferred: bool) {
        let Some(server) = self.server(step) else { return };
        let calls = self.calls(&server);
        let until = now.plus_millis(pause_ms);
        let gate = self.gates.entry(server);
        let gate = gate.or_insert(Gate { until, most: u32::MAX, was_called: false, spacing_ms: 0, shorter: 32 });
        gate.until = gate.until.max(until);
        if is_deferred {
            return;
        }
        gate.most = gate.most.min(8 * if gate.was_called { calls.max(1) } else { (calls / 2).max(8) });
        if gate.was_called && calls == 0 {
            (gate.spacing_ms, gate.shorter) = (pause_ms, 32);
        }
    }

    /// A call of a step's tool begins.
    pub fn called(&mut self, step: StepNumber, now: Timestamp) {
        if let Some(gate) = self.server(step).and_then(|server| self.gates.get_mut(&server)) {
            gate.was_called = true;
            gate.until = gate.until.max(now.plus_millis(gate.spacing_ms));
        }
    }

    /// A call of a step's tool has succeeded.
    pub fn answered(&mut self, step: StepNumber) {
        if let Some(gate) = self.server(step).and_then(|server| self.gates.get_mut(&server)) {
            gate.most = gate.most.saturating_add(1);
            gate.spacing_ms -= gate.spacing_ms.div_ceil(gate.shorter);
            gate.shorter = (gate.shorter / 2).max(1);
        }
    }
}
