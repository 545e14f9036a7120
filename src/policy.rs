//! How a run is carried out: caps, retries, limits, and when the planner is asked again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::strict;

/// How often a step is tried, and how long it waits between tries.
///
/// The wait before try `n + 1` is `min(base_ms * 2^(n-1), max_ms)` times a number drawn uniformly from 0 to 1
/// ("full jitter", M. Brooker, *Exponential Backoff And Jitter*, 2015). A server's Retry-After is waited for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Retry {
    /// Tries in all, the first included; at least 1. If there is more than one, a server that is busy and says when to come
    /// back is tried up to 8 times.
    #[serde(deserialize_with = "strict::at_least_one")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_attempts: u32,
    /// The first back-off, in milliseconds.
    pub base_ms: u64,
    /// The longest back-off, in milliseconds.
    pub max_ms: u64,
}

impl Retry {
    /// One try, no retry.
    pub const NEVER: Self = Self { max_attempts: 1, base_ms: 500, max_ms: 30_000 };

    /// Tries in all where a server that is only busy has said when to come back: it is asked more patiently, unless
    /// one try was to be all.
    pub const BUSY_ATTEMPTS: u32 = 8;

    /// The longest that a server may want to be left alone, in milliseconds: it is asked again after an hour, whatever it
    /// says. Whoever says a century may stop no tool for that long.
    pub const MAX_PAUSE_MS: u64 = 60 * 60 * 1_000;

    /// How many tries there are in all, now that one ended with this error.
    pub(crate) fn attempts_after(&self, error: &StepError) -> u32 {
        match error.retry_after_ms {
            Some(_) if self.max_attempts > 1 => self.max_attempts.max(Self::BUSY_ATTEMPTS),
            _ => self.max_attempts,
        }
    }

    /// `max_attempts` tries with the usual back-off.
    pub const fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts, ..Self::NEVER }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::attempts(3)
    }
}

/// When the planner is asked for a revision after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplanWhen {
    /// At the first step that failed for good, while independent branches go on. That a provider lets nobody in
    /// ([`ModelProblem::is_lasting`](crate::ModelProblem::is_lasting)) is nothing that a plan could mend.
    #[default]
    FirstFailure,
    /// When nothing more can move, with all failures at once.
    Stuck,
    /// Never for the run's own plan. Tools that [have another plan](crate::ToolSpec::replans) for what their step became
    /// are asked, as always.
    Inside,
}

/// What a run may use up. Reaching a limit stops the run; a stopped run can be resumed with higher ones. What a fork took
/// over does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Steps that are done or may still be, over every revision and expansion. One that failed, was skipped for that, or was
    /// dropped does not count any more: revisions have a limit of their own.
    pub steps: u32,
    /// Dependencies of one plan.
    pub edges: u32,
    /// Calls of tools in all, as [`RunReport::attempt_count`](crate::RunReport::attempt_count) counts them.
    pub attempts: Option<u32>,
    /// Model tokens in all, in and out.
    pub tokens: Option<u64>,
    /// Money in all, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
    /// Time on the run's own clock, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// How deep expansions may nest; never deeper than 64.
    pub depth: u32,
}

impl Limits {
    /// How deep expansions may nest at most. So deep nest their outputs, and much that handles JSON recurses.
    pub(crate) const MAX_DEPTH: u32 = 64;

    /// No limits, for plans that are trusted.
    pub const NONE: Self = Self {
        steps: u32::MAX - 1,
        edges: u32::MAX - 1,
        attempts: None,
        tokens: None,
        micro_usd: None,
        deadline_ms: None,
        depth: Self::MAX_DEPTH,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 10_000, edges: 100_000, depth: 8, ..Self::NONE }
    }
}

/// Which of several ready steps starts first, where there is no room for all of them. The lower number comes first on
/// ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// The one with the longest remaining path, by what its steps are expected to take.
    ///
    /// Where steps have to wait for one another's slots, and their paths alone would leave slots empty at the end, it is
    /// the one that has to start first for the plan to end as soon as it can: the plan is laid out on its slots from its
    /// end backwards. That is done when a plan is accepted, where expectations differ and no pool has a size.
    #[default]
    CriticalPath,
    /// The one with the most steps after it, one after the other.
    Hops,
    /// The one that became ready first.
    Fifo,
    /// A random one, drawn from this seed.
    Random(u64),
}

/// Everything that a run's owner decides about how it is carried out. Recorded in the run's first event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Attempts that may run at once; at least 1.
    pub max_parallel: u32,
    /// Sizes of named pools; a pool that is not named is unlimited.
    pub pools: BTreeMap<String, u32>,
    /// The retry of steps that do not name their own.
    pub retry: Retry,
    /// The attempt timeout of steps and tools that do not name their own, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The longest a planner may be silent, in milliseconds: without an answer, and without a step of one. What it would
    /// have answered counts as rejected then.
    pub planner_timeout_ms: Option<u64>,
    /// Requests for a revision, after failures and for reviews together.
    pub max_replans: u32,
    /// How often the planner may correct a rejected answer to one request.
    pub max_corrections: u32,
    /// When the planner is asked for a revision after a failure.
    pub replan_when: ReplanWhen,
    /// Whether the planner is asked, after the last step, to answer or to add steps.
    pub review: bool,
    /// What the run may use up.
    pub limits: Limits,
    /// How long running steps may go on after the run was cancelled, in milliseconds.
    pub grace_ms: u64,
    /// Which of several ready steps starts first.
    pub order: Order,
    /// How often a ready step that needs more than is free may be passed by others before its pools are reserved.
    ///
    /// So once it ranks highest among the ready steps that need the same, at most this many steps that rank lower and
    /// take of one of its pools start before it. Steps that rank higher still go first, and so does whatever needs none
    /// of its pools.
    pub patience: u32,
    /// Interruptions (crashes under it) after which a step has failed.
    pub max_interruptions: u32,
    /// Tools that may act on text from outside unasked. A step of any other tool that acts waits for a person's
    /// approval if output of an [untrusted](crate::ToolSpec::untrusted) tool has reached it.
    pub allow: BTreeSet<String>,
    /// Whether somebody is there to approve steps while the run goes on. It waits for them then; otherwise, and where only
    /// steps are left whose outcome is unknown, it stops.
    pub attended: bool,
    /// What the program that carries the run out wants to find again when it takes it up anew. Unlike
    /// [`RunStart::labels`](crate::RunStart::labels), it may be another thing each time. Nothing of it is looked at here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_parallel: 64,
            pools: BTreeMap::new(),
            retry: Retry::default(),
            timeout_ms: Some(600_000),
            planner_timeout_ms: Some(600_000),
            max_replans: 2,
            max_corrections: 2,
            replan_when: ReplanWhen::default(),
            review: false,
            limits: Limits::default(),
            grace_ms: 5_000,
            order: Order::default(),
            patience: 16,
            max_interruptions: 5,
            allow: BTreeSet::new(),
            attended: false,
            labels: BTreeMap::new(),
        }
    }
}
