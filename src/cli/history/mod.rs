//! Runs that are kept in a journal: gone on with, and looked at.

mod again;
mod answers;
mod check;
mod decide;
mod demo;
mod export;
mod find;
mod keep;
mod look;
mod recorded;
mod replay;
mod report;
mod resume;
mod runs;

use clap::Subcommand;
use plandag::report::ExitCode;

use super::console::Console;
use super::failure::Failure;

pub(crate) use check::check_journal;
pub(crate) use decide::interrupt;
pub(crate) use find::{journal_failure, run as find_run};
pub(crate) use keep::{
    JournalArgs, KeepArgs, Survives, close as close_journal, open_existing, open_or_make as open_journal,
};
pub(crate) use recorded::{Before, Recorded};

/// The verbs that a journal adds.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Resume(resume::ResumeArgs),
    Runs(runs::RunsArgs),
    Show(look::ShowArgs),
    Logs(look::LogsArgs),
    Why(look::WhyArgs),
    Replay(replay::ReplayArgs),
    Retry(again::RetryArgs),
    Fork(again::ForkArgs),
    Cancel(decide::CancelArgs),
    Approve(decide::ApproveArgs),
    Resolve(decide::ResolveArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Demo(demo::DemoArgs),
}

impl Verb {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Resume(args) => args.json,
            Self::Runs(args) => args.json,
            Self::Show(args) => args.json,
            Self::Logs(args) => args.of.json,
            Self::Why(args) => args.of.json,
            Self::Retry(args) => args.json,
            Self::Fork(args) => args.json,
            Self::Cancel(_)
            | Self::Approve(_)
            | Self::Resolve(_)
            | Self::Replay(_)
            | Self::Report(_)
            | Self::Export(_)
            | Self::Demo(_) => false,
        }
    }

    pub(crate) fn run(&self, console: &Console) -> Result<ExitCode, Failure> {
        match self {
            Self::Resume(args) => resume::run(args, console),
            Self::Runs(args) => runs::run(args, console),
            Self::Show(args) => look::show(args, console),
            Self::Logs(args) => look::logs(args, console),
            Self::Why(args) => look::why(&args.of, console),
            Self::Replay(args) => replay::run(args, console),
            Self::Retry(args) => again::retry(args, console),
            Self::Fork(args) => again::fork(args, console),
            Self::Cancel(args) => decide::cancel(args, console),
            Self::Approve(args) => decide::approve(args, console),
            Self::Resolve(args) => decide::resolve(args, console),
            Self::Report(args) => report::run(args, console),
            Self::Export(args) => export::run(args, console),
            Self::Demo(args) => demo::run(args, console),
        }
    }
}
