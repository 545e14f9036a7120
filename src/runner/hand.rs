//! The tasks that call tools.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::{coop, yield_now};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::event::Event;

use super::attempt::{Calls, RunContext, call};
use super::desk::By;
use super::drive::turns;
use super::staffing::{Help, Next};

/// Makes one call after the other, and the turns that follow from them.
///
/// A call is begun by the hand itself: many tools are done at once, and a task for each would cost more than
/// everything else about such a step. A call that has to wait becomes a task of its own.
async fn work(run: &Arc<RunContext>) {
    let mut hand = Hand::new();
    let mut calls = Calls::new(call);
    // Whether this hand has woken another task since it last stepped aside.
    let mut has_woken = false;
    loop {
        let (next, help) = poll_fn(|cx| run.desk.poll_next(&mut hand, cx)).await;
        has_woken |= summon(run, help);
        let job = match next {
            Next::End => return,
            Next::Rest => {
                has_woken = false;
                yield_now().await;
                continue;
            }
            Next::Call(job) => Some(job),
            Next::Turn(driver, at) => {
                let (job, woken) = turns(run, driver, By::Hand, at).await;
                has_woken |= woken;
                job
            }
        };
        if let Some(job) = job {
            if std::mem::take(&mut has_woken) {
                // Nobody knows for how long: meanwhile the call is anybody's.
                run.desk.put_back(job);
                step_aside().await;
                continue;
            }
            hand.called = Some(job.launch.tool);
            hand.answer = calls.begin(run, job);
        }
    }
}

/// For how long a hand goes on before it lets other tasks of its thread run. To step aside costs as much as ten steps
/// that do nothing, as the runtime then looks for something to do everywhere.
const SLICE: Duration = Duration::from_millis(2);
/// After so many rounds it does so in any case: the clock may stand still.
const MOST_ROUNDS: u32 = 4_000;

/// What a hand has to say when it asks what to do next, and what the desk knows of it.
pub(super) struct Hand {
    /// The tool that it has called since it last asked.
    pub(super) called: Option<u16>,
    /// The answer to that call, if it is over.
    pub(super) answer: Option<Event>,
    /// When it asked.
    pub(super) asked: Instant,
    /// When it was given its last call, unless that came with a turn.
    pub(super) began: Option<Instant>,
    /// Whether it has made a turn or a call since it last had nothing to do.
    pub(super) works: bool,
    /// Whether it waits for something to do.
    pub(super) is_idle: bool,
    /// Until when it goes on before it lets others run, if it has asked since it last did, and how often it has.
    tired_at: Option<Instant>,
    rounds: u32,
}

impl Hand {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            called: None,
            answer: None,
            asked: now,
            began: None,
            works: false,
            is_idle: false,
            tired_at: None,
            rounds: 0,
        }
    }

    /// Whether it lets others run before it goes on.
    pub(super) fn is_tired(&mut self) -> bool {
        self.rounds += 1;
        // However long the others took, it gets its own time after that.
        self.asked >= *self.tired_at.get_or_insert(self.asked + SLICE)
            || self.rounds >= MOST_ROUNDS
            || !coop::has_budget_remaining()
    }

    /// It lets others run.
    pub(super) fn rest(&mut self) {
        self.tired_at = None;
        self.rounds = 0;
    }
}

/// Begins one more hand. A panic of it, which is none of a tool, is the run's: nobody does what it was about to do.
pub(super) fn spawn(run: &Arc<RunContext>) {
    let run = Arc::clone(run);
    let hand = async move {
        if let Err(panic) = AssertUnwindSafe(work(&run)).catch_unwind().await {
            run.desk.lose(panic);
        }
    };
    tokio::spawn(hand.in_current_span());
}

/// Has everybody come who is needed. Says whether there was anybody.
pub(super) fn summon(run: &Arc<RunContext>, help: Help) -> bool {
    let wants_hand = help.wants_hand;
    if wants_hand {
        spawn(run);
    }
    if help.calls {
        run.desk.call();
    }
    help.wake() || wants_hand
}

/// Lets others run first.
///
/// A task that this one has woken is not seen by other threads as long as this one goes on: the runtime keeps it for
/// this thread, to be run next. It must not wait for a tool that computes for seconds.
async fn step_aside() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // Unlike `yield_now`, this puts the task where other threads find it.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
