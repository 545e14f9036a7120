//! `plandag demo`: a small run with a failure and another plan; on request one that is killed, and goes on.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use plandag::journal::{Journal as _, RunSummary, SqliteJournal};
use plandag::report::ExitCode;
use plandag::{
    Patch, Plan, PlanReason, Planner, Revision, RunEvent, RunEventKind, Runner, Step, StepNumber, planner_fn,
};
use serde_json::json;
use tokio::runtime::Runtime;

use super::super::args::{Settings, TEMPLATE};
use super::super::console::Console;
use super::super::failure::Failure;
use super::super::run::runtime;
use super::super::style::{self, paint};
use super::super::toolbox::Toolbox;
use super::super::watch::{Setting, Watched, watch};
use super::journal_failure;
use super::keep::KeepArgs;

const OBJECTIVE: &str = "What do three offers cost together?";

/// Shows a small run: steps side by side, one that fails, and another plan. Needs nothing.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag demo
  plandag demo --crash      kills itself in the middle (SIGKILL), and goes on
"
)]
pub(crate) struct DemoArgs {
    /// Kills the process that runs it in the middle, and goes on with the run
    #[arg(long)]
    crash: bool,
    /// Kills this process once so many steps are done
    #[arg(long, hide = true, value_name = "N", conflicts_with = "crash")]
    die_after: Option<usize>,
    #[command(flatten)]
    keep: KeepArgs,
}

pub(super) fn run(args: &DemoArgs, console: &Console) -> Result<ExitCode, Failure> {
    let toolbox = Toolbox::open(&Settings::default(), console)?;
    let runner = toolbox.runner(planner(), &Settings::default(), plandag::Policy::default());
    let journal = args.keep.open()?;
    let runtime = runtime()?;
    match (journal, args.crash) {
        (None, true) => Err(Failure::usage("usage.arguments", "a run that is not kept cannot go on")
            .help("leave --no-journal out: plandag demo --crash")),
        (Some(journal), true) => crash(runner.journal(Arc::clone(&journal)), &journal, &runtime, &toolbox, console),
        (journal, false) => {
            let is_kept = journal.is_some();
            let runner = match journal {
                Some(journal) => runner.journal(journal),
                None => runner,
            };
            let start = || {
                let handle = runner.start(OBJECTIVE);
                if let Some(steps) = args.die_after {
                    let mut done = handle
                        .events()
                        .filter(|event| std::future::ready(is_done(event)))
                        .skip(steps.saturating_sub(1));
                    tokio::spawn(async move {
                        if done.next().await.is_some() {
                            kill_myself();
                        }
                    });
                }
                handle
            };
            let watched = runtime.block_on(watch(start, &[], setting(&toolbox, console)))?;
            finish(&watched, is_kept, console)
        }
    }
}

/// The planner of the demo: it finds another way when the page cannot be read.
fn planner() -> impl Planner {
    let wait = |id: &str, ms: u64| Step::new(id, "sleep").args(json!({ "ms": ms }));
    let sum = |id: &str, expression: &str| Step::new(id, "calculate").args(json!({ "expression": expression }));
    planner_fn(move |request| async move {
        Ok(match request.reason {
            PlanReason::First => Revision::Plan(Plan::from_iter([
                wait("ask-north", 300),
                wait("ask-east", 900),
                wait("ask-south", 500),
                sum("north", "3 * 19.90").depends_on(["ask-north"]),
                sum("east", "2 * 59 * 0.95").depends_on(["ask-east"]),
                // Nothing on this machine may be reached, so this fails for good.
                Step::new("south", "fetch").args(json!({ "url": "http://127.0.0.1/offer" })).depends_on(["ask-south"]),
                sum("total", "${north.result} + ${east.result} + ${south.json.price}"),
            ])),
            _ => Revision::Patch(Patch {
                drop: vec!["south".into()],
                add: vec![
                    wait("ask-south-again", 400).into(),
                    sum("south-by-phone", "5 * 11.20").depends_on(["ask-south-again"]).into(),
                ],
                change: vec![sum("total", "${north.result} + ${east.result} + ${south-by-phone.result}").into()],
                answer: Some("total".into()),
            }),
        })
    })
}

/// Nothing in it has to be decided.
fn setting<'a>(toolbox: &'a Toolbox, console: &'a Console) -> Setting<'a> {
    Setting { toolbox, console, json: false, is_kept: false, batch: None }
}

fn is_done(event: &RunEvent) -> bool {
    matches!(event.kind, RunEventKind::StepSucceeded { .. })
}

/// Runs the demo in another process, which is killed after three steps, and goes on with it in this one.
fn crash(
    runner: Runner,
    journal: &Arc<SqliteJournal>,
    runtime: &Runtime,
    toolbox: &Toolbox,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let known: BTreeSet<String> = runs(journal, runtime)?.into_iter().map(|summary| summary.run.to_string()).collect();
    let started = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args(["demo", "--die-after", "3"]).stdin(Stdio::null());
        command.arg("--journal").arg(journal.path());
        command.status()
    });
    let status = started.map_err(|error| {
        Failure::new("internal.panic", ExitCode::Internal, format!("no process can be started: {error}"))
    })?;
    let run = runs(journal, runtime)?.into_iter().find(|summary| !known.contains(summary.run.as_str()));
    let run = run.ok_or_else(|| {
        Failure::new("internal.panic", ExitCode::Internal, format!("the process ended too early: {status}"))
    })?;
    console.say(&format!("\n {} the process was killed in the middle: {status}\n", paint(style::ERROR, "✗")));
    let past = runtime.block_on(journal.history(&run.run)).map_err(journal_failure)?;
    let watched = runtime.block_on(watch(|| runner.start_resume(&run.run), &past, setting(toolbox, console)))?;
    let exit = finish(&watched, true, console)?;
    let all = runtime.block_on(journal.history(&run.run)).map_err(journal_failure)?;
    let (before, after) = all.split_at(past.len());
    let done = |events: &[RunEvent]| -> BTreeSet<StepNumber> {
        events.iter().filter(|event| is_done(event)).filter_map(|event| event.kind.step()).collect()
    };
    let (reused, run_now) = (done(before), done(after));
    let is_repeated =
        |event: &&RunEvent| matches!(event.kind, RunEventKind::AttemptStarted { step, .. } if reused.contains(&step));
    let repeated = after.iter().filter(is_repeated).count();
    console.say(&format!(" {} reused, {} run, {repeated} repeated", reused.len(), run_now.len()));
    Ok(exit)
}

fn runs(journal: &SqliteJournal, runtime: &Runtime) -> Result<Vec<RunSummary>, Failure> {
    runtime.block_on(journal.runs()).map_err(journal_failure)
}

fn finish(watched: &Watched, is_kept: bool, console: &Console) -> Result<ExitCode, Failure> {
    let report = &watched.report;
    let look = is_kept.then(|| format!("look at it: plandag show {}", report.run()));
    match report.answer() {
        Ok(answer) => {
            let took = report.wall_time().as_secs_f64();
            let look = look.map(|look| format!("; {look}")).unwrap_or_default();
            console.say(&format!("\n {} in {took:.2}s{look}", paint(style::GOOD, "✓ succeeded")));
            console.data(&format!("{:#}\n", answer["result"]))?;
            Ok(ExitCode::Success)
        }
        Err(error) => {
            let failure = Failure::new("run.cancelled", ExitCode::of(report), error.to_string()).after_start();
            Err(look.into_iter().fold(failure, Failure::help))
        }
    }
}

/// As if somebody had pulled the plug: no handler runs, nothing is cleaned up.
#[cfg(unix)]
fn kill_myself() {
    use rustix::process::{Signal, getpid, kill_process};

    // A process may always kill itself.
    let _ = kill_process(getpid(), Signal::KILL);
}

#[cfg(not(unix))]
fn kill_myself() {
    std::process::abort();
}
