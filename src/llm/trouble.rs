//! Errors of providers in our words: what kind of trouble it is, and a message without keys and without the request.

use std::borrow::Cow;
use std::time::SystemTime;

use genai::webc::{self, StreamTimeout};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::error::ModelError;
use super::server::Server;
use super::text;
use super::{Message, ModelRequest, OfferedTool, ToolCall};
use crate::cut;
use crate::error::ModelProblem;
use crate::event::Usage;
use crate::lossy;
use crate::policy::Retry;
use crate::redact::Secrets;
use crate::retry_after::{pause_ms, pause_wanted};

/// As much of a server's own words is repeated.
const MAX_WORDS: usize = 240;
/// So many bytes of the request in a row do not occur in an error by chance.
const TELLING: usize = 48;
/// In place of words that are not repeated.
const REPEATED: &str = "(the server's words repeat the request, and are left out)";
/// As much of an error is read to find out what it is.
const MAX_READ: usize = 4_096;

/// What only a payment changes. A word such as `billing` is none of it: limits by the minute name the page where more can
/// be had.
const SPENT: [&str; 7] = [
    "insufficient_quota",
    "exceeded_current_quota_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "credit balance is too low",
    "insufficient balance",
    "have any credits",
];
/// In the name of a quota of Google's. A pause is named with it as with any other, but is far too short.
const PER_DAY: &str = "perday";
const WRONG_KEY: [&str; 4] = ["api_key_invalid", "invalid_api_key", "api key not valid", "incorrect api key"];
const ELSEWHERE: [&str; 3] = ["unsupported_country", "country, region", "location is not supported"];
const NO_SUCH_MODEL: [&str; 5] = ["not found", "not exist", "unknown model", "no such", "not_found"];
const TOO_LONG: [&str; 10] = [
    "context length",
    "context_length",
    "context size",
    "context_size",
    "maximum context",
    "maximum prompt length",
    "exceeds the maximum number of tokens",
    "too many tokens",
    "prompt is too long",
    "input is too long",
];
const NO_SUCH_PLACE: &str = "unexpected endpoint";
const FILTERED: [&str; 3] = ["content_filter", "content_policy", "content management policy"];

/// What was said in a request, to recognise it in an error, and how much it was.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How each text began.
    beginnings: Vec<String>,
    bytes: usize,
}

impl Told {
    pub(super) fn of(request: &ModelRequest) -> Self {
        let texts = request.messages.iter().map(|message| match message {
            Message::User(text) | Message::Assistant { text, .. } => text,
            Message::ToolResult { content, .. } => content,
        });
        let mut told = Self { beginnings: Vec::new(), bytes: 0 };
        let calls = request.messages.iter().flat_map(|message| match message {
            Message::Assistant { calls, .. } => calls.as_slice(),
            _ => &[],
        });
        let tool = |tool: &OfferedTool| tool.name.len() + tool.description.len() + written(&tool.arguments);
        let schema = request.schema.iter().map(|(name, schema)| name.len() + written(schema));
        told.bytes = calls.map(of_call).chain(request.tools.iter().map(tool)).chain(schema).sum();
        for text in texts.chain([&request.system]) {
            told.bytes += text.len();
            // A server that repeats a request repeats its beginning.
            told.beginnings.push(cut::start(text.trim_start(), 8 * TELLING).to_owned());
        }
        told
    }

    /// Roughly how many tokens it is.
    pub(super) fn tokens(&self) -> u64 {
        tokens(self.bytes)
    }

    fn is_repeated_in(&self, text: &str) -> bool {
        let text = folded(text);
        self.beginnings.iter().any(|beginning| {
            let beginning = folded(beginning);
            let sample = cut::start(&beginning, TELLING);
            // A character that does not fit in whole is left out.
            sample.len() > TELLING - char::MAX.len_utf8() && text.contains(sample)
        })
    }
}

/// What a body, or an event, of whatever API says that it cost.
pub(super) fn counted(said: &Value) -> Usage {
    let first = said.pointer("/message/usage");
    let places = ["usage", "usageMetadata"].into_iter().filter_map(|name| said.get(name));
    let Some(counts) = places.chain(first).find(|counts| counts.is_object()) else { return Usage::default() };
    let count = |names: &[&str]| names.iter().find_map(|name| counts.get(name)?.as_u64());
    let sum = |names: &[&str]| names.iter().filter_map(|name| count(&[name])).fold(0, u64::saturating_add);
    // Anthropic's count leaves out what was kept from earlier calls.
    let kept = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let input_tokens = count(&["prompt_tokens", "promptTokenCount"]).unwrap_or_else(|| sum(&kept));
    let output_tokens = count(&["completion_tokens", "output_tokens"])
        .unwrap_or_else(|| sum(&["candidatesTokenCount", "thoughtsTokenCount"]));
    // The first event of an answer cannot know how long it will be.
    let output_tokens = if first.is_some() { 0 } else { output_tokens };
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

/// The same of a text that may be no such body.
pub(super) fn counted_in(body: &str) -> Usage {
    serde_json::from_str(body).map(|said| counted(&said)).unwrap_or_default()
}

/// How many bytes a call is that a model makes.
pub(super) fn of_call(call: &ToolCall) -> usize {
    call.name.len() + written(&call.arguments)
}

fn written(value: &Value) -> usize {
    value.to_string().len()
}

/// Roughly how many tokens so many bytes are: a token is about four characters of English.
pub(super) fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// A text as it is compared: white space and what it is in JSON are one space, and nothing else is escaped.
fn folded(text: &str) -> String {
    let text = ["\\n", "\\r", "\\t"].iter().fold(text.to_owned(), |text, escape| text.replace(escape, " "));
    text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says what went wrong with a call.
pub(super) struct Trouble<'a> {
    pub(super) server: &'a Server,
    /// The name of the model, for people.
    pub(super) model: &'a str,
    pub(super) told: &'a Told,
}

impl Trouble<'_> {
    /// What `genai` says.
    pub(super) fn of(&self, error: genai::Error) -> ModelError {
        use genai::Error;
        match error {
            Error::HttpError { status, body, headers, .. } => self.status(status, &body, &headers),
            Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } => self.web(webc_error),
            Error::WebStream { error, .. } => self.boxed(error),
            Error::ChatResponse { body, .. } => self.broke_off(&body),
            // These print the whole request.
            Error::ChatResponseGeneration { cause, response_body, .. } => {
                let usage = counted(&response_body);
                self.paid(ModelError { usage, ..self.unreadable(&cause) }, 0)
            }
            Error::StreamParse { serde_error, .. } => self.unreadable(&serde_error.to_string()),
            Error::RequiresApiKey { .. }
            | Error::NoAuthResolver { .. }
            | Error::NoAuthData { .. }
            | Error::Resolver { .. } => ModelError::new(ModelProblem::MissingKey, "there is no API key"),
            other => ModelError::new(ModelProblem::Rejected, self.words(&other.to_string())),
        }
    }

    fn boxed(&self, error: genai::BoxError) -> ModelError {
        let error = match error.downcast::<genai::Error>() {
            Ok(error) => return self.of(*error),
            Err(error) => error,
        };
        if error.is::<StreamTimeout>() {
            return self.stalled();
        }
        match error.downcast::<reqwest::Error>() {
            Ok(error) => self.transport(&error),
            Err(error) => ModelError::new(ModelProblem::CutOff, self.words(&error.to_string())),
        }
    }

    fn web(&self, error: webc::Error) -> ModelError {
        match error {
            webc::Error::ResponseFailedStatus { status, body, headers } => self.status(status, &body, &headers),
            webc::Error::ResponseFailedNotJson { content_type, .. } => self.not_json(&content_type),
            webc::Error::ResponseFailedInvalidJson { body, cause } => {
                let usage = counted_in(&lossy::json(body.as_bytes()));
                self.paid(ModelError { usage, ..self.unreadable(&cause) }, body.len())
            }
            webc::Error::Reqwest(error) if error.is_body() || error.is_decode() => self.paid(self.transport(&error), 0),
            webc::Error::Reqwest(error) => self.transport(&error),
            webc::Error::JsonValueExt(error) => self.unreadable(&error.to_string()),
        }
    }

    /// What went wrong after an answer had begun, of which so many bytes have come, and what it cost all the same: as the
    /// server counts it, or else roughly. Where the server says what went wrong before the first word, nothing was done.
    pub(super) fn paid(&self, error: ModelError, received: usize) -> ModelError {
        if received == 0 && !is_lost(&error) {
            return error;
        }
        let or = |counted: u64, rough: u64| if counted == 0 { rough } else { counted };
        let usage = Usage {
            input_tokens: or(error.usage.input_tokens, self.told.tokens()),
            output_tokens: or(error.usage.output_tokens, tokens(received)),
            ..error.usage
        };
        ModelError { usage, ..error }
    }

    /// The answer is of a kind that no API of a model has.
    pub(super) fn not_json(&self, content_type: &str) -> ModelError {
        let kind = if content_type.is_empty() { "nothing that is named" } else { content_type };
        let message =
            format!("the server answers with {kind}, not with JSON: is the base URL right? It usually ends in /v1");
        ModelError::new(ModelProblem::NotAnApi, self.words(&message))
    }

    /// A stream has ended before it began.
    pub(super) fn no_word(&self) -> ModelError {
        let message = "the server's answer has no word in it: is the base URL that of a model's API? It usually ends in \
                       /v1";
        ModelError::new(ModelProblem::NotAnApi, message)
    }

    /// A stream has ended before its end.
    pub(super) fn cut_off(&self) -> ModelError {
        ModelError::new(ModelProblem::CutOff, "the connection broke before the answer was complete")
    }

    /// The provider has ended an answer before its end, and this is its word for it.
    pub(super) fn broken_off(&self, reason: Option<&str>) -> ModelError {
        let message = match reason {
            Some(reason) => format!("the provider broke the answer off (finish reason `{}`)", self.words(reason)),
            None => "the answer ended without a finish reason, so it may not be whole".to_owned(),
        };
        ModelError::new(ModelProblem::CutOff, message)
    }

    pub(super) fn stalled(&self) -> ModelError {
        let seconds = self.server.stall_after.as_secs_f64();
        ModelError::new(ModelProblem::Stalled, format!("no word for {seconds}s, so the answer was given up"))
    }

    /// There is an error where the answer should be.
    pub(super) fn broke_off(&self, error: &Value) -> ModelError {
        // Some have it as a body would be.
        let inner = error.get("error").unwrap_or(error);
        let status = inner.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        if let Some(status) = status.filter(|status| status.is_client_error() || status.is_server_error()) {
            // What it would have answered with if it had not begun to answer.
            return self.status(status, &error.to_string(), &HeaderMap::new());
        }
        let message = message_of(error);
        // LM Studio says so with a status that promises an answer.
        if message.to_lowercase().contains(NO_SUCH_PLACE) {
            return self.status(StatusCode::NOT_FOUND, &error.to_string(), &HeaderMap::new());
        }
        let said = text::after_colon(&self.words(&message));
        ModelError::new(ModelProblem::Unavailable, format!("the server broke off with an error{said}"))
    }

    pub(super) fn unreadable(&self, cause: &str) -> ModelError {
        let message = format!("the answer cannot be read: {}", self.words(cause));
        ModelError::new(ModelProblem::BadAnswer, message)
    }

    pub(super) fn transport(&self, error: &reqwest::Error) -> ModelError {
        if error.is_connect() || error.is_timeout() {
            // The innermost cause says it best: "connection refused".
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            let message = format!("the server cannot be reached: {}", self.words(&cause.to_string()));
            return ModelError::new(ModelProblem::Unreachable, message);
        }
        if self.server.key.as_deref().is_some_and(|key| HeaderValue::from_str(key).is_err()) {
            let message = "the key cannot be sent: there is a line break in it, or another sign that no key has";
            return ModelError::new(ModelProblem::WrongKey, message);
        }
        if error.is_builder() {
            return ModelError::new(
                ModelProblem::Rejected,
                "the request cannot be sent: is the address or the key damaged?",
            );
        }
        self.cut_off()
    }

    pub(super) fn status(&self, status: StatusCode, body: &str, headers: &HeaderMap) -> ModelError {
        let code = status.as_u16();
        let error: Option<Value> = serde_json::from_str(body).ok();
        let named = pause_wanted(headers, SystemTime::now()).or_else(|| retry_delay(error.as_ref()?));
        let said = error.as_ref().map_or_else(|| body.to_owned(), texts_of);
        let said = cut::start(&said, MAX_READ).to_lowercase();
        let problem = problem(code, &said, named.is_some());
        let what = match problem {
            ModelProblem::WrongKey if self.server.key.is_none() => {
                "the server wants a key, and there is none".to_owned()
            }
            ModelProblem::WrongKey => "the server does not accept the key".to_owned(),
            ModelProblem::NoQuota if said.contains(PER_DAY) => "the quota of the day is used up".to_owned(),
            ModelProblem::NoQuota => "the account has nothing left to spend".to_owned(),
            ModelProblem::RateLimited => "too many calls at a time".to_owned(),
            ModelProblem::UnknownModel => format!("the server has no model `{}`", self.server.model_name(self.model)),
            ModelProblem::NotAnApi => {
                "there is no such address: is the base URL right? It usually ends in /v1".to_owned()
            }
            ModelProblem::ContextOverflow => "the request is longer than the model can read".to_owned(),
            ModelProblem::Refused => "the provider's filter refused the request".to_owned(),
            ModelProblem::Unavailable => "the server failed".to_owned(),
            _ => "the server does not accept the request".to_owned(),
        };
        let said = text::after_colon(&self.words_of(body));
        let pause = named.map(|pause| pause.min(Retry::MAX_PAUSE_MS)).filter(|_| problem.may_pass());
        ModelError::new(problem, format!("{what} (HTTP {code}{said})")).retry_after_ms(pause)
    }

    /// What the body of an error says, fit to be shown.
    fn words_of(&self, body: &str) -> String {
        match serde_json::from_str(body) {
            Ok(error) => self.words(&message_of(&error)),
            // Without its tags, what it repeats may not be recognised.
            Err(_) if self.told.is_repeated_in(body) => REPEATED.to_owned(),
            Err(_) => self.words(&without_tags(body)),
        }
    }

    /// Somebody else's words, fit to be shown: one line, not long, without the key and without the request.
    pub(super) fn words(&self, words: &str) -> String {
        if self.told.is_repeated_in(words) {
            return REPEATED.to_owned();
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = Secrets::new(self.server.key.as_deref()).redact(&words).into_owned();
        cut::bytes(&words, MAX_WORDS).into_owned()
    }
}

/// Whether there is an answer, or a part of one, which is lost.
pub(super) fn is_lost(error: &ModelError) -> bool {
    matches!(error.problem, ModelProblem::CutOff | ModelProblem::Stalled | ModelProblem::BadAnswer)
}

/// What an error is, by its status, its words in lower case and whether it names a time to come back.
fn problem(code: u16, said: &str, names_a_pause: bool) -> ModelProblem {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let no_such_model = said.contains("model") && says(&NO_SUCH_MODEL);
    let is_spent = says(&SPENT) && !names_a_pause && !said.contains("rate_limit");
    match code {
        402 => ModelProblem::NoQuota,
        429 if is_spent || said.contains(PER_DAY) => ModelProblem::NoQuota,
        429 => ModelProblem::RateLimited,
        400 | 403 if is_spent => ModelProblem::NoQuota,
        403 | 404 if no_such_model => ModelProblem::UnknownModel,
        403 if says(&ELSEWHERE) => ModelProblem::Rejected,
        401 | 403 => ModelProblem::WrongKey,
        400 if says(&WRONG_KEY) => ModelProblem::WrongKey,
        300..=399 | 404 | 405 => ModelProblem::NotAnApi,
        400 | 413 | 422 if says(&TOO_LONG) => ModelProblem::ContextOverflow,
        400 | 422 if no_such_model => ModelProblem::UnknownModel,
        400 | 422 if says(&FILTERED) => ModelProblem::Refused,
        408 | 425 | 500..=599 => ModelProblem::Unavailable,
        _ => ModelProblem::Rejected,
    }
}

/// For how long one of Google's servers wants to be left alone: it says so in the body.
fn retry_delay(said: &Value) -> Option<u64> {
    match said {
        Value::Object(fields) => match fields.get("retryDelay").and_then(Value::as_str) {
            Some(delay) => pause_ms(delay.strip_suffix('s')?, SystemTime::now()),
            None => fields.values().find_map(retry_delay),
        },
        Value::Array(values) => values.iter().find_map(retry_delay),
        _ => None,
    }
}

/// An address without what may be secret in it: name, password and query.
pub fn shown_address(address: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(address) else { return "an address that is none".to_owned() };
    // These fail only for addresses that cannot have either.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// What a page says of whatever stands before the server: its title, if it has one, for beside that it is mostly styles.
fn without_tags(body: &str) -> Cow<'_, str> {
    if !body.trim_start().starts_with('<') {
        return body.into();
    }
    let parts = body.split('<').map(|part| part.split_once('>').unwrap_or(("", part)));
    let is_title = |tag: &str| tag.split_whitespace().next().is_some_and(|name| name.eq_ignore_ascii_case("title"));
    match parts.clone().find(|(tag, text)| is_title(tag) && !text.trim().is_empty()) {
        Some((_, title)) => title.into(),
        None => parts.map(|(_, text)| text).collect::<Vec<_>>().join(" ").into(),
    }
}

/// The message of an error, in the forms that servers use: in it or beside it. Where there is none, every word may be the
/// one that helps.
fn message_of(said: &Value) -> String {
    let error = said.get("error");
    let places = error.into_iter().chain([said]);
    let messages = places.clone().flat_map(|place| ["message", "detail"].map(|name| place.get(name))).flatten();
    messages.chain(places).map(texts_of).find(|text| !text.trim().is_empty()).unwrap_or_default()
}

fn texts_of(value: &Value) -> String {
    let mut texts = Vec::new();
    add_texts(value, &mut texts);
    texts.join(", ")
}

fn add_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Array(values) => values.iter().for_each(|value| add_texts(value, texts)),
        Value::Object(fields) => {
            // FastAPI repeats in `input` what it was sent.
            let said = fields.iter().filter(|(name, _)| *name != "input");
            said.for_each(|(_, value)| add_texts(value, texts));
        }
        Value::Null | Value::Bool(_) => {}
    }
}
