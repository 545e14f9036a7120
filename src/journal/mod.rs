//! Where the record of a run is kept: the trait, a journal in memory, and one in an SQLite file.

mod letter;
mod means;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;
mod summary;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::JournalError;
use crate::event::{RunEvent, StoredOutput};

pub use letter::Letter;
pub use memory::MemoryJournal;
#[cfg(feature = "sqlite")]
pub use sqlite::{Check, SCHEMA_VERSION, SqliteJournal};
pub(crate) use summary::FORKED_FROM;
pub use summary::{RunFilter, RunStatus, RunSummary};

/// The name of a run, unique in its journal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Makes a run id of any text.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// A new id: eight random letters and digits, none easily taken for another.
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let id: String = (0..8).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect();
        Self::new(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for RunId {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

impl From<&Self> for RunId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a write must survive before the runner goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The process being killed.
    Process,
    /// The power going out. Asked for before an acting tool is called and before an answer is given.
    Power,
}

/// The process that owns a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// Its number in the operating system.
    pub pid: u32,
    /// When it took the run.
    pub since: SystemTime,
}

/// The right to write to a run, which one process has at a time. It is given up by being dropped.
///
/// Each claim of a run has a higher epoch than the one before. A journal refuses what comes with an older one: a
/// process that was stopped, and goes on after another took its run, can write nothing.
pub struct Claim {
    run: RunId,
    epoch: u64,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Claim {
    /// A claim that a journal gives out. `guard` is what is dropped with it.
    pub fn new(run: RunId, epoch: u64, guard: impl Any + Send + Sync) -> Self {
        Self { run, epoch, _guard: Box::new(guard) }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// How often the run was claimed, this time included.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("run", &self.run).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Keeps the record of runs.
///
/// The runner writes all events of a transition in one call, before it tells anybody and before it carries out any
/// command. Several transitions may come in one call; they are one write then.
pub trait Journal: Send + Sync {
    /// Begins the record of a new run, and claims it.
    ///
    /// # Errors
    ///
    /// If there is a run of this name already, or the journal cannot be written.
    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>>;

    /// Claims a run that is there.
    ///
    /// # Errors
    ///
    /// [`JournalError::Locked`] if another process has claimed it, [`JournalError::UnknownRun`] if there is none.
    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>>;

    /// Adds events to the end of a run's history, all or none.
    ///
    /// # Errors
    ///
    /// [`JournalError::Locked`] if the run was claimed anew since. The run ends with any error; nothing that was not
    /// written is reported as done.
    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// The whole history of a run.
    ///
    /// # Errors
    ///
    /// [`JournalError::UnknownRun`] if there is none.
    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>>;

    /// Keeps a large output, before an event names it.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>>;

    /// Reads an output that [`Journal::put_output`] has kept.
    ///
    /// # Errors
    ///
    /// If it is not there or cannot be read.
    fn get_output<'a>(
        &'a self,
        run: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>>;

    /// All runs, the newest first.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>>;

    /// One of these runs.
    ///
    /// # Errors
    ///
    /// [`JournalError::UnknownRun`] if there is none.
    fn summary<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<RunSummary, JournalError>> {
        Box::pin(async move {
            let found = self.runs().await?.into_iter().find(|summary| summary.run == *run);
            found.ok_or_else(|| JournalError::UnknownRun { run: run.to_string() })
        })
    }

    /// Leaves a letter for the process that drives a run now; another one that takes the run does not get it. Whoever has
    /// left it sees in the history whether it was acted on.
    ///
    /// # Errors
    ///
    /// [`JournalError::UnknownRun`] if there is no such run, or if the letter cannot be written: in a journal that does not
    /// say how, none can.
    fn leave<'a>(&'a self, run: &'a RunId, letter: &'a Letter) -> BoxFuture<'a, Result<(), JournalError>> {
        let _ = letter;
        let message = format!("run `{run}` is driven elsewhere, and this journal has no place for letters to it");
        Box::pin(ready(Err(JournalError::store(message))))
    }

    /// Takes the letters that were left for the owner of this claim. The runner asks for them while steps wait for a
    /// person.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn letters<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<Letter>, JournalError>> {
        let _ = claim;
        Box::pin(ready(Ok(Vec::new())))
    }

    /// What stands in its records where something was kept out of them, such as a secret. Who resumes a run does not know
    /// it any more: a step that acts fails, where it would be called with this in the place of it.
    fn mark(&self) -> Option<&'static str> {
        None
    }

    /// How long a successful call of each tool took on average in the newest runs, in milliseconds. A new run reads it
    /// once, and keeps it in its first event: steps that nobody has estimated are expected to take that long. A journal
    /// that does not say leaves it at that nothing is known.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn tool_means<'a>(&'a self) -> BoxFuture<'a, Result<BTreeMap<String, u64>, JournalError>> {
        Box::pin(ready(Ok(BTreeMap::new())))
    }
}

impl<J: Journal + ?Sized> Journal for Arc<J> {
    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        (**self).create(run)
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        (**self).claim(run)
    }

    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        (**self).append(claim, events, durability)
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        (**self).history(run)
    }

    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        (**self).put_output(claim, output)
    }

    fn get_output<'a>(
        &'a self,
        run: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        (**self).get_output(run, stored)
    }

    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>> {
        (**self).runs()
    }

    fn summary<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<RunSummary, JournalError>> {
        (**self).summary(run)
    }

    fn leave<'a>(&'a self, run: &'a RunId, letter: &'a Letter) -> BoxFuture<'a, Result<(), JournalError>> {
        (**self).leave(run, letter)
    }

    fn mark(&self) -> Option<&'static str> {
        (**self).mark()
    }

    fn letters<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<Letter>, JournalError>> {
        (**self).letters(claim)
    }

    fn tool_means<'a>(&'a self) -> BoxFuture<'a, Result<BTreeMap<String, u64>, JournalError>> {
        (**self).tool_means()
    }
}
