//! One owner a run: a lock of the operating system, which ends with the process that holds it, however that ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::journal::Owner;

/// How often, and for how long, somebody who only looks at a lock may be taken for its owner.
const PATIENCE: u32 = 4;
const GLANCE: Duration = Duration::from_millis(3);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

/// Takes the lock; if another has it, says who, as far as that is known.
pub(super) fn take(path: &Path) -> io::Result<Result<Lock, Option<Owner>>> {
    let mut patience = PATIENCE;
    loop {
        let mut file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if patience > 0 => {
                patience -= 1;
                thread::sleep(GLANCE);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Ok(Err(read_owner(&mut file))),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut lock = Lock { file, path: path.to_owned() };
        // The last owner may have removed the file after it was opened here: that lock would guard nothing.
        if lock.is_current() {
            lock.say_who()?;
            return Ok(Ok(lock));
        }
    }
}

/// Waits for the lock. For what takes no longer than a moment.
pub(super) fn wait(path: &Path) -> io::Result<Lock> {
    loop {
        let lock = Lock { file: open(path)?, path: path.to_owned() };
        lock.file.lock()?;
        if lock.is_current() {
            return Ok(lock);
        }
    }
}

/// Who holds the lock, if somebody does.
pub(super) fn owner(path: &Path) -> Option<Owner> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read_owner(&mut file),
        _ => None,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.read(true).write(true).create(true).truncate(false).open(path)
}

fn read_owner(file: &mut File) -> Option<Owner> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let (pid, since) = text.split_once(' ')?;
    let since = Duration::from_millis(since.trim().parse().ok()?);
    Some(Owner { pid: pid.parse().ok()?, since: UNIX_EPOCH.checked_add(since)? })
}

impl Lock {
    fn say_who(&mut self) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.file.set_len(0)?;
        self.file.write_all(format!("{} {since}\n", std::process::id()).as_bytes())
    }

    /// Whether the file is still the one that others would open.
    #[cfg(unix)]
    fn is_current(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;

        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Where an open file cannot be removed.
    #[cfg(not(unix))]
    fn is_current(&self) -> bool {
        true
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_current() {
            // A file that stays is in nobody's way.
            let _ = fs::remove_file(&self.path);
        }
    }
}
