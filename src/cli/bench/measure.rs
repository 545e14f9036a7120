//! The runs themselves.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::iter;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use plandag::llm::StepModel;
use plandag::page::{Comparison, Timeline};
use plandag::report::ExitCode;
use plandag::simulate::workload;
use plandag::{
    Dag, Effect, Limits, Plan, PlanError, PlanFile, Policy, RunHandle, RunReport, Runner, Step, StepId, tool_fn,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::patience;
use super::super::plan_place::PlanPlace;
use super::super::prediction::{listed, simulated, simulation};
use super::super::run::{no_signals, no_threads, settings_policy};
use super::super::signals::{self, Signal};
use super::super::source;
use super::super::style::{self, paint};
use super::super::toolbox::Toolbox;
use super::alarm::Alarm;
use super::{BenchArgs, DEFAULT_RUNS, DEFAULT_SLOTS, SHORT, shapes};

/// How long the critical path of a file's plan is, if nobody says how to scale it.
const LONGEST: Duration = Duration::from_secs(2);
/// How long a step sleeps in a run that is not counted.
const NAP: Duration = Duration::from_micros(100);
/// How long a step counts that does not say how long it takes.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How long a step of the chain takes that is measured beside plans of files.
const CONTROL_MS: u64 = 20;
/// How long a signal waits for what has nothing to clean up.
const GRACE: Duration = Duration::from_millis(500);
/// The scale of the built-in shapes.
const SHAPES_SCALE: f64 = 0.1;

/// How plans are measured.
pub(super) struct Bench<'a> {
    pub(super) policy: Policy,
    pub(super) runs: Runs,
    /// None: as each plan needs it.
    pub(super) time_scale: Option<f64>,
    pub(super) args: &'a BenchArgs,
    /// The plans' own tools, if they are to be called.
    toolbox: Option<Toolbox>,
    /// Wakes the steps that sleep instead.
    alarm: Alarm,
    runtime: &'a Runtime,
    console: &'a Console,
    /// The signals that have come, in their order.
    signals: watch::Receiver<Vec<Signal>>,
}

/// How often each plan is run, one way and the other.
pub(super) enum Runs {
    /// So often.
    Each(u32),
    /// As often as the shapes, while all plans together take no longer than [`SHORT`]; this is what they take so far.
    WhileShort(Cell<Duration>),
}

impl Runs {
    /// How often a plan is run that is expected to take so long, one way and then the other.
    fn of(&self, round: Duration) -> u32 {
        match self {
            Self::Each(runs) => *runs,
            Self::WhileShort(taken) => {
                let often = taken.get().saturating_add(round.saturating_mul(DEFAULT_RUNS.get()));
                let is_short = often <= SHORT;
                taken.set(if is_short { often } else { taken.get().saturating_add(round) });
                if is_short { DEFAULT_RUNS.get() } else { 1 }
            }
        }
    }
}

/// A plan that is measured.
pub(super) struct Subject {
    name: String,
    plan: Plan,
    /// How it is written, if it has a file of its own.
    file: Option<PlanFile>,
    /// Where it is written, if somebody has written it.
    place: Option<PlanPlace>,
    /// Whether it is the chain, which sleeps beside whatever tools.
    is_control: bool,
}

/// What was measured of one plan: all of it, unless a signal came.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) steps: usize,
    /// Steps that do not say how long they take.
    pub(super) guessed: usize,
    /// Steps that take time, but none at this scale.
    pub(super) vanished: usize,
    /// What its durations were multiplied with; none if they are those of real tools.
    pub(super) time_scale: Option<f64>,
    /// What the plan comes to in virtual time, if the durations are known.
    pub(super) expected: Option<Expected>,
    /// In ascending order.
    pub(super) sequential: Vec<Duration>,
    pub(super) dag: Vec<Duration>,
    /// Whether no run is missing.
    pub(super) is_whole: bool,
    /// The first runs beside each other, where that is wanted.
    pub(super) comparison: Option<Comparison>,
}

/// What a plan comes to in virtual time.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) work: Duration,
    pub(super) critical: Duration,
    pub(super) bound: Duration,
    pub(super) makespan: Duration,
    by_slots: Vec<(u32, Duration)>,
}

impl<'a> Bench<'a> {
    pub(super) fn open(args: &'a BenchArgs, runtime: &'a Runtime, console: &'a Console) -> Result<Self, Failure> {
        let mut policy = settings_policy(&args.settings);
        policy.limits = Limits::NONE;
        policy.order = args.policy.with_seed(args.seed);
        if args.settings.max_parallel.is_none() && args.plans.is_empty() {
            policy.max_parallel = DEFAULT_SLOTS;
        }
        if !args.real {
            // Nobody needs the rest of a sleep.
            policy.grace_ms = 0;
        }
        Ok(Self {
            policy,
            runs: match args.runs {
                Some(runs) => Runs::Each(runs.get()),
                None if args.plans.is_empty() => Runs::Each(DEFAULT_RUNS.get()),
                // Real tools are not called more often than somebody wants.
                None if args.real => Runs::Each(1),
                None => Runs::WhileShort(Cell::default()),
            },
            time_scale: args.time_scale.or(args.plans.is_empty().then_some(SHAPES_SCALE)),
            args,
            toolbox: if args.real { Some(Toolbox::open(&args.settings, console)?) } else { None },
            alarm: Alarm::start().map_err(|error| no_threads(&error))?,
            runtime,
            console,
            signals: heard(runtime)?,
        })
    }

    /// The signal that ended it.
    pub(super) fn stopped_by(&self) -> Option<Signal> {
        self.signals.borrow().first().copied()
    }

    /// The plans that the arguments name, or the built-in shapes.
    pub(super) fn subjects(&self) -> Box<dyn Iterator<Item = Result<Subject, Failure>> + '_> {
        let (args, console) = (self.args, self.console);
        if args.plans.is_empty() {
            return Box::new(shapes::all(args.seed).into_iter().map(|(name, plan)| Ok(Subject::new(name, plan))));
        }
        Box::new(args.plans.iter().flat_map(move |path| {
            let is_lines = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
            let read: Box<dyn Iterator<Item = Result<Subject, Failure>> + '_> = if is_lines {
                self.lines(path).unwrap_or_else(|failure| Box::new(iter::once(Err(failure))))
            } else {
                let (name, size) = (path.to_string_lossy().into_owned(), args.settings.size);
                source::say_if_typed(&name, console);
                let file = self.aside(move || source::read_said(&name, size));
                Box::new(file.map(|file| Subject::of_file(path, file)).into_iter())
            };
            read
        }))
    }

    /// The plans of a file with one on each line.
    fn lines(&self, path: &Path) -> Result<Box<dyn Iterator<Item = Result<Subject, Failure>> + '_>, Failure> {
        let path = path.to_owned();
        let name = path.display().to_string();
        // Whoever opens a pipe may wait for who writes it.
        let opened = self.aside(move || File::open(&path).map_err(|error| source::unreadable(&path, &error)));
        let of_file = || PlanPlace { file: name.clone(), line: None, id: None };
        let opened = opened.transpose().map_err(|failure| failure.of_plan(of_file()))?;
        let mut lines = opened.map(|file| workload::read(BufReader::new(file)));
        let mut read = move || {
            let mut rest = lines.take()?;
            let (next, rest) = self.aside(move || (rest.next(), rest))?;
            lines = Some(rest);
            next
        };
        let Some(first) = read() else {
            let failure = Failure::new("plan.empty", ExitCode::PlanInvalid, "there are no plans in the file");
            return Err(failure.of_plan(of_file()));
        };
        Ok(Box::new(iter::once(first).chain(iter::from_fn(read)).map(move |workload| {
            match workload {
                Ok(workload) => {
                    let place = Some(PlanPlace::line(&name, workload.line, Some(workload.id.clone())));
                    Ok(Subject { place, ..Subject::new(workload.id, workload.plan) })
                }
                Err(error) => Err(Failure::new("plan.malformed", ExitCode::PlanInvalid, error.reason)
                    .of_plan(PlanPlace::line(&name, error.line, error.id))),
            }
        })))
    }

    /// A plan where nothing can be won, to be measured beside plans of files: whatever is won there is not won by running
    /// as a DAG.
    pub(super) fn chain(&self) -> Option<Subject> {
        let chain =
            || Subject { is_control: true, ..Subject::new(shapes::CHAIN.to_owned(), shapes::chain(CONTROL_MS)) };
        (!self.args.plans.is_empty()).then(chain)
    }

    /// Runs a plan both ways. Where a signal ends that, what there is has been measured.
    pub(super) fn measure(&self, subject: &Subject) -> Result<Measured, Failure> {
        let of_plan = |failure| subject.place.iter().cloned().fold(failure, Failure::of_plan);
        self.measure_unnamed(subject).map_err(of_plan)
    }

    fn measure_unnamed(&self, subject: &Subject) -> Result<Measured, Failure> {
        let plan = &subject.plan;
        let toolbox = self.toolbox.as_ref().filter(|_| !subject.is_control);
        let mut measured = Measured { name: subject.name.clone(), steps: plan.steps.len(), ..Measured::default() };
        let simulated = {
            let (plan, policy) = (plan.clone(), self.policy.clone());
            let sleeps = toolbox.is_none();
            move || {
                let dag = Dag::of(&plan)?;
                let run = sleeps.then(|| simulated(simulation(plan, &policy))).transpose()?;
                Ok((dag, run.map(|run| (run.critical_path, run.work.saturating_add(run.makespan)))))
            }
        };
        let Some(simulated) = self.aside(simulated) else { return Ok(measured) };
        let (dag, times) = simulated.map_err(|problems| subject.invalid(problems))?;
        if let Some(toolbox) = toolbox {
            self.check(toolbox, subject)?;
        }
        let (critical, round) = times.unwrap_or_default();
        let longest = critical.as_secs_f64().max(f64::MIN_POSITIVE);
        let scale = self.time_scale.unwrap_or_else(|| (LONGEST.as_secs_f64() / longest).min(1.0));
        let runs = self.runs.of(Duration::try_from_secs_f64(round.as_secs_f64() * scale).unwrap_or(Duration::MAX));
        measured.time_scale = toolbox.is_none().then_some(scale);
        let asleep = |times: &dyn Fn(&Step) -> Duration, policy: Policy| {
            Runner::new(asleep(&dag, plan, times)).tool("sleep", sleeper(self.alarm.clone())).policy(policy)
        };
        let runner = |policy: Policy| match toolbox {
            Some(toolbox) => toolbox.runner(plan.clone(), &self.args.settings, policy),
            None => asleep(&|step| scaled(step, scale), policy),
        };
        // What comes first pays for what the others find: memory, caches. Tools that act are not called for that.
        let first = match toolbox {
            Some(toolbox) if !acts(toolbox, plan) => runner(self.policy.clone()),
            _ => asleep(&|_| NAP, self.policy.clone()),
        };
        let sequentially = runner(Policy { max_parallel: 1, ..self.policy.clone() });
        let as_dag = runner(self.policy.clone());
        let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
        let mut run_all = || {
            self.run(&first, subject)?;
            for round in 0..runs {
                // Neither way is always the first.
                if round % 2 == 1 {
                    parallel.push(self.run(&as_dag, subject)?);
                }
                sequential.push(self.run(&sequentially, subject)?);
                if round % 2 == 0 {
                    parallel.push(self.run(&as_dag, subject)?);
                }
            }
            Ok(())
        };
        match run_all() {
            Err(_) if self.stopped_by().is_some() => {}
            ended => measured.is_whole = ended.map(|()| true)?,
        }
        if let Some(scale) = measured.time_scale {
            let count = |is_one: &dyn Fn(&Step) -> bool| plan.steps.iter().filter(|step| is_one(step)).count();
            measured.guessed = count(&|step| step.estimate_ms.is_none());
            measured.vanished = count(&|step| !scaled(step, 1.0).is_zero() && scaled(step, scale).is_zero());
        }
        let reports = sequential.iter().chain(&parallel);
        measured.expected = match measured.time_scale {
            Some(scale) => self.expected(plan, move |step| scaled(step, scale)),
            None if reports.clone().next().is_none() => None,
            None => {
                let times = shortest(plan, reports);
                self.expected(plan, move |step| times.get(&step.id).copied().unwrap_or_default())
            }
        };
        if let (true, Some(expected), [one, ..], [other, ..]) =
            (self.args.html.is_some(), &measured.expected, &sequential[..], &parallel[..])
        {
            measured.comparison = Some(Comparison {
                name: subject.name.clone(),
                sequential: Timeline::of(one),
                dag: Timeline::of(other),
                slots: self.policy.max_parallel,
                bound: expected.bound,
                by_slots: expected.by_slots.clone(),
            });
        }
        (measured.sequential, measured.dag) = (in_order(&sequential), in_order(&parallel));
        Ok(measured)
    }

    /// What a plan comes to in virtual time if its steps take as long.
    fn expected(&self, plan: &Plan, time: impl Fn(&Step) -> Duration + Send + 'static) -> Option<Expected> {
        let (plan, policy, is_drawn) = (plan.clone(), self.policy.clone(), self.args.html.is_some());
        self.aside(move || {
            let simulate = |max_parallel: u32| {
                let policy = Policy { max_parallel, ..policy.clone() };
                simulation(plan.clone(), &policy).durations(|launch| time(&launch.definition)).without_history().run()
            };
            let run = simulate(policy.max_parallel);
            let by_slots = is_drawn.then(|| by_slots(policy.max_parallel, |slots| simulate(slots).makespan));
            Expected {
                work: run.work,
                critical: run.critical_path,
                bound: run.bound(),
                makespan: run.makespan,
                by_slots: by_slots.unwrap_or_default(),
            }
        })
    }

    /// Lets somebody else work something out; none if that takes too long for who sends a signal.
    fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.block_on(async {
            match select(tokio::task::spawn_blocking(work), pin!(self.is_enough())).await {
                Either::Left((Ok(done), _)) => Some(done),
                Either::Left((Err(error), _)) => std::panic::resume_unwind(error.into_panic()),
                Either::Right(_) => None,
            }
        })
    }

    /// Some time after a signal, or never.
    async fn is_enough(&self) {
        let mut signals = self.signals.clone();
        // Whoever tells of them goes on as long as the process.
        let _ = signals.wait_for(|come| !come.is_empty()).await;
        tokio::time::sleep(GRACE).await;
    }

    /// Checks a plan against what its tools may do.
    fn check(&self, toolbox: &Toolbox, subject: &Subject) -> Result<(), Failure> {
        let start = toolbox.start(&subject.name, &self.args.settings, self.policy.clone());
        match &subject.file {
            Some(file) => toolbox.check(file, &start)?,
            None => Dag::check(&subject.plan, &start).map_err(|problems| subject.invalid(problems))?,
        };
        toolbox.check_needs(&subject.plan)
    }

    fn run(&self, runner: &Runner, subject: &Subject) -> Result<RunReport, Failure> {
        let objective = subject.plan.objective.as_deref().unwrap_or_default();
        let ended = self.runtime.block_on(async {
            let mut signals = self.signals.clone();
            let mut handle = runner.start(objective);
            for (stop, saying) in [
                (RunHandle::cancel as fn(&RunHandle), "stopping; press again to stop now"),
                (RunHandle::cancel_now, "stopping now"),
            ] {
                match select(&mut handle, pin!(signals.changed())).await {
                    Either::Left((ended, _)) => return Some(ended),
                    Either::Right(_) => {
                        stop(&handle);
                        self.console.complain(&format!(" {} {saying}", paint(style::RETRY, "■")));
                    }
                }
                // Nobody needs the rest of a sleep.
                if self.toolbox.is_none() || subject.is_control {
                    return tokio::time::timeout(GRACE, handle).await.ok();
                }
            }
            Some(handle.await)
        });
        let failed = |exit, reason: String| Failure::new("bench.incomplete", exit, reason).after_start();
        let Some(ended) = ended else { return Err(failed(ExitCode::Interrupted, "it was left".to_owned())) };
        let report = ended.map_err(|error| failed(ExitCode::Internal, error.to_string()))?;
        match report.answer() {
            Ok(_) => Ok(report),
            Err(error) => Err(failed(ExitCode::of(&report), error.to_string())),
        }
    }
}

impl Subject {
    fn new(name: String, plan: Plan) -> Self {
        Self { name, plan, file: None, place: None, is_control: false }
    }

    fn of_file(path: &Path, file: Result<PlanFile, Failure>) -> Result<Self, Failure> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let place = PlanPlace { file: path.display().to_string(), line: None, id: Some(name.clone()) };
        match file {
            Ok(file) => Ok(Self { file: Some(file.clone()), place: Some(place), ..Self::new(name, file.plan) }),
            Err(failure) => Err(failure.of_plan(place)),
        }
    }

    /// It cannot be run.
    fn invalid(&self, problems: Vec<PlanError>) -> Failure {
        match &self.file {
            Some(file) => Failure::plan(file.locate(problems), ExitCode::PlanInvalid),
            None => {
                let code = problems.first().map_or("plan.malformed", PlanError::code);
                Failure::new(code, ExitCode::PlanInvalid, listed(&problems))
            }
        }
    }
}

/// The signals from now on, told to every run. The third one ends the process, whatever it is busy with.
fn heard(runtime: &Runtime) -> Result<watch::Receiver<Vec<Signal>>, Failure> {
    let (tell, heard) = watch::channel(Vec::new());
    let guard = runtime.enter();
    let mut signals = signals::listen().map_err(no_signals)?;
    drop(guard);
    runtime.spawn(async move {
        while let Some(signal) = signals.next().await {
            tell.send_modify(|heard| heard.push(signal));
        }
        // Who listens is not to hear the end of it.
        std::future::pending::<()>().await;
    });
    patience::leave_on_third_signal();
    Ok(heard)
}

/// Whether a plan uses a tool that must not be called more often than somebody wants it.
fn acts(toolbox: &Toolbox, plan: &Plan) -> bool {
    let acting = toolbox.specs().into_iter().filter(|spec| spec.effect == Effect::Acts);
    let acting: HashSet<String> = acting.map(|spec| spec.name).collect();
    plan.steps.iter().filter_map(|step| step.tool.as_deref()).any(|tool| acting.contains(tool))
}

/// What each step needs: the shortest time that it ever took. So no run can be faster than what is said to be possible,
/// however much its steps held each other up in another one.
fn shortest<'a>(plan: &Plan, reports: impl Iterator<Item = &'a RunReport> + Clone) -> HashMap<StepId, Duration> {
    let time = |report: &RunReport, id: &StepId| report.step(id.as_str()).map(|step| step.duration());
    let shortest = |step: &Arc<Step>| {
        let times = reports.clone().filter_map(|report| time(report, &step.id));
        (step.id.clone(), times.min().unwrap_or_default())
    };
    plan.steps.iter().map(shortest).collect()
}

/// How long a plan takes as long as more slots help; and with those that there were.
fn by_slots(slots: u32, took: impl Fn(u32) -> Duration) -> Vec<(u32, Duration)> {
    let mut by_slots = BTreeMap::from([(1, took(1))]);
    for cap in iter::successors(Some(2_u32), |cap| cap.checked_mul(2)) {
        let makespan = took(cap);
        if by_slots[&(cap / 2)] <= makespan {
            break;
        }
        by_slots.insert(cap, makespan);
    }
    if by_slots.last_key_value().is_some_and(|(most, _)| slots < *most) {
        by_slots.entry(slots).or_insert_with(|| took(slots));
    }
    by_slots.into_iter().collect()
}

fn in_order(reports: &[RunReport]) -> Vec<Duration> {
    let mut times: Vec<Duration> = reports.iter().map(RunReport::wall_time).collect();
    times.sort_unstable();
    times
}

/// How long a step sleeps, to the microsecond.
fn scaled(step: &Step, scale: f64) -> Duration {
    // Virtual time ends there.
    let time = step.estimate_ms.map_or(UNKNOWN, Duration::from_millis).min(Duration::from_micros(u64::MAX));
    Duration::from_micros((time.as_secs_f64() * scale * 1e6).round() as u64)
}

/// The plan with every step replaced by a sleep. Its pools are kept: a step that named none took from that of its tool.
/// So is the order of its steps: they expect to take as long as before.
fn asleep(dag: &Dag, plan: &Plan, times: &dyn Fn(&Step) -> Duration) -> Plan {
    let asleep = |(index, step): (usize, &Arc<Step>)| {
        let pool = [(step.tool.as_deref().unwrap_or(StepModel::NAME).to_owned(), 1)];
        let micros = u64::try_from(times(step).as_micros()).unwrap_or(u64::MAX);
        Arc::new(Step {
            tool: Some("sleep".into()),
            args: json!({ "us": micros }),
            estimate_ms: step.estimate_ms,
            uses: if step.uses.is_empty() { pool.into() } else { step.uses.clone() },
            // Those that its arguments imply are among them.
            depends_on: dag.dependencies(index).cloned().collect(),
            ..Step::described(step.id.clone(), Arc::clone(&step.description))
        })
    };
    Plan { steps: plan.steps.iter().enumerate().map(asleep).collect(), ..plan.clone() }
}

/// Sleeps for as long as its arguments say.
fn sleeper(alarm: Alarm) -> impl plandag::Tool + 'static {
    tool_fn(move |cx| {
        let alarm = alarm.clone();
        async move {
            let time = Duration::from_micros(cx.args["us"].as_u64().unwrap_or(0));
            if !time.is_zero() {
                alarm.sleep(time).await;
            }
            Ok(Value::Null)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_of_files_are_run_so_often_that_they_have_a_spread_unless_that_takes_long() {
        let runs = |rounds: &[u64]| {
            let runs = Runs::WhileShort(Cell::default());
            rounds.iter().map(|seconds| runs.of(Duration::from_secs(*seconds))).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[20]), [3]);
        assert_eq!(runs(&[21, 1]), [1, 3]);
        assert_eq!(runs(&[10, 9, 2, 1, 1]), [3, 3, 1, 1, 1]);
        assert_eq!(runs(&[u64::MAX, 0]), [1, 1]);
    }

    #[test]
    fn no_step_is_too_long_to_be_scaled() {
        let endless = Step::new("a", "sleep").estimate_ms(u64::MAX);
        let run = simulation(Plan::from_iter([endless.clone()]), &Policy::default()).run();
        let slept = scaled(&endless, 2.0 / run.critical_path.as_secs_f64());
        assert_eq!(slept, Duration::from_secs(2));
        assert_eq!(scaled(&Step::new("a", "sleep"), 0.000_5), Duration::from_micros(500));
    }
}
