//! Language models as planner and as the one that does steps: over models that say what the test wants, and over real
//! connections to servers on this machine.

#![cfg(feature = "llm")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acting;
mod broken_plans;
mod finish;
mod kept;
mod planning;
mod providers;
mod revising;
mod schemas;
mod spending;
mod steps;
mod streams;
mod support;
mod troubles;
