//! Values that nest too deep: what reads, writes or drops one in the usual way recurses, and overflows the stack.

use serde_json::Value;

use crate::reference::MAX_DEPTH;

/// Whether a value nests so deep that its record could not be read back.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, MAX_DEPTH)
}

/// Whether a value has more levels than these.
pub(crate) fn is_deeper(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) if most == 0 => true,
        Value::Array(items) => items.iter().any(|item| is_deeper(item, most - 1)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, most - 1)),
        _ => false,
    }
}

/// Drops a value of any depth.
pub(crate) fn dismantle(value: Value) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(fields) => rest.extend(fields.into_iter().map(|(_, field)| field)),
            _ => {}
        }
    }
}
