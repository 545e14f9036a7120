//! The runs themselves.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plandag::page::{Comparison, Timeline};
use plandag::report::ExitCode;
use plandag::simulate::workload;
use plandag::{Dag, Limits, Plan, PlanError, Policy, RunReport, Runner, Step, StepError, tool_fn};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::prediction::simulation;
use super::super::run::settings_policy;
use super::super::source;
use super::super::toolbox::Toolbox;
use super::{BenchArgs, DEFAULT_RUNS, DEFAULT_SLOTS, shapes};

/// How long the critical path of a file's plan is, if nobody says how to scale it.
const LONGEST: Duration = Duration::from_secs(2);
/// Steps that can sleep at once.
const MOST_SLEEPERS: usize = 2_048;
/// The scale of the built-in shapes.
const SHAPES_SCALE: f64 = 0.1;

/// How plans are measured.
pub(super) struct Bench {
    pub(super) policy: Policy,
    pub(super) runs: u32,
    /// None: as each plan needs it.
    pub(super) time_scale: Option<f64>,
    pub(super) seed: u64,
    /// The plans' own tools, if they are to be called.
    toolbox: Option<Toolbox>,
    runtime: Runtime,
}

/// What was measured of one plan.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) steps: usize,
    /// What its durations were multiplied with; none if they are those of real tools.
    pub(super) time_scale: Option<f64>,
    pub(super) work: Duration,
    pub(super) critical: Duration,
    pub(super) bound: Duration,
    /// What the plan takes in virtual time, where the durations are known before.
    pub(super) simulated: Option<Duration>,
    /// In ascending order.
    pub(super) sequential: Vec<Duration>,
    pub(super) dag: Vec<Duration>,
    /// The first runs beside each other, where that is wanted.
    pub(super) comparison: Option<Comparison>,
}

impl Bench {
    pub(super) fn open(args: &BenchArgs, console: &Console) -> Result<Self, Failure> {
        let mut policy = settings_policy(&args.settings);
        policy.limits = Limits::NONE;
        policy.order = args.policy.with_seed(args.seed);
        if args.settings.max_parallel.is_none() && args.plans.is_empty() {
            policy.max_parallel = DEFAULT_SLOTS;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(MOST_SLEEPERS)
            .build()
            .map_err(|error| {
                Failure::new("internal.panic", ExitCode::Internal, format!("no runtime can be started: {error}"))
            })?;
        Ok(Self {
            policy,
            runs: args.runs.map_or(if args.plans.is_empty() { DEFAULT_RUNS.get() } else { 1 }, |runs| runs.get()),
            time_scale: args.time_scale.or(args.plans.is_empty().then_some(SHAPES_SCALE)),
            seed: args.seed,
            toolbox: if args.real { Some(Toolbox::open(&args.settings, console)?) } else { None },
            runtime,
        })
    }

    /// Measures every plan that the arguments name, or the built-in shapes, and tells of each.
    pub(super) fn each<E: From<Failure>>(
        &self,
        args: &BenchArgs,
        console: &Console,
        tell: &mut dyn FnMut(Result<Measured, String>) -> Result<(), E>,
    ) -> Result<(), E> {
        if args.plans.is_empty() {
            return shapes::all(args.seed)
                .into_iter()
                .try_for_each(|(name, plan)| tell(self.measure(name, plan, args)));
        }
        for path in &args.plans {
            if path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson") {
                let file = File::open(path).map_err(|error| source::unreadable(path, &error))?;
                for workload in workload::read(BufReader::new(file)) {
                    let measured = workload.map_err(|error| format!("{}: {error}", path.display()));
                    tell(measured.and_then(|workload| self.measure(workload.id, workload.plan, args)))?;
                }
            } else {
                let file = source::read_plan(&path.to_string_lossy(), args.settings.size, console)?;
                tell(self.measure(stem(path), file.plan, args))?;
            }
        }
        Ok(())
    }

    fn measure(&self, name: String, plan: Plan, args: &BenchArgs) -> Result<Measured, String> {
        let steps = plan.steps.len();
        let of_plan = |reason: String| format!("plan `{name}`: {reason}");
        let sequential = Policy { max_parallel: 1, ..self.policy.clone() };
        if let Some(toolbox) = &self.toolbox {
            let run = |policy: &Policy| {
                let runner = toolbox.runner(plan.clone(), &args.settings, policy.clone());
                self.run(&runner, plan.objective.as_deref().unwrap_or_default())
            };
            let one_by_one = self.repeat(|| run(&sequential)).map_err(of_plan)?;
            let dag = self.repeat(|| run(&self.policy)).map_err(of_plan)?;
            let alone = &one_by_one[0];
            // What the tools take one at a time is what they need; beside each other they may hold each other up.
            let (work, critical) = (alone.work(), alone.critical_path().length);
            let bound = critical.max(work / self.policy.max_parallel.max(1));
            let comparison =
                args.html.is_some().then(|| self.comparison(&name, measured_plan(alone, &plan), alone, &dag[0], bound));
            return Ok(Measured {
                comparison,
                name,
                steps,
                time_scale: None,
                work,
                critical,
                bound,
                simulated: None,
                sequential: times(&one_by_one),
                dag: times(&dag),
            });
        }
        let dag = Dag::of(&plan).map_err(|problems| of_plan(listed(&problems)))?;
        let unscaled = simulation(plan.clone(), &self.policy).without_history().run();
        if !unscaled.succeeded() {
            return Err(of_plan(format!("it cannot be run: {:?}", unscaled.ended)));
        }
        let scale = self.time_scale.unwrap_or_else(|| {
            (LONGEST.as_secs_f64() / unscaled.critical_path.as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0)
        });
        let plan = scaled(&dag, &plan, scale);
        let expected = simulation(plan.clone(), &self.policy).without_history().run();
        let run =
            |policy: &Policy| self.run(&Runner::new(plan.clone()).tool("sleep", sleeper()).policy(policy.clone()), "");
        let one_by_one = self.repeat(|| run(&sequential)).map_err(of_plan)?;
        let dag = self.repeat(|| run(&self.policy)).map_err(of_plan)?;
        let comparison =
            args.html.is_some().then(|| self.comparison(&name, plan, &one_by_one[0], &dag[0], expected.bound()));
        Ok(Measured {
            comparison,
            name,
            steps,
            time_scale: Some(scale),
            work: expected.work,
            critical: expected.critical_path,
            bound: expected.bound(),
            simulated: Some(expected.makespan),
            sequential: times(&one_by_one),
            dag: times(&dag),
        })
    }

    /// Two runs of a plan beside each other, and how long it takes with 1, 2, 4, ... slots.
    fn comparison(
        &self,
        name: &str,
        plan: Plan,
        sequential: &RunReport,
        dag: &RunReport,
        bound: Duration,
    ) -> Comparison {
        let slots = self.policy.max_parallel;
        let took = |cap: u32| {
            let policy = Policy { max_parallel: cap, ..self.policy.clone() };
            simulation(plan.clone(), &policy).without_history().run().makespan
        };
        // As long as more slots help; and those that there were.
        let mut by_slots: Vec<(u32, Duration)> = vec![(1, took(1))];
        for cap in std::iter::successors(Some(2_u32), |cap| cap.checked_mul(2)) {
            let makespan = took(cap);
            if by_slots.last().is_some_and(|(_, before)| *before <= makespan) {
                break;
            }
            by_slots.push((cap, makespan));
        }
        if let Err(place) = by_slots.binary_search_by_key(&slots, |(cap, _)| *cap)
            && place < by_slots.len()
        {
            by_slots.insert(place, (slots, took(slots)));
        }
        Comparison {
            name: name.to_owned(),
            sequential: Timeline::of(sequential),
            dag: Timeline::of(dag),
            slots,
            bound,
            by_slots,
        }
    }

    fn repeat(&self, run: impl Fn() -> Result<RunReport, String>) -> Result<Vec<RunReport>, String> {
        (0..self.runs).map(|_| run()).collect()
    }

    fn run(&self, runner: &Runner, objective: &str) -> Result<RunReport, String> {
        let report = self.runtime.block_on(runner.run(objective)).map_err(|error| error.to_string())?;
        match report.answer() {
            Ok(_) => Ok(report),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The plan with each step as long as it really took.
fn measured_plan(report: &RunReport, plan: &Plan) -> Plan {
    let measured = |step: &Arc<Step>| {
        let took = report.step(step.id.as_str()).map_or(Duration::ZERO, |report| report.duration());
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        Arc::new(Step { estimate_ms: Some(millis), ..Step::clone(step) })
    };
    Plan { steps: plan.steps.iter().map(measured).collect(), ..plan.clone() }
}

fn listed(problems: &[PlanError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn times(reports: &[RunReport]) -> Vec<Duration> {
    let mut times: Vec<Duration> = reports.iter().map(RunReport::wall_time).collect();
    times.sort_unstable();
    times
}

/// The plan with every step replaced by a sleep of its duration. Its pools are kept: a step that named none took from
/// that of its tool.
fn scaled(dag: &Dag, plan: &Plan, scale: f64) -> Plan {
    let scaled = |(index, step): (usize, &Arc<Step>)| {
        let millis = (step.estimate_ms.unwrap_or(1_000) as f64 * scale).round() as u64;
        let pool = step.tool.iter().map(|tool| (tool.to_string(), 1));
        Arc::new(Step {
            tool: Some("sleep".into()),
            args: json!({ "ms": millis }),
            estimate_ms: Some(millis),
            uses: if step.uses.is_empty() { pool.collect() } else { step.uses.clone() },
            // Those that its arguments imply are among them.
            depends_on: dag.dependencies(index).cloned().collect(),
            ..Step::described(step.id.clone(), Arc::clone(&step.description))
        })
    };
    Plan { steps: plan.steps.iter().enumerate().map(scaled).collect(), ..plan.clone() }
}

/// Sleeps for as long as its arguments say. The timer of the runtime rounds up to the next millisecond or two, which
/// would be measured as if it were the scheduler's; the operating system's is exact to a tenth of one.
fn sleeper() -> impl plandag::Tool + 'static {
    tool_fn(|cx| async move {
        let time = Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0));
        if !time.is_zero() {
            let slept = tokio::task::spawn_blocking(move || std::thread::sleep(time)).await;
            slept.map_err(|error| StepError::permanent(error.to_string()))?;
        }
        Ok(Value::Null)
    })
}
