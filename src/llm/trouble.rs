//! Errors of providers in our words: what kind of trouble it is, and a message without keys and without the request.

use std::borrow::Cow;
use std::time::SystemTime;

use genai::webc::{self, StreamTimeout};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::error::ModelError;
use super::server::Server;
use super::text;
use super::{Message, ModelRequest};
use crate::error::ModelProblem;
use crate::retry_after::pause_wanted;

/// As much of a server's own words is repeated.
const MAX_WORDS: usize = 240;
/// So many bytes of the request in a row do not occur in an error by chance.
const TELLING: usize = 48;
/// In place of words that are not repeated.
const REPEATED: &str = "(the server's words repeat the request, and are left out)";
/// A pause that is longer than this is not believed.
const MAX_PAUSE_MS: u64 = 60 * 60 * 1_000;

/// What was said in a request, to recognise it in an error, and how much it was.
#[derive(Debug, Default)]
pub(super) struct Told {
    samples: Vec<String>,
    bytes: usize,
}

impl Told {
    pub(super) fn of(request: &ModelRequest) -> Self {
        let texts = request.messages.iter().map(|message| match message {
            Message::User(text) | Message::Assistant { text, .. } => text,
            Message::ToolResult { content, .. } => content,
        });
        let mut told = Self { samples: Vec::new(), bytes: 0 };
        for text in texts.chain([&request.system]) {
            told.bytes += text.len();
            // A server that repeats a request repeats its beginning.
            let beginning = folded(text::start(text.trim_start(), 8 * TELLING));
            let sample = text::start(&beginning, TELLING);
            // A character that does not fit in whole is left out.
            if sample.len() > TELLING - char::MAX.len_utf8() {
                told.samples.push(sample.to_owned());
            }
        }
        told
    }

    /// Roughly how many tokens it is.
    pub(super) fn tokens(&self) -> u64 {
        tokens(self.bytes)
    }

    fn is_repeated_in(&self, text: &str) -> bool {
        let text = folded(text);
        self.samples.iter().any(|sample| text.contains(sample.as_str()))
    }
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
            Error::ChatResponseGeneration { cause, .. } => self.unreadable(&cause),
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
            webc::Error::ResponseFailedInvalidJson { cause, .. } => self.unreadable(&cause),
            webc::Error::Reqwest(error) => self.transport(&error),
            webc::Error::JsonValueExt(error) => self.unreadable(&error.to_string()),
        }
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

    pub(super) fn stalled(&self) -> ModelError {
        let seconds = self.server.stall_after.as_secs_f64();
        ModelError::new(ModelProblem::Stalled, format!("no word for {seconds}s, so the answer was given up"))
    }

    /// There is an error where the answer should be.
    pub(super) fn broke_off(&self, error: &Value) -> ModelError {
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        if let Some(status) = status.filter(|status| status.is_client_error() || status.is_server_error()) {
            // What it would have answered with if it had not begun to answer.
            return self.status(status, &error.to_string(), &HeaderMap::new());
        }
        let said = text::after_colon(&self.words(&message_of(error)));
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
        let lower: String = body.chars().take(4_096).collect::<String>().to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let no_such_model =
            lower.contains("model") && says(&["not found", "not exist", "unknown model", "no such", "not_found"]);
        let problem = match code {
            401 | 403 => ModelProblem::WrongKey,
            402 => ModelProblem::NoQuota,
            429 if says(&["insufficient_quota", "billing"]) => ModelProblem::NoQuota,
            429 => ModelProblem::RateLimited,
            404 if no_such_model => ModelProblem::UnknownModel,
            300..=399 | 404 | 405 => ModelProblem::NotAnApi,
            400 | 413 | 422
                if says(&[
                    "context length",
                    "context_length",
                    "context size",
                    "context_size",
                    "maximum context",
                    "too many tokens",
                    "prompt is too long",
                ]) =>
            {
                ModelProblem::ContextOverflow
            }
            400 | 422 if no_such_model => ModelProblem::UnknownModel,
            400 | 422 if says(&["content_filter", "content_policy", "content management policy"]) => {
                ModelProblem::Refused
            }
            408 | 425 | 500..=599 => ModelProblem::Unavailable,
            _ => ModelProblem::Rejected,
        };
        let what = match problem {
            ModelProblem::WrongKey if self.server.key.is_none() => {
                "the server wants a key, and there is none".to_owned()
            }
            ModelProblem::WrongKey => "the server does not accept the key".to_owned(),
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
        let pause = pause_wanted(headers, SystemTime::now()).map(|pause| pause.min(MAX_PAUSE_MS));
        ModelError::new(problem, format!("{what} (HTTP {code}{said})"))
            .retry_after_ms(pause.filter(|_| matches!(code, 408 | 429 | 500..=599)))
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
    fn words(&self, words: &str) -> String {
        if self.told.is_repeated_in(words) {
            return REPEATED.to_owned();
        }
        let mut words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(key) = self.server.key.as_deref().filter(|key| key.len() >= 4) {
            words = words.replace(key, "[key]");
        }
        if words.len() > MAX_WORDS {
            words.truncate(text::start(&words, MAX_WORDS).len());
            words.push_str("...");
        }
        words
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
    let mut texts = messages.chain(places).map(|value| {
        let mut texts = Vec::new();
        add_texts(value, &mut texts);
        texts.join(", ")
    });
    texts.find(|text| !text.trim().is_empty()).unwrap_or_default()
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
