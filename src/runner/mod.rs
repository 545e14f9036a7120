//! The tokio driver: runs a plan in real time.
//!
//! [`Runner`] is set up once and runs any number of objectives. All state of a run is in its [`Driver`]: it is told what
//! happened, and does what the [`Scheduler`] says in the order of *write down* (the [`Journal`]), *tell* (the readers of
//! a [`RunHandle`]) and *do* (call tools, ask the planner, set the timer). One task at a time has the driver.
//!
//! Who that is, is settled at the [`Desk`]. *Hands* begin the calls of tools, up to one hand for each thread of the
//! runtime as the calls take long enough; a call that has to wait becomes a task of its own, and one that is over at once
//! is followed by the turn it leads to, made by the same hand. So a step that does nothing costs no task and no change of
//! thread. The *keeper* sees the run from its beginning to its end and makes all other turns.

mod attempt;
mod carried;
mod changes;
mod desk;
mod drive;
mod hand;
mod handle;
mod kept;
mod letters;
mod live;
mod output;
mod planning;
mod spending;
mod staffing;

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;
use tracing::Instrument as _;

use crate::depth::is_too_deep;
use crate::error::{RunError, StepError};
use crate::event::{Decision, Event, RunStart, StepNumber};
use crate::history::{Told, bounded, decide};
use crate::journal::{Claim, Journal, RunId};
use crate::planner::Planner;
use crate::policy::{Limits, Policy, ReplanWhen, Retry};
use crate::report::{Record, RunReport};
use crate::scheduler::Scheduler;
use crate::tool::{Tool, ToolSpec, tool_fn};

use attempt::RunContext;
use carried::CarriedOver;
use desk::Desk;
use drive::{Driver, keep};
use handle::RunTask;
use kept::Kept;
use live::{Live, Publisher};
use spending::Spending;

pub use handle::RunHandle;
pub use live::{Events, LiveStep, RunView};
pub(crate) use output::bounded_shared;

/// The size, as JSON, over which a result is refused, unless a runner has another limit.
pub(crate) const MAX_OUTPUT_BYTES: usize = 32 * 1024 * 1024;

/// Runs objectives: has a planner write a plan, and carries it out with the tools it was given.
///
/// ```
/// use plandag::{Plan, Runner, Step, StepError, tool_fn};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let plan = Plan::from_iter([
///     Step::new("four", "double").args(json!({ "n": 2 })),
///     Step::new("six", "double").args(json!({ "n": 3 })),
///     Step::new("ten", "add").args(json!({ "a": "${four}", "b": "${six}" })),
/// ]);
/// let int = |value: &serde_json::Value| value.as_i64().ok_or(StepError::bad_input("not a whole number"));
/// let report = Runner::new(plan)
///     .tool("double", tool_fn(move |cx| async move { Ok(2 * int(&cx.args["n"])?) }))
///     .tool("add", tool_fn(move |cx| async move { Ok(int(&cx.args["a"])? + int(&cx.args["b"])?) }))
///     .run("What are twice two and twice three together?")
///     .await?;
/// assert_eq!(report.answer()?, 10);
/// # Ok(())
/// # }
/// ```
///
/// A runner is cheap to clone, and can be used for any number of runs, also at the same time. Each of them has the slots and
/// pools for itself: what runs share has to be shared by their tools, with a semaphore, say.
#[derive(Clone)]
pub struct Runner {
    planner: Arc<dyn Planner>,
    tools: IndexMap<String, Arc<dyn Tool>>,
    default_tool: Option<String>,
    inputs: BTreeMap<String, Given>,
    labels: BTreeMap<String, Given>,
    journal: Option<Arc<dyn Journal>>,
    accept_changes: bool,
    policy: Policy,
    max_output_bytes: usize,
}

/// What a run is given; none if it nests too deep to be copied.
type Given = Option<Value>;

/// What does the steps that name no tool: a tool of the runner, or one more.
pub struct DefaultTool {
    name: String,
    tool: Option<Arc<dyn Tool>>,
}

impl From<&str> for DefaultTool {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), tool: None }
    }
}

impl From<String> for DefaultTool {
    fn from(name: String) -> Self {
        Self { name, tool: None }
    }
}

impl<T: Tool + 'static> From<T> for DefaultTool {
    fn from(tool: T) -> Self {
        let ToolSpec { name, .. } = tool.spec();
        Self { name: if name.is_empty() { "default".to_owned() } else { name }, tool: Some(Arc::new(tool)) }
    }
}

impl fmt::Debug for DefaultTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DefaultTool").field(&self.name).finish()
    }
}

impl Runner {
    /// A runner with this planner, without tools, and with the usual [`Policy`]. A [`Plan`](crate::Plan) is a planner,
    /// too: one that always answers itself.
    pub fn new(planner: impl Planner + 'static) -> Self {
        Self {
            planner: Arc::new(planner),
            tools: IndexMap::new(),
            default_tool: None,
            inputs: BTreeMap::new(),
            labels: BTreeMap::new(),
            journal: None,
            accept_changes: false,
            policy: Policy::default(),
            max_output_bytes: MAX_OUTPUT_BYTES,
        }
    }

    /// Adds a tool under the name that steps use. A tool that had this name is replaced.
    #[must_use]
    pub fn tool(mut self, name: impl Into<String>, tool: impl Tool + 'static) -> Self {
        self.tools.insert(name.into(), Arc::new(tool));
        self
    }

    /// Sets what does the steps that name no tool: the name of a tool, or a tool, which is added under the name in its
    /// [`ToolSpec`], or as `default` if it has none. If another tool has that name already, it gets a number, as in
    /// `default_2`; an earlier default tool is replaced. Without one, a plan with such steps is rejected.
    #[must_use]
    pub fn default_tool(mut self, tool: impl Into<DefaultTool>) -> Self {
        let DefaultTool { mut name, tool } = tool.into();
        if let Some(tool) = tool {
            let is_free = |name: &str| !self.tools.contains_key(name) || self.default_tool.as_deref() == Some(name);
            if !is_free(&name) {
                let numbered = (2..).map(|number| format!("{name}_{number}")).find(|name| is_free(name));
                name = numbered.unwrap_or(name);
            }
            self.tools.insert(name.clone(), tool);
        }
        self.default_tool = Some(name);
        self
    }

    /// Sets the value of `${inputs.name}`.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), output::bounded_answer(value.into(), usize::MAX).ok());
        self
    }

    /// Keeps the record of every run in `journal`, so that a run can be resumed. In tests whose time is paused, take a
    /// [`MemoryJournal`](crate::journal::MemoryJournal).
    #[must_use]
    pub fn journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Some(Arc::new(journal));
        self
    }

    /// Has the run remember something, in [`RunStart::labels`]: what a program needs to take it up again, say.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.labels.insert(name.into(), output::bounded_label(value.into()));
        self
    }

    /// Lets a run be resumed although its tools are not what they were when it was started. It goes on with what it
    /// has recorded about them.
    #[must_use]
    pub fn accept_changes(mut self, accept_changes: bool) -> Self {
        self.accept_changes = accept_changes;
        self
    }

    /// Sets how many tools may run at once.
    #[must_use]
    pub fn max_parallel(mut self, max_parallel: u32) -> Self {
        self.policy.max_parallel = max_parallel;
        self
    }

    /// Sets how often the planner may be asked for a revision, after failures or for a review.
    #[must_use]
    pub fn max_replans(mut self, max_replans: u32) -> Self {
        self.policy.max_replans = max_replans;
        self
    }

    /// Sets the size of a pool. Every tool has a pool of its name, of which a call takes one.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>, size: u32) -> Self {
        self.policy.pools.insert(name.into(), size);
        self
    }

    /// Sets how often, and how soon, a step is tried again that does not say so itself. A busy server is asked
    /// [more often](Retry::BUSY_ATTEMPTS).
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = retry;
        self
    }

    /// Sets the longest an attempt may take, where neither the step nor its tool says so.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeout_ms = Some(millis(timeout));
        self
    }

    /// Sets the longest a planner may be silent: see [`Policy::planner_timeout_ms`].
    #[must_use]
    pub fn planner_timeout(mut self, timeout: Duration) -> Self {
        self.policy.planner_timeout_ms = Some(millis(timeout));
        self
    }

    /// Sets how long a run may take; it is stopped then, and can be resumed. It is one of the [limits](Self::limits),
    /// which are set as a whole: set them before.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.limits.deadline_ms = Some(millis(deadline));
        self
    }

    /// Sets what a run may use up, altogether: a [deadline](Self::deadline) that was set before is replaced as well, by
    /// none if these name none.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.policy.limits = limits;
        self
    }

    /// Sets when the planner is asked for a revision after a failure.
    #[must_use]
    pub fn replan_when(mut self, replan_when: ReplanWhen) -> Self {
        self.policy.replan_when = replan_when;
        self
    }

    /// Sets whether the planner is asked, after the last step, to answer or to add steps.
    #[must_use]
    pub fn review(mut self, review: bool) -> Self {
        self.policy.review = review;
        self
    }

    /// Lets a tool act on text from outside unasked: see [`ToolSpec::untrusted`].
    #[must_use]
    pub fn allow(mut self, tool: impl Into<String>) -> Self {
        self.policy.allow.insert(tool.into());
        self
    }

    /// Sets whether runs wait for [`RunHandle::decide`] while a step needs a person's approval: see [`Policy::attended`].
    #[must_use]
    pub fn attended(mut self, attended: bool) -> Self {
        self.policy.attended = attended;
        self
    }

    /// Sets how runs are carried out, altogether.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the size, as JSON without spaces, over which a tool's result is refused and the attempt has failed; 32 MiB at
    /// first.
    #[must_use]
    pub fn max_output_bytes(mut self, max_output_bytes: usize) -> Self {
        self.max_output_bytes = max_output_bytes;
        self
    }

    /// Plans and runs an objective, and waits for its end. Dropping the future cancels the run.
    ///
    /// # Errors
    ///
    /// If the journal fails, or the runner was set up in a way that cannot work. A failed step is not an error: see
    /// [`RunReport::answer`].
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn run(&self, objective: impl Into<String>) -> Result<RunReport, RunError> {
        self.spawn(RunId::random(), Begin::New(objective.into()), None).await
    }

    /// Plans and runs an objective in the background. The handle shows how it goes.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one without timers ([`enable_time`](tokio::runtime::Builder::enable_time)). Also
    /// if the [`spec`](Tool::spec) of a tool panics, or the journal does.
    pub fn start(&self, objective: impl Into<String>) -> RunHandle {
        self.spawn_live(RunId::random(), Begin::New(objective.into()))
    }

    /// Goes on with a run that was stopped or interrupted, and waits for its end. What is finished is not done again.
    /// The policy of this runner holds from now on; objective and inputs are those the run was started with.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); also if the journal does not know the run or another process drives it, and
    /// [`RunError::Changed`] if its tools are not what they were (see [`accept_changes`](Self::accept_changes)).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn resume(&self, run: impl Into<RunId>) -> Result<RunReport, RunError> {
        self.spawn(run.into(), Begin::Resume, None).await
    }

    /// As [`resume`](Self::resume), in the background.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_resume(&self, run: impl Into<RunId>) -> RunHandle {
        self.spawn_live(run.into(), Begin::Resume)
    }

    /// Decides what became of a step whose outcome is unknown, or whether one may act that waits for approval: see
    /// [`history::decide`](decide()). A run that nobody drives is to be resumed afterwards.
    ///
    /// # Errors
    ///
    /// If there is no journal, or it does not know the run, or fails; also if the decision cannot be taken up.
    pub async fn decide(&self, run: impl Into<RunId>, step: StepNumber, decision: Decision) -> Result<Told, RunError> {
        let (run, decision) = (run.into(), bounded(decision)?);
        Ok(decide(self.journal_for(&run)?, &run, step, decision).await?)
    }

    fn spawn_live(&self, id: RunId, begin: Begin) -> RunHandle {
        let live = Arc::new(Live::new());
        let task = self.spawn(id.clone(), begin, Some(Publisher::new(Arc::clone(&live))));
        RunHandle::new(id, live, task)
    }

    fn spawn(&self, id: RunId, begin: Begin, publisher: Option<Publisher>) -> RunTask {
        let desk = Arc::new(Desk::new(&tokio::runtime::Handle::current()));
        // A runtime without timers is told of here: the run would find out in a task of its own, and never end.
        drop(tokio::time::sleep(Duration::ZERO));
        let runner = self.clone();
        let span = tracing::info_span!("run", run = %id);
        let at = Arc::clone(&desk);
        let driven = async move {
            let Begun { first, scheduler, record, claim } = runner.begin(&id, begin, publisher.as_ref()).await?;
            let (kept, hold) =
                runner.journal.clone().zip(claim).map(|(journal, claim)| Kept::new(journal, claim)).unzip();
            let run = Arc::new(runner.context(id, &scheduler, kept, at, &first));
            keep(run, Driver::new(scheduler, record, runner.planner, publisher), first, hold).await
        };
        // The keeper is a task and not part of the caller's: tasks that wake each other are run one after the other
        // by the same thread, while a caller of `block_on` is not one of its tasks.
        RunTask::new(tokio::spawn(driven.instrument(span)), desk)
    }

    /// Takes up the run.
    async fn begin(&self, id: &RunId, begin: Begin, publisher: Option<&Publisher>) -> Result<Begun, RunError> {
        self.check()?;
        match begin {
            Begin::New(objective) => {
                let mut start = self.run_start(objective)?;
                let claim = match &self.journal {
                    Some(journal) => Some(journal.create(id).await?),
                    None => None,
                };
                if let Some(journal) = &self.journal {
                    expect(&mut start.tools, &**journal).await;
                }
                let scheduler = Scheduler::new(Arc::new(start));
                Ok(Begun { first: Event::Begin, scheduler, record: Record::default(), claim })
            }
            Begin::Resume => {
                let journal = self.journal_for(id)?;
                let claim = Some(journal.claim(id).await?);
                let history = journal.history(id).await?;
                let scheduler = Scheduler::replay(&history)?;
                for tool in self.tools.values() {
                    tool.reap(id.as_str()).await;
                }
                if let Some(publisher) = publisher {
                    publisher.resume(&history, &scheduler);
                }
                self.check_tools(id, scheduler.start())?;
                let policy = (*scheduler.policy() != self.policy).then(|| Box::new(self.policy.clone()));
                Ok(Begun { first: Event::Resumed { policy }, scheduler, record: Record::of(&history), claim })
            }
        }
    }

    fn check(&self) -> Result<(), RunError> {
        let problem = if self.policy.max_parallel == 0 {
            "`max_parallel` must be at least 1".to_owned()
        } else if self.policy.retry.max_attempts == 0 {
            "`max_attempts` must be at least 1".to_owned()
        } else if let Some((name, _)) = self.policy.pools.iter().find(|(_, size)| **size == 0) {
            format!("the pool `{name}` must have a size of at least 1")
        } else if self.tools.len() > Scheduler::MOST_TOOLS {
            format!("{} tools are more than a run can have", self.tools.len())
        } else {
            match &self.default_tool {
                Some(name) if !self.tools.contains_key(name) => format!("the default tool `{name}` is not a tool"),
                _ => return Ok(()),
            }
        };
        Err(RunError::Configuration(problem))
    }

    /// What a new run is started with, if that can be read back.
    fn run_start(&self, objective: String) -> Result<RunStart, RunError> {
        let too_deep = |name: &str| RunError::Configuration(format!("`{name}` nests too deep"));
        let given = |values: &BTreeMap<String, Given>| -> Result<_, RunError> {
            let value =
                |(name, value): (&String, &Given)| Ok((name.clone(), value.clone().ok_or_else(|| too_deep(name))?));
            values.iter().map(value).collect()
        };
        let tools = self.specs();
        if let Some(tool) = tools.iter().find(|tool| is_too_deep(&tool.arguments)) {
            return Err(too_deep(&tool.name));
        }
        Ok(RunStart {
            objective,
            inputs: given(&self.inputs)?,
            policy: self.policy.clone(),
            tools,
            default_tool: self.default_tool.clone(),
            planner_server: self.planner.server().to_owned(),
            labels: given(&self.labels)?,
        })
    }

    fn specs(&self) -> Vec<ToolSpec> {
        let spec = |(name, tool): (&String, &Arc<dyn Tool>)| ToolSpec { name: name.clone(), ..tool.spec() };
        self.tools.iter().map(spec).collect()
    }

    /// Refuses to go on with other tools than a run was started with.
    fn check_tools(&self, id: &RunId, start: &RunStart) -> Result<(), RunError> {
        if self.accept_changes {
            return Ok(());
        }
        let differences = changes::of_tools(&start.tools, &self.specs());
        if differences.is_empty() { Ok(()) } else { Err(RunError::Changed { run: id.to_string(), differences }) }
    }

    /// What the attempts of a run share. The run's tools are those it was started with, in the same order.
    fn context(
        &self,
        id: RunId,
        scheduler: &Scheduler,
        journal: Option<Kept>,
        desk: Arc<Desk>,
        first: &Event,
    ) -> RunContext {
        let start = scheduler.start();
        let past = journal.as_ref().filter(|_| matches!(first, Event::Resumed { .. }));
        let lost = past.and_then(|past| past.journal.mark());
        // Only whoever accepts changes comes here without one of them.
        let tool = |spec: &ToolSpec| self.tools.get(&spec.name).cloned().unwrap_or_else(|| gone(&spec.name));
        RunContext {
            tools: start.tools.iter().map(tool).collect(),
            inputs: Arc::new(Value::Object(start.inputs.clone().into_iter().collect())),
            start: Arc::clone(start),
            journal,
            spending: Spending::new(&self.policy.limits, scheduler.usage()),
            timeout: self.policy.timeout_ms.map(Duration::from_millis),
            planner_timeout: self.policy.planner_timeout_ms.map(Duration::from_millis),
            carried_over: CarriedOver::default(),
            lost,
            max_output_bytes: self.max_output_bytes,
            desk,
            id,
        }
    }

    fn journal_for(&self, run: &RunId) -> Result<&dyn Journal, RunError> {
        let none = || RunError::Configuration(format!("run `{run}` is in no journal that the runner has: it has none"));
        self.journal.as_deref().ok_or_else(none)
    }
}

/// Has tools that do not say how long they take be expected to take as long as in earlier runs.
async fn expect(tools: &mut [ToolSpec], journal: &dyn Journal) {
    // An expectation only helps to choose an order: an old run that cannot be read does not keep a new one from starting.
    let means = journal.tool_means().await.unwrap_or_default();
    for tool in tools {
        tool.mean_ms = tool.mean_ms.or_else(|| means.get(&tool.name).copied());
    }
}

/// The state in which a process takes up a run, and what it tells the scheduler first.
struct Begun {
    first: Event,
    scheduler: Scheduler,
    record: Record,
    claim: Option<Claim>,
}

/// How a process comes by a run.
enum Begin {
    New(String),
    Resume,
}

/// Stands for a tool that a run was started with and that there is not any more. Only the steps that name it need it.
fn gone(name: &str) -> Arc<dyn Tool> {
    let message = format!("the tool `{name}` is not there any more, and the run goes on without it");
    Arc::new(tool_fn(move |_| ready(Err::<(), _>(StepError::permanent(message.clone())))))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("tools", &self.tools.keys())
            .field("default_tool", &self.default_tool)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
