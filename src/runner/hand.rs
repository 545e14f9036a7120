//! The tasks that call tools.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt as _;
use tokio::task::coop;
use tracing::Instrument as _;

use super::attempt::{self, RunContext};
use super::desk::{By, Help, Next};
use super::drive::turns;

/// Makes one call after the other, and the turns that follow from them.
///
/// A call is begun by the hand itself: many tools are done at once, and a task for each would cost more than
/// everything else about such a step. A call that has to wait becomes a task of its own.
async fn work(run: Arc<RunContext>) {
    let mut answer = None;
    // Whether this hand has woken another task since it last stepped aside.
    let mut has_woken = false;
    loop {
        let (next, help) = poll_fn(|cx| run.desk.poll_next(&mut answer, cx)).await;
        has_woken |= call(&run, help);
        let job = match next {
            Next::End => return,
            Next::Call(job) => Some(job),
            Next::Turn(driver) => match AssertUnwindSafe(turns(&run, driver, By::Hand)).catch_unwind().await {
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
        if let Some(job) = job {
            if std::mem::take(&mut has_woken) {
                step_aside().await;
            }
            answer = attempt::begin(&run, job);
        }
        coop::consume_budget().await;
    }
}

/// Begins one more hand.
pub(super) fn spawn(run: &Arc<RunContext>) {
    tokio::spawn(work(Arc::clone(run)).in_current_span());
}

/// Has everybody come who is needed. Says whether there was anybody.
pub(super) fn call(run: &Arc<RunContext>, help: Help) -> bool {
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
