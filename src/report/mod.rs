//! What is known of a plan before it runs, and of a run after it: pictures, critical paths, exit codes.

mod drawing;
mod graph;

pub use graph::Graph;
