//! The events of a trace one by one, each with its line, without the whole of it in memory twice.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Deserializer, Error};

use super::TraceProblem;

/// What a text turned out to be.
pub(super) enum Found<'a> {
    /// There is nothing in it.
    Nothing,
    Chrome(Events<'a>),
    Otlp(Scanner<'a>),
}

/// Looks for the part of a trace that has the spans.
pub(super) fn find(text: &str) -> Result<Found<'_>, TraceProblem> {
    let mut scanner = Scanner::of(text);
    match scanner.peek() {
        None => return Ok(Found::Nothing),
        Some('[') => {
            scanner.at += 1;
            return Ok(Found::Chrome(Events { scanner, is_over: false }));
        }
        Some('{') => scanner.at += 1,
        Some(_) => {
            // Says what JSON would have to look like, and where.
            scanner.value::<IgnoredAny>()?;
            return Err(scanner.malformed("a trace is an array, or an object with `traceEvents` or `resourceSpans`"));
        }
    }
    // Logs and metrics may be written to one file with the spans, an object a line.
    let mut neither = None;
    loop {
        match scanner.peek() {
            Some(',') => scanner.at += 1,
            Some('}') | None => {
                let problem = scanner.malformed("the object has neither `traceEvents` nor `resourceSpans`");
                let problem = neither.get_or_insert(problem);
                scanner.skip_to_object();
                if scanner.peek() != Some('{') {
                    return Err(problem.clone());
                }
                scanner.at += 1;
            }
            Some(_) => {
                let key: Text<'_> = scanner.value()?;
                scanner.expect(':')?;
                match key.0.as_ref() {
                    "traceEvents" => {
                        scanner.expect('[')?;
                        return Ok(Found::Chrome(Events { scanner, is_over: false }));
                    }
                    "resourceSpans" => return Ok(Found::Otlp(Scanner::of(text))),
                    _ => drop(scanner.value::<IgnoredAny>()?),
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The events of an array. Programs that are killed leave it open at its end, which the format allows.
pub(super) struct Events<'a> {
    scanner: Scanner<'a>,
    is_over: bool,
}

/// The line of an event, and the event or what is wrong with it.
type Line<T> = (usize, Result<T, String>);

impl Events<'_> {
    /// The next event and its line. An event of another shape is an error of its own; the others can still be read.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Line<T>>, TraceProblem> {
        loop {
            match self.scanner.peek() {
                Some(']') | None => self.is_over = true,
                Some(',') if !self.is_over => {
                    self.scanner.at += 1;
                    continue;
                }
                Some(_) => {}
            }
            if self.is_over {
                return Ok(None);
            }
            let (line, start) = (self.scanner.line(), self.scanner.at);
            self.scanner.value::<IgnoredAny>()?;
            let event = &self.scanner.text[start..self.scanner.at];
            // Some programs end a list whose events all have a comma behind them with an empty one.
            let is_empty = event.strip_prefix('{').is_some_and(|rest| rest.trim_start() == "}");
            if !is_empty {
                let read = match event.starts_with('{') {
                    true => serde_json::from_str(event).map_err(|error| without_place(&error)),
                    false => Err("this is no object".to_owned()),
                };
                return Ok(Some((line, read)));
            }
        }
    }
}

/// A place in a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// A place that was asked for, and its line: the next one is counted from there.
    counted: (usize, usize),
}

impl<'a> Scanner<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 0, counted: (0, 1) }
    }

    /// Goes on with the next line that begins with an object.
    pub(super) fn skip_to_object(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find("\n{").map_or(rest.len(), |found| found + 1);
    }

    /// The next character that is not blank.
    pub(super) fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let kept = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
        self.at += rest.len() - kept.len();
        kept.chars().next()
    }

    fn expect(&mut self, wanted: char) -> Result<(), TraceProblem> {
        if self.peek() == Some(wanted) {
            self.at += wanted.len_utf8();
            return Ok(());
        }
        Err(self.malformed(&format!("there should be a `{wanted}` here")))
    }

    /// Reads the JSON value that begins here.
    pub(super) fn value<T: Deserialize<'a>>(&mut self) -> Result<T, TraceProblem> {
        self.peek();
        let mut values = Deserializer::from_str(&self.text[self.at..]).into_iter::<T>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => {
                Err(TraceProblem { line: self.line() + error.line().saturating_sub(1), reason: without_place(&error) })
            }
            None => Err(self.malformed("the file ends here")),
        }
    }

    pub(super) fn line(&mut self) -> usize {
        let (place, line) = self.counted;
        let breaks = self.text.as_bytes()[place..self.at].iter().filter(|byte| **byte == b'\n').count();
        self.counted = (self.at, line + breaks);
        self.counted.1
    }

    fn malformed(&mut self, reason: &str) -> TraceProblem {
        TraceProblem { line: self.line(), reason: reason.to_owned() }
    }
}

/// The line of a place in a text.
pub(super) fn line(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// What is wrong, without a position that means nothing to who has only the file.
pub(super) fn without_place(error: &Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(place) => text[..place].to_owned(),
        None => text,
    }
}
