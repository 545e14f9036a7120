//! Files that the command writes: whole, or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::console::Console;
use super::failure::Failure;
use super::secrets;

/// Where the result goes.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    Stdout(&'a Console),
    File(PendingFile),
}

impl<'a> Output<'a> {
    /// Makes sure, before any work is done, that the result can be written.
    pub(crate) fn prepare(path: Option<&Path>, console: &'a Console) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Stdout(console)),
            Some(path) => PendingFile::create(path).map(Self::File).map_err(|error| unwritable(path, &error)),
        }
    }

    /// Whether the result goes to a file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Writes the result, without secrets.
    pub(crate) fn write(self, text: &str) -> Result<(), Failure> {
        self.write_clean(&secrets::known().redact(text))
    }

    /// Writes a result as it is: secrets were taken out of what it is made of. In a text they could not be told from the
    /// names in it, nor from what makes it a plan or a page.
    pub(crate) fn write_clean(self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Stdout(console) => console.clean(text),
            Self::File(file) => {
                let path = file.target.clone();
                file.finish(text.as_bytes()).map_err(|error| unwritable(&path, &error).after_start())
            }
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage("usage.output", format!("`{}` cannot be written: {error}", path.display()))
        .help("name a file in a folder that exists and that you may write to")
}

/// A file that can be written, and is replaced when what it shall hold is complete. Until then there is nothing: also a
/// process that is killed leaves no trace.
#[derive(Debug)]
pub(crate) struct PendingFile {
    target: PathBuf,
    /// Where the target is no file that could be replaced, such as `/dev/null`: it is written to directly.
    direct: Option<File>,
}

impl PendingFile {
    fn create(target: &Path) -> io::Result<Self> {
        // First, as a link to a pipe, such as /dev/stdout, cannot be followed by name.
        if target.exists() && !target.is_file() {
            let direct = Some(OpenOptions::new().write(true).open(target)?);
            return Ok(Self { target: target.to_owned(), direct });
        }
        // A link stays a link: what it points to is replaced.
        let target = if target.is_symlink() { target.canonicalize()? } else { target.to_owned() };
        // It is made for the test that it can be.
        Draft::beside(&target)?;
        Ok(Self { target, direct: None })
    }

    fn finish(self, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut file) = self.direct {
            return file.write_all(bytes);
        }
        let mut draft = Draft::beside(&self.target)?;
        draft.file.write_all(bytes)?;
        draft.file.sync_all()?;
        if let Ok(old) = std::fs::metadata(&self.target) {
            draft.file.set_permissions(old.permissions())?;
        }
        std::fs::rename(&draft.path, &self.target)
    }
}

/// A file beside its target. It is removed when it is dropped; after it was renamed, there is nothing left to remove.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn beside(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        // Not the number of the process: in a container it comes again, and one that was killed may leave its file.
        let path = target.with_file_name(format!(".{name}.{:x}.part", fastrand::u64(..)));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("answer.txt");
        std::fs::write(&target, "old").unwrap();
        let pending = PendingFile::create(&target).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "who is killed now leaves nothing");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        pending.finish(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let left_over = folder.path().join(format!(".answer.txt.{}.part", std::process::id()));
        std::fs::write(&left_over, "half").unwrap();
        PendingFile::create(&target).unwrap().finish(b"newer").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "newer");
        std::fs::remove_file(left_over).unwrap();
        assert!(PendingFile::create(&folder.path().join("missing/answer.txt")).is_err());
        assert!(PendingFile::create(folder.path()).is_err());
    }
}
