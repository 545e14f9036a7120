//! Where the tasks of a run meet.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::RunError;
use crate::event::{AttemptNumber, Event, Timestamp};
use crate::journal::Letter;

use super::attempt::Job;
use super::drive::{Driver, Orders};
use super::hand::Hand;
use super::staffing::{Help, Next, State, Task};

/// What the driver of a run is told: mostly what it tells the scheduler.
#[derive(Debug)]
pub(super) enum Message {
    /// Something for the scheduler.
    Event(Event),
    /// What a person has decided elsewhere. It may come too late.
    Letter(Letter),
    /// The run cannot go on.
    Failed(RunError),
}

impl Message {
    /// Whether it ends what the driver has begun.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Event(Event::AttemptReturned { .. } | Event::PlanReturned { .. }))
    }
}

/// The place of a run's [`Driver`], the messages for it, and the calls that it wants to have made.
///
/// One task at a time has the driver and makes a *turn*. A [hand](super::hand) whose call is over leaves its answer
/// here and, if nobody is driving, makes the next turn itself; often that turn gives it its next call, so a chain of
/// steps is run by one task that wakes no other. What comes from elsewhere (the planner, a call that had to wait, the
/// timer, the user) is for the *keeper*, the run's own task, which also sees the run to its end.
pub(super) struct Desk {
    state: Mutex<State>,
    /// How often hands that are awake have been told to look.
    calls: AtomicU32,
}

/// How long a hand that has nothing to do stays awake while others work: longer than it takes to wake one, or hands that
/// wait for each other would all be asleep again before the last of them is awake.
const AWAKE_FOR: Duration = Duration::from_micros(100);

/// Who makes a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Hand,
    Keeper,
}

/// What follows a turn.
pub(super) enum After {
    /// Another one: messages came meanwhile.
    Turn(Box<Driver>),
    /// A call, if a hand has made the turn.
    Call(Job),
    Nothing,
}

/// What the keeper does next.
pub(super) enum Keep {
    Turn(Box<Driver>),
    /// The run is over; the driver is the keeper's for good.
    Over(Box<Driver>),
    Panic(Box<dyn Any + Send>),
}

impl Desk {
    /// A desk at which as many hands make calls as the runtime has threads.
    pub(super) fn new(runtime: &Handle) -> Self {
        let state = State::new(runtime);
        Self { state: Mutex::new(state), calls: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the driver in its place, with the first message for it.
    pub(super) fn place(&self, driver: Driver, first: Event) {
        let mut state = self.lock();
        // A run may be cancelled before it has begun.
        state.messages.insert(0, Message::Event(first));
        state.driver = Some(Box::new(driver));
    }

    /// Leaves a message for the next turn, and wakes the keeper to make it. When everything is to end, only answers are
    /// of use.
    pub(super) fn post(&self, message: Message) {
        let keeper = {
            let mut state = self.lock();
            if state.is_closed && !message.is_answer() {
                return;
            }
            if let Message::Event(Event::AttemptReturned { attempt, .. }) = &message {
                state.tasks.remove(attempt);
            }
            state.messages.push(message);
            // Whoever drives sees the message before letting go.
            if state.driver.is_some() || state.is_closed { state.keeper.take() } else { None }
        };
        keeper.into_iter().for_each(Waker::wake);
    }

    /// Takes the answer to a hand's last call, and says what the hand does next.
    pub(super) fn poll_next(&self, hand: &mut Hand, cx: &Context<'_>) -> Poll<(Next, Help)> {
        let now = Instant::now();
        let mut state = self.lock();
        state.note(hand, now, cx);
        let mut next = state.next(hand, now);
        if next.is_none() && state.lays_off(hand) {
            state.awake += 1;
            let seen = self.calls.load(Ordering::Relaxed);
            drop(state);
            let now = self.stay_awake(seen);
            state = self.lock();
            state.awake -= 1;
            next = state.next(hand, now);
        }
        if let Some(next) = next {
            return Poll::Ready(next);
        }
        hand.is_idle = true;
        state.idle.push(cx.waker().clone());
        let keeper = if state.jobs.is_empty() { None } else { state.watch() };
        drop(state);
        keeper.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// Waits a moment for a call to look again, and does not sleep. Says when it is over.
    fn stay_awake(&self, seen: u32) -> Instant {
        let began = Instant::now();
        loop {
            (0..8).for_each(|_| std::hint::spin_loop());
            let now = Instant::now();
            if self.calls.load(Ordering::Relaxed) != seen || now - began >= AWAKE_FOR {
                return now;
            }
        }
    }

    /// Has a hand that is awake look.
    pub(super) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back a call that was not begun.
    pub(super) fn put_back(&self, job: Job) {
        let keeper = {
            let mut state = self.lock();
            if state.is_closed {
                state.messages.push(Message::Event(job.aborted()));
                state.keeper.take()
            } else {
                state.jobs.push_front(job);
                state.begun -= 1;
                state.watch()
            }
        };
        keeper.into_iter().for_each(Waker::wake);
    }

    /// Ends a turn. The keeper makes no calls, so for what it starts others are needed.
    pub(super) fn end_turn(&self, mut driver: Box<Driver>, by: By) -> (After, Help) {
        let mut state = self.lock();
        if state.is_closed {
            // The keeper is gone, and with it the run.
            drop(state);
            return (After::Nothing, Help::default());
        }
        let state = &mut *state;
        state.turned = driver.turned();
        let Orders { jobs, aborts, wake_at } = &mut driver.orders;
        state.jobs.extend(jobs.drain(..));
        for attempt in aborts.drain(..) {
            // Ending a task only marks it: nothing of it is dropped here.
            if let Some(Task::Running(task)) = state.tasks.insert(attempt, Task::Revoked) {
                task.abort();
            }
        }
        let wakes = wake_at.take();
        let wants_keeper = wakes.is_some() || driver.is_over();
        state.wake_at = wakes.or(state.wake_at);
        state.is_over |= driver.is_over();
        let after = if !state.is_over && !state.messages.is_empty() && !state.leaves_turn(2) {
            std::mem::swap(&mut state.messages, driver.messages());
            After::Turn(driver)
        } else {
            state.driver = Some(driver);
            match if by == By::Hand && !state.is_spare(true) { state.take_job() } else { None } {
                Some(job) => After::Call(job),
                None => After::Nothing,
            }
        };
        let mut help = state.help();
        if wants_keeper && by == By::Hand {
            help.keeper = help.keeper.or(state.keeper.take());
        }
        (after, help)
    }

    /// Something that the run cannot do without has panicked. The keeper goes on with that.
    pub(super) fn lose(&self, panic: Box<dyn Any + Send>) {
        let keeper = {
            let mut state = self.lock();
            state.panic = Some(panic);
            state.keeper.take()
        };
        keeper.into_iter().for_each(Waker::wake);
    }

    /// Makes a task of an attempt that has to wait, unless it was told to end meanwhile.
    pub(super) fn adopt(&self, attempt: AttemptNumber, spawn: impl FnOnce() -> AbortHandle) {
        // A task that is over at once must find that it is known here, and one that the runtime refuses must not find
        // the desk locked.
        self.lock().tasks.entry(attempt).or_insert(Task::Starting);
        let handle = spawn();
        let mut state = self.lock();
        let is_closed = state.is_closed;
        match state.tasks.get_mut(&attempt) {
            Some(task @ Task::Starting) if !is_closed => *task = Task::Running(handle),
            Some(_) => handle.abort(),
            None => {}
        }
    }

    /// Has more hands come if none has begun a call since the keeper last looked, though some wait: all that could have
    /// are in calls that block their threads. Says how many more are needed than there are. None: no call waits, and
    /// nobody needs to look again.
    pub(super) fn relieve(&self) -> Option<usize> {
        let mut state = self.lock();
        let before = state.watched.take();
        if state.jobs.is_empty() || state.is_closed {
            return None;
        }
        state.watched = Some(state.begun);
        if before != state.watched {
            return Some(0);
        }
        (state.stuck, state.stuck_at) = (state.working, Some(Instant::now()));
        let idle = std::mem::take(&mut state.idle);
        let more = match state.max_hands.saturating_sub(state.hands) {
            _ if !idle.is_empty() => 0,
            // All that there may be are stuck. There is no telling how many more it takes, nor whether it only seems so
            // because the machine is slow: twice as many each time.
            0 => state.hands.min(state.jobs.len()),
            room => room.min(state.jobs.len()),
        };
        state.hands += more;
        drop(state);
        idle.into_iter().for_each(Waker::wake);
        Some(more)
    }

    /// What the keeper does next. Until then, `wake_at` is when it is to send [`Event::Woke`], and `watches` is whether
    /// it is to [look after the hands](Self::relieve).
    pub(super) fn poll_keep(
        &self,
        cx: &Context<'_>,
        wake_at: &mut Option<Timestamp>,
        watches: &mut bool,
    ) -> Poll<Keep> {
        let mut state = self.lock();
        *wake_at = state.wake_at.take().or(*wake_at);
        *watches = state.watched.is_some();
        if let Some(panic) = state.panic.take() {
            return Poll::Ready(Keep::Panic(panic));
        }
        if state.is_over
            && let Some(driver) = state.driver.take()
        {
            return Poll::Ready(Keep::Over(driver));
        }
        if let Some(driver) = state.take_turn() {
            return Poll::Ready(Keep::Turn(driver));
        }
        state.keeper = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends everything: calls that nobody has begun are answered, tasks are aborted, hands go.
    pub(super) fn close(&self) {
        let (idle, driver) = {
            let mut state = self.lock();
            let state = &mut *state;
            state.is_closed = true;
            state.messages.extend(state.jobs.drain(..).map(|job| Message::Event(job.aborted())));
            for task in state.tasks.values_mut() {
                if let Task::Running(task) = std::mem::replace(task, Task::Revoked) {
                    task.abort();
                }
            }
            (std::mem::take(&mut state.idle), state.driver.take())
        };
        idle.into_iter().for_each(Waker::wake);
        drop(driver);
    }

    /// Takes the messages that come after the end.
    pub(super) fn poll_messages(&self, cx: &Context<'_>, messages: &mut Vec<Message>) -> Poll<()> {
        let mut state = self.lock();
        if state.messages.is_empty() {
            state.keeper = Some(cx.waker().clone());
            return Poll::Pending;
        }
        messages.append(&mut state.messages);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_everything_is_to_end_nothing_but_answers_piles_up() {
        let desk = Desk::new(&Handle::current());
        desk.close();
        let mut messages = Vec::new();
        let mut taken = || match desk.poll_messages(&Context::from_waker(Waker::noop()), &mut messages) {
            Poll::Ready(()) => messages.drain(..).count(),
            Poll::Pending => 0,
        };
        (0..9).for_each(|_| desk.post(Message::Event(Event::CancelRequested { at_once: true })));
        assert_eq!(taken(), 0);
        desk.post(Message::Event(Event::PlanReturned { request: 1, reply: Box::new(Err(crate::PlanError::Empty)) }));
        assert_eq!(taken(), 1);
    }
}
