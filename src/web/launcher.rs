//! Who carries out what a page asks for.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::event::RunStart;
use crate::journal::{Owner, RunId};
use crate::plan_file::PlanFile;

use super::Problem;

/// Something to run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// What is to be done.
    pub task: Task,
    /// Values of `${inputs.name}`.
    pub inputs: BTreeMap<String, Value>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// An objective, to be planned.
    Objective(String),
    /// A plan, whose steps are not checked yet.
    Plan(Box<PlanFile>),
}

/// Starts runs for a [`Server`](super::Server), and goes on with them. The server itself only reads the journal, so it
/// does not matter whether a run goes on in this process or in another one.
///
/// What runs may do is settled here, and not by who asks for them.
pub trait Launcher: Send + Sync {
    /// Starts a run, and says which it is once it is in the journal.
    ///
    /// # Errors
    ///
    /// If it cannot be started: what is wrong with the plan, or what is missing.
    fn start<'a>(&'a self, job: Job) -> BoxFuture<'a, Result<RunId, Problem>>;

    /// Goes on with a run that nobody drives. Returns once it is claimed.
    ///
    /// # Errors
    ///
    /// If it cannot be gone on with.
    fn resume<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<(), Problem>>;

    /// Refuses a run that could not be gone on with, before another one is made from it.
    ///
    /// # Errors
    ///
    /// If what it was started with is not known, or not understood.
    fn check(&self, start: &RunStart) -> Result<(), Problem>;

    /// Asks the process that drives a run to stop it; with `now`, to end what is running, too. Does not wait for that.
    ///
    /// # Errors
    ///
    /// If that process cannot be told.
    fn cancel<'a>(&'a self, run: &'a RunId, owner: Owner, now: bool) -> BoxFuture<'a, Result<(), Problem>>;
}
