//! What would make a run faster: the same run again in virtual time, with one thing changed.
//!
//! The time that a step spends on the critical path says little about what is won by making it faster: when one path
//! shrinks, the next one takes over. So each change is simulated, with the same scheduler, and what is left of the run
//! is compared. Where no step ever waits for anything but the steps before it, that takes no scheduler.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::StepNumber;
use crate::plan::{Plan, Step, StepId};
use crate::policy::{Limits, Policy, Retry};
use crate::reference::each_reference;

use super::{SimulatedRun, Simulation};

/// How many steps are simulated over all changes of one kind: a few dozen milliseconds at most.
const MOST_STEPS: usize = 10_000;
/// The most changes of one kind that are tried.
const MOST_CHANGES: usize = 4;

/// A change that somebody could make to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The step takes half as long.
    Halve {
        /// The step.
        step: StepId,
    },
    /// More steps may run at once.
    Slots {
        /// How many there were.
        from: u32,
        /// How many there would be.
        to: u32,
    },
    /// A pool is larger.
    Pool {
        /// The pool.
        pool: String,
        /// Its size.
        from: u32,
        /// Its size then.
        to: u32,
    },
    /// The step does not wait for a step that it declares and never refers to.
    Independent {
        /// The step.
        step: StepId,
        /// What it would not wait for.
        dependency: StepId,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halve { step } => write!(f, "halve {step}"),
            Self::Slots { to, .. } => write!(f, "cap {to}"),
            Self::Pool { pool, to, .. } => write!(f, "pool {pool}={to}"),
            Self::Independent { step, dependency } => write!(f, "{step} waits for {dependency} and never uses it"),
        }
    }
}

/// What a change would save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saving {
    /// The change.
    pub change: Change,
    /// By how much the run would be shorter.
    pub saves: Duration,
}

/// A run, and what it would be with one thing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatIf {
    /// How long the run takes in virtual time as it is: without the scheduler's own time, back-offs and planning.
    pub makespan: Duration,
    /// What was tried, the greatest saving first. Changes that save nothing are among them.
    pub savings: Vec<Saving>,
}

impl WhatIf {
    /// Tries changes of a plan whose steps take their `estimate_ms`, as [`Simulation`] has it. A plan that cannot be
    /// run has none.
    pub fn of_plan(plan: &Plan, policy: &Policy) -> Self {
        let indexes: HashMap<&StepId, u32> = plan.steps.iter().map(|step| &step.id).zip(0..).collect();
        let tasks = plan.steps.iter().map(|step| {
            let mut after: Vec<u32> = step.depends_on.iter().filter_map(|id| indexes.get(id).copied()).collect();
            each_reference(step, |reference| {
                after.extend(reference.ok().and_then(|reference| indexes.get(&StepId::from(reference.id)).copied()));
            });
            Task {
                name: step.id.clone(),
                duration: step.estimate_ms.map_or(super::DEFAULT_DURATION, Duration::from_millis),
                unused: unused(step).into_iter().filter_map(|id| indexes.get(id).copied()).collect(),
                after,
                step: Arc::clone(step),
            }
        });
        let mut policy = policy.clone();
        for (pool, size) in &plan.pools {
            policy.pools.entry(pool.clone()).or_insert(*size);
        }
        Work { tasks: tasks.collect(), policy }.what_if()
    }
}

/// The dependencies that a step declares and never refers to, where that means something: a step without a tool is
/// given all its inputs.
pub(crate) fn unused(step: &Step) -> Vec<&StepId> {
    if step.tool.is_none() || step.depends_on.is_empty() {
        return Vec::new();
    }
    let mut used = HashSet::new();
    each_reference(step, |reference| used.extend(reference.map(|reference| reference.id.to_owned())));
    step.depends_on.iter().filter(|id| !used.contains(id.as_str())).collect()
}

/// One step of a run that is simulated again.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: StepId,
    pub(crate) duration: Duration,
    /// The indexes of the tasks it waits for.
    pub(crate) after: Vec<u32>,
    /// Those among them that it does not need.
    pub(crate) unused: Vec<u32>,
    /// Its definition, for its tool and its settings.
    pub(crate) step: Arc<Step>,
}

/// Everything about a run that decides how long it takes.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) tasks: Vec<Task>,
    pub(crate) policy: Policy,
}

/// One thing that is changed.
#[derive(Clone, Copy)]
enum Trial<'a> {
    Nothing,
    Halve(u32),
    Slots(u32),
    Pool(&'a str, u32),
    Independent(u32, u32),
}

impl Trial<'_> {
    /// How long a task takes in it.
    fn duration(self, number: u32, task: &Task) -> Duration {
        if matches!(self, Self::Halve(halved) if halved == number) { task.duration / 2 } else { task.duration }
    }

    /// What a task waits for in it.
    fn after(self, number: u32, task: &Task) -> impl Iterator<Item = u32> {
        let is_free = move |before| matches!(self, Self::Independent(task, free) if task == number && free == before);
        task.after.iter().copied().filter(move |&before| !is_free(before))
    }
}

/// What a run with one thing changed comes to.
struct Tried {
    makespan: Duration,
    critical_path: Duration,
    /// The tasks on that path.
    critical: Vec<u32>,
}

impl Tried {
    fn of(run: &SimulatedRun) -> Self {
        let task = |number: &StepNumber| index(run.scheduler.step(*number)?.id);
        Self {
            makespan: run.makespan,
            critical_path: run.critical_path,
            critical: run.critical_steps.iter().filter_map(task).collect(),
        }
    }
}

impl Work {
    /// The run as it is.
    pub(super) fn run(&self) -> SimulatedRun {
        self.simulate(Trial::Nothing)
    }

    /// Tries the changes that can be expected to save most.
    pub(crate) fn what_if(&self) -> WhatIf {
        if self.waits_for_nothing_else() {
            self.compare(|trial| self.longest_chain(trial))
        } else {
            self.compare(|trial| Tried::of(&self.simulate(trial)))
        }
    }

    fn compare(&self, carry_out: impl Fn(Trial<'_>) -> Tried) -> WhatIf {
        let Tried { makespan, critical_path, critical } = carry_out(Trial::Nothing);
        let budget = MOST_STEPS / self.tasks.len().max(1);
        // Where nothing waits for a slot, only a shorter critical path makes a shorter run: the rest is not simulated.
        let is_only_critical = makespan == critical_path;
        let can_save = |trial| match trial {
            _ if !is_only_critical => true,
            Trial::Halve(task) => critical.contains(&task),
            Trial::Independent(task, before) => critical.windows(2).any(|pair| *pair == [before, task]),
            Trial::Nothing | Trial::Slots(_) | Trial::Pool(..) => false,
        };
        let saving = |change, trial| {
            let then = if can_save(trial) { carry_out(trial).makespan } else { makespan };
            Saving { change, saves: makespan.saturating_sub(then) }
        };
        let name = |task: u32| self.tasks[task as usize].name.clone();
        let mut savings = Vec::new();
        if budget > 0 && makespan > Duration::ZERO {
            let slots = self.policy.max_parallel;
            let more = slots.saturating_add(1);
            savings.push(saving(Change::Slots { from: slots, to: more }, Trial::Slots(more)));
            for (pool, &size) in self.policy.pools.iter().take(MOST_CHANGES.min(budget)) {
                let more = size.saturating_add(1);
                let change = Change::Pool { pool: pool.clone(), from: size, to: more };
                savings.push(saving(change, Trial::Pool(pool, more)));
            }
            for task in self.worth_halving(&critical).into_iter().take(MOST_CHANGES.min(budget)) {
                savings.push(saving(Change::Halve { step: name(task) }, Trial::Halve(task)));
            }
            for (task, before) in self.worth_freeing().into_iter().take(MOST_CHANGES.min(budget)) {
                let change = Change::Independent { step: name(task), dependency: name(before) };
                savings.push(saving(change, Trial::Independent(task, before)));
            }
        }
        savings.sort_by_key(|saving| Reverse(saving.saves));
        WhatIf { makespan, savings }
    }

    /// The tasks in the order in which a shorter one promises most: those of the critical path, the longest first.
    fn worth_halving(&self, critical: &[u32]) -> Vec<u32> {
        let critical: HashSet<u32> = critical.iter().copied().collect();
        let mut tasks: Vec<u32> =
            (0..).zip(&self.tasks).filter(|(_, task)| !task.duration.is_zero()).map(|(index, _)| index).collect();
        tasks.sort_by_key(|task| Reverse((critical.contains(task), self.tasks[*task as usize].duration)));
        tasks
    }

    /// Dependencies that are not needed, those on long tasks first.
    fn worth_freeing(&self) -> Vec<(u32, u32)> {
        let unused = |(index, task): (u32, &Task)| task.unused.iter().map(move |&before| (index, before)).collect();
        let mut pairs: Vec<(u32, u32)> = (0..).zip(&self.tasks).flat_map::<Vec<_>, _>(unused).collect();
        pairs.sort_by_key(|(_, before)| Reverse(self.tasks[*before as usize].duration));
        pairs
    }

    /// Whether every task begins as soon as those before it are over: there is a slot for each, there are no pools, and
    /// the tasks are in the order of their dependencies.
    fn waits_for_nothing_else(&self) -> bool {
        let has_slots = self.tasks.len() <= self.policy.max_parallel as usize && self.policy.pools.is_empty();
        let comes_after = |(number, task): (u32, &Task)| task.after.iter().all(|before| *before < number);
        has_slots && (0..).zip(&self.tasks).all(comes_after)
    }

    /// What [`simulate`](Self::simulate) comes to where that is so: then a run is as long as its longest chain.
    fn longest_chain(&self, trial: Trial<'_>) -> Tried {
        let mut ends: Vec<u64> = Vec::with_capacity(self.tasks.len());
        let mut waits: Vec<Option<u32>> = Vec::with_capacity(self.tasks.len());
        for (number, task) in (0..).zip(&self.tasks) {
            // Of chains that are equally long the first.
            let last =
                trial.after(number, task).reduce(|last, other| match ends[other as usize] > ends[last as usize] {
                    true => other,
                    false => last,
                });
            let start = last.map_or(0, |last| ends[last as usize]);
            let micros = u64::try_from(trial.duration(number, task).as_micros()).unwrap_or(u64::MAX);
            ends.push(start.saturating_add(micros));
            waits.push(last);
        }
        // Here the last, as simulated runs have it.
        let end = (0..).zip(&ends).max_by_key(|(_, end)| **end);
        let makespan = Duration::from_micros(end.map_or(0, |(_, end)| *end));
        let chain = std::iter::successors(end.map(|(number, _)| number), |number: &u32| waits[*number as usize]);
        let mut critical: Vec<u32> = chain.collect();
        critical.reverse();
        Tried { makespan, critical_path: makespan, critical }
    }

    fn simulate(&self, trial: Trial<'_>) -> SimulatedRun {
        let mut policy = Policy { limits: Limits::NONE, retry: Retry::NEVER, ..self.policy.clone() };
        match trial {
            Trial::Slots(slots) => policy.max_parallel = slots,
            Trial::Pool(pool, size) => drop(policy.pools.insert(pool.to_owned(), size)),
            Trial::Nothing | Trial::Halve(_) | Trial::Independent(..) => {}
        }
        let duration =
            |task: u32| self.tasks.get(task as usize).map_or(Duration::ZERO, |own| trial.duration(task, own));
        let pools = policy.pools.clone();
        let plan = (0..).zip(&self.tasks).map(|(number, task)| self.step(number, task, trial, &pools)).collect();
        Simulation::new(plan)
            .policy(policy)
            .durations(move |launch| index(&launch.id).map_or(Duration::ZERO, duration))
            .without_history()
            .run()
    }

    /// A task as a step of a flat plan, whatever expansions it was part of.
    fn step(&self, number: u32, task: &Task, trial: Trial<'_>, pools: &BTreeMap<String, u32>) -> Step {
        let after = trial.after(number, task).map(id);
        // A step may weigh more than a pool has by now: then it takes all of it.
        let fits = |(pool, weight): (&String, &u32)| {
            (pool.clone(), pools.get(pool).map_or(*weight, |size| (*weight).min(*size)))
        };
        Step {
            tool: Some(task.step.tool.clone().unwrap_or_else(|| super::DEFAULT_TOOL.into())),
            uses: task.step.uses.iter().map(fits).collect(),
            estimate_ms: task.step.estimate_ms,
            depends_on: after.collect(),
            ..Step::described(id(number), "")
        }
    }
}

fn id(task: StepNumber) -> StepId {
    StepId::from(format!("t{task}"))
}

/// The number of the task that is this step of the simulated plan.
pub(super) fn index(id: &StepId) -> Option<u32> {
    id.as_str().strip_prefix('t')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn saves(what_if: &WhatIf, change: &Change) -> Duration {
        what_if.savings.iter().find(|saving| saving.change == *change).expect("it was tried").saves
    }

    #[test]
    fn when_one_path_shrinks_the_next_one_takes_over() {
        let plan = Plan::from_iter([
            Step::new("long", "t").estimate_ms(1_000),
            Step::new("short", "t").estimate_ms(800),
            Step::new("join", "t").estimate_ms(100).args(json!(["${long}", "${short}"])),
        ]);
        let what_if = WhatIf::of_plan(&plan, &Policy::default());
        assert_eq!(what_if.makespan, Duration::from_millis(1_100));
        assert_eq!(saves(&what_if, &Change::Halve { step: "long".into() }), Duration::from_millis(200));
        assert_eq!(saves(&what_if, &Change::Halve { step: "short".into() }), Duration::ZERO);
        assert_eq!(saves(&what_if, &Change::Slots { from: 64, to: 65 }), Duration::ZERO);
        assert_eq!(what_if.savings[0].change, Change::Halve { step: "long".into() }, "the greatest comes first");
    }

    #[test]
    fn a_slot_or_a_wider_pool_saves_what_waited_for_it() {
        let steps = || (0..3).map(|n| Step::new(format!("s{n}"), "t").estimate_ms(300));
        let two = Policy { max_parallel: 2, ..Policy::default() };
        let what_if = WhatIf::of_plan(&steps().collect(), &two);
        assert_eq!(saves(&what_if, &Change::Slots { from: 2, to: 3 }), Duration::from_millis(300));
        let mut plan: Plan = steps().map(|step| step.uses("gpu", 1)).collect();
        plan.pools.insert("gpu".into(), 2);
        let what_if = WhatIf::of_plan(&plan, &Policy::default());
        let wider = Change::Pool { pool: "gpu".into(), from: 2, to: 3 };
        assert_eq!(saves(&what_if, &wider), Duration::from_millis(300));
    }

    #[test]
    fn a_dependency_that_is_never_used_costs_what_it_delays() {
        let plan = Plan::from_iter([
            Step::new("first", "t").estimate_ms(400),
            Step::new("second", "t").estimate_ms(300).depends_on(["first"]),
            Step::new("third", "t").estimate_ms(100).args(json!("${second}")).depends_on(["second"]),
            Step::described("model", "Sums up").estimate_ms(10).depends_on(["third"]),
        ]);
        let what_if = WhatIf::of_plan(&plan, &Policy::default());
        let independent: Vec<_> =
            what_if.savings.iter().filter(|saving| matches!(saving.change, Change::Independent { .. })).collect();
        let change = Change::Independent { step: "second".into(), dependency: "first".into() };
        assert_eq!(independent, [&Saving { change, saves: Duration::from_millis(400) }]);
    }

    #[test]
    fn where_nothing_waits_for_a_slot_a_simulation_would_say_the_same() {
        for seed in 0..400 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let count = rng.u32(0..30);
            let longest = *rng.choice([1, 4, 100_000].iter()).unwrap();
            let task = |number: u32| {
                let mut after: Vec<u32> =
                    (0..rng.u32(0..4)).filter(|_| number > 0).map(|_| rng.u32(0..number)).collect();
                let unused = after.iter().copied().filter(|_| rng.bool()).collect();
                after.extend(after.first().copied().filter(|_| rng.bool()));
                Task {
                    name: StepId::from(format!("s{number}")),
                    duration: Duration::from_nanos(rng.u64(0..=longest) * 500),
                    after,
                    unused,
                    step: Arc::new(Step::new("s", "t")),
                }
            };
            let tasks: Vec<Task> = (0..count).map(task).collect();
            let work = Work { tasks, policy: Policy { max_parallel: count.max(1), ..Policy::default() } };
            assert!(work.waits_for_nothing_else());
            let simulated = work.compare(|trial| Tried::of(&work.simulate(trial)));
            assert_eq!(work.what_if(), simulated, "seed {seed}");
        }
    }

    #[test]
    fn what_waits_for_a_slot_a_pool_or_a_later_step_is_simulated() {
        let task = |after: Vec<u32>| Task {
            name: "s".into(),
            duration: Duration::from_secs(1),
            after,
            unused: Vec::new(),
            step: Arc::new(Step::new("s", "t")),
        };
        let tasks = [task(vec![]), task(vec![0])];
        let with = |tasks: &[Task], policy: Policy| Work { tasks: tasks.to_vec(), policy }.waits_for_nothing_else();
        let two = Policy { max_parallel: 2, ..Policy::default() };
        assert!(with(&tasks, two.clone()));
        assert!(!with(&tasks, Policy { max_parallel: 1, ..two.clone() }));
        assert!(!with(&tasks, Policy { pools: [("t".to_owned(), 1)].into(), ..two.clone() }));
        assert!(!with(&[task(vec![1]), task(vec![])], two));
    }
}
