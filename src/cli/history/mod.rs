//! Runs that are kept in a journal: gone on with, and looked at.

mod find;
mod keep;
mod recorded;
mod resume;

use clap::Subcommand;
use plandag::report::ExitCode;

use super::console::Console;
use super::failure::Failure;

pub(crate) use find::journal_failure;
pub(crate) use keep::KeepArgs;
pub(crate) use recorded::Recorded;

/// The verbs that a journal adds.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Resume(resume::ResumeArgs),
}

impl Verb {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Resume(args) => args.json,
        }
    }

    pub(crate) fn run(&self, console: &Console) -> Result<ExitCode, Failure> {
        match self {
            Self::Resume(args) => resume::run(args, console),
        }
    }
}
