//! Where a plan among others is written, for what is said of it.

use serde_json::{Value, json};

/// A file of a plan, or a line of a file of plans.
#[derive(Clone, Debug)]
pub(crate) struct PlanPlace {
    pub(crate) file: String,
    /// From 1; none if the plan has the file to itself.
    pub(crate) line: Option<usize>,
    /// What the plan is called, if that is known.
    pub(crate) id: Option<String>,
}

impl PlanPlace {
    /// A line of a file of plans.
    pub(crate) fn line(file: &str, line: usize, id: Option<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line), id }
    }

    /// Something about the plan, and where that is.
    pub(crate) fn named(&self, what: &str) -> String {
        let Self { file, line, id } = self;
        match (line, id) {
            (Some(line), Some(id)) => format!("{file}:{line}: plan `{id}`: {what}"),
            (Some(line), None) => format!("{file}:{line}: {what}"),
            // That it cannot be read says so.
            (None, _) if what.contains(&format!("`{file}`")) => what.to_owned(),
            // It is called like its file.
            (None, _) => format!("{file}: {what}"),
        }
    }

    /// A row of programs for something that is wrong with the plan.
    pub(crate) fn row(&self, error: &str) -> Value {
        json!({ "v": 1, "error": error, "file": self.file, "line": self.line, "id": self.id })
    }
}
