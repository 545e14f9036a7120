//! The command: arguments in, exit code out.

mod args;
mod ascii;
mod console;
mod diagnostic;
mod difference;
mod duration;
mod explain;
mod failure;
mod faster;
mod help;
mod history;
mod ledger;
mod live;
mod logging;
mod look;
mod model;
mod ndjson;
mod output;
mod panic;
mod prediction;
mod progress;
mod run;
mod signals;
mod simulate;
mod source;
mod style;
mod summary;
mod text;
mod timing;
mod toolbox;
mod tools;
mod watch;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
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
        if let Some(source) = forgotten_run(error) {
            anstream::eprintln!("\nTo run a plan or an objective: plandag run {}", text::quoted(&source));
        }
    }
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
}

/// A plan or an objective where a command should be.
fn forgotten_run(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let is_source = word.contains(char::is_whitespace) || std::path::Path::new(word).extension().is_some();
    is_source.then(|| word.clone())
}

fn start(cli: &Cli) -> ExitCode {
    let console = Console::new(&cli.global);
    logging::start(cli.global.verbose);
    let json = cli.command.wants_json();
    let done = |()| ExitCode::Success;
    let result = match &cli.command {
        Command::Run(args) => run::run(args, &console),
        Command::History(verb) => verb.run(&console),
        Command::Plan(args) => look::plan(args, &console).map(done),
        Command::Check(args) => look::check(args, &console).map(done),
        Command::Graph(args) => look::graph(args, &console).map(done),
        Command::Simulate(args) => simulate::run(args, &console).map(done),
        Command::Schema(_) => look::schema(&console).map(done),
        Command::Tools(args) => tools::run(args, &console).map(done),
        Command::Prompts(args) => model::prompts::run(args, &console).map(done),
        Command::Doctor(args) => model::doctor::run(args, &console),
        Command::Explain(args) => explain::run(args, &console).map(done),
        Command::Completions(args) => help::completions(args, &console).map(done),
        Command::Help(args) => help::help(args, &console).map(done),
    };
    result.unwrap_or_else(|failure| {
        failure.report(&console, json);
        failure.exit()
    })
}
