//! The command: arguments in, exit code out.

mod analyse;
mod args;
mod ascii;
mod batch;
mod bench;
mod console;
mod diagnostic;
mod difference;
mod earlier;
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
mod order;
mod output;
mod panic;
mod patience;
mod plan_place;
mod prediction;
mod progress;
mod questions;
mod run;
mod secrets;
mod serve;
#[cfg(unix)]
mod servers;
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
use std::path::Path;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use plandag::duration;
use plandag::report::ExitCode;

use args::{Cli, Command};
use console::Console;
use failure::Failure;

/// More letters than these are no typing mistake.
const MOST_TYPOS: usize = 2;

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    panic::guard(|| {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        match args::parse(&arguments) {
            Ok(cli) => start(&cli),
            Err(error) => refuse(&error, &arguments),
        }
    })
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
        if let Some(hint) = hint(error, arguments) {
            anstream::eprintln!("\n{hint}");
        }
    }
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
}

/// What was probably meant, where the message does not say.
fn hint(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) {
        let is_source = word.contains(char::is_whitespace) || Path::new(word).extension().is_some();
        if is_source {
            return Some(format!("To run a plan or an objective: plandag run {}", text::quoted(word)));
        }
        let command = Cli::command();
        let names = command.get_subcommands().map(clap::Command::get_name);
        let (distance, meant) = names.map(|name| (strsim::osa_distance(word, name), name)).min()?;
        let is_said = match error.get(ContextKind::SuggestedSubcommand) {
            Some(ContextValue::String(said)) => said == meant,
            Some(ContextValue::Strings(said)) => said.iter().any(|said| said == meant),
            _ => false,
        };
        return (!is_said && distance <= MOST_TYPOS).then(|| format!("Did you mean: plandag {meant}"));
    }
    // `run compare A and B`: the words after the command that are no options.
    let is_second_word = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(argument)) if !argument.starts_with('-'));
    let command = arguments.get(1)?.to_str().filter(|command| ["run", "plan"].contains(command))?;
    let words: Vec<&str> =
        arguments.iter().skip(2).map_while(|word| word.to_str().filter(|word| !word.starts_with('-'))).collect();
    (error.kind() == ErrorKind::UnknownArgument && is_second_word && words.len() > 1).then(|| {
        if Path::new(words[0]).exists() {
            format!("One plan at a time: plandag {command} {}", text::quoted(words[0]))
        } else {
            format!("An objective of several words needs quotes: plandag {command} {}", text::quoted(&words.join(" ")))
        }
    })
}

fn start(cli: &Cli) -> ExitCode {
    #[cfg(unix)]
    signals::outlive_size_limit();
    let console = Console::new(&cli.global);
    logging::start(cli.global.verbose);
    let json = cli.command.wants_json();
    let done = |()| ExitCode::Success;
    let result = match &cli.command {
        Command::Run(args) => run::run(args, &console),
        Command::History(verb) => verb.run(&console),
        Command::Serve(args) => serve::serve(args, &console),
        Command::Open(args) => serve::open(args, &console),
        Command::Plan(args) => look::plan(args, &console).map(done),
        Command::Check(args) => look::check(args, &console).map(done),
        Command::Graph(args) => look::graph(args, &console).map(done),
        Command::Bench(args) => bench::run(args, &console),
        Command::Analyse(args) => analyse::run(args, &console).map(done),
        Command::Simulate(args) => simulate::run(args, &console).map(done),
        Command::Schema(_) => look::schema(&console).map(done),
        Command::Tools(args) => tools::run(args, &console).map(done),
        Command::Prompts(args) => model::prompts::run(args, &console).map(done),
        Command::Doctor(args) => model::doctor::run(args, &console),
        Command::Explain(args) => explain::run(args, &console).map(done),
        Command::Completions(args) => help::completions(args, &console).map(done),
        Command::Help(args) => help::help(args, &console).map(done),
    };
    let exit = result.unwrap_or_else(|failure| {
        failure.report(&console, json);
        failure.exit()
    });
    match console.lost() {
        Some(failure) => {
            // Not as JSON: that is what cannot be written.
            failure.report(&console, false);
            failure.exit()
        }
        None => exit,
    }
}
