//! The commands that look at a plan and run nothing: `plan`, `check`, `graph`, `schema`.

use std::pin::pin;

use futures::executor;
use futures::future::{self, select};
use futures::{FutureExt as _, StreamExt as _};
use plandag::counted;
use plandag::offline::OfflinePlanner;
use plandag::report::{ExitCode, Graph};
use plandag::{Dag, Plan, PlanError, PlanRequest, PlanSink, Planner as _, Revision, RunStart};
use serde_json::json;

use super::args::{CheckArgs, GraphArgs, GraphFormat, PlanArgs};
use super::console::{Console, json_text};
use super::earlier;
use super::failure::Failure;
use super::model::args::{ModelArgs, SpendingArgs};
use super::model::{self, Models};
use super::output::Output;
use super::prediction::Prediction;
use super::progress::wait_line;
use super::run::{block_on, has_steps_for_models, needs_model, no_planner, settings_policy};
use super::secrets;
use super::source::{self, Source};
use super::style::{self, paint};
use super::summary::spent;
use super::text;
use super::toolbox::Toolbox;

/// Where there is no terminal to ask, drawings are this wide.
const DEFAULT_COLUMNS: usize = 100;

/// `plandag plan`.
pub(crate) fn plan(args: &PlanArgs, console: &Console) -> Result<(), Failure> {
    // A plan that a model was paid for is not lost.
    let output = Output::prepare(args.output.as_deref(), console)?;
    let mut toolbox = Toolbox::open(&args.settings, console)?;
    let policy = settings_policy(&args.settings);
    let start = || toolbox.start("", &args.settings, policy.clone());
    let source =
        source::read(&args.source, None, args.settings.size, console).map_err(|failure| failure.in_run(&start()))?;
    let models = add_models(&mut toolbox, needs_model(&source), &args.model, console)?;
    let (mut plan, dag, mut start) = match source {
        Source::Plan(file) => {
            let objective = file.plan.objective.clone().unwrap_or_default();
            let start = toolbox.start(&objective, &args.settings, policy);
            let dag = toolbox.check(&file, &start)?;
            (file.plan, dag, start)
        }
        Source::Objective { text, could_be_file } => {
            let start = toolbox.start(&text, &args.settings, policy);
            let plan = match &models {
                Some(models) => {
                    let planner = models.planner(&toolbox.useless());
                    let waits = toolbox.planner_waits().for_each(|wait| {
                        wait_line(wait.pause, &wait.why).iter().for_each(|line| console.say(line));
                        future::ready(())
                    });
                    let told = waits.then(|()| future::pending());
                    let planned =
                        block_on(async { select(pin!(planner.plan_alone(&start)), pin!(told)).await.factor_first().0 });
                    let (plan, usage) = planned?;
                    // It is paid for also if nothing came of it.
                    let used = spent(&usage);
                    if !args.json && !used.is_empty() {
                        console.say(&format!(" {}{}", paint(style::FAINT, "used      "), used.join(", ")));
                    }
                    plan.map_err(|offences| unusable(&offences))?
                }
                None if args.settings.files.is_none() => return Err(no_planner(&text, could_be_file)),
                None => planned(&start).map_err(|error| unusable(&[error]))?,
            };
            let dag = Dag::check(&plan, &start).map_err(|offences| unusable(&offences))?;
            (plan, dag, start)
        }
    };
    if !args.json {
        earlier::expect(&mut start, &args.earlier.means()?);
        console.say(&Prediction::new(&plan, &dag, &start).render());
        console.say(&toolbox.render());
        let needs = toolbox.needs(&plan);
        if !needs.is_empty() {
            console.say(&format!(" {}{}", paint(style::RETRY, "needs     "), needs.join(" ")));
        }
    }
    secrets::known().redact_plan(&mut plan);
    let json = serde_json::to_string_pretty(&plan).expect("a plan is JSON");
    output.write_clean(&format!("{}\n", json_text(&json)))
}

/// Adds what models do, if they are needed and there are any.
fn add_models(
    toolbox: &mut Toolbox,
    are_needed: bool,
    args: &ModelArgs,
    console: &Console,
) -> Result<Option<Models>, Failure> {
    let models = match are_needed {
        true => Models::find(args, &SpendingArgs::default(), None, console)?,
        false => None,
    };
    if let Some(models) = &models {
        toolbox.add_models(models, None)?;
    }
    Ok(models)
}

/// Has the objective planned by rule.
pub(crate) fn planned(start: &RunStart) -> Result<Plan, PlanError> {
    let planner = OfflinePlanner::new();
    match executor::block_on(planner.plan(PlanRequest::first(start), PlanSink::ignore()))?.revision {
        Revision::Plan(plan) => Ok(plan),
        _ => Err(PlanError::Declined),
    }
}

/// What the planner answered is no plan that can be run.
pub(crate) fn unusable(offences: &[PlanError]) -> Failure {
    let code = unusable_code(offences);
    let exit = ExitCode::of_offences(offences);
    let (message, notes) = match offences {
        // The planner could not be asked: what it would have said does not matter.
        [PlanError::Model { message, .. }] => (message.as_str(), &[][..]),
        offences => ("the planner gave no plan that can be run", offences),
    };
    let failure = Failure::new(code, exit, message);
    let failure = notes.iter().take(5).fold(failure, |failure, offence| failure.note(offence.to_string()));
    advice(offences).iter().fold(failure, |failure, help| failure.help(*help))
}

fn unusable_code(offences: &[PlanError]) -> &'static str {
    match offences.first() {
        None => PlanError::Declined.code(),
        // What is malformed did not come from a file but from a model.
        Some(PlanError::Malformed { .. }) => "planner.invalid_json",
        Some(offence) => offence.code(),
    }
}

/// As [`unusable`], where the planner was asked several times.
pub(crate) fn unusable_answers(answers: &[&[PlanError]]) -> Failure {
    let last = answers.last().copied().unwrap_or_default();
    let message = format!("the planner gave no plan that can be run in {} attempts", answers.len());
    let failure = Failure::new(unusable_code(last), ExitCode::of_offences(last), message);
    let failure = (1..).zip(answers).fold(failure, |failure, (number, offences)| {
        let first = offences.first().map(ToString::to_string).unwrap_or_else(|| "interrupted".to_owned());
        let more = match offences.len().saturating_sub(1) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        failure.note(format!("attempt {number}: {first}{more}"))
    });
    advice(last).iter().fold(failure, |failure, help| failure.help(*help))
}

/// What can be done about a planner that gave no plan.
fn advice(offences: &[PlanError]) -> &'static [&'static str] {
    match offences.first() {
        Some(PlanError::Model { problem, .. } | PlanError::BrokenOff { problem, .. }) => model::advice(*problem),
        Some(PlanError::Truncated { .. }) => &["ask for less at once, or try another --model"],
        Some(PlanError::Malformed { .. }) => &[
            "try another --model, or another --plan-format",
            "or write the plan yourself: plandag schema says what it may hold",
        ],
        _ => &[],
    }
}

/// `plandag check`.
pub(crate) fn check(args: &CheckArgs, console: &Console) -> Result<(), Failure> {
    let mut toolbox = Toolbox::open(&args.settings, console)?;
    let policy = settings_policy(&args.settings);
    let start = toolbox.start("", &args.settings, policy.clone());
    let file = source::read_plan(&args.plan, args.settings.size, console).map_err(|failure| failure.in_run(&start))?;
    add_models(&mut toolbox, has_steps_for_models(&file.plan), &args.model, console)?;
    let dag = toolbox.check(&file, &toolbox.start("", &args.settings, policy))?;
    let needs = toolbox.needs(&file.plan);
    let levels: Vec<usize> = dag.levels().iter().map(Vec::len).collect();
    let (steps, dependencies) = (dag.steps().len(), dag.graph().edge_count());
    if args.json {
        let line = json!({
            "v": 1,
            "ok": true,
            "steps": steps,
            "dependencies": dependencies,
            "levels": levels.len(),
            "width": dag.width(),
            "needs": needs,
        });
        // A reader that has gone away has what it wanted.
        let _ = console.json(&line);
        return Ok(());
    }
    let sign = paint(style::GOOD, "✓");
    let name = text::line(file.source.name());
    let [steps, dependencies, levels] = [(steps, "step"), (dependencies, "dependency"), (levels.len(), "level")]
        .map(|(count, word)| counted(count, word));
    let size = [steps, dependencies, levels].join(", ");
    let with = if needs.is_empty() { String::new() } else { format!(" with {}", needs.join(" ")) };
    console.styled(&format!("{sign} {name} can be run{with}: {size}, up to {} at once\n", dag.width()))
}

/// `plandag graph`. Any tool will do: what is drawn need not run here.
pub(crate) fn graph(args: &GraphArgs, console: &Console) -> Result<(), Failure> {
    let mut file = source::read_plan(&args.plan, args.size, console)?;
    secrets::known().redact_plan(&mut file.plan);
    let dag = Dag::of(&file.plan).map_err(|problems| Failure::plan(file.locate(problems), ExitCode::PlanInvalid))?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let graph = Graph::new(&dag);
    let picture = match args.format {
        GraphFormat::Text => console.signs(&graph.to_text(console.columns().unwrap_or(DEFAULT_COLUMNS))).into_owned(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Svg => graph.to_svg(),
    };
    output.write_clean(&picture)
}

/// `plandag schema`.
pub(crate) fn schema(console: &Console) -> Result<(), Failure> {
    console.data(&format!("{:#}\n", Plan::schema()))
}
