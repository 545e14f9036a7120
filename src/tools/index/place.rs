//! Where indexes are kept.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

/// The user's directory for indexes, if the user has a home: `~/.cache/plandag/index`.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.cache_dir().join("plandag").join("index"))
}

/// The file for the index of `folder`. It is there afterwards, and nobody else may read it: an index tells what the
/// folder is about.
pub(super) fn prepare(cache: &Path, folder: &Path) -> io::Result<PathBuf> {
    let mut directory = fs::DirBuilder::new();
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        directory.mode(0o700);
        file.mode(0o600);
    }
    directory.recursive(true).create(cache)?;
    let path = file_for(cache, folder);
    file.create(true).append(true).open(&path)?;
    Ok(path)
}

/// Removes the index of `folder`. Processes that have it open keep what they have.
pub(super) fn remove(cache: &Path, folder: &Path) {
    let file = file_for(cache, folder);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = OsString::from(file.as_os_str());
        name.push(suffix);
        // What cannot be removed is found to be in the way when the index is opened again.
        let _ = fs::remove_file(name);
    }
}

/// The folder's own name first, so that a person who looks there knows what is what.
fn file_for(cache: &Path, folder: &Path) -> PathBuf {
    let name = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name: String = name.chars().filter(|character| character.is_ascii_alphanumeric()).take(32).collect();
    let dash = if name.is_empty() { "" } else { "-" };
    cache.join(format!("{name}{dash}{:016x}.db", fnv1a(folder.as_os_str().as_encoded_bytes())))
}

/// FNV-1a: the same in every process and release, unlike the hashes of the standard library. A collision is found out
/// by the path that is written in each index.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
