//! The index of a folder: kept between runs, brought up to date at the first search of each.
//!
//! A file is read again if its size, times or inode differ from those it was indexed with. Where the index cannot be
//! kept, it is built in memory; where what was kept is damaged, it is built anew; both are said.

mod place;
mod store;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use serde::Serialize;

pub(super) use place::cache_directory;
use store::{Failure, Store};

use super::folder::{Folder, Skip, Skipped, Stamp};
use super::passages::{Kind, Passage, passages};
use super::thread::{Cancelled, cancelled as aborted};
use crate::error::StepError;

/// How many cut files may wait to be written.
const AHEAD: usize = 64;

/// The index of a folder, up to date as of when it was opened.
pub(super) struct Index {
    folder: Arc<Folder>,
    cache: Option<PathBuf>,
    connections: Connections,
    searched: Searched,
}

/// What a search has looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Searched {
    files: u64,
    passages: u64,
    skipped: Skipped,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// What a search has found.
#[derive(Debug)]
pub(super) struct Found {
    /// The best first.
    pub(super) hits: Vec<Hit>,
    /// How many passages have each word.
    pub(super) words: HashMap<String, u64>,
    pub(super) searched: Searched,
}

/// A passage that was found.
#[derive(Debug, Serialize)]
pub(super) struct Hit {
    file: String,
    line: u32,
    last_line: u32,
    heading: String,
    kind: Kind,
    text: String,
    score: f64,
}

impl Index {
    /// Opens the index of `folder` that is kept in the directory `cache`, and brings it up to date.
    pub(super) fn open(folder: Arc<Folder>, cache: Option<PathBuf>, cancelled: &Cancelled) -> Result<Self, StepError> {
        let mut note = None;
        if let Some(cache) = cache {
            for attempt in 0..2 {
                match Self::open_kept(&folder, &cache, cancelled) {
                    Ok(index) => return Ok(index.with_note(note)),
                    Err(OpenError::Failure(Failure::Damaged)) if attempt == 0 => {
                        note = Some("the kept index was of no use any more and was built anew".to_owned());
                        // If it cannot be removed, it is found damaged again.
                        place::remove(&cache, folder.canonical());
                    }
                    Err(OpenError::Failure(Failure::Cancelled)) => return Err(aborted()),
                    Err(OpenError::Folder(error)) => return Err(folder_error(&folder, &error)),
                    Err(error) => {
                        note = Some(format!("the index cannot be kept in {} ({error})", cache.display()));
                        break;
                    }
                }
            }
        }
        match Self::refreshed(&folder, None, cancelled) {
            Ok(index) => Ok(index.with_note(note)),
            Err(OpenError::Failure(Failure::Cancelled)) => Err(aborted()),
            Err(OpenError::Folder(error)) => Err(folder_error(&folder, &error)),
            Err(error) => Err(StepError::transient(format!("the index failed: {error}"))),
        }
    }

    fn open_kept(folder: &Arc<Folder>, cache: &Path, cancelled: &Cancelled) -> Result<Self, OpenError> {
        let file = place::prepare(cache, folder.canonical())?;
        let index = Self::refreshed(folder, Some(file), cancelled)?;
        Ok(Self { cache: Some(cache.to_owned()), ..index })
    }

    fn refreshed(folder: &Arc<Folder>, file: Option<PathBuf>, cancelled: &Cancelled) -> Result<Self, OpenError> {
        let mut store = Store::open(file.as_deref(), folder.canonical(), cancelled)?;
        let searched = refresh(folder, &mut store, cancelled)?;
        let connections = match file {
            Some(file) => {
                Connections::Many { file, folder: folder.canonical().to_owned(), idle: Mutex::new(vec![store]) }
            }
            None => Connections::One(Mutex::new(store)),
        };
        Ok(Self { folder: folder.clone(), cache: None, connections, searched })
    }

    fn with_note(mut self, note: Option<String>) -> Self {
        self.searched.note = note;
        self
    }

    /// Removes what is kept of it.
    pub(super) fn remove(&self) {
        if let Some(cache) = &self.cache {
            place::remove(cache, self.folder.canonical());
        }
    }

    /// The best passages with any of these words.
    pub(super) fn search(&self, words: &[String], limit: u32, cancelled: &Cancelled) -> Result<Found, Failed> {
        let (counts, matches) = self.connections.with(cancelled, |store| {
            let mut counts = HashMap::new();
            for word in words {
                counts.insert(word.clone(), store.count(word)?);
            }
            // A word that most passages have changes nothing about their order, and much about the time it takes.
            let is_common = |count: u64| count * 2 > self.searched.passages;
            let only_common = counts.values().all(|count| *count == 0 || is_common(*count));
            let telling = words.iter().filter(|word| only_common || !is_common(counts[*word]));
            let matches = store.best(&telling.map(String::as_str).collect::<Vec<_>>(), limit)?;
            Ok((counts, matches))
        })?;
        let mut searched = self.searched.clone();
        let mut cut_files: HashMap<String, Option<Vec<Passage>>> = HashMap::new();
        let mut hits = Vec::with_capacity(matches.len());
        for found in matches {
            if cancelled.is_set() {
                return Err(Failed::Other(aborted()));
            }
            let cut = cut_files.entry(found.path.clone()).or_insert_with(|| {
                let cut = self.cut_again(&found.path, found.stamp);
                cut.map_err(|skip| searched.skipped.add(skip)).ok()
            });
            if let Some(passage) = cut.as_ref().and_then(|passages| passages.get(found.ordinal)) {
                let Passage { line, last_line, kind, heading, text } = passage.clone();
                let score = (found.score * 1_000.0).round() / 1_000.0;
                hits.push(Hit { file: found.path, line, last_line, heading, kind, text, score });
            }
        }
        Ok(Found { hits, words: counts, searched })
    }

    /// The passages of a file, provided that it is still the one that was indexed.
    fn cut_again(&self, path: &str, stamp: Stamp) -> Result<Vec<Passage>, Skip> {
        let document = self.folder.read(path)?;
        match document.stamp == stamp {
            true => Ok(passages(path, document.text())),
            false => Err(Skip::Changed),
        }
    }
}

/// Why a search failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The index was found damaged: it has to be opened again.
    Damaged,
    Other(StepError),
}

/// Connections to an index: as many as there are searches at once, if it is in a file.
enum Connections {
    Many { file: PathBuf, folder: PathBuf, idle: Mutex<Vec<Store>> },
    One(Mutex<Store>),
}

impl Connections {
    fn with<T>(&self, cancelled: &Cancelled, work: impl FnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failed> {
        let result = match self {
            Self::One(store) => work(&lock(store)),
            Self::Many { file, folder, idle } => {
                let waiting = lock(idle).pop();
                let store = waiting.map_or_else(|| Store::open(Some(file), folder, cancelled), Ok);
                store.and_then(|store| {
                    let result = work(&store);
                    lock(idle).push(store);
                    result
                })
            }
        };
        result.map_err(|failure| match failure {
            Failure::Damaged => Failed::Damaged,
            Failure::Cancelled => Failed::Other(aborted()),
            Failure::Sqlite(error) => Failed::Other(StepError::transient(format!("the index failed: {error}"))),
        })
    }
}

/// A panic under the lock leaves nothing half done: SQLite keeps its own order.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{}", failure_message(.0))]
    Failure(Failure),
    #[error("{0}")]
    Place(io::Error),
    #[error("{0}")]
    Folder(io::Error),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Place(error)
    }
}

fn failure_message(failure: &Failure) -> String {
    match failure {
        Failure::Cancelled => "nobody waits for it".into(),
        Failure::Damaged => "it is damaged".into(),
        Failure::Sqlite(error) => error.to_string(),
    }
}

fn folder_error(folder: &Folder, error: &io::Error) -> StepError {
    StepError::permanent(format!("the folder `{}` cannot be read: {error}", folder.path().display()))
}

/// Makes the index say what the folder holds.
fn refresh(folder: &Folder, store: &mut Store, cancelled: &Cancelled) -> Result<Searched, OpenError> {
    let mut searched = Searched::default();
    let mut there: HashMap<String, Stamp> = HashMap::new();
    folder
        .walk(cancelled, &mut searched.skipped, |path, stamp| {
            there.insert(path, stamp);
        })
        .map_err(OpenError::Folder)?;
    if cancelled.is_set() {
        return Err(Failure::Cancelled.into());
    }
    let is_known = |known: &HashMap<String, store::KnownFile>, path: &str, stamp: &Stamp| {
        known.get(path).is_some_and(|file| file.settled && file.stamp == *stamp)
    };
    let known = store.files()?;
    let up_to_date = known.len() == there.len() && there.iter().all(|(path, stamp)| is_known(&known, path, stamp));
    let known = if up_to_date {
        known
    } else {
        let mut change = store.change(cancelled)?;
        // Another process may have done it in the meantime.
        let known = change.files()?;
        for (path, file) in &known {
            if !there.get(path).is_some_and(|stamp| is_known(&known, path, stamp)) {
                change.remove(file)?;
            }
        }
        let missing = there.iter().filter(|(path, stamp)| !is_known(&known, path, stamp));
        let mut missing: Vec<(&str, Stamp)> = missing.map(|(path, stamp)| (path.as_str(), *stamp)).collect();
        missing.sort_unstable_by_key(|(path, _)| *path);
        add_files(folder, &missing, &mut change, cancelled)?;
        let known = change.files()?;
        change.commit()?;
        tracing::debug!(files = missing.len(), "indexed");
        known
    };
    for file in known.values() {
        match file.skip {
            Some(skip) => searched.skipped.add(skip),
            None => searched.files += 1,
        }
        searched.passages += u64::from(file.passages);
    }
    Ok(searched)
}

/// Reads and cuts files on one thread while this one writes what came of it.
fn add_files(
    folder: &Folder,
    files: &[(&str, Stamp)],
    change: &mut store::Change<'_>,
    cancelled: &Cancelled,
) -> Result<(), Failure> {
    let (send, receive) = mpsc::sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (path, stamp) in files {
                let read = folder.read(path);
                let stamp = read.as_ref().map_or(*stamp, |document| document.stamp);
                let cut = read.map(|document| passages(path, document.text()));
                if cancelled.is_set() || send.send((path, stamp, cut)).is_err() {
                    break;
                }
            }
        });
        // Owned here, so that a failure ends the thread too.
        let receive = receive;
        for (path, stamp, cut) in &receive {
            change.add(path, stamp, &cut)?;
        }
        match cancelled.is_set() {
            true => Err(Failure::Cancelled),
            false => Ok(()),
        }
    })
}
