//! What is different about the tools of a run that is taken up again.

use std::collections::BTreeSet;

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
        // What is empty is left out of them.
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: Vec<String> = names
            .into_iter()
            .map(|field| (field, before.get(field), after.get(field)))
            .filter(|(_, before, after)| before != after && !before.is_some_and(is_redacted))
            .map(|(field, before, after)| match (before.map(short), after.map(short)) {
                (Some(Some(before)), Some(Some(after))) => format!("{field} was {before} and is {after}"),
                (None, Some(Some(after))) => format!("{field} is {after}"),
                (Some(Some(before)), None) => format!("{field} was {before}"),
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
