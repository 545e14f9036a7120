//! `${step.path}`: found, checked and filled.
//!
//! - `${step}` is the whole output of a step, `${step.path.0.field}` a part of it. The first dot ends the id; a
//!   segment is a key of an object or an index of a list. `${inputs.name}` is an input of the run.
//! - Alone in a string a reference stands for the typed value. Inside longer text it is rendered: a string as it is,
//!   any other value as compact JSON.
//! - `$${` is a literal `${`. Keys of objects are never looked at.
//! - A path into a null is null: a dependent of a skipped step sees nulls, whatever it asks for.
//! - What was filled in is never looked at again, so an output cannot smuggle in a reference.
//!
//! What a reference *means* for a plan (an edge, a known input) is decided by [`Dag`](crate::Dag).

mod condition;
mod fill;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
#[cfg(feature = "redact")]
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexSet;
use serde_json::Value;

use crate::cut;
use crate::error::{StepError, StepErrorKind};
use crate::plan::{Step, StepId};

use condition::Condition;
pub(crate) use condition::condition;
pub(crate) use fill::fill;

/// The name under which the inputs of a run are referred to; no step may have it.
pub(crate) const INPUTS: &str = "inputs";

/// How deep arguments and results may nest. Much that handles JSON recurses, and so does dropping a value; and every event
/// has to be read back from a journal by `serde_json`, which reads 127 levels, the event around the value included.
pub(crate) const MAX_DEPTH: usize = 100;

/// How much of a reference or a key a message shows.
const SHOWN_CHARS: usize = 60;

/// Looks up the output of a step, or the object of the run's inputs under [`INPUTS`].
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<Arc<Value>>;

/// What stands between the braces of a `${...}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The whole of it, without the braces.
    pub(crate) text: &'a str,
    /// The step it refers to, or [`INPUTS`].
    pub(crate) id: &'a str,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let id = text.split_once('.').map_or(text, |(id, _)| id);
        let is_id_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/');
        if id.is_empty() || id.len() > 4 * StepId::MAX_BYTES || !id.bytes().all(is_id_byte) {
            let text = shown(text);
            return Err(format!("`${{{text}}}` does not begin with a step id; write `$${{` for a literal `${{`"));
        }
        let reference = Self { text, id };
        if reference.path().any(str::is_empty) {
            return Err(format!("`${{{}}}` has an empty part in its path", shown(text)));
        }
        Ok(reference)
    }

    /// The segments after the id.
    pub(crate) fn path(self) -> impl Iterator<Item = &'a str> {
        self.text.split('.').skip(1)
    }

    /// The input of the run that is meant, if one is.
    pub(crate) fn input(self) -> Option<&'a str> {
        if self.id == INPUTS { self.path().next() } else { None }
    }

    /// Finds the value that is meant in the output it refers to.
    fn resolve(self, output: &Value) -> Result<&Value, StepError> {
        let mut value = output;
        let mut walked = self.id.len();
        for segment in self.path() {
            let next = match value {
                Value::Null => return Ok(value),
                Value::Object(fields) => fields.get(segment),
                Value::Array(items) => index(segment).and_then(|index| items.get(index)),
                _ => None,
            };
            value = next.ok_or_else(|| {
                StepError::new(
                    StepErrorKind::BadReference,
                    format!(
                        "`${{{}}}`: `{}` {}",
                        shown(self.text),
                        shown(&self.text[..walked]),
                        without(value, segment)
                    ),
                )
            })?;
            walked += 1 + segment.len();
        }
        Ok(value)
    }

    /// Looks up the output it refers to.
    fn output(self, lookup: Lookup<'_>) -> Result<Arc<Value>, StepError> {
        lookup(self.id).ok_or_else(|| {
            let message = format!("`${{{}}}`: there is no output of `{}`", shown(self.text), shown(self.id));
            StepError::new(StepErrorKind::BadReference, message)
        })
    }
}

fn index(segment: &str) -> Option<usize> {
    if segment.bytes().all(|b| b.is_ascii_digit()) { segment.parse().ok() } else { None }
}

/// Says what a value is instead of something that has `segment`.
fn without(value: &Value, segment: &str) -> String {
    const SHOWN_KEYS: usize = 8;
    let segment = shown(segment);
    match value {
        Value::Object(fields) if fields.is_empty() => format!("is an empty object, so has no `{segment}`"),
        Value::Object(fields) => {
            let keys: Vec<_> = fields.keys().take(SHOWN_KEYS).map(|key| format!("`{}`", shown(key))).collect();
            let more = match fields.len().saturating_sub(SHOWN_KEYS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("has no `{segment}`; it has {}{more}", keys.join(", "))
        }
        Value::Array(items) => format!("is a list of {}, so has no `{segment}`", items.len()),
        Value::String(_) => format!("is text, so has no `{segment}`"),
        Value::Number(_) => format!("is a number, so has no `{segment}`"),
        Value::Bool(_) => format!("is {value}, so has no `{segment}`"),
        Value::Null => format!("is null, so has no `{segment}`"),
    }
}

fn shown(text: &str) -> Cow<'_, str> {
    cut::chars(text, SHOWN_CHARS)
}

/// A piece of a string that may hold references.
enum Piece<'a> {
    Text(&'a str),
    Reference(Reference<'a>),
}

/// The pieces of a string, one after the other.
struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Pieces<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn piece(&mut self) -> Result<Piece<'a>, String> {
        let Some(opening) = self.rest.find("${") else {
            return Ok(Piece::Text(self.take(self.rest.len())));
        };
        if self.rest.starts_with("$${") {
            self.take(1);
            return Ok(Piece::Text(self.take(2)));
        }
        if opening > 0 {
            let escaped = self.rest[..opening].ends_with('$');
            return Ok(Piece::Text(self.take(opening - usize::from(escaped))));
        }
        let Some(closing) = self.rest.find('}') else {
            let text = shown(self.rest);
            return Err(format!("`{text}` is not closed by a `}}`; write `$${{` for a literal `${{`"));
        };
        if let Some(next @ 1..) = self.rest[2..closing].find("${") {
            let text = shown(&self.rest[..2 + next]);
            return Err(format!("`{text}` is not closed by a `}}` before the next `${{`"));
        }
        let reference = self.take(closing + 1);
        Reference::parse(&reference[2..closing]).map(Piece::Reference)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.piece()) }
    }
}

/// Where the references of a string are, braces included. What comes after something that cannot be read is none.
#[cfg(feature = "redact")]
pub(crate) fn places(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Pieces::new(text);
    let mut places = Vec::new();
    let mut begin = 0;
    while let Some(Ok(piece)) = pieces.next() {
        let end = text.len() - pieces.rest.len();
        if let Piece::Reference(_) = piece {
            places.push(begin..end);
        }
        begin = end;
    }
    places
}

/// Whether a string of a plan holds a reference.
#[cfg(feature = "shell")]
pub(crate) fn has_reference(text: &str) -> bool {
    Pieces::new(text).any(|piece| matches!(piece, Ok(Piece::Reference(_))))
}

/// What a text refers to that is never filled. What cannot be read as a reference is text there.
#[cfg(feature = "llm")]
pub(crate) fn mentions(text: &str) -> impl Iterator<Item = Reference<'_>> {
    let begins = text.split("${").zip(text.split("${").skip(1)).filter(|(before, _)| !before.ends_with('$'));
    begins.filter_map(|(_, inside)| Reference::parse(inside.split_once('}')?.0).ok())
}

/// Calls `found` for every reference of a step, in order of appearance, doubles included, and for everything that
/// looks like one but cannot be read.
pub(crate) fn each_reference<'a>(step: &'a Step, mut found: impl FnMut(Result<Reference<'a>, String>)) {
    each_in_arguments(&step.args, &mut found);
    if let Some(when) = &step.when {
        found(Condition::parse(when).map(|condition| condition.reference));
    }
}

/// The same, of arguments alone.
pub(crate) fn each_in_arguments<'a>(args: &'a Value, found: &mut impl FnMut(Result<Reference<'a>, String>)) {
    let complete = each_string(args, 0, &mut |text| {
        for piece in Pieces::new(text) {
            match piece {
                Ok(Piece::Text(_)) => {}
                Ok(Piece::Reference(reference)) => found(Ok(reference)),
                // What follows in the same string may be meant in any way.
                Err(message) => return found(Err(message)),
            }
        }
    });
    if !complete {
        found(Err(format!("the arguments nest deeper than {MAX_DEPTH}")));
    }
}

/// Calls `found` for every string value that may hold a reference or an escaped one. False if the value nests too
/// deep to look at all of it.
fn each_string<'a>(value: &'a Value, depth: usize, found: &mut impl FnMut(&'a str)) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => return false,
        Value::String(text) if text.contains("${") => found(text),
        Value::Array(items) => return items.iter().all(|item| each_string(item, depth + 1, found)),
        Value::Object(fields) => return fields.values().all(|field| each_string(field, depth + 1, found)),
        _ => {}
    }
    true
}

/// The steps that a step refers to in its arguments and its condition, without doubles, in order of appearance.
///
/// # Errors
///
/// The first reference, or condition, that cannot be read.
pub(crate) fn scan(step: &Step) -> Result<Vec<&str>, String> {
    let mut steps = IndexSet::new();
    let mut unreadable = None;
    each_reference(step, |reference| match reference {
        Ok(reference) if reference.id == INPUTS => {}
        Ok(reference) => {
            steps.insert(reference.id);
        }
        Err(message) => {
            unreadable.get_or_insert(message);
        }
    });
    unreadable.map_or_else(|| Ok(steps.into_iter().collect()), Err)
}

/// Whether [`fill`] would change anything.
pub(crate) fn has_references(args: &Value) -> bool {
    let mut found = false;
    let complete = each_string(args, 0, &mut |_| found = true);
    found || !complete
}

fn unreadable(message: String) -> StepError {
    StepError::new(StepErrorKind::BadReference, message)
}
