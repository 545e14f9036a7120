//! Where a journal is kept, and where it cannot be.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::error::JournalError;

use super::schema::{path_with, unusable};

/// File systems on which neither locks nor shared memory reach the other machines.
const NETWORK: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs"];
/// Links that are followed, as many as the system itself follows.
const MOST_LINKS: u32 = 40;

pub(super) fn default_path() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    let state = base.state_dir().unwrap_or_else(|| base.data_dir());
    Some(state.join("plandag").join("runs.db"))
}

/// Where the file is, or will be. A link is followed, also to where nothing is yet: the journal is what it leads to, with
/// one place for its locks whatever name it is opened by. What is there and is no file is not touched.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, JournalError> {
    let mut file = std::path::absolute(path).map_err(|error| unusable(path, error))?;
    if file.metadata().is_ok_and(|there| !there.is_file()) {
        let why = "is no regular file, so it is no journal".to_owned();
        return Err(JournalError::NotAJournal { path: file.display().to_string(), why });
    }
    for _ in 0..MOST_LINKS {
        match fs::read_link(&file) {
            Ok(target) => file = file.parent().unwrap_or(Path::new("/")).join(target),
            // It is no link, or not there.
            Err(_) => return Ok(file),
        }
    }
    Err(unusable(path, "is a link that leads nowhere"))
}

/// Makes sure that the file can be written, if it is there, and gives back the folder for its locks.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, JournalError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut directory = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.recursive(true);
    directory.create(folder).map_err(|error| unusable(path, format_args!("has no folder: {error}")))?;
    if let Some(network) = network_file_system(folder) {
        let why = format!("is on a network file system ({network}), where locks do not hold between machines");
        return Err(unusable(path, why));
    }
    let locks = path_with(path, ".locks");
    // One that is not there yet appears when it is complete.
    let writable = if path.exists() { create_private(path) } else { Ok(()) };
    let writable = writable.and_then(|()| directory.create(&locks));
    writable.map_err(|error| unusable(path, format_args!("cannot be written: {error}")))?;
    Ok(locks)
}

/// Makes sure that there is a file that can be written; a new one is readable by its owner alone.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file.create(true).append(true).open(path).map(drop)
}

/// The name of the network file system that a folder is on, if it is on one and the system says so.
fn network_file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    // Only Linux has this file.
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    on_network(&mounts, &folder)
}

/// Looks for the mount with the longest path that `folder` is under.
fn on_network(mounts: &str, folder: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.replace("\\040", " "), fields.next()?))
    });
    let (_, kind) = mounts.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len())?;
    NETWORK.contains(&kind).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_system_is_recognised() {
        let mounts = "/dev/sda / ext4 rw 0 0\nhost:/home /home nfs4 rw 0 0\n/dev/sdb /home/my\\040disk ext4 rw 0 0\n";
        assert_eq!(on_network(mounts, Path::new("/home/me")), Some("nfs4".into()));
        assert_eq!(on_network(mounts, Path::new("/home/my disk/state")), None);
        assert_eq!(on_network(mounts, Path::new("/homes")), None);
    }
}
