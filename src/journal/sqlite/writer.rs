//! Where writes are made. One that waits for nothing is made at once, by whoever asks for it; all others by a thread,
//! and what comes while it is busy is written together, in one transaction.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::channel::oneshot;
use futures::future::BoxFuture;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use crate::error::JournalError;
use crate::event::{RunEvent, RunEventKind};
use crate::journal::{Durability, RunId, RunStatus};
use crate::redact::Secrets;

use super::reader::history;
use super::schema::SEQ_BITS;
use super::{BUSY, failed, gone, redacted};

/// Most writes in one transaction.
const BATCH: usize = 512;
/// More events than these are not written at once: it would take as long as waking the thread.
const MOST_AT_ONCE: usize = 32;
/// A write that comes sooner after another one is for the thread: where many come, the next ones gather meanwhile.
const LULL: Duration = Duration::from_micros(250);
/// After about so many pages the log is moved into the file, which waits for the disk.
const LOG_PAGES: usize = 1_000;

/// A write.
#[derive(Debug)]
pub(super) enum Work {
    /// A new run, claimed with epoch 1. Comes to its number.
    Create { run: RunId },
    /// Comes to the new epoch.
    Claim { number: u64 },
    /// Comes to the run's number.
    Append { run: RunId, epoch: u64, events: Vec<RunEvent>, durability: Durability },
    /// Comes to the run's number.
    Put { run: RunId, epoch: u64, digest: String, body: String },
    /// Makes the summaries anew from the events. Comes to how many were not right.
    Rebuild,
}

struct Job {
    work: Work,
    reply: oneshot::Sender<Result<u64, JournalError>>,
}

/// What the thread is given.
enum Order {
    Write(Job),
    /// Something else that is done where the writes are made.
    Do(Box<dyn FnOnce(&mut Desk) + Send>),
}

/// The sending end. Dropping it waits until everything is written and the file is closed.
pub(super) struct Writer {
    desk: Arc<Mutex<Desk>>,
    /// Orders that the thread has not carried out. Whoever asks for two writes gets them in this order.
    waiting: Arc<AtomicUsize>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        secrets: Secrets,
        durability: Option<Durability>,
    ) -> Result<Self, JournalError> {
        let (orders, inbox) = mpsc::channel();
        // The connection was made with the safer setting.
        let desk =
            Desk { connection, secrets, durability, current: Durability::Power, written: None, log: 0, broken: None };
        let (desk, waiting) = (Arc::new(Mutex::new(desk)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::Builder::new()
            .name("plandag-journal-writer".to_owned())
            .spawn({
                let (desk, waiting) = (Arc::clone(&desk), Arc::clone(&waiting));
                move || work(&desk, &waiting, &inbox)
            })
            .map_err(|error| JournalError::store(error.to_string()))?;
        Ok(Self { desk, waiting, orders: Some(orders), thread: Some(thread) })
    }

    /// Has something done by the thread, after the writes that were asked for before.
    pub(super) fn with_desk<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk) -> Result<T, JournalError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, JournalError>> {
        let (reply, answered) = oneshot::channel();
        let sent = self.order(Order::Do(Box::new(move |desk| {
            // Who asked may have gone away.
            let _ = reply.send(job(desk));
        })));
        Box::pin(async move {
            sent?;
            answered.await.map_err(gone)?
        })
    }

    /// Begins to write at once; the future waits for it.
    pub(super) fn write(&self, work: Work) -> impl Future<Output = Result<u64, JournalError>> + Send + use<> {
        let (reply, answered) = oneshot::channel();
        let job = Job { work, reply };
        let sent = match self.at_once(&job.work) {
            Some(value) => {
                answer(job, Ok(value));
                Ok(())
            }
            None => self.order(Order::Write(job)),
        };
        async move {
            sent?;
            answered.await.map_err(gone)?
        }
    }
}

impl Writer {
    fn order(&self, order: Order) -> Result<(), JournalError> {
        let orders = self.orders.as_ref().ok_or_else(|| gone(()))?;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        orders.send(order).map_err(gone)
    }

    /// Makes a write that takes less time than it takes to wake the thread. None: it is for the thread, also if it did
    /// not succeed, as while another process writes.
    fn at_once(&self, work: &Work) -> Option<u64> {
        if !work.is_light() || self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let mut desk = self.desk.try_lock().ok().filter(|desk| desk.waits_for_nothing() && desk.is_quiet())?;
        desk.connection.busy_timeout(Duration::ZERO).ok()?;
        let written = desk.write(&[work]).ok();
        // It is a number in memory: nothing can go wrong with it.
        let _ = desk.connection.busy_timeout(BUSY);
        written?.pop()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has told whoever waited that it panicked, if it did.
            let _ = thread.join();
        }
    }
}

/// What the thread does.
fn work(desk: &Mutex<Desk>, waiting: &AtomicUsize, inbox: &mpsc::Receiver<Order>) {
    while let Ok(first) = inbox.recv() {
        let (mut batch, mut others) = (Vec::new(), Vec::new());
        for order in std::iter::once(first).chain(inbox.try_iter().take(BATCH - 1)) {
            match order {
                Order::Write(job) => batch.push(job),
                Order::Do(job) => others.push(job),
            }
        }
        let count = batch.len() + others.len();
        {
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            desk.serve(batch);
            others.into_iter().for_each(|job| job(&mut desk));
        }
        waiting.fetch_sub(count, Ordering::SeqCst);
    }
}

/// The writing end.
pub(super) struct Desk {
    connection: Connection,
    secrets: Secrets,
    /// What holds for every write, if it does not depend on the write.
    durability: Option<Durability>,
    current: Durability,
    /// When something was written last.
    written: Option<SystemTime>,
    /// About how many pages were written since the log was last moved into the file.
    log: usize,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Desk {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether a write that need not survive the power going out would not wait for the disk.
    fn waits_for_nothing(&self) -> bool {
        self.durability.is_none_or(|durability| durability == Durability::Process) && self.log < LOG_PAGES
    }

    /// Whether nothing has been written for a moment. Not known while the clock is set back.
    fn is_quiet(&self) -> bool {
        self.written.is_none_or(|written| written.elapsed().is_ok_and(|elapsed| elapsed >= LULL))
    }

    fn serve(&mut self, batch: Vec<Job>) {
        if self.log >= LOG_PAGES {
            self.move_log();
        }
        let works: Vec<&Work> = batch.iter().map(|job| &job.work).collect();
        if batch.len() > 1
            && let Ok(values) = self.write(&works)
        {
            return batch.into_iter().zip(values).for_each(|(job, value)| answer(job, Ok(value)));
        }
        // Alone, or one of them was at fault: each by itself, so that the others do not suffer.
        for job in batch {
            let written = self.write(&[&job.work]).map(|values| values[0]);
            answer(job, written);
        }
    }

    /// Moves what no reader needs any more from the log into the file.
    fn move_log(&mut self) {
        self.log = 0;
        // If it cannot be, the log stays as long as it is, and what is in it is safe there.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }

    /// Writes all of it, or none.
    pub(super) fn write(&mut self, batch: &[&Work]) -> Result<Vec<u64>, JournalError> {
        if let Some(why) = &self.broken {
            return Err(JournalError::store(why.clone()));
        }
        let asked = batch.iter().map(|work| work.durability()).max().unwrap_or(Durability::Process);
        self.set(self.durability.unwrap_or(asked)).map_err(failed)?;
        let transaction = Transaction::begin(&self.connection).map_err(failed)?;
        let values: Result<Vec<u64>, _> =
            batch.iter().map(|work| work.carry_out(&self.connection, &self.secrets)).collect();
        let values = values?;
        transaction.commit().map_err(|error| {
            if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                // After a failed fsync nobody knows what is on the disk, and the next one may succeed without cause.
                self.broken = Some(format!("an earlier write has failed: {error}"));
            }
            failed(error)
        })?;
        self.written = Some(SystemTime::now());
        self.log += batch.iter().map(|work| work.pages()).sum::<usize>();
        Ok(values)
    }

    fn set(&mut self, durability: Durability) -> Result<(), rusqlite::Error> {
        if self.current != durability {
            let synchronous = match durability {
                Durability::Process => "normal",
                Durability::Power => "full",
            };
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            self.current = durability;
        }
        Ok(())
    }
}

/// A transaction, which is undone if it is dropped. That of rusqlite has its statements parsed anew each time, which
/// takes longer than a small write.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> Result<Self, rusqlite::Error> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> Result<(), rusqlite::Error> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Committed, or undone already by what went wrong.
        if !self.0.is_autocommit() {
            // The next one cannot begin if this fails, which says so.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

fn answer(job: Job, value: Result<u64, JournalError>) {
    // Who asked may have gone away.
    let _ = job.reply.send(value);
}

impl Work {
    fn durability(&self) -> Durability {
        match self {
            Self::Append { durability, .. } => *durability,
            _ => Durability::Process,
        }
    }

    /// Whether there is little to it: events that neither carry what a planner wrote nor have to survive more than the
    /// process.
    fn is_light(&self) -> bool {
        let has_plan = |event: &RunEvent| {
            matches!(
                event.kind,
                RunEventKind::PlanAccepted { .. }
                    | RunEventKind::PlanRejected { .. }
                    | RunEventKind::StepExpanded { .. }
            )
        };
        match self {
            Self::Append { durability: Durability::Process, events, .. } => {
                events.len() <= MOST_AT_ONCE && !events.iter().any(has_plan)
            }
            _ => false,
        }
    }

    /// About how many pages it takes up in the log: those of its events and one to spare.
    fn pages(&self) -> usize {
        match self {
            Self::Append { events, .. } => 2 + events.len() / 8,
            Self::Put { body, .. } => 2 + body.len() / 4_096,
            _ => 2,
        }
    }

    fn carry_out(&self, connection: &Connection, secrets: &Secrets) -> Result<u64, JournalError> {
        match self {
            Self::Create { run } => create(connection, run),
            Self::Claim { number } => {
                let sql = "UPDATE owners SET epoch = epoch + 1 WHERE run = ?1 RETURNING epoch";
                let mut query = connection.prepare_cached(sql).map_err(failed)?;
                query.query_row([number], |row| row.get(0)).map_err(failed)
            }
            Self::Append { run, epoch, events, .. } => {
                let number = owned(connection, run, *epoch)?;
                append(connection, number, events, secrets).map_err(failed)?;
                Ok(number)
            }
            Self::Put { run, epoch, digest, body } => {
                let number = owned(connection, run, *epoch)?;
                let sql = "INSERT INTO outputs (digest, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                let inserted = connection.prepare_cached(sql).and_then(|mut query| query.execute([digest, body]));
                inserted.map(|_| number).map_err(failed)
            }
            Self::Rebuild => rebuild(connection),
        }
    }
}

fn create(connection: &Connection, run: &RunId) -> Result<u64, JournalError> {
    let sql = "INSERT INTO owners (id, epoch) VALUES (?1, 1) ON CONFLICT DO NOTHING RETURNING run";
    let mut query = connection.prepare_cached(sql).map_err(failed)?;
    let number = query.query_row([run.as_str()], |row| row.get(0)).optional().map_err(failed)?;
    number.ok_or_else(|| JournalError::store(format!("there is a run `{run}` already")))
}

/// The number of a run, if this is still its epoch.
fn owned(connection: &Connection, run: &RunId, epoch: u64) -> Result<u64, JournalError> {
    let sql = "SELECT run FROM owners WHERE id = ?1 AND epoch = ?2";
    let mut query = connection.prepare_cached(sql).map_err(failed)?;
    let number = query.query_row(params![run.as_str(), epoch], |row| row.get(0)).optional().map_err(failed)?;
    number.ok_or_else(|| JournalError::Locked { run: run.to_string(), pid: None })
}

fn append(connection: &Connection, run: u64, events: &[RunEvent], secrets: &Secrets) -> Result<(), rusqlite::Error> {
    let now = millis(SystemTime::now());
    let sql = "INSERT INTO entries (key, at_us, wall_ms, body) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = connection.prepare_cached(sql)?;
    for event in events {
        let body = redacted::to_json(&event.kind, secrets)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute(params![run << SEQ_BITS | event.seq, event.at.as_micros(), now, body])?;
    }
    summarise(connection, run, events, now, secrets)
}

/// Keeps the summary of a run in step with its events: with few of them it changes. How far a run is, its last event says.
fn summarise(
    connection: &Connection,
    run: u64,
    events: &[RunEvent],
    now: u64,
    secrets: &Secrets,
) -> Result<(), rusqlite::Error> {
    let Some(status) = events.iter().rev().find_map(RunStatus::after).map(RunStatus::word) else { return Ok(()) };
    if let Some(RunEventKind::RunStarted { start }) = events.first().map(|event| &event.kind) {
        let sql = "INSERT INTO summaries (run, objective, status, started_ms) VALUES (?1, ?2, ?3, ?4)";
        let values = params![run, secrets.redact(&start.objective), status, now];
        return connection.prepare_cached(sql)?.execute(values).map(drop);
    }
    let sql = "UPDATE summaries SET status = ?2 WHERE run = ?1";
    connection.prepare_cached(sql)?.execute(params![run, status]).map(drop)
}

fn rebuild(connection: &Connection) -> Result<u64, JournalError> {
    let mut wrong = 0;
    let sql = "SELECT DISTINCT run FROM owners WHERE EXISTS (SELECT 1 FROM entries WHERE key = owners.run << 40)";
    let mut query = connection.prepare(sql).map_err(failed)?;
    let runs: Result<Vec<u64>, _> = query.query_map([], |row| row.get(0)).map_err(failed)?.collect();
    for run in runs.map_err(failed)? {
        let events = history(connection, run)?;
        let Some(RunEventKind::RunStarted { start }) = events.first().map(|event| &event.kind) else { continue };
        let status = events.iter().rev().find_map(RunStatus::after).map(RunStatus::word);
        let sql = "INSERT INTO summaries (run, objective, status, started_ms)
            SELECT ?1, ?2, ?3, wall_ms FROM entries WHERE key = ?1 << 40
            ON CONFLICT DO UPDATE SET objective = excluded.objective, status = excluded.status,
                started_ms = excluded.started_ms
            WHERE (objective, status, started_ms) IS NOT (excluded.objective, excluded.status, excluded.started_ms)";
        wrong += connection.execute(sql, params![run, start.objective, status]).map_err(failed)? as u64;
    }
    Ok(wrong)
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
