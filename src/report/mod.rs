//! What is known of a plan before it runs, and of a run after it: pictures, critical paths, exit codes.

mod critical;
mod drawing;
mod exit_code;
pub(crate) mod gather;
mod graph;
mod record;
mod run;
mod step;
mod what_if;

pub use critical::CriticalPath;
pub use exit_code::ExitCode;
pub use graph::Graph;
pub(crate) use record::Record;
pub use run::{Ending, NoAnswer, NoOutput, RunReport};
pub use step::{AttemptReport, StepOutcome, StepReport};
