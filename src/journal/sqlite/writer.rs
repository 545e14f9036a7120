//! The thread that writes. What comes while it is busy is written together, in one transaction.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::channel::oneshot;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::error::JournalError;
use crate::event::{RunEvent, RunEventKind};
use crate::journal::{Durability, RunId, RunStatus};
use crate::redact::Secrets;

use super::reader::history;
use super::schema::SEQ_BITS;
use super::{failed, gone};

/// Most writes in one transaction.
const BATCH: usize = 512;

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

/// The sending end. Dropping it waits until everything is written and the file is closed.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        secrets: Secrets,
        durability: Option<Durability>,
    ) -> Result<Self, JournalError> {
        let (jobs, inbox) = mpsc::channel();
        // The connection was made with the safer setting.
        let mut desk = Desk { connection, secrets, durability, current: Durability::Power, broken: None };
        let thread = thread::Builder::new()
            .name("plandag-journal-writer".to_owned())
            .spawn(move || desk.work(&inbox))
            .map_err(|error| JournalError::store(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Begins to write at once; the future waits for it.
    pub(super) fn write(&self, work: Work) -> impl Future<Output = Result<u64, JournalError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(Job { work, reply }).map_err(gone),
            None => Err(gone(())),
        };
        async move {
            sent?;
            answer.await.map_err(gone)?
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has told whoever waited that it panicked, if it did.
            let _ = thread.join();
        }
    }
}

/// The writing end.
struct Desk {
    connection: Connection,
    secrets: Secrets,
    /// What holds for every write, if it does not depend on the write.
    durability: Option<Durability>,
    current: Durability,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Desk {
    fn work(&mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(first) = inbox.recv() {
            let batch: Vec<Job> = std::iter::once(first).chain(inbox.try_iter().take(BATCH - 1)).collect();
            self.serve(batch);
        }
    }

    fn serve(&mut self, batch: Vec<Job>) {
        if batch.len() > 1
            && let Ok(values) = self.write(&batch)
        {
            return batch.into_iter().zip(values).for_each(|(job, value)| answer(job, Ok(value)));
        }
        // Alone, or one of them was at fault: each by itself, so that the others do not suffer.
        for job in batch {
            let written = self.write(std::slice::from_ref(&job)).map(|values| values[0]);
            answer(job, written);
        }
    }

    /// Writes all of it, or none.
    fn write(&mut self, batch: &[Job]) -> Result<Vec<u64>, JournalError> {
        if let Some(why) = &self.broken {
            return Err(JournalError::store(why.clone()));
        }
        let asked = batch.iter().map(|job| job.work.durability()).max().unwrap_or(Durability::Process);
        self.set(self.durability.unwrap_or(asked)).map_err(failed)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let values: Result<Vec<u64>, _> =
            batch.iter().map(|job| job.work.carry_out(&transaction, &self.secrets)).collect();
        let values = values?;
        transaction.commit().map_err(|error| {
            if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                // After a failed fsync nobody knows what is on the disk, and the next one may succeed without cause.
                self.broken = Some(format!("an earlier write has failed: {error}"));
            }
            failed(error)
        })?;
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

    fn carry_out(&self, transaction: &Transaction<'_>, secrets: &Secrets) -> Result<u64, JournalError> {
        match self {
            Self::Create { run } => create(transaction, run),
            Self::Claim { number } => {
                let sql = "UPDATE owners SET epoch = epoch + 1 WHERE run = ?1 RETURNING epoch";
                let mut query = transaction.prepare_cached(sql).map_err(failed)?;
                query.query_row([number], |row| row.get(0)).map_err(failed)
            }
            Self::Append { run, epoch, events, .. } => {
                let number = owned(transaction, run, *epoch)?;
                append(transaction, number, events, secrets).map_err(failed)?;
                Ok(number)
            }
            Self::Put { run, epoch, digest, body } => {
                let number = owned(transaction, run, *epoch)?;
                let sql = "INSERT INTO outputs (digest, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                let inserted = transaction.prepare_cached(sql).and_then(|mut query| query.execute([digest, body]));
                inserted.map(|_| number).map_err(failed)
            }
            Self::Rebuild => rebuild(transaction),
        }
    }
}

fn create(transaction: &Transaction<'_>, run: &RunId) -> Result<u64, JournalError> {
    let sql = "INSERT INTO owners (id, epoch) VALUES (?1, 1) ON CONFLICT DO NOTHING RETURNING run";
    let mut query = transaction.prepare_cached(sql).map_err(failed)?;
    let number = query.query_row([run.as_str()], |row| row.get(0)).optional().map_err(failed)?;
    number.ok_or_else(|| JournalError::store(format!("there is a run `{run}` already")))
}

/// The number of a run, if this is still its epoch.
fn owned(transaction: &Transaction<'_>, run: &RunId, epoch: u64) -> Result<u64, JournalError> {
    let sql = "SELECT run FROM owners WHERE id = ?1 AND epoch = ?2";
    let mut query = transaction.prepare_cached(sql).map_err(failed)?;
    let number = query.query_row(params![run.as_str(), epoch], |row| row.get(0)).optional().map_err(failed)?;
    number.ok_or_else(|| JournalError::Locked { run: run.to_string(), pid: None })
}

fn append(
    transaction: &Transaction<'_>,
    run: u64,
    events: &[RunEvent],
    secrets: &Secrets,
) -> Result<(), rusqlite::Error> {
    let now = millis(SystemTime::now());
    let sql = "INSERT INTO events (key, at_us, wall_ms, body) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(sql)?;
    for event in events {
        let body = serde_json::to_string(&event.kind)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute(params![run << SEQ_BITS | event.seq, event.at.as_micros(), now, secrets.redact_json(body)])?;
    }
    summarise(transaction, run, events, now, secrets)
}

/// Keeps the summary of a run in step with its events.
fn summarise(
    transaction: &Transaction<'_>,
    run: u64,
    events: &[RunEvent],
    now: u64,
    secrets: &Secrets,
) -> Result<(), rusqlite::Error> {
    let Some(last) = events.last() else { return Ok(()) };
    if let Some(RunEventKind::RunStarted { start }) = events.first().map(|event| &event.kind) {
        let sql = "INSERT INTO summaries (run, objective, status, started_ms, updated_ms, at_us, events)
            VALUES (?1, ?2, '', ?3, ?3, 0, 0)";
        transaction.prepare_cached(sql)?.execute(params![run, secrets.redact(&start.objective), now])?;
    }
    let status = events.iter().rev().find_map(RunStatus::after).map(RunStatus::word);
    let sql = "UPDATE summaries SET status = coalesce(?2, status), updated_ms = ?3, at_us = ?4, events = ?5
        WHERE run = ?1";
    let mut update = transaction.prepare_cached(sql)?;
    update.execute(params![run, status, now, last.at.as_micros(), last.seq + 1])?;
    Ok(())
}

fn rebuild(transaction: &Transaction<'_>) -> Result<u64, JournalError> {
    let mut wrong = 0;
    let sql = "SELECT DISTINCT run FROM owners WHERE EXISTS (SELECT 1 FROM events WHERE key = owners.run << 40)";
    let mut query = transaction.prepare(sql).map_err(failed)?;
    let runs: Result<Vec<u64>, _> = query.query_map([], |row| row.get(0)).map_err(failed)?.collect();
    for run in runs.map_err(failed)? {
        let events = history(transaction, run)?;
        let Some((first, last)) = events.first().zip(events.last()) else { continue };
        let RunEventKind::RunStarted { start } = &first.kind else { continue };
        let status = events.iter().rev().find_map(RunStatus::after).map(RunStatus::word);
        let sql = "INSERT INTO summaries (run, objective, status, started_ms, updated_ms, at_us, events)
            SELECT ?1, ?2, ?3, min(wall_ms), max(wall_ms), ?4, ?5 FROM events WHERE key BETWEEN ?1 << 40 AND ?6
            ON CONFLICT DO UPDATE SET objective = excluded.objective, status = excluded.status,
                started_ms = excluded.started_ms, updated_ms = excluded.updated_ms, at_us = excluded.at_us,
                events = excluded.events
            WHERE (objective, status, started_ms, updated_ms, at_us, events) IS NOT
                (excluded.objective, excluded.status, excluded.started_ms, excluded.updated_ms, excluded.at_us,
                excluded.events)";
        let end = run << SEQ_BITS | last.seq;
        let values = params![run, start.objective, status, last.at.as_micros(), last.seq + 1, end];
        wrong += transaction.execute(sql, values).map_err(failed)? as u64;
    }
    Ok(wrong)
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
