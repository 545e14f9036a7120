//! `plandag run`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use plandag::counted;
use plandag::journal::{RunId, SqliteJournal};
use plandag::llm::{PlanTool, StepModel};
use plandag::offline::OfflinePlanner;
use plandag::report::ExitCode;
use plandag::{Dag, Plan, Planner, Policy, RunEvent, RunEventKind, RunHandle, Runner};
use tokio::runtime::{Builder, Runtime};

use super::args::{RunArgs, Settings};
use super::batch::{Batch, Sources};
use super::console::Console;
use super::earlier;
use super::failure::Failure;
use super::history::{Recorded, close_journal, journal_failure};
use super::model::Models;
use super::model::args::Chosen;
use super::output::Output;
use super::prediction::Prediction;
use super::questions;
use super::serve::RunPage;
use super::source::{self, Source};
use super::summary::Summary;
use super::toolbox::Toolbox;
use super::watch::{Setting, Watched, watch};

pub(crate) fn run(args: &RunArgs, console: &Console) -> Result<ExitCode, Failure> {
    if args.batch {
        return run_batch(args, console);
    }
    let source = source::read(&args.source, args.source_kind, args.settings.size, console).map_err(|failure| {
        match Toolbox::open(&args.settings, console) {
            Ok(toolbox) => failure.in_run(&toolbox.start("", &args.settings, policy(args))),
            // That is told once the plan has the right shape.
            Err(_) => failure,
        }
    })?;
    run_source(source, args, console)
}

/// Runs what was read, or what was read for a run before it.
pub(crate) fn run_source(source: Source, args: &RunArgs, console: &Console) -> Result<ExitCode, Failure> {
    let Equipment { toolbox, models, mut policy } = {
        // Who names a model that plans wants it asked when a plan of their own goes wrong.
        let needs_model = needs_model(&source) || args.model.names_a_planner();
        Equipment::of(args, needs_model, console)?
    };
    let job = Job::of(source, args, &toolbox, models.as_ref(), &policy)?;
    // A server was told for all that it is sent.
    if args.spending.review && !job.can_replan && args.source_kind.is_none() {
        let nobody = Failure::usage("usage.arguments", "--review asks the planner once more, and here it is no model");
        return Err(nobody.help("name one: --planner-model NAME"));
    }
    if args.confirm {
        confirm(&job, &toolbox, args, &policy, console)?;
    }
    // Whoever leaves at the question leaves nothing behind.
    let output = Output::prepare(args.output.as_deref(), console)?;
    if !job.can_replan {
        policy = without_replans(policy);
    }
    let runner = toolbox.runner(job.planner, &args.settings, policy);
    let plan = job.plan.map(|(plan, _)| plan);
    let model = models.as_ref().and_then(Models::chosen).cloned();
    Beginning { runner, objective: job.objective, plan, batch: None, model }.go(&toolbox, output, args, console)
}

/// Runs what the lines of a file stand for, as one run.
fn run_batch(args: &RunArgs, console: &Console) -> Result<ExitCode, Failure> {
    if args.spending.review {
        let message = "--review is for one objective: a batch has no planner of its own";
        return Err(Failure::usage("usage.arguments", message).help("leave it out, or run the objectives one by one"));
    }
    let sources = Sources::read(args, console)?;
    let needs_model = sources.need_model() || args.model.names_a_planner();
    let equipment = Equipment::of(args, needs_model, console)?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let batch = Batch::of(sources, args, &equipment, console)?;
    let Equipment { toolbox, models, policy } = equipment;
    let model = models.as_ref().and_then(Models::chosen).cloned();
    let reviser = reviser(args, &toolbox);
    let plan = batch.plan(&args.source, &policy, reviser.is_some());
    let objective = plan.objective.clone().unwrap_or_default();
    let (name, tool) = batch.tool(reviser);
    let runner = toolbox.runner(plan.clone(), &args.settings, batch.policy(policy)).tool(name, tool);
    Beginning { runner, objective, plan: Some(plan), batch: Some(batch), model }.go(&toolbox, output, args, console)
}

/// A run that is about to begin.
struct Beginning {
    runner: Runner,
    objective: String,
    /// The plan, where it is known before the run.
    plan: Option<Plan>,
    /// What the steps of that plan stand for, if it is many in one.
    batch: Option<Batch>,
    /// The model, if it was chosen because none was named.
    model: Option<Chosen>,
}

impl Beginning {
    /// Carries it out, and tells how it went.
    fn go(self, toolbox: &Toolbox, output: Output<'_>, args: &RunArgs, console: &Console) -> Result<ExitCode, Failure> {
        let Self { runner, objective, plan, batch, model } = self;
        let journal = args.keep.open()?;
        let (is_kept, kept) = (journal.is_some(), journal.clone());
        let place = journal.as_ref().map(|journal| journal.path().to_owned()).filter(|_| args.open);
        let runner = match journal {
            Some(journal) => {
                let (name, value) = Recorded::label(&args.before, plan.as_ref(), batch.as_ref(), model.as_ref());
                runner.journal(journal).label(name, value)
            }
            None => runner,
        };
        let mut page = None;
        let start = || {
            let handle = runner.start(objective);
            page = place.map(|place| RunPage::open(handle.id(), &place, console));
            handle
        };
        let setting = Setting { toolbox, console, json: args.json, is_kept, batch: batch.as_ref() };
        let watched = watch_all(runtime_of(toolbox, args.json)?, start, &[], setting, kept.as_deref())?;
        let is_objective = plan.is_none();
        let finished = Summary { watched, is_objective, is_kept, args, batch }.finish(output, console);
        match page {
            Some(Ok(page)) => page.close(console),
            // The run went on without it.
            Some(Err(failure)) => console.complain(&failure.after_start().render()),
            None => {}
        }
        drop(runner);
        if let Some(kept) = kept {
            close_journal(kept);
        }
        finished
    }
}

/// A run that is gone on with.
pub(crate) struct Going {
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) run: RunId,
    /// What has happened already.
    pub(crate) past: Vec<RunEvent>,
    pub(crate) accept_changes: bool,
}

/// Goes on with a run that was started with `args`, and with `plan`, or the plan of a `batch`, if it was given one.
pub(crate) fn resume(
    args: &RunArgs,
    plan: Option<Plan>,
    batch: Option<Batch>,
    going: Going,
    runtime: Runtime,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let Going { journal, run, past, accept_changes } = going;
    let Equipment { toolbox, models, policy } = Equipment::of(args, had_model(&past), console)?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let is_objective = plan.is_none();
    let plan = plan.map(|plan| Models::answering(models.as_ref(), plan));
    let (planner, policy): (Box<dyn Planner>, Policy) = match (plan, &models) {
        (Some(plan), Some(models)) if args.model.names_a_planner() && batch.is_none() => {
            (Box::new(plan.revised_by(models.planner(&toolbox.useless()))), policy)
        }
        (Some(plan), _) => {
            let policy = match &batch {
                Some(batch) => batch.policy(policy),
                None => without_replans(policy),
            };
            (Box::new(plan), policy)
        }
        (None, Some(models)) => (Box::new(models.planner(&toolbox.useless())), policy),
        (None, None) => (Box::new(OfflinePlanner::new()), without_replans(policy)),
    };
    let runner = toolbox.runner(planner, &args.settings, policy);
    let kept = Arc::clone(&journal);
    let runner = runner.journal(journal).accept_changes(accept_changes);
    let runner = match &batch {
        Some(batch) => {
            let (name, tool) = batch.tool(reviser(args, &toolbox));
            runner.tool(name, tool)
        }
        None => runner,
    };
    let setting = Setting { toolbox: &toolbox, console, json: args.json, is_kept: true, batch: batch.as_ref() };
    let watched = watch_all(runtime, || runner.start_resume(run), &past, setting, Some(&kept))?;
    let finished = Summary { watched, is_objective, is_kept: true, args, batch }.finish(output, console);
    drop(runner);
    close_journal(kept);
    finished
}

/// What a run is carried out with.
pub(crate) struct Equipment {
    pub(crate) toolbox: Toolbox,
    pub(crate) models: Option<Models>,
    pub(crate) policy: Policy,
}

impl Equipment {
    pub(crate) fn of(args: &RunArgs, needs_model: bool, console: &Console) -> Result<Self, Failure> {
        let mut toolbox = Toolbox::open(&args.settings, console)?;
        let mut policy = policy(args);
        policy.attended = questions::can_ask();
        let models = match needs_model {
            true => Models::find(&args.model, &args.spending, args.limits.timeout, console)?,
            false => None,
        };
        if let Some(models) = &models {
            toolbox.add_models(models, args.batch.then_some(policy.limits.steps))?;
            models.limit(&mut policy);
        }
        if args.limits.timeout.is_some() {
            toolbox.limit_time();
        }
        Ok(Self { toolbox, models, policy })
    }
}

/// Whether a model was part of a run.
fn had_model(past: &[RunEvent]) -> bool {
    past.iter().any(|event| match &event.kind {
        RunEventKind::RunStarted { start } => start.default_tool.is_some(),
        _ => false,
    })
}

/// Neither a plan alone nor a rule has a second way: asking for one would be for show.
fn without_replans(policy: Policy) -> Policy {
    Policy { max_replans: 0, review: false, ..policy }
}

/// What revises plans of one's own, if somebody named a model for that.
fn reviser(args: &RunArgs, toolbox: &Toolbox) -> Option<PlanTool> {
    let planner = toolbox.planner().filter(|_| args.model.names_a_planner())?;
    Some(planner.clone().for_plans_with(args.settings.inputs.iter().cloned().collect()))
}

/// Nobody could stop what is about to begin.
pub(crate) fn no_signals(error: io::Error) -> Failure {
    Failure::new("internal.panic", ExitCode::Internal, format!("signals cannot be received: {error}"))
}

/// Nothing can be begun at all.
pub(crate) fn no_threads(error: &io::Error) -> Failure {
    Failure::new("internal.panic", ExitCode::Internal, format!("no threads can be started: {error}"))
}

/// As many threads as there are cores.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    built(&mut Builder::new_multi_thread())
}

/// What a new run is carried out in. One that is done by models waits for them, and tools that compute do so on threads
/// of their own: more than one thread would spend its time on waking others. People are told by another one: their
/// terminal may be stopped, and the run is to go on.
fn runtime_of(toolbox: &Toolbox, json: bool) -> Result<Runtime, Failure> {
    match toolbox.has_models() {
        true if json && cfg!(target_os = "linux") => built(&mut Builder::new_current_thread()),
        true => built(Builder::new_multi_thread().worker_threads(1)),
        false => runtime(),
    }
}

/// What this builder makes, with all that futures may wait for.
pub(crate) fn built(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| no_threads(&error))
}

/// Waits for something before the run, or without one.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    Ok(built(&mut Builder::new_current_thread())?.block_on(future))
}

fn watch_all(
    runtime: Runtime,
    start: impl FnOnce() -> RunHandle,
    past: &[RunEvent],
    setting: Setting<'_>,
    journal: Option<&SqliteJournal>,
) -> Result<Watched, Failure> {
    let watched = runtime.block_on(async {
        let mut watched = watch(start, past, setting).await?;
        // The answer of a run is there; what the lines of a batch came to may be only in its journal.
        if let (Some(batch), Some(journal)) = (setting.batch, journal)
            && let Err(error) = watched.report.fetch(journal, batch.steps()).await
        {
            setting.console.json_rest(&mut watched.lines);
            return Err(journal_failure(error));
        }
        Ok(watched)
    });
    // A tool that still reads a file does not keep the answer back.
    runtime.shutdown_background();
    watched
}

/// How the run is carried out.
pub(crate) fn policy(args: &RunArgs) -> Policy {
    let mut policy = settings_policy(&args.settings);
    if args.limits.sequential {
        policy.max_parallel = 1;
    }
    if let Some(max_replans) = args.limits.max_replans {
        policy.max_replans = max_replans;
    }
    if let Some(timeout) = args.limits.timeout {
        policy.timeout_ms = Some(millis(timeout));
    }
    policy.limits.deadline_ms = args.limits.deadline.map(millis);
    policy.labels = args.before.labels.clone();
    policy
}

/// The policy as far as every command that looks at a plan knows it.
pub(crate) fn settings_policy(settings: &Settings) -> Policy {
    let mut policy = Policy::default();
    if let Some(max_parallel) = settings.max_parallel {
        policy.max_parallel = max_parallel.get();
    }
    policy.pools = settings.pools.iter().map(|(name, size)| (name.clone(), size.get())).collect();
    settings.size.apply(&mut policy.limits);
    policy
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is to be done.
struct Job {
    objective: String,
    planner: Box<dyn Planner>,
    /// Whether the planner may have another plan after the first.
    can_replan: bool,
    /// The plan, where it is known before the run, with its checked form.
    plan: Option<(Plan, Dag)>,
}

impl Job {
    fn of(
        source: Source,
        args: &RunArgs,
        toolbox: &Toolbox,
        models: Option<&Models>,
        policy: &Policy,
    ) -> Result<Self, Failure> {
        match source {
            Source::Plan(file) => {
                let unnamed = || match file.source.name() {
                    source::STDIN_NAME => format!("a plan of {}", counted(file.plan.steps.len(), "step")),
                    name => name.to_owned(),
                };
                let objective = file.plan.objective.clone().unwrap_or_else(unnamed);
                let start = toolbox.start(&objective, &args.settings, policy.clone());
                let dag = toolbox.check(&file, &start)?;
                toolbox.check_needs(&file.plan)?;
                let reviser = models.filter(|_| args.model.names_a_planner());
                let plan = Models::answering(models, file.plan.clone());
                let planner: Box<dyn Planner> = match reviser {
                    Some(models) => Box::new(plan.revised_by(models.planner(&toolbox.useless()))),
                    None => Box::new(plan),
                };
                Ok(Self { objective, planner, can_replan: reviser.is_some(), plan: Some((file.plan, dag)) })
            }
            Source::Objective { text, could_be_file } => {
                let planner: Box<dyn Planner> = match models {
                    Some(models) => Box::new(models.planner(&toolbox.useless())),
                    None if args.settings.files.is_none() => return Err(no_planner(&text, could_be_file)),
                    None => Box::new(OfflinePlanner::new()),
                };
                Ok(Self { objective: text, planner, can_replan: models.is_some(), plan: None })
            }
        }
    }
}

/// Whether a model is of use: to plan an objective, or to do the steps of a plan that name no tool.
pub(crate) fn needs_model(source: &Source) -> bool {
    match source {
        Source::Objective { .. } => true,
        Source::Plan(file) => has_steps_for_models(&file.plan),
    }
}

/// Whether a plan has steps that name no tool, or one that is a model.
pub(crate) fn has_steps_for_models(plan: &Plan) -> bool {
    let is_model = |tool| [StepModel::NAME, PlanTool::NAME].contains(&tool);
    plan.steps.iter().any(|step| step.tool.as_deref().is_none_or(is_model))
}

/// There is no model, and no documents for the planner that needs none.
pub(crate) fn no_planner(objective: &str, could_be_file: bool) -> Failure {
    let failure = Failure::new(
        "config.no_planner",
        ExitCode::Configuration,
        "there is no model to plan this objective, and no documents to answer it from",
    );
    let failure = if could_be_file {
        failure.note(format!("`{objective}` is no file, so it was taken as an objective"))
    } else {
        failure
    };
    failure
        .help("name a model: --model NAME (plandag doctor says what there is)")
        .help("answer it from documents of your own, without a model: add --files DIR")
        .help("or write the plan yourself: plandag run plan.json (plandag schema says what it may hold)")
}

/// Shows what would be done, and asks.
fn confirm(job: &Job, toolbox: &Toolbox, args: &RunArgs, policy: &Policy, console: &Console) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let code = "confirm.no_terminal";
        let message = "--confirm has a question, and there is no terminal to ask it on";
        return Err(Failure::new(code, ExitCode::Undecided, message)
            .help("leave --confirm out, or look at the plan first: plandag plan"));
    }
    match &job.plan {
        Some((plan, dag)) => {
            let mut start = toolbox.start(&job.objective, &args.settings, policy.clone());
            earlier::expect(&mut start, &args.keep.means()?);
            console.complain(&Prediction::new(plan, dag, &start).render());
        }
        None if job.can_replan => console.complain(" the objective is planned by a model; plandag plan shows a plan"),
        None => console.complain(" the objective is planned by rule; plandag plan shows the plan"),
    }
    console.complain(&toolbox.render());
    eprint_prompt(" Run it? [y/N] ");
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("confirm.declined", ExitCode::Interrupted, "you said no")),
    }
}

fn eprint_prompt(prompt: &str) {
    let mut stderr = io::stderr().lock();
    // Who cannot be asked answers nothing, which means no.
    let _ = stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush());
}
