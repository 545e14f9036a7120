//! The whole state as data, to compare and to look at.

use serde_json::{Map, Value, json};

use crate::event::StepNumber;

use super::state::{NONE, Request, Scope};
use super::{Scheduler, StepState};

impl Scheduler {
    /// The whole state as JSON, definitions and outputs apart.
    ///
    /// Two schedulers with equal snapshots behave alike from then on. After every transition,
    /// `Scheduler::replay(history)?.snapshot() == live.snapshot()`.
    pub fn snapshot(&self) -> Value {
        let scopes: Map<String, Value> =
            self.scopes.iter().map(|(parent, scope)| (parent.to_string(), scope_value(scope))).collect();
        let names: Map<String, Value> = self
            .names()
            .iter()
            .map(|(id, name)| (id.to_string(), json!([number(name.current), number(name.finished), name.has_expanded])))
            .collect();
        let pools: Map<String, Value> = self
            .pools
            .sizes()
            .zip(self.pools.used())
            .map(|((name, size), used)| (name.to_owned(), json!([size, used])))
            .collect();
        let steps: Vec<Value> = (0..self.step_count()).map(|number| self.step_value(number)).collect();
        json!({
            "phase": format!("{:?}", self.phase),
            "stop": self.stop,
            "grace": self.grace,
            "outcome": self.outcome,
            "seq": self.seq,
            "at": self.at,
            "policy": self.policy,
            "steps": steps,
            "names": names,
            "root": scope_value(&self.root),
            "scopes": scopes,
            "drafts": self.drafts,
            "attempts": self.attempts,
            "no_calls": self.no_calls,
            "aborting": self.aborting.keys().collect::<Vec<_>>(),
            "pools": pools,
            "arrivals": self.arrivals,
            "rehearsed": json!([self.is_unrehearsed, self.rehearsed]),
            "gates": self.gates.iter().map(|(server, gate)| json!([server, gate.all()])).collect::<Vec<_>>(),
            "requests": self.requests,
            "revision": self.revision,
            "replans": self.replans,
            "own": self.own,
            "pending": self.pending.as_ref().map(request_value),
            "again": self.again.as_ref().map(request_value),
            "reviewed": self.reviewed,
            "usage": self.usage,
            "late": self.late,
            "outside": self.outside.parts(),
        })
    }

    fn step_value(&self, step: StepNumber) -> Value {
        let (node, definition) = (self.node(step), self.definition(step));
        let taken = matches!(node.state, StepState::Running(_)).then(|| self.shapes[node.taken as usize].needs.clone());
        json!({
            "id": self.id(step),
            "settings": [definition.timeout_ms, definition.estimate_ms],
            "state": format!("{:?}", node.state),
            "output": self.output(step).is_some(),
            "error": node.error,
            "rank": node.rank,
            "parent": number(node.parent),
            "unmet": self.unmet[step as usize],
            "tries": node.tries,
            "interruptions": self.interruptions(step),
            "passed": node.passed,
            "needs": self.shapes[node.shape as usize].needs,
            "taken": taken,
            "flags": [node.member, node.draft, node.held, node.unreported],
        })
    }
}

fn number(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != NONE)
}

fn scope_value(scope: &Scope) -> Value {
    json!({
        "members": scope.members,
        "open": scope.open,
        "failed": scope.failed,
        "answer": scope.answer,
        "replans": scope.replans,
    })
}

fn request_value(request: &Request) -> Value {
    json!({
        "request": request.request,
        "reason": request.reason,
        "reported": request.reported,
        "must_answer": request.must_answer,
        "rejections": request.rejections,
        "put_off": request.put_off,
        "edges": request.edges,
    })
}
