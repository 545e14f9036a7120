//! The command: arguments in, exit code out.

mod args;
mod console;
mod diagnostic;
mod duration;
mod explain;
mod failure;
mod help;
mod ledger;
mod logging;
mod ndjson;
mod output;
mod panic;
mod progress;
mod style;
mod text;

use std::ffi::OsString;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use plandag::report::ExitCode;

use args::{Cli, Command};
use console::Console;
use failure::Failure;

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    panic::guard(|| {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        match parse(&arguments) {
            Ok(cli) => start(&cli),
            Err(error) => refuse(&error, &arguments),
        }
    })
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    // Errors in the arguments are coloured, or not, by arguments that are not read yet.
    let never = arguments.windows(2).any(|pair| pair[0] == "--color" && pair[1] == "never")
        || arguments.iter().any(|argument| argument == "--color=never");
    let command = Cli::command().color(if never { ColorChoice::Never } else { ColorChoice::Auto });
    Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// Answers arguments that ask for help, or make no sense.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
        let failure = Failure::usage("usage.arguments", message).help("plandag help COMMAND shows what there is");
        failure.report(&Console::default(), true);
    } else {
        // If nobody can be told, nobody can be told that either.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
}

fn start(cli: &Cli) -> ExitCode {
    let console = Console::new(&cli.global);
    logging::start(cli.global.verbose);
    let json = cli.command.wants_json();
    let result = match &cli.command {
        Command::Explain(args) => explain::run(args, &console),
        Command::Completions(args) => help::completions(args, &console),
        Command::Help(args) => help::help(args, &console),
        _ => Err(Failure::usage("usage.arguments", "this command is not built yet")),
    };
    match result {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            failure.report(&console, json);
            failure.exit()
        }
    }
}
