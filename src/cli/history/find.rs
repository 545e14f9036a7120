//! Which run is meant, and what to say where there is none.

use std::time::SystemTime;

use plandag::journal::{Journal, RunId, RunSummary};
use plandag::report::ExitCode;
use plandag::{JournalError, RunEvent, RunEventKind, RunStart};

use super::super::console::Console;
use super::super::duration::human;
use super::super::failure::Failure;
use super::super::text;
use super::Recorded;

/// Candidates that are named where an abbreviation fits several runs.
const MOST_CANDIDATES: usize = 5;

/// The run that `name` means: its id, or the beginning of only one id.
pub(crate) async fn run(journal: &dyn Journal, name: &str) -> Result<RunSummary, Failure> {
    let mut fitting: Vec<RunSummary> = journal.runs().await.map_err(journal_failure)?;
    if let Some(exact) = fitting.iter().position(|summary| summary.run.as_str() == name) {
        return Ok(fitting.swap_remove(exact));
    }
    fitting.retain(|summary| !name.is_empty() && summary.run.as_str().starts_with(name));
    match fitting.len() {
        0 => Err(unknown(name)),
        1 => Ok(fitting.swap_remove(0)),
        count => Err(ambiguous(name, count, &fitting)),
    }
}

fn unknown(name: &str) -> Failure {
    Failure::usage("journal.unknown_run", format!("there is no run `{name}` in the journal"))
        .help("plandag runs lists them")
}

fn ambiguous(name: &str, count: usize, fitting: &[RunSummary]) -> Failure {
    let failure = Failure::usage("journal.ambiguous_run", format!("`{name}` could be {count} runs"));
    let named = fitting.iter().take(MOST_CANDIDATES);
    let failure = named.fold(failure, |failure, summary| {
        failure.note(format!("{}  {}  {}", summary.run, summary.state(), text::cut(&summary.objective, 60)))
    });
    let failure = match count.saturating_sub(MOST_CANDIDATES) {
        0 => failure,
        more => failure.note(format!("... and {more} more")),
    };
    failure.help("write more of its name")
}

/// The newest run that can be gone on with, by this command, and that nobody drives. It is said which newer ones cannot.
pub(super) async fn latest_unfinished(journal: &dyn Journal, console: &Console) -> Result<RunSummary, Failure> {
    let runs = journal.runs().await.map_err(journal_failure)?;
    let (open, driven): (Vec<_>, Vec<_>) =
        runs.into_iter().filter(RunSummary::is_resumable).partition(|summary| summary.owner.is_none());
    let mut passed_over = Vec::new();
    for summary in open {
        match can_go_on(journal, &summary.run).await {
            Ok(()) => {
                for (run, failure) in passed_over {
                    console.say(&format!(" run {run} is passed over: {}", text::line(&Failure::brief(&failure))));
                }
                return Ok(summary);
            }
            Err(failure) => passed_over.push((summary.run, failure)),
        }
    }
    match (driven.into_iter().next(), passed_over.into_iter().next()) {
        (Some(newest), _) => undriven(newest),
        (None, Some((run, failure))) => Err(failure.note(format!("it is run {run}, and no other can be gone on with"))),
        (None, None) => Err(Failure::usage("journal.nothing_to_resume", "every run in the journal is finished")
            .help("to run the failed part of one again: plandag retry RUN")
            .help("plandag runs lists them")),
    }
}

/// Refuses a run that this command could not go on with.
async fn can_go_on(journal: &dyn Journal, run: &RunId) -> Result<(), Failure> {
    let past = journal.history(run).await.map_err(journal_failure)?;
    Recorded::check(start(&past)?)
}

/// How a run began.
pub(super) fn start(past: &[RunEvent]) -> Result<&RunStart, Failure> {
    match past.first().map(|event| &event.kind) {
        Some(RunEventKind::RunStarted { start }) => Ok(start),
        _ => Err(Failure::new("journal.corrupt", ExitCode::Journal, "the record does not begin with the run's start")),
    }
}

/// Refuses a run that somebody drives.
pub(super) fn undriven(summary: RunSummary) -> Result<RunSummary, Failure> {
    let Some(owner) = summary.owner else { return Ok(summary) };
    // A clock may have been set back.
    let ago = |time: SystemTime| human(time.elapsed().unwrap_or_default());
    let (since, updated) = (ago(owner.since), ago(summary.updated));
    let words = format!("pid {} on this host, for {since}; last event {updated} ago", owner.pid);
    Err(locked(&summary.run, Some(words)))
}

fn locked(run: &RunId, owner: Option<String>) -> Failure {
    let message = format!("run {run} is being run by another process");
    let failure = Failure::new("journal.locked", ExitCode::Journal, message);
    let failure = match owner {
        Some(owner) => failure.note(format!("owner: {owner}")),
        None => failure,
    };
    failure.help(format!("look at it: plandag show {run}")).help(format!("stop it: plandag cancel {run}"))
}

/// The record of a run cannot be read or written.
pub(crate) fn journal_failure(error: JournalError) -> Failure {
    let failure = Failure::new(error.code(), ExitCode::Journal, error.to_string());
    match error {
        JournalError::Locked { run, pid } => {
            locked(&RunId::from(run), pid.map(|pid| format!("pid {pid} on this host")))
        }
        JournalError::UnknownRun { run } => unknown(&run),
        JournalError::BadDecision { .. } => Failure::usage(error.code(), error.to_string()),
        JournalError::Newer { .. } => {
            failure.note("it was not touched").help("use a newer plandag, or another file: --journal FILE")
        }
        JournalError::NotAJournal { .. } => {
            failure.note("it was not touched").help("name another file: --journal FILE")
        }
        JournalError::Unusable { .. } => failure
            .help("keep the journal elsewhere: --journal FILE")
            .help("or keep none: --no-journal, and the run cannot be resumed")
            .help("to look at one where nothing can be written, copy it and name the copy"),
        JournalError::Corrupt { .. } | JournalError::Damaged { .. } => {
            failure.help("check the whole journal: plandag doctor --journal FILE")
        }
        _ => failure
            .help("what was written is kept: once the cause is gone, plandag resume goes on")
            .help("or use another file: --journal FILE"),
    }
}
