//! Puts a snapshot together.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{RunEventKind, StepNumber};
use crate::history::{Because, History, RevisionChange};
use crate::journal::RunSummary;
use crate::plan::StepId;
use crate::report::{AttemptReport, RunReport, StepReport};
use crate::scheduler::{Phase, StepState};
use crate::simulate::{Change, Saving};

use super::{Call, PlanEntry, Snapshot, StepEntry, Suggestion, Text, drawn, head, log, micros, preview};

/// More suggestions are not shown of each kind.
const MOST_SUGGESTIONS: usize = 6;

pub(super) fn snapshot(history: &History, summary: &RunSummary) -> Snapshot {
    let report = history.report();
    let is_driven = summary.owner.is_some();
    let changes = history.revisions();
    let most = preview::bytes_of_step(report.scheduler().step_count() as usize);
    let mut steps: Vec<StepEntry> = report.steps().map(|step| entry(report, &step, most, is_driven)).collect();
    let now = now(&steps);
    let order = parents_first(&steps);
    let since = since(history, &steps, &order);
    for ((step, log), since) in steps.iter_mut().zip(log::logs(history.events(), report)).zip(since) {
        let change = changes.iter().find(|change| change.revision == since);
        let because = change.map_or(&Because::First, |change| &change.because);
        let why = history.why_number(step.number, since, because, now[&step.id]);
        step.why = why.iter().map(|reason| preview::message(&reason.to_string()).text).collect();
        (step.log, step.since) = (log, since);
    }
    let (layout, unfolded) = drawn::drawings(history, &steps, &order);
    Snapshot {
        head: head::head(history, summary, &steps),
        plans: changes.into_iter().map(plan).collect(),
        critical: report.critical_path().steps,
        faster: if is_driven { Vec::new() } else { suggestions(report) },
        layout,
        unfolded,
        steps,
    }
}

/// A step without what is read from the events: its log, its plan, and why.
fn entry(report: &RunReport, step: &StepReport<'_>, most: usize, is_driven: bool) -> StepEntry {
    let scheduler = report.scheduler();
    let state = scheduler.step(step.number).map(|step| step.state);
    let running = match state {
        Some(StepState::Running(attempt)) if is_driven => Some(attempt),
        _ => None,
    };
    let call = |call: &AttemptReport<'_>| Call {
        queued_us: duration(call.queued),
        started_us: micros(call.started),
        ended_us: (running != Some(call.number)).then(|| micros(call.ended)),
        error: call.error.map(|error| preview::message(&error.message)),
        usage: call.usage,
    };
    StepEntry {
        number: step.number,
        id: step.id.clone(),
        tool: step.tool.to_owned(),
        state: state.map_or("waiting", |state| word(state, scheduler.phase(), is_driven)),
        parent: step.parent,
        member: step.member,
        after: scheduler.dependencies(step.number).to_vec(),
        description: preview::text(&step.definition.description, most),
        arguments: if step.definition.args.is_null() {
            Text::default()
        } else {
            preview::json(&step.definition.args, most)
        },
        when: step.definition.when.as_ref().map(ToString::to_string),
        since: 0,
        outside: step.outside.cloned(),
        because: step.because.cloned(),
        calls: step.attempts.iter().map(call).collect(),
        retry_at_us: match state {
            Some(StepState::Backoff(until)) if is_driven => Some(micros(until)),
            _ => None,
        },
        settled_us: step.settled.map(micros),
        error: step.error.map(|error| preview::message(&error.message)),
        output: scheduler.output(step.number).map(|output| preview::output(output, most)),
        why: Vec::new(),
        log: Vec::new(),
    }
}

/// The state of a step in a word.
fn word(state: StepState, phase: Phase, is_driven: bool) -> &'static str {
    match state {
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Skipped(_) => "skipped",
        StepState::Superseded => "superseded",
        StepState::Unknown(_) => "unknown",
        StepState::Unapproved => "unapproved",
        // The run was answered without it.
        _ if phase == Phase::Finished => "superseded",
        _ if phase == Phase::Stopped => "cancelled",
        StepState::Running(_) if !is_driven => "interrupted",
        StepState::Waiting => "waiting",
        StepState::Ready => "ready",
        StepState::Running(_) => "running",
        StepState::Backoff(_) => "retrying",
        StepState::Expanded => "expanded",
    }
}

/// All steps, each after the one whose expansion it is part of. By number they are not in that order: what a fork keeps of
/// an expansion is older than the step that it is part of now.
fn parents_first(steps: &[StepEntry]) -> Vec<StepNumber> {
    let mut parts: HashMap<Option<StepNumber>, Vec<StepNumber>> = HashMap::new();
    for step in steps {
        parts.entry(step.parent).or_default().push(step.number);
    }
    let mut order = parts.remove(&None).unwrap_or_default();
    let mut next = 0;
    while let Some(&step) = order.get(next) {
        order.extend(parts.remove(&Some(step)).unwrap_or_default());
        next += 1;
    }
    order
}

/// Which plan brought each step in. What a step has become came with it.
fn since(history: &History, steps: &[StepEntry], order: &[StepNumber]) -> Vec<u32> {
    let mut since = vec![0; steps.len()];
    for event in history.events() {
        let RunEventKind::PlanAccepted { revision, graft, .. } = &event.kind else { continue };
        for step in (graft.first..).take(graft.added.len()).chain(graft.joined.iter().copied()) {
            if let Some(since) = since.get_mut(step as usize).filter(|since| **since == 0) {
                *since = *revision;
            }
        }
    }
    for &step in order {
        if let Some(parent) = steps[step as usize].parent {
            since[step as usize] = since[parent as usize];
        }
    }
    since
}

fn plan(change: RevisionChange) -> PlanEntry {
    PlanEntry {
        revision: change.revision,
        at_us: micros(change.at),
        because: change.because.to_string(),
        added: change.added,
        again: change.again,
        dropped: change.dropped,
        kept: change.kept,
        usage: change.usage,
    }
}

/// What would have made the run faster, and the dependencies that seem to be unnecessary.
fn suggestions(report: &RunReport) -> Vec<Suggestion> {
    let what_if = report.what_if();
    let (faster, unnecessary) = what_if.told(MOST_SUGGESTIONS);
    faster.into_iter().chain(unnecessary).map(suggestion).collect()
}

fn suggestion(saving: &Saving) -> Suggestion {
    Suggestion {
        change: saving.change.to_string(),
        unnecessary: matches!(saving.change, Change::Independent { .. }),
        saves_us: duration(saving.saves),
        step: match &saving.change {
            Change::Halve { step } | Change::Independent { step, .. } => Some(step.clone()),
            Change::Slots { .. } | Change::Pool { .. } => None,
        },
    }
}

pub(super) fn duration(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The number that each id stands for now: the last one in the plan, or the last if none is.
fn now(steps: &[StepEntry]) -> HashMap<StepId, StepNumber> {
    let (members, others): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.member);
    others.into_iter().chain(members).map(|step| (step.id.clone(), step.number)).collect()
}
