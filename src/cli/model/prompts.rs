//! What models are told: `plandag prompts`, and own texts in the place of built-in ones.

use plandag::llm::Prompts;
use plandag::report::ExitCode;

use super::args::{ModelArgs, PromptsArgs};
use super::config::Files;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::source;

/// `plandag prompts`.
pub(crate) fn run(args: &PromptsArgs, console: &Console) -> Result<(), Failure> {
    let prompts = Prompts::default();
    match &args.name {
        Some(name) if Prompts::names().any(|known| known == name) => console.data(&format!("{}\n", prompts.get(name))),
        Some(name) => Err(Failure::usage("usage.arguments", format!("there is no prompt `{name}`")).help(list())),
        None => {
            let first = |name: &str| prompts.get(name).lines().next().unwrap_or_default().to_owned();
            let lines: Vec<String> = Prompts::names().map(|name| format!("{name:<14}{}\n", first(name))).collect();
            console.data(&lines.concat())
        }
    }
}

fn list() -> String {
    format!("there are {}", Prompts::names().collect::<Vec<_>>().join(", "))
}

/// The built-in prompts with own ones in their place.
pub(crate) fn read(args: &ModelArgs, files: &Files) -> Result<Prompts, Failure> {
    let mut prompts = Prompts::default();
    for name in Prompts::names() {
        let argument = args.prompts.iter().rev().find(|(own, _)| own == name).map(|(_, path)| path.clone());
        let Some(path) = argument.or_else(|| files.find(|config| config.prompts.get(name).cloned())) else { continue };
        let text = source::text_of(&path).map_err(|error| {
            let message = format!("the prompt `{name}` cannot be read from `{}`: {error}", path.display());
            Failure::new("config.invalid", ExitCode::Configuration, message)
        })?;
        prompts.replace(name, text);
    }
    let unknown =
        files.find(|config| config.prompts.keys().find(|name| !Prompts::names().any(|known| known == *name)).cloned());
    match unknown {
        Some(name) => {
            Err(Failure::new("config.invalid", ExitCode::Configuration, format!("there is no prompt `{name}`"))
                .help(list()))
        }
        None => Ok(prompts),
    }
}
