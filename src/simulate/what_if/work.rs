//! A run as work: how long each step takes, and what it waits for; with one thing changed, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::StepError;
use crate::event::{Launch, Output, Returned, StepNumber};
use crate::plan::{Step, StepId};
use crate::policy::{Limits, Policy, Retry};
use crate::simulate::{DEFAULT_TOOL, SimulatedRun, Simulation};

/// One step of a run that is simulated again.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: StepId,
    /// Its attempts before the last one.
    pub(crate) earlier: Vec<Earlier>,
    /// How long the last one takes.
    pub(crate) duration: Duration,
    /// The indexes of the tasks it waits for.
    pub(crate) after: Vec<u32>,
    /// What of that it does not need.
    pub(crate) unused: Vec<Unused>,
    /// Its definition, for its tool and its settings.
    pub(crate) step: Arc<Step>,
    /// The number of the first task that is a part of the same: its own, unless it is one of several. None if it is
    /// nothing that somebody does.
    pub(crate) whole: Option<u32>,
}

impl Task {
    /// What it takes of the pools that have a size: of one that it may weigh more than by now, all of it.
    pub(super) fn takes<'a>(&'a self, pools: &BTreeMap<String, u32>) -> impl Iterator<Item = (&'a str, u32)> {
        let Step { uses, tool, .. } = &*self.step;
        let tool = uses.is_empty().then(|| (tool.as_deref().unwrap_or(DEFAULT_TOOL), 1));
        let uses = uses.iter().map(|(pool, weight)| (pool.as_str(), *weight)).chain(tool);
        uses.filter_map(|(pool, weight)| Some((pool, weight.min(*pools.get(pool)?))))
    }

    /// What takes no time, and of which nobody hears: that many tasks are over, so that many others need not each wait
    /// for all of them.
    pub(crate) fn end(after: Vec<u32>) -> Self {
        Self {
            name: StepId::from(""),
            earlier: Vec::new(),
            duration: Duration::ZERO,
            after,
            unused: Vec::new(),
            step: Arc::new(Step::new("", "the end of others").estimate_ms(0)),
            whole: None,
        }
    }
}

/// An attempt that fails, and the pause after it: in that, no slot is taken, and nothing is made faster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Earlier {
    duration: Duration,
    /// Servers count in milliseconds, and so do back-offs.
    pause_ms: u64,
}

impl Earlier {
    pub(crate) fn new(duration: Duration, pause: Duration) -> Self {
        Self { duration, pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// A dependency that is not needed.
#[derive(Clone, Debug)]
pub(crate) struct Unused {
    /// The step that is declared.
    pub(crate) dependency: StepId,
    /// That step, and all that it became.
    pub(crate) tasks: BTreeSet<u32>,
}

/// Everything about a run that decides how long it takes.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) tasks: Vec<Task>,
    pub(crate) policy: Policy,
}

/// One thing that is changed.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulate) enum Trial<'a> {
    Nothing,
    Halve(u32),
    Slots(u32),
    Pool(&'a str, u32),
    Independent(u32, &'a Unused),
}

impl Trial<'_> {
    fn halves(self, task: &Task) -> bool {
        matches!(self, Self::Halve(halved) if Some(halved) == task.whole)
    }

    /// What a task waits for in it.
    pub(super) fn after(self, number: u32, task: &Task) -> impl Iterator<Item = u32> {
        let is_free = move |before| matches!(self, Self::Independent(task, free) if task == number && free.tasks.contains(before));
        task.after.iter().filter(move |before| !is_free(before)).copied()
    }

    fn slots(self, policy: &Policy) -> u32 {
        if let Self::Slots(slots) = self { slots } else { policy.max_parallel }
    }

    fn pools(self, policy: &Policy) -> BTreeMap<String, u32> {
        let mut pools = policy.pools.clone();
        if let Self::Pool(pool, size) = self {
            pools.insert(pool.to_owned(), size);
        }
        pools
    }
}

/// When the tasks of a run start and end, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) starts: Vec<u64>,
    pub(super) ends: Vec<u64>,
    pub(super) makespan: u64,
}

impl Work {
    /// The run as it is.
    pub(in crate::simulate) fn run(&self) -> SimulatedRun {
        self.simulate(Trial::Nothing)
    }

    /// The tasks in an order in which each comes after those it waits for; none if there is none.
    pub(in crate::simulate) fn in_order(&self) -> Option<Vec<u32>> {
        let all = 0..self.tasks.len() as u32;
        if all.clone().zip(&self.tasks).all(|(number, task)| task.after.iter().all(|before| *before < number)) {
            return Some(all.collect());
        }
        let mut waits: Vec<usize> = self.tasks.iter().map(|task| task.after.len()).collect();
        let mut waiting: Vec<Vec<u32>> = vec![Vec::new(); self.tasks.len()];
        for (number, task) in all.clone().zip(&self.tasks) {
            task.after.iter().for_each(|before| waiting[*before as usize].push(number));
        }
        let mut order: Vec<u32> = all.filter(|number| waits[*number as usize] == 0).collect();
        let mut next = 0;
        while let Some(&task) = order.get(next) {
            for &waiting in &waiting[task as usize] {
                waits[waiting as usize] -= 1;
                if waits[waiting as usize] == 0 {
                    order.push(waiting);
                }
            }
            next += 1;
        }
        (order.len() == self.tasks.len()).then_some(order)
    }

    /// How long the attempts of a task take, and the pause after each.
    fn attempts(&self, trial: Trial<'_>, number: u32) -> impl Iterator<Item = (Duration, Duration)> {
        let task = &self.tasks[number as usize];
        // All of them together can be counted in microseconds.
        let parts = self.tasks.len() as u64 * (2 * task.earlier.len() as u64 + 1);
        let longest = Duration::from_micros(u64::MAX / 2 / parts);
        let length = move |duration: Duration| duration.min(longest) / if trial.halves(task) { 2 } else { 1 };
        let pause = move |earlier: &Earlier| Duration::from_millis(earlier.pause_ms.min(longest.as_millis() as u64));
        let earlier = task.earlier.iter().map(move |earlier| (length(earlier.duration), pause(earlier)));
        earlier.chain([(length(task.duration), Duration::ZERO)])
    }

    /// The same in microseconds.
    pub(in crate::simulate) fn micros(&self, trial: Trial<'_>, number: u32) -> impl Iterator<Item = (u64, u64)> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.attempts(trial, number).map(move |(duration, pause)| (micros(duration), micros(pause)))
    }

    /// What [`simulate`](Self::simulate) comes to where every task begins as soon as those before it are over; none if
    /// one would have to wait for a slot or a pool.
    pub(super) fn unhindered(&self, order: &[u32], trial: Trial<'_>) -> Option<Schedule> {
        let mut starts = vec![0_u64; self.tasks.len()];
        let mut ends = vec![0; self.tasks.len()];
        for &number in order {
            let before = trial.after(number, &self.tasks[number as usize]).map(|before| ends[before as usize]);
            let start = before.max().unwrap_or(0);
            starts[number as usize] = start;
            ends[number as usize] = start + self.micros(trial, number).map(|(took, pause)| took + pause).sum::<u64>();
        }
        let makespan = ends.iter().copied().max().unwrap_or(0);
        self.fits(&starts, trial).then_some(Schedule { starts, ends, makespan })
    }

    /// Whether there are slots and pools for all tasks if they start at these times.
    fn fits(&self, starts: &[u64], trial: Trial<'_>) -> bool {
        let (slots, pools) = (trial.slots(&self.policy) as usize, trial.pools(&self.policy));
        if self.tasks.len() <= slots && pools.is_empty() {
            return true;
        }
        // At one instant first those end that were running, then all start, and then those end that take no time.
        let mut turns: Vec<(u64, u8, u32)> = Vec::with_capacity(2 * self.tasks.len());
        for (number, &start) in (0..).zip(starts) {
            let mut start = start;
            for (took, pause) in self.micros(trial, number) {
                turns.push((start, 1, number));
                turns.push((start + took, if took > 0 { 0 } else { 2 }, number));
                start += took + pause;
            }
        }
        turns.sort_unstable();
        let mut left: Vec<i64> = pools.values().map(|size| i64::from(*size)).chain([slots as i64]).collect();
        let numbers: HashMap<&str, usize> = pools.keys().map(String::as_str).zip(0..).collect();
        turns.iter().all(|(_, turn, number)| {
            let task = &self.tasks[*number as usize];
            let slot = task.whole.is_some().then_some((pools.len(), 1));
            let mut takes = task.takes(&pools).map(|(pool, weight)| (numbers[pool], weight)).chain(slot);
            takes.all(|(place, weight)| {
                left[place] += if *turn == 1 { -i64::from(weight) } else { i64::from(weight) };
                left[place] >= 0
            })
        })
    }

    /// What the scheduler makes of it.
    pub(super) fn scheduled(&self, trial: Trial<'_>) -> Schedule {
        let run = self.simulate(trial);
        let (mut starts, mut ends) = (vec![0; self.tasks.len()], vec![0; self.tasks.len()]);
        for attempt in run.attempts.iter().rev() {
            let Some(index) = index(&attempt.id).map(|number| number as usize).filter(|index| *index < ends.len())
            else {
                continue;
            };
            starts[index] = attempt.start.as_micros();
            ends[index] = ends[index].max(attempt.end.as_micros());
        }
        Schedule { starts, ends, makespan: u64::try_from(run.makespan.as_micros()).unwrap_or(u64::MAX) }
    }

    fn simulate(&self, trial: Trial<'_>) -> SimulatedRun {
        let pools = trial.pools(&self.policy);
        let ids: Vec<StepId> = (0..).zip(&self.tasks).map(|(number, _)| id(number)).collect();
        let plan = (0..).zip(&self.tasks).map(|(number, task)| self.step(number, task, trial, &pools, &ids)).collect();
        let policy =
            Policy { limits: Limits::NONE, max_parallel: trial.slots(&self.policy), pools, ..self.policy.clone() };
        let attempt = move |launch: &Launch| self.attempts(trial, index(&launch.id)?).nth(launch.tries as usize - 1);
        let mut simulation = Simulation::new(plan)
            .policy(policy)
            .durations(move |launch| attempt(launch).map_or(Duration::ZERO, |(duration, _)| duration))
            .without_history();
        if self.tasks.iter().any(|task| !task.earlier.is_empty()) {
            simulation = simulation.results(move |launch| self.result(launch));
            // Whoever pauses keeps nobody else from the same server.
            simulation.start.tools.iter_mut().for_each(|tool| tool.many_servers = true);
        }
        simulation.run()
    }

    /// What comes of an attempt.
    fn result(&self, launch: &Launch) -> Result<Returned, StepError> {
        let task = index(&launch.id).and_then(|number| self.tasks.get(number as usize));
        match task.and_then(|task| task.earlier.get(launch.tries as usize - 1)) {
            Some(earlier) => Err(StepError::transient("").retry_after_ms(earlier.pause_ms)),
            None => Ok(Returned::Value(Output::inline(Value::Null))),
        }
    }

    /// A task as a step of a flat plan, whatever expansions it was part of.
    fn step(&self, number: u32, task: &Task, trial: Trial<'_>, pools: &BTreeMap<String, u32>, ids: &[StepId]) -> Step {
        let fits = |(pool, weight): (&String, &u32)| {
            (pool.clone(), pools.get(pool).map_or(*weight, |size| (*weight).min(*size)))
        };
        Step {
            tool: Some(task.step.tool.clone().unwrap_or_else(|| DEFAULT_TOOL.into())),
            uses: task.step.uses.iter().map(fits).collect(),
            // Whoever makes a step faster knows that it is.
            estimate_ms: task.step.estimate_ms.map(|ms| if trial.halves(task) { ms / 2 } else { ms }),
            depends_on: trial.after(number, task).map(|before| ids[before as usize].clone()).collect(),
            // What it waits for between its attempts is said by each.
            retry: Some(Retry { max_attempts: task.earlier.len() as u32 + 1, base_ms: 0, max_ms: 0 }),
            ..Step::described(ids[number as usize].clone(), "")
        }
    }
}

fn id(task: StepNumber) -> StepId {
    StepId::from(format!("t{task}"))
}

/// The number of the task that is this step of the simulated plan.
pub(in crate::simulate) fn index(id: &StepId) -> Option<u32> {
    id.as_str().strip_prefix('t')?.parse().ok()
}
