//! A run as a page: what it shows, as data and as HTML.
//!
//! [`Snapshot`] is everything that a page shows of one run; an [`Update`] is what has changed since an earlier one.
//! [`run_html`] makes a page of a snapshot: one that a server gives out and that follows the run, or a file that holds
//! all it needs and asks nobody for anything. The table of steps and the picture are in the HTML itself, so they are
//! there before any script has run.
//!
//! Whatever a plan, a document or a tool says is text here and stays text: it is escaped in one place, and the script of
//! the page never makes HTML of it.
//!
//! ```
//! use plandag::history::History;
//! use plandag::journal::{Journal as _, MemoryJournal};
//! use plandag::page::{Mode, Snapshot, run_html};
//! use plandag::{Plan, Runner, Step, tool_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let journal = MemoryJournal::new();
//! let plan = Plan::from_iter([Step::new("a", "one"), Step::new("b", "one").depends_on(["a"])]);
//! let runner = Runner::new(plan).tool("one", tool_fn(|_| async { Ok(1) })).journal(journal.clone());
//! runner.run("count").await?;
//!
//! let summary = &journal.runs().await?[0];
//! let history = History::load(&journal, &summary.run).await?;
//! let report = run_html(&Snapshot::of(&history, summary), Mode::Report);
//! assert!(report.starts_with("<!doctype html>"));
//! # Ok(())
//! # }
//! ```

mod assets;
mod compare;
mod data;
mod list;
mod picture;
mod run;
mod snapshot;
mod table;
mod update;
mod words;

pub use assets::{ASSETS, Asset};
pub use compare::{Comparison, Timeline, comparisons_html};
pub use list::runs_html;
pub use picture::svg_of;
pub use run::{Mode, run_html};
pub use snapshot::{
    Call, Count, Drawing, DrawnEdge, DrawnStep, Head, LogLine, PlanEntry, Rest, Snapshot, StepEntry, Suggestion, Text,
};
pub use update::Update;
