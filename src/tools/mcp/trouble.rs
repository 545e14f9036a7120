//! What goes wrong with a server, in our words: what it was asked, and what came instead of an answer. What the library
//! says has names of its types in it, and whole URLs.

use std::error::Error;
use std::time::SystemTime;

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::config::Launch;
use crate::cut;
use crate::error::StepErrorKind;
use crate::retry_after::pause_ms;

/// As much is repeated of what a server says that is not MCP.
const MAX_CHARS: usize = 200;

/// What went wrong.
pub(super) enum Trouble {
    /// The server has answered, with this.
    Answer(String),
    /// It has not: how its process or the connection ended says more than this does.
    Silence(String),
}

impl Trouble {
    pub(super) fn message(self) -> String {
        let (Self::Answer(message) | Self::Silence(message)) = self;
        message
    }
}

/// A status of HTTP in the place of an answer.
pub(super) struct Refusal {
    pub(super) status: u16,
    /// For how long the server wants to be left alone, if it says so.
    pub(super) pause_ms: Option<u64>,
    pub(super) words: String,
}

impl Refusal {
    /// What it means for a call. Only some say that it was not taken up: with the others a server, or whoever stands
    /// before it, may have failed in the midst of it, and what acts may have acted.
    pub(super) fn kind(&self, acts: bool) -> StepErrorKind {
        match self.status {
            425 | 429 => StepErrorKind::Transient,
            503 if self.pause_ms.is_some() => StepErrorKind::Transient,
            400..=407 | 409..=499 => StepErrorKind::Permanent,
            _ if acts => StepErrorKind::Interrupted,
            408 | 500.. => StepErrorKind::Transient,
            _ => StepErrorKind::Permanent,
        }
    }
}

/// The status that a request was answered with, if that is what went wrong with it.
pub(super) fn refusal_of(error: &ServiceError) -> Option<Refusal> {
    let ServiceError::TransportSend(error) = error else { return None };
    refusal(http(error)?)
}

fn refusal(error: &StreamableHttpError<reqwest::Error>) -> Option<Refusal> {
    use StreamableHttpError as Error;
    let plain = |status, words| Refusal { status, pause_ms: None, words };
    Some(match error {
        Error::HttpStatus(refused) => {
            let pause_ms = refused.retry_after.as_ref().and_then(|text| pause_ms(text, SystemTime::now()));
            Refusal { pause_ms, ..plain(refused.status, format!("HTTP {}", refused.status)) }
        }
        Error::AuthRequired(_) => plain(401, "HTTP 401: it wants a key".to_owned()),
        Error::InsufficientScope(_) => plain(403, "HTTP 403: it wants another key".to_owned()),
        Error::SessionExpired => plain(404, "HTTP 404: it has forgotten the session".to_owned()),
        // The library has some only in words.
        Error::UnexpectedServerResponse(said) => {
            let status = said.strip_prefix("HTTP ")?.get(..3)?.parse().ok()?;
            plain(status, words(said).trim_end_matches([':', ' ']).to_owned())
        }
        _ => return None,
    })
}

/// Why a server could not be begun with.
pub(super) fn of_start(error: &ClientInitializeError, launch: &Launch) -> Trouble {
    use ClientInitializeError as Error;
    let (it, asked) = (it(launch), "initialize");
    Trouble::Answer(match error {
        Error::TransportError { error, .. } => return Trouble::Silence(of_transport(error, asked, launch)),
        Error::LegacyFallbackFailed { fallback, .. } => return of_start(fallback, launch),
        Error::ConnectionClosed(_) => {
            return Trouble::Silence(format!("{it} has closed the connection before it was ready"));
        }
        Error::JsonRpcError(error) => format!("{it} refuses `{asked}`: {}", words(&error.message)),
        Error::NoCompatibleProtocolVersion { .. } => format!("{it} speaks no version of MCP that is known here"),
        _ => format!("{it} answers `{asked}` with something else"),
    })
}

/// Why it does not answer.
pub(super) fn of_request(error: &ServiceError, asked: &str, launch: &Launch) -> Trouble {
    let it = it(launch);
    Trouble::Silence(match error {
        ServiceError::TransportSend(error) => of_transport(error, asked, launch),
        ServiceError::TransportClosed => "the connection is closed".to_owned(),
        ServiceError::Timeout { timeout } => format!("{it} has not answered `{asked}` within {timeout:?}"),
        ServiceError::McpError(error) => {
            return Trouble::Answer(format!("{it} refuses `{asked}`: {}", words(&error.message)));
        }
        error => {
            return Trouble::Answer(format!(
                "{it} answers `{asked}` with something else: {}",
                words(&error.to_string())
            ));
        }
    })
}

fn of_transport(error: &DynamicTransportError, asked: &str, launch: &Launch) -> String {
    use StreamableHttpError as Error;
    let it = it(launch);
    let Some(error) = http(error) else { return format!("{it} is gone: {}", innermost(&*error.error)) };
    if let Some(refusal) = refusal(error) {
        return format!("{it} answers `{asked}` with {}", refusal.words);
    }
    match error {
        Error::Client(error) if error.is_connect() || error.is_timeout() => {
            format!("{it} cannot be reached: {}", innermost(error))
        }
        Error::UnexpectedContentType(Some(kind)) => {
            format!("{it} answers `{asked}` with {}, which is not MCP", words(kind))
        }
        Error::UnexpectedServerResponse(said) => {
            format!("{it} answers `{asked}` with what is not MCP: {}", words(said).trim_end_matches([':', ' ']))
        }
        error => format!("{it} does not answer `{asked}`: {}", innermost(error)),
    }
}

/// What HTTP says, if the server is reached by that.
fn http(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
    error.error.downcast_ref()
}

/// The server, as a subject.
fn it(launch: &Launch) -> String {
    launch.host().unwrap_or_else(|| "it".to_owned())
}

/// The innermost cause says it best, and is in no need of an address: "connection refused".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    words(&cause.to_string())
}

/// Somebody else's words on one line, and not many.
fn words(said: &str) -> String {
    cut::chars(&said.split_whitespace().collect::<Vec<_>>().join(" "), MAX_CHARS).into_owned()
}
