//! What is known of a plan before it runs, and of a run after it: pictures, critical paths, exit codes.

mod drawing;
mod exit_code;
mod graph;

pub use exit_code::ExitCode;
pub use graph::Graph;
