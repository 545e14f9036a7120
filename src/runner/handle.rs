//! A run that goes on by itself: to watch, to steer and to wait for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::error::RunError;
use crate::event::{Decision, Event, StepNumber};
use crate::history::bounded;
use crate::journal::RunId;
use crate::report::RunReport;

use super::desk::{Desk, Message};
use super::live::{Events, Live, RunView};

/// A run that [`Runner::start`](super::Runner::start) has started.
///
/// Awaiting the handle waits for the run and gives its report; through `&mut`, it can still be steered. Dropping it
/// cancels the run at once, so that nothing goes on that nobody can stop; [`detach`](Self::detach) lets the run go on.
#[must_use = "dropping the handle cancels the run: await it or `detach` it"]
pub struct RunHandle {
    id: RunId,
    live: Arc<Live>,
    task: RunTask,
}

impl RunHandle {
    pub(super) fn new(id: RunId, live: Arc<Live>, task: RunTask) -> Self {
        Self { id, live, task }
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Everything that happens, from the first event on; of a run that was resumed, from there on.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.live))
    }

    /// The run as it is now.
    pub fn view(&self) -> RunView {
        self.live.view()
    }

    /// Stops the run: nothing new is started, and what is running may go on for the grace period of the
    /// [`Policy`](crate::Policy). A second call ends it at once. A stopped run can be resumed.
    pub fn cancel(&self) {
        self.task.send(Event::CancelRequested { at_once: false });
    }

    /// Stops the run and ends what is running.
    pub fn cancel_now(&self) {
        self.task.send(Event::CancelRequested { at_once: true });
    }

    /// Says what became of a step whose outcome is unknown, or whether one may act that waits for approval.
    ///
    /// When nothing else is left to do, the run stops, unless it is [attended](crate::Policy::attended) and a step waits
    /// for approval. About a run that has stopped, [`Runner::decide`](super::Runner::decide) decides.
    ///
    /// # Errors
    ///
    /// If a run cannot take up the decision: see [`history::decide`](crate::history::decide()).
    pub fn decide(&self, step: StepNumber, decision: Decision) -> Result<(), RunError> {
        self.task.send(Event::Decided { step, decision: bounded(decision)? });
        Ok(())
    }

    /// Lets the run go on by itself. Its report is lost, but not what its journal keeps.
    pub fn detach(mut self) {
        self.task.is_detached = true;
    }
}

impl Future for RunHandle {
    type Output = Result<RunReport, RunError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The task that drives a run. Dropping it cancels the run; the task itself lives on until everything is ended and
/// the journal says so.
pub(super) struct RunTask {
    task: JoinHandle<Result<RunReport, RunError>>,
    desk: Arc<Desk>,
    is_detached: bool,
}

impl RunTask {
    pub(super) fn new(task: JoinHandle<Result<RunReport, RunError>>, desk: Arc<Desk>) -> Self {
        Self { task, desk, is_detached: false }
    }

    fn send(&self, event: Event) {
        self.desk.post(Message::Event(event));
    }
}

impl Future for RunTask {
    type Output = Result<RunReport, RunError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|joined| match joined {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(RunError::Shutdown),
            },
        })
    }
}

impl Drop for RunTask {
    fn drop(&mut self) {
        if !self.is_detached {
            self.send(Event::CancelRequested { at_once: true });
        }
    }
}
