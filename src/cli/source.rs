//! What the command is given: a plan or an objective, by name, in words or on standard input.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Read};
use std::path::Path;

use clap::ValueEnum;
use plandag::report::ExitCode;
use plandag::{PlanFile, PlanFileError, PlanFormat};

use super::args::SizeArgs;
use super::console::Console;
use super::failure::Failure;
use super::text;

/// The name of standard input, as an argument and in messages.
pub(crate) const STDIN: &str = "-";
pub(crate) const STDIN_NAME: &str = "<stdin>";
/// For who gave an objective that says nothing.
const EXAMPLE: &str = "say what the run is for: plandag run \"Compare A and B on X\" --files docs";

/// A plan, or what to make one of.
#[derive(Debug)]
pub(crate) enum Source {
    Plan(PlanFile),
    Objective {
        text: String,
        /// Whether it came as an argument that may have been meant as a file.
        could_be_file: bool,
    },
}

/// What comes on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Plan,
    Objective,
}

impl Kind {
    /// What this is meant as. Words that are no text are better complained about than planned from.
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes).map_or(true, PlanFile::is_plan) {
            true => Self::Plan,
            false => Self::Objective,
        }
    }
}

/// Reads a plan or an objective. Which of them is on standard input is judged by what is there, unless somebody knows.
pub(crate) fn read(argument: &str, kind: Option<Kind>, size: SizeArgs, console: &Console) -> Result<Source, Failure> {
    if argument == STDIN {
        let bytes = read_stdin(size, console)?;
        return match kind.unwrap_or_else(|| Kind::of(&bytes)) {
            Kind::Plan => parse(bytes, size).map(Source::Plan),
            Kind::Objective => objective(&String::from_utf8_lossy(&bytes), false),
        };
    }
    let path = Path::new(argument);
    if PlanFormat::of_path(path).is_some() || (path.exists() && !path.is_dir()) {
        let advise = |failure: Failure| match PlanFormat::of_path(path) {
            Some(_) if path.exists() => failure,
            Some(_) => failure.help("an objective in words must not end in .json, .yaml or .yml"),
            None => failure.help("a file is taken for a plan; to ask about documents: plandag run \"...\" --files DIR"),
        };
        return read_file(path, size).map(Source::Plan).map_err(advise);
    }
    if path.is_dir() {
        return Err(Failure::usage(
            "usage.arguments",
            format!("`{argument}` is a folder, neither a plan nor an objective"),
        )
        .help(format!("to ask something about its documents: plandag run \"...\" --files {argument}")));
    }
    if PlanFile::is_plan(argument) {
        return Err(Failure::usage("usage.arguments", "this is a plan, and was given in the place of its file")
            .help("write it to a file, or give it on standard input: plandag run -"));
    }
    objective(argument, !argument.contains(char::is_whitespace))
}

/// Reads what is no plan, from a file or from standard input. More than `most` bytes are an error of the kind
/// [`ErrorKind::FileTooLarge`].
pub(crate) fn bytes(argument: &str, most: u64, console: &Console) -> io::Result<Vec<u8>> {
    say_if_typed(argument, console);
    match argument {
        STDIN => bounded(io::stdin().lock(), most),
        path => bounded(File::open(path)?, most),
    }
}

/// Reads a text as it is, from a file or from standard input.
pub(crate) fn read_text(argument: &str, console: &Console) -> Result<String, Failure> {
    let text = bytes(argument, PlanFile::MAX_BYTES, console).and_then(utf8);
    text.map_err(|error| unreadable(Path::new(argument), &error))
}

/// The text of a file that belongs to the surroundings: configuration, a key, a prompt.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    bounded(File::open(path)?, PlanFile::MAX_BYTES).and_then(utf8)
}

/// A device and a pipe do not say how much they have: what is read is what counts.
fn bounded(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {most} bytes"))),
        false => Ok(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Reads a plan.
pub(crate) fn read_plan(argument: &str, size: SizeArgs, console: &Console) -> Result<PlanFile, Failure> {
    say_if_typed(argument, console);
    read_said(argument, size)
}

/// Reads a plan, of which was said if somebody has to type it.
pub(crate) fn read_said(argument: &str, size: SizeArgs) -> Result<PlanFile, Failure> {
    match argument {
        STDIN => parse(all_of_stdin(size)?, size),
        path => read_file(Path::new(path), size),
    }
}

fn read_file(path: &Path, size: SizeArgs) -> Result<PlanFile, Failure> {
    PlanFile::read(path, size.bytes()).map_err(|error| refused(error, path))
}

/// Reads a plan from standard input.
pub(crate) fn parse(bytes: Vec<u8>, size: SizeArgs) -> Result<PlanFile, Failure> {
    PlanFile::parse_bytes(STDIN_NAME, bytes, None, size.bytes()).map_err(|error| refused(error, Path::new(STDIN_NAME)))
}

/// Reads standard input, as far as a plan may be long and a little further, so that a longer one is seen to be.
pub(crate) fn read_stdin(size: SizeArgs, console: &Console) -> Result<Vec<u8>, Failure> {
    say_if_typed(STDIN, console);
    all_of_stdin(size)
}

/// Says what is waited for if it comes from somebody who types.
pub(crate) fn say_if_typed(argument: &str, console: &Console) {
    if argument == STDIN && io::stdin().is_terminal() {
        console.say("reading from the terminal; Ctrl-D ends the text");
    }
}

fn all_of_stdin(size: SizeArgs) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match io::stdin().lock().take(size.bytes() + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage("usage.missing_file", format!("standard input cannot be read: {error}"))),
    }
}

fn objective(text: &str, could_be_file: bool) -> Result<Source, Failure> {
    let text = text.trim_start_matches('\u{feff}').trim().to_owned();
    if text.is_empty() {
        return Err(Failure::usage("usage.empty_objective", "the objective is empty").help(EXAMPLE));
    }
    if !text.contains(char::is_alphanumeric) {
        let message = format!("there are no words in the objective `{}`", text::cut(&text, 40));
        return Err(Failure::usage("usage.empty_objective", message).help(EXAMPLE));
    }
    if text.len() as u64 > PlanFile::MAX_BYTES {
        return Err(Failure::usage(
            "usage.arguments",
            format!("the objective is longer than {} bytes", PlanFile::MAX_BYTES),
        ));
    }
    Ok(Source::Objective { text, could_be_file })
}

fn refused(error: PlanFileError, path: &Path) -> Failure {
    match error {
        PlanFileError::Invalid(problems) => Failure::plan(problems, ExitCode::PlanInvalid),
        PlanFileError::Unreadable { source, .. } => unreadable(path, &source),
    }
}

/// A file that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let name = path.display();
    match error.kind() {
        ErrorKind::NotFound => Failure::usage("usage.missing_file", format!("there is no file `{name}`")),
        ErrorKind::IsADirectory => Failure::usage("usage.missing_file", format!("`{name}` is a folder, not a plan")),
        _ => Failure::usage("usage.missing_file", format!("`{name}` cannot be read: {error}")),
    }
}
