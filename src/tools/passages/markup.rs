//! Markdown, and plain text with the customs of reStructuredText, AsciiDoc and manual pages.

use super::{Cutter, Kind, Line};

/// Cuts Markdown.
pub(super) fn markdown(lines: &[Line<'_>], cutter: &mut Cutter) {
    let body = match front_matter(lines) {
        Some(end) => {
            lines[..=end].iter().for_each(|line| cutter.line(Kind::Code, line.number, line.text));
            cutter.close();
            &lines[end + 1..]
        }
        None => lines,
    };
    let mut fence: Option<&str> = None;
    let mut after_blank = true;
    let mut in_list = false;
    let mut body = body.iter().peekable();
    while let Some(line) = body.next() {
        // Quotations are text like any other.
        let text = line.text.trim_start_matches(['>', ' ', '\t']).trim_end();
        if let Some(open) = fence {
            match text.starts_with(open) && text.trim_start_matches(&open[..1]).is_empty() {
                true => {
                    fence = None;
                    cutter.close();
                }
                false => cutter.line(Kind::Code, line.number, line.text),
            }
            continue;
        }
        if text.is_empty() {
            cutter.paragraph();
            after_blank = true;
            continue;
        }
        let indent = line.text.len() - line.text.trim_start().len();
        if let Some(open) = fence_of(text) {
            fence = Some(open);
            cutter.close();
        } else if let Some((level, title)) = marked_heading(text, '#') {
            cutter.heading(level, title);
            in_list = false;
        } else if let Some(level) = body.peek().filter(|_| after_blank).and_then(|next| underline(text, next.text)) {
            cutter.heading(if level == '=' { 1 } else { 2 }, text);
            body.next();
            in_list = false;
        } else if indent >= 4 && after_blank && !in_list {
            cutter.line(Kind::Code, line.number, line.text);
            continue;
        } else {
            let item = is_list_item(text);
            in_list = item || (in_list && (indent > 0 || !after_blank));
            cutter.line(kind_of(text), line.number, text);
        }
        after_blank = false;
    }
}

/// The line that ends the metadata before the text, if there are any.
fn front_matter(lines: &[Line<'_>]) -> Option<usize> {
    let marker = lines.first()?.text.trim_end();
    if marker != "---" && marker != "+++" {
        return None;
    }
    lines.iter().take(100).skip(1).position(|line| line.text.trim_end() == marker).map(|position| position + 1)
}

/// The mark that opens, and closes, a block of code.
fn fence_of(text: &str) -> Option<&str> {
    ['`', '~'].into_iter().find_map(|mark| {
        let end = text.find(|character| character != mark).unwrap_or(text.len());
        // Code between two fences on one line is part of a sentence.
        (end >= 3 && !text[end..].contains(mark)).then(|| &text[..end])
    })
}

/// `## Title`, and `== Title` in AsciiDoc.
fn marked_heading(text: &str, mark: char) -> Option<(usize, &str)> {
    let title = text.trim_start_matches(mark);
    let level = text.len() - title.len();
    let title = title.strip_prefix([' ', '\t'])?;
    (1..=6).contains(&level).then(|| (level, title.trim_end_matches(mark).trim()))
}

/// The mark with which the next line underlines a title.
fn underline(title: &str, next: &str) -> Option<char> {
    let next = next.trim();
    let mark = next.chars().next().filter(|mark| "=-~^\"'*+#`.:".contains(*mark))?;
    let whole = next.chars().all(|character| character == mark);
    let length = next.chars().count();
    let is_title = title.chars().any(char::is_alphanumeric) && !title.starts_with(['|', '>', '-']);
    (whole && length >= 3 && length * 2 >= title.chars().count() && is_title).then_some(mark)
}

fn is_list_item(text: &str) -> bool {
    text.starts_with("- ")
        || text.starts_with("* ")
        || text.starts_with("+ ")
        || text.trim_start_matches(|character: char| character.is_ascii_digit()).starts_with(['.', ')'])
}

/// What a line outside of blocks of code is: tables, markup and lists of links are not sentences.
fn kind_of(text: &str) -> Kind {
    let is_table = text.starts_with('|') || text.starts_with("+-") || text.starts_with("+=");
    let is_tag = text.starts_with('<') && text.ends_with('>');
    let is_definition = text.starts_with('[') && text.contains("]: ");
    let is_badge = text.starts_with("[![") || text.starts_with("![");
    match () {
        () if is_table => Kind::Table,
        () if is_tag || is_definition || is_badge => Kind::Code,
        () => Kind::Prose,
    }
}

/// Cuts any other text.
pub(super) fn plain(lines: &[Line<'_>], cutter: &mut Cutter) {
    // The marks under titles have no fixed order: the first that is met is the outermost.
    let mut marks: Vec<char> = Vec::new();
    let mut after_blank = true;
    // The indentation of the line that announced a block which is no text.
    let mut literal: Option<usize> = None;
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        let text = line.text.trim();
        if text.is_empty() {
            cutter.paragraph();
            after_blank = true;
            continue;
        }
        let indent = line.text.len() - line.text.trim_start().len();
        if literal.is_some_and(|outer| indent > outer) {
            cutter.line(Kind::Code, line.number, line.text);
            continue;
        }
        literal = None;
        let next = lines.peek().map_or("", |next| next.text);
        if let Some(title) = manual_title(line.text) {
            cutter.heading(1, title);
        } else if let Some(mark) = underline(text, next).filter(|_| after_blank) {
            let level = marks.iter().position(|other| *other == mark).unwrap_or_else(|| {
                marks.push(mark);
                marks.len() - 1
            });
            cutter.heading(level + 1, text);
            lines.next();
        } else if is_rule(text) {
            // A line above a title, or between parts: no words in it.
            cutter.paragraph();
            continue;
        } else if let Some((level, title)) = marked_heading(text, '=') {
            cutter.heading(level, title);
        } else if let Some(level) = bare_heading(line.text, next).filter(|_| after_blank) {
            cutter.heading(level, text);
        } else {
            let (kind, opens_literal) = directive(text);
            if opens_literal {
                literal = Some(indent);
            }
            cutter.line(kind, line.number, line.text);
        }
        after_blank = false;
    }
}

/// `LS(1)    User Commands    LS(1)`, the first and the last line of a manual page.
fn manual_title(line: &str) -> Option<&str> {
    let title = line.split_whitespace().next()?;
    let section = title.strip_suffix(')')?.rsplit_once('(')?.1;
    let framed = line.starts_with(title) && line.trim_end().ends_with(title) && line.trim_end().len() > title.len() * 2;
    (framed && section.starts_with(|character: char| character.is_ascii_digit())).then_some(title)
}

/// A line of nothing but marks.
fn is_rule(text: &str) -> bool {
    text.len() >= 3 && text.chars().all(|character| character.is_ascii_punctuation())
}

/// A title that nothing but its looks tells: `SYNOPSIS`, `2.1 Locking`, `   Setting up` in a manual page.
fn bare_heading(line: &str, next: &str) -> Option<usize> {
    let text = line.trim();
    let indented = |line: &str| line.starts_with([' ', '\t']);
    let words = text.split_whitespace().count();
    let is_short = words <= 10 && text.len() <= 72 && !text.ends_with(['.', ',', ';', ':']);
    if !is_short || !text.chars().any(char::is_alphabetic) {
        return None;
    }
    let in_capitals = !text.chars().any(char::is_lowercase);
    if !indented(line) && in_capitals && text.chars().filter(|character| character.is_alphabetic()).count() >= 3 {
        return (next.trim().is_empty() || indented(next)).then_some(2);
    }
    let number = text.split_whitespace().next().filter(|_| words >= 2).unwrap_or_default();
    let is_number = number.starts_with(|character: char| character.is_ascii_digit())
        && number.chars().all(|character| character.is_ascii_digit() || character == '.')
        && number.contains('.');
    if !indented(line) && is_number && next.trim().is_empty() {
        return Some(2 + number.trim_end_matches('.').matches('.').count());
    }
    // The second level of manual pages: three blanks, the text below with more.
    let is_subheading = line.starts_with("   ") && !line.starts_with("    ");
    (is_subheading && text.starts_with(char::is_uppercase) && next.starts_with("       ")).then_some(3)
}

/// What a line of reStructuredText is, and whether an indented block after it is no text.
fn directive(text: &str) -> (Kind, bool) {
    if let Some(name) = text.strip_prefix(".. ") {
        let speaks = ["note::", "warning::", "tip::", "important::", "versionadded::", "versionchanged::", "seealso::"];
        return (Kind::Code, !speaks.iter().any(|directive| name.starts_with(directive)));
    }
    let kind = match kind_of(text) {
        Kind::Prose if text.starts_with(':') && text[1..].contains(':') => Kind::Code,
        kind => kind,
    };
    (kind, text.ends_with("::"))
}
