//! Arguments with the values of their references in place.

use serde_json::{Map, Value};

use super::{Lookup, MAX_DEPTH, Piece, Pieces, unreadable};
use crate::error::StepError;

/// How many bytes the filled arguments of a step may have. Counted while they are built, so that a chain of steps
/// that each double their input costs nothing.
pub(super) const MAX_FILLED_BYTES: usize = 1 << 20;

/// Fills the references in a step's arguments.
///
/// # Errors
///
/// [`BadReference`](StepErrorKind::BadReference) for a path that an output does not have, and if what is filled in is too
/// large or nests too deep.
pub(crate) fn fill(args: &Value, lookup: Lookup<'_>) -> Result<Value, StepError> {
    Filler { lookup, left: MAX_FILLED_BYTES }.value(args, 0)
}

struct Filler<'a> {
    lookup: Lookup<'a>,
    /// Bytes that may still be filled in.
    left: usize,
}

impl Filler<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<Value, StepError> {
        Ok(match value {
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => return Err(too_deep()),
            Value::String(text) => self.text(text, depth)?,
            Value::Array(items) => {
                items.iter().map(|item| self.value(item, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Value::Object(fields) => fields
                .iter()
                .map(|(key, field)| Ok((key.clone(), self.value(field, depth + 1)?)))
                .collect::<Result<Map<_, _>, StepError>>()?
                .into(),
            other => other.clone(),
        })
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<Value, StepError> {
        let mut filled = String::new();
        for piece in Pieces::new(text) {
            match piece.map_err(unreadable)? {
                Piece::Text(text) => filled.push_str(text),
                Piece::Reference(reference) => {
                    let output = reference.output(self.lookup)?;
                    let value = reference.resolve(&output)?;
                    self.measure(value, depth)?;
                    let is_alone = text.len() == "${}".len() + reference.text.len();
                    match value {
                        value if is_alone => return Ok(value.clone()),
                        Value::String(text) => filled.push_str(text),
                        value => filled.push_str(&value.to_string()),
                    }
                }
            }
        }
        Ok(Value::String(filled))
    }

    /// Takes the size of a value, roughly that of its JSON, from what is left.
    fn measure(&mut self, value: &Value, depth: usize) -> Result<(), StepError> {
        const SCALAR_BYTES: usize = 8;
        const FIELD_BYTES: usize = 4;
        self.take(match value {
            Value::String(text) => text.len(),
            _ => SCALAR_BYTES,
        })?;
        match value {
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => Err(too_deep()),
            Value::Array(items) => items.iter().try_for_each(|item| self.measure(item, depth + 1)),
            Value::Object(fields) => fields.iter().try_for_each(|(key, field)| {
                self.take(key.len() + FIELD_BYTES)?;
                self.measure(field, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), StepError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            unreadable(format!("the references of the step stand for more than {MAX_FILLED_BYTES} bytes"))
        })?;
        Ok(())
    }
}

fn too_deep() -> StepError {
    unreadable(format!("the arguments with their references filled nest deeper than {MAX_DEPTH}"))
}
