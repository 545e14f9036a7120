//! The beginning of values that may be large.

use std::io;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

use crate::counted::counted;
use crate::event::Output;

use super::Text;

/// Bytes of the arguments, and as many of the outputs, of all steps together that a page can do with.
const BUDGET: usize = 80_000;
/// Of a step among many, the least is shown all the same; and no more than the most of one among few.
const BYTES_OF_STEP: RangeInclusive<usize> = 200..=10_000;
/// Bytes of an answer: it is what the run was for.
const BYTES_OF_ANSWER: usize = 20_000;
/// Bytes of a message.
const BYTES_OF_MESSAGE: usize = 1_000;

/// How much is shown of the arguments and of the output of each of so many steps, in bytes.
pub(super) fn bytes_of_step(steps: usize) -> usize {
    (BUDGET / steps.max(1)).clamp(*BYTES_OF_STEP.start(), *BYTES_OF_STEP.end())
}

/// What a run is for. It is in the head of the page, and in every update.
pub(super) fn objective(objective: &str) -> String {
    let Text { mut text, cut } = text(objective, BYTES_OF_MESSAGE);
    if cut {
        text.push('…');
    }
    text
}

/// A message for people.
pub(super) fn message(message: &str) -> Text {
    text(message, BYTES_OF_MESSAGE)
}

/// The beginning of a text.
pub(super) fn text(text: &str, most: usize) -> Text {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    Text { text: text[..end].to_owned(), cut: end < text.len() }
}

/// The beginning of a value: text as it is, everything else as JSON.
pub(super) fn value(value: &Value, most: usize) -> Text {
    as_text(value).map_or_else(|| json(value, most), |value| text(value, most))
}

/// An answer, as far as a page can show it.
pub(super) fn answer(answer: &Value) -> Text {
    value(answer, BYTES_OF_ANSWER)
}

/// The text that a value is, or has as what is meant for people.
fn as_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("text")?.as_str())
}

/// The beginning of a value as JSON.
pub(super) fn json(value: &Value, most: usize) -> Text {
    let mut beginning = Beginning { bytes: Vec::new(), most };
    let mut serializer = serde_json::Serializer::pretty(&mut beginning);
    let is_whole = value.serialize(&mut serializer).is_ok();
    let mut text = String::from_utf8_lossy(&beginning.bytes).into_owned();
    if !is_whole && text.ends_with(char::REPLACEMENT_CHARACTER) {
        // The end came in the middle of a character.
        text.pop();
    }
    Text { text, cut: !is_whole }
}

/// The beginning of an output, as far as it is known without reading what is kept elsewhere.
pub(super) fn output(output: &Output, most: usize) -> Text {
    match output {
        Output::Inline(inline) => value(inline, most),
        Output::Stored(stored) => Text { text: stored.preview.clone(), cut: true },
        Output::Gathered(members) => {
            Text { text: format!("the outputs of {}", counted(members.len(), "step")), cut: true }
        }
    }
}

/// Takes up no more than a page shows: a value may be a thousand times as large.
struct Beginning {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.most.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_beginning_of_a_large_value_is_written_down() {
        let large = json!({ "list": vec!["ä\u{1}"; 100_000] });
        let beginning = json(&large, 2_000);
        assert!(beginning.cut && (1_997..=2_000).contains(&beginning.text.len()));
        assert!(beginning.text.starts_with("{\n  \"list\": [\n    \"ä\\u0001\","));
        assert_eq!(json(&json!([1]), 9), Text { text: "[\n  1\n]".into(), cut: false });
    }

    #[test]
    fn an_objective_of_any_length_is_a_line_of_the_head() {
        assert_eq!(objective("Compare A and B"), "Compare A and B");
        let long = objective(&"ä".repeat(1 << 20));
        assert!(long.len() <= BYTES_OF_MESSAGE + '…'.len_utf8() && long.ends_with("ä…"));
    }

    #[test]
    fn text_is_shown_as_text() {
        assert_eq!(value(&json!("plain"), 9), Text { text: "plain".into(), cut: false });
        assert_eq!(value(&json!({ "text": "the answer", "sources": [] }), 99).text, "the answer");
        assert_eq!(value(&json!("ääää"), 5), Text { text: "ää".into(), cut: true });
    }
}
