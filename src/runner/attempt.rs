//! One call of a tool, from the launch to the answer.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::error::{RunError, StepError, StepErrorKind};
use crate::event::{AttemptNumber, Event, Launch, Output, Returned, RunStart, StepNumber, Usage};
use crate::journal::{Journal, RunId};
use crate::plan::Step;
use crate::policy::Policy;
use crate::reference;
use crate::report::gather::Parts;
use crate::tool::{Call, Caller, Inputs, StepContext, Tool, ToolOutput, ToolTimeout};

use super::output;

/// What the loop is told: mostly what the scheduler is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something for the scheduler.
    Event(Event),
    /// The run cannot go on.
    Failed(RunError),
}

/// What all attempts of a run share.
pub(super) struct RunContext {
    pub(super) id: RunId,
    pub(super) start: Arc<RunStart>,
    /// In the order of [`RunStart::tools`].
    pub(super) tools: Vec<Arc<dyn Tool>>,
    /// What `${inputs}` stands for.
    pub(super) inputs: Arc<Value>,
    pub(super) journal: Option<Arc<dyn Journal>>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_output_bytes: usize,
    pub(super) inbox: UnboundedSender<Message>,
}

impl RunContext {
    /// Tells the loop. Once that is gone the run is over, and nobody wants to know.
    pub(super) fn tell(&self, message: Message) {
        let _ = self.inbox.send(message);
    }

    /// The longest an attempt of `step` may take.
    fn timeout(&self, step: &Step, tool: u16) -> Option<Duration> {
        match (step.timeout_ms, self.start.tools[usize::from(tool)].timeout) {
            (Some(millis), _) | (None, ToolTimeout::Millis(millis)) => Some(Duration::from_millis(millis)),
            (None, ToolTimeout::Never) => None,
            (None, ToolTimeout::Default) => self.timeout,
        }
    }

    /// Ends the run because its journal failed, and answers the attempt that noticed it.
    pub(super) fn journal_failed(&self, error: crate::error::JournalError) -> StepError {
        let interrupted = StepError::new(StepErrorKind::Interrupted, error.to_string());
        self.tell(Message::Failed(error.into()));
        interrupted
    }
}

/// The default timeout of a policy.
pub(super) fn default_timeout(policy: &Policy) -> Option<Duration> {
    policy.timeout_ms.map(Duration::from_millis)
}

/// A running attempt. The task that makes the call and every guard of the tool share it; dropping the last of them
/// answers the launch, so that every launch is answered exactly once, and not before the tool is really gone.
struct Attempt {
    run: Arc<RunContext>,
    number: AttemptNumber,
    step: StepNumber,
    end: Mutex<End>,
}

/// What an attempt came to.
#[derive(Default)]
struct End {
    usage: Usage,
    /// None: the call was dropped before it had a result.
    result: Option<Result<Returned, Arc<StepError>>>,
}

impl Attempt {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call for Attempt {
    fn objective(&self) -> &str {
        &self.run.start.objective
    }

    fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run.id, self.step)
    }

    fn add_usage(&self, usage: Usage) {
        self.end().usage += usage;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let End { usage, result } = std::mem::take(self.end.get_mut().unwrap_or_else(PoisonError::into_inner));
        let result = result.unwrap_or_else(|| {
            Err(Arc::new(if std::thread::panicking() {
                StepError::new(StepErrorKind::Panicked, "the tool panicked as it was dropped")
            } else {
                StepError::new(StepErrorKind::Aborted, "ended before it had a result")
            }))
        });
        let draw = fastrand::u16(..);
        self.run.tell(Message::Event(Event::AttemptReturned { attempt: self.number, result, usage, draw }));
    }
}

/// Makes the call and answers the launch. To end the attempt, the future is dropped; that answers the launch even if
/// the future was never polled.
pub(super) fn attempt(run: Arc<RunContext>, launch: Launch, parts: Parts) -> impl Future<Output = ()> + Send {
    let attempt = Arc::new(Attempt { run, number: launch.attempt, step: launch.step, end: Mutex::default() });
    async move {
        let result = guarded(call(&attempt, launch, parts)).await;
        attempt.end().result = Some(result.map_err(|error| Arc::new(output::bounded_error(error))));
    }
}

async fn call(attempt: &Arc<Attempt>, launch: Launch, parts: Parts) -> Result<Returned, StepError> {
    let run = &*attempt.run;
    let Launch { definition: step, mut inputs, tool, .. } = launch;
    // What is rare is boxed: a task is allocated for each attempt, as large as the largest path through here.
    if !output::are_inline(&inputs) {
        Box::pin(output::make_inline(run, &mut inputs, parts)).await?;
    }

    let lookup = |id: &str| match id {
        reference::INPUTS => Some(Arc::clone(&run.inputs)),
        id => inputs.iter().find(|input| input.id == *id).map(|input| match &input.output {
            Some(Output::Inline(value)) => Arc::clone(value),
            _ => Arc::default(),
        }),
    };
    if let Some(when) = &step.when
        && !reference::condition(when, &lookup)?
    {
        return Ok(Returned::ConditionFalse);
    }
    let args = match reference::has_references(&step.args) {
        true => reference::fill(&step.args, &lookup)?,
        false => step.args.clone(),
    };

    let timeout = run.timeout(&step, tool);
    let cx = StepContext {
        args,
        id: launch.id,
        step,
        attempt: launch.attempt,
        tries: launch.tries,
        inputs: Inputs(inputs),
        last_error: launch.last_error,
        caller: Caller(Arc::clone(attempt) as _),
    };
    match timely(run.tools[usize::from(tool)].call(cx), timeout).await? {
        ToolOutput::Value(value) => match output::kept_inline(run, value)? {
            Ok(output) => Ok(Returned::Value(output)),
            Err(large) => Box::pin(output::store(run, large)).await.map(Returned::Value),
        },
        ToolOutput::Plan(plan) => output::bounded_plan(plan).map(|plan| Returned::Plan(Box::new(plan))),
    }
}

/// Turns a panic into a failed attempt.
async fn guarded<T>(call: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(StepError::new(StepErrorKind::Panicked, format!("panicked: {}", panic_text(&*panic)))),
    }
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no message",
    }
}

/// Drops a call that takes too long. Most calls of a cheap tool are over at once, so the timer is set only for one
/// that is not.
async fn timely<T>(
    call: impl Future<Output = Result<T, StepError>>,
    timeout: Option<Duration>,
) -> Result<T, StepError> {
    let mut call = pin!(call);
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        return result;
    }
    match timeout {
        None => call.await,
        Some(limit) => Box::pin(tokio::time::timeout(limit, call))
            .await
            .unwrap_or_else(|_| Err(StepError::new(StepErrorKind::Timeout, format!("no result within {limit:?}")))),
    }
}
