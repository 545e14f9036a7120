//! What is different about the tools of a run that is taken up again.

use serde_json::{Map, Value};

use crate::tool::ToolSpec;

/// The differences between the tools a run was started with and those there are now. More tools than the run began
/// with are none: it cannot use them.
pub(super) fn of_tools(then: &[ToolSpec], now: &[ToolSpec]) -> Vec<String> {
    let difference = |before: &ToolSpec| {
        let Some(after) = now.iter().find(|after| after.name == before.name) else {
            return Some(format!("`{}` is missing", before.name));
        };
        let (before, after) = (fields(before), fields(after));
        let changed: Vec<String> = before
            .iter()
            .filter(|(field, value)| after.get(*field) != Some(value) && !is_redacted(value))
            .map(|(field, value)| match (short(value), after.get(field).and_then(short)) {
                (Some(before), Some(after)) => format!("{field} was {before} and is {after}"),
                _ => format!("{field} is another"),
            })
            .collect();
        let name = before.get("name").and_then(Value::as_str).unwrap_or_default();
        (!changed.is_empty()).then(|| format!("`{name}`: {}", changed.join(", ")))
    };
    then.iter().filter_map(difference).collect()
}

/// What a tool says about itself, but for how long it took so far, whom it waits for, and what that teaches about a run.
fn fields(spec: &ToolSpec) -> Map<String, Value> {
    let spec = ToolSpec {
        mean_ms: None,
        takes_inputs: false,
        many_servers: false,
        pool: String::new(),
        server: String::new(),
        ..spec.clone()
    };
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Whether a secret was taken out of it when it was written down, so that nobody knows any more what it was.
fn is_redacted(value: &Value) -> bool {
    value.to_string().contains("[redacted]")
}

/// A value that is short enough to be shown.
fn short(value: &Value) -> Option<String> {
    let text = value.to_string();
    (text.len() <= 60).then_some(text)
}
