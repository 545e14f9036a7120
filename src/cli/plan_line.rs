//! Plans that are lines of a file: where each is, for what is said of it.

use serde_json::{Value, json};

/// A line of a file of plans.
#[derive(Clone, Debug)]
pub(crate) struct PlanLine {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// What the plan is called, if the line says that much.
    pub(crate) id: Option<String>,
}

impl PlanLine {
    /// Something about the plan, and where that is.
    pub(crate) fn named(&self, what: &str) -> String {
        let Self { file, line, id } = self;
        match id {
            Some(id) => format!("{file}:{line}: plan `{id}`: {what}"),
            None => format!("{file}:{line}: {what}"),
        }
    }

    /// A row of programs for something that is wrong with the plan.
    pub(crate) fn row(&self, error: &str) -> Value {
        json!({ "v": 1, "error": error, "file": self.file, "line": self.line, "id": self.id })
    }
}
