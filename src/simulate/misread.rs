//! What is wrong with JSON that is not what it should be, in the words of its author.

use serde_json::error::Category;
use serde_json::{Error, Value};

use crate::cut;
#[cfg(feature = "plan-file")]
use crate::plan_file::PlanFileError;

/// How much of a value is shown.
const MOST_CHARS: usize = 40;

/// What a field may be, and how it is asked for.
type Shape = (&'static str, fn(&Value) -> bool);

const TEXT: Shape = ("a text", Value::is_string);
const WHOLE: Shape = ("a whole number from 0", Value::is_u64);
const TEXTS: Shape = ("a list of texts", |value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string)));
const SIZES: Shape = ("an object of whole numbers from 0", |value| {
    value
        .as_object()
        .is_some_and(|all| all.values().all(|size| size.as_u64().is_some_and(|size| size <= u32::MAX.into())))
});
const LIST: Shape = ("a list", Value::is_array);
const OBJECT: Shape = ("an object", Value::is_object);

const LINE_FIELDS: [(&str, Shape); 3] = [("id", TEXT), ("steps", LIST), ("meta", OBJECT)];
const STEP_FIELDS: [(&str, Shape); 7] = [
    ("id", TEXT),
    ("description", TEXT),
    ("depends_on", TEXTS),
    ("duration_ms", WHOLE),
    ("estimate_ms", WHOLE),
    ("tool", TEXT),
    ("resources", SIZES),
];

/// Why a line is no workload: the first thing in it that its author would change.
pub(super) fn reason(line: &[u8], error: &Error) -> String {
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) if error.classify() == Category::Eof => return "not JSON: it is cut off".to_owned(),
        Err(error) => return format!("not JSON, from column {} on", error.column().max(1)),
    };
    if !value.is_object() {
        return format!("a plan should be an object, but this is {}", brief(&value));
    }
    if let Some(wrong) = wrong_field(&value, &LINE_FIELDS) {
        return wrong;
    }
    let text = error.to_string();
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    for (number, step) in (1..).zip(value["steps"].as_array().into_iter().flatten()) {
        let name = step["id"].as_str().map_or_else(|| format!("step {number}"), |id| format!("step `{id}`"));
        if !step.is_object() {
            return format!("{name} should be an object, but is {}", brief(step));
        }
        if let Some(wrong) = wrong_field(step, &STEP_FIELDS) {
            return wrong.replacen("` ", &format!("` of {name} "), 1);
        }
        // The line has these, or it would have been told of it.
        if let Some(field) = missing.filter(|field| step.get(field).is_none() && is_of_steps(field, &value)) {
            return format!("`{field}` of {name} is missing");
        }
    }
    match missing {
        Some(field) => format!("`{field}` is missing"),
        None => text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned()),
    }
}

/// Why a line is no plan as it could be in a file: all that is wrong with it, without places, as it is one line.
#[cfg(feature = "plan-file")]
pub(super) fn misshapen(error: &PlanFileError) -> String {
    let PlanFileError::Invalid(problems) = error else { return error.to_string() };
    let told = problems.problems.iter().map(|problem| match &problem.help {
        Some(help) => format!("{} ({help})", problem.error),
        None => problem.error.to_string(),
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Whether it is steps that lack a field.
fn is_of_steps(field: &str, line: &Value) -> bool {
    STEP_FIELDS.iter().any(|(name, _)| *name == field) && (field != "id" || line.get("id").is_some())
}

fn wrong_field(value: &Value, fields: &[(&str, Shape)]) -> Option<String> {
    fields.iter().find_map(|(name, (shape, has_shape))| {
        let value = value.get(name).filter(|value| !has_shape(value))?;
        Some(format!("`{name}` should be {shape}, but is {}", brief(value)))
    })
}

/// A value as it stands there, if it is short.
pub(super) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        _ => cut::chars(&text, MOST_CHARS).into_owned(),
    }
}
