//! `plandag retry` and `plandag fork`: the same run again, what is finished and not touched taken over.

use clap::Args;
use plandag::StepId;
use plandag::counted;
use plandag::history::{Changes, Fork, ForkError};
use plandag::journal::RunId;
use plandag::report::ExitCode;
use serde_json::Value;

use super::super::args::{TEMPLATE, key_value};
use super::super::console::Console;
use super::super::failure::Failure;
use super::super::progress::some_of;
use super::super::style::{self, paint};
use super::super::text;
use super::keep::{DrivenArgs, Survives};
use super::look::{self, Found};
use super::{Recorded, find, journal_failure, resume};

/// Runs what failed or was skipped again, as a new run that takes over the rest.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag retry 7f3k\n  plandag retry              the newest run\n")]
pub(crate) struct RetryArgs {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    journal: DrivenArgs,
    /// Events and errors as JSON lines on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs a step and all that depends on it again, as a new run that takes over the rest.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag fork 7f3k --from compare
  plandag fork 7f3k --from search --set query=\"HAProxy TLS\"
  plandag fork 7f3k --without search-vespa
",
    after_help = "What depends on a step that is left out sees a null in its place."
)]
#[group(id = "change", required = true, multiple = true, args = ["from", "without"])]
pub(crate) struct ForkArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    /// Runs this step again, and all that depends on it
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Sets an argument of that step: JSON if it is JSON, else text, also a number that would be written otherwise (1.10); can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, requires = "from")]
    set: Vec<(String, Value)>,
    /// Leaves this step out; can be repeated
    #[arg(long = "without", value_name = "STEP")]
    without: Vec<String>,
    #[command(flatten)]
    journal: DrivenArgs,
    /// Events and errors as JSON lines on standard output
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn retry(args: &RetryArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find_in(args.journal.open()?, args.run.as_deref())?;
    fork_and_run(found, &Changes::default(), args.journal.durability, args.json, console)
}

pub(super) fn fork(args: &ForkArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find_in(args.journal.open()?, Some(&args.run))?;
    let changes = Changes {
        from: args.from.as_deref().map(StepId::from),
        set: args.set.iter().cloned().collect(),
        without: args.without.iter().map(|step| StepId::from(step.as_str())).collect(),
    };
    fork_and_run(found, &changes, args.journal.durability, args.json, console)
}

fn fork_and_run(
    found: Found,
    changes: &Changes,
    durability: Survives,
    json: bool,
    console: &Console,
) -> Result<ExitCode, Failure> {
    if found.summary.is_resumable() {
        // What goes on there would be done twice.
        find::undriven(found.summary.clone())?;
    }
    let old = &found.summary.run;
    let fork = found.history.fork(changes).map_err(|error| impossible(&found, &error))?;
    // Before anything is written down: a fork that nothing can be done with would be in the way.
    Recorded::check(found.history.report().start())?;
    let new = RunId::random();
    found.runtime.block_on(fork.save(&*found.journal, &new)).map_err(journal_failure)?;
    if !json {
        console.say(&format!(" {}{new}  comes from {old}", paint(style::FAINT, "fork      ")));
        console.say(&format!(" {}{}", paint(style::FAINT, "steps     "), counts(&fork)));
    }
    let Found { runtime, journal, .. } = found;
    resume::go_on(journal, new, runtime, durability, json, console)
}

/// `8 reused, 1 run again, 2 run for the first time, 1 put together again, 1 left out`.
fn counts(fork: &Fork) -> String {
    let named = |steps: &[StepId], what: &str| match steps.len() {
        0 => None,
        count => {
            let names: Vec<String> = steps.iter().map(ToString::to_string).collect();
            Some(format!("{count} {what} ({})", text::line(&some_of(&names))))
        }
    };
    let parts = [
        Some(format!("{} reused", fork.reused.len())),
        named(&fork.again, "run again"),
        named(&fork.first, "run for the first time"),
        named(&fork.put_together, "put together again"),
        named(&fork.left_out, "left out"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn impossible(found: &Found, error: &ForkError) -> Failure {
    let run = &found.summary.run;
    if let ForkError::UnknownStep { step } = error {
        return look::unknown_step(found, step.as_str());
    }
    let failure = Failure::usage(error.code(), error.to_string());
    match error {
        ForkError::NeverRan { step } => failure
            .help(format!("why it did not: plandag why {step} --run {run}"))
            .help(format!("to run what did not finish: plandag retry {run}")),
        ForkError::PartOfExpansion { parent, .. } => {
            failure.help(format!("fork from there: plandag fork {run} --from {parent}"))
        }
        ForkError::Undecided { step } => failure
            .help(format!("say what became of it: plandag resolve {run} {step} --succeeded JSON, --failed or --retry"))
            .help(format!("to do it again in any case: plandag fork {run} --from {step}")),
        ForkError::NothingToDo => {
            let all = counted(found.history.report().steps().filter(|step| step.member).count(), "step");
            failure.note(format!("finished: {all}")).help(format!("to run one again: plandag fork {run} --from STEP"))
        }
        _ => failure,
    }
}
