//! Signs and drawings in ASCII, for terminals and fonts that have nothing else.

use std::borrow::Cow;

/// `text` with every sign of ours as one of ASCII. Letters of other languages stay what they are.
pub(crate) fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match of(c) {
            Some(sign) => plain.push(sign),
            None => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// The sign in the place of `c`, as wide as that is.
fn of(c: char) -> Option<char> {
    Some(match c {
        '✓' => 'v',
        '✗' => 'x',
        '↻' => '~',
        '⇄' => '%',
        '▸' => '>',
        '○' => 'o',
        '◆' => '*',
        '■' => '#',
        '▰' => '#',
        '▱' => '.',
        '⠋' | '⠼' => '|',
        '⠙' | '⠴' => '/',
        '⠹' | '⠦' => '-',
        '⠸' | '⠧' => '\\',
        '…' => '~',
        '─' | '━' | '═' | '╴' | '╶' => '-',
        '│' | '┃' | '║' | '╵' | '╷' => '|',
        '┌'..='╬' | '╭'..='╰' => '+',
        '►' | '▶' | '→' => '>',
        '▼' | '↓' => 'v',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn signs_are_replaced_and_words_are_not() {
        assert_eq!(ascii("✓ größe │ ▰▱ … ○"), "v größe | #. ~ o");
        assert_eq!(ascii("plain"), "plain");
    }
}
