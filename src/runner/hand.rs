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

use super::attempt::{Calls, RunContext, call};
use super::desk::{By, Hand, Help, Next};
use super::drive::turns;

/// Makes one call after the other, and the turns that follow from them.
///
/// A call is begun by the hand itself: many tools are done at once, and a task for each would cost more than
/// everything else about such a step. A call that has to wait becomes a task of its own.
async fn work(run: Arc<RunContext>) {
    let mut hand = Hand::new();
    let mut calls = Calls::new(call);
    let mut slice = Slice { since: hand.asked, calls: 0 };
    // Whether this hand has woken another task since it last stepped aside.
    let mut has_woken = false;
    loop {
        let (next, help) = poll_fn(|cx| run.desk.poll_next(&mut hand, cx)).await;
        has_woken |= summon(&run, help);
        let job = match next {
            Next::End => return,
            Next::Call(job) => Some(job),
            Next::Turn(driver, at) => match AssertUnwindSafe(turns(&run, driver, By::Hand, at)).catch_unwind().await {
                Ok((job, woken)) => {
                    has_woken |= woken;
                    job
                }
                Err(panic) => {
                    run.desk.lose(panic);
                    None
                }
            },
        };
        if job.is_some() && std::mem::take(&mut has_woken) {
            step_aside().await;
            hand.begin_later();
        } else if slice.is_over(hand.asked) {
            yield_now().await;
            hand.begin_later();
        }
        if let Some(job) = job {
            hand.answer = calls.begin(&run, job);
        }
    }
}

/// For how long a hand goes on before it lets other tasks of its thread run. To step aside costs as much as ten steps
/// that do nothing, as the runtime then looks for something to do everywhere.
const SLICE: Duration = Duration::from_micros(500);
/// After so many calls it does so in any case: the clock may stand still.
const MOST_CALLS: u32 = 1_000;

/// What a hand has done since it last let others run.
struct Slice {
    since: Instant,
    calls: u32,
}

impl Slice {
    fn is_over(&mut self, now: Instant) -> bool {
        self.calls += 1;
        let is_over = now - self.since >= SLICE || self.calls >= MOST_CALLS || !coop::has_budget_remaining();
        if is_over {
            *self = Self { since: now, calls: 0 };
        }
        is_over
    }
}

/// Begins one more hand.
pub(super) fn spawn(run: &Arc<RunContext>) {
    tokio::spawn(work(Arc::clone(run)).in_current_span());
}

/// Has everybody come who is needed. Says whether there was anybody.
pub(super) fn summon(run: &Arc<RunContext>, help: Help) -> bool {
    let wants_hand = help.wants_hand;
    if wants_hand {
        spawn(run);
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
