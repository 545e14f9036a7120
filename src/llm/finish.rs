//! How an answer ended, by the word that its provider has for it.
//!
//! Only some words are known. One that nobody knows is no reason to throw an answer away, for most servers with words of
//! their own have them for an ordinary end: the answer of a step is taken as it is, and a plan has an end mark that shows
//! whether it is whole. No word at all is no end: whoever was broken off has none.

use genai::chat::StopReason;

use super::error::ModelError;
use super::trouble::Trouble;
use super::{ModelReply, ReplyEnd};

/// In words of servers that broke an answer off, or were broken off.
const BROKEN_OFF: [&str; 13] = [
    "error",
    "abort",
    "cancel",
    "fail",
    "insufficient",
    "interrupt",
    "pause",
    "timeout",
    "malformed",
    "unspecified",
    "unavailable",
    "overload",
    "disconnect",
];
/// In words for what a provider's filter has ended that `genai` does not know as such: GLM has the first.
const REFUSED: [&str; 3] = ["sensitive", "moderat", "filter"];
/// In words for an end that `genai` does not know as one.
const COMPLETE: [&str; 3] = ["eos", "stop", "end_of"];
/// In words for a limit that `genai` does not know as one.
const LENGTH: [&str; 3] = ["length", "max_", "token_limit"];

/// An answer that has come to its end, for this reason; `refusal` says why there is none. What it cost goes with it also
/// if it was broken off.
pub(super) fn finished(
    reply: ModelReply,
    reason: Option<String>,
    refusal: String,
    trouble: &Trouble<'_>,
) -> Result<ModelReply, ModelError> {
    let reason = reason.filter(|reason| !reason.is_empty());
    let end = match &reason {
        _ if !refusal.is_empty() => Some(ReplyEnd::Refused),
        // Calls are whole, or they could not be read.
        None if !reply.calls.is_empty() => Some(ReplyEnd::Complete),
        reason => reason.as_deref().and_then(end),
    };
    let Some(end) = end else {
        let error = ModelError { usage: reply.usage, ..trouble.broken_off(reason.as_deref()) };
        return Err(trouble.paid(error, reply.text.len()));
    };
    let finish_reason = reason.filter(|_| end == ReplyEnd::Other).map(|reason| trouble.words(&reason));
    let text = if end == ReplyEnd::Refused { refusal } else { reply.text };
    Ok(ModelReply { text, end, finish_reason, ..reply })
}

/// What a word means; none, if it is that the answer was broken off.
fn end(reason: &str) -> Option<ReplyEnd> {
    let end = match StopReason::from(reason.to_owned()) {
        StopReason::Completed(_) | StopReason::ToolCall(_) | StopReason::StopSequence(_) => ReplyEnd::Complete,
        StopReason::MaxTokens(_) => ReplyEnd::Length,
        StopReason::ContentFilter(_) => ReplyEnd::Refused,
        StopReason::Other(_) => {
            let reason = reason.to_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
            match reason.as_str() {
                "other" | "unknown" => return None,
                _ if has(&BROKEN_OFF) => return None,
                _ if has(&REFUSED) => ReplyEnd::Refused,
                _ if has(&LENGTH) => ReplyEnd::Length,
                _ if has(&COMPLETE) => ReplyEnd::Complete,
                _ => ReplyEnd::Other,
            }
        }
    };
    Some(end)
}
