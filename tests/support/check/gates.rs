//! Tools whose server has turned calls away: from when on, and how many at a time, it may be called again.

use plandag::{StepNumber, Timestamp};

use super::books::{Books, State};

#[derive(Clone, Debug)]
pub struct Gate {
    until: Timestamp,
    /// Calls at a time, in sixteenths.
    most: u32,
    /// It was called again since.
    was_called: bool,
    /// What lies between two calls at least.
    spacing_ms: u64,
}

impl Books {
    fn tool_name(&self, step: StepNumber) -> Option<String> {
        self.tool_of(&self.step(step).definition).map(|tool| tool.name.clone())
    }

    fn calls(&self, tool: &str) -> u32 {
        let is_call = |number: &StepNumber| {
            matches!(self.step(*number).state, State::Running(_)) && self.tool_name(*number).as_deref() == Some(tool)
        };
        (0..self.steps.len() as StepNumber).filter(is_call).count() as u32
    }

    /// Whether a step's tool may be called now.
    pub fn may_be_called(&self, step: StepNumber, now: Timestamp) -> bool {
        let Some((tool, gate)) = self.tool_name(step).and_then(|tool| Some((tool.clone(), self.gates.get(&tool)?)))
        else {
            return true;
        };
        gate.until <= now && self.calls(&tool) * 16 + 16 <= gate.most
    }

    /// A call of a step's tool was turned away, or put off by the tool itself; it is not being made any more.
    pub fn closed(&mut self, step: StepNumber, now: Timestamp, pause_ms: u64, is_deferred: bool) {
        let Some(tool) = self.tool_name(step) else { return };
        let calls = self.calls(&tool);
        let until = now.plus_millis(pause_ms);
        let gate = self.gates.entry(tool);
        let gate = gate.or_insert(Gate { until, most: u32::MAX, was_called: false, spacing_ms: 0 });
        gate.until = gate.until.max(until);
        if is_deferred {
            return;
        }
        gate.most = gate.most.min(16 * if gate.was_called { calls.max(1) } else { (calls / 2).max(8) });
        if gate.was_called && calls == 0 {
            gate.spacing_ms = pause_ms;
        }
    }

    /// A call of a step's tool begins.
    pub fn called(&mut self, step: StepNumber, now: Timestamp) {
        if let Some(gate) = self.tool_name(step).and_then(|tool| self.gates.get_mut(&tool)) {
            gate.was_called = true;
            gate.until = gate.until.max(now.plus_millis(gate.spacing_ms));
        }
    }

    /// A call of a step's tool has succeeded.
    pub fn answered(&mut self, step: StepNumber) {
        if let Some(gate) = self.tool_name(step).and_then(|tool| self.gates.get_mut(&tool)) {
            gate.most = gate.most.saturating_add(1);
            gate.spacing_ms -= gate.spacing_ms.div_ceil(32);
        }
    }
}
