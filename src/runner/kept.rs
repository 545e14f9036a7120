//! A run's place in its journal, and the right to write there.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::journal::{Claim, Journal};

/// Where the record of a run is kept.
pub(super) struct Kept {
    pub(super) journal: Arc<dyn Journal>,
    held: Weak<Held>,
}

/// The right to write there. Whoever writes shares it until that is written.
pub(super) struct Held {
    pub(super) claim: Claim,
    /// Dropped after the claim, which tells the [`Hold`].
    _gone: oneshot::Sender<()>,
}

/// The keeper's part in it. The right ends with the run, whoever still knows where the record is kept.
pub(super) struct Hold {
    held: Arc<Held>,
    gone: oneshot::Receiver<()>,
}

impl Kept {
    pub(super) fn new(journal: Arc<dyn Journal>, claim: Claim) -> (Self, Hold) {
        let (_gone, gone) = oneshot::channel();
        let held = Arc::new(Held { claim, _gone });
        (Self { journal, held: Arc::downgrade(&held) }, Hold { held, gone })
    }

    /// The right to write; none after the end of the run.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.held.upgrade()
    }
}

impl Hold {
    /// Gives up the claim, and waits for what is being written now.
    pub(super) async fn release(self) {
        drop(self.held);
        // It says that nobody is left by being dropped.
        let _ = self.gone.await;
    }
}
