//! One call of a tool, from the launch to the answer.

use std::any::{Any, TypeId};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, OptionFuture};
use serde_json::Value;
use tracing::Instrument as _;

use crate::error::{JournalError, StepError, StepErrorKind};
use crate::event::{AttemptNumber, Event, Launch, Returned, RunStart, Usage};
use crate::journal::RunId;
use crate::reference;
use crate::tool::{Call, Caller, Effect, StepContext, Tool, ToolOutput, ToolTimeout};

use super::carried::CarriedOver;
use super::desk::{Desk, Message};
use super::kept::Kept;
use super::output::{self, Gathers};
use super::spending::Spending;

/// What all attempts of a run share.
pub(super) struct RunContext {
    pub(super) id: RunId,
    pub(super) start: Arc<RunStart>,
    /// In the order of [`RunStart::tools`].
    pub(super) tools: Vec<Arc<dyn Tool>>,
    /// What `${inputs}` stands for.
    pub(super) inputs: Arc<Value>,
    pub(super) journal: Option<Kept>,
    /// There where what the run uses is limited.
    pub(super) spending: Option<Spending>,
    pub(super) timeout: Option<Duration>,
    pub(super) planner_timeout: Option<Duration>,
    pub(super) max_output_bytes: usize,
    pub(super) desk: Arc<Desk>,
    pub(super) carried_over: CarriedOver,
    /// What stands where something is not known any more, if the run was resumed.
    pub(super) lost: Option<&'static str>,
}

impl RunContext {
    /// The longest an attempt may take.
    fn timeout(&self, launch: &Launch) -> Option<Duration> {
        let own = if launch.is_plain { None } else { launch.definition.timeout_ms };
        match (own, self.start.tools[usize::from(launch.tool)].timeout) {
            (Some(millis), _) | (None, ToolTimeout::Millis(millis)) => Some(Duration::from_millis(millis)),
            (None, ToolTimeout::Never) => None,
            (None, ToolTimeout::Default) => self.timeout,
        }
    }

    /// Takes note of what was used.
    pub(super) fn spent(&self, usage: Usage) {
        self.spending.iter().for_each(|spending| spending.add(usage));
    }

    /// What an attempt wants of the journal. If that fails or panics so does the run, and the attempt is answered.
    pub(super) fn ask_journal<'a, T>(
        &'a self,
        asked: impl Future<Output = Result<T, JournalError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StepError>> {
        let interrupted = |message: String| StepError::new(StepErrorKind::Interrupted, message);
        let answer = AssertUnwindSafe(asked).catch_unwind().map(move |answer| match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let interrupted = interrupted(error.to_string());
                self.desk.post(Message::Failed(error.into()));
                Err(interrupted)
            }
            Err(panic) => {
                self.desk.lose(panic);
                Err(interrupted("the journal panicked".to_owned()))
            }
        });
        Box::pin(answer)
    }
}

/// A call that is to be made.
pub(super) struct Job {
    pub(super) launch: Box<Launch>,
    /// There if some inputs are not values yet: what is made of others. Kept until the call is over, so that others find
    /// it.
    pub(super) gathered: Option<Box<Gathers>>,
}

impl Job {
    pub(super) fn attempt(&self) -> AttemptNumber {
        self.launch.attempt
    }

    /// The answer to a launch whose call was not made.
    pub(super) fn aborted(&self) -> Event {
        let result = Err(Arc::new(aborted()));
        Event::AttemptReturned { attempt: self.launch.attempt, result, usage: Usage::default(), draw: 0 }
    }
}

/// A running attempt. Its call and every guard of the tool share it; dropping the last of them answers the launch, so
/// that every launch is answered exactly once, and not before the tool is really gone.
pub(super) struct Attempt {
    run: Arc<RunContext>,
    /// [`NOBODY`] while there is no launch to answer.
    number: AtomicU32,
    step: AtomicU32,
    end: Mutex<End>,
}

/// No attempt has this number.
const NOBODY: AttemptNumber = AttemptNumber::MAX;

/// What an attempt came to.
#[derive(Default)]
struct End {
    usage: Usage,
    /// None: the call was dropped before it came to anything.
    outcome: Option<Outcome>,
}

/// What a call came to.
type Outcome = Result<Returned, Arc<StepError>>;

impl Attempt {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the launch.
    fn answer(&mut self, outcome: Option<Outcome>) -> Event {
        let attempt = std::mem::replace(self.number.get_mut(), NOBODY);
        let end = std::mem::take(self.end.get_mut().unwrap_or_else(PoisonError::into_inner));
        let result = outcome.or(end.outcome).unwrap_or_else(|| {
            Err(Arc::new(if std::thread::panicking() {
                StepError::new(StepErrorKind::Panicked, "the tool panicked as it was dropped")
            } else {
                aborted()
            }))
        });
        Event::AttemptReturned { attempt, result, usage: end.usage, draw: fastrand::u16(..) }
    }
}

impl Call for Attempt {
    fn objective(&self) -> &str {
        &self.run.start.objective
    }

    fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run.id, self.step.load(Ordering::Relaxed))
    }

    fn add_usage(&self, usage: Usage) {
        self.end().usage += usage;
        self.run.spent(usage);
    }

    fn check_limits(&self) -> Result<(), StepError> {
        self.run.spending.as_ref().map_or(Ok(()), Spending::check)
    }

    fn carry_over(&self, what: Box<dyn Any + Send>) {
        self.run.carried_over.put(self.step.load(Ordering::Relaxed), what);
    }

    fn carried_over(&self, of: TypeId) -> Option<Box<dyn Any + Send>> {
        self.run.carried_over.take(self.step.load(Ordering::Relaxed), of)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if *self.number.get_mut() != NOBODY {
            let answer = self.answer(None);
            self.run.desk.post(Message::Event(answer));
        }
    }
}

pub(super) fn aborted() -> StepError {
    StepError::new(StepErrorKind::Aborted, "ended before it had a result")
}

/// Makes calls. What one needed that was over at once serves for the next: to get it and to give it back would be much of
/// what such a call costs.
pub(super) struct Calls<M, F> {
    make: M,
    call: Pin<Box<OptionFuture<F>>>,
    /// One that nobody else has, and that answers nothing.
    attempt: Option<Arc<Attempt>>,
}

impl<M, F> Calls<M, F>
where
    M: Fn(Arc<Attempt>, Job) -> F,
    F: Future<Output = (Arc<Attempt>, Outcome)> + Send + 'static,
{
    /// `make` is [`call`]: the type of its future has no name.
    pub(super) fn new(make: M) -> Self {
        Self { make, call: Box::pin(None.into()), attempt: None }
    }

    /// Begins a call, and gives the answer to the launch if it is over at once. A call that has to wait becomes a task;
    /// to end the attempt that task is dropped, which answers the launch.
    pub(super) fn begin(&mut self, run: &Arc<RunContext>, job: Job) -> Option<Event> {
        let Launch { attempt: number, step, ref id, .. } = *job.launch;
        let span = tracing::info_span!("attempt", run = %run.id, step = %id, attempt = number);
        let attempt = match self.attempt.take() {
            Some(attempt) => {
                attempt.number.store(number, Ordering::Relaxed);
                attempt.step.store(step, Ordering::Relaxed);
                attempt
            }
            None => Arc::new(Attempt {
                run: Arc::clone(run),
                number: number.into(),
                step: step.into(),
                end: Mutex::default(),
            }),
        };
        self.call.set(Some((self.make)(attempt, job)).into());
        // Whoever would be woken is asked again in any case: as a task.
        let polled = span.in_scope(|| self.call.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        let Poll::Ready(called) = polled else {
            let call = std::mem::replace(&mut self.call, Box::pin(None.into()));
            let answered =
                async { call.await.into_iter().for_each(|(attempt, outcome)| attempt.end().outcome = Some(outcome)) };
            run.desk.adopt(number, || tokio::spawn(answered.instrument(span)).abort_handle());
            return None;
        };
        self.call.set(None.into());
        let (mut attempt, outcome) = called?;
        let Some(own) = Arc::get_mut(&mut attempt) else {
            // A guard that the tool has kept answers later.
            attempt.end().outcome = Some(outcome);
            return None;
        };
        let answer = own.answer(Some(outcome));
        self.attempt = Some(attempt);
        Some(answer)
    }
}

/// Makes a call. Nothing in it that panics ends more than itself.
pub(super) async fn call(attempt: Arc<Attempt>, job: Job) -> (Arc<Attempt>, Outcome) {
    let outcome = AssertUnwindSafe(outcome(&attempt, job)).catch_unwind().await.unwrap_or_else(panicked);
    (attempt, outcome)
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Outcome {
    let message = format!("panicked: {}", panic_text(panic));
    Err(failure(StepError::new(StepErrorKind::Panicked, message)))
}

/// What the step's tool comes back with.
async fn outcome(attempt: &Arc<Attempt>, mut job: Job) -> Outcome {
    let run = &*attempt.run;
    // What is rare is boxed: each call is allocated as large as the largest path through here.
    if let Some(gathered) = &job.gathered {
        Box::pin(output::make_inline(run, job.launch.inputs.listed_mut(), gathered)).await.map_err(failure)?;
    }
    let tool = usize::from(job.launch.tool);
    let timeout = run.timeout(&job.launch);
    let Some(args) = args(run, &job.launch).map_err(failure)? else { return Ok(Returned::ConditionFalse) };
    if let Some(mark) = run.lost {
        check_known(run, tool, &args, mark).map_err(failure)?;
    }
    // Every field is moved once, to where it stays: copies of a whole context are a good part of what a cheap call costs.
    let Launch { attempt: number, id, definition: step, tries, inputs, last_error, expansion, room, .. } = *job.launch;
    let mut call = run.tools[tool].call(StepContext {
        args,
        id,
        step,
        attempt: number,
        tries,
        inputs,
        last_error,
        expansion,
        room,
        caller: Caller(Arc::clone(attempt) as _),
    });
    // Most calls of a cheap tool are over at once, so the timer is set only for one that is not.
    let returned = match poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        Poll::Ready(returned) => {
            drop(call);
            returned
        }
        Poll::Pending => timely(call, timeout).await,
    };
    match returned {
        Ok(ToolOutput::Value(value)) => match output::kept_inline(run, value).map_err(failure)? {
            Ok(output) => Ok(Returned::Value(output)),
            Err(large) => Box::pin(output::store(run, large)).await.map(Returned::Value).map_err(failure),
        },
        Ok(ToolOutput::Plan(plan)) => {
            output::bounded_plan(plan).map(|plan| Returned::Plan(Box::new(plan))).map_err(failure)
        }
        Err(error) => Err(failure(error)),
    }
}

#[cold]
fn failure(error: StepError) -> Arc<StepError> {
    Arc::new(output::bounded_error(error))
}

/// What acts is to act with what it was meant to, or not at all.
#[cold]
fn check_known(run: &RunContext, tool: usize, args: &Value, mark: &str) -> Result<(), StepError> {
    if run.start.tools[tool].effect != Effect::Acts || !args.to_string().contains(mark) {
        return Ok(());
    }
    Err(StepError::permanent(format!(
        "its arguments have {mark} where there was a secret, which is not written down: start a new run, or have what it \
         calls read the secret from its environment"
    )))
}

/// The arguments of a call, every reference filled; none if the step's condition is false.
fn args(run: &RunContext, launch: &Launch) -> Result<Option<Value>, StepError> {
    if launch.is_plain {
        return Ok(Some(launch.definition.args.clone()));
    }
    let input = launch.inputs.shared();
    let lookup = |id: &str| match id {
        reference::INPUTS => Some(Arc::clone(&run.inputs)),
        id => input(id),
    };
    let step = &launch.definition;
    if let Some(when) = &step.when
        && !reference::condition(when, &lookup)?
    {
        return Ok(None);
    }
    Ok(Some(match reference::has_references(&step.args) {
        true => reference::fill(&step.args, &lookup)?,
        false => step.args.clone(),
    }))
}

/// What a panic says, which is over with that, even if what it was made of panics in turn as it is dropped.
pub(super) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "no message".to_owned(),
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    text
}

/// Drops a call that takes too long.
async fn timely(
    call: BoxFuture<'_, Result<ToolOutput, StepError>>,
    timeout: Option<Duration>,
) -> Result<ToolOutput, StepError> {
    let Some(limit) = timeout else { return call.await };
    match Box::pin(tokio::time::timeout(limit, call)).await {
        Ok(result) => result,
        Err(_) => Err(StepError::new(StepErrorKind::Timeout, format!("no result within {limit:?}"))),
    }
}
