//! The trait of everything that does a step, and what a tool says about itself.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StepError;
pub use crate::event::Inputs;
use crate::event::{AttemptNumber, Usage};
use crate::plan::{Plan, Step, StepId};
use crate::planner::Expansion;
use crate::policy::Limits;

/// Whether a tool changes anything outside the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only reads: doing it twice does no harm.
    #[default]
    Reads,
    /// It acts: doing it twice may matter.
    Acts,
}

/// The attempt timeout that a tool asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolTimeout {
    /// The run's default.
    #[default]
    Default,
    /// None: the tool takes as long as its arguments say.
    Never,
    /// This many milliseconds.
    Millis(u64),
}

/// What a tool says about itself. Recorded when a run starts, and shown to planners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolSpec {
    /// The name that steps use.
    pub name: String,
    /// What it does, in a sentence or two.
    pub description: String,
    /// Which release of the tool it is, where that means something. A run that was started with another one is not
    /// resumed unasked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The JSON Schema of its arguments; null if it takes anything.
    pub arguments: Value,
    /// The shape of its output, in words or as an example.
    pub output: String,
    /// Whether it only reads or acts.
    pub effect: Effect,
    /// Whether its output is text from outside for which nobody vouches, such as a web page: it may hold instructions.
    /// A step that acts, and that such text has reached, waits for a person's approval unless
    /// [`Policy::allow`](crate::Policy::allow) names its tool. Text reaches a step through all that it depends on, and
    /// when its plan was written by a tool or planner that had the text in view. A tool that calls others on its own
    /// is untrusted if one of them is, and has to keep to the same rule inside.
    pub untrusted: bool,
    /// Whether it may be repeated after an attempt of unknown outcome although it acts.
    pub idempotent: bool,
    /// Whether it has another plan when a step of the one it returned has failed for good. It is called again then, with
    /// [what came of that plan](StepContext::expansion), and what the next one repeats of it is kept: for each step up to
    /// [`Policy::max_replans`](crate::Policy::max_replans) times.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replans: bool,
    /// Whether it uses [all that its step depends on](StepContext::inputs), referred to or not: no dependency of such a
    /// step is unnecessary.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub takes_inputs: bool,
    /// Whether its calls go to any number of servers. What one of them says about when to come back then holds for the
    /// step that it was said to, and not for all steps of the tool.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub many_servers: bool,
    /// The pool of its steps that name none; that of its own name if this is empty. Tools that ask the same server have
    /// one between them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// The name of the server that its calls go to. Where that wants no call for a while, no tool that has this name calls
    /// it, and a planner that [has it](crate::Planner::server) is not asked either. Empty: a server of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// Its attempt timeout.
    pub timeout: ToolTimeout,
    /// How long it takes on average, in milliseconds, where that is known.
    pub mean_ms: Option<u64>,
}

impl ToolSpec {
    /// A tool that only reads.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into(), ..Self::default() }
    }

    /// Whether what a call does must not be done twice.
    pub(crate) fn acts_once(&self) -> bool {
        self.effect == Effect::Acts && !self.idempotent
    }
}

/// What a successful call comes back with.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ToolOutput {
    /// A value: the step's output.
    Value(Value),
    /// A plan that is carried out in the step's place: an expansion. Its answer is the step's output.
    Plan(Plan),
}

impl From<Value> for ToolOutput {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<Plan> for ToolOutput {
    fn from(plan: Plan) -> Self {
        Self::Plan(plan)
    }
}

macro_rules! tool_output_from {
    ($($t:ty),*) => { $(impl From<$t> for ToolOutput {
        fn from(value: $t) -> Self { Self::Value(value.into()) }
    })* };
}
tool_output_from!((), bool, i32, i64, u32, u64, f64, &str, String, Vec<Value>, Vec<String>);

/// What is left of a run's [limits](crate::Limits) for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// So many steps may still be added to the run. Those of an [expansion](StepContext::expansion) that its next plan
    /// repeats and that have not failed are there already.
    pub steps: u32,
    /// So many dependencies a plan may have.
    pub edges: u32,
}

impl Default for Room {
    fn default() -> Self {
        let Limits { steps, edges, .. } = Limits::default();
        Self { steps, edges }
    }
}

/// Does steps.
///
/// [`tool_fn`] makes one of an async closure.
pub trait Tool: Send + Sync {
    /// What the tool says about itself. The runner sets the name under which it was registered.
    fn spec(&self) -> ToolSpec {
        ToolSpec::default()
    }

    /// Does one attempt of a step.
    ///
    /// The future is dropped when the attempt times out or is ended; see [`StepContext::hold`] for work that outlives
    /// it. A panic fails this attempt only.
    ///
    /// # Errors
    ///
    /// The [kind](crate::StepErrorKind) of the error decides whether the step is tried again.
    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>>;

    /// Ends what an earlier process has left running that was killed while it drove `run`. Called before the run goes
    /// on, so that no attempt is made beside one that still goes on.
    fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
        let _ = run;
        Box::pin(std::future::ready(()))
    }
}

impl<T: Tool + ?Sized> Tool for Arc<T> {
    fn spec(&self) -> ToolSpec {
        (**self).spec()
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        (**self).call(cx)
    }

    fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
        (**self).reap(run)
    }
}

/// What a tool is called with.
#[derive(Debug)]
#[non_exhaustive]
pub struct StepContext {
    /// The arguments, every reference filled.
    pub args: Value,
    /// The step's full id.
    pub id: StepId,
    /// The step as the plan has it, references not filled.
    pub step: Arc<Step>,
    /// The number of the attempt, unique in the run.
    pub attempt: AttemptNumber,
    /// Which try of the step this is; the first is 1.
    pub tries: u32,
    /// The outputs of the steps it depends on: all of them are in memory while it runs, also those that are kept in the
    /// journal.
    pub inputs: Inputs,
    /// Why the last try failed, if there was one.
    pub last_error: Option<Arc<StepError>>,
    /// What became of the plan that the tool returned before, if it is [asked for another one](ToolSpec::replans).
    pub expansion: Option<Box<Expansion>>,
    /// How large a plan may be that the tool returns.
    pub room: Room,
    pub(crate) caller: Caller,
}

impl StepContext {
    /// A context outside of any run: to test a tool, or to call it by hand.
    pub fn new(args: Value) -> Self {
        let id = StepId::from("step");
        Self {
            args,
            step: Arc::new(Step::described(id.clone(), "")),
            id,
            attempt: 0,
            tries: 1,
            inputs: Inputs::default(),
            last_error: None,
            expansion: None,
            room: Room::default(),
            caller: Caller(Arc::new(Nobody)),
        }
    }

    /// The arguments as a type of your own.
    ///
    /// # Errors
    ///
    /// [`BadInput`](crate::StepErrorKind::BadInput) if they are not of that shape.
    pub fn args_as<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        T::deserialize(&self.args).map_err(|error| StepError::bad_input(format!("bad arguments: {error}")))
    }

    /// What the run is for.
    pub fn objective(&self) -> &str {
        self.caller.0.objective()
    }

    /// The same text for every attempt of this step in this run: a server can use it to recognise a repetition. Of the
    /// calls that a model makes in one step each has its own, the same if another attempt makes them again.
    pub fn idempotency_key(&self) -> String {
        self.caller.0.idempotency_key()
    }

    /// Adds to what the attempt has used.
    pub fn add_usage(&self, usage: Usage) {
        self.caller.0.add_usage(usage);
    }

    /// Whether the run may use more. A tool that uses something several times asks in between, and ends with the error:
    /// the run stops then, and the step is done when it is resumed with a higher limit.
    ///
    /// # Errors
    ///
    /// If a limit on what the run may use is reached, by what all its attempts have [added](Self::add_usage) so far.
    pub fn check_limits(&self) -> Result<(), StepError> {
        self.caller.0.check_limits()
    }

    /// Leaves something for the next attempt at this step, which would otherwise do it, and pay for it, once more. What
    /// was left of this type before is replaced. It is there as long as the process drives the run: one that is resumed
    /// begins without it.
    ///
    /// ```
    /// # use plandag::{StepContext, StepError};
    /// # async fn page(number: u32) -> Result<String, StepError> { Ok(String::new()) }
    /// # async fn pages(cx: StepContext) -> Result<String, StepError> {
    /// let mut read: Vec<String> = cx.carried_over().unwrap_or_default();
    /// while read.len() < 10 {
    ///     match page(read.len() as u32).await {
    ///         Ok(page) => read.push(page),
    ///         Err(error) => {
    ///             cx.carry_over(read);
    ///             return Err(error);
    ///         }
    ///     }
    /// }
    /// # Ok(read.concat())
    /// # }
    /// ```
    pub fn carry_over<T: Any + Send>(&self, what: T) {
        self.caller.0.carry_over(Box::new(what));
    }

    /// Takes what an earlier attempt at this step has [carried over](Self::carry_over) of this type.
    pub fn carried_over<T: Any + Send>(&self) -> Option<T> {
        self.caller.0.carried_over(TypeId::of::<T>())?.downcast().ok().map(|what| *what)
    }

    /// A guard that keeps the attempt from counting as over. Give it to work that a dropped future does not end, such
    /// as a thread: the step's slot is then held until that work is really gone. The context itself is such a guard.
    pub fn hold(&self) -> Hold {
        Hold(self.caller.clone())
    }
}

/// Keeps an attempt from counting as over until it is dropped.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held for its Drop")] Caller);

/// Whoever called the tool. The attempt is over when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Arc<dyn Call>);

/// The caller's side of a [`StepContext`].
pub(crate) trait Call: Send + Sync {
    fn objective(&self) -> &str;
    fn idempotency_key(&self) -> String;
    fn add_usage(&self, usage: Usage);
    fn check_limits(&self) -> Result<(), StepError>;
    fn carry_over(&self, what: Box<dyn Any + Send>);
    fn carried_over(&self, of: TypeId) -> Option<Box<dyn Any + Send>>;
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

/// The caller of a tool outside of any run.
struct Nobody;

impl Call for Nobody {
    fn objective(&self) -> &str {
        ""
    }

    fn idempotency_key(&self) -> String {
        String::new()
    }

    fn add_usage(&self, _: Usage) {}

    fn check_limits(&self) -> Result<(), StepError> {
        Ok(())
    }

    fn carry_over(&self, _: Box<dyn Any + Send>) {}

    fn carried_over(&self, _: TypeId) -> Option<Box<dyn Any + Send>> {
        None
    }
}

/// Makes a [`Tool`] of an async closure.
///
/// ```
/// use plandag::{tool_fn, StepError};
///
/// let double = tool_fn(|cx| async move {
///     let n = cx.args["n"].as_i64().ok_or(StepError::bad_input("`n` must be a whole number"))?;
///     Ok(2 * n)
/// });
/// ```
pub fn tool_fn<F, Fut, T>(f: F) -> ToolFn<F>
where
    F: Fn(StepContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, StepError>> + Send + 'static,
    T: Into<ToolOutput>,
{
    ToolFn { f, spec: ToolSpec::default() }
}

/// A tool made of an async closure by [`tool_fn`]. It only reads, unless said otherwise.
#[derive(Clone)]
pub struct ToolFn<F> {
    f: F,
    spec: ToolSpec,
}

impl<F> ToolFn<F> {
    /// Says what the tool does, for planners and people.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.spec.description = description.into();
        self
    }

    /// Says that the tool acts: an attempt of unknown outcome is not repeated unasked.
    #[must_use]
    pub fn acts(mut self) -> Self {
        self.spec.effect = Effect::Acts;
        self
    }

    /// Says that the output is text from outside for which nobody vouches: see [`ToolSpec::untrusted`].
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.spec.untrusted = true;
        self
    }

    /// Replaces everything that the tool says about itself.
    #[must_use]
    pub fn with_spec(mut self, spec: ToolSpec) -> Self {
        self.spec = spec;
        self
    }
}

impl<F> fmt::Debug for ToolFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolFn").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl<F, Fut, T> Tool for ToolFn<F>
where
    F: Fn(StepContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, StepError>> + Send + 'static,
    T: Into<ToolOutput>,
{
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        // Unlike an `async` block around it, `map` holds the future in one place only.
        Box::pin((self.f)(cx).map(|result| result.map(Into::into)))
    }
}
