//! The exit codes of the command, for programs that start it and for programs that do what it does.

use crate::error::{ModelProblem, PlanError};
use crate::event::{FailureReason, StepNumber, StopReason};

use super::run::{Ending, RunReport};

/// How `plandag` ends. The numbers are stable.
///
/// ```
/// use plandag::report::ExitCode;
///
/// assert_eq!(ExitCode::PlanInvalid.code(), 3);
/// assert_eq!(ExitCode::PlanInvalid.goes_on_with(), [""; 0], "nothing was run");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ExitCode {
    /// The run succeeded. Steps that say `on_failure: continue` may have failed; the summary names them.
    Success = 0,
    /// The run ended without its answer: a step that was needed failed, and no revision replaced it.
    StepsFailed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The plan cannot be run; nothing was.
    PlanInvalid = 3,
    /// The planner gave no plan that can be run; nothing of it was run but steps that were right and only read.
    NoPlan = 4,
    /// Something is missing that the run needs: a model, a folder, a key.
    Configuration = 5,
    /// A provider was not available, or refused for lack of quota, at every attempt.
    Provider = 6,
    /// The journal is locked, damaged, newer than this program, or cannot be written.
    Journal = 7,
    /// A limit of the run was reached: time, attempts, tokens, money.
    LimitReached = 8,
    /// A person has to decide, and could not be asked.
    Undecided = 9,
    /// A bug of this program.
    Internal = 70,
    /// Stopped by SIGINT, in an orderly way.
    Interrupted = 130,
    /// Stopped by SIGTERM, or by SIGHUP since its terminal was closed, in an orderly way.
    Terminated = 143,
}

impl ExitCode {
    /// All of them, by number.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::StepsFailed,
        Self::Usage,
        Self::PlanInvalid,
        Self::NoPlan,
        Self::Configuration,
        Self::Provider,
        Self::Journal,
        Self::LimitReached,
        Self::Undecided,
        Self::Internal,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// How a run ended. One that was cancelled counts as interrupted: only who cancelled it knows more.
    pub fn of(report: &RunReport) -> Self {
        match report.ending() {
            Ending::Succeeded => Self::Success,
            Ending::Failed(FailureReason::StepsFailed(failed)) => steps_failed(report, failed),
            Ending::Failed(FailureReason::NoPlan(offences)) => Self::of_offences(offences),
            Ending::Stopped(StopReason::Cancelled) => Self::Interrupted,
            Ending::Stopped(StopReason::Undecided) => Self::Undecided,
            Ending::Stopped(StopReason::Attempts | StopReason::Tokens | StopReason::Money | StopReason::Deadline) => {
                Self::LimitReached
            }
            Ending::Failed(FailureReason::Stalled(_)) | Ending::Unfinished => Self::Internal,
        }
    }

    /// How a command ends whose planner gave no plan for these reasons.
    pub fn of_offences(offences: &[PlanError]) -> Self {
        if offences.iter().any(|offence| matches!(offence, PlanError::NoExecutor { .. })) {
            return Self::Configuration;
        }
        offences.iter().find_map(|offence| elsewhere(offence.code())).unwrap_or(Self::NoPlan)
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "the run succeeded (steps it could do without may have failed, the summary says so)",
            Self::StepsFailed => "the run ended without its answer: a step that was needed failed, replans included",
            Self::Usage => "wrong usage: flags, arguments",
            Self::PlanInvalid => "the plan cannot be run; nothing was run",
            Self::NoPlan => "the planner gave no usable plan",
            Self::Configuration => "configuration or credentials missing",
            Self::Provider => "a provider was unavailable or rate limited at every attempt",
            Self::Journal => "the journal is locked, newer, damaged, or the disk is full",
            Self::LimitReached => "a limit was reached: time, attempts, tokens, money",
            Self::Undecided => "needs a decision and cannot ask",
            Self::Internal => "internal error: a bug of ours",
            Self::Interrupted => "stopped by SIGINT (Ctrl-C)",
            Self::Terminated => "stopped by SIGTERM, or since its terminal was closed",
        }
    }

    /// The commands that go on with a run that began and ended so, if its journal was kept. One that is over, as its steps
    /// failed, is not resumed: what failed is retried, as a new run. Where a provider let nobody in, it is over if it had
    /// a plan, and its planner is asked again if it had none.
    pub const fn goes_on_with(self) -> &'static [&'static str] {
        match self {
            Self::Success | Self::Usage | Self::PlanInvalid => &[],
            Self::StepsFailed => &["retry"],
            Self::Configuration | Self::Provider => &["retry", "resume"],
            Self::NoPlan
            | Self::Journal
            | Self::LimitReached
            | Self::Undecided
            | Self::Internal
            | Self::Interrupted
            | Self::Terminated => &["resume"],
        }
    }
}

/// The exit code of an error that is not the run's own: of what it was configured with, or of a provider.
fn elsewhere(code: &str) -> Option<ExitCode> {
    match code.split('.').next() {
        Some("config") => Some(ExitCode::Configuration),
        Some("provider") => Some(ExitCode::Provider),
        _ => None,
    }
}

/// What is wrong with a provider as a whole, and not with one of its answers.
const CLOSED: [ModelProblem; 7] = [
    ModelProblem::MissingKey,
    ModelProblem::WrongKey,
    ModelProblem::UnknownModel,
    ModelProblem::Unreachable,
    ModelProblem::NotAnApi,
    ModelProblem::RateLimited,
    ModelProblem::NoQuota,
];

/// Steps that failed only because the provider of their model lets nobody in, or is not there, say nothing about the
/// plan.
fn steps_failed(report: &RunReport, failed: &[StepNumber]) -> ExitCode {
    let code = |number: &StepNumber| {
        let error = report.step_by_number(*number)?.error?;
        error.code().filter(|code| CLOSED.iter().any(|problem| problem.code() == *code)).and_then(elsewhere)
    };
    let mut codes = failed.iter().map(code);
    match codes.next() {
        Some(Some(first)) if codes.all(|code| code == Some(first)) => first,
        _ => ExitCode::StepsFailed,
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}
