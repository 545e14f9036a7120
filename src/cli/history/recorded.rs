//! The command that a run was started with, kept with the run, so that it can be gone on with from anywhere.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use plandag::report::ExitCode;
use plandag::{Plan, RunStart};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::args::{Cli, Command, RunArgs};
use super::super::failure::Failure;

/// The name of the label.
const LABEL: &str = "command";

/// How a run was started.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Recorded {
    arguments: Vec<String>,
    directory: PathBuf,
    /// The plan, if it did not come from a planner.
    plan: Option<Plan>,
}

impl Recorded {
    /// What this process was started with, as a label of the run that it starts.
    pub(crate) fn label(plan: Option<&Plan>) -> (&'static str, Value) {
        let recorded = Self {
            arguments: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            // A directory that is gone cannot be gone back to.
            directory: std::env::current_dir().unwrap_or_default(),
            plan: plan.cloned(),
        };
        (LABEL, serde_json::to_value(recorded).unwrap_or_default())
    }

    /// What a run was started with.
    pub(super) fn of(start: &RunStart) -> Result<Self, Failure> {
        let Some(label) = start.labels.get(LABEL) else {
            let message = "the run was started by another program than this command";
            return Err(Failure::new("journal.foreign_run", ExitCode::Usage, message)
                .help("resume it with that program; plandag show can be used all the same"));
        };
        Self::deserialize(label).map_err(|error| not_understood(&error.to_string()))
    }

    /// The arguments, read anew. Paths in them are meant from [`directory`](Self::directory).
    pub(super) fn args(&self) -> Result<RunArgs, Failure> {
        match Cli::try_parse_from(&self.arguments).map(|cli| cli.command) {
            Ok(Command::Run(args)) => Ok(*args),
            Ok(_) => Err(not_understood("they are not those of plandag run")),
            Err(error) => Err(not_understood(&error.render().to_string())),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn into_plan(self) -> Option<Plan> {
        self.plan
    }
}

fn not_understood(why: &str) -> Failure {
    let message = "this release does not understand the arguments that the run was started with";
    Failure::new("journal.foreign_run", ExitCode::Usage, message)
        .note(why.lines().next().unwrap_or_default())
        .help("resume it with the release that started it")
}
