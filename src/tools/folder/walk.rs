//! The files of a folder: everything that is not hidden, not a link, and not named in an ignore file.
//!
//! `.gitignore` and `.ignore` are read in every folder below the opened one, the second after the first, so that it
//! has the last word; files of folders above are none of our business. The patterns are those of git.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, DirEntry, Metadata};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Folder, Skip, Skipped};
use crate::tools::thread::Cancelled;

/// The names of ignore files, weakest first.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".ignore"];
/// More of an ignore file is not looked at.
const MAX_IGNORE_LINES: usize = 2_000;

/// Tells whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// When its content changed, in nanoseconds since 1970.
    pub(crate) modified: i64,
    /// When it changed in any way, on systems that know.
    pub(crate) changed: i64,
    /// Which file it is, on systems that know.
    pub(crate) inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map(|time| time.into_std()).unwrap_or(SystemTime::UNIX_EPOCH);
        let modified = nanoseconds(modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let (changed, inode) = change_and_inode(metadata);
        Self { bytes: metadata.len(), modified, changed, inode }
    }

    /// Whether the file changed so lately that it could change again within the resolution of the clock of the file
    /// system: its stamp then proves nothing.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = nanoseconds(now.saturating_sub(Duration::from_secs(2)));
        self.modified.max(self.changed) >= settled
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(unix)]
fn change_and_inode(metadata: &Metadata) -> (i64, u64) {
    use cap_std::fs::MetadataExt;
    (metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()), metadata.ino())
}

#[cfg(not(unix))]
fn change_and_inode(_: &Metadata) -> (i64, u64) {
    (0, 0)
}

/// The ignore rules of a folder and of those above it.
struct Rules {
    above: Option<Arc<Self>>,
    here: Gitignore,
}

impl Rules {
    fn ignore(rules: &Option<Arc<Self>>, path: &str, is_dir: bool) -> bool {
        let mut level = rules.as_ref();
        while let Some(rules) = level {
            match rules.here.matched(path, is_dir) {
                ignore::Match::None => level = rules.above.as_ref(),
                found => return found.is_ignore(),
            }
        }
        false
    }
}

impl Folder {
    /// Calls `found` with the path and stamp of every file, relative to the folder with `/` between names.
    ///
    /// # Errors
    ///
    /// Only if the folder itself cannot be listed any more.
    pub(in crate::tools) fn walk(
        &self,
        cancelled: &Cancelled,
        skipped: &mut Skipped,
        mut found: impl FnMut(String, Stamp),
    ) -> std::io::Result<()> {
        // The handle of a folder that was removed lists nothing and reports nothing.
        std::fs::metadata(&self.canonical)?;
        let mut open = vec![(String::new(), None)];
        while let Some((folder, rules)) = open.pop() {
            if cancelled.is_set() {
                break;
            }
            // By its path, not by a handle kept since it was found: a wide tree would use up all handles.
            let listed = match folder.as_str() {
                "" => self.dir.try_clone(),
                path => self.dir.open_dir(path),
            };
            let Ok((dir, entries)) = listed.and_then(|dir| dir.entries().map(|entries| (dir, entries))) else {
                skipped.add(Skip::Unreadable);
                continue;
            };
            let rules = self.rules(&folder, &dir, rules);
            for entry in entries {
                let visited = entry.map_err(Skip::from).and_then(|entry| visit(&entry, &folder, &rules));
                match visited {
                    Ok(Visited::File(path, stamp)) => found(path, stamp),
                    Ok(Visited::Folder(path)) => open.push((path, rules.clone())),
                    Err(skip) => skipped.add(skip),
                }
            }
        }
        Ok(())
    }

    /// The rules inside `folder`. Ignore files are untrusted: links and pipes of that name are not opened, and a
    /// pattern that makes no sense is passed over.
    fn rules(&self, folder: &str, dir: &Dir, above: Option<Arc<Rules>>) -> Option<Arc<Rules>> {
        let mut builder = GitignoreBuilder::new(folder);
        let mut any = false;
        for name in IGNORE_FILES {
            if !dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let Ok(document) = self.read(&join(folder, name)) else { continue };
            for line in document.text().lines().take(MAX_IGNORE_LINES) {
                any |= builder.add_line(None, line).is_ok();
            }
        }
        match builder.build() {
            Ok(here) if any => Some(Arc::new(Rules { above, here })),
            _ => above,
        }
    }
}

enum Visited {
    File(String, Stamp),
    Folder(String),
}

fn visit(entry: &DirEntry, folder: &str, rules: &Option<Arc<Rules>>) -> Result<Visited, Skip> {
    let name = entry.file_name();
    // Paths are handed on as text.
    let name = name.to_str().ok_or(Skip::NotUtf8)?;
    if name.starts_with('.') {
        return Err(Skip::Hidden);
    }
    let kind = entry.file_type()?;
    if kind.is_symlink() {
        return Err(Skip::Link);
    }
    let path = join(folder, name);
    if Rules::ignore(rules, &path, kind.is_dir()) {
        return Err(Skip::Ignored);
    }
    match kind {
        kind if kind.is_dir() => Ok(Visited::Folder(path)),
        kind if kind.is_file() => Ok(Visited::File(path, Stamp::of(&entry.metadata()?))),
        _ => Err(Skip::NotAFile),
    }
}

fn join(folder: &str, name: &str) -> String {
    debug_assert!(Path::new(name).components().count() == 1);
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}
