//! Why the command could not do what was asked: what is shown to people and to programs.

use plandag::report::ExitCode;
use serde_json::{Value, json};

use super::console::Console;
use super::style;
use super::text;

/// An error with everything that its reader needs: what happened, what it means, what to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// As `plandag explain` knows it.
    code: &'static str,
    exit: ExitCode,
    message: String,
    notes: Vec<String>,
    help: Vec<String>,
    /// Whether this ended before any step started.
    nothing_run: bool,
}

impl Failure {
    /// An error before anything was run.
    pub(crate) fn new(code: &'static str, exit: ExitCode, message: impl Into<String>) -> Self {
        Self { code, exit, message: message.into(), notes: Vec::new(), help: Vec::new(), nothing_run: true }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, ExitCode::Usage, message)
    }

    /// Adds a line about what happened.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds something to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Steps had started already.
    pub(crate) fn after_start(mut self) -> Self {
        self.nothing_run = false;
        self
    }

    pub(crate) fn exit(&self) -> ExitCode {
        self.exit
    }
}

impl Failure {
    /// For people: what happened, what it means, what to do.
    pub(crate) fn render(&self) -> String {
        let mut rendered = format!(
            "{}: {}",
            style::paint(style::ERROR, &format!("error[{}]", self.code)),
            style::paint(style::STRONG, &text::line(&self.message)),
        );
        for note in &self.notes {
            for line in text::lines(note).lines() {
                rendered.push_str("\n  ");
                rendered.push_str(line);
            }
        }
        for help in &self.help {
            rendered.push_str(&format!("\n  {}: {}", style::paint(style::HELP, "help"), text::line(help)));
        }
        let outcome = if self.nothing_run { "nothing was run. " } else { "" };
        rendered
            .push_str(&format!("\n  {}", style::paint(style::FAINT, &format!("{outcome}(exit {})", self.exit.code()))));
        rendered
    }

    /// For programs: the same.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "v": 1,
            "t": 0.0,
            "run": null,
            "ev": "error",
            "code": self.code,
            "message": self.message,
            "notes": self.notes,
            "help": self.help,
            "exit": self.exit.code(),
        })
    }

    /// Tells it on the stream where it is read.
    pub(crate) fn report(&self, console: &Console, json: bool) {
        if json {
            // Who asked for JSON and does not read it does not read this either.
            let _ = console.json(&self.to_json());
        } else {
            console.complain(&self.render());
        }
    }
}
