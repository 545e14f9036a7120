//! `plandag runs`.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use plandag::journal::{Journal as _, RunFilter, RunSummary};
use plandag::report::ExitCode;
use serde_json::{Value, json};

use super::super::args::TEMPLATE;
use super::super::console::Console;
use super::super::duration::{self, human};
use super::super::failure::Failure;
use super::super::style::{self, paint};
use super::super::{run, text};
use super::journal_failure;
use super::keep::{JournalArgs, Survives};

/// Lists the runs in the journal, the newest first.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag runs
  plandag runs --status failed --since 2d
  plandag runs --objective compare --json
"
)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    journal: JournalArgs,
    /// Only runs in this state; can be repeated
    #[arg(long = "status", value_name = "STATUS")]
    statuses: Vec<Status>,
    /// Only runs that were started within this time, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Only runs with this text in their objective, upper or lower case
    #[arg(long, value_name = "TEXT")]
    objective: Option<String>,
    /// One JSON line a run
    #[arg(long)]
    pub(super) json: bool,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// A process drives it
    Running,
    /// Its process was killed
    Interrupted,
    /// It was cancelled or reached a limit
    Stopped,
    /// A person has to decide
    Undecided,
    /// It has its answer
    Succeeded,
    /// It ended without one
    Failed,
}

impl RunsArgs {
    fn filter(&self) -> RunFilter {
        let word = |status: &Status| status.to_possible_value().map(|value| value.get_name().to_owned());
        RunFilter {
            states: self.statuses.iter().filter_map(word).collect(),
            since: self.since,
            objective: self.objective.clone(),
        }
    }
}

pub(super) fn run(args: &RunsArgs, console: &Console) -> Result<ExitCode, Failure> {
    let journal = args.journal.open(Survives::Auto)?;
    let runs = run::runtime()?.block_on(journal.runs()).map_err(journal_failure)?;
    let (now, filter) = (SystemTime::now(), args.filter());
    let (all, runs) = (runs.len(), runs.into_iter().filter(|summary| filter.wants(summary, now)).collect::<Vec<_>>());
    if args.json {
        for summary in &runs {
            // Who does not read on has what they wanted.
            let _ = console.json(&fields(summary));
        }
        return Ok(ExitCode::Success);
    }
    if runs.is_empty() {
        console.say(&match all {
            0 => "no run was kept yet".to_owned(),
            1 => "the only run is not of this kind".to_owned(),
            _ => format!("none of {all} runs is of this kind"),
        });
    }
    let width = runs.iter().map(|summary| summary.run.as_str().len()).max().unwrap_or_default();
    let lines = runs.iter().map(|summary| {
        let age = human(now.duration_since(summary.started).unwrap_or_default());
        format!(
            "{:width$}  {}  {:>10} ago  {:>8}  {}\n",
            summary.run,
            state(summary.state()),
            age,
            human(summary.duration.since_start()),
            text::cut(&summary.objective, 60),
        )
    });
    console.styled(&lines.collect::<String>()).map(|()| ExitCode::Success)
}

/// The state of a run as a sign and a word.
pub(super) fn state(word: &str) -> String {
    let (colour, sign) = match word {
        "succeeded" => (style::GOOD, "✓"),
        "failed" => (style::ERROR, "✗"),
        "running" => (style::STRONG, "▸"),
        _ => (style::RETRY, "■"),
    };
    paint(colour, &format!("{sign} {word:11}"))
}

pub(super) fn fields(summary: &RunSummary) -> Value {
    let mut fields = json!(summary);
    fields["v"] = json!(1);
    fields
}
