//! What lies on a run's desk, and who deals with it: how many hands make calls, and what is left for later.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::event::{AttemptNumber, Event, Timestamp};

use super::attempt::Job;
use super::desk::Message;
use super::drive::Driver;
use super::hand::Hand;

/// How many answers may wait for a turn while calls wait for a hand, and how long after the last turn, when a hand asks
/// what to do: a step's end is noted so much too late, and what it lets begin is begun so much later.
const MOST_WAITING: usize = 8;
const LONGEST_WAITING: Duration = Duration::from_micros(200);

/// A call that is over sooner is not worth another hand's while: to wake one, and to hand over what a call is made of
/// from one core to another, takes as long. That of a tool that does nothing takes less than half of it.
const SHORT: Duration = Duration::from_nanos(500);

/// What lies on a desk.
pub(super) struct State {
    /// What has happened since the last turn.
    pub(super) messages: Vec<Message>,
    /// None while somebody makes a turn, and once the keeper has taken it for good.
    pub(super) driver: Option<Box<Driver>>,
    /// Calls that nobody has begun.
    pub(super) jobs: VecDeque<Job>,
    /// Attempts that were begun and have become tasks of their own, and those that were told to end before.
    pub(super) tasks: BTreeMap<AttemptNumber, Task>,
    /// How many hands there are, and how many there may be.
    pub(super) hands: usize,
    pub(super) max_hands: usize,
    /// Whether the keeper is there while a call blocks its thread.
    is_watched_over: bool,
    /// How many hands have made a turn or a call since they last had nothing to do.
    pub(super) working: usize,
    /// How many of them the keeper has found in calls that block their threads, and when.
    pub(super) stuck: usize,
    pub(super) stuck_at: Option<Instant>,
    /// What a call of each tool takes, on the average of the last few, until it is over or has to wait.
    paces: Vec<Option<Duration>>,
    /// When the last turn began, where turns may be left for later.
    pub(super) turned: Option<Instant>,
    /// How many calls were begun, and how many they were when the keeper last looked whether there are more.
    pub(super) begun: u64,
    pub(super) watched: Option<u64>,
    /// Hands that wait for something to do.
    pub(super) idle: Vec<Waker>,
    /// How many have nothing to do and stay awake for a moment.
    pub(super) awake: usize,
    /// The keeper, if it waits.
    pub(super) keeper: Option<Waker>,
    pub(super) wake_at: Option<Timestamp>,
    /// Whether the run is over, or cannot go on: nobody but the keeper may take the driver.
    pub(super) is_over: bool,
    /// Whether everything is to end.
    pub(super) is_closed: bool,
    /// The panic of a hand or of the journal, which the keeper goes on with.
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

pub(super) enum Task {
    /// Its handle comes in a moment.
    Starting,
    Running(AbortHandle),
    /// It was told to end before it could be.
    Revoked,
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

/// Tasks that have something to do now.
#[must_use = "they wait until they are called"]
#[derive(Default)]
pub(super) struct Help {
    pub(super) hand: Option<Waker>,
    pub(super) keeper: Option<Waker>,
    /// Whether one more hand is needed.
    pub(super) wants_hand: bool,
    /// Whether a hand that is awake is to look.
    pub(super) calls: bool,
}

impl Help {
    /// Wakes those that are there. Says whether there was anybody.
    pub(super) fn wake(self) -> bool {
        let woken = [self.hand, self.keeper].into_iter().flatten().map(Waker::wake).count();
        woken > 0
    }
}

impl State {
    /// As many hands make calls as the runtime has threads.
    pub(super) fn new(runtime: &Handle) -> Self {
        Self {
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
            awake: 0,
            keeper: None,
            wake_at: None,
            is_over: false,
            is_closed: false,
            panic: None,
        }
    }

    /// The driver with all messages, if it is there and there are any.
    pub(super) fn take_turn(&mut self) -> Option<Box<Driver>> {
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

    /// Takes note of what a hand has done since it last asked.
    pub(super) fn note(&mut self, hand: &mut Hand, now: Instant, cx: &Context<'_>) {
        let asked = std::mem::replace(&mut hand.asked, now);
        let began = hand.began.take();
        if let Some(tool) = hand.called.take()
            && !self.jobs.is_empty()
        {
            // What came with a turn is measured only if it took so long that the turn makes no difference.
            if let Some(began) = began.or_else(|| Some(asked).filter(|asked| now - *asked >= LONGEST_WAITING)) {
                self.measure(tool, now - began);
            }
        }
        if std::mem::take(&mut hand.is_idle) {
            hand.rest();
            self.idle.retain(|waker| !waker.will_wake(cx.waker()));
        } else if hand.works && self.stuck_at.is_some_and(|at| asked < at) {
            self.stuck = self.stuck.saturating_sub(1);
        }
        if let Some(answer) = hand.answer.take() {
            if let Event::AttemptReturned { attempt, .. } = &answer
                && !self.tasks.is_empty()
            {
                self.tasks.remove(attempt);
            }
            self.messages.push(Message::Event(answer));
        }
    }

    /// What a hand does next, if there is anything to do.
    pub(super) fn next(&mut self, hand: &mut Hand, now: Instant) -> Option<(Next, Help)> {
        if self.is_closed {
            let keeper = self.keeper.take();
            return Some((Next::End, Help { keeper, ..Help::default() }));
        }
        if hand.is_tired() {
            hand.rest();
            return Some((Next::Rest, self.help()));
        }
        let leaves_turn = self.leaves_turn(2) && self.turned_lately(now);
        if !leaves_turn && let Some(driver) = self.take_turn() {
            self.employ(hand);
            return Some((Next::Turn(driver, now), Help::default()));
        }
        if !self.is_spare(hand.works)
            && let Some(job) = self.take_job()
        {
            self.employ(hand);
            hand.began = Some(now);
            return Some((Next::Call(job), self.help()));
        }
        let driver = self.take_turn()?;
        self.employ(hand);
        Some((Next::Turn(driver, now), Help::default()))
    }

    /// A hand has something to do.
    fn employ(&mut self, hand: &mut Hand) {
        self.working += usize::from(!std::mem::replace(&mut hand.works, true));
    }

    /// Whether a hand is one too many, beside those that work and are not stuck. If it has not begun to work it is as
    /// soon as there is one.
    pub(super) fn is_spare(&self, works: bool) -> bool {
        self.working - usize::from(works) > self.stuck && !self.shares()
    }

    /// Whether the turn is left for later while at least `calls` wait: one turn for several answers costs less than one
    /// for each. What becomes ready by it would not be begun sooner, as all hands have something to do and calls that
    /// were launched before come first; and whoever makes the last call but one makes the turn.
    pub(super) fn leaves_turn(&self, calls: usize) -> bool {
        self.messages.len() < MOST_WAITING
            && self.jobs.len() >= calls
            && (!self.shares() || self.idle.is_empty() && self.awake == 0 && self.hands >= self.max_hands)
            && self.turned.is_some()
    }

    /// A hand has nothing to do. Says whether it is likely to have something in a moment; where a turn waits for a journal,
    /// that takes longer.
    pub(super) fn lays_off(&mut self, hand: &mut Hand) -> bool {
        let has_worked = std::mem::take(&mut hand.works);
        self.working -= usize::from(has_worked);
        let is_likely = self.working > self.stuck && self.jobs.is_empty() && self.turned.is_some();
        has_worked && is_likely && self.is_watched_over
    }

    /// Whether the last turn was a moment ago.
    fn turned_lately(&self, now: Instant) -> bool {
        self.turned.is_some_and(|turned| now - turned < LONGEST_WAITING)
    }

    /// The next call to make. One that was told to end before is answered here.
    pub(super) fn take_job(&mut self) -> Option<Job> {
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
    pub(super) fn help(&mut self) -> Help {
        let mut help = Help::default();
        if self.driver.is_some() && !self.messages.is_empty() && !self.leaves_turn(1) {
            help.keeper = self.keeper.take();
        }
        if !self.jobs.is_empty() {
            if self.hands - self.idle.len() <= self.stuck || self.shares() {
                help.calls = self.awake > 0;
                help.hand = if help.calls { None } else { self.idle.pop() };
                help.wants_hand = !help.calls && help.hand.is_none() && self.hands < self.max_hands;
                self.hands += usize::from(help.wants_hand);
            }
            if !help.calls && help.hand.is_none() && !help.wants_hand {
                help.keeper = self.watch().or(help.keeper);
            }
        }
        help
    }

    /// Has the keeper [look](Desk::relieve) whether calls that wait are begun.
    pub(super) fn watch(&mut self) -> Option<Waker> {
        if self.watched.is_some() || !self.is_watched_over {
            return None;
        }
        self.watched = Some(self.begun);
        self.keeper.take()
    }
}
