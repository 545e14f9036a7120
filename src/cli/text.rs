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

/// Each line as [`fold`] has it.
pub(crate) fn fold_lines(text: &str, columns: usize) -> String {
    text.split('\n').map(|line| fold(line, columns)).collect::<Vec<_>>().join("\n")
}

/// A line with styles, broken at blanks where it is wider than the terminal; what goes on stands below what was begun. A
/// command is not broken: it is there to be copied.
fn fold(line: &str, columns: usize) -> Cow<'_, str> {
    let plain = |styled: &str| anstream::adapter::strip_str(styled).to_string();
    let whole = plain(line);
    if whole.width() <= columns || whole.contains("plandag ") {
        return Cow::Borrowed(line);
    }
    let indent = hanging(&whole, columns);
    let mut lines: Vec<String> = Vec::new();
    let mut line_now = String::new();
    let mut at = 0;
    let mut has_words = false;
    for piece in line.split_inclusive(' ') {
        let word = plain(piece).trim_end().width();
        if has_words && at + word > columns {
            lines.push(std::mem::replace(&mut line_now, " ".repeat(indent)));
            (at, has_words) = (indent, false);
        }
        // Blanks between columns are not carried over to the next line.
        if word > 0 || has_words || lines.is_empty() {
            line_now.push_str(piece);
            at += plain(piece).width();
            has_words |= word > 0;
        }
    }
    lines.push(line_now);
    Cow::Owned(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n"))
}

/// Where the lines after the first begin: under what stands in the second column, if that is not too far to the right.
fn hanging(line: &str, columns: usize) -> usize {
    let rest = line.trim_start();
    let margin = line.len() - rest.len();
    let second = rest.find("  ").map(|end| &rest[..rest.len() - rest[end..].trim_start().len()]);
    let indent = second.map(|first| margin + first.width()).filter(|indent| *indent <= columns / 2);
    indent.unwrap_or(margin + 2)
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
    fn wide_lines_are_broken_at_blanks() {
        let shown = |text: &str, columns| anstream::adapter::strip_str(&fold_lines(text, columns)).to_string();
        let red = anstyle::Style::new().bold();
        let styled = format!(" {red}may{red:#}       read pages, calculate, sleep");
        assert_eq!(shown(&styled, 30), " may       read pages,\n           calculate, sleep");
        assert_eq!(shown(&styled, 80), " may       read pages, calculate, sleep");
        assert_eq!(shown(" ✓ a-long-name      sleep  done in 2s", 19), " ✓ a-long-name\n   sleep  done in\n   2s");
        assert_eq!(shown("two\nlines of words", 8), "two\nlines of\n  words");
        assert_eq!(shown("0123456789 0123456789", 4), "0123456789\n  0123456789", "words are not broken");
        assert_eq!(shown("next  plandag show 0123456789", 10), "next  plandag show 0123456789");
    }

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
