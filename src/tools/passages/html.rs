//! HTML without its tags. No tree is built: all that is wanted is which words stand on which line, and under what.

use super::{Cutter, Kind};

/// Elements whose content is not text.
const UNSEEN: [&str; 6] = ["script", "style", "svg", "template", "noscript", "title"];
/// Elements that do not end a paragraph.
const INLINE: [&str; 27] = [
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var",
];
/// How far the quotes of a tag are followed.
const MOST_TAG_BYTES: usize = 2_048;
/// The longest name of an entity, with its marks.
const MOST_ENTITY_BYTES: usize = 12;

/// Cuts HTML.
pub(super) fn html(text: &str, cutter: &mut Cutter) {
    let mut page = Page { cutter, number: 1, line: String::new(), heading: None, pre: 0, paragraph_lines: 0 };
    let mut rest = text;
    while !rest.is_empty() {
        let Some(tag_start) = rest.find('<') else {
            page.text(rest);
            break;
        };
        page.text(&rest[..tag_start]);
        rest = &rest[tag_start..];
        let tag = Tag::at(rest);
        page.skip(&rest[..tag.length]);
        rest = &rest[tag.length..];
        if tag.name.is_empty() {
            page.text(tag.literal);
            continue;
        }
        if !tag.closes && UNSEEN.contains(&tag.name.as_str()) {
            let end = end_of(rest, &tag.name);
            page.skip(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        page.tag(&tag);
    }
    page.end_paragraph();
}

/// Where the element `name` is closed.
fn end_of(rest: &str, name: &str) -> usize {
    let mut from = 0;
    while let Some(found) = rest[from..].find("</") {
        from += found;
        if rest[from + 2..].get(..name.len()).is_some_and(|end| end.eq_ignore_ascii_case(name)) {
            return from;
        }
        from += 2;
    }
    rest.len()
}

struct Tag<'a> {
    /// In lower case; empty if it is no tag.
    name: String,
    closes: bool,
    length: usize,
    /// What is text after all.
    literal: &'a str,
}

impl<'a> Tag<'a> {
    /// The tag, comment or lone `<` with which `text` begins.
    fn at(text: &'a str) -> Self {
        if text.starts_with("<!--") {
            let length = text.find("-->").map_or(text.len(), |end| end + 3);
            return Self { name: "!".into(), closes: false, length, literal: "" };
        }
        let closes = text[1..].starts_with('/');
        let inner = &text[1 + usize::from(closes)..];
        let name_length = inner.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(inner.len());
        let is_tag = inner.starts_with(|character: char| character.is_ascii_alphabetic() || "!?".contains(character));
        if !is_tag {
            return Self { name: String::new(), closes: false, length: 1, literal: "<" };
        }
        let mut quote = None;
        let end = inner.bytes().take(MOST_TAG_BYTES).position(|byte| {
            match (quote, byte) {
                (None, b'>') => return true,
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), byte) if open == byte => quote = None,
                _ => {}
            }
            false
        });
        let length = match end {
            Some(end) => 1 + usize::from(closes) + end + 1,
            // A quote that is never closed would swallow the rest of the page.
            None => text.find('>').map_or(text.len(), |end| end + 1),
        };
        let name = match &inner[..name_length] {
            "" => "!".into(),
            name => name.to_ascii_lowercase(),
        };
        Self { name, closes, length, literal: "" }
    }

    fn heading_level(&self) -> Option<usize> {
        match self.name.as_bytes() {
            [b'h', digit @ b'1'..=b'6'] => Some(usize::from(digit - b'0')),
            _ => None,
        }
    }
}

struct Page<'a> {
    cutter: &'a mut Cutter,
    number: u32,
    /// What was seen of the current line and not handed on yet.
    line: String,
    /// The heading that is open, with its level.
    heading: Option<(usize, String)>,
    /// How many `pre` are open.
    pre: u32,
    /// Lines of the open paragraph that were handed on.
    paragraph_lines: u32,
}

impl Page<'_> {
    fn text(&mut self, text: &str) {
        for (index, part) in text.split('\n').enumerate() {
            if index > 0 {
                self.end_line();
                self.number += 1;
            }
            match &mut self.heading {
                Some((_, heading)) => {
                    if index > 0 {
                        heading.push(' ');
                    }
                    push_decoded(heading, part);
                }
                None => push_decoded(&mut self.line, part),
            }
        }
    }

    /// Passes over what is not text.
    fn skip(&mut self, text: &str) {
        for _ in text.bytes().filter(|byte| *byte == b'\n') {
            self.end_line();
            self.number += 1;
        }
    }

    fn tag(&mut self, tag: &Tag<'_>) {
        if INLINE.contains(&tag.name.as_str()) || tag.name == "!" {
            return;
        }
        if let Some(level) = tag.heading_level() {
            self.end_paragraph();
            if let Some((level, heading)) = self.heading.take() {
                self.cutter.heading(level, heading.trim_end_matches(['¶', '#', ' ']));
            }
            if !tag.closes {
                self.heading = Some((level, String::new()));
            }
            return;
        }
        self.end_paragraph();
        if tag.name == "pre" {
            self.pre = if tag.closes { self.pre.saturating_sub(1) } else { self.pre + 1 };
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let kind = if self.pre > 0 { Kind::Code } else { Kind::Prose };
        match line.trim() {
            // Inside of a paragraph, a line of nothing but tags does not end it: the blank tells it from an empty one.
            "" if self.paragraph_lines > 0 && kind == Kind::Prose => self.cutter.line(kind, self.number, " "),
            "" => return,
            text if kind == Kind::Prose => self.cutter.line(kind, self.number, text),
            _ => self.cutter.line(kind, self.number, &line),
        }
        self.paragraph_lines += 1;
    }

    fn end_paragraph(&mut self) {
        self.paragraph_lines = 0;
        self.end_line();
        self.paragraph_lines = 0;
        self.cutter.paragraph();
    }
}

/// Adds text in which the entities are replaced by what they stand for.
fn push_decoded(to: &mut String, text: &str) {
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        to.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.bytes().take(MOST_ENTITY_BYTES).position(|byte| byte == b';');
        match end.and_then(|end| Some((end, decode(&rest[1..end])?))) {
            Some((end, character)) => {
                to.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                to.push('&');
                rest = &rest[1..];
            }
        }
    }
    to.push_str(rest);
}

fn decode(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let number = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        return char::from_u32(number.ok()?).filter(|character| !character.is_control());
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "copy" => '©',
        "times" => '×',
        "middot" => '·',
        "rarr" => '→',
        _ => return None,
    })
}
