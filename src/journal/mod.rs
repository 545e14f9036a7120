//! Where the record of a run is kept: the trait, and a journal in memory.

mod memory;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::JournalError;
use crate::event::{RunEvent, StoredOutput};

pub use memory::MemoryJournal;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The process being killed.
    Process,
    /// The power going out. Asked for before an acting tool is called and before an answer is given.
    Power,
}

/// Keeps the record of runs.
///
/// The runner writes all events of a transition in one call, before it tells anybody and before it carries out any
/// command. Several transitions may come in one call; they are one write then.
pub trait Journal: Send + Sync {
    /// Adds events to the end of a run's history, all or none.
    ///
    /// # Errors
    ///
    /// The run ends with the error; nothing that was not written is reported as done.
    fn append<'a>(
        &'a self,
        run: &'a RunId,
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
        run: &'a RunId,
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
}
