//! How long tools took in earlier runs, for predictions of plans that do not say it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use futures::executor::block_on;
use plandag::journal::Journal as _;
use plandag::{RunStart, ToolSpec};

use super::failure::Failure;
use super::history::{Survives, journal_failure, open_existing};

/// Which journal is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct EarlierArgs {
    /// Journal with the earlier runs that say how long tools take [default: plandag/runs.db in the XDG state directory]
    #[arg(long, value_name = "FILE", help_heading = "Journal")]
    journal: Option<PathBuf>,
    /// Does not look at earlier runs: the same prediction everywhere
    #[arg(long, conflicts_with = "journal", help_heading = "Journal")]
    no_journal: bool,
}

impl EarlierArgs {
    /// The mean time of each tool, in milliseconds.
    pub(crate) fn means(&self) -> Result<BTreeMap<String, u64>, Failure> {
        if self.no_journal { Ok(BTreeMap::new()) } else { means(self.journal.as_deref()) }
    }
}

/// What a journal says, the default one if none is named.
pub(crate) fn means(journal: Option<&Path>) -> Result<BTreeMap<String, u64>, Failure> {
    let asked = open_existing(journal, Survives::Auto);
    let asked = asked.and_then(|journal| block_on(journal.tool_means()).map_err(journal_failure));
    match (asked, journal) {
        // A prediction can do without what nobody asked for by name.
        (Err(_), None) => Ok(BTreeMap::new()),
        (asked, _) => asked,
    }
}

/// Has the tools of a run be expected to take that long.
pub(crate) fn expect(start: &mut RunStart, means: &BTreeMap<String, u64>) {
    let mean = |tool: &ToolSpec| tool.mean_ms.or_else(|| means.get(&tool.name).copied());
    start.tools.iter_mut().for_each(|tool| tool.mean_ms = mean(tool));
}
