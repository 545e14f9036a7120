//! `when`: a reference by itself, or compared with a literal.

use serde_json::Value;

use super::{Lookup, Piece, Pieces, Reference, shown, unreadable};
use crate::error::StepError;

/// Whether a step's condition holds.
///
/// A reference by itself holds unless there is nothing in it: null, false, 0, "", an empty list or object.
/// Numbers are compared by value, so `1` equals `1.0`.
///
/// # Errors
///
/// [`BadReference`](StepErrorKind::BadReference) for a path that an output does not have.
pub(crate) fn condition(when: &str, lookup: Lookup<'_>) -> Result<bool, StepError> {
    let Condition { reference, test } = Condition::parse(when).map_err(unreadable)?;
    let output = reference.output(lookup)?;
    let value = reference.resolve(&output)?;
    Ok(match test {
        Test::Holds => !is_nothing(value),
        Test::Equals(literal) => equal(value, &literal),
        Test::Differs(literal) => !equal(value, &literal),
    })
}

/// `${a.ok}`, or `${a.count} == 3`, or `!=`.
pub(super) struct Condition<'a> {
    pub(super) reference: Reference<'a>,
    test: Test,
}

enum Test {
    Holds,
    Equals(Value),
    Differs(Value),
}

impl<'a> Condition<'a> {
    pub(super) fn parse(when: &'a str) -> Result<Self, String> {
        let mut pieces = Pieces::new(when.trim());
        let Some(Piece::Reference(reference)) = pieces.next().transpose()? else {
            return Err(format!("the condition `{}` does not begin with a `${{...}}`", shown(when)));
        };
        let rest = pieces.rest.trim_start();
        let test = if rest.is_empty() {
            Test::Holds
        } else if let Some(literal) = rest.strip_prefix("==") {
            Test::Equals(json_literal(literal)?)
        } else if let Some(literal) = rest.strip_prefix("!=") {
            Test::Differs(json_literal(literal)?)
        } else {
            return Err(format!(
                "after its reference a condition goes on with `==`, `!=` or not at all, not `{}`",
                shown(rest)
            ));
        };
        Ok(Self { reference, test })
    }
}

fn json_literal(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|_| {
        let text = shown(text.trim());
        format!("a condition compares with a JSON literal, which `{text}` is not; text needs double quotes")
    })
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() != right.is_f64() => {
            left.as_f64() == right.as_f64()
        }
        _ => left == right,
    }
}
