//! What goes wrong with a server, in our words: what it was asked, and what came instead of an answer. What the library
//! says has names of its types in it, and whole URLs.

use std::error::Error;

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::config::Launch;
use crate::cut;

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
    match error {
        Error::Client(error) if error.is_connect() || error.is_timeout() => {
            format!("{it} cannot be reached: {}", innermost(error))
        }
        Error::HttpStatus(refused) => format!("{it} answers `{asked}` with HTTP {}", refused.status),
        Error::AuthRequired(_) => format!("{it} answers `{asked}` with HTTP 401: it wants a key"),
        Error::InsufficientScope(_) => format!("{it} answers `{asked}` with HTTP 403: it wants another key"),
        Error::UnexpectedContentType(Some(kind)) => {
            format!("{it} answers `{asked}` with {}, which is not MCP", words(kind))
        }
        Error::UnexpectedServerResponse(said) => {
            let what = if said.starts_with("HTTP ") { "" } else { "what is not MCP: " };
            format!("{it} answers `{asked}` with {what}{}", words(said).trim_end_matches([':', ' ']))
        }
        error => format!("{it} does not answer `{asked}`: {}", innermost(error)),
    }
}

/// What HTTP says, if the server is reached by that.
pub(super) fn http(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
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
