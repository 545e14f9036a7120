//! A journal in memory: for tests, and for resuming within one process.

use std::sync::Arc;

use dashmap::DashMap;
use futures::future::{BoxFuture, ready};
use serde_json::Value;

use super::{Durability, Journal, RunId};
use crate::error::JournalError;
use crate::event::{RunEvent, StoredOutput};

/// Keeps histories and outputs in memory, for as long as it lives. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    runs: Arc<DashMap<RunId, Record>>,
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<RunEvent>,
    outputs: Vec<Arc<Value>>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// The runs it knows, sorted by id.
    pub fn runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.runs.iter().map(|entry| entry.key().clone()).collect();
        runs.sort();
        runs
    }
}

impl Journal for MemoryJournal {
    fn append<'a>(
        &'a self,
        run: &'a RunId,
        events: &'a [RunEvent],
        _: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.runs.entry(run.clone()).or_default().events.extend_from_slice(events);
        Box::pin(ready(Ok(())))
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        let history = match self.runs.get(run) {
            Some(record) => Ok(record.events.clone()),
            None => Err(JournalError::UnknownRun { run: run.to_string() }),
        };
        Box::pin(ready(history))
    }

    fn put_output<'a>(
        &'a self,
        run: &'a RunId,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        let text = output.to_string();
        let mut record = self.runs.entry(run.clone()).or_default();
        let stored = StoredOutput {
            digest: record.outputs.len().to_string(),
            bytes: text.len() as u64,
            preview: text.chars().take(200).collect(),
        };
        record.outputs.push(output);
        Box::pin(ready(Ok(stored)))
    }

    fn get_output<'a>(
        &'a self,
        run: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        let output = self
            .runs
            .get(run)
            .and_then(|record| record.outputs.get(stored.digest.parse::<usize>().ok()?).cloned())
            .ok_or_else(|| JournalError::Store { message: format!("no output `{}`", stored.digest), source: None });
        Box::pin(ready(output))
    }
}
