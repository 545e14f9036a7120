//! The calls that a model makes in one step, told apart.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::ToolCall;
use crate::error::StepError;
use crate::event::Usage;
use crate::tool::{Call, Caller};

/// How much of a digest tells calls apart.
const DIGEST_BYTES: usize = 16;

/// The names of the calls that have succeeded. A name says what is called, and which of all equal calls it is: so another
/// attempt that makes the same calls gives them the same names, and a call that has failed keeps its name when the model
/// makes it once more.
#[derive(Default)]
pub(super) struct Called(BTreeSet<String>);

impl Called {
    /// The names of the calls of one answer.
    pub(super) fn names(&self, calls: &[ToolCall]) -> Vec<String> {
        let mut taken = self.0.clone();
        let name = |call: &ToolCall| {
            let digest = digest(call);
            let mut names = (0..=taken.len()).map(|number| format!("{digest}/{number}"));
            // Of more names than are taken one is free.
            names.find(|name| taken.insert(name.clone())).unwrap_or(digest)
        };
        calls.iter().map(name).collect()
    }

    pub(super) fn succeeded(&mut self, names: impl IntoIterator<Item = String>) {
        self.0.extend(names);
    }
}

fn digest(call: &ToolCall) -> String {
    let text = format!("{} {}", call.name, in_order(&call.arguments));
    Sha256::digest(text)[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same with the fields of objects in order: a model writes them as it likes.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            fields.into_iter().map(|(key, field)| (key.clone(), in_order(field))).collect()
        }
        Value::Array(items) => items.iter().map(in_order).collect(),
        value => value.clone(),
    }
}

/// The caller of a tool for the call of this name.
pub(super) fn within(step: &Caller, name: &str) -> Caller {
    Caller(Arc::new(Within { step: step.clone(), name: name.to_owned() }))
}

struct Within {
    step: Caller,
    name: String,
}

impl Call for Within {
    fn objective(&self) -> &str {
        self.step.0.objective()
    }

    fn idempotency_key(&self) -> String {
        match self.step.0.idempotency_key() {
            nowhere if nowhere.is_empty() => nowhere,
            step => format!("{step}/{}", self.name),
        }
    }

    fn add_usage(&self, usage: Usage) {
        self.step.0.add_usage(usage);
    }

    fn check_limits(&self) -> Result<(), StepError> {
        self.step.0.check_limits()
    }

    // What is left for the next attempt at the step is the model's: a call has no second attempt.

    fn carry_over(&self, _: Box<dyn Any + Send>) {}

    fn carried_over(&self, _: TypeId) -> Option<Box<dyn Any + Send>> {
        None
    }
}
