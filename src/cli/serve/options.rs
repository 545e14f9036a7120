//! What `plandag serve` was told, for the runs that it starts.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _};

use super::super::args::{self, Cli, Command, RunArgs};
use super::super::failure::Failure;

/// Options that `plandag run` has under the same name, and that are about the server or handed on in another way.
const OWN: [&str; 3] = ["journal", "open", "json"];
const INPUT: &str = "--input=";
/// What holds for runs that are gone on with, too.
pub(super) const DURABILITY: &str = "--durability=";

/// The options of this process that `plandag run` has, too, as that takes them.
pub(super) fn shared_with_run() -> Vec<OsString> {
    let (arguments, command): (Vec<OsString>, _) = (std::env::args_os().collect(), Cli::command());
    // They were read once already.
    let Ok(matches) = args::matches(&arguments) else { return Vec::new() };
    let (Some((_, matches)), Some(run)) = (matches.subcommand(), command.find_subcommand("run")) else {
        return Vec::new();
    };
    let mut options = Vec::new();
    for argument in run.get_arguments() {
        let (id, Some(long)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
        let is_known = matches.try_contains_id(id).unwrap_or(false);
        if OWN.contains(&id) || !is_known || matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            options.push(format!("--{long}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut option = OsString::from(format!("--{long}="));
            option.push(value);
            options.push(option);
        }
    }
    options
}

/// The arguments of a run with these options.
pub(super) fn run_args(options: &[OsString]) -> Result<RunArgs, Failure> {
    let arguments = [&["plandag", "run", "-"].map(OsString::from), options].concat();
    match args::parse(&arguments).map(|cli| cli.command) {
        Ok(Command::Run(args)) => Ok(*args),
        Ok(_) => Err(Failure::usage("usage.arguments", "these are not the options of a run")),
        Err(error) => Err(Failure::usage("usage.arguments", error.render().to_string())),
    }
}

/// The options without those that a request may override.
pub(super) fn without_inputs(options: Vec<OsString>) -> Vec<OsString> {
    options.into_iter().filter(|option| !option.to_string_lossy().starts_with(INPUT)).collect()
}

/// An input, as `plandag run` takes it.
pub(super) fn input(name: &str, value: &serde_json::Value) -> OsString {
    format!("{INPUT}{name}={value}").into()
}
