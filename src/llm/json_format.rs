//! The JSON format: an object with a list of steps, each read as soon as it is complete.

use std::collections::BTreeMap;

use jiter::{Jiter, JiterErrorType, JsonErrorType, JsonValue, LinePosition, Peek};
use serde::Deserialize;
use serde_json::{Value, json};

use super::plan_text::{Content, DONE, DROP, End, MAX_BYTES, PlanTextFormat, Written, cut};
use super::shown;
use crate::counted::counted;
use crate::error::PlanError;
use crate::plan::StepId;
use crate::planner::PlanRequest;
use crate::strict;

/// The name of the schema, for providers that want one.
pub(super) const SCHEMA_NAME: &str = "plan";

/// The schema of an answer. Providers that hold a model to it want every property required, so what may be missing may be
/// null.
pub(super) fn schema() -> Value {
    let text = json!({ "type": "string" });
    let optional = |description: &str| json!({ "type": ["string", "null"], "description": description });
    json!({
        "type": "object",
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": text,
                        "task": text,
                        "tool": optional("only to call a tool; its arguments are in `args`"),
                        "args": optional("the arguments of the tool, as JSON in a string"),
                        "depends_on": { "type": "array", "items": text }
                    },
                    "required": ["id", "task", "tool", "args", "depends_on"],
                    "additionalProperties": false
                }
            },
            "answer": optional("in place of steps, if the results hold the answer")
        },
        "required": ["steps", "answer"],
        "additionalProperties": false
    })
}

/// A step as the schema has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: Id,
    #[serde(default, alias = "description")]
    task: String,
    #[serde(default)]
    tool: Option<String>,
    #[serde(default, deserialize_with = "strict::value")]
    args: Value,
    /// A step that names none starts at once, so that is not what leaving it out means.
    depends_on: Vec<Id>,
}

/// An id, which models like to write as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What the text as a whole has to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(default)]
    steps: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    answer: Option<String>,
}

/// Reads objects as they come.
pub(super) struct JsonReader {
    /// The steps of the plan that is being revised, by their items as they were shown.
    shown: BTreeMap<String, StepId>,
    text: String,
    list: List,
    /// How many items of the list were read.
    items: usize,
    /// How long the text has to be before it is looked at again.
    look_at: usize,
}

/// How far the list of steps was read.
enum List {
    /// It has not begun.
    Ahead,
    /// Its next item begins here.
    Open(usize),
    /// It is over.
    Closed,
    /// Its next item cannot be read, for this reason.
    Broken(String),
    /// The text is longer than a plan can be.
    Overlong,
}

/// A longer item is not usual.
const LONG: usize = 4 * 1024;

type Take<'a> = &'a mut dyn FnMut(Result<Written, PlanError>);

impl JsonReader {
    pub(super) fn new(request: &PlanRequest) -> Self {
        Self::of(shown::ids(PlanTextFormat::Json, request, spaceless))
    }

    fn of(shown: BTreeMap<String, StepId>) -> Self {
        Self { shown, text: String::new(), list: List::Ahead, items: 0, look_at: 0 }
    }

    pub(super) fn begin_anew(&mut self) {
        *self = Self::of(std::mem::take(&mut self.shown));
    }

    pub(super) fn push(&mut self, piece: &str, take: Take<'_>) {
        if self.text.len() + piece.len() > MAX_BYTES {
            if !matches!(self.list, List::Overlong) {
                let (count, limit) = ((self.text.len() + piece.len()) as u64, MAX_BYTES as u64);
                take(Err(PlanError::TooLarge { what: "bytes".into(), count, limit }));
            }
            self.list = List::Overlong;
            return;
        }
        self.text.push_str(piece);
        // Nothing is complete before something is closed.
        if piece.contains(['}', '[', ']']) && self.text.len() >= self.look_at {
            self.read_on(take);
            // What is not complete is read from its beginning each time, so a long one not with every piece.
            let unread = match self.list {
                List::Open(next) => self.text.len() - next,
                _ => self.text.len(),
            };
            self.look_at = self.text.len() + if unread > LONG { unread / 8 } else { 0 };
        }
    }

    pub(super) fn finish(mut self, take: Take<'_>) -> End {
        self.read_on(take);
        let text = unfenced(&self.text);
        if text == DONE {
            return End::Done;
        }
        match serde_json::from_str(text).map(|strict::Object(whole): strict::Object<Whole>| whole) {
            // That it is too long was said, and what is missing of it is not the planner's doing.
            _ if matches!(self.list, List::Overlong) => End::Whole,
            Ok(Whole { steps, answer }) if steps.is_empty() => match answer.unwrap_or_default().trim() {
                "" => End::Whole,
                DONE => End::Done,
                answer => End::Answer(answer.to_owned()),
            },
            Ok(Whole { answer: Some(answer), .. }) if !answer.trim().is_empty() => {
                let message = "there are steps and an answer: an answer stands in place of steps".to_owned();
                take(Err(PlanError::Malformed { message }));
                End::Whole
            }
            Ok(Whole { steps, .. }) => {
                // Not all that is JSON to the one reader is so to the other. A step must not get lost between them.
                let unread = match self.list {
                    List::Broken(why) => Some(why),
                    _ if steps.len() == self.items => None,
                    _ => Some(format!("{}, of which {} can be read", counted(steps.len(), "step"), self.items)),
                };
                if let Some(message) = unread {
                    take(Err(PlanError::Malformed { message }));
                }
                End::Whole
            }
            Err(error) if error.is_eof() => End::CutOff,
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let there = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                let what = match self.text.contains('{') {
                    true if error.is_data() => format!("not an answer of that form: {error}"),
                    true => format!("not JSON: {error}"),
                    false => format!("not JSON, but text (line {line}, column {column})"),
                };
                let message = format!("{what}: `{}`", cut(there.trim()));
                take(Err(PlanError::Malformed { message }));
                End::Whole
            }
        }
    }

    /// Reads the items that are complete.
    fn read_on(&mut self, take: Take<'_>) {
        let mut next = match self.list {
            List::Ahead => match steps_begin(&self.text) {
                Some(begin) => begin,
                None => return,
            },
            List::Open(next) => next,
            List::Closed | List::Broken(_) | List::Overlong => return,
        };
        self.list = loop {
            let rest = &self.text[next..];
            let start = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', ',']).len();
            if rest[start..].starts_with(']') {
                break List::Closed;
            }
            let item = &rest[start..];
            let mut jiter = Jiter::new(item.as_bytes());
            match jiter.next_skip() {
                Ok(()) => {
                    let end = jiter.current_index();
                    self.items += 1;
                    let text = &item[..end];
                    let shown = if self.shown.is_empty() { None } else { spaceless(text) };
                    take(match shown.and_then(|text| self.shown.get(&text)) {
                        Some(id) => Ok(Written::as_shown(id)),
                        None => self::item(text, self.items),
                    });
                    next += start + end;
                }
                Err(error) if is_incomplete(&error.error_type) => break List::Open(next),
                Err(error) => {
                    let place = LinePosition::find(self.text.as_bytes(), next + start + error.index);
                    break List::Broken(format!("step {} of the list, {place}: {}", self.items + 1, error.error_type));
                }
            }
        };
    }
}

/// Where the first item of the list of steps would begin. None: the list has not begun.
fn steps_begin(text: &str) -> Option<usize> {
    let open = text.len() - unfenced(text).len() - trailing(text);
    let mut jiter = Jiter::new(&text.as_bytes()[open..]);
    let mut key = jiter.next_object().ok()??.to_owned();
    loop {
        if key == "steps" {
            return (jiter.peek().ok()? == Peek::Array).then(|| open + jiter.current_index() + 1);
        }
        jiter.next_skip().ok()?;
        key = jiter.next_key().ok()??.to_owned();
    }
}

/// The text without a code fence around it.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inside) = text.strip_prefix("```") else { return text };
    let inside = inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    inside.trim_end_matches('`').trim()
}

/// How much [`unfenced`] takes away at the end.
fn trailing(text: &str) -> usize {
    let whole = unfenced(text);
    let end = whole.as_ptr() as usize - text.as_ptr() as usize + whole.len();
    text.len() - end
}

fn is_incomplete(error: &JiterErrorType) -> bool {
    let JiterErrorType::JsonError(error) = error else { return false };
    matches!(
        error,
        JsonErrorType::EofWhileParsingList
            | JsonErrorType::EofWhileParsingObject
            | JsonErrorType::EofWhileParsingString
            | JsonErrorType::EofWhileParsingValue
    )
}

/// JSON as it is written where nobody reads it.
fn spaceless(text: &str) -> Option<String> {
    strict::from_str(text).ok().map(|value| value.to_string())
}

/// Reads one step.
fn item(text: &str, place: usize) -> Result<Written, PlanError> {
    let malformed = |what: String| PlanError::Malformed { message: format!("step {place} of the list: {what}") };
    let strict::Object(item): strict::Object<Item> =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let id = item.id.into_text();
    let depends_on: Vec<String> = item.depends_on.into_iter().map(Id::into_text).collect();
    let content = match item.tool.filter(|tool| !tool.is_empty()) {
        Some(tool) => {
            let args = match item.args {
                Value::String(text) if !text.trim().is_empty() => {
                    // Read first by the reader that knows how deep is too deep.
                    JsonValue::parse(text.as_bytes(), false)
                        .map_err(|error| malformed(format!("its args: {error}")))?;
                    strict::from_str(&text).map_err(|error| malformed(format!("its args are not JSON: {error}")))?
                }
                Value::String(_) => Value::Null,
                value => value,
            };
            Content::Call { tool, args, description: item.task }
        }
        None if item.task.trim() == DROP => Content::Drop,
        None if item.task.trim().is_empty() => return Err(malformed(format!("step `{}` says nothing", cut(&id)))),
        None => Content::Task(item.task.trim().to_owned()),
    };
    Ok(Written { id, content, depends_on })
}
