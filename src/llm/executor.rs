//! A language model as the tool that does steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::called::{self, Called};
use super::carried::{Carried, Progress};
use super::markers::{value_without_markers, without_markers};
use super::planner::{TRIES, pause};
use super::prompts::Prompts;
use super::thinking::without_thinking;
use super::{Message, Model, ModelError, ModelReply, ModelRequest, OfferedTool, ReplyEnd, ToolCall, WhenDropped, text};
use crate::cut;
use crate::depth::{dismantle, is_too_deep};
use crate::error::{ModelProblem, StepError, StepErrorKind};
use crate::plan::{OnInterrupt, StepId};
use crate::reference::{self, Reference};
use crate::tool::{Effect, Inputs, StepContext, Tool, ToolOutput, ToolSpec, ToolTimeout};

/// What a model begins with that found its inputs to contradict its task.
const UNEXPECTED: &str = "UNEXPECTED";
const BOLD: [char; 2] = ['*', '_'];
/// The longest name of a tool that every provider takes.
const MAX_NAME: usize = 64;
/// The most calls of one answer. More is a model that has lost its way, and each result is read, and paid for, in every
/// round that follows.
const MAX_CALLS: usize = 64;
/// The most of them at once: they are in no pool, and must not flood the server that they are for.
const CALLS_AT_ONCE: usize = 16;

/// The tool that has a model do a step from its description.
///
/// The model sees the description, the results of the steps that it depends on, each in a data block of its own and
/// cut to a budget, and nothing else. It may call the tools it is offered, several at once, for a bounded number of
/// rounds. Its answer is the step's output, as text.
#[derive(Clone)]
pub struct StepModel {
    name: String,
    pool: String,
    model: Arc<dyn Model>,
    prompts: Arc<Prompts>,
    /// By the name under which it is offered.
    tools: BTreeMap<String, (Arc<dyn Tool>, OfferedTool)>,
    rounds: u32,
    input_bytes: usize,
}

impl StepModel {
    /// The name under which a runner adds it, unless told otherwise.
    pub const NAME: &'static str = "model";

    /// Has this model do steps, without tools.
    pub fn new(model: impl Model + 'static) -> Self {
        Self {
            name: Self::NAME.to_owned(),
            pool: String::new(),
            model: Arc::new(model),
            prompts: Arc::default(),
            tools: BTreeMap::new(),
            rounds: 8,
            input_bytes: 32 * 1024,
        }
    }

    /// Sets the name that the tool gives itself.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the [pool](ToolSpec::pool) of its steps: one for all tools that ask the same provider.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = pool.into();
        self
    }

    /// Sets what the model is told.
    #[must_use]
    pub fn prompts(mut self, prompts: impl Into<Arc<Prompts>>) -> Self {
        self.prompts = prompts.into();
        self
    }

    /// Offers the model a tool. One that acts makes every step of this model one that acts: a run cannot know before
    /// whether it will be called. If it was, and the step fails for whatever reason, it is for a person to decide what
    /// became of that: a step that was tried again could act again.
    #[must_use]
    pub fn offer(mut self, name: &str, tool: impl Tool + 'static) -> Self {
        let spec = tool.spec();
        let offered = self.free_name(name);
        let arguments = match spec.arguments {
            Value::Object(_) => value_without_markers(spec.arguments),
            _ => json!({ "type": "object" }),
        };
        let description = without_markers(&spec.description).into_owned();
        let offer = OfferedTool { name: offered.clone(), description, arguments };
        self.tools.insert(offered, (Arc::new(tool), offer));
        self
    }

    /// Sets how often the model may call tools before it has to answer; 8 at first.
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Sets how many bytes of each input, and of each result of a tool, the model sees; 32 KiB at first.
    #[must_use]
    pub fn input_bytes(mut self, input_bytes: usize) -> Self {
        self.input_bytes = input_bytes;
        self
    }

    /// A name that every provider takes and that no other tool has.
    fn free_name(&self, name: &str) -> String {
        let plain = fitting(name);
        let numbered = |number: u32| format!("{}_{number}", &plain[..plain.len().min(MAX_NAME - 4)]);
        match self.tools.contains_key(&plain) {
            false => plain,
            true => (2..1_000).map(numbered).find(|name| !self.tools.contains_key(name)).unwrap_or(plain),
        }
    }

    async fn run(&self, cx: StepContext) -> Result<ToolOutput, StepError> {
        let mut carried = Carried::from_last(&cx, || self.begin(&cx));
        let reply = self.last_reply(&cx, &mut carried.progress).await;
        let output = reply.and_then(|reply| self.outcome(&reply));
        carried.is_over = output.as_ref().err().is_none_or(|error| error.kind == StepErrorKind::Permanent);
        output.map_err(|error| carried.progress.ended_by(error))
    }

    fn begin(&self, cx: &StepContext) -> Talk {
        let inputs = self.inputs(cx);
        let request = ModelRequest {
            system: self.system(&inputs),
            messages: vec![Message::User(inputs + &without_markers(&cx.step.description))],
            tools: self.tools.values().map(|(_, offer)| offer.clone()).collect(),
            ..ModelRequest::default()
        };
        Talk { request, ..Talk::default() }
    }

    /// Asks the model, and calls what it asks for, until it answers.
    async fn last_reply(&self, cx: &StepContext, talk: &mut Talk) -> Result<ModelReply, StepError> {
        loop {
            // Others may have used up what there is, and each round costs more than the one before it.
            talk.check_limits(cx)?;
            talk.request.must_answer = talk.round == self.rounds;
            let reply = match talk.has_acted {
                true => self.ask_in_turn(cx, talk).await?,
                false => self.ask(cx, talk).await?,
            };
            if talk.ends_with(&reply) {
                return Ok(reply);
            }
            talk.check_limits(cx)?;
            let results = self.call_all(cx, &reply.calls, talk).await?;
            talk.request.messages.push(repeated(reply));
            talk.request.messages.extend(results);
            talk.round += 1;
        }
    }

    async fn ask(&self, cx: &StepContext, talk: &Talk) -> Result<ModelReply, ModelError> {
        let request = ModelRequest { when_dropped: WhenDropped::of_step(cx), ..talk.request.clone() };
        let asked = self.model.complete(request).await;
        cx.add_usage(asked.as_ref().map_or_else(|error| error.usage, |reply| reply.usage));
        asked
    }

    /// Asks the model once something has acted: not for a passing trouble, such as an answer without a word, is that to be
    /// left to another attempt, of which a process that is killed meanwhile would know nothing. So this one waits, and
    /// asks again.
    async fn ask_in_turn(&self, cx: &StepContext, talk: &mut Talk) -> Result<ModelReply, StepError> {
        talk.request.wait = true;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.ask(cx, talk).await {
                Ok(reply) => match talk.ends_with(&reply).then(|| self.outcome(&reply)) {
                    Some(Err(error)) if error.kind == StepErrorKind::Transient => error,
                    _ => return Ok(reply),
                },
                Err(error) if !error.problem.may_pass() => return Err(error.into()),
                Err(error) => error.into(),
            };
            if tries == TRIES {
                return Err(error);
            }
            talk.check_limits(cx)?;
            tokio::time::sleep(pause(tries, error.retry_after_ms)).await;
        }
    }

    fn system(&self, inputs: &str) -> String {
        let mut system = self.prompts.get("step").to_owned();
        let mut add = |name: &str| {
            system.push(' ');
            system.push_str(self.prompts.get(name));
        };
        if !inputs.is_empty() {
            add("step_inputs");
        }
        if !self.tools.is_empty() {
            add("step_tools");
        }
        system
    }

    /// The arguments of the step, and the results of the steps it depends on that are not among them already: as a whole,
    /// or as the part that is all the step says to want.
    fn inputs(&self, cx: &StepContext) -> String {
        let mut blocks = String::new();
        let mut add = |name: &str, value: &Value| {
            text::block(name, &text::within(&text::of_value(value), self.input_bytes), &mut blocks);
        };
        match &cx.args {
            Value::Null => {}
            Value::Object(args) => args.iter().for_each(|(name, value)| add(name, value)),
            args => add("args", args),
        }
        let (mut whole, mut parts) = (BTreeSet::new(), BTreeSet::new());
        reference::each_in_arguments(&cx.step.args, &mut |reference| {
            // What cannot be read was not filled in either.
            if let Ok(Reference { text, id }) = reference {
                if text == id { &mut whole } else { &mut parts }.insert(id);
            }
        });
        let is_shown = |id: &StepId| {
            whole.contains(id.as_str()) || parts.contains(id.as_str()) && !cx.step.depends_on.contains(id)
        };
        for (id, value) in cx.inputs.iter().filter(|(id, _)| !is_shown(id)) {
            match cx.inputs.error(id.as_str()) {
                Some(error) => add(id.as_str(), &Value::String(format!("(it failed: {})", error.message))),
                None => add(id.as_str(), value),
            }
        }
        blocks
    }

    /// Calls the tools of one answer. The results are in the order of the calls. What goes wrong is for the model to read,
    /// which may know another way; only where nobody knows whether something acted, that is for a person to decide, and
    /// the step ends once all the calls are over.
    async fn call_all(&self, cx: &StepContext, calls: &[ToolCall], talk: &mut Talk) -> Result<Vec<Message>, StepError> {
        let slots = Semaphore::new(CALLS_AT_ONCE);
        let callees = calls.iter().enumerate().map(|(index, call)| self.callee(index, call, talk.has_read_outside));
        let callees: Vec<_> = callees.collect();
        let names = talk.called.names(calls);
        let specs: Vec<ToolSpec> = callees.iter().flatten().map(|tool| tool.spec()).collect();
        let results = calls.iter().zip(callees).zip(names).map(async |((call, callee), name)| {
            let tool = match callee {
                Ok(tool) => tool,
                Err(refused) => return Ok((self.answered(call, Err(refused)), None)),
            };
            let _slot = slots.acquire().await;
            match self.call(cx, call, tool, &name).await {
                Err(error) if error.kind.is_open_end() && tool.spec().acts_once() => {
                    let message = format!("in a call of `{}` by the model: {}", call.name, error.message);
                    Err(StepError { message, ..error })
                }
                result => {
                    let name = result.is_ok().then_some(name);
                    Ok((self.answered(call, result), name))
                }
            }
        });
        let results = join_all(results).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (results, succeeded): (_, Vec<_>) = results.into_iter().unzip();
        talk.called.succeeded(succeeded.into_iter().flatten());
        talk.has_read_outside |= specs.iter().any(|tool| tool.untrusted);
        talk.has_acted |= cx.step.on_interrupt == OnInterrupt::Ask && specs.iter().any(ToolSpec::acts_once);
        Ok(results)
    }

    /// The tool that a call is for, or why that is not called. Once text from outside was read in this step, nothing acts on
    /// it here, where no person could approve that.
    fn callee(&self, index: usize, call: &ToolCall, has_read_outside: bool) -> Result<&Arc<dyn Tool>, StepError> {
        match self.tools.get(&call.name) {
            _ if index >= MAX_CALLS => Err(format!("not called: at most {MAX_CALLS} calls in one answer").into()),
            None => Err(self.unknown(&call.name).into()),
            Some(_) if !matches!(call.arguments, Value::Object(_) | Value::Null) => {
                Err("the arguments are not a JSON object".into())
            }
            Some((tool, _)) if has_read_outside && tool.spec().effect == Effect::Acts => {
                Err("it acts, and text from outside was read in this step: it can only be a step of its own".into())
            }
            Some((tool, _)) => Ok(tool),
        }
    }

    async fn call(
        &self,
        cx: &StepContext,
        call: &ToolCall,
        tool: &Arc<dyn Tool>,
        name: &str,
    ) -> Result<Value, StepError> {
        let cx = StepContext {
            args: call.arguments.clone(),
            id: cx.id.clone(),
            step: Arc::clone(&cx.step),
            attempt: cx.attempt,
            tries: cx.tries,
            inputs: Inputs::default(),
            last_error: None,
            expansion: None,
            room: cx.room,
            caller: called::within(&cx.caller, name),
        };
        match tool.call(cx).await? {
            ToolOutput::Value(value) if is_too_deep(&value) => {
                dismantle(value);
                Err("its result nests too deep".into())
            }
            ToolOutput::Value(value) => Ok(value),
            ToolOutput::Plan(plan) => {
                plan.steps.into_iter().filter_map(Arc::into_inner).for_each(|step| dismantle(step.args));
                Err("this tool returns a plan, and can only be a step of its own".into())
            }
        }
    }

    /// What the model is told came of a call.
    fn answered(&self, call: &ToolCall, result: Result<Value, StepError>) -> Message {
        let mut content = String::new();
        match result {
            Ok(value) => text::block("result", &text::within(&text::of_value(&value), self.input_bytes), &mut content),
            Err(error) => text::block("error", &text::within(&error.message, self.input_bytes), &mut content),
        }
        let ToolCall { id, name, .. } = repeatable(call.clone());
        Message::ToolResult { id, name, content }
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self.tools.keys().map(String::as_str).collect();
        let name = cut::chars(name, MAX_NAME);
        match names.is_empty() {
            true => format!("there is no tool `{name}`: answer without tools"),
            false => format!("there is no tool `{name}`; there are: {}", names.join(", ")),
        }
    }

    fn outcome(&self, reply: &ModelReply) -> Result<ToolOutput, StepError> {
        let answer = without_thinking(&reply.text);
        match reply.end {
            ReplyEnd::Refused => {
                let message = format!("model `{}` refuses to do this{}", self.model.name(), text::said(&answer));
                return Err(model_error(StepErrorKind::Permanent, ModelProblem::Refused, message));
            }
            ReplyEnd::Length if !reply.calls.is_empty() => {
                let message = format!(
                    "the answer of model `{}` was cut off at its longest length, and calls tools, whose arguments may \
                     not be whole: none was called",
                    self.model.name()
                );
                return Err(model_error(StepErrorKind::Transient, ModelProblem::BadAnswer, message));
            }
            ReplyEnd::Length => {
                let message = format!("the answer of model `{}` was cut off at its longest length", self.model.name());
                return Err(StepError::permanent(message));
            }
            ReplyEnd::Complete | ReplyEnd::Other => {}
        }
        if let Some(why) = unexpected(&answer) {
            return Err(StepError::unexpected(why));
        }
        if answer.is_empty() {
            let message = match reply.calls.first() {
                Some(call) => format!("model `{}` calls `{}` instead of answering", self.model.name(), call.name),
                None if reply.text.trim().is_empty() => format!("model `{}` answered nothing", self.model.name()),
                None => format!("model `{}` thinks aloud, and answers nothing", self.model.name()),
            };
            return Err(model_error(StepErrorKind::Transient, ModelProblem::BadAnswer, message));
        }
        Ok(Value::from(answer).into())
    }
}

/// What a model and its tools have said to each other about a step.
#[derive(Default)]
struct Talk {
    request: ModelRequest,
    /// How often the model has called tools.
    round: u32,
    has_read_outside: bool,
    /// Whether a tool was called whose effect must not happen twice.
    has_acted: bool,
    called: Called,
}

impl Talk {
    /// Whether there is nothing more to be called. Calls of an answer that was cut off may be only half of what was meant.
    fn ends_with(&self, reply: &ModelReply) -> bool {
        let is_cut_off = matches!(reply.end, ReplyEnd::Length | ReplyEnd::Refused);
        reply.calls.is_empty() || self.request.must_answer || is_cut_off
    }

    /// The end of a step that would use more than there is. While nothing has acted, it is done when there is more.
    fn check_limits(&self, cx: &StepContext) -> Result<(), StepError> {
        cx.check_limits().map_err(|error| match self.has_acted {
            true => error,
            false => StepError::deferred(error.message, 1),
        })
    }

    /// What a step comes to with this error. What it has done stays done, and what it leads to nobody knows.
    fn ended_by(&self, error: StepError) -> StepError {
        if !self.has_acted || error.kind.is_open_end() {
            return error;
        }
        let message = format!("{}, and tools that act were called before", error.message);
        StepError { kind: StepErrorKind::Interrupted, message, retry_after_ms: None, ..error }
    }
}

impl Progress for Talk {
    fn is_paid_for(&self) -> bool {
        self.round > 0
    }
}

/// What stands behind the mark of an answer that says why there is none. Models like to make that mark bold.
fn unexpected(answer: &str) -> Option<&str> {
    let why = answer.trim_start_matches(BOLD).strip_prefix(UNEXPECTED)?.trim_start_matches(BOLD).strip_prefix(':')?;
    Some(why.trim_start_matches(BOLD).trim())
}

/// What the model said, for it to read again: it may have got that from a result.
fn repeated(reply: ModelReply) -> Message {
    Message::Assistant {
        text: without_markers(&without_thinking(&reply.text)).into_owned(),
        calls: reply.calls.into_iter().map(repeatable).collect(),
    }
}

/// A call as it is sent back. A name that the model has made up is none that every provider takes, and one that refuses it
/// refuses the whole conversation.
fn repeatable(call: ToolCall) -> ToolCall {
    ToolCall {
        id: without_markers(&call.id).into_owned(),
        name: fitting(&call.name),
        arguments: value_without_markers(call.arguments),
        ..call
    }
}

/// A name made one that every provider takes.
fn fitting(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let plain: String = name.chars().map(fits).take(MAX_NAME).collect();
    if plain.is_empty() { "_".to_owned() } else { plain }
}

fn model_error(kind: StepErrorKind, problem: ModelProblem, message: String) -> StepError {
    StepError::new(kind, message).details(json!({ "code": problem.code() }))
}

impl Tool for StepModel {
    fn spec(&self) -> ToolSpec {
        let acts = self.tools.values().any(|(tool, _)| tool.spec().effect == Effect::Acts);
        ToolSpec {
            output: "text".into(),
            effect: if acts { Effect::Acts } else { Effect::Reads },
            untrusted: self.tools.values().any(|(tool, _)| tool.spec().untrusted),
            takes_inputs: true,
            pool: self.pool.clone(),
            server: self.model.server().to_owned(),
            timeout: ToolTimeout::Millis(5 * 60 * 1_000),
            ..ToolSpec::new(
                self.name.as_str(),
                format!("Has the model `{}` do a step from its description.", self.model.name()),
            )
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(self.run(cx))
    }

    fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
        let offered = self.tools.values().map(|(tool, _)| tool.reap(run));
        Box::pin(join_all(offered).map(drop))
    }
}

impl std::fmt::Debug for StepModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepModel")
            .field("model", &self.model.name())
            .field("tools", &self.tools.keys())
            .finish_non_exhaustive()
    }
}
