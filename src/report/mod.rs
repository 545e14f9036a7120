//! What is known of a plan before it runs, and of a run after it: pictures, critical paths, exit codes.

mod critical;
mod drawing;
mod escape;
mod exit_code;
mod forecast;
pub(crate) mod gather;
mod graph;
mod layout;
mod record;
mod run;
mod step;
mod svg;
mod what_if;

pub use critical::CriticalPath;
#[cfg(feature = "page")]
pub(crate) use escape::Escaped;
pub use exit_code::ExitCode;
pub use forecast::{Basis, Forecast, Means, OpenStep, Progress};
pub use graph::Graph;
#[cfg(feature = "page")]
pub(crate) use layout::{BOX_HEIGHT, BOX_WIDTH, Layout};
pub(crate) use record::Record;
pub use run::{Ending, NoAnswer, NoOutput, RunReport};
pub use step::{AttemptReport, StepOutcome, StepReport};
#[cfg(feature = "page")]
pub(crate) use svg::{HATCHED, HATCHING, Labelled, fitting, svg};
