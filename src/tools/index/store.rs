//! The index in SQLite: which passages have which words, and which state of which file they come from.
//!
//! The words are in an FTS5 table without content: texts are read from the files when they are found, so the index is
//! a third of their size, and what is quoted is what stands there now. The passages of a file have consecutive
//! numbers, so that a number tells the file and the passage in it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::tools::folder::{Skip, Stamp};
use crate::tools::passages::Passage;
use crate::tools::thread::Cancelled;

/// Raised whenever the tables, or the way files are cut into passages, change: older indexes are built anew.
const FORMAT: i64 = 2;

/// SQLite waits this long for other processes before we look whether anybody still waits for us.
const BUSY: Duration = Duration::from_millis(200);

const SCHEMA: &str = "
    CREATE TABLE folder (path TEXT NOT NULL);
    CREATE TABLE files (
        path TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL, inode INTEGER NOT NULL,
        settled INTEGER NOT NULL,  -- whether the stamp can be relied upon
        skip INTEGER,              -- why it is not in the index
        first INTEGER NOT NULL,    -- its first passage
        passages INTEGER NOT NULL
    );
    CREATE INDEX files_by_passage ON files (first);
    CREATE VIRTUAL TABLE words USING fts5 (
        text, heading, path,
        content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2'
    );
    -- Words are gathered in memory up to this many bytes before they are written.
    INSERT INTO words (words, rank) VALUES ('hashsize', 33554432);
";

/// A word counts more in a heading than in the text, and most in the name of the file.
const BEST: &str = "
    SELECT rowid, bm25(words, 1.0, 2.0, 4.0) AS score FROM words WHERE words MATCH ?1 ORDER BY score, rowid LIMIT ?2
";

/// Why the index cannot be used.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody waits for it any more.
    Cancelled,
    /// What is kept is no index, or not whole.
    Damaged,
    /// It cannot be opened, read or written.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => Self::Damaged,
            _ => Self::Sqlite(error),
        }
    }
}

/// One connection to an index.
#[derive(Debug)]
pub(super) struct Store(Connection);

/// A file as the index knows it.
#[derive(Debug)]
pub(super) struct KnownFile {
    pub(super) row: i64,
    pub(super) stamp: Stamp,
    pub(super) settled: bool,
    pub(super) skip: Option<Skip>,
    first: i64,
    pub(super) passages: u32,
}

/// A passage that has some of the words.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) path: String,
    pub(super) stamp: Stamp,
    /// Its place among the passages of the file, from 0.
    pub(super) ordinal: usize,
    /// The higher the better.
    pub(super) score: f64,
}

impl Store {
    /// Opens the index kept in `file`, which is there, or one in memory. Makes its tables if need be.
    pub(super) fn open(file: Option<&Path>, folder: &Path, cancelled: &Cancelled) -> Result<Self, Failure> {
        let mut connection = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(BUSY)?;
        // Readers go on while another process writes. In memory there is no such thing.
        patiently(cancelled, || connection.pragma_update(None, "journal_mode", "wal"))?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        let folder = folder.to_string_lossy();
        if version(&connection)? == 0 {
            let transaction = begin(&mut connection, cancelled)?;
            // Another process may have been first.
            if version(&transaction)? == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.execute("INSERT INTO folder VALUES (?1)", [&folder])?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
                transaction.commit()?;
            }
        }
        if version(&connection)? != FORMAT {
            return Err(Failure::Damaged);
        }
        let kept: Option<String> = connection.query_row("SELECT path FROM folder", [], |row| row.get(0)).optional()?;
        match kept {
            Some(kept) if kept == folder => Ok(Self(connection)),
            _ => Err(Failure::Damaged),
        }
    }

    /// What the index knows.
    pub(super) fn files(&self) -> Result<HashMap<String, KnownFile>, Failure> {
        known_files(&self.0)
    }

    /// Begins to change the index, once no other process does.
    pub(super) fn change(&mut self, cancelled: &Cancelled) -> Result<Change<'_>, Failure> {
        let transaction = begin(&mut self.0, cancelled)?;
        let next =
            transaction.query_row("SELECT coalesce(max(first + passages), 1) FROM files", [], |row| row.get(0))?;
        Ok(Change { transaction, next })
    }

    /// How many passages have this word, in any of its forms.
    pub(super) fn count(&self, word: &str) -> Result<u64, Failure> {
        let mut statement = self.0.prepare_cached("SELECT count(*) FROM words WHERE words MATCH ?1")?;
        Ok(statement.query_row([quoted(word)], |row| row.get::<_, u32>(0))?.into())
    }

    /// The best passages with any of these words.
    pub(super) fn best(&self, words: &[&str], limit: u32) -> Result<Vec<Match>, Failure> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let any = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" OR ");
        let mut best = self.0.prepare_cached(BEST)?;
        let mut file_of =
            self.0.prepare_cached("SELECT *, rowid FROM files WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?;
        let rows = best.query_map(params![any, limit], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?)))?;
        let mut matches = Vec::new();
        for row in rows {
            let (number, score) = row?;
            let (path, file) = file_of.query_row([number], known_file)?;
            let ordinal = usize::try_from(number - file.first).unwrap_or_default();
            matches.push(Match { path, stamp: file.stamp, ordinal, score: -score });
        }
        Ok(matches)
    }
}

/// A change of the index; given up unless committed.
pub(super) struct Change<'a> {
    transaction: Transaction<'a>,
    /// The number of the next passage.
    next: i64,
}

impl Change<'_> {
    /// What the index knows now, when nobody else can change it.
    pub(super) fn files(&self) -> Result<HashMap<String, KnownFile>, Failure> {
        known_files(&self.transaction)
    }

    /// Forgets a file.
    pub(super) fn remove(&self, file: &KnownFile) -> Result<(), Failure> {
        let last = file.first + i64::from(file.passages) - 1;
        self.transaction
            .prepare_cached("DELETE FROM words WHERE rowid BETWEEN ?1 AND ?2")?
            .execute([file.first, last])?;
        self.transaction.prepare_cached("DELETE FROM files WHERE rowid = ?1")?.execute([file.row])?;
        Ok(())
    }

    /// Adds a file that the index does not know.
    pub(super) fn add(&mut self, path: &str, stamp: Stamp, cut: &Result<Vec<Passage>, Skip>) -> Result<(), Failure> {
        let passages = cut.as_deref().unwrap_or_default();
        let skip = cut.as_ref().err().map(|skip| skip.number());
        let first = self.next;
        self.transaction.prepare_cached("INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                path,
                stamp.bytes.cast_signed(),
                stamp.modified,
                stamp.changed,
                stamp.inode.cast_signed(),
                !stamp.is_fresh(),
                skip,
                first,
                u32::try_from(passages.len()).unwrap_or(u32::MAX),
            ],
        )?;
        let mut insert = self
            .transaction
            .prepare_cached("INSERT INTO words (rowid, text, heading, path) VALUES (?1, ?2, ?3, ?4)")?;
        for passage in passages {
            insert.execute(params![self.next, passage.text, passage.heading, path])?;
            self.next += 1;
        }
        Ok(())
    }

    pub(super) fn commit(self) -> Result<(), Failure> {
        Ok(self.transaction.commit()?)
    }
}

fn version(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn begin<'a>(connection: &'a mut Connection, cancelled: &Cancelled) -> Result<Transaction<'a>, Failure> {
    let connection: &'a Connection = connection;
    // A connection of ours has one transaction at a time: it is borrowed for writing.
    patiently(cancelled, || Transaction::new_unchecked(connection, TransactionBehavior::Immediate))
}

/// Tries again while another process has the database locked.
fn patiently<T>(cancelled: &Cancelled, mut attempt: impl FnMut() -> rusqlite::Result<T>) -> Result<T, Failure> {
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && cancelled.is_set() => return Err(Failure::Cancelled),
            // Not every kind of lock is waited for by SQLite itself.
            Err(error) if is_busy(&error) => std::thread::sleep(Duration::from_millis(5)),
            result => return Ok(result?),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn known_files(connection: &Connection) -> Result<HashMap<String, KnownFile>, Failure> {
    let mut statement = connection.prepare_cached("SELECT *, rowid FROM files")?;
    let files = statement.query_map([], known_file)?.collect::<Result<_, _>>()?;
    Ok(files)
}

fn known_file(row: &Row<'_>) -> rusqlite::Result<(String, KnownFile)> {
    let stamp = Stamp {
        bytes: row.get::<_, i64>("bytes")?.cast_unsigned(),
        modified: row.get("modified")?,
        changed: row.get("changed")?,
        inode: row.get::<_, i64>("inode")?.cast_unsigned(),
    };
    let file = KnownFile {
        row: row.get("rowid")?,
        stamp,
        settled: row.get("settled")?,
        skip: row.get::<_, Option<u8>>("skip")?.and_then(Skip::from_number),
        first: row.get("first")?,
        passages: row.get("passages")?,
    };
    Ok((row.get("path")?, file))
}

/// A word as FTS5 takes it without looking for syntax in it.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}
