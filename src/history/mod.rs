//! Runs that a journal knows: what happened, why, and the same again with a change.
//!
//! Everything here is read from the events of a run, so it is the same for a run that is over, one that was killed, and
//! one that another process is driving right now.
//!
//! ```
//! use plandag::history::History;
//! use plandag::journal::MemoryJournal;
//! use plandag::{Plan, Runner, Step, tool_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let journal = MemoryJournal::new();
//! let plan = Plan::from_iter([Step::new("a", "one"), Step::new("b", "one").depends_on(["a"])]);
//! let runner = Runner::new(plan).tool("one", tool_fn(|_| async { Ok(1) })).journal(journal.clone());
//! let run = runner.run("count").await?.run().clone();
//!
//! let history = History::load(&journal, &run).await?;
//! assert_eq!(history.revisions()[0].added, ["a", "b"]);
//! assert_eq!(history.why("b").unwrap()[1].to_string(), "it waited for `a`");
//! # Ok(())
//! # }
//! ```

mod decide;
mod export;
mod fork;
mod revision;
mod trace;
mod waits;
mod why;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::counted::counted;
use crate::error::JournalError;
use crate::event::{Output, RunEvent, RunEventKind, StepNumber};
use crate::journal::{Journal, RunId};
#[cfg(feature = "redact")]
use crate::redact::Secrets;
use crate::report::RunReport;
use crate::report::gather::{self, Parts};

pub use decide::{Told, cancel, decide};
pub(crate) use decide::{bounded, fits};
pub use fork::{Changes, Fork, ForkError};
pub use revision::{Because, RevisionChange};
use waits::Waits;
pub use why::{Awaited, Reason};

/// A run, read back from a journal.
#[derive(Debug)]
pub struct History {
    events: Vec<RunEvent>,
    report: RunReport,
    /// Made when it is first asked for.
    waits: OnceLock<Waits>,
    /// How many steps each one became that became a plan; made when it is first asked for, too.
    parts: OnceLock<HashMap<StepNumber, usize>>,
}

impl History {
    /// Reads a run.
    ///
    /// # Errors
    ///
    /// If the journal does not know the run or cannot be read, or if this cannot be the history of a run.
    pub async fn load(journal: &dyn Journal, run: &RunId) -> Result<Self, JournalError> {
        Self::of(journal.history(run).await?, journal, run).await
    }

    /// Reads a run, and takes secrets out of its texts: of those that it had when it was written, some may not have been
    /// known then.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    #[cfg(feature = "redact")]
    pub async fn load_redacted(journal: &dyn Journal, run: &RunId, secrets: &Secrets) -> Result<Self, JournalError> {
        let mut events = journal.history(run).await?;
        events.iter_mut().for_each(|event| secrets.redact_event(event));
        let mut history = Self::of(events, journal, run).await?;
        history.report.redact_answer(secrets);
        Ok(history)
    }

    async fn of(events: Vec<RunEvent>, journal: &dyn Journal, run: &RunId) -> Result<Self, JournalError> {
        let mut report = RunReport::from_history(run.clone(), &events)?;
        report.fetch_answer(journal).await?;
        Ok(Self { events, report, waits: OnceLock::new(), parts: OnceLock::new() })
    }

    /// What happened, in order.
    pub fn events(&self) -> &[RunEvent] {
        &self.events
    }

    /// What it came to, as far as it came.
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// What happened to the step that `id` stands for now, or stood for earlier.
    pub fn of_step(&self, id: &str) -> Vec<&RunEvent> {
        let scheduler = self.report.scheduler();
        let numbers: Vec<StepNumber> = self.numbers(id);
        let is_about = |event: &&RunEvent| match &event.kind {
            RunEventKind::AttemptDiscarded { attempt, .. } => {
                scheduler.step_of(*attempt).is_some_and(|step| numbers.contains(&step))
            }
            kind => kind.step().is_some_and(|step| numbers.contains(&step)),
        };
        self.events.iter().filter(is_about).collect()
    }

    /// All numbers that an id has had, in order.
    fn numbers(&self, id: &str) -> Vec<StepNumber> {
        let scheduler = self.report.scheduler();
        let is_named = |number: &StepNumber| scheduler.step(*number).is_some_and(|step| step.id == id);
        (0..scheduler.step_count()).filter(is_named).collect()
    }

    /// The output of a step, read from the journal if it is only there. None if there is none.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub async fn output(&self, journal: &dyn Journal, step: &str) -> Result<Option<Arc<Value>>, JournalError> {
        let scheduler = self.report.scheduler();
        let Some(output) = scheduler.current(step).and_then(|number| scheduler.output(number)) else {
            return Ok(None);
        };
        let (mut output, mut parts) = (output.clone(), Parts::default());
        parts.add(&output, scheduler);
        parts.fetch(journal, self.report.run()).await?;
        gather::fetch(&mut output, journal, self.report.run()).await?;
        Ok(parts.value(&output))
    }

    /// The beginning of a step's output, without reading what is only in the journal.
    pub fn preview(&self, step: StepNumber) -> Option<String> {
        match self.report.scheduler().output(step)? {
            Output::Inline(value) => Some(value.to_string()),
            Output::Stored(stored) => Some(format!("{} ... ({} bytes)", stored.preview, stored.bytes)),
            Output::Gathered(members) => Some(format!("the outputs of {}", counted(members.len(), "step"))),
        }
    }
}
