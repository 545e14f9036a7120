//! What is known of a run before it starts.

use std::sync::Arc;
use std::time::Duration;

use plandag::counted;
use plandag::simulate::{Ended, SimulatedRun, Simulation, WhatIf};
use plandag::{Dag, FailureReason, Limits, Plan, PlanError, Policy, RunOutcome, RunStart, Step};

use super::duration::human;
use super::faster;
use super::progress::some_of;
use super::style::{self, paint};
use super::text;

/// A plan's shape, and how long it should take.
#[derive(Debug)]
pub(crate) struct Prediction {
    steps: usize,
    dependencies: usize,
    levels: Vec<usize>,
    critical: Vec<String>,
    makespan: Duration,
    work: Duration,
    slots: u32,
    /// Steps that should take as long as their tools took in earlier runs.
    learned: usize,
    unknown: usize,
    /// Whether most of the critical path is made of these.
    is_guess: bool,
    /// To look for what would make it faster, where that is wanted.
    plan: Plan,
    start: RunStart,
}

impl Prediction {
    /// Runs the plan in virtual time.
    pub(crate) fn new(plan: &Plan, dag: &Dag, start: &RunStart) -> Self {
        let (plan, learned) = learned(plan, |tool| mean(tool, start));
        let simulation = simulation(plan.clone(), &start.policy).tools(start.tools.clone());
        let simulation = simulation.default_tool(start.default_tool.clone());
        let simulated = simulation.inputs(start.inputs.clone()).without_history().run();
        let id = |number: u32| simulated.scheduler.step(number).map_or_else(String::new, |step| step.id.to_string());
        let critical = simulated.critical_steps.iter().filter_map(|&number| simulated.scheduler.step(number));
        let known = critical.filter_map(|step| step.definition.estimate_ms).map(Duration::from_millis);
        let known = known.fold(Duration::ZERO, Duration::saturating_add);
        let is_guess = known < simulated.critical_path / 2;
        Self {
            steps: dag.steps().len(),
            dependencies: dag.graph().edge_count(),
            levels: dag.levels().iter().map(Vec::len).collect(),
            critical: simulated.critical_steps.iter().map(|&number| id(number)).collect(),
            makespan: simulated.makespan,
            work: simulated.work,
            slots: start.policy.max_parallel,
            unknown: plan.steps.iter().filter(|step| step.estimate_ms.is_none()).count(),
            is_guess,
            learned,
            plan,
            start: start.clone(),
        }
    }

    /// One line, for the head of a run.
    pub(crate) fn brief(&self) -> String {
        let width = self.levels.iter().max().copied().unwrap_or_default();
        let at_once = width.min(self.slots as usize);
        let steps = counted(self.steps, "step");
        // An expectation that rests on next to nothing is none.
        let expected = match self.unknown {
            _ if self.is_guess => String::new(),
            0 => format!(", ~{} expected", human(self.makespan)),
            1 => format!(", ~{} expected if 1 step of unknown length takes 1s", human(self.makespan)),
            unknown => {
                format!(", ~{} expected if {unknown} steps of unknown length take 1s each", human(self.makespan))
            }
        };
        format!("{steps}, up to {at_once} at once{expected}")
    }

    /// The whole of it.
    pub(crate) fn render(&self) -> String {
        let heading = |word: &str| paint(style::FAINT, &text::pad(word, 10));
        let levels: Vec<String> = self.levels.iter().map(ToString::to_string).collect();
        let mut lines = vec![
            format!(
                " {}{}, {}",
                heading("plan"),
                counted(self.steps, "step"),
                counted(self.dependencies, "dependency")
            ),
            format!(
                " {}{} of {} {}; up to {} at once",
                heading("levels"),
                self.levels.len(),
                some_of(&levels),
                if self.steps == 1 { "step" } else { "steps" },
                self.levels.iter().max().copied().unwrap_or_default(),
            ),
            format!(
                " {}~{} with {}, ~{} one at a time",
                heading("predicted"),
                human(self.makespan),
                counted(self.slots as usize, "slot"),
                human(self.work)
            ),
        ];
        if self.learned > 0 {
            lines.push(format!(" {}{}", heading(""), as_learned(self.learned)));
        }
        lines.extend(as_guessed(self.unknown, self.steps).map(|guessed| format!(" {}{guessed}", heading(""))));
        lines.push(format!(" {}{}", heading("critical"), text::line(&path(&self.critical))));
        lines.extend(
            faster::lines(&WhatIf::of_plan(&self.plan, &self.start)).into_iter().map(|line| format!(" {line}")),
        );
        lines.join("\n")
    }
}

/// How long earlier runs say that a tool takes, in milliseconds.
fn mean(tool: Option<&str>, start: &RunStart) -> Option<u64> {
    let name = tool.or(start.default_tool.as_deref());
    start.tools.iter().find(|tool| Some(tool.name.as_str()) == name)?.mean_ms
}

/// The plan with the mean of its tool for every step that has no estimate, where that is known, and for how many it is.
pub(crate) fn learned(plan: &Plan, mean: impl Fn(Option<&str>) -> Option<u64>) -> (Plan, usize) {
    let mut plan = plan.clone();
    let mut learned = 0;
    for step in plan.steps.iter_mut().filter(|step| step.estimate_ms.is_none()) {
        if let Some(mean) = mean(step.tool.as_deref()) {
            *step = Arc::new(Step::clone(step).estimate_ms(mean));
            learned += 1;
        }
    }
    (plan, learned)
}

/// What a prediction rests on that is not in the plan.
pub(crate) fn as_learned(steps: usize) -> String {
    let takes = if steps == 1 { "counts as long as its tool" } else { "count as long as their tools" };
    format!("{} without an estimate_ms {takes} took in earlier runs", counted(steps, "step"))
}

/// What it rests on where nothing is known of some steps.
pub(crate) fn as_guessed(steps: usize, all: usize) -> Option<String> {
    match steps {
        0 => None,
        _ if steps == all => Some("no step has an estimate_ms: each counts as 1s".to_owned()),
        1 => Some("1 step without an estimate_ms counts as 1s".to_owned()),
        _ => Some(format!("{steps} steps without an estimate_ms count as 1s each")),
    }
}

/// A simulation of a plan under a policy, without limits on size: nothing is really done.
pub(crate) fn simulation(plan: Plan, policy: &Policy) -> Simulation<'static> {
    Simulation::new(plan).policy(Policy { limits: Limits::NONE, ..policy.clone() })
}

/// Carries a simulation out, if its plan can be run at all. As every attempt succeeds, nothing else can go wrong.
///
/// # Errors
///
/// What is wrong with the plan.
pub(crate) fn simulated(simulation: Simulation<'_>) -> Result<SimulatedRun, Vec<PlanError>> {
    let run = simulation.without_history().run();
    match &run.ended {
        Ended::Finished(RunOutcome::Failed { reason: FailureReason::NoPlan(offences) }) => Err(offences.to_vec()),
        _ => Ok(run),
    }
}

/// Everything that is wrong with a plan, in one line.
pub(crate) fn listed(problems: &[PlanError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A chain of steps, its middle left out if it is long.
pub(crate) fn path(steps: &[String]) -> String {
    const ENDS: usize = 4;
    if steps.len() <= 2 * ENDS {
        return steps.join(" > ");
    }
    let (head, tail) = (&steps[..ENDS], &steps[steps.len() - ENDS..]);
    format!("{} > ... {} more ... > {}", head.join(" > "), steps.len() - 2 * ENDS, tail.join(" > "))
}
