//! A language model as the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use super::ask::Ask;
use super::carried::Progress;
use super::dropped::Owed;
use super::error::ModelError;
use super::plan_text::{Draft, End, PlanReader, PlanTextFormat};
use super::prompts::Prompts;
use super::{Model, ModelReply, ModelRequest, PlanTool, ReplyEnd, WhenDropped, text};
use crate::counted::counted;
use crate::dag::Dag;
use crate::error::{ModelProblem, PlanError, StepError};
use crate::event::{PlanReason, RunStart, Usage};
use crate::plan::{Patch, Plan, Step};
use crate::planner::{Expansion, PlanReply, PlanRequest, PlanSink, Planner, Revision};
use crate::policy::{Limits, Policy};
use crate::tool::ToolOutput;

/// How often a provider is asked that does not answer.
pub(super) const TRIES: u32 = 5;
/// How often an address is tried at which there is nothing.
const TRIES_TO_REACH: u32 = 3;
/// The first pause between tries; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// A pause that a planner makes since its model cannot be asked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannerWait {
    /// How long it waits.
    pub pause: Duration,
    /// What it waits for, for people.
    pub why: String,
}

/// What one does whose provider wants no call now, or has not answered.
#[derive(Clone, Copy)]
enum Patience {
    /// Waits, and asks again: it keeps nobody from anything.
    Waits,
    /// Says so at once: the run knows better how to wait, and another process goes on with that. A step, which holds a slot
    /// and has tries of its own, says so also if no pause is named.
    GoesBack,
}

/// How far a step has come with its plan.
#[derive(Default)]
pub(super) struct Corrections {
    /// How often another answer was asked for.
    count: u32,
    /// What is wrong with the last answer, if it is known already.
    offences: Option<Arc<Vec<PlanError>>>,
    last_answer: Option<Arc<str>>,
}

impl Corrections {
    /// Begins with what the run has refused of the last answer, unless something was wrong with it before.
    pub(super) fn begin(&mut self, refused: Option<Vec<PlanError>>) {
        if self.offences.is_none() {
            self.count = 0;
            self.offences = refused.map(Arc::new);
        }
    }
}

impl Progress for Corrections {
    fn is_paid_for(&self) -> bool {
        self.last_answer.is_some() || self.offences.is_some()
    }
}

/// Why there is no plan.
pub(super) enum Unplanned {
    /// The last answer is none, for these reasons.
    Unusable(Vec<PlanError>),
    /// There is not a word of an answer.
    NotAnswered(ModelError),
    /// It may not be asked for a better one.
    LimitReached(StepError),
}

/// Where what a plan costs is written down.
pub(super) struct Books<'a> {
    /// Is told what a call cost, and says whether there may be another one.
    pub(super) spent: &'a mut (dyn FnMut(Usage) -> Result<(), StepError> + Send),
    /// Is told what a call cost that is dropped.
    pub(super) sink: PlanSink,
}

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
    /// Whether it plans for a step, whose plan has no steps that are planned in turn.
    for_a_step: bool,
    on_wait: Arc<dyn Fn(PlannerWait) + Send + Sync>,
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
            for_a_step: false,
            on_wait: Arc::new(drop),
        }
    }

    pub(super) fn for_a_step(self, for_a_step: bool) -> Self {
        Self { for_a_step, ..self }
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

    /// The same, with the last step done as all others.
    pub(super) fn without_answer_tool(&self) -> Self {
        Self { answer_tool: None, ..self.clone() }
    }

    /// Leaves tools of the run out of what the model is told: each costs tokens, and not each is of use to it.
    #[must_use]
    pub fn hide<T: Into<String>>(mut self, tools: impl IntoIterator<Item = T>) -> Self {
        self.hidden.extend(tools.into_iter().map(Into::into));
        self
    }

    /// Is told when the planner waits until it may ask its model, or ask it again. A provider can want an hour.
    #[must_use]
    pub fn on_wait(mut self, tell: impl Fn(PlannerWait) + Send + Sync + 'static) -> Self {
        self.on_wait = Arc::new(tell);
        self
    }

    /// Has an objective planned without running it, and has answers that are no plan corrected: the plan, or what is
    /// wrong with the last answer or with the model, and what that cost.
    pub async fn plan_alone(&self, start: &RunStart) -> (Result<Plan, Vec<PlanError>>, Usage) {
        let mut usage = Usage::default();
        let mut spent = |spent| {
            usage += spent;
            Ok(())
        };
        let (request, mut none) = (PlanRequest::first(start), Corrections::default());
        let books = Books { spent: &mut spent, sink: PlanSink::ignore() };
        let planned = self.until_usable(request, start, Patience::Waits, &mut none, first_plan, books).await;
        let plan = planned.map_err(|unplanned| match unplanned {
            Unplanned::Unusable(offences) => offences,
            Unplanned::NotAnswered(error) => vec![error.into()],
            Unplanned::LimitReached(error) => vec![PlanError::Planner { message: error.message }],
        });
        (plan, usage)
    }

    /// Has an objective planned by a step; the books are told what each call cost, also if nothing comes of it.
    pub(super) async fn plan_for(
        &self,
        start: &RunStart,
        corrections: &mut Corrections,
        books: Books<'_>,
    ) -> Result<Plan, Unplanned> {
        let request = PlanRequest::first(start);
        self.until_usable(request, start, Patience::GoesBack, corrections, first_plan, books).await
    }

    /// Has another plan made for what a step became, or an answer without one.
    pub(super) async fn revise_for(
        &self,
        start: &RunStart,
        expansion: Expansion,
        corrections: &mut Corrections,
        books: Books<'_>,
    ) -> Result<ToolOutput, Unplanned> {
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
        let run = RunStart { inputs: self.filled_with(&start.inputs), ..start.clone() };
        let outcome = |revision| {
            let plan = match revision {
                Revision::Answer(answer) => return Ok(answer.into()),
                Revision::Plan(plan) => plan,
                Revision::Patch(patch) => patch.apply_to(&expansion.plan, &failed)?,
                Revision::Declined | Revision::Unusable(_) | Revision::PutOff { .. } => {
                    return Err(vec![PlanError::Declined]);
                }
            };
            Dag::check(&plan, &run)?;
            Ok(plan.into())
        };
        self.until_usable(request, start, Patience::GoesBack, corrections, outcome, books).await
    }

    /// Asks until `take` has no offence to find.
    async fn until_usable<T>(
        &self,
        mut request: PlanRequest,
        start: &RunStart,
        patience: Patience,
        corrections: &mut Corrections,
        take: impl Fn(Revision) -> Result<T, Vec<PlanError>>,
        books: Books<'_>,
    ) -> Result<T, Unplanned> {
        loop {
            if let Some(offences) = &corrections.offences {
                request.reason = PlanReason::Rejected(Arc::clone(offences));
                request.rejected_answer = corrections.last_answer.clone();
            }
            let reply = match patience {
                Patience::Waits => self.ask(&request, &books.sink, patience).await,
                Patience::GoesBack => match self.ask_once(&request, &books.sink, false).await {
                    Ok(reply) => reply,
                    Err(error) => {
                        let _ = (books.spent)(error.usage);
                        return Err(Unplanned::NotAnswered(error));
                    }
                },
            };
            let may_go_on = (books.spent)(reply.usage);
            (corrections.offences, corrections.last_answer) = (None, reply.text);
            let mut offences = match reply.revision {
                Revision::Unusable(offences) => offences,
                revision => match take(revision) {
                    Ok(taken) => return Ok(taken),
                    Err(offences) => offences,
                },
            };
            if self.for_a_step {
                offences.iter_mut().for_each(of_a_step);
            }
            if corrections.count == start.policy.max_corrections || offences.iter().any(PlanError::is_final) {
                return Err(Unplanned::Unusable(offences));
            }
            may_go_on.map_err(Unplanned::LimitReached)?;
            let failed = broken_off(&offences);
            corrections.count += 1;
            corrections.offences = Some(Arc::new(offences));
            if let (Patience::GoesBack, Some(error)) = (patience, failed) {
                return Err(Unplanned::NotAnswered(error));
            }
        }
    }

    /// Asks the model, again where that may help. What fails has been paid for, too, so it is a reply as any other.
    async fn ask(&self, request: &PlanRequest, sink: &PlanSink, patience: Patience) -> PlanReply {
        let (mut tries, mut owed) = (0, Owed { sink, usage: Usage::default() });
        // Who may be asked again at once is asked after a pause of ours all the same.
        let named = |error: &ModelError| match patience {
            Patience::Waits => None,
            Patience::GoesBack => error.retry_after_ms.filter(|pause_ms| *pause_ms > 0),
        };
        if let PlanReason::Rejected(offences) = &request.reason
            && let Some(error) = broken_off(offences)
            && named(&error).is_none()
        {
            self.wait(1, error).await;
        }
        let reply = loop {
            tries += 1;
            let error = match self.ask_in_turn(request, sink).await {
                Ok(reply) => break reply,
                Err(error) => error,
            };
            owed.usage += error.usage;
            if let Some(pause_ms) = named(&error).filter(|_| error.problem.may_pass()) {
                break Revision::PutOff { error: error.into(), pause_ms }.into();
            }
            let most = if error.problem == ModelProblem::Unreachable { TRIES_TO_REACH } else { TRIES };
            if !error.problem.may_pass() || tries >= most {
                break Revision::Unusable(vec![given_up(error, tries).into()]).into();
            }
            tracing::warn!(error = %error, tries, "the planner does not answer");
            self.wait(tries, error).await;
        };
        owed.usage += reply.usage;
        PlanReply { usage: std::mem::take(&mut owed.usage), ..reply }
    }

    /// Leaves the provider alone for a while.
    async fn wait(&self, tries: u32, error: ModelError) {
        let pause = pause(tries, error.retry_after_ms);
        (self.on_wait)(PlannerWait { pause, why: error.message });
        tokio::time::sleep(pause).await;
    }

    /// Asks the model once, as soon as its provider takes a call.
    async fn ask_in_turn(&self, request: &PlanRequest, sink: &PlanSink) -> Result<PlanReply, ModelError> {
        match self.ask_once(request, sink, false).await {
            Err(error) if error.is_deferred => {
                let pause = Duration::from_millis(error.retry_after_ms.unwrap_or_default());
                (self.on_wait)(PlannerWait { pause, why: error.message });
                self.ask_once(request, sink, true).await
            }
            asked => asked,
        }
    }

    /// Asks the model once. An error says that there is not a word of an answer.
    async fn ask_once(&self, request: &PlanRequest, sink: &PlanSink, wait: bool) -> Result<PlanReply, ModelError> {
        let ask = Ask { prompts: &self.prompts, format: self.format, hidden: &self.hidden };
        let asked = ModelRequest { wait, when_dropped: WhenDropped::of_planner(sink), ..ask.request(request) };
        let mut writing = Writing::new(self, request, sink);
        match self.model.stream(asked, &mut |piece| writing.push(piece)).await {
            Ok(reply) => Ok(self.reply(request, writing, reply)),
            Err(error) if !writing.answer.is_empty() => Ok(writing.broken_off(error)),
            Err(error) => Err(error),
        }
    }

    fn reply(&self, request: &PlanRequest, mut writing: Writing<'_>, reply: ModelReply) -> PlanReply {
        let ModelReply { usage, end: ended, text, finish_reason, .. } = reply;
        if ended == ReplyEnd::Refused {
            let message = format!("model `{}` refuses to plan this{}", self.model.name(), text::said(&text));
            let offences = vec![PlanError::Model { problem: ModelProblem::Refused, message }];
            return PlanReply { revision: Revision::Unusable(offences), usage, text: None };
        }
        if matches!(ended, ReplyEnd::Complete | ReplyEnd::Other) {
            writing.end_line();
        }
        let (end, mut draft, answer) = writing.finish();
        let offences = self.offences(&end, ended, finish_reason, &mut draft);
        let revision = match offences.is_empty() {
            true => self.revision(request, end, draft).unwrap_or_else(Revision::Unusable),
            false => Revision::Unusable(offences),
        };
        PlanReply { revision, usage, text: Some(answer.into()) }
    }

    /// What is wrong with an answer before it is looked at as a plan: it counts only with its end mark, and if it was not
    /// cut off. With its end mark it is whole also where the provider's word for its end says nothing.
    fn offences(
        &self,
        end: &End,
        ended: ReplyEnd,
        finish_reason: Option<String>,
        draft: &mut Draft<'_>,
    ) -> Vec<PlanError> {
        let steps = counted(draft.steps.len(), "complete step");
        let mut offences = std::mem::take(&mut draft.offences);
        let mut cut_off = |message| offences.insert(0, PlanError::Truncated { message });
        match (end, ended) {
            (_, ReplyEnd::Length) => {
                cut_off(format!("at the output limit, after {steps}: write fewer or shorter ones"));
            }
            (End::CutOff, ReplyEnd::Other) => {
                let reason = finish_reason.map(|reason| format!(" (finish reason `{reason}`)")).unwrap_or_default();
                cut_off(format!("the provider ended it{reason} after {steps}"));
            }
            (End::CutOff, _) => {
                let message = match self.format {
                    PlanTextFormat::Lines => format!("no line END after {steps}"),
                    PlanTextFormat::Json => format!("the JSON is not closed after {steps}"),
                };
                offences.push(PlanError::Malformed { message });
            }
            _ => {}
        }
        offences
    }

    /// What the run will put in the place of `${inputs}`. What a planner of a step is given are results of the run, whose own
    /// inputs it does not know.
    fn filled_with(&self, given: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        if self.for_a_step { BTreeMap::new() } else { given.clone() }
    }

    fn revision(&self, request: &PlanRequest, end: End, mut draft: Draft<'_>) -> Result<Revision, Vec<PlanError>> {
        if let Some(tool) = &self.answer_tool {
            draft.answer_with(tool);
        }
        match end {
            End::Answer(_) | End::Done if request.revision == 1 => Err(malformed("an answer instead of a plan")),
            End::Answer(answer) if answer.is_empty() => Err(malformed("an answer without a word in it")),
            End::Answer(answer) => Ok(Revision::Answer(Value::String(answer))),
            End::Done => nothing_missing(request),
            End::Whole | End::CutOff if request.revision > 1 => match draft.into_patch() {
                // The same once more, or nothing at all.
                patch if request.failed.is_empty() && patch == Patch::default() => nothing_missing(request),
                patch => Ok(Revision::Patch(patch)),
            },
            End::Whole | End::CutOff => {
                let plan = draft.into_plan();
                check(request, self.filled_with(&request.inputs), &plan)?;
                Ok(Revision::Plan(plan))
            }
        }
    }
}

fn first_plan(revision: Revision) -> Result<Plan, Vec<PlanError>> {
    match revision {
        Revision::Plan(plan) => Ok(plan),
        _ => Err(vec![PlanError::Declined]),
    }
}

/// Says of a plan for a step why it cannot have what other plans can.
fn of_a_step(offence: &mut PlanError) {
    let message = match offence {
        PlanError::UnknownTool { step, tool, .. } if tool == PlanTool::NAME => {
            format!("step `{step}` uses the tool `{tool}`: a plan of a step cannot have steps planned in turn")
        }
        PlanError::UnknownInput { step, input, .. } => format!(
            "step `{step}` refers to `${{inputs.{input}}}`, which nothing takes the place of there: write what is meant"
        ),
        _ => return,
    };
    *offence = PlanError::Malformed { message };
}

/// What a review comes to that adds nothing.
fn nothing_missing(request: &PlanRequest) -> Result<Revision, Vec<PlanError>> {
    if !request.failed.is_empty() {
        return Err(malformed("it says that nothing is missing, but steps have failed"));
    }
    Ok(Revision::Plan(request.plan.clone()))
}

fn malformed(message: &str) -> Vec<PlanError> {
    vec![PlanError::Malformed { message: message.to_owned() }]
}

impl Planner for LlmPlanner {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move { Ok(self.ask(&request, &sink, Patience::GoesBack).await) })
    }

    fn server(&self) -> &str {
        self.model.server()
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

    /// The last line ends with the answer, if that is whole.
    fn end_line(&mut self) {
        self.reader.push("\n", |_| {});
    }

    fn finish(self) -> (End, Draft<'a>, String) {
        let (end, draft) = self.reader.finish();
        (end, draft, self.answer)
    }

    /// The connection broke, or the provider did, after the answer had begun.
    fn broken_off(self, error: ModelError) -> PlanReply {
        let (_, mut draft, answer) = self.finish();
        let message = format!("{} after {}", error.message, counted(draft.steps.len(), "complete step"));
        let ModelError { problem, retry_after_ms, usage, .. } = error;
        let offence = match problem {
            ModelProblem::RateLimited | ModelProblem::Unavailable => {
                PlanError::BrokenOff { problem, message, retry_after_ms }
            }
            problem if problem.may_pass() => PlanError::Truncated { message },
            problem => PlanError::Model { problem, message },
        };
        draft.offences.insert(0, offence);
        PlanReply { revision: Revision::Unusable(draft.offences), usage, text: Some(answer.into()) }
    }
}

/// What the provider failed with in the middle of an answer, if it did: it is to be left alone for a while. Steps of the
/// answer may have begun, so it is corrected and not asked for again.
fn broken_off(offences: &[PlanError]) -> Option<ModelError> {
    let PlanError::BrokenOff { problem, message, retry_after_ms } = offences.first()? else { return None };
    Some(ModelError::new(*problem, message.clone()).retry_after_ms(*retry_after_ms))
}

/// Checks a first plan as the run will: one that is planned without being run is checked by nobody else.
fn check(request: &PlanRequest, inputs: BTreeMap<String, Value>, plan: &Plan) -> Result<(), Vec<PlanError>> {
    let limits = Limits { steps: request.max_steps, edges: request.max_edges, ..Limits::default() };
    let start = RunStart {
        objective: String::new(),
        inputs,
        policy: Policy { limits, ..Policy::default() },
        tools: request.tools.to_vec(),
        default_tool: request.default_tool.clone(),
        planner_server: String::new(),
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
pub(super) fn pause(tries: u32, retry_after_ms: Option<u64>) -> Duration {
    match retry_after_ms {
        Some(millis) => Duration::from_millis(millis),
        None => (PAUSE * 2_u32.saturating_pow(tries - 1)).mul_f64(fastrand::f64()),
    }
}
