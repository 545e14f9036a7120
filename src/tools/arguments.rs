//! Strict reading of a step's arguments: whatever the tool does not take is refused, with a suggestion.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::cut;
use crate::error::StepError;
use crate::suggest::closest;

/// The arguments of one call.
pub(super) struct Arguments<'a>(&'a Map<String, Value>);

impl<'a> Arguments<'a> {
    /// Takes the arguments of a tool that knows the names in `known`, and no others.
    pub(super) fn new(args: &'a Value, known: &[&str]) -> Result<Self, StepError> {
        let Value::Object(fields) = args else {
            return Err(StepError::bad_input(format!("arguments must be an object with {}", list(known))));
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(StepError::bad_input(unknown_argument(unknown, known))),
            None => Ok(Self(fields)),
        }
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, StepError> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong_type(name, "text", other)),
            None => Err(missing(name)),
        }
    }

    /// A text that may be left out.
    #[cfg(all(feature = "shell", unix))]
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, StepError> {
        if self.0.contains_key(name) { self.text(name).map(Some) } else { Ok(None) }
    }

    /// Any value, which must be there.
    pub(super) fn value(&self, name: &str) -> Result<&'a Value, StepError> {
        self.0.get(name).ok_or_else(|| missing(name))
    }

    /// An object that may be left out.
    #[cfg(all(feature = "shell", unix))]
    pub(super) fn optional_object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, StepError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(other) => Err(wrong_type(name, "an object", other)),
        }
    }

    /// Yes or no; no if it is left out.
    #[cfg(feature = "fetch")]
    pub(super) fn flag(&self, name: &str) -> Result<bool, StepError> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type(name, "true or false", other)),
        }
    }

    /// A whole number that may be left out.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, StepError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if range.contains(&number) => Ok(Some(number)),
                _ if value.is_number() => Err(StepError::bad_input(format!(
                    "`{name}` must be a whole number from {} to {}, not {value}",
                    range.start(),
                    range.end()
                ))),
                _ => Err(wrong_type(name, "a whole number", value)),
            },
        }
    }

    /// A whole number that must be there.
    pub(super) fn required_number(&self, name: &str, range: RangeInclusive<u64>) -> Result<u64, StepError> {
        self.number(name, range)?.ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> StepError {
    StepError::bad_input(format!("the argument `{name}` is missing"))
}

fn wrong_type(name: &str, wanted: &str, found: &Value) -> StepError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    StepError::bad_input(format!("`{name}` must be {wanted}, not {found}"))
}

fn unknown_argument(unknown: &str, known: &[&str]) -> String {
    let shown = cut::chars(unknown, 40);
    match closest(unknown, known.iter().copied()) {
        Some(nearest) => format!("unknown argument `{shown}`: did you mean `{nearest}`?"),
        None => format!("unknown argument `{shown}`: this tool takes {}", list(known)),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}
