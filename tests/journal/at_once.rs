//! Writes that are made at once, by whoever asks for them: they must keep nobody waiting.

use std::time::Duration;

use futures::future::poll_immediate;
use plandag::journal::{Durability, Journal as _, RunId, SqliteJournal};
use plandag::{RunEvent, RunEventKind, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn event(seq: u64) -> RunEvent {
    RunEvent { seq, at: Timestamp::from_micros(seq), kind: RunEventKind::StepReady { step: 0 } }
}

/// How many events are in the file.
fn count(connection: &Connection) -> u64 {
    connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
}

#[test]
fn while_another_process_writes_a_write_waits_and_nobody_with_it() {
    let folder = TempDir::new().unwrap();
    let journal = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let other = Connection::open(journal.path()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let run = RunId::random();
        let claim = journal.create(&run).await.unwrap();
        journal.append(&claim, &[event(0)], Durability::Process).await.unwrap();
        // Soon after another write it would be for the thread in any case.
        tokio::time::sleep(Duration::from_millis(5)).await;
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let events = [event(1)];
        let mut append = journal.append(&claim, &events, Durability::Process);
        // Would the call itself wait, nobody could let go of the lock.
        assert!(poll_immediate(&mut append).await.is_none(), "it cannot have been written");
        other.execute_batch("COMMIT").unwrap();
        append.await.unwrap();
    });
    assert_eq!(count(&other), 2);
}

/// Nobody has to wait for the first to be sure that it comes before the second, also if that could be made at once.
#[test]
fn what_is_asked_for_later_is_written_later() {
    let folder = TempDir::new().unwrap();
    let journal = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let other = Connection::open(journal.path()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let claim = journal.create(&RunId::random()).await.unwrap();
        for round in 0..200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (first, second) = ([event(2 * round)], [event(2 * round + 1)]);
            let first = journal.append(&claim, &first, Durability::Power);
            let mut second = journal.append(&claim, &second, Durability::Process);
            let is_there = poll_immediate(&mut second).await.is_some();
            let events = count(&other);
            assert!(!is_there || events == 2 * round + 2, "the second was written, and {events} are there");
            first.await.unwrap();
            if !is_there {
                second.await.unwrap();
            }
        }
    });
    assert_eq!(count(&other), 400);
}

#[test]
fn the_log_is_moved_into_the_file_now_and_then() {
    let folder = TempDir::new().unwrap();
    let journal = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let log = folder.path().join("runs.db-wal");
    let largest = Runtime::new().unwrap().block_on(async {
        let claim = journal.create(&RunId::random()).await.unwrap();
        let mut largest = 0;
        for seq in 0..3_000 {
            journal.append(&claim, &[event(seq)], Durability::Process).await.unwrap();
            largest = largest.max(log.metadata().unwrap().len());
        }
        largest
    });
    // Each of them takes up a page or two.
    assert!(largest < 8 * 1024 * 1024, "{largest} bytes");
}
