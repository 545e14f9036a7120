//! A DAG-parallel task scheduler for plan-and-execute agents.
//!
//! ```text
//! objective -> plan -> dag -> ready set -> attempts -> outcomes -> (replan) -> answer
//! ```
//!
//! A [`Planner`] turns an objective into a [`Plan`]: steps that say what they depend on. The plan is checked as a
//! [`Dag`]; a bad one is sent back with every offence. Each step is launched the moment its own inputs are ready, as an
//! attempt of a [`Tool`]; finished results are handed to the steps that refer to them. A step that fails for good skips
//! only what depends on it, and the planner is asked for a revision, a capped number of times. A tool may return a plan
//! instead of a value, which is carried out in the step's place.
//!
//! ```
//! use plandag::{Plan, Runner, Step, StepError, tool_fn};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan::from_iter([
//!     Step::new("one", "number").args(json!({ "n": 1 })),
//!     Step::new("two", "number").args(json!({ "n": 2 })),
//!     Step::new("sum", "add").args(json!({ "a": "${one}", "b": "${two}" })),
//! ]);
//! let report = Runner::new(plan)
//!     .tool("number", tool_fn(|cx| async move { Ok(cx.args["n"].clone()) }))
//!     .tool("add", tool_fn(|cx| async move {
//!         let number = |name: &str| cx.args[name].as_i64().ok_or(StepError::bad_input("not a number"));
//!         Ok(number("a")? + number("b")?)
//!     }))
//!     .run("add two numbers")
//!     .await?;
//! assert_eq!(report.answer()?, 3);
//! # Ok(())
//! # }
//! ```
//!
//! The rules are in one place, the [`Scheduler`]: a state machine without IO, clock or tasks. What moves it is a
//! driver: the [`Runner`] on tokio, [`simulate`] in virtual time, or one of your own (see [`Scheduler`]). Every change
//! of a run is a [`RunEvent`]; a [`journal`] keeps them, and a run that was interrupted goes on from there.
//!
//! | feature | adds |
//! |---|---|
//! | `cli` (default) | the `plandag` command, and everything below |
//! | `plan-file`, `yaml` | plans from JSON and YAML files, with the place of every problem |
//! | `tools` | `search_files`, `read_file`, `write_file`, `calculate`, `sleep` |
//! | `fetch` | the tool that reads pages of the internet |
//! | `web-search` | the tool that asks a search engine |
//! | `mcp` | the tools of MCP servers, on Unix |
//! | `shell` | the tool that runs programs, on Unix |
//! | `offline` | a planner and an answer that need no model |
//! | `llm` | language models as planner, and as the one that does steps without a tool |
//! | `page` | a run as a page, followed live or as one file |
//! | `schema` | the JSON Schema of plans |
//! | `sqlite` | a journal in an SQLite file: runs outlive the process |
//! | `web` | the live page of runs, and the HTTP API under it |
//! | `redact` | secrets taken out of what is written |

mod counted;
mod cut;
mod dag;
mod depth;
pub mod duration;
mod error;
mod event;
pub mod history;
#[cfg(any(feature = "web-search", feature = "llm", all(feature = "mcp", unix)))]
mod http_client;
pub mod journal;
#[cfg(feature = "llm")]
pub mod llm;
#[cfg(any(feature = "llm", all(feature = "mcp", unix)))]
mod lossy;
#[cfg(feature = "offline")]
pub mod offline;
#[cfg(feature = "page")]
pub mod page;
mod plan;
#[cfg(feature = "plan-file")]
mod plan_file;
mod planner;
mod policy;
#[cfg(feature = "redact")]
mod redact;
mod reference;
pub mod report;
#[cfg(any(feature = "fetch", feature = "llm", all(feature = "mcp", unix)))]
mod retry_after;
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
#[cfg(feature = "web")]
pub mod web;

pub use counted::counted;
pub use dag::Dag;
pub use error::{JournalError, ModelProblem, PlanError, RunError, StepError, StepErrorKind};
pub use event::*;
pub use plan::{OnFailure, OnInterrupt, Patch, Plan, Step, StepId};
#[cfg(feature = "plan-file")]
pub use plan_file::{Place, PlanFile, PlanFileError, PlanFormat, PlanProblem, PlanProblems, PlanSource};
pub use planner::{
    Expansion, FailedStep, FinishedStep, PlanReply, PlanRequest, PlanSink, Planner, Revision, planner_fn,
};
pub use policy::{Limits, Order, Policy, ReplanWhen, Retry};
#[cfg(feature = "redact")]
pub use redact::Secrets;
pub use report::{NoAnswer, NoOutput, RunReport};
pub use runner::{DefaultTool, Events, LiveStep, RunHandle, RunView, Runner};
pub use scheduler::{Hindrance, Phase, Scheduler, StepState, StepView};
pub use tool::{Effect, Hold, Inputs, Room, StepContext, Tool, ToolFn, ToolOutput, ToolSpec, ToolTimeout, tool_fn};

/// The example in the README is compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
