//! A journal in an SQLite file: runs outlive the process, and anyone can look at them with `sqlite3`.

mod letters;
mod lock;
mod place;
mod reader;
mod redacted;
mod schema;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rusqlite::{Connection, Error, ErrorCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::JournalError;
use crate::event::{RunEvent, StoredOutput};
use crate::redact::{REDACTED, Secrets};

use super::{Claim, Durability, Journal, Letter, RunId, RunSummary};
use reader::Reader;
use writer::{Work, Writer};

pub use schema::SCHEMA_VERSION;

/// How long a connection waits for one of another process.
const BUSY: Duration = Duration::from_secs(5);
/// Pages that the connection which writes keeps in memory.
const CACHE_PAGES: u32 = 20;

/// Keeps runs in an SQLite file, for as many processes as want to. Each run is written by one of them at a time.
///
/// A write that has to survive only the process is handed to the operating system and not waited for any longer
/// (`synchronous=NORMAL` in write-ahead mode); one that has to survive the power going out waits for the disk
/// (`synchronous=FULL`), and takes everything written before it along. Writes that come while another is under way are
/// done together. Before anything is written, [`Secrets`] are taken out of it.
///
/// The file is readable by its owner alone. Beside it there are SQLite's own `-wal` and `-shm`, and a folder `.locks`
/// with a file for each run that is being driven, and for each letter to whoever drives it.
///
/// A thread of its own writes, which tokio does not know of: where tests have paused the time, it
/// runs on to the next deadline while a write is waited for. Those take a [`MemoryJournal`](super::MemoryJournal).
pub struct SqliteJournal {
    path: PathBuf,
    copy: Option<PathBuf>,
    secrets: Secrets,
    reader: Reader,
    /// Dropped last: the last connection that is closed moves the log into the file, if it can write.
    writer: Writer,
}

impl SqliteJournal {
    /// Opens a journal, or makes a new one. The values of environment variables that look secret are kept out of it.
    ///
    /// # Errors
    ///
    /// If the file is something else, is damaged, was written by a newer release, or cannot be written where it is. It
    /// is left as it was then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::open_with(path, Secrets::from_env(), None)
    }

    /// Opens a journal that keeps `secrets` out, and makes every write as safe as `durability` says, if it says
    /// anything, whatever is asked for.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(
        path: impl AsRef<Path>,
        secrets: Secrets,
        durability: Option<Durability>,
    ) -> Result<Self, JournalError> {
        let path = place::resolve(path.as_ref())?;
        schema::look(&path)?;
        let locks = place::prepare(&path)?;
        let (connection, copy) = {
            // One process at a time makes a journal of an empty file.
            let _opening = lock::wait(&locks.join("opening")).map_err(|error| schema::unusable(&path, error))?;
            schema::look(&path)?;
            schema::create(&path)?;
            let mut connection = Connection::open(&path).map_err(failed)?;
            connection.busy_timeout(BUSY).map_err(failed)?;
            schema::prepare(&connection)?;
            let copy = schema::migrate(&path, &mut connection)?;
            // What is written is not read again, so a page is kept only until it is full.
            connection.pragma_update(None, "cache_size", CACHE_PAGES).map_err(failed)?;
            // The writer says when the log is moved into the file, so that it does not happen at any write.
            connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
            (connection, copy)
        };
        let writer = Writer::start(connection, secrets.clone(), durability)?;
        let reader = Reader::new(&path, locks);
        Ok(Self { path, copy, secrets, reader, writer })
    }

    /// Where journals are kept unless said otherwise: `plandag/runs.db` in the user's directory for state, which is
    /// `~/.local/state` if `XDG_STATE_HOME` does not name another. None if the user has no home.
    pub fn default_path() -> Option<PathBuf> {
        place::default_path()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file was copied to when it was opened, if an older release had written it: its layout was changed then,
    /// and that release cannot read it any more.
    pub fn copy(&self) -> Option<&Path> {
        self.copy.as_deref()
    }
}

/// What a look at a whole journal has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// How many outputs are kept beside the events.
    pub outputs: u64,
    /// How many lines of the list of runs did not agree with the events, and were made anew.
    pub rebuilt: u64,
    /// What is damaged.
    pub problems: Vec<String>,
}

impl SqliteJournal {
    /// Looks at the whole file: whether SQLite finds it sound, and every output is what was written. The list of runs
    /// is made anew from the events. Whether the events of a run make sense,
    /// [`History::load`](crate::history::History::load) finds out.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub async fn check(&self) -> Result<Check, JournalError> {
        let (problems, outputs) = self.reader.check().await?;
        let rebuilt = if problems.is_empty() { self.writer.write(Work::Rebuild).await? } else { 0 };
        Ok(Check { outputs, rebuilt, problems })
    }
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Journal for SqliteJournal {
    fn mark(&self) -> Option<&'static str> {
        Some(REDACTED)
    }

    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        let (locks, new) = (self.reader.locks().to_owned(), run.clone());
        let created = self.writer.with_desk(move |desk| {
            let number = desk.write(&[&Work::Create { run: new.clone() }])?[0];
            reader::lock(&locks, &new, number)
        });
        Box::pin(async move { Ok(Claim::new(run.clone(), 1, created.await?)) })
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        Box::pin(async move {
            let number = self.reader.number(run).await?;
            let lock = self.reader.lock(run, number).await?;
            let epoch = self.writer.write(Work::Claim { number }).await?;
            Ok(Claim::new(run.clone(), epoch, lock))
        })
    }

    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let (run, epoch) = (claim.run().clone(), claim.epoch());
        let written = self.writer.write(Work::Append { run, epoch, events: events.to_vec(), durability });
        Box::pin(async move { written.await.map(|_| ()) })
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        Box::pin(async move { self.reader.history(self.reader.number(run).await?).await })
    }

    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        Box::pin(async move {
            let body = self.secrets.redact_json(output.to_string());
            drop(output);
            let stored = StoredOutput::of(digest(&body), &body);
            let (run, epoch) = (claim.run().clone(), claim.epoch());
            self.writer.write(Work::Put { run, epoch, digest: stored.digest.clone(), body }).await?;
            Ok(stored)
        })
    }

    fn get_output<'a>(
        &'a self,
        _: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        Box::pin(self.reader.output(stored.digest.clone()))
    }

    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>> {
        Box::pin(self.reader.runs())
    }

    fn summary<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<RunSummary, JournalError>> {
        Box::pin(self.reader.summary(run.clone()))
    }

    fn leave<'a>(&'a self, run: &'a RunId, letter: &'a Letter) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let body = redacted::to_json(letter, &self.secrets);
            let body = body.map_err(|error| JournalError::store(error.to_string()))?;
            self.reader.leave(run, letter.step, body).await
        })
    }

    fn letters<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<Letter>, JournalError>> {
        Box::pin(self.reader.letters(claim.run(), claim.epoch()))
    }

    fn tool_means<'a>(&'a self) -> BoxFuture<'a, Result<BTreeMap<String, u64>, JournalError>> {
        self.writer.with_desk(|desk| reader::tool_means(desk.connection()))
    }
}

/// The name of an output: SHA-256 of its JSON.
fn digest(body: &str) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What SQLite has to say, with what it means.
fn failed(error: Error) -> JournalError {
    let message = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another process keeps the file locked ({} s were waited)", BUSY.as_secs())
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return damaged(error),
        Some(ErrorCode::ReadOnly) => format!("the file cannot be written: {error}"),
        // The columns have types, so that what was written has the one that is read.
        None if matches!(error, Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..)) => {
            return damaged(error);
        }
        _ => error.to_string(),
    };
    JournalError::Store { message, source: Some(Box::new(error)) }
}

fn damaged(what: impl fmt::Display) -> JournalError {
    JournalError::Damaged { message: what.to_string() }
}

/// The thread that should have answered is gone.
fn gone<E>(_: E) -> JournalError {
    JournalError::store("its thread has ended")
}
