//! `plandag approve`, `plandag resolve` and `plandag cancel`: what a person says to a run.

use std::time::{Duration, Instant};

use clap::Args;
use plandag::history::{self, Told};
use plandag::journal::Journal as _;
use plandag::report::{ExitCode, StepOutcome};
use plandag::{Decision, Output, StepNumber};
use serde_json::Value;
use tokio::time::timeout;

use super::super::args::TEMPLATE;
use super::super::console::Console;
use super::super::failure::Failure;
use super::journal_failure;
use super::keep::JournalArgs;
use super::look::{self, Found, unknown_step};

/// Lets a step act that waits for approval. A run that goes on acts on it at once.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag approve 7f3k send\n  plandag approve 7f3k send --deny\n")]
pub(crate) struct ApproveArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// Does not let it: the step fails
    #[arg(long)]
    deny: bool,
    #[command(flatten)]
    journal: JournalArgs,
}

/// Says what became of a step that was interrupted while it acted. A run that goes on acts on it at once.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag resolve 7f3k pay --succeeded '{\"receipt\": 17}'     it took effect, and this is its output
  plandag resolve 7f3k pay --failed                          it did not, and shall not
  plandag resolve 7f3k pay --retry                           it is done again, with the same idempotency key
"
)]
#[group(id = "outcome", required = true, multiple = false, args = ["succeeded", "failed", "retry"])]
pub(crate) struct ResolveArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// It took effect; its output is this JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    succeeded: Option<Value>,
    /// It did not take effect, and shall not
    #[arg(long)]
    failed: bool,
    /// It is done again
    #[arg(long)]
    retry: bool,
    #[command(flatten)]
    journal: JournalArgs,
}

/// Stops a run, wherever it is driven. It can be resumed.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag cancel 7f3k\n  plandag cancel 7f3k --now\n")]
pub(crate) struct CancelArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    /// Ends what is running instead of giving it time to finish
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    journal: JournalArgs,
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}; text is written '\"like this\"'"))
}

pub(super) fn approve(args: &ApproveArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, Some(&args.run))?;
    let question = Question { found: &found, step: &args.step, outcome: StepOutcome::Unapproved };
    question.answer(if args.deny { Decision::Deny } else { Decision::Approve }, console)
}

pub(super) fn resolve(args: &ResolveArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, Some(&args.run))?;
    let decision = match &args.succeeded {
        Some(output) => Decision::Succeeded(Output::inline(output.clone())),
        None if args.failed => Decision::Failed("a person said that it did not take effect".to_owned()),
        None => Decision::Retry,
    };
    Question { found: &found, step: &args.step, outcome: StepOutcome::Unknown }.answer(decision, console)
}

/// How long the process that drives a run may take to act on a decision before this command says that it has not yet.
const LISTENING: Duration = Duration::from_secs(30);

/// What a person decides about a step.
struct Question<'a> {
    found: &'a Found,
    step: &'a str,
    /// How the step is if it waits for that.
    outcome: StepOutcome,
}

impl Question<'_> {
    fn answer(&self, decision: Decision, console: &Console) -> Result<ExitCode, Failure> {
        let Self { found: Found { journal, runtime, summary, .. }, step, .. } = self;
        let run = &summary.run;
        let decided = history::decide(&**journal, run, self.number()?, decision);
        match runtime.block_on(async { timeout(LISTENING, decided).await }) {
            Ok(Ok(Told::Recorded)) => console.say(&format!(" recorded; to go on: plandag resume {run}")),
            Ok(Ok(Told::Taken)) => console.say(&format!(" done: run {run} goes on with it")),
            Ok(Ok(Told::Nothing)) => return Err(self.is_not_asked()),
            Ok(Err(error)) => return Err(journal_failure(error)),
            Err(_) => {
                let message = format!("run {run} is being run by another process, which has not answered yet");
                return Err(Failure::new("journal.locked", ExitCode::Journal, message)
                    .note("it may still act on the decision when it goes on")
                    .help(format!("look at what became of it: plandag why {step} --run {run}")));
            }
        }
        Ok(ExitCode::Success)
    }

    /// The number of the step, if a person has to decide about it.
    fn number(&self) -> Result<StepNumber, Failure> {
        let report = self.found.history.report().step(self.step).ok_or_else(|| unknown_step(self.found, self.step))?;
        if report.outcome == self.outcome { Ok(report.number) } else { Err(self.is_not_asked()) }
    }

    fn is_not_asked(&self) -> Failure {
        let Self { found: Found { summary, .. }, step, outcome } = self;
        let run = &summary.run;
        let what = if *outcome == StepOutcome::Unknown { "has an unknown outcome" } else { "waits for approval" };
        let failure =
            Failure::usage("journal.nothing_to_decide", format!("step `{step}` of run {run} is not one that {what}"));
        match summary.state() {
            // What was running is found out about when somebody goes on with the run.
            "interrupted" => failure.help(format!("the run was interrupted: plandag resume {run} first")),
            _ => failure.help(format!("what it is: plandag why {step} --run {run}")),
        }
    }
}

/// How long the process that drives a run may take to stop before this command says so.
const PATIENCE: Duration = Duration::from_secs(8);
const GLANCE: Duration = Duration::from_millis(50);

pub(super) fn cancel(args: &CancelArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, Some(&args.run))?;
    let run = &found.summary.run;
    if !found.summary.is_resumable() {
        console.say(&format!(" run {run} is {} already", found.summary.state()));
        return Ok(ExitCode::Success);
    }
    let Some(owner) = found.summary.owner else {
        found.runtime.block_on(history::cancel(&*found.journal, run)).map_err(journal_failure)?;
        console.say(&format!(" run {run} is stopped; to go on after all: plandag resume {run}"));
        return Ok(ExitCode::Success);
    };
    interrupt(owner.pid, args.now)?;
    console.say(&format!(" asked pid {} to stop", owner.pid));
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        let runs = found.runtime.block_on(found.journal.runs()).map_err(journal_failure)?;
        if runs.iter().all(|summary| summary.run != *run || summary.owner.is_none()) {
            console.say(&format!(" run {run} has stopped; to go on after all: plandag resume {run}"));
            return Ok(ExitCode::Success);
        }
        std::thread::sleep(GLANCE);
    }
    console.complain(&format!(" run {run} is still stopping; to end what is running: plandag cancel {run} --now"));
    Ok(ExitCode::Success)
}

/// What Ctrl-C would do there, or Ctrl-\ if what is running is to be ended.
#[cfg(unix)]
pub(crate) fn interrupt(pid: u32, now: bool) -> Result<(), Failure> {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid.map(|pid| kill_process(pid, if now { Signal::QUIT } else { Signal::INT })) {
        // One that has just ended has stopped, too.
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(error)) => {
            Err(Failure::new("journal.locked", ExitCode::Journal, format!("the owner cannot be told: {error}")))
        }
        None => Err(Failure::new("journal.locked", ExitCode::Journal, "the owner is not known")),
    }
}

#[cfg(not(unix))]
pub(crate) fn interrupt(pid: u32, _: bool) -> Result<(), Failure> {
    Err(Failure::new("journal.locked", ExitCode::Journal, format!("press Ctrl-C in the terminal of process {pid}")))
}
