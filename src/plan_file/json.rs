//! JSON with places. Only read where something is wrong with a plan, so that the plans that are fine cost nothing more.

use serde_json::Value;
use serde_json::error::Category;

use super::node::{Data, Entry, Node, Span};
use super::shape::{Finding, too_deep};

/// Reads a text as a tree.
///
/// # Errors
///
/// The first place at which it is not JSON.
pub(super) fn read(text: &str) -> Result<Node, Vec<Finding>> {
    // serde_json judges what is JSON and how deep it may nest; the tree is then read from text that is known to be fine.
    if let Err(error) = serde_json::from_str::<Value>(text) {
        return Err(vec![unreadable(text, &error)]);
    }
    Reader { text, at: 0 }.value().ok_or_else(|| vec![Finding::new("this cannot be read as JSON", 0..0)])
}

/// The value of a key of an object, as it is written there. Everything before it is blank, so that a place in it is the
/// place in the whole text.
#[cfg(feature = "web")]
pub(crate) fn part(text: &str, key: &str) -> Option<String> {
    let span = read(text).ok()?.get(key)?.span.clone();
    let blank = |c: char| if c == '\n' { c } else { ' ' };
    Some(text[..span.start].chars().map(blank).chain(text[span].chars()).collect())
}

/// What `serde_json` says about a text, with its place.
pub(super) fn unreadable(text: &str, error: &serde_json::Error) -> Finding {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    if text.trim_start().is_empty() {
        return Finding::new("there is nothing in it", 0..0);
    }
    if error.classify() == Category::Eof {
        let message = message.replacen("EOF while parsing", "the text ends inside", 1);
        let end = text.trim_end().len();
        return Finding::new(message, end..end).help("the file was cut off: write it again");
    }
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let mut at = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if message == "trailing characters" {
        return Finding::new("there is more text after the plan", at..at)
            .help("a file holds one plan and nothing else");
    }
    let finding = Finding::new(message, at..at);
    let rest = text[at..].trim_start();
    let is_before = |what: &str| rest.starts_with(what) || text[..at].ends_with(what);
    if message.starts_with("recursion limit") {
        too_deep(at..at)
    } else if ["NaN", "Infinity", "-Infinity", "nan"].into_iter().any(|word| rest.starts_with(word)) || is_before("-") {
        finding.help("JSON has no NaN and no infinity")
    } else if ["//", "/*", "#"].into_iter().any(|mark| rest.starts_with(mark)) {
        finding.help("JSON has no comments; a plan in YAML (.yaml) may have some")
    } else if rest.starts_with('\'') {
        finding.help("JSON puts text into double quotes")
    } else if text[..at].trim_start().is_empty() {
        finding.help("a plan in JSON begins with `{`")
    } else if message.contains("surrogate") || message.contains("hex escape") {
        finding.help("a `\\u` escape needs four digits, and some characters need two in a row: write them as they are")
    } else {
        finding
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Reads a value. Recurses no deeper than `serde_json` did.
    fn value(&mut self) -> Option<Node> {
        let first = self.peek()?;
        let start = self.at;
        let data = match first {
            b'{' => self.map()?,
            b'[' => self.list()?,
            b'"' => Data::Text(self.string()?.0),
            _ => self.scalar()?,
        };
        Some(Node { span: start..self.at, data })
    }

    fn map(&mut self) -> Option<Data> {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.eat(b'}') {
            let (key, key_span) = self.string()?;
            if !self.eat(b':') {
                return None;
            }
            entries.push(Entry { key, key_span, value: self.value()? });
            self.eat(b',');
        }
        Some(Data::Map(entries))
    }

    fn list(&mut self) -> Option<Data> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.eat(b']') {
            items.push(self.value()?);
            self.eat(b',');
        }
        Some(Data::List(items))
    }

    fn string(&mut self) -> Option<(String, Span)> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at;
        let mut escaped = false;
        let inside = self.text.as_bytes().get(start + 1..)?.iter().position(|&byte| match byte {
            b'"' if !escaped => true,
            byte => {
                escaped = byte == b'\\' && !escaped;
                false
            }
        })?;
        self.at = start + 1 + inside + 1;
        let span = start..self.at;
        Some((serde_json::from_str(self.text.get(span.clone())?).ok()?, span))
    }

    fn scalar(&mut self) -> Option<Data> {
        let rest = self.text.get(self.at..)?;
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}')).unwrap_or(rest.len());
        self.at += end;
        match serde_json::from_str(&rest[..end]).ok()? {
            Value::Null => Some(Data::Null),
            Value::Bool(value) => Some(Data::Bool(value)),
            Value::Number(number) => Some(Data::Number(number)),
            _ => None,
        }
    }
}
