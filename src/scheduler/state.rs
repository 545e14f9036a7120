//! What the scheduler knows: steps by number, scopes, requests, pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use crate::dag::ById;
use crate::error::StepError;
use crate::event::{AnswerFrom, AttemptNumber, Grafted, PlanReason, RequestNumber, RunStart, StepNumber, Timestamp};
use crate::plan::Step;
use crate::policy::Policy;

use super::StepState;
use super::queue::ReadyQueue;

/// The rank of a step that has none yet, and so no place among the ready ones.
pub(super) const UNRANKED: u64 = u64::MAX;

/// Stands for "no number" where an `Option` would cost half as much again.
pub(super) const NONE: u32 = u32::MAX;

/// A step by number. Its definition changes only in its settings, its edges never.
///
/// A large plan is not in the caches of the processor, and what is waited for then is memory. So a node is small and has
/// all that is looked at again and again; its id, definition and dependencies stay in the graft that added it. It is as
/// large as what a processor loads at once, and lies so that one load is enough.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Node {
    /// The last error, of a try or for good.
    pub(super) error: Option<Arc<StepError>>,
    pub(super) state: StepState,
    /// How long before the end it should start at the latest, in milliseconds, or what the policy's order puts there.
    pub(super) rank: u64,
    /// Which graft added it, as an index.
    pub(super) graft: u32,
    /// The expanded step it is part of, or `NONE`.
    pub(super) parent: StepNumber,
    pub(super) tries: u32,
    /// How often a lower-ranked step was launched past it.
    pub(super) passed: u32,
    /// An index into the run's tools.
    pub(super) tool: u16,
    pub(super) shape: u32,
    /// The shape whose pools the running attempt took: settings may change under it.
    pub(super) taken: u32,
    pub(super) member: bool,
    /// Sent by a planner that is still writing.
    pub(super) draft: bool,
    /// An acting step of a plan that is not accepted yet.
    pub(super) held: bool,
    /// Failed, and the planner has not been told.
    pub(super) unreported: bool,
    /// Its failure does not keep its dependents from running.
    pub(super) continues: bool,
    /// As [`Launch::is_plain`](crate::event::Launch::is_plain).
    pub(super) is_plain: bool,
}

impl Node {
    /// A terminal state, for ever.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, StepState::Succeeded | StepState::Failed | StepState::Skipped(_) | StepState::Superseded)
    }

    /// Counts as a satisfied dependency.
    pub(super) fn is_finished(&self) -> bool {
        match self.state {
            StepState::Succeeded => true,
            StepState::Skipped(because) => because.failed().is_none(),
            StepState::Failed => self.continues,
            _ => false,
        }
    }

    /// Makes everything below it impossible.
    pub(super) fn is_fatal(&self) -> bool {
        match self.state {
            StepState::Failed => !self.continues,
            StepState::Skipped(because) => because.failed().is_some(),
            _ => false,
        }
    }
}

/// What brought the steps in. A copy has outputs of its own.
#[derive(Debug, Default)]
pub(super) struct Grafts(pub(super) Vec<Arc<Grafted>>);

impl Clone for Grafts {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|grafted| Arc::new(Grafted::clone(grafted))).collect())
    }
}

/// The run's plan, or one expansion.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Its members in ascending order, and perhaps some that have left.
    pub(super) members: Vec<StepNumber>,
    /// Steps that are not settled.
    pub(super) open: u32,
    /// The member that failed first.
    pub(super) failed: Option<StepNumber>,
    pub(super) answer: AnswerFrom,
    /// How often the tool of the expanded step was asked for another plan.
    pub(super) replans: u32,
}

/// The numbers an id stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Name {
    pub(super) current: StepNumber,
    /// The newest finished one before that: it outlives a redefinition that never ran.
    pub(super) finished: StepNumber,
}

/// A call to the planner that is under way, or is to be made again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) request: RequestNumber,
    pub(super) reason: PlanReason,
    pub(super) reported: Vec<StepNumber>,
    /// Only an answer is of use.
    pub(super) must_answer: bool,
    /// Rejected answers in a row.
    pub(super) rejections: u32,
    /// How often in a row it was put off.
    pub(super) put_off: u32,
    /// Dependencies of the plan and of the steps that were drafted so far.
    pub(super) edges: u64,
}

/// Pools with a size; the others are unlimited and need no book-keeping.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    sizes: IndexMap<String, u32>,
    /// More than there is, where a pool got its size when much of it was taken.
    used: Vec<u64>,
}

impl Pools {
    /// Sizes a pool. The first to name one decides: nobody can take a pool away from steps that rely on it.
    pub(super) fn size(&mut self, name: &str, size: u32) -> bool {
        if self.sizes.contains_key(name) {
            return false;
        }
        self.sizes.insert(name.to_owned(), size.max(1));
        self.used.push(0);
        true
    }

    pub(super) fn sizes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.sizes.iter().map(|(name, size)| (name.as_str(), *size))
    }

    pub(super) fn used(&self) -> &[u64] {
        &self.used
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// What a step takes: at most what there is, so that it can start when its pools are empty.
    pub(super) fn needs(&self, step: &Step, usual: &str) -> Vec<(u16, u32)> {
        let need = |name: &str, weight: u32| {
            let (index, _, size) = self.sizes.get_full(name)?;
            Some((u16::try_from(index).ok()?, weight.min(*size))).filter(|(_, weight)| *weight > 0)
        };
        if step.uses.is_empty() {
            need(usual, 1).into_iter().collect()
        } else {
            step.uses.iter().filter_map(|(name, weight)| need(name, *weight)).collect()
        }
    }

    pub(super) fn fit(&self, needs: &[(u16, u32)]) -> bool {
        needs.iter().all(|need| self.fits(*need))
    }

    fn fits(&self, (pool, weight): (u16, u32)) -> bool {
        self.used[usize::from(pool)] + u64::from(weight) <= u64::from(self.sizes[usize::from(pool)])
    }

    /// The pools that have not enough left: name, how much is taken, how much there is, how much is needed.
    pub(super) fn lacking(&self, needs: &[(u16, u32)]) -> impl Iterator<Item = (&str, u32, u32, u32)> {
        needs.iter().filter(|need| !self.fits(**need)).filter_map(|&(pool, weight)| {
            let (name, size) = self.sizes.get_index(usize::from(pool))?;
            let used = u32::try_from(self.used[usize::from(pool)]).unwrap_or(u32::MAX);
            Some((name.as_str(), used, *size, weight))
        })
    }

    pub(super) fn take(&mut self, needs: &[(u16, u32)]) {
        for &(pool, weight) in needs {
            self.used[usize::from(pool)] += u64::from(weight);
        }
    }

    pub(super) fn give_back(&mut self, needs: &[(u16, u32)]) {
        for &(pool, weight) in needs {
            self.used[usize::from(pool)] -= u64::from(weight);
        }
    }
}

/// Steps that need the same of the same pools. Only the first ready one of each shape is ever looked at, so a full
/// pool delays nobody who does not need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) needs: Vec<(u16, u32)>,
    /// A server for which all steps wait until an instant that it named.
    pub(super) gate: Option<u16>,
    /// Ready steps; those that are not ready any more are dropped when they come up.
    pub(super) ready: ReadyQueue,
}

/// When a run began, and what there was by then: a fork is limited by what it does itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Beginning {
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) steps: u32,
}

/// How many steps are in the states that decide what happens next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) ready: u32,
    pub(super) running: u32,
    pub(super) backoff: u32,
    pub(super) unknown: u32,
    pub(super) unapproved: u32,
    /// Whether any step has ever failed for good.
    pub(super) fatal: bool,
    pub(super) unreported: u32,
}

/// Tools by name, and the servers that are called.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    by_name: ById<String, u16>,
    /// By tool: the first one that calls the same server, which stands for it.
    servers: Vec<u16>,
    /// The same for the planner, which comes after all tools.
    pub(super) planner_server: u16,
}

impl Tools {
    pub(super) fn new(start: &RunStart) -> Self {
        let names = start.tools.iter().map(|tool| &tool.server).chain([&start.planner_server]);
        let mut first = BTreeMap::new();
        let mut servers: Vec<u16> = (0..)
            .zip(names)
            .map(|(index, name)| if name.is_empty() { index } else { *first.entry(name).or_insert(index) })
            .collect();
        let planner_server = servers.pop().unwrap_or_default();
        let by_name = start.tools.iter().zip(0..).map(|(tool, index)| (tool.name.clone(), index)).collect();
        Self { by_name, servers, planner_server }
    }

    /// The server that a tool calls, as an index.
    pub(super) fn server(&self, tool: u16) -> u16 {
        self.servers.get(usize::from(tool)).copied().unwrap_or(tool)
    }

    pub(super) fn index(&self, start: &RunStart, step: &Step) -> Option<u16> {
        let name = step.tool.as_deref().or(start.default_tool.as_deref())?;
        self.by_name.get(name).copied()
    }
}

/// Servers that have named an instant before which they want no call.
pub(super) type Gates = BTreeMap<u16, Gate>;

/// How far a server may be called that has turned a call away.
///
/// It has said when to come back, but not with how many calls: if all that wait came back at once, most of them would be
/// turned away once more. So from then on as many are made at a time as it did not turn away, and a little more with each
/// that succeeds, in the way of congestion avoidance (Jacobson, SIGCOMM 1988). At first only half as many: what a server
/// takes from one that has not called for a while says little of what it takes in the long run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// No call before.
    pub(super) until: Timestamp,
    /// The step that was told so last, or `NONE` if that was the planner.
    pub(super) by: StepNumber,
    /// Calls that are being made.
    running: u32,
    /// How many may be made at a time, in sixteenths of a call. Each that succeeds adds one.
    parts: u32,
    /// Whether the server was called again since the gate is there.
    is_reopened: bool,
    /// The time from one call to the next, in milliseconds, where one at a time is too much.
    spacing_ms: u64,
}

impl Gate {
    /// So many calls at a time at least after the first was turned away: it may have been the only one.
    const FIRST: u32 = 8;
    const PARTS: u32 = 16;
    /// By so much of itself the time between two calls becomes shorter with each that succeeds.
    const SHORTER: u64 = 32;

    /// One that is open, while so many calls are being made.
    pub(super) fn new(by: StepNumber, running: u32) -> Self {
        Self { until: Timestamp::ZERO, by, running, parts: u32::MAX, is_reopened: false, spacing_ms: 0 }
    }

    /// No call is to be made before.
    pub(super) fn close(&mut self, by: StepNumber, until: Timestamp) {
        if until >= self.until {
            (self.by, self.until) = (by, until);
        }
    }

    /// A call was turned away, for so long.
    pub(super) fn turn_away(&mut self, pause_ms: u64) {
        let carried = if self.is_reopened { self.running.max(1) } else { (self.running / 2).max(Self::FIRST) };
        self.parts = self.parts.min(carried.saturating_mul(Self::PARTS));
        if self.is_reopened && self.running == 0 {
            self.spacing_ms = pause_ms;
        }
    }

    /// A step that calls the server has another state.
    pub(super) fn change(&mut self, before: StepState, after: StepState, now: Timestamp) {
        if matches!(after, StepState::Running(_)) {
            self.running += 1;
            self.is_reopened = true;
            self.until = self.until.max(now.plus_millis(self.spacing_ms));
        }
        if matches!(before, StepState::Running(_)) {
            self.running = self.running.saturating_sub(1);
            if matches!(after, StepState::Succeeded | StepState::Expanded) {
                self.parts = self.parts.saturating_add(1);
                self.spacing_ms -= self.spacing_ms.div_ceil(Self::SHORTER);
            }
        }
    }

    pub(super) fn is_closed(&self, now: Timestamp) -> bool {
        let (calls, most) = self.calls();
        self.until > now || calls >= most
    }

    /// How many calls are being made, and how many may be at a time.
    pub(super) fn calls(&self) -> (u32, u32) {
        (self.running, self.parts / Self::PARTS)
    }

    /// All of it, for comparisons.
    pub(super) fn all(&self) -> (Timestamp, u32, u32, bool, u64) {
        (self.until, self.running, self.parts, self.is_reopened, self.spacing_ms)
    }
}
/// Attempts that were told to end, with the shape whose pools they still hold.
pub(super) type Aborting = BTreeMap<AttemptNumber, u32>;

/// The policy's pools.
pub(super) fn policy_pools(policy: &Policy) -> Pools {
    let mut pools = Pools::default();
    for (name, size) in &policy.pools {
        pools.size(name, *size);
    }
    pools
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Node>() == 64);
