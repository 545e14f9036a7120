//! What people decide elsewhere than in the process that drives a run.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::Instrument as _;

use super::attempt::RunContext;
use super::desk::Message;

/// How often letters are looked for. A person does not notice so much.
const GLANCE: Duration = Duration::from_millis(100);

/// Has the driver told what letters say, until it is dropped. There is one while a step waits for a person, so a run
/// about which nobody has to decide anything does not look.
pub(super) struct Listener(AbortHandle);

impl Listener {
    pub(super) fn start(run: &Arc<RunContext>) -> Self {
        Self(tokio::spawn(listen(Arc::downgrade(run)).in_current_span()).abort_handle())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has a part in the run only while it looks, so that it never keeps a run that is over from being let go of.
async fn listen(run: Weak<RunContext>) {
    loop {
        sleep(GLANCE).await;
        let Some(run) = run.upgrade() else { return };
        let Some(kept) = &run.journal else { return };
        let Some(held) = kept.held() else { return };
        match AssertUnwindSafe(async { kept.journal.letters(&held.claim).await }).catch_unwind().await {
            Ok(Ok(letters)) => letters.into_iter().for_each(|letter| run.desk.post(Message::Letter(letter))),
            // Whoever has left one sees that nothing comes of it.
            Ok(Err(error)) => tracing::debug!(run = %run.id, %error, "letters cannot be read"),
            Err(panic) => return run.desk.lose(panic),
        }
    }
}
