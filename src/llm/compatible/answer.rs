//! What is answered: as a whole, and in pieces.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::events::{DONE, Events, without_mark};
use crate::event::Usage;
use crate::llm::error::ModelError;
use crate::llm::finish::finished;
use crate::llm::provider::{MAX_ANSWER_BYTES, too_long};
use crate::llm::trouble::{Trouble, counted_in, is_lost};
use crate::llm::{ModelReply, ToolCall};
use crate::lossy;

/// An answer, or a piece of one. Servers differ in what they leave out and where they say `null`.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Perhaps<Counted>>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    /// In an answer as a whole. Some servers repeat in it, with each piece, what they have said so far.
    #[serde(borrow)]
    message: Option<Said<'a>>,
    /// In a piece.
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    /// With some servers an empty one while there is more to come.
    finish_reason: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    tool_calls: Option<Vec<Call>>,
    /// Why the model does not answer.
    refusal: Option<Perhaps<String>>,
}

/// Answers that come in pieces are text: no tools are offered, and a call that a model makes up is passed over.
#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    refusal: Option<Perhaps<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    /// Text and what the model thought before it, as some models have it.
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct Counted {
    prompt_tokens: Option<Perhaps<u64>>,
    completion_tokens: Option<Perhaps<u64>>,
}

/// What is of use if it is what it should be, and no reason to throw an answer away if not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Perhaps<T> {
    Is(T),
    IsNot(IgnoredAny),
}

impl<T> Perhaps<T> {
    fn into_option(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::IsNot(IgnoredAny) => None,
        }
    }
}

impl<'a> Answer<'a> {
    /// The answer that a whole body has.
    pub(super) fn whole(body: &[u8], trouble: &Trouble<'_>) -> Result<ModelReply, ModelError> {
        let mut mended = String::new();
        let answer = Answer::read(body, &mut mended, trouble).map_err(|error| {
            let lost = if is_lost(&error) { body.len() } else { 0 };
            trouble.paid(error, lost)
        })?;
        answer.into_reply(trouble)
    }

    /// Reads an answer, which may be that there is none. What is no text in it is put right in `mended`.
    fn read(body: &'a [u8], mended: &'a mut String, trouble: &Trouble<'_>) -> Result<Self, ModelError> {
        let body = without_mark(body);
        let answer: Self = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(error) if error.is_eof() => return Err(trouble.cut_off()),
            Err(_) => {
                *mended = lossy::json(body).into_owned();
                let mended: &'a str = mended;
                serde_json::from_str(mended).map_err(|error| {
                    let usage = counted_in(mended);
                    ModelError { usage, ..trouble.unreadable(&error.to_string()) }
                })?
            }
        };
        let mut errors =
            answer.error.iter().chain(answer.choices.iter().flatten().filter_map(|choice| choice.error.as_ref()));
        let Some(error) = errors.next().map(|error| trouble.broke_off(error)) else { return Ok(answer) };
        Err(ModelError { usage: answer.usage.and_then(used).unwrap_or_default(), ..error })
    }

    fn into_reply(self, trouble: &Trouble<'_>) -> Result<ModelReply, ModelError> {
        let usage = self.usage.and_then(used).unwrap_or_default();
        let mut reply = ModelReply { usage, ..ModelReply::default() };
        let (mut reason, mut refusal) = (None, String::new());
        if let Some(mut choice) = self.choices.into_iter().flatten().next() {
            reason = choice.ended();
            if let Some(said) = choice.message {
                reply.text = said.content.map(Content::into_text).unwrap_or_default().trim().to_owned();
                reply.calls = said.tool_calls.into_iter().flatten().map(tool_call).collect();
                refusal = why(said.refusal);
            }
        }
        finished(reply, reason, refusal, trouble)
    }
}

impl Choice<'_> {
    /// How it ended, if it has. What should be a word and is something else is taken for one.
    fn ended(&mut self) -> Option<String> {
        let reason = match self.finish_reason.take()? {
            Value::String(reason) => reason,
            reason => reason.to_string(),
        };
        Some(reason).filter(|reason| !reason.is_empty())
    }
}

impl<'a> Content<'a> {
    fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let is_said = |part: &Part| part.kind.as_deref().is_none_or(|kind| kind == "text");
                parts.into_iter().filter(is_said).filter_map(|part| part.text).collect()
            }
        }
    }
}

/// An answer that comes in pieces.
pub(super) struct Streamed<'a> {
    events: Events,
    reply: ModelReply,
    is_whole: bool,
    /// How the model has said that it ended. What comes after that is at most what it cost.
    reason: Option<String>,
    /// How many events there were.
    event_count: usize,
    /// Why the model does not answer, if it has said so.
    refusal: String,
    /// Who wants to have each piece.
    piece: &'a mut (dyn FnMut(&str) + Send),
    trouble: &'a Trouble<'a>,
}

impl<'a> Streamed<'a> {
    pub(super) fn new(piece: &'a mut (dyn FnMut(&str) + Send), trouble: &'a Trouble<'a>) -> Self {
        Self {
            events: Events::default(),
            reply: ModelReply::default(),
            is_whole: false,
            reason: None,
            event_count: 0,
            refusal: String::new(),
            piece,
            trouble,
        }
    }

    /// Whether the server has said that nothing more comes: only then an answer counts.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many events there were: comments are none.
    pub(super) fn event_count(&self) -> usize {
        self.event_count
    }

    /// Whether the model has said how it ended.
    pub(super) fn has_ended(&self) -> bool {
        self.reason.is_some()
    }

    /// Takes up what has come.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        let mut events = std::mem::take(&mut self.events);
        events.take(bytes, |data| self.event(data))?;
        let is_too_long = self.reply.text.len() + self.refusal.len() + events.len() > MAX_ANSWER_BYTES;
        self.events = events;
        if is_too_long { Err(too_long()) } else { Ok(()) }
    }

    /// What went wrong, and what the answer cost so far.
    pub(super) fn paid(&self, error: ModelError) -> ModelError {
        let usage = if error.usage.is_zero() { self.reply.usage } else { error.usage };
        self.trouble.paid(ModelError { usage, ..error }, self.reply.text.len())
    }

    /// Nothing more comes, in an orderly way as far as can be told, of what the server calls `kind`.
    pub(super) fn end(&mut self, kind: &str) -> Result<(), ModelError> {
        std::mem::take(&mut self.events).end(|data| self.event(data))?;
        match self.is_whole || self.has_ended() {
            true => Ok(()),
            false if self.event_count > 0 => Err(self.trouble.cut_off()),
            // Some call a stream of events a page: only one that has been read to its end without an event is one.
            false if kind.starts_with("text/html") => Err(self.trouble.not_json(kind)),
            false => Err(self.trouble.no_word()),
        }
    }

    /// The answer, once it is whole.
    pub(super) fn into_reply(self) -> Result<ModelReply, ModelError> {
        finished(self.reply, self.reason, self.refusal, self.trouble)
    }

    fn event(&mut self, data: &[u8]) -> Result<(), ModelError> {
        if self.is_whole || data == DONE {
            self.is_whole = true;
            return Ok(());
        }
        self.event_count += 1;
        let mut mended = String::new();
        let answer = match Answer::read(data, &mut mended, self.trouble) {
            // What comes after the end of an answer is at most what it cost, and of that perhaps only a part.
            Err(error) if self.has_ended() && is_lost(&error) => return Ok(()),
            answer => answer?,
        };
        if let Some(usage) = answer.usage.and_then(used) {
            self.reply.usage = usage;
        }
        let Some(mut choice) = answer.choices.into_iter().flatten().next() else { return Ok(()) };
        if let Some(reason) = choice.ended() {
            self.reason = Some(reason);
        }
        let Some(delta) = choice.delta else { return Ok(()) };
        if let Some(content) = delta.content {
            let text = content.into_text();
            self.reply.text.push_str(&text);
            (self.piece)(&text);
        }
        self.refusal.push_str(&why(delta.refusal));
        Ok(())
    }
}

/// Why there is no answer, if that is said.
fn why(refusal: Option<Perhaps<String>>) -> String {
    refusal.and_then(Perhaps::into_option).unwrap_or_default()
}

/// What was counted, if anything was.
fn used(counted: Perhaps<Counted>) -> Option<Usage> {
    let Counted { prompt_tokens, completion_tokens } = counted.into_option()?;
    let count = |tokens: Option<Perhaps<u64>>| tokens.and_then(Perhaps::into_option);
    let (input, output) = (count(prompt_tokens), count(completion_tokens));
    let usage = Usage { input_tokens: input.unwrap_or(0), output_tokens: output.unwrap_or(0), ..Usage::default() };
    (input.is_some() || output.is_some()).then_some(usage)
}

fn tool_call(call: Call) -> ToolCall {
    let Call { id, function: Function { name, arguments } } = call;
    let arguments = match arguments {
        // Of a call without arguments.
        Value::Null => Value::Object(Map::new()),
        Value::String(text) if text.trim().is_empty() => Value::Object(Map::new()),
        // JSON in a string, if it is as it should be.
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        arguments => arguments,
    };
    ToolCall { id: id.unwrap_or_default(), name, arguments, signatures: None }
}

/// The list of a server's models.
#[derive(Deserialize)]
pub(super) struct Models {
    /// Null, with some, if there are none.
    data: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Models {
    pub(super) fn read(body: &[u8], trouble: &Trouble<'_>) -> Result<Self, ModelError> {
        serde_json::from_slice(body).map_err(|error| trouble.unreadable(&error.to_string()))
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.data.into_iter().flatten().map(|model| model.id).collect()
    }
}
