//! `plandag show`, `plandag logs` and `plandag why`: what a journal knows about a run and its steps.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use plandag::counted;
use plandag::history::{History, RevisionChange};
use plandag::journal::{Journal as _, RunStatus, RunSummary, SqliteJournal};
use plandag::report::{ExitCode, StepOutcome, StepReport};
use plandag::{SkipReason, StepId, Usage};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::args::TEMPLATE;
use super::super::console::{Console, json_text};
use super::super::duration::human;
use super::super::failure::Failure;
use super::super::ledger::Ledger;
use super::super::ndjson::{Line, millis};
use super::super::progress::{Beside, Progress};
use super::super::style::{self, paint};
use super::super::summary::used;
use super::super::timing::Timing;
use super::super::{run, secrets, text};
use super::keep::{JournalArgs, Survives};
use super::{answers, find, journal_failure, runs};

/// How often a run that goes on is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longer results are cut: `--output STEP` has them whole.
const PREVIEW_COLUMNS: usize = 60;

/// Shows a run: its plans and how they differ, every step with its attempts, times, cost and output.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag show 7f3k
  plandag show 7f3k --output report      the whole output of one step
  plandag show 7f3k --planner-answers    what the planner wrote that was sent back
  plandag show 7f3k --json
"
)]
pub(crate) struct ShowArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    journal: JournalArgs,
    /// Only the output of this step, all of it
    #[arg(long, value_name = "STEP")]
    output: Option<String>,
    /// Only the answers of the planner that could not be used, as it wrote them
    #[arg(long, conflicts_with = "output")]
    planner_answers: bool,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// A step of a run that is kept.
#[derive(Args, Debug)]
pub(crate) struct OfStep {
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// The run, or the beginning of its name [default: the newest]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    journal: JournalArgs,
    /// JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

/// Shows everything that happened to one step.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag logs report\n  plandag logs report --run 7f3k --follow\n")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(super) of: OfStep,
    /// Waits for more, until the run is over or nobody drives it
    #[arg(short, long)]
    follow: bool,
}

/// Says why a step ran when it did, waited, was skipped, or was run again.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag why report\n  plandag why report --run 7f3k\n")]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(super) of: OfStep,
}

/// A run that was looked up.
pub(super) struct Found {
    pub(super) runtime: Runtime,
    pub(super) journal: Arc<SqliteJournal>,
    pub(super) summary: RunSummary,
    pub(super) history: History,
}

/// Looks a run up; without a name, the newest.
pub(super) fn find(journal: &JournalArgs, name: Option<&str>) -> Result<Found, Failure> {
    find_in(journal.open(Survives::Auto)?, name)
}

/// Looks a run up in an open journal.
pub(super) fn find_in(journal: Arc<SqliteJournal>, name: Option<&str>) -> Result<Found, Failure> {
    let runtime = run::runtime()?;
    let (summary, history) = runtime.block_on(async {
        let summary = match name {
            Some(name) => find::run(&*journal, name).await?,
            None => journal.runs().await.map_err(journal_failure)?.into_iter().next().ok_or_else(|| {
                Failure::usage("journal.empty", "no run was kept yet").help("start one: plandag run plan.json")
            })?,
        };
        read(&journal, summary).await
    })?;
    Ok(Found { runtime, journal, summary, history })
}

/// Reads what is known of a run. What another process has written down may be secret here.
async fn read(journal: &SqliteJournal, mut summary: RunSummary) -> Result<(RunSummary, History), Failure> {
    let secrets = secrets::known();
    let history = History::load_redacted(journal, &summary.run, secrets).await.map_err(journal_failure)?;
    summary.objective = secrets.redact(&summary.objective).into_owned();
    Ok((summary, history))
}

impl Found {
    /// The same run as it is now.
    fn again(self) -> Result<Self, Failure> {
        let Self { runtime, journal, summary, .. } = self;
        let (summary, history) = runtime.block_on(async {
            let summary = find::run(&*journal, summary.run.as_str()).await?;
            read(&journal, summary).await
        })?;
        Ok(Self { runtime, journal, summary, history })
    }
}

/// There is no such step in the run.
pub(super) fn unknown_step(found: &Found, step: &str) -> Failure {
    let names: Vec<&str> =
        found.history.report().steps().filter(|step| step.member).map(|step| step.id.as_str()).collect();
    let names = text::cut(&names.join(", "), 200).into_owned();
    Failure::usage("journal.unknown_step", format!("run {} has no step `{step}`", found.summary.run))
        .note(format!("its steps are {names}"))
}

pub(super) fn show(args: &ShowArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = find(&args.journal, Some(&args.run))?;
    if let Some(step) = &args.output {
        return output(&found, step, args.json, console);
    }
    if args.planner_answers {
        return answers::show(&found, args.json, console);
    }
    if args.json {
        let _ = console.json(&as_json(&found));
        return Ok(ExitCode::Success);
    }
    console.styled(&render(&found)).map(|()| ExitCode::Success)
}

fn output(found: &Found, step: &str, json: bool, console: &Console) -> Result<ExitCode, Failure> {
    if found.history.report().step(step).is_none() {
        return Err(unknown_step(found, step));
    }
    let output = found.runtime.block_on(found.history.output(&*found.journal, step)).map_err(journal_failure)?;
    let Some(output) = output else {
        return Err(Failure::usage("journal.no_output", format!("step `{step}` has no output"))
            .help(format!("why: plandag why {step} --run {}", found.summary.run)));
    };
    let text = match &*output {
        Value::String(text) if !json => text::lines(text).into_owned(),
        value => json_text(&format!("{value:#}")).into_owned(),
    };
    console.data(&(text + "\n")).map(|()| ExitCode::Success)
}

fn render(found: &Found) -> String {
    let (history, summary) = (&found.history, &found.summary);
    let report = history.report();
    let heading = |word: &str| paint(style::FAINT, &text::pad(word, 10));
    let mut lines = vec![
        format!(" {}  {}", runs::state(summary.state()), text::line(&summary.objective)),
        format!("   {}{}, {}", heading("run"), summary.run, Timing::of(report).headline()),
    ];
    if let Some(owner) = summary.owner {
        lines.push(format!("   {}pid {} on this host", heading("owner"), owner.pid));
    }
    if !is_driven(summary) {
        lines.extend(Timing::of(report).lines(report));
    }
    lines.push(format!("   {}{}", heading("used"), used(report)));
    if report.answered_by_planner() {
        lines.push(format!("   {}the planner's own", heading("answer")));
    }
    lines.extend(history.revisions().iter().flat_map(plan_lines));
    lines.push(String::new());
    let steps: Vec<StepReport<'_>> = report.steps().collect();
    let width = |of: fn(&StepReport<'_>) -> usize| steps.iter().map(of).max().unwrap_or_default().min(24);
    let widths = (width(|step| step.id.as_str().len()), width(|step| step.tool.len()));
    lines.extend(steps.iter().map(|step| step_line(history, step, widths)));
    lines.join("\n") + "\n"
}

fn plan_lines(change: &RevisionChange) -> Vec<String> {
    let steps = counted(change.added.len() + change.again.len() + change.kept, "step");
    let mut lines = vec![format!(
        "   {}{}: {steps}, {}{}",
        paint(style::FAINT, &text::pad("plan", 10)),
        change.revision,
        text::line(&change.because.to_string()),
        if change.revision > 1 { format!(", {} kept", change.kept) } else { String::new() },
    )];
    if change.revision > 1 {
        let list = |sign: &'static str, ids: &[StepId]| {
            ids.iter().map(move |id| format!("             {sign} {}", text::line(id.as_str()))).collect::<Vec<_>>()
        };
        lines.extend(list("-", &change.dropped));
        lines.extend(list("+", &change.added));
        lines.extend(list("~", &change.again));
    }
    lines
}

fn step_line(history: &History, step: &StepReport<'_>, (ids, tools): (usize, usize)) -> String {
    let (colour, sign, word) = match (step.outcome, step.outcome.word()) {
        (StepOutcome::Succeeded, _) => (style::GOOD, "✓", "done"),
        (StepOutcome::Failed, word) => (style::ERROR, "✗", word),
        (StepOutcome::Skipped(_) | StepOutcome::Superseded, word) => (style::FAINT, "○", word),
        (StepOutcome::Unknown | StepOutcome::Unapproved, word) => (style::RETRY, "?", word),
        (_, word) => (style::RETRY, "■", word),
    };
    let mut parts = vec![
        format!(" {} {}", paint(colour, sign), text::pad(&text::line(step.id.as_str()), ids)),
        text::pad(&text::line(step.tool), tools),
        format!("{word:10}"),
    ];
    let is_left_out = step.outcome == StepOutcome::Skipped(SkipReason::LeftOut);
    if step.taken_over() && !is_left_out {
        parts.push(format!("{:>8}", if step.member { "kept" } else { "before the fork" }));
    } else if step.attempt_count() > 0 {
        let queued: Duration = step.attempts.iter().map(|call| call.queued).sum();
        let usd: u64 = step.attempts.iter().map(|call| call.usage.micro_usd).fold(0, u64::saturating_add);
        parts.push(format!(
            "{:>8} (+{} queued)  {}{}",
            human(step.duration()),
            human(queued),
            counted(step.attempt_count(), "attempt"),
            if usd > 0 { format!("  ${:.3}", usd as f64 / 1_000_000.0) } else { String::new() }
        ));
    }
    match (step.outcome, step.because, step.error) {
        (StepOutcome::Skipped(SkipReason::Failed(_)), Some(cause), _) => {
            parts.push(format!("because {} failed", text::line(cause.as_str())));
        }
        (StepOutcome::Skipped(SkipReason::LeftOut), ..) => parts.push("left out of this fork".to_owned()),
        (StepOutcome::Failed | StepOutcome::Unknown, _, Some(error)) => {
            parts.push(text::cut(&error.message, PREVIEW_COLUMNS).into_owned());
        }
        _ => parts.extend(history.preview(step.number).map(|text| text::cut(&text, PREVIEW_COLUMNS).into_owned())),
    }
    parts.join("  ").trim_end().to_owned()
}

fn as_json(found: &Found) -> Value {
    let (history, report) = (&found.history, found.history.report());
    let mut all = runs::fields(&found.summary);
    if !is_driven(&found.summary) {
        for (name, value) in Timing::of(report).fields(report) {
            all[name] = value;
        }
    }
    all["plans"] = history
        .revisions()
        .into_iter()
        .map(|change| {
            json!({
                "revision": change.revision, "because": change.because.to_string(), "added": change.added,
                "again": change.again, "dropped": change.dropped, "kept": change.kept, "usd": usd(&change.usage),
            })
        })
        .collect();
    all["steps"] = report.steps().map(|step| step_json(history, &step)).collect();
    all["answer"] = json!(report.answer().ok());
    all["usd"] = usd(&report.usage());
    all
}

fn step_json(history: &History, step: &StepReport<'_>) -> Value {
    let calls = step.attempts.iter().map(|call| {
        json!({
            "started": call.started.as_secs_f64(), "ms": millis(call.duration()), "queued_ms": millis(call.queued),
            "error": call.error, "usd": usd(&call.usage),
            "input_tokens": call.usage.input_tokens, "output_tokens": call.usage.output_tokens,
            "taken_over": call.taken_over,
        })
    });
    json!({
        "step": step.id, "number": step.number, "tool": step.tool, "state": step.outcome.word(), "member": step.member,
        "because": step.because, "error": step.error, "attempts": calls.collect::<Vec<_>>(),
        "output": history.preview(step.number),
    })
}

pub(super) fn logs(args: &LogsArgs, console: &Console) -> Result<ExitCode, Failure> {
    let mut found = find(&args.of.journal, args.of.run.as_deref())?;
    let step = &args.of.step;
    // A step may be part of a plan that is still to come.
    let is_known = found.history.why(step).is_some() || !found.history.of_step(step).is_empty();
    if !is_known && (!args.follow || !is_driven(&found.summary)) {
        return Err(unknown_step(&found, step));
    }
    // The lines are those of the run: told from its beginning, as far as they are about the step.
    let (mut ledger, mut progress) = (Ledger::default(), Progress::new(Beside::Nothing));
    let mut told = 0;
    loop {
        let wanted = found.history.of_step(step);
        for event in &found.history.events()[told..] {
            ledger.take(event);
            let is_wanted = wanted.iter().any(|wanted| wanted.seq == event.seq);
            if args.of.json {
                if let Some(line) = Line::event(&found.summary.run, event, &ledger).filter(|_| is_wanted)
                    && console.json(&line).is_err()
                {
                    return Ok(ExitCode::Success);
                }
            } else if let Some(line) = progress.line(event, &ledger).filter(|_| is_wanted) {
                console.styled(&format!("{line}\n"))?;
            }
        }
        told = found.history.events().len();
        // Looked at before the last events were read: what was written meanwhile comes with the next look.
        if !args.follow || !is_driven(&found.summary) {
            return Ok(ExitCode::Success);
        }
        std::thread::sleep(LOOK_AGAIN);
        found = found.again()?;
    }
}

/// Whether a process may add something to the run.
pub(super) fn is_driven(summary: &RunSummary) -> bool {
    summary.status == RunStatus::Unfinished && summary.owner.is_some()
}

pub(super) fn why(args: &OfStep, console: &Console) -> Result<ExitCode, Failure> {
    let found = find(&args.journal, args.run.as_deref())?;
    let reasons = found.history.why(&args.step).ok_or_else(|| unknown_step(&found, &args.step))?;
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    if args.json {
        let _ = console.json(&json!({ "v": 1, "run": found.summary.run, "step": args.step, "why": reasons }));
        return Ok(ExitCode::Success);
    }
    let lines = reasons.iter().map(|reason| format!(" {}\n", text::line(reason)));
    console.styled(&format!("{}\n{}", text::line(&args.step), lines.collect::<String>())).map(|()| ExitCode::Success)
}

/// What was spent, in dollars.
fn usd(usage: &Usage) -> Value {
    json!(usage.micro_usd as f64 / 1_000_000.0)
}
