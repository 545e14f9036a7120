//! The two streams: what was asked for goes to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use anstream::ColorChoice;
use plandag::report::ExitCode;
use serde::Serialize;

use super::args::{Global, When};
use super::failure::Failure;
use super::text;

/// Nobody reads standard output any more, as after `| head`.
#[derive(Debug)]
pub(crate) struct ReaderGone;

/// Where the command writes.
#[derive(Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    interactive: bool,
}

impl Console {
    pub(crate) fn new(global: &Global) -> Self {
        match global.color {
            // NO_COLOR, CLICOLOR_FORCE and TERM=dumb, then whether it is a terminal.
            When::Auto => {}
            When::Always => ColorChoice::Always.write_global(),
            When::Never => ColorChoice::Never.write_global(),
        }
        Self { quiet: global.quiet, interactive: io::stderr().is_terminal() }
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
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Tells a person something they must know.
    pub(crate) fn complain(&self, text: &str) {
        // If nobody can be told, nobody can be told that either.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }

    /// Gives out what was asked for.
    ///
    /// # Errors
    ///
    /// If it cannot be written. A reader that has gone away is none: it has what it wanted.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// Gives out what was asked for, with colours where they are wanted.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub(crate) fn styled(&self, text: &str) -> Result<(), Failure> {
        match anstream::AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => self.data(&anstream::adapter::strip_str(text).to_string()),
            _ => self.data(text),
        }
    }

    /// Gives out one line of JSON.
    ///
    /// # Errors
    ///
    /// If nobody reads it.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), ReaderGone> {
        let line = serde_json::to_string(value).expect("lines have text for keys");
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", json_text(&line)).and_then(|()| stdout.flush()).map_err(|_| ReaderGone)
    }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new("usage.output", ExitCode::Usage, format!("standard output cannot be written: {error}")).after_start()
}

/// JSON that is safe to look at on a terminal: what could do something there is escaped, beside what JSON wants escaped.
pub(crate) fn json_text(json: &str) -> Cow<'_, str> {
    if !json.contains(text::is_dangerous) {
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
    use serde_json::{Value, json};

    use super::*;

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
