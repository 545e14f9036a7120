//! What is not read, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Serialize, Serializer};

/// Why something in a folder is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skip {
    /// It has a NUL among its first bytes.
    Binary,
    /// It is text in another encoding, or no text at all.
    NotUtf8,
    /// It is over [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    TooLarge,
    /// It may not be read, or the medium failed.
    Unreadable,
    /// It was gone, or another file, when it was to be read.
    Changed,
    /// It is a link: what it points to is read where it is, if that is inside the folder.
    Link,
    /// It leads out of the folder.
    Outside,
    /// It is a device, a pipe, a socket or a folder.
    NotAFile,
    /// Its name begins with a dot.
    Hidden,
    /// An ignore file says so.
    Ignored,
}

impl Skip {
    /// All of them, in the order of the numbers that [`Skip::number`] gives.
    const ALL: [Self; 10] = [
        Self::Binary,
        Self::NotUtf8,
        Self::TooLarge,
        Self::Unreadable,
        Self::Changed,
        Self::Link,
        Self::Outside,
        Self::NotAFile,
        Self::Hidden,
        Self::Ignored,
    ];

    /// A number to store.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The reason with this number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLarge => "over 4 MiB",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed meanwhile",
            Self::Link => "links",
            Self::Outside => "outside the folder",
            Self::NotAFile => "not files",
            Self::Hidden => "hidden",
            Self::Ignored => "ignored",
        })
    }
}

impl Serialize for Skip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Changed,
            // An error without a number is cap-std's own: the path left the folder.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Self::Outside,
            _ => Self::Unreadable,
        }
    }
}

/// How much was skipped for each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Skipped(BTreeMap<Skip, u64>);

impl Skipped {
    /// Counts one more.
    pub(crate) fn add(&mut self, skip: Skip) {
        *self.0.entry(skip).or_default() += 1;
    }
}
