//! Runs that somebody looks at. Each has one watcher, however many look: it reads the journal when the run has
//! changed, and writes down once what all of them are sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::history::History;
use crate::journal::{Journal, RunId, RunSummary};
use crate::page::Snapshot;

use super::problem::Problem;

/// The shortest time between two looks at a run: nobody sees more than ten pictures a second.
const GLANCE: Duration = Duration::from_millis(100);

/// A watcher rests so many times as long as its last look took, so that it leaves the machine to the run.
const REST: u32 = 4;

/// What is known of a run.
pub(super) enum Sight {
    /// Nothing yet.
    Opening,
    Shown(Arc<Shown>),
    /// It cannot be read.
    Lost(Problem),
}

/// A run at a moment, ready to be sent.
pub(super) struct Shown {
    /// Counted from 1.
    pub(super) version: u64,
    /// What is new since the version before; none in the first.
    pub(super) update: Option<Bytes>,
    /// Whether nothing more can come. What was stopped, or waits for a person, may be gone on with.
    pub(super) is_over: bool,
    snapshot: Snapshot,
    whole: OnceLock<Bytes>,
}

impl Shown {
    /// All of it, for who has nothing or has missed something.
    pub(super) fn whole(&self) -> Bytes {
        self.whole.get_or_init(|| event("snapshot", &self.snapshot)).clone()
    }
}

/// An event as it is sent.
pub(super) fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON in one line needs no more than the line's beginning. What is serialised here has no keys that are not text.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

type Sender = watch::Sender<Sight>;

/// The watchers of a server.
#[derive(Clone, Default)]
pub(super) struct Watchers {
    open: Arc<Mutex<BTreeMap<RunId, Weak<Sender>>>>,
}

impl Watchers {
    /// What is seen of a run from now on.
    pub(super) fn watch(&self, journal: &Arc<dyn Journal>, run: &RunId) -> watch::Receiver<Sight> {
        let mut open = lock(&self.open);
        if let Some(sender) = open.get(run).and_then(Weak::upgrade) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Sight::Opening);
        let sender = Arc::new(sender);
        open.insert(run.clone(), Arc::downgrade(&sender));
        let watcher = Watcher { watchers: self.clone(), journal: Arc::clone(journal), run: run.clone(), sender };
        tokio::spawn(watcher.follow());
        receiver
    }

    /// Ends what is sent to everybody.
    pub(super) fn close(&self) {
        for sender in std::mem::take(&mut *lock(&self.open)).into_values().filter_map(|sender| sender.upgrade()) {
            sender.send_replace(Sight::Lost(Problem::new("serve.closing", "the server is being stopped")));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watcher {
    watchers: Watchers,
    journal: Arc<dyn Journal>,
    run: RunId,
    sender: Arc<Sender>,
}

impl Watcher {
    /// Looks at the run until nobody wants to know.
    async fn follow(self) {
        let mut last: Option<(RunSummary, Arc<Shown>)> = None;
        while self.is_wanted() {
            let begun = Instant::now();
            match self.look(last.as_ref()).await {
                Ok(Some((summary, shown))) => {
                    last = Some((summary, Arc::clone(&shown)));
                    self.sender.send_replace(Sight::Shown(shown));
                }
                Ok(None) => {}
                Err(problem) => {
                    lock(&self.watchers.open).remove(&self.run);
                    self.sender.send_replace(Sight::Lost(problem));
                    return;
                }
            }
            sleep(GLANCE.max(begun.elapsed() * REST)).await;
        }
    }

    /// Whether somebody still looks. If not, whoever comes next starts another watcher.
    fn is_wanted(&self) -> bool {
        let mut open = lock(&self.watchers.open);
        let is_wanted = self.sender.receiver_count() > 0;
        if !is_wanted {
            open.remove(&self.run);
        }
        is_wanted
    }

    /// The run as it is now, if that is not how it was.
    async fn look(&self, last: Option<&(RunSummary, Arc<Shown>)>) -> Result<Option<(RunSummary, Arc<Shown>)>, Problem> {
        let summary = self.journal.summary(&self.run).await?;
        let is_over = !summary.is_resumable();
        if last.is_some_and(|(before, _)| *before == summary) {
            return Ok(None);
        }
        let history = History::load(&*self.journal, &self.run).await?;
        let before = last.map(|(_, shown)| Arc::clone(shown));
        // A large run takes a while to draw, and others are to be served meanwhile.
        let drawn = spawn_blocking(move || {
            let snapshot = Snapshot::of(&history, &summary);
            let (version, update) = match &before {
                None => (1, None),
                Some(before) => {
                    (before.version + 1, snapshot.update_since(&before.snapshot).map(|update| event("update", &update)))
                }
            };
            let shown = Shown { version, update, is_over, snapshot, whole: OnceLock::new() };
            (summary, Arc::new(shown))
        });
        drawn.await.map(Some).map_err(|_| Problem::new("internal.panic", "the run could not be drawn"))
    }
}
