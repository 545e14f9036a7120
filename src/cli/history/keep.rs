//! Where the record of a run is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use plandag::journal::{Durability, SqliteJournal};
use plandag::report::ExitCode;

use super::super::earlier;
use super::super::failure::Failure;
use super::super::{secrets, text};
use super::journal_failure;

/// How often, and after how long each, a journal is looked at that is to be closed.
const LOOKS: u32 = 50;
const GLANCE: Duration = Duration::from_millis(1);

/// How the record of a run is kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeepArgs {
    /// Keeps the record of the run in this file [default: plandag/runs.db in the XDG state directory]
    #[arg(long, value_name = "FILE", help_heading = "Journal")]
    pub(crate) journal: Option<PathBuf>,
    /// Keeps no record: the run can neither be resumed nor looked at later
    #[arg(long, conflicts_with = "journal", help_heading = "Journal")]
    no_journal: bool,
    /// What a write must survive before the run goes on
    #[arg(long, value_name = "WHAT", default_value = "auto", help_heading = "Journal")]
    durability: Survives,
}

/// What a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Survives {
    /// A power failure where it matters (before a step that acts, and before the answer), else the process being killed
    Auto,
    /// The process being killed
    Process,
    /// A power failure, always
    Power,
}

impl Survives {
    fn always(self) -> Option<Durability> {
        match self {
            Self::Auto => None,
            Self::Process => Some(Durability::Process),
            Self::Power => Some(Durability::Power),
        }
    }
}

impl KeepArgs {
    /// For a run that is kept where another one is.
    pub(super) fn beside(journal: &SqliteJournal, durability: Survives) -> Self {
        Self { journal: Some(journal.path().to_owned()), no_journal: false, durability }
    }

    /// The journal for a new run; none if none is wanted.
    pub(crate) fn open(&self) -> Result<Option<Arc<SqliteJournal>>, Failure> {
        if self.no_journal {
            return Ok(None);
        }
        open_or_make(self.journal.as_deref(), self.durability).map(Some)
    }

    /// How long tools took in the earlier runs that are kept there, in milliseconds.
    pub(crate) fn means(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let is_new = self.journal.as_deref().is_some_and(is_empty);
        if self.no_journal || is_new { Ok(BTreeMap::new()) } else { earlier::means(self.journal.as_deref()) }
    }
}

/// Opens a journal, the default one if none is named, and makes it if it is not there.
pub(crate) fn open_or_make(asked: Option<&Path>, durability: Survives) -> Result<Arc<SqliteJournal>, Failure> {
    open(&path(asked)?, durability)
}

/// The journal of runs that are there.
#[derive(Args, Clone, Debug)]
pub(crate) struct JournalArgs {
    /// The journal [default: plandag/runs.db in the XDG state directory]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

impl JournalArgs {
    /// Opens the journal. One that is not there is not made.
    pub(crate) fn open(&self, durability: Survives) -> Result<Arc<SqliteJournal>, Failure> {
        open_existing(self.journal.as_deref(), durability)
    }
}

/// The journal of runs that are gone on with.
#[derive(Args, Clone, Debug)]
pub(crate) struct DrivenArgs {
    #[command(flatten)]
    pub(super) journal: JournalArgs,
    /// What a write must survive before the run goes on
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    pub(super) durability: Survives,
}

impl DrivenArgs {
    /// Opens the journal. One that is not there is not made.
    pub(super) fn open(&self) -> Result<Arc<SqliteJournal>, Failure> {
        self.journal.open(self.durability)
    }
}

/// Opens a journal that is there: the default one if none is named. Nothing is made of an empty file.
pub(crate) fn open_existing(asked: Option<&Path>, durability: Survives) -> Result<Arc<SqliteJournal>, Failure> {
    let path = path(asked)?;
    if is_empty(&path) {
        let name = path.display();
        return Err(match asked {
            Some(_) if !path.exists() => Failure::usage("usage.missing_file", format!("there is no file `{name}`")),
            _ => Failure::usage("journal.empty", "no run was kept yet")
                .note(format!("the journal would be {name}"))
                .help("start one: plandag run plan.json"),
        });
    }
    open(&path, durability)
}

/// Whether there is no journal yet where one could be made.
fn is_empty(path: &Path) -> bool {
    path.metadata().map_or(true, |there| there.is_file() && there.len() == 0)
}

fn path(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    asked.map(Path::to_owned).or_else(SqliteJournal::default_path).ok_or_else(|| {
        Failure::new("journal.unusable", ExitCode::Journal, "there is no home directory to keep the journal in")
            .help("say where it is: --journal FILE")
    })
}

/// Closes a journal at the end of a command, if nobody has it any more: its log is moved into the file then. Tasks of a run
/// that is over are just being dropped, which takes no time. Whoever keeps it for longer does not keep the command: the
/// record is whole without that.
pub(crate) fn close(mut journal: Arc<SqliteJournal>) {
    for _ in 0..LOOKS {
        match Arc::try_unwrap(journal) {
            Ok(journal) => return drop(journal),
            Err(shared) => journal = shared,
        }
        thread::sleep(GLANCE);
    }
}

fn open(path: &Path, durability: Survives) -> Result<Arc<SqliteJournal>, Failure> {
    let journal = SqliteJournal::open_with(path, secrets::known().clone(), durability.always());
    let journal = journal.map_err(journal_failure)?;
    if let Some(copy) = journal.copy() {
        let copy = text::line(&copy.display().to_string()).into_owned();
        anstream::eprintln!(
            " the journal was written by an older release, and was brought up to date; as it was: {copy}"
        );
    }
    Ok(Arc::new(journal))
}
