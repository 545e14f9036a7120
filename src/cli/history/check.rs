//! `plandag doctor --journal`: whether every run is there as it was written.

use std::path::Path;

use plandag::JournalError;
use plandag::counted;
use plandag::history::History;
use plandag::journal::Journal as _;
use plandag::report::ExitCode;

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::run;
use super::super::style::{self, paint};
use super::super::text;
use super::journal_failure;
use super::keep::{self, Survives};

/// Checks a journal from end to end, and makes anew what can be made from its events.
pub(crate) fn check_journal(asked: Option<&Path>, console: &Console) -> Result<ExitCode, Failure> {
    let journal = keep::open_existing(asked, Survives::Auto)?;
    let (check, runs, problems) = run::runtime()?.block_on(async {
        let check = journal.check().await.map_err(journal_failure)?;
        let mut problems = check.problems.clone();
        let runs = match journal.runs().await {
            // There is no list, and why not has been found already, or is told here.
            Err(error @ JournalError::Damaged { .. }) => {
                if problems.is_empty() {
                    problems.push(error.to_string());
                }
                Vec::new()
            }
            runs => runs.map_err(journal_failure)?,
        };
        for summary in &runs {
            if let Err(error) = History::load(&*journal, &summary.run).await {
                problems.push(format!("run {}: {error}", summary.run));
            }
        }
        Ok::<_, Failure>((check, runs, problems))
    })?;
    let name = journal.path().display();
    if !problems.is_empty() {
        let failure = Failure::new("journal.corrupt", ExitCode::Journal, format!("{name} is damaged"));
        return Err(problems
            .into_iter()
            .fold(failure, Failure::note)
            .help("keep a copy before anything else is tried"));
    }
    let events = runs.iter().map(|summary| summary.events as usize).sum();
    let rebuilt = match check.rebuilt {
        0 => String::new(),
        count => format!("; {} of the list of runs made anew", counted(count as usize, "line")),
    };
    console.styled(&format!(
        " {} {} is sound: {}, {}, {}{rebuilt}\n",
        paint(style::GOOD, "✓"),
        text::line(&name.to_string()),
        counted(runs.len(), "run"),
        counted(events, "event"),
        counted(check.outputs as usize, "large output"),
    ))?;
    Ok(ExitCode::Success)
}
