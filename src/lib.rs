//! A DAG-parallel task scheduler for plan-and-execute agents.

mod dag;
mod error;
mod event;
pub mod journal;
#[cfg(feature = "offline")]
pub mod offline;
mod plan;
#[cfg(feature = "plan-file")]
mod plan_file;
mod planner;
mod policy;
mod reference;
pub mod report;
mod runner;
mod scheduler;
#[cfg(feature = "schema")]
mod schema;
pub mod simulate;
mod strict;
mod suggest;
mod tool;
#[cfg(feature = "tools")]
pub mod tools;

pub use dag::Dag;
pub use error::{JournalError, PlanError, RunError, StepError, StepErrorKind};
pub use event::*;
pub use plan::{OnFailure, OnInterrupt, Patch, Plan, Step, StepId};
#[cfg(feature = "plan-file")]
pub use plan_file::{Place, PlanFile, PlanFileError, PlanFormat, PlanProblem, PlanProblems, PlanSource};
pub use planner::{FailedStep, FinishedStep, PlanReply, PlanRequest, PlanSink, Planner, Revision, planner_fn};
pub use policy::{Limits, Policy, ReplanWhen, Retry};
pub use report::{NoAnswer, NoOutput, RunReport};
pub use runner::{DefaultTool, Events, LiveStep, RunHandle, RunView, Runner};
pub use scheduler::{Phase, Scheduler, StepState, StepView};
pub use tool::{Effect, Hold, Inputs, StepContext, Tool, ToolFn, ToolOutput, ToolSpec, ToolTimeout, tool_fn};

/// The example in the README is compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
