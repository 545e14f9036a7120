//! A run for other programs.

use serde_json::json;

use crate::report::Graph;

use super::History;

impl History {
    /// Every event as the journal has it, a line of JSON each, with the name of the run.
    pub fn to_ndjson(&self) -> String {
        let run = self.report.run();
        let lines = self.events.iter().map(|event| {
            let mut line = json!(event);
            line["run"] = json!(run);
            line.to_string() + "\n"
        });
        lines.collect()
    }

    /// The picture of the last plan. None if there never was one.
    pub fn graph(&self) -> Option<Graph> {
        Graph::of_run(&self.report)
    }
}
