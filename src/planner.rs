//! The trait of everything that turns an objective into a plan, and revises it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::error::{PlanError, StepError};
use crate::event::{Output, PlanReason, RequestNumber, RunStart, Usage};
use crate::plan::{Patch, Plan, Step, StepId};
use crate::tool::ToolSpec;

/// Turns an objective into a plan, and a failure into a revision.
///
/// A [`Plan`] is itself a planner: it answers the first request and declines every revision. [`planner_fn`] makes
/// one of an async closure.
pub trait Planner: Send + Sync {
    /// Answers a request. Steps that are ready before the whole plan is may be sent to `sink` as they come; those
    /// that only read are started at once.
    ///
    /// # Errors
    ///
    /// A [`PlanError`] counts as a rejected answer: the planner is asked again, up to the run's cap, unless it is of a kind
    /// that asking again cannot change, such as [`Declined`](PlanError::Declined).
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>>;

    /// The name of the server that it asks, as [`ToolSpec::server`]. Empty: it has one of its own, or none.
    fn server(&self) -> &str {
        ""
    }
}

/// What a planner is asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanRequest {
    /// The number of the request in its run.
    pub request: RequestNumber,
    /// The revision that the answer will be; the first plan is 1.
    pub revision: u32,
    /// What the run is for.
    pub objective: String,
    /// The values of `${inputs.name}`.
    pub inputs: BTreeMap<String, Value>,
    /// Why it is asked.
    pub reason: PlanReason,
    /// The tools a plan may use. They do not change during a run.
    pub tools: Arc<[ToolSpec]>,
    /// The tool that does steps which name none, if there is one.
    pub default_tool: Option<String>,
    /// The plan as it stands, steps that are done included. Empty before the first plan.
    pub plan: Plan,
    /// What is finished, with outputs.
    pub finished: Vec<FinishedStep>,
    /// The failures this request is about.
    pub failed: Vec<FailedStep>,
    /// The answer that was not usable, if this request is about one and it was kept.
    pub rejected_answer: Option<Arc<str>>,
    /// Steps that are skipped because of a failure.
    pub skipped: Vec<StepId>,
    /// The most steps a plan may have that repeats all of [`plan`](Self::plan) that has not failed. What is done makes no
    /// room for others by being left out.
    pub max_steps: u32,
    /// The most dependencies a plan may have.
    pub max_edges: u32,
    /// Whether only [`Revision::Answer`] is of use, because no replans are left, or no room for another step.
    pub must_answer: bool,
}

impl PlanRequest {
    /// The first request of a run, to have an objective planned without running it.
    pub fn first(start: &RunStart) -> Self {
        Self {
            request: 0,
            revision: 1,
            objective: start.objective.clone(),
            inputs: start.inputs.clone(),
            reason: PlanReason::First,
            tools: start.tools.clone().into(),
            default_tool: start.default_tool.clone(),
            plan: Plan::new(),
            finished: Vec::new(),
            failed: Vec::new(),
            rejected_answer: None,
            skipped: Vec::new(),
            max_steps: start.policy.limits.steps,
            max_edges: start.policy.limits.edges,
            must_answer: false,
        }
    }
}

/// A finished step, as the planner sees it.
#[derive(Clone, Debug)]
pub struct FinishedStep {
    /// Its id.
    pub id: StepId,
    /// Its definition.
    pub step: Arc<Step>,
    /// Its output; none if it failed under `on_failure: continue`, or its condition was false.
    pub output: Option<Output>,
}

/// A failed step, as the planner sees it.
#[derive(Clone, Debug)]
pub struct FailedStep {
    /// Its id.
    pub id: StepId,
    /// Its definition.
    pub step: Arc<Step>,
    /// Why it failed.
    pub error: Arc<StepError>,
}

/// What a step became, and how far that came. The ids are those that its steps have among each other.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Expansion {
    /// The plan.
    pub plan: Plan,
    /// What of it is finished, with outputs.
    pub finished: Vec<FinishedStep>,
    /// What failed for good.
    pub failed: Vec<FailedStep>,
    /// Steps that are skipped because of that.
    pub skipped: Vec<StepId>,
}

/// What a planner answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Revision {
    /// A whole plan: unfinished steps that it does not mention are dropped.
    Plan(Plan),
    /// A change to the plan: everything else stays.
    Patch(Patch),
    /// The run's answer: no more steps are needed.
    Answer(Value),
    /// There is no other plan.
    Declined,
    /// No answer yet: it is to be asked again after so many milliseconds, and nobody calls its
    /// [server](Planner::server) before. The eighth time in a row, it is an answer that is rejected for this error.
    PutOff {
        /// What keeps it from an answer.
        error: PlanError,
        /// For how long.
        pause_ms: u64,
    },
    /// No plan: everything that is wrong with the answer.
    Unusable(Vec<PlanError>),
}

/// What a planner answers, and what the answer cost.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanReply {
    /// The answer.
    pub revision: Revision,
    /// What it cost.
    pub usage: Usage,
    /// The text that the answer was read from, if it was: kept where the answer is not usable, for the next request and
    /// for whoever wants to look into it.
    pub text: Option<Arc<str>>,
}

impl From<Revision> for PlanReply {
    fn from(revision: Revision) -> Self {
        Self { revision, usage: Usage::default(), text: None }
    }
}

impl From<Plan> for PlanReply {
    fn from(plan: Plan) -> Self {
        Revision::Plan(plan).into()
    }
}

impl From<Patch> for PlanReply {
    fn from(patch: Patch) -> Self {
        Revision::Patch(patch).into()
    }
}

/// Takes steps from a planner that is still writing.
#[derive(Clone)]
pub struct PlanSink {
    send: Arc<dyn Fn(Step) + Send + Sync>,
    count: Arc<dyn Fn(Usage) + Send + Sync>,
}

impl PlanSink {
    /// A sink that hands every step to `send`.
    pub fn new(send: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self { send: Arc::new(send), count: Arc::new(drop) }
    }

    /// The same, with what is [lost](Self::lost) handed to `count`.
    #[must_use]
    pub fn counting(self, count: impl Fn(Usage) + Send + Sync + 'static) -> Self {
        Self { count: Arc::new(count), ..self }
    }

    /// A sink for callers that wait for the whole plan.
    pub fn ignore() -> Self {
        Self::new(drop)
    }

    /// Hands on one finished step.
    pub fn step(&self, step: Step) {
        (self.send)(step);
    }

    /// Says what was used for an answer that does not come any more, since the planner is dropped while it makes it. What
    /// an answer has cost that comes is [part of it](PlanReply::usage).
    pub fn lost(&self, usage: Usage) {
        (self.count)(usage);
    }
}

impl std::fmt::Debug for PlanSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlanSink")
    }
}

impl Planner for Plan {
    fn plan<'a>(&'a self, request: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        let revision = match request.reason {
            PlanReason::First => Revision::Plan(self.clone()),
            _ => Revision::Declined,
        };
        Box::pin(std::future::ready(Ok(revision.into())))
    }
}

impl Plan {
    /// A planner that begins with this plan, and leaves every revision of it to `planner`.
    ///
    /// ```
    /// use plandag::{Patch, Plan, PlanRequest, Runner, Step, StepError, planner_fn, tool_fn};
    /// use serde_json::json;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let plan = Plan::from_iter([Step::new("a", "get").args(json!({ "from": "nowhere" }))]);
    /// let elsewhere = planner_fn(|_: PlanRequest| async {
    ///     Ok(Plan::from_iter([Step::new("a", "get").args(json!({ "from": "elsewhere" }))]))
    /// });
    /// let get = tool_fn(|cx| async move {
    ///     if cx.args["from"] == "nowhere" { Err(StepError::permanent("gone")) } else { Ok("here") }
    /// });
    /// let report = Runner::new(plan.revised_by(elsewhere)).tool("get", get).run("get it").await?;
    /// assert_eq!((report.revisions(), report.answer()?), (2, &json!("here")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn revised_by(self, planner: impl Planner) -> impl Planner {
        Revised { plan: self, planner }
    }
}

struct Revised<P> {
    plan: Plan,
    planner: P,
}

impl<P: Planner> Planner for Revised<P> {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        // What is wrong with the plan itself is for its author to mend.
        if request.revision == 1 { self.plan.plan(request, sink) } else { self.planner.plan(request, sink) }
    }

    fn server(&self) -> &str {
        self.planner.server()
    }
}

impl<P: Planner + ?Sized> Planner for Arc<P> {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        (**self).plan(request, sink)
    }

    fn server(&self) -> &str {
        (**self).server()
    }
}

impl<P: Planner + ?Sized> Planner for Box<P> {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        (**self).plan(request, sink)
    }

    fn server(&self) -> &str {
        (**self).server()
    }
}

/// Makes a [`Planner`] of an async closure.
pub fn planner_fn<F, Fut, R>(f: F) -> impl Planner
where
    F: Fn(PlanRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, PlanError>> + Send + 'static,
    R: Into<PlanReply>,
{
    struct PlannerFn<F>(F);

    impl<F, Fut, R> Planner for PlannerFn<F>
    where
        F: Fn(PlanRequest) -> Fut + Send + Sync,
        Fut: Future<Output = Result<R, PlanError>> + Send + 'static,
        R: Into<PlanReply>,
    {
        fn plan<'a>(&'a self, request: PlanRequest, _: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
            let reply = (self.0)(request);
            Box::pin(async move { reply.await.map(Into::into) })
        }
    }

    PlannerFn(f)
}
