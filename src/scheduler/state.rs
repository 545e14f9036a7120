//! What the scheduler knows: steps by number, scopes, requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::dag::ById;
use crate::error::StepError;
use crate::event::{AnswerFrom, AttemptNumber, Grafted, PlanReason, RequestNumber, RunStart, StepNumber, Timestamp};
use crate::plan::Step;

use super::StepState;

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
        self.state.is_settled()
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
    /// Whether any of them became a plan.
    pub(super) has_expanded: bool,
}

impl Name {
    /// Of an id that stands for nothing.
    pub(super) const NOTHING: Self = Self { current: NONE, finished: NONE, has_expanded: false };
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

/// When a run began, and what there was by then: a fork is limited by what it does itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Beginning {
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) steps: u32,
    /// A fork that nobody has gone on with: what it begins with counts as taken over.
    pub(super) is_forked: bool,
}

/// How many steps are in the states that decide what happens next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) ready: u32,
    pub(super) running: u32,
    pub(super) backoff: u32,
    pub(super) unknown: u32,
    pub(super) unapproved: u32,
    /// Not settled.
    pub(super) open: u32,
    /// Whether any step has ever failed for good.
    pub(super) fatal: bool,
    /// Of the run's own steps: failed for good, skipped for that, or dropped. They take up no room.
    pub(super) gone: u32,
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

/// Attempts that were told to end, with the shape whose pools they still hold.
pub(super) type Aborting = BTreeMap<AttemptNumber, u32>;

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Node>() == 64);
