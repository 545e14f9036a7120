//! What every request can see of the server.

use std::sync::Arc;

use crate::history::History;
use crate::journal::{Journal, RunId, RunSummary};

use super::hosts::Hosts;
use super::keys::Keys;
use super::launcher::Launcher;
use super::problem::Problem;
use super::watch::Watchers;

pub(super) struct App {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) launcher: Option<Arc<dyn Launcher>>,
    /// The only run that is shown, if not all are.
    pub(super) only: Option<RunId>,
    /// What runs that are started here may do, in words.
    pub(super) may: String,
    /// How long a plan may be that is sent.
    pub(super) max_plan_bytes: u64,
    pub(super) hosts: Hosts,
    pub(super) keys: Keys,
    /// The name of the cookie. Cookies do not tell ports apart, and there may be a server at another one.
    pub(super) cookie: String,
    pub(super) watchers: Watchers,
}

impl App {
    /// The most that a request may hold, in bytes: a plan of the greatest size, with all of it escaped.
    pub(super) fn max_bytes(&self) -> usize {
        usize::try_from(self.max_plan_bytes.saturating_mul(2)).unwrap_or(usize::MAX)
    }

    /// All runs that are shown, the newest first.
    pub(super) async fn runs(&self) -> Result<Vec<RunSummary>, Problem> {
        Ok(match &self.only {
            Some(run) => vec![self.journal.summary(run).await?],
            None => self.journal.runs().await?,
        })
    }

    /// A run that is shown.
    pub(super) async fn summary(&self, run: &str) -> Result<RunSummary, Problem> {
        if self.only.as_ref().is_some_and(|only| only.as_str() != run) {
            return Err(Problem::new(
                "journal.unknown_run",
                format!("only one run is shown here, and it is not `{run}`"),
            )
            .help("all runs: plandag serve"));
        }
        Ok(self.journal.summary(&run.into()).await?)
    }

    /// A run and what has happened in it.
    pub(super) async fn history(&self, run: &str) -> Result<(RunSummary, History), Problem> {
        let summary = self.summary(run).await?;
        let history = History::load(&*self.journal, &summary.run).await?;
        Ok((summary, history))
    }

    /// Who carries out what changes something.
    pub(super) fn launcher(&self) -> Result<&dyn Launcher, Problem> {
        self.launcher.as_deref().ok_or_else(|| Problem::new("serve.no_launcher", "this server starts no runs"))
    }
}
