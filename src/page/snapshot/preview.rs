//! The beginning of values that may be large.

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::event::Output;

use super::Text;

/// More of an output, or of a step's arguments, is not shown before somebody asks for it.
const MOST_CHARS: usize = 2_000;
/// More bytes than these are not even written down: no character of JSON has more than six.
const MOST_BYTES: usize = 6 * MOST_CHARS;

/// Of an answer, more is shown: it is what the run was for.
const MOST_OF_ANSWER: usize = 20_000;

/// The beginning of a text.
pub(super) fn text(text: &str) -> Text {
    up_to(text, MOST_CHARS)
}

fn up_to(text: &str, most: usize) -> Text {
    match text.char_indices().nth(most) {
        Some((end, _)) => Text { text: text[..end].to_owned(), cut: true },
        None => Text { text: text.to_owned(), cut: false },
    }
}

/// The beginning of a value: text as it is, everything else as JSON.
pub(super) fn value(value: &Value) -> Text {
    as_text(value).map_or_else(|| json(value), text)
}

/// An answer, as far as a page can show it.
pub(super) fn answer(value: &Value) -> Text {
    as_text(value).map_or_else(|| json(value), |text| up_to(text, MOST_OF_ANSWER))
}

/// The text that a value is, or has as what is meant for people.
fn as_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("text")?.as_str())
}

/// The beginning of a value as JSON.
pub(super) fn json(value: &Value) -> Text {
    let mut beginning = Beginning::default();
    let mut serializer = serde_json::Serializer::pretty(&mut beginning);
    let is_whole = value.serialize(&mut serializer).is_ok();
    let mut text = text(&String::from_utf8_lossy(&beginning.0));
    text.cut |= !is_whole;
    text
}

/// The beginning of an output, as far as it is known without reading what is kept elsewhere.
pub(super) fn output(output: &Output) -> Text {
    match output {
        Output::Inline(inline) => value(inline),
        Output::Stored(stored) => Text { text: stored.preview.clone(), cut: true },
        Output::Gathered(members) => Text { text: format!("the outputs of {} steps", members.len()), cut: true },
    }
}

/// Takes up no more than a page shows.
#[derive(Default)]
struct Beginning(Vec<u8>);

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MOST_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
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
        let beginning = json(&large);
        assert!(beginning.cut && beginning.text.chars().count() == MOST_CHARS);
        assert!(beginning.text.starts_with("{\n  \"list\": [\n    \"ä\\u0001\","));
        assert_eq!(json(&json!([1])), Text { text: "[\n  1\n]".into(), cut: false });
    }

    #[test]
    fn text_is_shown_as_text() {
        assert_eq!(value(&json!("plain")).text, "plain");
        assert_eq!(value(&json!({ "text": "the answer", "sources": [] })).text, "the answer");
        assert!(value(&json!("x".repeat(MOST_CHARS + 1))).cut);
    }
}
