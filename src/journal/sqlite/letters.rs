//! Letters to the process that drives a run: a file for each, beside the lock. They are for one epoch: who takes a run
//! anew finds none.

use std::fs::{self, DirEntry, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::event::StepNumber;
use crate::journal::Letter;

/// What the name of a letter ends with, once all of it is there.
const KIND: &str = "letter";

/// Leaves a letter about a step. One that is there already is replaced.
pub(super) fn leave(locks: &Path, run: u64, epoch: u64, step: StepNumber, body: &str) -> io::Result<()> {
    let draft = locks.join(format!("{run}.{epoch}.{step}.{:016x}", fastrand::u64(..)));
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(&draft)?.write_all(body.as_bytes())?;
    match fs::rename(&draft, locks.join(format!("{run}.{epoch}.{step}.{KIND}"))) {
        // The owner has gone meanwhile, and has cleared its letterbox.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// Takes all letters for the owner of an epoch.
pub(super) fn take(locks: &Path, run: u64, epoch: u64) -> io::Result<Vec<Letter>> {
    let mut letters = Vec::new();
    for entry in of_run(locks, run)? {
        let name = entry.file_name();
        let parts: Vec<&str> = name.to_str().unwrap_or_default().split('.').collect();
        if parts.get(1).and_then(|text| text.parse().ok()) != Some(epoch) || parts.last() != Some(&KIND) {
            continue;
        }
        let body = fs::read(entry.path())?;
        fs::remove_file(entry.path())?;
        // Whoever wrote something else is asked again by nobody.
        letters.extend(serde_json::from_slice::<Letter>(&body).ok());
    }
    Ok(letters)
}

/// Where letters for the owner of a run are, as long as that has its lock.
#[derive(Debug)]
pub(super) struct Letterbox {
    locks: PathBuf,
    run: u64,
}

impl Letterbox {
    /// For who has just locked the run: what is there was for the owner before.
    pub(super) fn open(locks: &Path, run: u64) -> io::Result<Self> {
        let letterbox = Self { locks: locks.to_owned(), run };
        letterbox.empty()?;
        Ok(letterbox)
    }

    fn empty(&self) -> io::Result<()> {
        of_run(&self.locks, self.run)?.iter().try_for_each(|entry| match fs::remove_file(entry.path()) {
            // Whoever was about to leave it has given it its name meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }
}

impl Drop for Letterbox {
    fn drop(&mut self) {
        // What stays is thrown away by the next owner.
        let _ = self.empty();
    }
}

fn of_run(locks: &Path, run: u64) -> io::Result<Vec<DirEntry>> {
    let beginning = format!("{run}.");
    let is_letter = |entry: &DirEntry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&beginning));
    match fs::read_dir(locks) {
        Ok(entries) => entries.filter(|entry| entry.as_ref().map_or(true, is_letter)).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
