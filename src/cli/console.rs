//! The two streams: what was asked for goes to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use anstream::ColorChoice;
use plandag::Secrets;
use plandag::report::ExitCode;
use serde::Serialize;
use serde_json::Value;

use super::args::{Global, When};
use super::ascii::ascii;
use super::failure::Failure;
use super::logging;
use super::patience::{self, Lines, Standard};
use super::secrets;
use super::signals::Signal;
use super::text;

/// Nobody reads standard output any more, as after `| head`.
#[derive(Debug)]
pub(crate) struct ReaderGone;

/// Where the command writes.
#[derive(Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    interactive: bool,
    ascii: bool,
    can_redraw: bool,
    /// Why a line of JSON could not be written, if somebody was there to read it.
    unwritable: OnceLock<io::Error>,
    /// Set once a run is over.
    last_words: OnceLock<LastWords>,
}

/// How long whoever reads is waited for after a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastWords {
    /// Until a signal comes.
    Patient,
    /// A signal has come: so long for each piece.
    Hurried(Signal, Duration),
}

impl Console {
    pub(crate) fn new(global: &Global) -> Self {
        match global.color {
            When::Auto if is_dumb() => ColorChoice::Never.write_global(),
            // NO_COLOR and CLICOLOR_FORCE, then whether it is a terminal.
            When::Auto => {}
            When::Always => ColorChoice::Always.write_global(),
            When::Never => ColorChoice::Never.write_global(),
        }
        let interactive = io::stderr().is_terminal();
        // Lines of a log would end up inside of a picture. Some terminals, such as serial lines, do not know their size.
        let can_draw = has_cursor() && terminal_size::terminal_size_of(io::stderr()).is_some();
        let can_redraw = interactive && !global.quiet && !logging::is_wanted(global.verbose) && can_draw;
        Self { quiet: global.quiet, interactive, ascii: global.ascii, can_redraw, ..Self::default() }
    }

    /// Whether a picture on standard error can be drawn in place.
    pub(crate) fn can_redraw(&self) -> bool {
        self.can_redraw
    }

    /// Columns and rows of the terminal behind standard error.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        terminal_size::terminal_size_of(io::stderr()).map(|(width, height)| (width.0.into(), height.0.into()))
    }

    /// A drawing or a line as the terminal can show it.
    pub(crate) fn signs<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // Secrets that were cut are found by the sign that says so, which is another one in ASCII.
        if self.ascii { ascii(&secrets::known().redact(text)).into_owned().into() } else { Cow::Borrowed(text) }
    }

    /// A line for standard error: with its signs, and with colours if they are wanted there.
    pub(crate) fn fit(&self, text: &str) -> String {
        let text = self.signs(text);
        match anstream::AutoStream::choice(&io::stderr()) {
            ColorChoice::Never => anstream::adapter::strip_str(&text).to_string(),
            _ => text.into_owned(),
        }
    }

    /// Writes a picture at once, its control sequences included.
    pub(crate) fn redraw(&self, picture: &str) {
        // If nobody can be shown, nobody can be told that either.
        let _ = io::stderr().lock().write_all(secrets::known().redact(picture).as_bytes());
    }

    /// Whether standard error is a terminal. Where it is not, lines carry a time stamp.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// How wide the terminal is, if there is one.
    pub(crate) fn columns(&self) -> Option<usize> {
        terminal_size::terminal_size_of(io::stdout())
            .or_else(|| terminal_size::terminal_size_of(io::stderr()))
            .map(|(width, _)| usize::from(width.0))
    }

    /// Tells a person something, unless they asked for quiet.
    pub(crate) fn say(&self, text: &str) {
        if let Some(text) = self.said(text) {
            self.complain(&text);
        }
    }

    /// Something for a person as it is said, unless they asked for quiet.
    pub(crate) fn said<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        match self.size().filter(|_| self.interactive) {
            _ if self.quiet => None,
            Some((columns, _)) => Some(text::fold_lines(text, columns).into()),
            None => Some(text.into()),
        }
    }

    /// Tells a person something they must know.
    pub(crate) fn complain(&self, text: &str) {
        let mut lines = Lines::default();
        lines.push(&self.complaint(text));
        self.tell_rest(&mut lines);
    }

    /// What a person must know, as it is written.
    pub(crate) fn complaint(&self, text: &str) -> String {
        self.fit(&secrets::known().redact(text)) + "\n"
    }

    /// Tells a person the first of these lines, as much as is taken at once by who takes anything.
    pub(crate) fn tell_piece(&self, lines: &mut Lines) {
        let (piece, _) = patience::first_piece(lines.rest());
        let length = piece.len();
        match io::stderr().lock().write_all(piece) {
            Ok(()) => lines.gave(length),
            // If nobody can be told, nobody can be told that either.
            Err(_) => lines.clear(),
        }
    }

    /// Tells a person all of these lines, unless they want the run to stop and do not read.
    pub(crate) fn tell_rest(&self, lines: &mut Lines) {
        let is_heard = || self.last_words.get().is_none_or(|last_words| last_words.wait_for(Standard::Error));
        while !lines.rest().is_empty() && is_heard() {
            self.tell_piece(lines);
        }
    }

    /// Gives out what was asked for.
    ///
    /// # Errors
    ///
    /// If it cannot be written. A reader that has gone away is none: it has what it wanted.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        self.clean(&secrets::known().redact(text))
    }

    /// Gives out what was asked for, as it is: secrets were taken out of what it is made of.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub(crate) fn clean(&self, text: &str) -> Result<(), Failure> {
        match self.write(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// Gives out a part of what was asked for, of which more may follow.
    ///
    /// # Errors
    ///
    /// As [`json`](Self::json).
    pub(crate) fn piece(&self, text: &str) -> Result<(), ReaderGone> {
        self.give(secrets::known().redact(text).as_bytes())
    }

    /// Gives out what was asked for, with colours where they are wanted.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub(crate) fn styled(&self, text: &str) -> Result<(), Failure> {
        let text = self.signs(text);
        match anstream::AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => self.data(&anstream::adapter::strip_str(&text).to_string()),
            _ => self.data(&text),
        }
    }

    /// Gives out one line of JSON.
    ///
    /// # Errors
    ///
    /// If nobody gets to read it. Why it could not be written is told by [`lost`](Self::lost).
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), ReaderGone> {
        self.give(json_line(value).as_bytes())
    }

    /// Gives out the first of these lines, as much as is taken at once by who takes anything.
    ///
    /// # Errors
    ///
    /// As [`json`](Self::json).
    pub(crate) fn json_piece(&self, lines: &mut Lines) -> Result<(), ReaderGone> {
        let (piece, _) = patience::first_piece(lines.rest());
        let length = piece.len();
        self.give(piece)?;
        lines.gave(length);
        Ok(())
    }

    /// Gives out all of these lines, unless nobody reads them.
    pub(crate) fn json_rest(&self, lines: &mut Lines) {
        while !lines.rest().is_empty() && self.json_piece(lines).is_ok() {}
    }

    /// The run is over: nobody hears signals any more but who gives out what there is to say about it.
    pub(crate) fn has_last_words(&self, last_words: LastWords) {
        // There is one run in a process.
        let _ = self.last_words.set(last_words);
    }

    fn give(&self, bytes: &[u8]) -> Result<(), ReaderGone> {
        self.write(bytes).map_err(|error| {
            if error.kind() != io::ErrorKind::BrokenPipe {
                // Only the first of them is told.
                let _ = self.unwritable.set(error);
            }
            ReaderGone
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = match self.last_words.get() {
                Some(last_words) => {
                    if let (false, LastWords::Hurried(signal, _)) = (last_words.wait_for(Standard::Output), last_words)
                    {
                        std::process::exit(signal.exit().code().into());
                    }
                    patience::first_piece(rest).0
                }
                // As long as nobody listens to signals, they end the process.
                None => rest,
            };
            let mut stdout = io::stdout().lock();
            stdout.write_all(piece)?;
            stdout.flush()?;
            rest = &rest[piece.len()..];
        }
        Ok(())
    }

    /// Whether lines of JSON were lost: not for want of a reader, but since they could not be written.
    pub(crate) fn lost(&self) -> Option<Failure> {
        self.unwritable.get().map(unwritable)
    }
}

impl LastWords {
    /// Waits until a stream takes a piece, and says whether it does. A signal ends the process meanwhile.
    fn wait_for(self, stream: Standard) -> bool {
        if stream.takes_a_piece() {
            return true;
        }
        patience::leave_on_signal();
        stream.takes_a_piece_within(match self {
            Self::Patient => None,
            Self::Hurried(_, time) => Some(time),
        })
    }
}

/// Whether the terminal says that its cursor can be moved.
fn has_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb") || cfg!(windows)
}

/// Whether the terminal says that it can show nothing but text, and nobody insists on colours. `anstream` would believe a
/// job of continuous integration (`CI`) before it believes the terminal.
pub(super) fn is_dumb() -> bool {
    let is_forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|force| force != "0");
    std::env::var_os("TERM").is_some_and(|term| term == "dumb") && !is_forced
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new("usage.output", ExitCode::Usage, format!("standard output cannot be written: {error}")).after_start()
}

/// What a line says under these names are words and ids, which a program goes by.
const NAMES: [&str; 20] = [
    "added",
    "again",
    "basis",
    "because",
    "change",
    "code",
    "dependency",
    "dropped",
    "ev",
    "failed",
    "from",
    "id",
    "kind",
    "pool",
    "run",
    "state",
    "status",
    "step",
    "tool",
    "tools",
];

/// What a line has under these names has names of its own, as far as it is made of fields. Everything else can be
/// anything: what is in an answer is not ours, whatever it is called there.
const PARTS: [&str; 9] =
    ["attempts", "critical_path", "error", "errors", "faster", "lines", "plans", "problems", "steps"];

/// A line of JSON, fit to be given out.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let line = serde_json::to_string(value).expect("lines have text for keys");
    let mut line = json_text(&without_secrets(line, secrets::known())).into_owned();
    line.push('\n');
    line
}

/// The line without secrets in what is no name.
fn without_secrets(line: String, secrets: &Secrets) -> String {
    if let Cow::Borrowed(_) = secrets.redact(&line) {
        return line;
    }
    match serde_json::from_str(&line) {
        Ok(mut value) => {
            redact_part(&mut value, secrets);
            value.to_string()
        }
        Err(_) => secrets.redact(&line).into_owned(),
    }
}

/// Takes secrets out of what we say, but for names.
fn redact_part(part: &mut Value, secrets: &Secrets) {
    let is_name = |value: &Value| match value {
        Value::Array(items) => items.iter().all(Value::is_string),
        value => value.is_string(),
    };
    match part {
        Value::Array(items) => items.iter_mut().for_each(|item| redact_part(item, secrets)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match name.as_str() {
                    name if NAMES.contains(&name) && is_name(field) => {}
                    name if PARTS.contains(&name) => redact_part(field, secrets),
                    _ => *field = secrets.redact_value(field.take()),
                }
            }
        }
        other => *other = secrets.redact_value(other.take()),
    }
}

/// JSON that is safe to look at on a terminal: what could do something there is escaped, beside what JSON wants escaped.
pub(crate) fn json_text(json: &str) -> Cow<'_, str> {
    // Most of it has nothing but letters and blanks, which is seen at once: JSON escapes all other characters below DEL.
    let is_plain = json.is_ascii() && !json.contains('\u{7f}');
    if is_plain || !json.contains(text::is_dangerous) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings JSON has no such characters but line breaks.
        if c != '\n' && text::is_dangerous(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_a_line_stay_what_they_are() {
        let secrets = Secrets::new(["started", "postgres", "message"]);
        let error = |step| json!({ "kind": "postgres", "message": "postgres is gone", "details": { "step": step } });
        let line = json!({
            "ev": "step.started", "step": "postgres", "added": ["postgres"], "error": "postgres is gone",
            "message": { "postgres": "a message" }, "tools": [{ "name": "postgres" }],
            "steps": [{ "step": "postgres", "attempts": [{ "error": error("postgres") }], "output": "postgres" }],
            "lines": [{ "line": 1, "answer": { "step": "postgres", "steps": [{ "step": "postgres" }] } }, "postgres"],
            "answer": { "step": "postgres", "steps": [{ "step": "postgres" }] },
        });
        let redacted: Value = serde_json::from_str(&without_secrets(line.to_string(), &secrets)).unwrap();
        let mut gone = error("[redacted]");
        gone["message"] = "[redacted] is gone".into();
        let answer = json!({ "step": "[redacted]", "steps": [{ "step": "[redacted]" }] });
        let expected = json!({
            "ev": "step.started", "step": "postgres", "added": ["postgres"], "error": "[redacted] is gone",
            "message": { "[redacted]": "a [redacted]" }, "tools": [{ "name": "[redacted]" }],
            "steps": [{ "step": "postgres", "attempts": [{ "error": gone }], "output": "[redacted]" }],
            "lines": [{ "line": 1, "answer": answer }, "[redacted]"], "answer": answer,
        });
        assert_eq!(redacted, expected);
    }

    #[test]
    fn json_does_nothing_to_a_terminal_and_loses_nothing() {
        let value = json!({ "a": "\u{1b}[2J \u{9b} \u{7f} \u{202e} \u{e0041} ü 👍 \" \\ \n" });
        for text in [value.to_string(), format!("{value:#}")] {
            let safe = json_text(&text);
            assert!(!safe.chars().any(|c| c != '\n' && text::is_dangerous(c)), "{safe:?}");
            assert!(safe.contains("ü 👍"), "{safe}");
            assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), value);
        }
    }
}
