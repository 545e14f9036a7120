//! The layout of the file: what is asserted about it, what is written into it.
//!
//! `entries` is the truth. `summaries` follows from it and can be [rebuilt](super::SqliteJournal::check); the views are
//! computed when they are asked, so that they cost a run nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, Error, TransactionBehavior};

use crate::error::JournalError;

use super::{failed, place};

/// The number of the layout, as `PRAGMA user_version` of the file.
pub const SCHEMA_VERSION: u32 = 4;

/// `PRAGMA application_id` of every journal: "plnd".
const APPLICATION: u32 = u32::from_be_bytes(*b"plnd");

/// Older releases can lose commits when one connection writes while another moves the log into the file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Where the number of an event ends and that of its run begins, in the key of an event: one key, so that the events
/// of a run lie beside each other in the file.
pub(super) const SEQ_BITS: u32 = 40;

/// What makes the layout of the next number of each older one: the first of them of number 1, and so on. Events are
/// never touched. The views are made anew after the last one, which is all that some change.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize - 1] = [
    "
ALTER TABLE events DROP COLUMN attempt;
ALTER TABLE events DROP COLUMN step;
ALTER TABLE events DROP COLUMN event;
ALTER TABLE events DROP COLUMN seq;
ALTER TABLE events DROP COLUMN run;
ALTER TABLE events RENAME TO entries;
ALTER TABLE summaries DROP COLUMN events;
ALTER TABLE summaries DROP COLUMN at_us;
ALTER TABLE summaries DROP COLUMN updated_ms;
",
    "",
    "",
];

const TABLES: &str = "
CREATE TABLE owners (
    run INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL
) STRICT;

CREATE TABLE entries (
    key INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE outputs (
    digest TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE summaries (
    run INTEGER PRIMARY KEY REFERENCES owners,
    objective TEXT NOT NULL,
    status TEXT NOT NULL,
    started_ms INTEGER NOT NULL
) STRICT;
";

/// What people ask with `sqlite3`. What is joined is materialised, so that SQLite makes an index for it: events have
/// none of their own but their key.
const VIEWS: &str = "
CREATE VIEW events AS
SELECT key, key >> 40 AS run, key & 1099511627775 AS seq, at_us, wall_ms, body, body ->> '$.event' AS event,
    body ->> '$.step' AS step, body ->> '$.attempt' AS attempt
FROM entries;

CREATE VIEW runs AS
SELECT o.id AS run, s.status, s.objective,
    datetime(s.started_ms / 1000, 'unixepoch') AS started,
    datetime(e.wall_ms / 1000, 'unixepoch') AS updated,
    e.at_us / 1e6 AS seconds, e.seq + 1 AS events
FROM summaries s
JOIN owners o USING (run)
JOIN events e ON e.key = (SELECT max(key) FROM entries WHERE key < (s.run + 1) << 40);

CREATE VIEW steps AS
WITH known AS MATERIALIZED (
    SELECT e.run, (e.body ->> '$.graft.first') + a.key AS step,
        coalesce(a.value ->> '$.id', a.value ->> '$.step.id') AS id, a.value ->> '$.step.tool' AS tool, e.at_us
    FROM events e, json_each(e.body, '$.graft.added') a
    WHERE e.event IN ('plan_accepted', 'step_drafted', 'step_expanded')
), settled AS MATERIALIZED (
    SELECT run, step, max(seq), at_us, substr(event, 6) AS state,
        body ->> '$.error.message' AS error, body ->> '$.output' AS output
    FROM events
    WHERE event IN ('step_succeeded', 'step_failed', 'step_skipped', 'step_unknown', 'step_expanded')
    GROUP BY run, step
)
SELECT o.id AS run, k.step AS number, k.id AS step, k.tool, coalesce(s.state, 'unsettled') AS state,
    s.error, s.output, k.at_us / 1e6 AS added_at, s.at_us / 1e6 AS settled_at
FROM known k JOIN owners o USING (run) LEFT JOIN settled s USING (run, step);

CREATE VIEW attempts AS
WITH known AS MATERIALIZED (SELECT run, number, step, tool FROM steps
), used AS MATERIALIZED (
    -- What is known only after the run has stopped stands in an event of its own.
    SELECT run, attempt, sum(coalesce(body ->> '$.usage.input_tokens', 0)) AS input_tokens,
        sum(coalesce(body ->> '$.usage.output_tokens', 0)) AS output_tokens,
        sum(coalesce(body ->> '$.usage.micro_usd', 0)) AS micro_usd
    FROM events WHERE attempt IS NOT NULL GROUP BY run, attempt
), ended AS MATERIALIZED (
    SELECT run, attempt, at_us, event, body ->> '$.error.kind' AS kind, body ->> '$.error.message' AS error
    FROM events WHERE attempt IS NOT NULL AND event NOT IN ('attempt_started', 'usage_noted')
)
SELECT o.id AS run, k.number, k.step, k.tool, s.attempt,
    CASE e.event
        WHEN 'step_succeeded' THEN 'succeeded' WHEN 'step_expanded' THEN 'expanded'
        WHEN 'attempt_failed' THEN 'failed' WHEN 'step_failed' THEN 'failed' WHEN 'step_unknown' THEN 'unknown'
        WHEN 'step_skipped' THEN 'skipped' WHEN 'attempt_discarded' THEN 'discarded' ELSE 'open' END AS state,
    e.kind, e.error, s.at_us / 1e6 AS started_at, e.at_us / 1e6 AS ended_at,
    u.input_tokens, u.output_tokens, u.micro_usd / 1e6 AS usd
FROM events s
JOIN owners o USING (run)
JOIN known k ON k.run = o.id AND k.number = s.step
JOIN used u ON u.run = s.run AND u.attempt = s.attempt
LEFT JOIN ended e ON e.run = s.run AND e.attempt = s.attempt
WHERE s.event = 'attempt_started';

CREATE VIEW timings AS
SELECT run, step, tool, count(*) AS attempts, min(started_at) AS started_at, max(ended_at) AS ended_at,
    sum(ended_at - started_at) AS seconds
FROM attempts GROUP BY run, number;

CREATE VIEW costs AS
SELECT run, step, tool, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(usd) AS usd
FROM attempts GROUP BY run, number
UNION ALL
SELECT o.id, NULL, 'planner', sum(e.body ->> '$.usage.input_tokens'), sum(e.body ->> '$.usage.output_tokens'),
    sum(e.body ->> '$.usage.micro_usd') / 1e6
FROM events e JOIN owners o USING (run)
WHERE e.attempt IS NULL
GROUP BY e.run;
";

/// Looks at the first bytes of the file, without a lock and without changing anything: whether it is a journal that
/// this release can open. An empty file, or none, is about to become one.
pub(super) fn look(path: &Path) -> Result<(), JournalError> {
    let header = match read_header(path) {
        Ok(header) if header.is_empty() => return Ok(()),
        Ok(header) => header,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(path, format!("cannot be read: {error}"))),
    };
    let not = |why: &str| Err(JournalError::NotAJournal { path: path.display().to_string(), why: why.to_owned() });
    if !header.starts_with(b"SQLite format 3\0") {
        return not("is no database, so it is no journal");
    }
    if header.len() < HEADER_BYTES {
        return not("is cut off: it ends inside its first page");
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(68) != APPLICATION {
        return not("is the database of another program, not a journal");
    }
    let found = number(60);
    if found > SCHEMA_VERSION {
        return Err(JournalError::Newer { path: path.display().to_string(), found, known: SCHEMA_VERSION });
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let wanted = page * u64::from(number(28));
    let is_logged = path_with(path, "-wal").metadata().is_ok_and(|log| log.len() > 0);
    match path.metadata() {
        // With a log beside it, pages that are not in the file yet are in there.
        Ok(file) if file.len() < wanted && !is_logged => {
            not(&format!("is cut off: it has {} of {wanted} bytes", file.len()))
        }
        _ => Ok(()),
    }
}

const HEADER_BYTES: usize = 100;

fn read_header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header)
}

/// A path with something added to its last part.
pub(super) fn path_with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn unusable(path: &Path, why: impl std::fmt::Display) -> JournalError {
    JournalError::Unusable { path: path.display().to_string(), why: why.to_string() }
}

/// Sets a connection up for writing, and makes sure that it is as safe as it is said to be.
pub(super) fn prepare(connection: &Connection) -> Result<(), JournalError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(JournalError::store(format!("SQLite {} is too old to be relied on", rusqlite::version())));
    }
    for (name, value, wanted) in [
        ("journal_mode", "wal", "wal"),
        ("synchronous", "full", "2"),
        // Where fsync alone leaves the data in the cache of the drive.
        ("fullfsync", "on", "1"),
        ("checkpoint_fullfsync", "on", "1"),
        ("foreign_keys", "on", "1"),
        // A file from elsewhere must not be able to call functions by its views.
        ("trusted_schema", "off", "0"),
    ] {
        set(connection, name, value, wanted)?;
    }
    Ok(())
}

/// Sets something, and makes sure that it is set.
fn set(connection: &Connection, name: &str, value: &str, wanted: &str) -> Result<(), JournalError> {
    connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(no_rows).map_err(failed)?;
    let is = connection.pragma_query_value(None, name, |row| row.get::<_, Value>(0)).map_err(failed)?;
    let is = match is {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    if is == wanted {
        return Ok(());
    }
    Err(JournalError::store(format!("SQLite has set {name} to {is} where {wanted} was asked for")))
}

/// Most pragmas say nothing when they are set.
fn no_rows(error: Error) -> Result<(), Error> {
    if error == Error::QueryReturnedNoRows { Ok(()) } else { Err(error) }
}

/// Brings the layout of an older release up to this one's. Nobody else opens the file meanwhile; a process of the older
/// release that has it open finds at its next write that it cannot go on, and its run can be resumed by this one.
/// Gives back where the journal was copied to before.
pub(super) fn migrate(path: &Path, connection: &mut Connection) -> Result<Option<PathBuf>, JournalError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    // A newer layout may be in the log while the file itself, which was looked at before, does not say so yet.
    if found > SCHEMA_VERSION {
        return Err(JournalError::Newer { path: path.display().to_string(), found, known: SCHEMA_VERSION });
    }
    if found == SCHEMA_VERSION {
        return Ok(None);
    }
    let copy = copy(path, connection, found)?;
    migrate_by(connection, &MIGRATIONS, VIEWS).map_err(failed)?;
    // Older releases look at the file. It is enough if they see it when the log is moved the next time.
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Ok(copy)
}

/// Copies a journal to beside it, once for each layout: a copy that is there is kept. It appears when it is complete.
fn copy(path: &Path, connection: &Connection, layout: u32) -> Result<Option<PathBuf>, JournalError> {
    let copy = path_with(path, &format!(".schema-{layout}"));
    if copy.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let cannot = |error: io::Error| {
        unusable(path, format_args!("is of an older release, and cannot be copied before it is changed: {error}"))
    };
    let draft = path_with(&copy, ".new");
    // What is not there need not be removed.
    let _ = std::fs::remove_file(&draft);
    place::create_private(&draft).map_err(cannot)?;
    // A name need not be UTF-8.
    let copied = connection.execute("VACUUM INTO CAST(?1 AS TEXT)", [draft.as_os_str().as_encoded_bytes()]);
    let copied = copied.map_err(failed).and_then(|_| {
        OpenOptions::new().write(true).open(&draft).and_then(|file| file.sync_all()).map_err(cannot)?;
        std::fs::rename(&draft, &copy).map_err(cannot)
    });
    copied.inspect_err(|_| {
        // Half of a copy takes up room on a disk that may be full.
        let _ = std::fs::remove_file(&draft);
    })?;
    Ok(Some(copy))
}

fn migrate_by(connection: &mut Connection, migrations: &[&str], views: &str) -> Result<(), Error> {
    let newest = migrations.len() + 1;
    // It waits for whoever writes, and only then looks.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found >= newest {
        return Ok(());
    }
    // A view of what is about to change would not let it. Those that somebody has added are put back.
    let there = "SELECT name, format('DROP VIEW \"%w\"', name), sql FROM sqlite_schema WHERE type = 'view'";
    let dropped: Vec<(String, String, String)> = transaction
        .prepare(there)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    dropped.iter().try_for_each(|(_, drop, _)| transaction.execute_batch(drop))?;
    migrations.iter().skip(found.saturating_sub(1)).try_for_each(|migration| transaction.execute_batch(migration))?;
    transaction.execute_batch(views)?;
    for (name, _, make) in &dropped {
        let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE)";
        if !transaction.query_row(is_there, [name], |row| row.get(0))? {
            transaction.execute_batch(make)?;
        }
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()
}

/// Makes a journal, if the file is empty. It is made beside it and takes its place when it is complete: a process that
/// is killed meanwhile leaves no half of one behind.
pub(super) fn create(path: &Path) -> Result<(), JournalError> {
    if path.metadata().is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let draft = path_with(path, ".new");
    for leftover in ["", "-wal", "-shm"] {
        // What is not there need not be removed. An older release has left logs, too.
        let _ = std::fs::remove_file(path_with(&draft, leftover));
    }
    let cannot = |error: io::Error| unusable(path, format_args!("cannot be written: {error}"));
    place::create_private(&draft).map_err(cannot)?;
    fill(&draft)?;
    OpenOptions::new().write(true).open(&draft).and_then(|file| file.sync_all()).map_err(cannot)?;
    for of_another in ["-wal", "-shm"] {
        // A journal that was deleted, or moved away, may have left its log: it is no part of this one.
        let _ = std::fs::remove_file(path_with(path, of_another));
    }
    std::fs::rename(&draft, path).map_err(|error| unusable(path, error))
}

/// Writes the layout into an empty file, and leaves it in write-ahead mode. What went wrong there is thrown away as a
/// whole, so it keeps no log, and it is for whoever made the file to see that it is on the disk.
fn fill(draft: &Path) -> Result<(), JournalError> {
    let mut connection = Connection::open(draft).map_err(failed)?;
    set(&connection, "synchronous", "off", "0")?;
    set(&connection, "journal_mode", "off", "off")?;
    let made = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(VIEWS)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    made(&mut connection).map_err(failed)?;
    // The first connection would have to wait for the disk three times to go over to it.
    set(&connection, "journal_mode", "wal", "wal")?;
    connection.close().map_err(|(_, error)| failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn views_do_not_hold_back_what_they_are_of_and_those_that_somebody_has_added_are_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let before = r#"
            CREATE TABLE one (a, b);
            CREATE VIEW ours AS SELECT a, b FROM one;
            CREATE VIEW "some ""body's" AS SELECT a FROM ours;
        "#;
        connection.execute_batch(before).unwrap();
        let migrations = ["ALTER TABLE one DROP COLUMN b"];
        migrate_by(&mut connection, &migrations, "CREATE VIEW ours AS SELECT a FROM one").unwrap();
        assert_eq!(version(&connection), 2);
        connection.execute("INSERT INTO one VALUES (5)", []).unwrap();
        let theirs = r#"SELECT a FROM "some ""body's""#;
        assert_eq!(connection.query_row(theirs, [], |row| row.get::<_, u32>(0)), Ok(5));
        assert!(connection.prepare("SELECT b FROM ours").is_err());
    }

    #[test]
    fn a_new_journal_is_one_whole_file_in_write_ahead_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        create(&path).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing else is left behind");
        let header = read_header(&path).unwrap();
        // The file format's versions for writing and for reading.
        assert_eq!(header[18..20], [2, 2]);
        let made = Connection::open(&path).unwrap();
        assert_eq!(made.pragma_query_value(None, "integrity_check", |row| row.get::<_, String>(0)).unwrap(), "ok");
    }

    #[test]
    fn an_older_layout_goes_through_every_one_after_it() {
        let migrations = ["CREATE TABLE two (a)", "ALTER TABLE two ADD COLUMN three", "CREATE TABLE four (a)"];
        for (from, tables) in [(1, "four,two"), (3, "four"), (4, "")] {
            let mut connection = Connection::open_in_memory().unwrap();
            connection.pragma_update(None, "user_version", from).unwrap();
            migrate_by(&mut connection, &migrations, "").unwrap();
            assert_eq!(version(&connection), 4);
            let names = "SELECT coalesce(group_concat(name), '') FROM (SELECT name FROM sqlite_schema ORDER BY name)";
            assert_eq!(connection.query_row(names, [], |row| row.get::<_, String>(0)).unwrap(), tables);
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_the_layout_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        migrate_by(&mut connection, &["CREATE TABLE two (a)", "CREATE TABLE three (a); nonsense"], "").unwrap_err();
        assert_eq!(version(&connection), 1);
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, u32>(0));
        assert_eq!(tables.unwrap(), 0);
    }
}
