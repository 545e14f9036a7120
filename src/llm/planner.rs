//! A language model as the planner.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use super::ask::Ask;
use super::error::ModelError;
use super::plan_text::{Draft, End, PlanReader, PlanTextFormat};
use super::prompts::Prompts;
use super::{Model, ModelReply, ReplyEnd, text};
use crate::dag::Dag;
use crate::error::{ModelProblem, PlanError};
use crate::event::{PlanReason, RunStart, Usage};
use crate::plan::{Plan, Step};
use crate::planner::{Expansion, PlanReply, PlanRequest, PlanSink, Planner, Revision};
use crate::policy::{Limits, Policy};
use crate::tool::ToolOutput;

/// How often a provider is asked that does not answer.
const TRIES: u32 = 5;
/// How often an address is tried at which there is nothing.
const TRIES_TO_REACH: u32 = 3;
/// The first pause between tries; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// A planner that has a language model write the plan, and hands on each step the moment it is written.
///
/// What the model answers is checked as it comes. An answer that is cut off, does not keep to the format, or is no plan
/// that could run is sent back with every offence; it is never made to fit.
///
/// ```no_run
/// use plandag::Runner;
/// use plandag::llm::{LlmPlanner, ModelOptions, Provider, Server, StepModel};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = Provider::new(Server::at("http://localhost:8080/v1"))?;
/// let model = provider.model("qwen3", ModelOptions::default());
/// let report = Runner::new(LlmPlanner::new(model.clone()))
///     .default_tool(StepModel::new(model))
///     .run("Compare three ways to store time series")
///     .await?;
/// println!("{}", report.answer()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LlmPlanner {
    model: Arc<dyn Model>,
    prompts: Arc<Prompts>,
    format: PlanTextFormat,
    answer_tool: Option<Arc<str>>,
    hidden: BTreeSet<String>,
}

impl LlmPlanner {
    /// A planner that asks this model.
    pub fn new(model: impl Model + 'static) -> Self {
        Self {
            model: Arc::new(model),
            prompts: Arc::default(),
            format: PlanTextFormat::default(),
            answer_tool: None,
            hidden: BTreeSet::new(),
        }
    }

    /// Sets what the model is told.
    #[must_use]
    pub fn prompts(mut self, prompts: impl Into<Arc<Prompts>>) -> Self {
        self.prompts = prompts.into();
        self
    }

    /// Sets the form in which the model writes plans.
    #[must_use]
    pub fn format(mut self, format: PlanTextFormat) -> Self {
        self.format = format;
        self
    }

    /// Has the last step of a plan, where it puts results together, done by this tool instead of the default one.
    #[must_use]
    pub fn answer_tool(mut self, tool: impl Into<Arc<str>>) -> Self {
        self.answer_tool = Some(tool.into());
        self
    }

    /// Leaves tools of the run out of what the model is told: each costs tokens, and not each is of use to it.
    #[must_use]
    pub fn hide<T: Into<String>>(mut self, tools: impl IntoIterator<Item = T>) -> Self {
        self.hidden.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Has an objective planned without running it, and has answers that are no plan corrected.
    ///
    /// # Errors
    ///
    /// What is wrong with the last answer, or with the model.
    pub async fn plan_alone(&self, start: &RunStart) -> Result<(Plan, Usage), Vec<PlanError>> {
        let plan = |revision| match revision {
            Revision::Plan(plan) => Ok(plan),
            _ => Err(vec![PlanError::Declined]),
        };
        self.until_usable(PlanRequest::first(start), start.policy.max_corrections, plan).await
    }

    /// Has another plan made for what a step became, or an answer without one. As [`plan_alone`](Self::plan_alone).
    ///
    /// # Errors
    ///
    /// What is wrong with the last answer, or with the model.
    pub async fn revise_alone(
        &self,
        start: &RunStart,
        expansion: Expansion,
    ) -> Result<(ToolOutput, Usage), Vec<PlanError>> {
        let request = PlanRequest {
            revision: 2,
            reason: PlanReason::Failures,
            plan: expansion.plan.clone(),
            finished: expansion.finished.clone(),
            failed: expansion.failed.clone(),
            skipped: expansion.skipped.clone(),
            ..PlanRequest::first(start)
        };
        let failed: BTreeSet<_> = expansion.failed.iter().map(|step| step.id.clone()).collect();
        let outcome = |revision| {
            let plan = match revision {
                Revision::Answer(answer) => return Ok(answer.into()),
                Revision::Plan(plan) => plan,
                Revision::Patch(patch) => patch.apply_to(&expansion.plan, &failed)?,
                Revision::Declined | Revision::Unusable(_) => return Err(vec![PlanError::Declined]),
            };
            Dag::check(&plan, start)?;
            Ok(plan.into())
        };
        self.until_usable(request, start.policy.max_corrections, outcome).await
    }

    /// Asks until `take` has no offence to find.
    async fn until_usable<T>(
        &self,
        mut request: PlanRequest,
        max_corrections: u32,
        take: impl Fn(Revision) -> Result<T, Vec<PlanError>>,
    ) -> Result<(T, Usage), Vec<PlanError>> {
        let mut usage = Usage::default();
        let mut corrections = 0;
        loop {
            let reply = self.ask(request.clone(), PlanSink::ignore()).await.map_err(|error| vec![error])?;
            usage += reply.usage;
            let offences = match reply.revision {
                Revision::Unusable(offences) => offences,
                revision => match take(revision) {
                    Ok(taken) => return Ok((taken, usage)),
                    Err(offences) => offences,
                },
            };
            if corrections == max_corrections {
                return Err(offences);
            }
            corrections += 1;
            request.rejected_answer = reply.text;
            request.reason = PlanReason::Rejected(Arc::new(offences));
        }
    }

    async fn ask(&self, request: PlanRequest, sink: PlanSink) -> Result<PlanReply, PlanError> {
        let asked = Ask { prompts: &self.prompts, format: self.format, hidden: &self.hidden }.request(&request);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut writing = Writing::new(self, &request, &sink);
            let answered = self.model.stream(asked.clone(), &mut |piece| writing.push(piece)).await;
            let error = match answered {
                Ok(reply) => return self.reply(&request, writing, reply),
                Err(error) if !writing.answer.is_empty() => return Ok(writing.broken_off(error)),
                Err(error) => error,
            };
            let most = if error.problem == ModelProblem::Unreachable { TRIES_TO_REACH } else { TRIES };
            if !error.problem.may_pass() || tries >= most {
                return Err(given_up(error, tries).into());
            }
            tracing::warn!(error = %error, tries, "the planner does not answer");
            tokio::time::sleep(pause(tries, error.retry_after_ms)).await;
        }
    }

    fn reply(&self, request: &PlanRequest, writing: Writing<'_>, reply: ModelReply) -> Result<PlanReply, PlanError> {
        let ModelReply { usage, end: ended, text, .. } = reply;
        if ended == ReplyEnd::Refused {
            let message = format!("model `{}` refuses to plan this{}", self.model.name(), text::said(&text));
            return Err(PlanError::Model { problem: ModelProblem::Refused, message });
        }
        let (end, mut draft, answer) = writing.finish();
        let reply = |revision| PlanReply { revision, usage, text: Some(answer.into()) };
        if let Some(message) = cut_off(&end, ended, draft.steps.len()) {
            return Ok(reply(Revision::Unusable(vec![PlanError::Truncated { message }])));
        }
        if !draft.offences.is_empty() {
            return Ok(reply(Revision::Unusable(draft.offences)));
        }
        if let Some(tool) = &self.answer_tool {
            draft.answer_with(tool);
        }
        Ok(reply(self.revision(request, end, draft).unwrap_or_else(Revision::Unusable)))
    }

    fn revision(&self, request: &PlanRequest, end: End, draft: Draft<'_>) -> Result<Revision, Vec<PlanError>> {
        let malformed = |message: &str| vec![PlanError::Malformed { message: message.to_owned() }];
        match end {
            End::Answer(_) | End::Done if request.revision == 1 => Err(malformed("an answer instead of a plan")),
            End::Answer(answer) if answer.is_empty() => Err(malformed("an answer without a word in it")),
            End::Answer(answer) => Ok(Revision::Answer(Value::String(answer))),
            // The same plan once more: nothing is missing.
            End::Done if request.reason == PlanReason::Review && request.failed.is_empty() => {
                Ok(Revision::Plan(request.plan.clone()))
            }
            End::Done => Err(malformed("it says that nothing is missing, but steps have failed")),
            End::Whole | End::CutOff if request.revision > 1 => Ok(Revision::Patch(draft.into_patch())),
            End::Whole | End::CutOff => {
                let plan = draft.into_plan();
                check(request, &plan)?;
                Ok(Revision::Plan(plan))
            }
        }
    }
}

impl Planner for LlmPlanner {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(self.ask(request, sink))
    }
}

impl std::fmt::Debug for LlmPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmPlanner")
            .field("model", &self.model.name())
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// One answer while it is being written.
struct Writing<'a> {
    reader: PlanReader<'a>,
    sink: &'a PlanSink,
    /// Whether the last step may be for another tool, so that a step which waits anyway is held back until the next
    /// one shows that it is not the last.
    holds_back: bool,
    held: Option<Arc<Step>>,
    answer: String,
}

impl<'a> Writing<'a> {
    fn new(planner: &LlmPlanner, request: &'a PlanRequest, sink: &'a PlanSink) -> Self {
        let holds_back = planner.answer_tool.is_some();
        let reader = PlanReader::new(planner.format, request);
        Self { reader, sink, holds_back, held: None, answer: String::new() }
    }

    fn push(&mut self, piece: &str) {
        self.answer.push_str(piece);
        let Self { reader, sink, holds_back, held, .. } = self;
        reader.push(piece, |step| {
            if let Some(earlier) = held.take() {
                sink.step(Step::clone(&earlier));
            }
            if *holds_back && !step.depends_on.is_empty() {
                *held = Some(Arc::clone(step));
            } else {
                sink.step(Step::clone(step));
            }
        });
    }

    fn finish(self) -> (End, Draft<'a>, String) {
        let (end, draft) = self.reader.finish(|_| {});
        (end, draft, self.answer)
    }

    /// The connection broke, or the provider did, after the answer had begun.
    fn broken_off(self, error: ModelError) -> PlanReply {
        let (_, draft, answer) = self.finish();
        let message = format!("{} after {} complete steps", error.message, draft.steps.len());
        let offences = vec![PlanError::Truncated { message }];
        PlanReply { revision: Revision::Unusable(offences), usage: error.usage, text: Some(answer.into()) }
    }
}

/// Why a plan is not whole, if it is not: it counts only with its end mark and a clean finish.
fn cut_off(end: &End, reply: ReplyEnd, steps: usize) -> Option<String> {
    match (end, reply) {
        (_, ReplyEnd::Length) => {
            Some(format!("at the output limit, after {steps} complete steps: write fewer or shorter ones"))
        }
        (_, ReplyEnd::Other) => {
            Some(format!("the provider ended it, and does not say why, after {steps} complete steps"))
        }
        (End::CutOff, _) => Some(format!("no end mark after {steps} complete steps")),
        _ => None,
    }
}

/// Checks a first plan as the run will: one that is planned without being run is checked by nobody else.
fn check(request: &PlanRequest, plan: &Plan) -> Result<(), Vec<PlanError>> {
    let limits = Limits { steps: request.max_steps, ..Limits::default() };
    let start = RunStart {
        objective: String::new(),
        inputs: request.inputs.clone(),
        policy: Policy { limits, ..Policy::default() },
        tools: request.tools.to_vec(),
        default_tool: request.default_tool.clone(),
        labels: Default::default(),
    };
    Dag::check(plan, &start).map(drop)
}

fn given_up(error: ModelError, tries: u32) -> ModelError {
    match tries {
        1 => error,
        tries => ModelError { message: format!("{} (asked {tries} times)", error.message), ..error },
    }
}

/// The pause before the next try: what the server wants, else twice as long each time, with chance in it so that many
/// who wait do not all come back at once.
fn pause(tries: u32, retry_after_ms: Option<u64>) -> Duration {
    match retry_after_ms {
        Some(millis) => Duration::from_millis(millis),
        None => (PAUSE * 2_u32.saturating_pow(tries - 1)).mul_f64(fastrand::f64()),
    }
}
