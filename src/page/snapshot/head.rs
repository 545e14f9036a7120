//! The run as a whole.

use std::time::{Duration, SystemTime};

use crate::history::History;
use crate::journal::RunSummary;
use crate::report::{Ending, NoAnswer};
use crate::scheduler::Phase;

use super::super::words::is_over;
use super::gather::duration;
use super::rest::rest;
use super::{Count, Head, StepEntry, micros, preview};

pub(super) fn head(history: &History, summary: &RunSummary, steps: &[StepEntry]) -> Head {
    let report = history.report();
    let policy = report.scheduler().policy();
    let limits = &policy.limits;
    let members: Vec<&StepEntry> = steps.iter().filter(|step| step.member).collect();
    let mut counts: Vec<Count> = Vec::new();
    for step in &members {
        match counts.iter_mut().find(|count| count.state == step.state) {
            Some(count) => count.steps += 1,
            None => counts.push(Count { state: step.state, steps: 1 }),
        }
    }
    Head {
        run: summary.run.clone(),
        objective: preview::objective(&report.start().objective),
        state: summary.state(),
        problem: match (report.ending(), report.answer()) {
            (Ending::Unfinished | Ending::Succeeded, _) | (_, Ok(_) | Err(NoAnswer::Unfinished)) => String::new(),
            (_, Err(error)) => preview::message(&error.to_string()).text,
        },
        answer: report.answer().ok().map(preview::answer),
        started_unix_ms: unix(summary.started),
        updated_unix_ms: unix(summary.updated),
        elapsed_us: micros(report.ended()),
        begun_us: micros(report.ended()).saturating_sub(duration(report.wall_time())),
        done: members.iter().filter(|step| is_over(step.state)).count(),
        total: members.len(),
        counts,
        calls: report.attempt_count(),
        usage: report.usage(),
        limit_attempts: limits.attempts,
        limit_tokens: limits.tokens,
        limit_micro_usd: limits.micro_usd,
        limit_us: limits.deadline_ms.map(|limit| limit.saturating_mul(1_000)),
        max_parallel: report.slots(),
        revision: report.revisions(),
        replans: report.replans(),
        work_us: duration(report.work() + report.paused()),
        critical_us: duration(report.critical_path().length),
        bound_us: duration(report.bound()),
        rest: (summary.state() == "running" && report.scheduler().phase() == Phase::Running)
            .then(|| rest(history))
            .flatten(),
    }
}

/// Milliseconds since 1970; 0 for what a clock that goes wrong says was earlier.
fn unix(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
