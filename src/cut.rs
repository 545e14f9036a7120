//! Text that is cut, with a mark where that was: what is left of a secret is found by the mark.

use std::borrow::Cow;

/// What stands in the place of what was left out.
pub(crate) const MARK: &str = "...";

/// At most so many characters of the beginning, and the mark.
pub(crate) fn chars(text: &str, most: usize) -> Cow<'_, str> {
    marked(text, text.char_indices().nth(most).map_or(text.len(), |(end, _)| end))
}

/// At most so many bytes of the beginning, and the mark.
#[cfg(any(feature = "llm", feature = "web-search"))]
pub(crate) fn bytes(text: &str, most: usize) -> Cow<'_, str> {
    marked(text, start(text, most).len())
}

/// The longest beginning that is no longer than this and ends between two characters. It has no mark.
#[cfg(any(feature = "llm", feature = "tools"))]
pub(crate) fn start(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|index| text.is_char_boundary(*index));
    &text[..end.unwrap_or(0)]
}

/// The mark, and then the end of something: the first of its bytes may be the rest of a character.
#[cfg(all(any(feature = "mcp", feature = "shell"), unix))]
pub(crate) fn ending(bytes: &[u8]) -> String {
    let end = String::from_utf8_lossy(bytes);
    format!("{MARK}{}", end.trim_start_matches(char::REPLACEMENT_CHARACTER))
}

fn marked(text: &str, end: usize) -> Cow<'_, str> {
    if end < text.len() { Cow::Owned(format!("{}{MARK}", &text[..end])) } else { Cow::Borrowed(text) }
}
