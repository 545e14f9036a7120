//! `plandag run --batch`: many objectives and plans as one run, under one shared set of caps.
//!
//! Each line of the file is a step of one plan, and expands to the plan that the line stands for: its steps are `3/search`
//! for line 3. So all lines share slots, pools and what may be spent, the longest remaining path goes first whatever line
//! it belongs to, one journal entry can be resumed, and a line that fails takes no other with it. Each line has replans of
//! its own.

mod table;

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use futures::future::BoxFuture;
use plandag::counted;
use plandag::llm::PlanTool;
use plandag::report::ExitCode;
use plandag::{
    Dag, Limits, Plan, Policy, ReplanWhen, Retry, RunStart, Step, StepContext, StepError, StepId, Tool, ToolOutput,
    ToolSpec,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::RunArgs;
use super::console::Console;
use super::failure::Failure;
use super::look;
use super::model::Models;
use super::ndjson::{Fields, Line as JsonLine};
use super::prediction::{Prediction, simulation};
use super::run::{Equipment, needs_model, no_planner};
use super::source::{self, Source};
use super::style::{self, paint};
use super::text;

/// The tool whose steps are lines.
const TOOL: &str = "line";
/// Longer than it takes, as a rule, to have a line planned.
const PLANNING_MS: u64 = 60_000;

/// A line that can be run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Line {
    /// Its number in the file, from 1; also its step's id.
    number: usize,
    text: String,
    /// What it stands for. None: a model plans it when it runs.
    plan: Option<Plan>,
}

/// A line that cannot.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Refused {
    number: usize,
    text: String,
    reason: String,
}

/// The lines of a file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Batch {
    lines: Vec<Line>,
    refused: Vec<Refused>,
}

/// Lines as they were read, before it is known what they can be run with.
pub(crate) struct Sources(Vec<(usize, String, Result<Source, Failure>)>);

impl Sources {
    /// Reads the file. Empty lines and those that begin with `#` are left out.
    pub(crate) fn read(args: &RunArgs, console: &Console) -> Result<Self, Failure> {
        let text = source::read_text(&args.source, console)?;
        // Some editors begin every file with a mark that says how it is encoded.
        let lines = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(str::trim)
            .zip(1..)
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let read = |line: &str| match line {
            "-" => Err(Failure::usage("usage.arguments", "a line of a batch cannot be standard input")),
            line => source::read(line, None, args.settings.size, console),
        };
        let sources: Vec<_> = lines.map(|(line, number)| (number, line.to_owned(), read(line))).collect();
        if sources.is_empty() {
            return Err(Failure::new("batch.empty", ExitCode::PlanInvalid, format!("`{}` has no lines", args.source))
                .help("write an objective, or the path of a plan, on each line"));
        }
        Ok(Self(sources))
    }

    /// Whether a model is of use for any of them.
    pub(crate) fn need_model(&self) -> bool {
        self.0.iter().any(|(_, _, source)| source.as_ref().is_ok_and(needs_model))
    }
}

impl Batch {
    /// Makes plans of the lines, and tells of those that cannot be run.
    pub(crate) fn of(
        sources: Sources,
        args: &RunArgs,
        equipment: &Equipment,
        console: &Console,
    ) -> Result<Self, Failure> {
        let mut batch = Self::default();
        for (number, text, source) in sources.0 {
            match source.and_then(|source| plan(source, args, equipment)) {
                Ok(plan) => batch.lines.push(Line { number, text, plan }),
                Err(failure) => {
                    let refused = Refused { number, text, reason: failure.brief() };
                    if args.json {
                        let fields = [
                            ("line", json!(number)),
                            ("source", json!(refused.text)),
                            ("error", json!(failure.fields())),
                        ];
                        // Who does not read this does not read the run either, and that ends it.
                        let _ = console.json(&JsonLine::before_run("line.refused", Fields::from(fields)));
                    } else {
                        console.complain(&format!(
                            " {} line {number}: {}",
                            paint(style::ERROR, "✗"),
                            text::line(&refused.reason)
                        ));
                        for help in failure.helps() {
                            console.complain(&format!("     {}: {}", paint(style::HELP, "help"), text::line(help)));
                        }
                    }
                    batch.refused.push(refused);
                }
            }
        }
        if batch.lines.is_empty() {
            let message = format!("none of {} can be run", counted(batch.refused.len(), "line"));
            return Err(Failure::new("batch.empty", ExitCode::PlanInvalid, message));
        }
        batch.share_pools(&equipment.policy);
        Ok(batch)
    }

    /// Makes a step that takes more of a pool than another line leaves of it take all there is, as if it had the pool to
    /// itself: no line must fail for what stands on another.
    fn share_pools(&mut self, policy: &Policy) {
        // A size that the run was told counts, and no plan's.
        let mut pools = self.pools();
        pools.extend(policy.pools.clone());
        let plans = self.lines.iter_mut().filter_map(|line| line.plan.as_mut());
        for step in plans.flat_map(|plan| &mut plan.steps) {
            let shared = |pool: &String, weight: u32| pools.get(pool).map_or(weight, |size| weight.min(*size));
            if step.uses.iter().any(|(pool, weight)| shared(pool, *weight) < *weight) {
                let uses = &mut Arc::make_mut(step).uses;
                uses.iter_mut().for_each(|(pool, weight)| *weight = shared(pool, *weight));
            }
        }
    }

    /// A pool that several plans size is as large as the most careful of them wants it.
    fn pools(&self) -> BTreeMap<String, u32> {
        let mut pools = BTreeMap::new();
        for (pool, size) in self.lines.iter().filter_map(|line| line.plan.as_ref()).flat_map(|plan| &plan.pools) {
            let shared = pools.entry(pool.clone()).or_insert(*size);
            *shared = (*shared).min(*size);
        }
        pools
    }

    /// What is to be done, for the head of a run: as one plan, for all lines run at once.
    pub(crate) fn brief(&self, start: &RunStart) -> String {
        let lines = counted(self.lines.len(), "line");
        let plans: Option<Vec<(&Line, Dag)>> =
            self.lines.iter().map(|line| Some((line, Dag::of(line.plan.as_ref()?).ok()?))).collect();
        // What a model will plan is not known.
        let Some(plans) = plans else { return lines };
        let mut merged: Plan = plans.iter().flat_map(|(line, dag)| parts(line, dag)).collect();
        merged.pools = self.pools();
        match Dag::of(&merged) {
            Ok(dag) => format!("{lines}, {}", Prediction::new(&merged, &dag, start).brief()),
            Err(_) => lines,
        }
    }

    /// The steps that are lines.
    pub(crate) fn steps(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(Line::id)
    }

    /// How many lines were no part of the run.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// How the run is carried out: each line may become as large as if it was run alone. Who revised a batch would change
    /// lines that have nothing to do with the one that failed: each is planned anew by itself.
    pub(crate) fn policy(&self, policy: Policy) -> Policy {
        let lines = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        // A line is a step, too.
        let steps = policy.limits.steps.saturating_add(1).saturating_mul(lines).min(Limits::NONE.steps);
        let limits = Limits { steps, ..policy.limits };
        Policy { replan_when: ReplanWhen::Inside, review: false, limits, ..policy }
    }

    /// The plan of the whole run.
    pub(crate) fn plan(&self, name: &str, policy: &Policy, has_reviser: bool) -> Plan {
        let critical = |line: &Line| line.plan.as_ref().map_or(0, |plan| critical_ms(plan, policy));
        let critical: Vec<u64> = self.lines.iter().map(critical).collect();
        // Every line comes before what any of them expands to: in which order that is best done is known once all of it
        // is.
        let longest = critical.iter().copied().max().unwrap_or(0);
        // One that may ask the planner has a share in the planner's pool, and must not wait there for those whose plan is
        // still to be made.
        let longest = if has_reviser { longest.max(PLANNING_MS) } else { longest };
        let steps = self.lines.iter().zip(critical).map(|(line, critical)| {
            let step = Step::new(line.id(), if line.plan.is_some() { TOOL } else { PlanTool::NAME });
            let step = step.description(line.text.as_str());
            match &line.plan {
                Some(_) => {
                    let step = step.args(json!({ "line": line.number })).estimate_ms(longest.saturating_add(critical));
                    // The same plan would be refused again.
                    if has_reviser { step } else { step.retry(Retry::NEVER) }
                }
                None => step.args(json!({ "objective": line.text.replace("${", "$${") })),
            }
        });
        let mut plan: Plan = steps.collect();
        plan.pools = self.pools();
        plan.objective(format!("{} of {name}", counted(self.lines.len(), "line")))
    }

    /// The tool that turns each step into what its line stands for, and asks `reviser` when that has failed.
    pub(crate) fn tool(&self, reviser: Option<PlanTool>) -> (&'static str, impl Tool + 'static) {
        let lines = self.lines.iter().map(|line| (line.number, line.clone()));
        (TOOL, Lines { lines: lines.collect(), reviser })
    }
}

impl Line {
    fn id(&self) -> String {
        self.number.to_string()
    }
}

/// The steps of a line as they are in the run, as far as it matters for how long they take.
fn parts<'a>(line: &'a Line, dag: &'a Dag) -> impl Iterator<Item = Step> + 'a {
    let id = |own: &StepId| format!("{}-{own}", line.number);
    dag.steps().iter().enumerate().map(move |(index, step)| {
        let depends_on = dag.dependencies(index).map(|own| id(own).into()).collect();
        let (tool, uses) = (step.tool.clone(), step.uses.clone());
        Step { tool, uses, depends_on, estimate_ms: step.estimate_ms, ..Step::described(id(&step.id), "") }
    })
}

/// The plan of a line; none if a model makes it later.
fn plan(source: Source, args: &RunArgs, equipment: &Equipment) -> Result<Option<Plan>, Failure> {
    let Equipment { toolbox, models, policy } = equipment;
    let start = |objective: &str| toolbox.start(objective, &args.settings, policy.clone());
    match source {
        Source::Plan(file) => {
            toolbox.check(&file, &start(file.source.name()))?;
            toolbox.check_needs(&file.plan)?;
            Ok(Some(Models::answering(models.as_ref(), file.plan)))
        }
        Source::Objective { .. } if models.is_some() => Ok(None),
        Source::Objective { text, could_be_file } if args.settings.files.is_none() => {
            Err(no_planner(&text, could_be_file))
        }
        Source::Objective { text, .. } => look::planned(&start(&text)).map(Some).map_err(|error| {
            Failure::new(error.code(), ExitCode::of_offences(slice::from_ref(&error)), error.to_string())
        }),
    }
}

/// The longest path of a plan, in milliseconds.
fn critical_ms(plan: &Plan, policy: &Policy) -> u64 {
    let run = simulation(plan.clone(), &Policy { max_parallel: u32::MAX, ..policy.clone() }).without_history().run();
    u64::try_from(run.critical_path.as_millis()).unwrap_or(u64::MAX)
}

/// Expands the steps of a batch.
struct Lines {
    lines: BTreeMap<usize, Line>,
    reviser: Option<PlanTool>,
}

impl Lines {
    async fn plan(&self, cx: &StepContext) -> Result<ToolOutput, StepError> {
        let number = cx.args["line"].as_u64().and_then(|number| usize::try_from(number).ok());
        let line = number.and_then(|number| self.lines.get(&number));
        let plan = line.and_then(|line| Some((line, line.plan.as_ref()?)));
        let (line, plan) = plan.ok_or_else(|| StepError::bad_input("`line` has to be one of the batch"))?;
        match &self.reviser {
            Some(reviser) if cx.expansion.is_some() => {
                reviser.plan_for(plan.objective.clone().unwrap_or_else(|| line.text.clone()), cx).await
            }
            _ => Ok(plan.clone().into()),
        }
    }
}

impl Tool for Lines {
    fn spec(&self) -> ToolSpec {
        let spec = ToolSpec::new(TOOL, "Carries out what a line of a batch stands for.");
        match self.reviser.as_ref().map(Tool::spec) {
            // Whoever is asked by a line is asked no more than it takes.
            Some(ToolSpec { pool, server, .. }) => ToolSpec { replans: true, pool, server, ..spec },
            None => spec,
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move { self.plan(&cx).await })
    }
}

#[cfg(test)]
mod tests {
    use plandag::Runner;

    use super::*;

    #[test]
    fn a_plan_that_was_refused_is_not_tried_again() {
        let plan = || ["a", "b"].map(|id| Step::new(id, "none")).into_iter().collect::<Plan>();
        let line = |number| Line { number, text: "a plan".to_owned(), plan: Some(plan()) };
        let batch = Batch { lines: vec![line(1), line(2)], refused: Vec::new() };
        let policy = batch.policy(Policy { limits: Limits { steps: 2, ..Limits::default() }, ..Policy::default() });
        assert_eq!(policy.limits.steps, 6, "two lines of two steps each");
        let (name, tool) = batch.tool(None);
        // As if others had taken the room.
        let policy = Policy { limits: Limits { steps: 2, ..policy.limits.clone() }, ..policy };
        let runner = Runner::new(batch.plan("lines.txt", &policy, false)).tool(name, tool).policy(policy);
        let runner = runner.tool("none", plandag::tool_fn(|_| async { Ok(()) }));
        let report = super::super::run::runtime().unwrap().block_on(runner.run("lines")).unwrap();
        assert_eq!((report.succeeded(), report.attempt_count()), (false, 2), "{report:?}");
    }
}
