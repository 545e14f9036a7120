//! The planner and the tool that need no model.
//!
//! [`OfflinePlanner`] plans by rule: one search for each cell of what the objective asks for ("compare A and B on X
//! and Y" has four), all at once, and a step that quotes the sentences that are to the point. It makes nothing up: an
//! answer holds what stands in the documents, with file and line, and says where they say nothing.

mod answer;
mod choose;
mod objective;
mod plan;
mod quote;
mod sentences;
mod words;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use quote::Quote;

use crate::error::PlanError;
use crate::event::PlanReason;
use crate::planner::{PlanReply, PlanRequest, PlanSink, Planner, Revision};
use crate::tool::Tool;

/// The name of the tool that quotes.
const QUOTE: &str = "quote";

/// The tools that the plans of [`OfflinePlanner`] use beside [`search_files`](crate::tools::SearchFiles), each under
/// its name.
pub fn tools() -> Vec<(&'static str, Arc<dyn Tool>)> {
    vec![(QUOTE, Arc::new(Quote::new()))]
}

/// Plans by rule. It answers the first request and declines all others: it knows no second way.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfflinePlanner;

impl OfflinePlanner {
    /// The planner.
    pub fn new() -> Self {
        Self
    }
}

impl Planner for OfflinePlanner {
    fn plan<'a>(&'a self, request: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(std::future::ready(match request.reason {
            PlanReason::First => first_plan(&request),
            _ => Ok(Revision::Declined.into()),
        }))
    }
}

fn first_plan(request: &PlanRequest) -> Result<PlanReply, PlanError> {
    let objective = objective::read(&request.objective).ok_or_else(|| PlanError::Planner {
        message: "the objective is empty: say what to find out, for example `Compare A and B on X and Y`".into(),
    })?;
    Ok(plan::plan(&request.objective, &objective, request.max_steps).into())
}
