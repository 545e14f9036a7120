//! A folder that tools may read, and nothing beside it.
//!
//! The folder is opened once. Everything in it is reached through that handle with `cap-std`, which resolves each
//! path inside the folder: `..`, absolute paths and links that lead out are refused by the operating system or by
//! `cap-std`, also when somebody swaps a file for a link at that moment.

mod skip;
mod walk;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use thiserror::Error;

pub(super) use skip::{Skip, Skipped};
pub(super) use walk::Stamp;

/// Files over this size are not read.
pub(super) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A NUL in the first bytes tells a binary file, as in git and grep.
const SNIFFED_BYTES: usize = 8 * 1024;

/// A folder that tools may read.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    path: PathBuf,
    canonical: PathBuf,
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is nothing of that name.
    #[error("there is no folder `{}`", .path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// It is something else.
    #[error("`{}` is not a folder", .path.display())]
    NotAFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// It may not be read, or the medium failed.
    #[error("the folder `{}` cannot be read: {source}", .path.display())]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Folder {
    /// Opens the folder at `path`, which may be a link to one.
    ///
    /// # Errors
    ///
    /// If there is no such folder, or it may not be listed.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let path = path.into();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => FolderError::NotFound { path: path.clone() },
            io::ErrorKind::NotADirectory => FolderError::NotAFolder { path: path.clone() },
            _ => FolderError::Unreadable { path: path.clone(), source },
        };
        let canonical = path.canonicalize().map_err(failed)?;
        // Asked first, since opening may act on what is not a folder.
        if !canonical.is_dir() {
            return Err(FolderError::NotAFolder { path });
        }
        let dir = Dir::open_ambient_dir(&canonical, ambient_authority()).map_err(failed)?;
        dir.entries().map_err(failed)?;
        Ok(Self { dir, path, canonical })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The one path by which the folder is known between runs.
    pub(super) fn canonical(&self) -> &Path {
        &self.canonical
    }

    /// Reads a text file of the folder.
    pub(super) fn read(&self, path: &str) -> Result<Document, Skip> {
        // Asked before opening, which would have an effect on some devices, and again after it, since somebody could
        // have put something else there in between.
        if !self.dir.metadata(path)?.is_file() {
            return Err(Skip::NotAFile);
        }
        let mut options = OpenOptions::new();
        // A pipe put there in between must not block us.
        options.read(true).nonblock(true);
        let file = self.dir.open_with(path, &options)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Skip::NotAFile);
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(Skip::TooLarge);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
        // It may have grown, or be of a kind that does not know its size.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Skip::TooLarge);
        }
        if bytes[..bytes.len().min(SNIFFED_BYTES)].contains(&0) {
            return Err(Skip::Binary);
        }
        let text = String::from_utf8(bytes).map_err(|_| Skip::NotUtf8)?;
        Ok(Document { text, stamp: Stamp::of(&metadata) })
    }
}

/// A text file as it was read.
#[derive(Debug)]
pub(super) struct Document {
    text: String,
    pub(super) stamp: Stamp,
}

impl Document {
    /// The text, without the mark that some editors put first.
    pub(super) fn text(&self) -> &str {
        self.text.strip_prefix('\u{feff}').unwrap_or(&self.text)
    }
}
