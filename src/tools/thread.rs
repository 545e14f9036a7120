//! Work that blocks, on a thread: it ends soon after its attempt does, and the attempt not before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{StepError, StepErrorKind};
use crate::tool::Hold;

/// Whether anybody still waits for the result.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Whether the work should end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it when the guard is dropped.
    pub(super) fn on_drop(&self) -> impl Drop + use<> {
        struct Guard(Cancelled);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::Relaxed);
            }
        }
        Guard(self.clone())
    }
}

/// The error of work that nobody waits for any more.
pub(super) fn cancelled() -> StepError {
    StepError::new(StepErrorKind::Aborted, "the attempt was ended")
}

/// Does `work` on a thread. The thread holds on to the attempt, since dropping a future does not end it, and is told by
/// [`Cancelled`] when the future has been dropped.
pub(super) async fn on_thread<T, F>(attempt: Hold, work: F) -> Result<T, StepError>
where
    T: Send + 'static,
    F: FnOnce(&Cancelled) -> Result<T, StepError> + Send + 'static,
{
    let cancelled = Cancelled::default();
    let _cancel_on_drop = cancelled.on_drop();
    let held = move || {
        let _attempt = attempt;
        work(&cancelled)
    };
    match tokio::task::spawn_blocking(held).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StepError::transient("the runtime is shutting down")),
    }
}
