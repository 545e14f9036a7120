//! What a server has written, as a message.

use rmcp::RoleClient;
use rmcp::model::{ErrorCode, ErrorData, RequestId};
use rmcp::service::RxJsonRpcMessage;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::lossy;

/// What an answer that cannot be read is taken for: an error of ours, with a code that JSON-RPC leaves to others.
pub(super) const UNREADABLE: ErrorCode = ErrorCode(1);

/// As much of an answer as says to which question it belongs.
#[derive(Deserialize)]
struct Envelope {
    id: RequestId,
    method: Option<IgnoredAny>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// The message in a line. None: there is none in it.
///
/// An answer that cannot be read is an error for whoever waits for it, who would wait to the end of the call otherwise.
pub(super) fn read(line: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
    if let Ok(message) = serde_json::from_slice(line) {
        return Some(message);
    }
    let text = lossy::json(line);
    let why = match serde_json::from_str(&text) {
        Ok(message) => return Some(message),
        Err(error) => error.to_string(),
    };
    let Envelope { id, method: None, result, error } = serde_json::from_str(&text).ok()? else { return None };
    result.or(error)?;
    Some(RxJsonRpcMessage::<RoleClient>::error(ErrorData::new(UNREADABLE, why, None), Some(id)))
}
