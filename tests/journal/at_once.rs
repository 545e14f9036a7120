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
    let count = "SELECT count(*) FROM events";
    assert_eq!(other.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap(), 2);
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
