//! Data in a page.

use std::fmt::Write as _;

use serde::Serialize;

/// A value as JSON that can stand in a `script` element: no character in it means anything to a parser of HTML, or ends
/// a line for a parser of JavaScript.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    // What is shown here has text as its only keys, so it is JSON.
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_its_element_and_means_the_same() {
        let hostile = "</script><!-- & \u{2028}\u{2029}";
        let escaped = json(&hostile);
        assert!(!escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), hostile);
    }
}
