//! Where the tasks of a run meet.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::RunError;
use crate::event::{AttemptNumber, Event, Timestamp};
use crate::journal::Letter;

use super::attempt::Job;
use super::drive::{Driver, Orders};
use super::hand::Hand;

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
pub(super) struct Desk(Mutex<State>);

/// How many answers may wait for a turn while calls wait for a hand, and how long after the last turn, when a hand asks
/// what to do: a step's end is noted so much too late, and what it lets begin is begun so much later.
const MOST_WAITING: usize = 8;
const LONGEST_WAITING: Duration = Duration::from_micros(200);

/// A call that is over sooner is not worth another hand's while: to wake one, and to hand over what a call is made of
/// from one core to another, takes as long. That of a tool that does nothing takes less than half of it.
const SHORT: Duration = Duration::from_nanos(500);

struct State {
    /// What has happened since the last turn.
    messages: Vec<Message>,
    /// None while somebody makes a turn, and once the keeper has taken it for good.
    driver: Option<Box<Driver>>,
    /// Calls that nobody has begun.
    jobs: VecDeque<Job>,
    /// Attempts that were begun and have become tasks of their own, and those that were told to end before.
    tasks: BTreeMap<AttemptNumber, Task>,
    /// How many hands there are, and how many there may be.
    hands: usize,
    max_hands: usize,
    /// Whether the keeper is there while a call blocks its thread.
    is_watched_over: bool,
    /// How many hands have made a turn or a call since they last had nothing to do.
    working: usize,
    /// How many of them the keeper has found in calls that block their threads, and when.
    stuck: usize,
    stuck_at: Option<Instant>,
    /// What a call of each tool takes, on the average of the last few, until it is over or has to wait.
    paces: Vec<Option<Duration>>,
    /// When the last turn began, where turns may be left for later.
    turned: Option<Instant>,
    /// How many calls were begun, and how many they were when the keeper last looked whether there are more.
    begun: u64,
    watched: Option<u64>,
    /// Hands that wait for something to do.
    idle: Vec<Waker>,
    /// The keeper, if it waits.
    keeper: Option<Waker>,
    wake_at: Option<Timestamp>,
    /// Whether the run is over, or cannot go on: nobody but the keeper may take the driver.
    is_over: bool,
    /// Whether everything is to end.
    is_closed: bool,
    /// The panic of a hand or of the journal, which the keeper goes on with.
    panic: Option<Box<dyn Any + Send>>,
}

enum Task {
    /// Its handle comes in a moment.
    Starting,
    Running(AbortHandle),
    /// It was told to end before it could be.
    Revoked,
}

/// Who makes a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Hand,
    Keeper,
}

/// What a hand does next.
pub(super) enum Next {
    /// A turn that begins now.
    Turn(Box<Driver>, Instant),
    Call(Job),
    /// It lets others run, and asks again.
    Rest,
    End,
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

/// Tasks that have something to do now.
#[must_use = "they wait until they are called"]
#[derive(Default)]
pub(super) struct Help {
    hand: Option<Waker>,
    keeper: Option<Waker>,
    /// Whether one more hand is needed.
    pub(super) wants_hand: bool,
}

impl Help {
    /// Wakes those that are there. Says whether there was anybody.
    pub(super) fn wake(self) -> bool {
        let woken = [self.hand, self.keeper].into_iter().flatten().map(Waker::wake).count();
        woken > 0
    }
}

impl State {
    /// The driver with all messages, if it is there and there are any.
    fn take_turn(&mut self) -> Option<Box<Driver>> {
        if self.messages.is_empty() || self.is_over {
            return None;
        }
        let mut driver = self.driver.take()?;
        std::mem::swap(&mut self.messages, driver.messages());
        Some(driver)
    }

    /// Whether calls are shared out among the hands; otherwise one hand makes them all. They are while the next one
    /// takes long enough or is of a tool that has not been called yet, and where turns may have to wait, so that there
    /// is something to do meanwhile.
    fn shares(&self) -> bool {
        let takes_long = |job: &Job| match self.paces.get(usize::from(job.launch.tool)) {
            Some(Some(pace)) => *pace >= SHORT,
            _ => true,
        };
        self.turned.is_none() || self.jobs.front().is_some_and(takes_long)
    }

    /// Takes note of what a call has taken.
    fn measure(&mut self, tool: u16, took: Duration) {
        let tool = usize::from(tool);
        if self.paces.len() <= tool {
            self.paces.resize(tool + 1, None);
        }
        // A single one that was interrupted says nothing.
        self.paces[tool] = Some(self.paces[tool].map_or(took, |pace| (pace * 3 + took.min((pace * 2).max(SHORT))) / 4));
    }

    /// A hand has something to do.
    fn employ(&mut self, hand: &mut Hand) {
        self.working += usize::from(!std::mem::replace(&mut hand.works, true));
    }

    /// Whether a hand is one too many, beside those that work and are not stuck. If it has not begun to work it is as
    /// soon as there is one.
    fn is_spare(&self, works: bool) -> bool {
        self.working - usize::from(works) > self.stuck && !self.shares()
    }

    /// Whether the turn is left for later while at least `calls` wait: one turn for several answers costs less than one
    /// for each. What becomes ready by it would not be begun sooner, as all hands have something to do and calls that
    /// were launched before come first; and whoever makes the last call but one makes the turn.
    fn leaves_turn(&self, calls: usize) -> bool {
        self.messages.len() < MOST_WAITING
            && self.jobs.len() >= calls
            && (!self.shares() || self.idle.is_empty() && self.hands >= self.max_hands)
            && self.turned.is_some()
    }

    /// Whether the last turn was a moment ago.
    fn turned_lately(&self, now: Instant) -> bool {
        self.turned.is_some_and(|turned| now - turned < LONGEST_WAITING)
    }

    /// The next call to make. One that was told to end before is answered here.
    fn take_job(&mut self) -> Option<Job> {
        loop {
            let job = self.jobs.pop_front()?;
            self.begun += 1;
            if self.tasks.is_empty() || self.tasks.remove(&job.attempt()).is_none() {
                return Some(job);
            }
            self.messages.push(Message::Event(job.aborted()));
        }
    }

    /// One more hand, if there are calls that nobody has begun; it finds another one in its turn. And the keeper, if
    /// there are messages that nobody else deals with.
    fn help(&mut self) -> Help {
        let mut help = Help::default();
        if self.driver.is_some() && !self.messages.is_empty() && !self.leaves_turn(1) {
            help.keeper = self.keeper.take();
        }
        if !self.jobs.is_empty() {
            if self.hands - self.idle.len() <= self.stuck || self.shares() {
                help.hand = self.idle.pop();
                help.wants_hand = help.hand.is_none() && self.hands < self.max_hands;
                self.hands += usize::from(help.wants_hand);
            }
            if help.hand.is_none() && !help.wants_hand {
                help.keeper = self.watch().or(help.keeper);
            }
        }
        help
    }

    /// Has the keeper [look](Desk::relieve) whether calls that wait are begun.
    fn watch(&mut self) -> Option<Waker> {
        if self.watched.is_some() || !self.is_watched_over {
            return None;
        }
        self.watched = Some(self.begun);
        self.keeper.take()
    }
}

impl Desk {
    /// A desk at which as many hands make calls as the runtime has threads.
    pub(super) fn new(runtime: &Handle) -> Self {
        Self(Mutex::new(State {
            messages: Vec::new(),
            driver: None,
            jobs: VecDeque::new(),
            tasks: BTreeMap::new(),
            hands: 0,
            max_hands: runtime.metrics().num_workers(),
            // On a single thread, whoever looks has found that thread free; that it took long says nothing.
            is_watched_over: runtime.runtime_flavor() != RuntimeFlavor::CurrentThread,
            working: 0,
            stuck: 0,
            stuck_at: None,
            paces: Vec::new(),
            turned: None,
            begun: 0,
            watched: None,
            idle: Vec::new(),
            keeper: None,
            wake_at: None,
            is_over: false,
            is_closed: false,
            panic: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let asked = std::mem::replace(&mut hand.asked, now);
        let began = hand.began.take();
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(tool) = hand.called.take()
            && !state.jobs.is_empty()
        {
            // What came with a turn is measured only if it took so long that the turn makes no difference.
            if let Some(began) = began.or_else(|| Some(asked).filter(|asked| now - *asked >= LONGEST_WAITING)) {
                state.measure(tool, now - began);
            }
        }
        if std::mem::take(&mut hand.is_idle) {
            hand.rest();
            state.idle.retain(|waker| !waker.will_wake(cx.waker()));
        } else if hand.works && state.stuck_at.is_some_and(|at| asked < at) {
            state.stuck = state.stuck.saturating_sub(1);
        }
        if let Some(answer) = hand.answer.take() {
            if let Event::AttemptReturned { attempt, .. } = &answer
                && !state.tasks.is_empty()
            {
                state.tasks.remove(attempt);
            }
            state.messages.push(Message::Event(answer));
        }
        if state.is_closed {
            let keeper = state.keeper.take();
            return Poll::Ready((Next::End, Help { keeper, ..Help::default() }));
        }
        if hand.is_tired() {
            hand.rest();
            return Poll::Ready((Next::Rest, state.help()));
        }
        let leaves_turn = state.leaves_turn(2) && state.turned_lately(now);
        if !leaves_turn && let Some(driver) = state.take_turn() {
            state.employ(hand);
            return Poll::Ready((Next::Turn(driver, now), Help::default()));
        }
        if !state.is_spare(hand.works)
            && let Some(job) = state.take_job()
        {
            state.employ(hand);
            hand.began = Some(now);
            return Poll::Ready((Next::Call(job), state.help()));
        }
        if let Some(driver) = state.take_turn() {
            state.employ(hand);
            return Poll::Ready((Next::Turn(driver, now), Help::default()));
        }
        state.working -= usize::from(std::mem::take(&mut hand.works));
        hand.is_idle = true;
        state.idle.push(cx.waker().clone());
        let keeper = if state.jobs.is_empty() { None } else { state.watch() };
        drop(guard);
        keeper.into_iter().for_each(Waker::wake);
        Poll::Pending
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
