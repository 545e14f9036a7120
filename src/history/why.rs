//! Why a step ran, waited, was skipped, was run again.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::event::{Graft, RunEventKind, SkipReason, StepNumber, Timestamp};
use crate::plan::StepId;
use crate::report::{Means, StepOutcome, StepReport};
use crate::scheduler::{Hindrance, Phase, Scheduler, StepState};

use super::{Because, History};

/// A wait for a slot that is shorter is not worth a word.
pub(super) const SHORT: Duration = Duration::from_millis(1);

/// One thing that decided about a step, in the order in which they happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It is in the plan.
    Planned {
        /// Which plan brought it in.
        revision: u32,
        /// Why there was such a plan.
        because: Because,
    },
    /// It came while a plan was being written that was not accepted so far.
    Drafted {
        /// Whether the plan may still come.
        is_open: bool,
    },
    /// It is part of what another step became.
    PartOf(StepId),
    /// Of all that it depends on, this step was the last to be done.
    WaitedFor(StepId),
    /// It was ready, and was not started at once.
    Queued {
        /// For how long.
        time: Duration,
        /// What kept it from starting: just before it did, and when it had become ready.
        behind: Vec<Hindrance>,
    },
    /// Its tool was called.
    Started {
        /// Which call of its tool.
        attempt: usize,
        /// When.
        at: Timestamp,
    },
    /// Its tool put calls off, as its server was not to be asked yet.
    PutOff {
        /// How many in a row.
        times: usize,
        /// Why, the last time.
        message: String,
    },
    /// A call failed.
    Failed {
        /// Which call of its tool.
        attempt: usize,
        /// Why.
        message: String,
    },
    /// It was done.
    Done {
        /// When.
        at: Timestamp,
    },
    /// It is over without an output.
    GaveUp {
        /// Why.
        message: String,
    },
    /// A step that it needs failed.
    SkippedBecause {
        /// The step that failed.
        failed: StepId,
        /// Why.
        message: String,
        /// The way from that step to this one, both ends included.
        way: Vec<StepId>,
    },
    /// Its own condition is false.
    ConditionFalse(String),
    /// It is left out of this fork.
    LeftOut,
    /// A later plan, or the end of the run, made it superfluous.
    Superseded,
    /// A later plan has another step of this id, which is run instead.
    Replaced,
    /// A later plan replaced it, and one after that has it again as it was before: nothing is run anew.
    TakenUp {
        /// Which plan has it again.
        revision: u32,
        /// Why there was such a plan.
        because: Because,
    },
    /// Nobody knows whether it took effect.
    Unknown,
    /// It would act on text from outside.
    Unapproved(StepId),
    /// It still waits for these.
    WaitsFor(Vec<Awaited>),
    /// It acts, and its plan is still being written.
    Held,
    /// It is ready, and this keeps it from starting.
    Ready(Vec<Hindrance>),
    /// It is tried again.
    TriedAgain {
        /// When.
        at: Timestamp,
    },
    /// It became so many steps, which are not all done.
    Expanded(usize),
    /// It could run, and the run does not go on.
    Stopped,
    /// It is running.
    Running,
}

/// A step that another one waits for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Awaited {
    /// Its id.
    pub step: StepId,
    /// How far it is. None if the run does not go on.
    pub state: Option<StepState>,
    /// When it should be done, if it is running and anything is known about that.
    pub due: Option<Timestamp>,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.step)?;
        match (self.state, self.due) {
            (Some(StepState::Running(_)), Some(due)) => write!(f, " (running, expected at {due})"),
            (Some(StepState::Running(_)), None) => f.write_str(" (running)"),
            (Some(StepState::Backoff(at)), _) => write!(f, " (tried again at {at})"),
            (Some(StepState::Waiting), _) => f.write_str(" (waiting)"),
            (Some(StepState::Ready), _) => f.write_str(" (ready)"),
            (Some(StepState::Expanded), _) => f.write_str(" (expanded)"),
            (Some(StepState::Unapproved), _) => f.write_str(" (waits for approval)"),
            (Some(StepState::Unknown(_)), _) => f.write_str(" (waits for a decision)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |steps: &[StepId], between: &str| {
            steps.iter().map(|step| format!("`{step}`")).collect::<Vec<_>>().join(between)
        };
        let all = |behind: &[Hindrance]| behind.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        match self {
            Self::Planned { revision, because } => write!(f, "plan {revision} has it: {because}"),
            Self::Drafted { is_open: true } => f.write_str("a plan that is being written has it"),
            Self::Drafted { is_open: false } => f.write_str("an answer that became no plan has it"),
            Self::PartOf(parent) => write!(f, "it is part of what `{parent}` became"),
            Self::WaitedFor(step) => write!(f, "it waited for `{step}`"),
            Self::Queued { time, behind } => {
                let behind = if behind.is_empty() { "its turn".to_owned() } else { all(behind) };
                write!(f, "it was ready and waited {:.3}s for {behind}", time.as_secs_f64())
            }
            Self::Started { attempt, at } => write!(f, "attempt {attempt} started at {at}"),
            Self::PutOff { times: 1, message } => write!(f, "it was put off: {message}"),
            Self::PutOff { times, message } => write!(f, "it was put off {times} times: {message}"),
            Self::Failed { attempt, message } => write!(f, "attempt {attempt} failed: {message}"),
            Self::Done { at } => write!(f, "it was done at {at}"),
            Self::GaveUp { message } => write!(f, "it failed for good: {message}"),
            Self::SkippedBecause { failed, message, way } => {
                write!(f, "it was skipped because `{failed}` failed: {message} ({})", names(way, " > "))
            }
            Self::ConditionFalse(when) => write!(f, "it was skipped because its condition is false: {when}"),
            Self::LeftOut => f.write_str("it is left out of this fork"),
            Self::Superseded => f.write_str("it was no longer needed"),
            Self::Replaced => f.write_str("a later plan replaced it"),
            Self::TakenUp { revision, because } => write!(f, "plan {revision} takes up its earlier result: {because}"),
            Self::Unknown => {
                f.write_str("it was interrupted while it acted, and nobody knows whether that took effect")
            }
            Self::Unapproved(from) => {
                write!(f, "it acts, text from outside reaches it (from `{from}`): it waits for approval")
            }
            Self::WaitsFor(steps) => {
                write!(f, "it waits for {}", steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::Held => f.write_str("it acts, and waits until its plan is written"),
            Self::Ready(behind) if behind.is_empty() => f.write_str("it is ready, and waits for its turn"),
            Self::Ready(behind) => write!(f, "it is ready, and waits for {}", all(behind)),
            Self::TriedAgain { at } => write!(f, "it is tried again at {at}"),
            Self::Expanded(1) => f.write_str("it became a step, which is not done yet"),
            Self::Expanded(steps) => write!(f, "it became {steps} steps, which are not all done yet"),
            Self::Stopped => f.write_str("it did not run before the run stopped"),
            Self::Running => f.write_str("it is running, as far as the record says"),
        }
    }
}

impl History {
    /// What decided about a step, in the order in which it happened, earlier definitions of the same id included. None
    /// if no plan of the run had such a step.
    pub fn why(&self, step: &str) -> Option<Vec<Reason>> {
        let numbers = self.numbers(step);
        let (now, last) = (self.now(&numbers)?, *numbers.last()?);
        let changes = self.revisions();
        let because = |revision: Option<u32>| {
            let change = changes.iter().find(|change| Some(change.revision) == revision);
            change.map_or(&Because::First, |change| &change.because)
        };
        let mut reasons = Vec::new();
        for number in numbers {
            let revision = self.revisions_with(number).next();
            reasons.extend(self.why_number(number, revision.unwrap_or_default(), because(revision), now));
        }
        if let Some(revision) = self.revisions_with(now).skip(1).last().filter(|_| now != last) {
            reasons.push(Reason::TakenUp { revision, because: because(Some(revision)).clone() });
        }
        Some(reasons)
    }

    /// Which of the numbers of an id is the step that it stands for now: the one in the plan, or the last if none is.
    fn now(&self, numbers: &[StepNumber]) -> Option<StepNumber> {
        let is_member = |number: &&StepNumber| self.report.step_by_number(**number).is_some_and(|step| step.member);
        numbers.iter().rev().find(is_member).or(numbers.last()).copied()
    }

    /// What decided about one definition of a step, which this revision brought in for this reason. Revision 0: none did.
    /// `now` is the number that its id stands for now.
    pub(crate) fn why_number(
        &self,
        number: StepNumber,
        revision: u32,
        because: &Because,
        now: StepNumber,
    ) -> Vec<Reason> {
        let Some(report) = self.report.step_by_number(number) else { return Vec::new() };
        let mut reasons = vec![match report.parent {
            Some(parent) => Reason::PartOf(self.id(parent)),
            None if revision == 0 => Reason::Drafted { is_open: self.is_draft(number) },
            None => Reason::Planned { revision, because: because.clone() },
        }];
        self.course(&report, &mut reasons);
        // What only an answer had that became no plan has been replaced by none.
        let was_never_planned = matches!(reasons[0], Reason::Drafted { .. }) && number > now;
        if number == now || was_never_planned {
            self.end(&report, &mut reasons);
        } else {
            reasons.push(Reason::Replaced);
        }
        reasons
    }

    /// Whether a step is in a plan that is not accepted yet, or inside of one that is.
    fn is_draft(&self, step: StepNumber) -> bool {
        let outermost = self.report.parents(Some(step)).last().unwrap_or(step);
        self.report.scheduler().step(outermost).is_some_and(|step| step.draft)
    }

    /// The plans that brought a step in, or back.
    fn revisions_with(&self, step: StepNumber) -> impl Iterator<Item = u32> {
        let has = move |graft: &Graft| {
            (graft.first..).take(graft.added.len()).any(|number| number == step) || graft.joined.contains(&step)
        };
        self.events.iter().filter_map(move |event| match &event.kind {
            RunEventKind::PlanAccepted { revision, graft, .. } if has(graft) => Some(*revision),
            _ => None,
        })
    }

    fn course(&self, step: &StepReport<'_>, reasons: &mut Vec<Reason>) {
        let dependencies = self.report.scheduler().dependencies(step.number).iter();
        let settled = |number: &StepNumber| {
            let dependency = self.report.step_by_number(*number)?;
            Some((dependency.settled?, dependency.id.clone()))
        };
        if let Some((_, last)) = dependencies.filter_map(settled).max_by_key(|(at, _)| *at)
            && !step.attempts.is_empty()
        {
            reasons.push(Reason::WaitedFor(last));
        }
        let (mut attempt, mut times) = (0, 0);
        for (place, call) in step.attempts.iter().enumerate() {
            if let Some(error) = call.error.filter(|_| call.was_deferred()) {
                times += 1;
                if step.attempts.get(place + 1).is_none_or(|next| !next.was_deferred()) {
                    reasons.push(Reason::PutOff { times: std::mem::take(&mut times), message: error.message.clone() });
                }
                continue;
            }
            if !call.is_call {
                continue;
            }
            attempt += 1;
            if call.queued >= SHORT {
                reasons.push(Reason::Queued { time: call.queued, behind: self.kept_back(call.number).to_vec() });
            }
            reasons.push(Reason::Started { attempt, at: call.started });
            if let Some(error) = call.error {
                reasons.push(Reason::Failed { attempt, message: error.message.clone() });
            }
        }
    }

    fn end(&self, step: &StepReport<'_>, reasons: &mut Vec<Reason>) {
        let message = || step.error.map_or_else(String::new, |error| error.message.clone());
        reasons.push(match step.outcome {
            StepOutcome::Succeeded => Reason::Done { at: step.settled.unwrap_or_default() },
            StepOutcome::Failed => Reason::GaveUp { message: message() },
            StepOutcome::Skipped(SkipReason::Condition) => {
                Reason::ConditionFalse(step.definition.when.clone().map_or_else(String::new, |when| when.to_string()))
            }
            StepOutcome::Skipped(SkipReason::LeftOut) => Reason::LeftOut,
            StepOutcome::Skipped(SkipReason::Failed(cause)) => Reason::SkippedBecause {
                failed: self.id(cause),
                message: self
                    .report
                    .step_by_number(cause)
                    .and_then(|cause| Some(cause.error?.message.clone()))
                    .unwrap_or_default(),
                way: self.way(cause, step.number),
            },
            StepOutcome::Superseded => Reason::Superseded,
            StepOutcome::Unknown => Reason::Unknown,
            StepOutcome::Unapproved => {
                let from = self.events.iter().rev().find_map(|event| match event.kind {
                    RunEventKind::ApprovalRequested { step: asked, from } if asked == step.number => Some(from),
                    _ => None,
                });
                Reason::Unapproved(from.map_or_else(|| StepId::from("?"), |from| self.id(from)))
            }
            StepOutcome::Cancelled => self.open(step.number),
        });
    }

    /// A step that is not settled.
    fn open(&self, number: StepNumber) -> Reason {
        let scheduler = self.report.scheduler();
        match scheduler.step(number).map(|step| step.state) {
            Some(StepState::Running(_)) => Reason::Running,
            Some(StepState::Waiting) => {
                let dependencies = scheduler.dependencies(number).iter();
                let open = dependencies.filter_map(|step| self.report.step_by_number(*step));
                let open: Vec<_> = open.filter(|step| step.settled.is_none()).map(|step| self.awaited(&step)).collect();
                if open.is_empty() && self.is_draft(number) { Reason::Held } else { Reason::WaitsFor(open) }
            }
            Some(StepState::Expanded) => {
                let parts = self.parts.get_or_init(|| parts(scheduler));
                Reason::Expanded(parts.get(&number).copied().unwrap_or_default())
            }
            Some(StepState::Backoff(until)) if scheduler.phase() == Phase::Running => Reason::TriedAgain { at: until },
            _ if scheduler.phase() == Phase::Running => {
                let now = self.events.last().map_or(Timestamp::ZERO, |last| last.at);
                Reason::Ready(scheduler.hindrances(number, now))
            }
            _ => Reason::Stopped,
        }
    }

    fn awaited(&self, step: &StepReport<'_>) -> Awaited {
        let scheduler = self.report.scheduler();
        let state = scheduler.step(step.number).map(|step| step.state);
        let state = state.filter(|_| scheduler.phase() == Phase::Running);
        // What the run itself has shown so far changes with each call: the whole page would with it.
        let estimate = step.definition.estimate_ms.map(Duration::from_millis);
        let expected = || Means::default().expected(estimate, step.tool, self.report.start());
        let due = || Some(step.attempts.last()?.started + expected()?.0);
        let is_running = matches!(state, Some(StepState::Running(_)));
        Awaited { step: step.id.clone(), state, due: if is_running { due() } else { None } }
    }

    /// How a failure reached a step: the numbers of a way only fall, so this ends.
    fn way(&self, cause: StepNumber, step: StepNumber) -> Vec<StepId> {
        let scheduler = self.report.scheduler();
        let mut way = vec![self.id(step)];
        let mut at = step;
        while at != cause {
            let leads = |dependency: &&StepNumber| {
                **dependency == cause
                    || scheduler
                        .step(**dependency)
                        .is_some_and(|step| step.state == StepState::Skipped(SkipReason::Failed(cause)))
            };
            match scheduler.dependencies(at).iter().find(leads) {
                Some(dependency) => at = *dependency,
                None => break,
            }
            way.push(self.id(at));
        }
        way.reverse();
        way
    }
}

/// How many steps each one became that became a plan.
fn parts(scheduler: &Scheduler) -> HashMap<StepNumber, usize> {
    let mut parts = HashMap::new();
    let members = (0..scheduler.step_count()).filter_map(|number| scheduler.step(number)).filter(|step| step.member);
    for parent in members.filter_map(|step| step.parent) {
        *parts.entry(parent).or_default() += 1;
    }
    parts
}
