//! `plandag report`: a run as a page that is one file.

use std::path::PathBuf;

use clap::Args;
use plandag::page::{Mode, Snapshot, run_html};
use plandag::report::ExitCode;

use super::super::args::TEMPLATE;
use super::super::console::Console;
use super::super::failure::Failure;
use super::super::output::Output;
use super::keep::JournalArgs;
use super::look;

/// Writes a run down as a page: one file, which opens offline and asks nobody for anything.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag report 7f3k -o run.html
  plandag report -o run.html                 the newest run
"
)]
pub(crate) struct ReportArgs {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Writes to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    journal: JournalArgs,
}

pub(super) fn run(args: &ReportArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, args.run.as_deref())?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let page = run_html(&Snapshot::of(&found.history, &found.summary), Mode::Report);
    output.write_clean(&page).map(|()| ExitCode::Success)
}
