//! JSON of others that is not quite JSON: text cut inside a character, as bytes or as escapes.

use std::borrow::Cow;

/// What a lone half of a character becomes.
const REPLACEMENT: &str = r"\ufffd";

/// JSON text of these bytes, in which whatever is no character is a replacement character.
///
/// JavaScript writes half of an emoji as an escape that no strict reader takes, and does so whenever it cuts a string.
pub(crate) fn json(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => whole_characters(text),
        Cow::Owned(text) => Cow::Owned(whole_characters(&text).into_owned()),
    }
}

/// The text with lone surrogates replaced in its escapes.
fn whole_characters(text: &str) -> Cow<'_, str> {
    let mut whole = String::new();
    let (mut taken, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + found;
        at = match (unit(text, escape), unit(text, escape + 6)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => escape + 12,
            (Some(0xD800..0xE000), _) => {
                whole.push_str(&text[taken..escape]);
                whole.push_str(REPLACEMENT);
                taken = escape + 6;
                taken
            }
            // Of another escape only the sign after it matters, which may be a backslash.
            _ => escape + 2,
        };
    }
    if whole.is_empty() {
        return Cow::Borrowed(text);
    }
    whole.push_str(&text[taken..]);
    Cow::Owned(whole)
}

/// The code unit that an escape at this place stands for.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn half_a_character_is_replaced_and_nothing_else_is_touched() {
        for (text, read) in [
            (&br#""a\ud83d""#[..], "a\u{fffd}"),
            (br#""\ud83d\ude00 \ude00 \uD83D\u0041\\ud83d""#, "\u{1f600} \u{fffd} \u{fffd}A\\ud83d"),
            (br#""\ud83d\ud83d\ude00\n""#, "\u{fffd}\u{1f600}\n"),
            (b"\"\xf0\x9f\x98 \\ud83d\"", "\u{fffd} \u{fffd}"),
        ] {
            let value: Value = serde_json::from_str(&json(text)).unwrap();
            assert_eq!(value, read);
        }
        for text in [r#""\u00e9\\\"\u12"#, "\\", "\\u", r"\ud83dé", "plain", "é\\é\\ud8"] {
            let mended = json(text.as_bytes());
            assert_eq!(mended.replace(REPLACEMENT, ""), text.replace(r"\ud83d", ""), "{text}");
        }
    }
}
