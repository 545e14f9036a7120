//! Text of unknown origin, made fit for a terminal.
//!
//! Ids, tool names, results and error messages come from plans, documents and tools. Whatever of them could move the
//! cursor, set a title, write to the clipboard or turn text around is shown as its code point instead.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// One line: line breaks and tabs become spaces.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    neutralise(text, |c| if matches!(c, '\n' | '\r' | '\t') { Some(' ') } else { None })
}

/// Text that keeps its lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    neutralise(text, |c| matches!(c, '\n' | '\t').then_some(c))
}

/// One line of at most `columns` columns on a terminal.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    // More characters than columns are of no use, and a result may have a hundred million.
    let end = text.char_indices().nth(4 * columns + 4).map_or(text.len(), |(index, _)| index);
    let line = line(&text[..end]);
    if end == text.len() && line.width() <= columns {
        return line;
    }
    let mut kept = String::new();
    let mut width = 0;
    for c in line.chars() {
        width += c.width().unwrap_or(0);
        if width >= columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// `text` filled up with spaces to `columns` columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

/// An argument as a shell takes it.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", line(argument).replace('\'', "'\\''"))
    }
}

fn neutralise(text: &str, keep: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match keep(c) {
            Some(kept) => safe.push(kept),
            None if is_dangerous(c) => safe.extend(c.escape_unicode()),
            None => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Characters that do something instead of showing something: controls, direction marks, separators, tags.
pub(crate) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_something_is_shown_instead() {
        assert_eq!(line("\u{1b}]52;c;aGk=\u{7}"), "\\u{1b}]52;c;aGk=\\u{7}");
        assert_eq!(line("a\u{9b}2Jb\u{202e}c\u{2066}d"), "a\\u{9b}2Jb\\u{202e}c\\u{2066}d");
        assert_eq!(line("two\nlines\tand\rmore"), "two lines and more");
        assert_eq!(lines("two\nlines\tand\rmore"), "two\nlines\tand\\u{d}more");
        assert_eq!(line("plain, grün, 日本語 👩‍🔬"), "plain, grün, 日本語 👩‍🔬");
    }

    #[test]
    fn cuts_by_columns() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut(&"x".repeat(1 << 20), 3), "xx…");
        assert_eq!(pad("日本", 6), "日本  ");
    }

    #[test]
    fn quotes_where_a_shell_needs_it() {
        assert_eq!(quoted("plan.json"), "plan.json");
        assert_eq!(quoted("what's up?"), "'what'\\''s up?'");
        assert_eq!(quoted(""), "''");
    }
}
