//! The two streams: what was asked for goes to standard output, everything else to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::ColorChoice;
use plandag::report::ExitCode;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

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

    /// Gives out one line of JSON.
    ///
    /// # Errors
    ///
    /// If nobody reads it.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), ReaderGone> {
        let mut line = json_line(value);
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(|_| ReaderGone)
    }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new("usage.output", ExitCode::Usage, format!("standard output cannot be written: {error}")).after_start()
}

/// JSON that is safe to look at on a terminal: what is not plain text is escaped, not only what JSON wants escaped.
pub(crate) fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Inert);
    value.serialize(&mut serializer).expect("values of this program are JSON");
    line
}

/// Escapes what could do something to a terminal beside what JSON wants escaped.
struct Inert;

impl Formatter for Inert {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (index, c) in fragment.char_indices().filter(|(_, c)| text::is_dangerous(*c)) {
            writer.write_all(&fragment.as_bytes()[written..index])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = index + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_lines_are_plain_text_and_lose_nothing() {
        let value = json!({ "a": "\u{1b}[2J \u{9b} \u{7f} \u{202e} ü 👍 \" \\ \n" });
        let line = json_line(&value);
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(!text.chars().any(text::is_dangerous), "{text:?}");
        assert!(text.contains("ü 👍"), "{text}");
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), value);
    }
}
