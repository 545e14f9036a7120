//! The commands that look at a plan and run nothing: `plan`, `check`, `graph`, `schema`.

use plandag::offline::OfflinePlanner;
use plandag::report::{ExitCode, Graph};
use plandag::{Dag, Plan, PlanError, PlanRequest, PlanSink, Planner as _, Revision, RunStart};
use serde_json::json;

use super::args::{CheckArgs, GraphArgs, GraphFormat, PlanArgs};
use super::console::{Console, json_text};
use super::failure::Failure;
use super::output::Output;
use super::prediction::{Prediction, counted};
use super::run::{no_planner, settings_policy};
use super::source::{self, Source};
use super::style::{self, paint};
use super::text;
use super::toolbox::Toolbox;

/// Where there is no terminal to ask, drawings are this wide.
const DEFAULT_COLUMNS: usize = 100;

/// `plandag plan`.
pub(crate) fn plan(args: &PlanArgs, console: &Console) -> Result<(), Failure> {
    let toolbox = Toolbox::open(&args.settings)?;
    let policy = settings_policy(&args.settings);
    let (plan, dag, start) = match source::read(&args.source, console)? {
        Source::Plan(file) => {
            let objective = file.plan.objective.clone().unwrap_or_default();
            let start = toolbox.start(&objective, &args.settings, policy);
            let dag = toolbox.check(&file, &start)?;
            (file.plan, dag, start)
        }
        Source::Objective { text, could_be_file } => {
            if args.settings.files.is_none() {
                return Err(no_planner(&text, could_be_file));
            }
            let start = toolbox.start(&text, &args.settings, policy);
            let plan = planned(&start)?;
            let dag = Dag::check(&plan, &start).map_err(|offences| unusable(&offences))?;
            (plan, dag, start)
        }
    };
    let output = Output::prepare(args.output.as_deref(), console)?;
    if !args.json {
        console.say(&Prediction::new(&plan, &dag, &start).render());
        console.say(&toolbox.render());
        let needs = toolbox.needs(&plan);
        if !needs.is_empty() {
            console.say(&format!(" {}{}", paint(style::RETRY, "needs     "), needs.join(" ")));
        }
    }
    let json = serde_json::to_string_pretty(&plan).expect("a plan is JSON");
    output.write(&format!("{}\n", json_text(&json)))
}

/// Has the objective planned.
fn planned(start: &RunStart) -> Result<Plan, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        Failure::new("internal.panic", ExitCode::Internal, format!("no runtime can be started: {error}"))
    })?;
    let planner = OfflinePlanner::new();
    match runtime.block_on(planner.plan(PlanRequest::first(start), PlanSink::ignore())) {
        Ok(reply) => match reply.revision {
            Revision::Plan(plan) => Ok(plan),
            _ => Err(unusable(&[PlanError::Declined])),
        },
        Err(error) => Err(unusable(&[error])),
    }
}

/// What the planner answered is no plan that can be run.
pub(crate) fn unusable(offences: &[PlanError]) -> Failure {
    let code = offences.first().map_or("planner.declined", PlanError::code);
    let failure = Failure::new(code, ExitCode::NoPlan, "the planner gave no plan that can be run");
    offences.iter().take(5).fold(failure, |failure, offence| failure.note(offence.to_string()))
}

/// `plandag check`.
pub(crate) fn check(args: &CheckArgs, console: &Console) -> Result<(), Failure> {
    let toolbox = Toolbox::open(&args.settings)?;
    let file = source::read_plan(&args.plan, console)?;
    let objective = file.plan.objective.clone().unwrap_or_default();
    let start = toolbox.start(&objective, &args.settings, settings_policy(&args.settings));
    let dag = toolbox.check(&file, &start)?;
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
    let size = format!("{}, {dependencies} dependencies, {}", counted(steps, "step"), counted(levels.len(), "level"));
    let with = if needs.is_empty() { String::new() } else { format!(" with {}", needs.join(" ")) };
    console.styled(&format!("{sign} {name} can be run{with}: {size}, up to {} at once\n", dag.width()))
}

/// `plandag graph`. Any tool will do: what is drawn need not run here.
pub(crate) fn graph(args: &GraphArgs, console: &Console) -> Result<(), Failure> {
    let file = source::read_plan(&args.plan, console)?;
    let dag = Dag::of(&file.plan).map_err(|problems| Failure::plan(file.locate(problems), ExitCode::PlanInvalid))?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let graph = Graph::new(&dag);
    let picture = match args.format {
        GraphFormat::Text => console.signs(&graph.to_text(console.columns().unwrap_or(DEFAULT_COLUMNS))).into_owned(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Dot => graph.to_dot(),
    };
    output.write(&picture)
}

/// `plandag schema`.
pub(crate) fn schema(console: &Console) -> Result<(), Failure> {
    console.data(&format!("{:#}\n", Plan::schema()))
}
