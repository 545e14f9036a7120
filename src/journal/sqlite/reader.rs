//! The thread that reads. It has a connection of its own that cannot write, so that nothing read can delay a run, but
//! for the few events that a new run reads.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::channel::oneshot;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::JournalError;
use crate::event::{RunEvent, StepNumber, Timestamp};
use crate::journal::means::{Clue, MOST_RUNS, ToolMeans, both_ends};
use crate::journal::{Letter, RunId, RunStatus, RunSummary};

use super::letters::{self, Letterbox};
use super::lock::{self, Lock};
use super::schema::{SEQ_BITS, unusable};
use super::{BUSY, damaged, digest, failed, gone};

/// What [`summary`] reads: of the events of a run, only the last one. A fork was claimed a second time, if anybody goes on
/// with it, and the events that it has of the run it comes from were all written when it was.
const SUMMARIES: &str = "SELECT s.run, id, objective, status, started_ms, wall_ms, seq + 1, at_us - CASE
        WHEN (epoch > 1 OR status = 'unfinished')
            AND (SELECT body ->> '$.start.labels.forked_from' FROM entries WHERE key = s.run << 40) IS NOT NULL
        THEN coalesce((SELECT max(f.at_us) FROM entries f
            WHERE f.key >= s.run << 40 AND f.key < (s.run + 1) << 40 AND f.wall_ms = started_ms), 0)
        ELSE 0 END
    FROM summaries s JOIN owners USING (run)
    JOIN events e ON e.key = (SELECT max(key) FROM entries WHERE key < (s.run + 1) << 40)";

/// A run whose number is in one of the tables and not in the others, as it would be if it had begun.
const TORN: &str = "SELECT run FROM summaries
        WHERE run NOT IN (SELECT run FROM owners) OR NOT EXISTS (SELECT 1 FROM entries WHERE key = run << 40)
    UNION ALL SELECT run FROM owners
        WHERE run NOT IN (SELECT run FROM summaries) AND EXISTS (SELECT 1 FROM entries WHERE key = run << 40)
    UNION ALL SELECT run FROM (SELECT max(key) >> 40 AS run FROM entries)
        WHERE run IS NOT NULL AND run NOT IN (SELECT run FROM summaries)";

type Job = Box<dyn FnOnce(&Connection, &Path) + Send>;

/// The sending end. Dropping it waits until the thread has ended and the file is closed.
pub(super) struct Reader {
    /// Where the thread takes its orders. There is none until something is read: a new run reads nothing but what
    /// [`Writer::with_desk`](super::writer::Writer::with_desk) does for it.
    jobs: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
    path: PathBuf,
    locks: PathBuf,
    opened: Option<Identity>,
}

/// What tells a file from another one that has taken its place.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Where an open file can be neither moved nor deleted.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

impl Reader {
    pub(super) fn new(path: &Path, locks: PathBuf) -> Self {
        Self { jobs: Mutex::default(), path: path.to_owned(), locks, opened: identity(path) }
    }

    /// Where the locks and letters are.
    pub(super) fn locks(&self) -> &Path {
        &self.locks
    }

    /// Gives the thread something to do.
    fn order(&self, job: Job) -> Result<(), JournalError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let (jobs, _) = match &mut *jobs {
            Some(jobs) => jobs,
            none => none.insert(self.start()?),
        };
        jobs.send(job).map_err(gone)
    }

    fn start(&self) -> Result<(mpsc::Sender<Job>, JoinHandle<()>), JournalError> {
        self.check_place()?;
        let (connection, locks) = (connect(&self.path)?, self.locks.clone());
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = thread::Builder::new()
            .name("plandag-journal-reader".to_owned())
            .spawn(move || inbox.into_iter().for_each(|job| job(&connection, &locks)))
            .map_err(|error| unusable(&self.path, error))?;
        Ok((jobs, thread))
    }

    /// Refuses to read on from a file that nobody else sees any more.
    fn check_place(&self) -> Result<(), JournalError> {
        match identity(&self.path) {
            now if now == self.opened => Ok(()),
            Some(_) => Err(unusable(&self.path, "is another file than the one that was opened")),
            None => Err(unusable(&self.path, "is gone: it was moved or deleted after it had been opened")),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Path) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (sender, answer) = oneshot::channel();
        let job = move |connection: &Connection, locks: &Path| {
            // Who asked may have gone away.
            let _ = sender.send(read(connection, locks));
        };
        self.order(Box::new(job))?;
        answer.await.map_err(gone)?
    }

    /// The number of a run that has begun.
    pub(super) async fn number(&self, run: &RunId) -> Result<u64, JournalError> {
        let run = run.clone();
        self.read(move |connection, _| {
            let sql = "SELECT run FROM owners JOIN summaries USING (run) WHERE id = ?1";
            let number = connection
                .prepare_cached(sql)
                .and_then(|mut query| query.query_row([run.as_str()], |row| row.get(0)).optional());
            number.map_err(failed)?.ok_or_else(|| missing(connection, &run))
        })
        .await
    }

    /// Takes the lock of a run.
    pub(super) async fn lock(&self, run: &RunId, number: u64) -> Result<Held, JournalError> {
        let run = run.clone();
        self.read(move |_, locks| lock(locks, &run, number)).await
    }

    /// Leaves a letter for whoever drives the run now.
    pub(super) async fn leave(&self, run: &RunId, step: StepNumber, body: String) -> Result<(), JournalError> {
        let run = run.clone();
        self.read(move |connection, locks| {
            let sql = "SELECT run, epoch FROM owners WHERE id = ?1";
            let found = connection
                .prepare_cached(sql)
                .and_then(|mut query| query.query_row([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional());
            let (number, epoch) = found.map_err(failed)?.ok_or_else(|| missing(connection, &run))?;
            letters::leave(locks, number, epoch, step, &body).map_err(|error| unusable(locks, error))
        })
        .await
    }

    /// Takes the letters for the owner of an epoch.
    pub(super) async fn letters(&self, run: &RunId, epoch: u64) -> Result<Vec<Letter>, JournalError> {
        let number = self.number(run).await?;
        self.read(move |_, locks| letters::take(locks, number, epoch).map_err(|error| unusable(locks, error))).await
    }

    pub(super) async fn history(&self, run: u64) -> Result<Vec<RunEvent>, JournalError> {
        self.read(move |connection, _| history(connection, run)).await
    }

    pub(super) async fn output(&self, digest: String) -> Result<Arc<Value>, JournalError> {
        self.read(move |connection, _| {
            let sql = "SELECT body FROM outputs WHERE digest = ?1";
            let found = connection.prepare_cached(sql).and_then(|mut query| {
                query.query_row([&digest], |row| Ok(serde_json::from_str(row.get_ref(0)?.as_str()?))).optional()
            });
            match found.map_err(failed)? {
                Some(Ok(value)) => Ok(Arc::new(value)),
                Some(Err(error)) => Err(JournalError::store(format!("the output {digest} is damaged: {error}"))),
                None => Err(JournalError::store(format!("the output {digest} is missing"))),
            }
        })
        .await
    }

    pub(super) async fn runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        self.check_place()?;
        self.read(|connection, locks| {
            check_list(connection)?;
            let sql = format!("{SUMMARIES} ORDER BY started_ms DESC, s.run DESC");
            let mut query = connection.prepare_cached(&sql).map_err(failed)?;
            let rows = query.query_map([], |row| summary(row, locks)).map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    pub(super) async fn summary(&self, run: RunId) -> Result<RunSummary, JournalError> {
        self.check_place()?;
        self.read(move |connection, locks| {
            let found = connection
                .prepare_cached(&format!("{SUMMARIES} WHERE id = ?1"))
                .and_then(|mut query| query.query_row([run.as_str()], |row| summary(row, locks)).optional());
            found.map_err(failed)?.ok_or_else(|| missing(connection, &run))
        })
        .await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let jobs = self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((jobs, thread)) = jobs.take() {
            drop(jobs);
            // It has told whoever waited that it panicked, if it did.
            let _ = thread.join();
        }
    }
}

/// Looks for damage by which runs would be missing from the list. It costs what the list does; the events, which are
/// most of the file, are found to be damaged when they are read.
fn check_list(connection: &Connection) -> Result<(), JournalError> {
    for table in ["owners", "summaries"] {
        let sql = format!("PRAGMA integrity_check({table})");
        let said: String = connection.query_row(&sql, [], |row| row.get(0)).map_err(failed)?;
        if said != "ok" {
            // A heading comes first.
            return Err(damaged(said.lines().find(|line| !line.starts_with("***")).unwrap_or(&said)));
        }
    }
    match connection.query_row(TORN, [], |row| row.get::<_, u64>(0)).optional().map_err(failed)? {
        None => Ok(()),
        Some(run) => Err(damaged(format_args!("what is kept of its run number {run} is not complete"))),
    }
}

/// Why nothing is found under a name.
fn missing(connection: &Connection, run: &RunId) -> JournalError {
    check_list(connection).err().unwrap_or_else(|| JournalError::UnknownRun { run: run.to_string() })
}

impl Reader {
    /// What is wrong with the file itself, and with the outputs in it. Also how many outputs there are.
    pub(super) async fn check(&self) -> Result<(Vec<String>, u64), JournalError> {
        self.read(|connection, _| {
            let mut query = connection.prepare("PRAGMA integrity_check").map_err(failed)?;
            let said: Result<Vec<String>, _> = query.query_map([], |row| row.get(0)).map_err(failed)?.collect();
            let mut problems = said.map_err(failed)?;
            problems.retain(|line| line != "ok");
            let mut query = connection.prepare("SELECT digest, body FROM outputs").map_err(failed)?;
            let mut rows = query.query([]).map_err(failed)?;
            let mut outputs = 0;
            while let Some(row) = rows.next().map_err(failed)? {
                let (name, body): (String, String) = row.try_into().map_err(failed)?;
                outputs += 1;
                if digest(&body) != name {
                    problems.push(format!("the output {name} is not what was written"));
                }
            }
            Ok((problems, outputs))
        })
        .await
    }
}

/// What the owner of a run holds. The letterbox is to be closed first.
pub(super) type Held = (Letterbox, Lock);

/// Takes the lock of a run.
pub(super) fn lock(locks: &Path, run: &RunId, number: u64) -> Result<Held, JournalError> {
    let path = locks.join(number.to_string());
    let lock = lock::take(&path)
        .map_err(|error| unusable(&path, error))?
        .map_err(|owner| JournalError::Locked { run: run.to_string(), pid: owner.map(|owner| owner.pid) })?;
    let letterbox = Letterbox::open(locks, number).map_err(|error| unusable(locks, error))?;
    Ok((letterbox, lock))
}

/// How long tools took in earlier runs. A new run reads this and nothing else, with the connection that writes: to learn
/// the layout of the file first, as another connection had to, would take longer.
pub(super) fn tool_means(connection: &Connection) -> Result<BTreeMap<String, u64>, JournalError> {
    let mut query = connection.prepare("SELECT run FROM summaries ORDER BY run DESC LIMIT ?1").map_err(failed)?;
    let newest = query.query_map([MOST_RUNS], |row| row.get::<_, u64>(0)).map_err(failed)?;
    let mut means = ToolMeans::default();
    for run in newest {
        let run = run.map_err(failed)?;
        for part in both_ends(count(connection, run).map_err(failed)?) {
            each_event(connection, run, part, |_, at, clue: Clue| {
                means.take(at, clue);
                if means.has_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if means.has_enough() {
                break;
            }
        }
        if means.is_full() {
            break;
        }
    }
    Ok(means.into_millis())
}

/// How many events a run has.
fn count(connection: &Connection, run: u64) -> Result<u64, rusqlite::Error> {
    let sql = "SELECT max(key) FROM entries WHERE key >= ?1 AND key < ?2";
    let last: Option<u64> =
        connection.prepare_cached(sql)?.query_row([run << SEQ_BITS, (run + 1) << SEQ_BITS], |row| row.get(0))?;
    Ok(last.map_or(0, |last| last - (run << SEQ_BITS) + 1))
}

/// A connection that cannot write.
fn connect(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    Ok(connection)
}

/// The history of a run, from an open connection.
pub(super) fn history(connection: &Connection, run: u64) -> Result<Vec<RunEvent>, JournalError> {
    let mut events = Vec::new();
    each_event(connection, run, 0..1 << SEQ_BITS, |seq, at, kind| {
        events.push(RunEvent { seq, at, kind });
        ControlFlow::Continue(())
    })?;
    Ok(events)
}

/// Reads the events of a run with these numbers in their order, or what is wanted of them, for as long as they are wanted.
fn each_event<T: DeserializeOwned>(
    connection: &Connection,
    run: u64,
    seqs: Range<u64>,
    mut take: impl FnMut(u64, Timestamp, T) -> ControlFlow<()>,
) -> Result<(), JournalError> {
    let first = run << SEQ_BITS;
    let sql = "SELECT key, at_us, body FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key";
    let mut query = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = query.query([first + seqs.start, first + seqs.end]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let seq = row.get::<_, u64>(0).map_err(failed)? - first;
        let at = Timestamp::from_micros(row.get(1).map_err(failed)?);
        let body = row.get_ref(2).map_err(failed)?;
        let kind = serde_json::from_str(body.as_str().map_err(|error| failed(error.into()))?)
            .map_err(|error| JournalError::Corrupt { seq, message: format!("it cannot be read: {error}") })?;
        if take(seq, at, kind).is_break() {
            break;
        }
    }
    Ok(())
}

fn summary(row: &Row<'_>, locks: &Path) -> Result<RunSummary, rusqlite::Error> {
    let time = |millis: u64| UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH);
    let number: u64 = row.get(0)?;
    let mut summary = RunSummary::new(RunId::new(row.get::<_, String>(1)?), time(row.get(4)?));
    summary.objective = row.get(2)?;
    summary.status = RunStatus::from_word(row.get_ref(3)?.as_str()?);
    summary.updated = time(row.get(5)?);
    summary.events = row.get(6)?;
    summary.duration = Timestamp::from_micros(row.get(7)?);
    if summary.is_resumable() {
        summary.owner = lock::owner(&locks.join(number.to_string()));
    }
    Ok(summary)
}
