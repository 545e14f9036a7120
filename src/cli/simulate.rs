//! `plandag simulate`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use plandag::counted;
use plandag::llm::StepModel;
use plandag::report::ExitCode;
use plandag::simulate::{WhatIf, workload};
use plandag::{Plan, PlanError, PlanFile, Policy, RunStart};
use serde::Serialize;
use serde_json::Value;

use super::args::{SimulateArgs, SizeArgs};
use super::console::{Console, ReaderGone};
use super::duration::human;
use super::earlier::EarlierArgs;
use super::failure::Failure;
use super::faster;
use super::plan_place::PlanPlace;
use super::prediction::{as_guessed, as_learned, learned, listed, simulated, simulation};
use super::source;
use super::style::{self, paint};
use super::text;

/// So many plans of a file are looked at for what would make them faster: that takes longer than to simulate them.
const MOST_LOOKED_AT: usize = 100;

pub(crate) fn run(args: &SimulateArgs, console: &Console) -> Result<(), Failure> {
    let mut policy = Policy::default();
    if let Some(max_parallel) = args.max_parallel {
        policy.max_parallel = max_parallel.get();
    }
    policy.pools = args.pools.iter().map(|(name, size)| (name.clone(), size.get())).collect();
    policy.order = args.policy.with_seed(args.seed);
    let start = super::toolbox::own_start(policy, console)?;
    let simulator = Simulator { start, earlier: &args.earlier, means: OnceCell::new(), json: args.json, console };
    match Input::open(&args.plans, args.size, console)? {
        Input::Plan(file) => {
            let id = Path::new(file.source.name()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let expected = simulator.expected(&file.plan)?;
            let line = simulator
                .simulate(&id, &expected)
                .map_err(|offences| Failure::plan(file.locate(offences), ExitCode::PlanInvalid))?;
            if args.json {
                return simulator.tell(&simulator.with_faster(line, &expected.plan)).or(Ok(()));
            }
            simulator.tell(&line).map_or(Ok(()), |()| simulator.tell_faster(&expected.plan))
        }
        Input::Workloads(name, reader) => simulator.workloads(&name, reader),
    }
}

enum Input {
    Plan(PlanFile),
    /// A plan a line, and where from.
    Workloads(String, Box<dyn BufRead>),
}

impl Input {
    fn open(argument: &str, size: SizeArgs, console: &Console) -> Result<Self, Failure> {
        if argument == "-" {
            let bytes = source::read_stdin(size, console)?;
            return if workload::has_lines(&bytes) {
                // What was read so far may not be all of it.
                let name = source::STDIN_NAME.to_owned();
                Ok(Self::Workloads(name, Box::new(BufReader::new(Cursor::new(bytes).chain(io::stdin())))))
            } else {
                source::parse(bytes, size).map(Self::Plan)
            };
        }
        let is_lines =
            Path::new(argument).extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
        if !is_lines {
            return source::read_plan(argument, size, console).map(Self::Plan);
        }
        let file = File::open(argument).map_err(|error| source::unreadable(Path::new(argument), &error))?;
        Ok(Self::Workloads(argument.to_owned(), Box::new(BufReader::new(file))))
    }
}

struct Simulator<'a> {
    /// The policy, and our own tools.
    start: RunStart,
    earlier: &'a EarlierArgs,
    /// What earlier runs say, once it matters.
    means: OnceCell<BTreeMap<String, u64>>,
    json: bool,
    console: &'a Console,
}

/// A plan in which every step says how long it takes, if that is known at all.
struct Expected {
    plan: Plan,
    basis: Basis,
}

/// What durations rest on, in steps.
#[derive(Clone, Copy, Serialize)]
struct Basis {
    /// What the plan says.
    estimate_ms: usize,
    /// What the tool took in earlier runs.
    earlier_runs: usize,
    /// Nothing: a second each.
    nothing: usize,
}

/// What one simulated plan came to. `id` and `makespan_ms` are what scripts rely on.
#[derive(Serialize)]
struct Line {
    v: u32,
    id: String,
    makespan_ms: u64,
    /// What no schedule could go below.
    bound_ms: u64,
    critical_ms: u64,
    work_ms: u64,
    steps: u32,
    max_parallel: u32,
    basis: Basis,
    /// What would make it faster, where that was looked for; else why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    faster: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faster_untried: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faster_left_out: Option<String>,
}

impl Simulator<'_> {
    fn workloads(&self, file: &str, reader: impl BufRead) -> Result<(), Failure> {
        let (mut plans, mut bad) = (0_usize, 0);
        let place = |line, id| PlanPlace::line(file, line, id);
        // Of one that may not be the only one, it is not known how much to tell.
        let mut only: Option<Plan> = None;
        for workload in workload::read(reader) {
            plans += 1;
            if let Some(first) = only.take() {
                self.tell_best(&first)?;
            }
            let told = match workload {
                Err(error) => Err((place(error.line, error.id), error.reason)),
                Ok(workload) => {
                    let expected = self.expected(&workload.plan)?;
                    let simulated = self.simulate(&workload.id, &expected);
                    simulated
                        .map(|line| (line, expected.plan))
                        .map_err(|offences| (place(workload.line, Some(workload.id)), listed(&offences)))
                }
            };
            let told = match told {
                Ok((line, plan)) if self.json && plans <= MOST_LOOKED_AT => self.tell(&self.with_faster(line, &plan)),
                Ok((line, _)) if self.json => self.tell(&Line { faster_left_out: Some(left_out()), ..line }),
                Ok((line, plan)) => {
                    let told = self.tell(&line);
                    match plans {
                        1 => only = Some(plan),
                        2..=MOST_LOOKED_AT if told.is_ok() => self.tell_best(&plan)?,
                        _ => {}
                    }
                    told
                }
                Err((place, reason)) => {
                    bad += 1;
                    self.complain(&place, &reason)
                }
            };
            if let Err(ReaderGone) = told {
                return Ok(());
            }
        }
        if !self.json && plans > MOST_LOOKED_AT {
            self.console.styled(&format!("  {}  {}\n", paint(style::FAINT, "to go faster"), left_out()))?;
        }
        match (plans, bad) {
            (0, _) => Err(Failure::new("plan.empty", ExitCode::PlanInvalid, "there are no plans in the file")),
            (_, 0) => only.map_or(Ok(()), |plan| self.tell_faster(&plan)),
            _ => {
                let message = format!("{bad} of {} could not be simulated", counted(plans, "plan"));
                let failure = Failure::new("plan.malformed", ExitCode::PlanInvalid, message);
                Err(if bad < plans { failure.after_start() } else { failure })
            }
        }
    }

    /// The journal is only looked at for a plan that does not say everything itself.
    fn expected(&self, plan: &Plan) -> Result<Expected, Failure> {
        let given = plan.steps.iter().filter(|step| step.estimate_ms.is_some()).count();
        let rest = plan.steps.len() - given;
        if rest > 0 && self.means.get().is_none() {
            // It was not set a moment ago, and nobody else sets it.
            let _ = self.means.set(self.earlier.means()?);
        }
        let mean = |tool: Option<&str>| self.means.get()?.get(tool.unwrap_or(StepModel::NAME)).copied();
        let (plan, learned) = learned(plan, mean);
        Ok(Expected { plan, basis: Basis { estimate_ms: given, earlier_runs: learned, nothing: rest - learned } })
    }

    fn simulate(&self, id: &str, Expected { plan, basis }: &Expected) -> Result<Line, Vec<PlanError>> {
        let policy = &self.start.policy;
        let run = simulated(simulation(plan.clone(), policy))?;
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Line {
            v: 1,
            id: id.to_owned(),
            steps: run.scheduler.step_count(),
            max_parallel: policy.max_parallel,
            makespan_ms: millis(run.makespan),
            bound_ms: millis(run.bound()),
            critical_ms: millis(run.critical_path),
            work_ms: millis(run.work),
            basis: *basis,
            faster: None,
            faster_untried: None,
            faster_left_out: None,
        })
    }

    fn with_faster(&self, line: Line, plan: &Plan) -> Line {
        let what_if = WhatIf::of_plan(plan, &self.start);
        Line { faster: Some(faster::fields(&what_if)), faster_untried: Some(what_if.untried), ..line }
    }

    fn tell_faster(&self, plan: &Plan) -> Result<(), Failure> {
        let lines = faster::lines(&WhatIf::of_plan(plan, &self.start));
        self.console.styled(&lines.into_iter().map(|line| format!("  {line}\n")).collect::<String>())
    }

    /// In short, as there are others.
    fn tell_best(&self, plan: &Plan) -> Result<(), Failure> {
        let lines = faster::best(WhatIf::of_plan(plan, &self.start));
        self.console.styled(&lines.into_iter().map(|line| format!("  {line}\n")).collect::<String>())
    }

    fn tell(&self, line: &Line) -> Result<(), ReaderGone> {
        if self.json {
            return self.console.json(line);
        }
        let time = |millis| human(std::time::Duration::from_millis(millis));
        let text = format!(
            "{}  {:>11}  {:>9}   one at a time {}, bound {}\n",
            text::pad(&text::cut(&line.id, 40), 40),
            counted(line.steps as usize, "step"),
            time(line.makespan_ms),
            time(line.work_ms),
            time(line.bound_ms),
        );
        let Basis { earlier_runs, nothing, .. } = line.basis;
        let learned = (earlier_runs > 0).then(|| as_learned(earlier_runs));
        let basis = learned.into_iter().chain(as_guessed(nothing, line.steps as usize));
        let basis: String = basis.map(|basis| format!("  {basis}\n")).collect();
        self.console.piece(&(text + &basis))
    }

    fn complain(&self, place: &PlanPlace, reason: &str) -> Result<(), ReaderGone> {
        if self.json {
            return self.console.json(&place.row(reason));
        }
        self.console.complain(&format!("{} {}", paint(style::ERROR, "✗"), text::line(&place.named(reason))));
        Ok(())
    }
}

fn left_out() -> String {
    format!("only the first {MOST_LOOKED_AT} plans of a file are looked at")
}
