//! A journal in memory: for tests, and for resuming within one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::{DashMap, Entry};
use futures::future::{BoxFuture, ready};
use serde_json::Value;

use super::means::{Clue, MOST_RUNS, ToolMeans, both_ends};
use super::{Claim, Durability, Journal, Letter, Owner, RunId, RunSummary};
use crate::error::JournalError;
use crate::event::{RunEvent, StoredOutput};

/// Keeps histories and outputs in memory, for as long as it lives. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    runs: Arc<DashMap<RunId, Record>>,
    /// By name; runs that come from each other share them.
    outputs: Arc<DashMap<String, Arc<Value>>>,
}

#[derive(Debug)]
struct Record {
    epoch: u64,
    /// Shared with the claim, if there is one.
    claimed: Arc<SystemTime>,
    summary: RunSummary,
    events: Vec<RunEvent>,
    outputs: u64,
    /// For the owner.
    letters: Vec<Letter>,
}

impl Record {
    fn new(run: &RunId) -> Self {
        let now = SystemTime::now();
        Self {
            epoch: 0,
            claimed: Arc::new(now),
            summary: RunSummary::new(run.clone(), now),
            events: Vec::new(),
            outputs: 0,
            letters: Vec::new(),
        }
    }

    fn owner(&self) -> Option<Owner> {
        (Arc::strong_count(&self.claimed) > 1).then(|| Owner { pid: std::process::id(), since: *self.claimed })
    }

    fn claim(&mut self, run: &RunId) -> Result<Claim, JournalError> {
        if let Some(owner) = self.owner() {
            return Err(JournalError::Locked { run: run.to_string(), pid: Some(owner.pid) });
        }
        self.epoch += 1;
        self.letters.clear();
        self.claimed = Arc::new(SystemTime::now());
        Ok(Claim::new(run.clone(), self.epoch, Arc::clone(&self.claimed)))
    }
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the record of a run that is claimed.
    fn write<T>(&self, claim: &Claim, change: impl FnOnce(&mut Record) -> T) -> Result<T, JournalError> {
        let run = claim.run();
        let mut record = self.runs.get_mut(run).ok_or_else(|| unknown(run))?;
        if record.epoch != claim.epoch() {
            return Err(JournalError::Locked { run: run.to_string(), pid: record.owner().map(|owner| owner.pid) });
        }
        Ok(change(&mut record))
    }
}

fn unknown(run: &RunId) -> JournalError {
    JournalError::UnknownRun { run: run.to_string() }
}

impl Journal for MemoryJournal {
    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        let claim = match self.runs.entry(run.clone()) {
            Entry::Occupied(_) => Err(JournalError::store(format!("there is a run `{run}` already"))),
            Entry::Vacant(vacant) => vacant.insert(Record::new(run)).claim(run),
        };
        Box::pin(ready(claim))
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        let claim = match self.runs.get_mut(run) {
            Some(mut record) => record.claim(run),
            None => Err(unknown(run)),
        };
        Box::pin(ready(claim))
    }

    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        _: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let appended = self.write(claim, |record| {
            let now = SystemTime::now();
            events.iter().for_each(|event| record.summary.apply(event, now));
            record.events.extend_from_slice(events);
        });
        Box::pin(ready(appended))
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        let history = match self.runs.get(run) {
            Some(record) if !record.events.is_empty() => Ok(record.events.clone()),
            _ => Err(unknown(run)),
        };
        Box::pin(ready(history))
    }

    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        let text = output.to_string();
        let stored = self.write(claim, |record| {
            record.outputs += 1;
            StoredOutput::of(format!("{}/{}", claim.run(), record.outputs), &text)
        });
        if let Ok(stored) = &stored {
            self.outputs.insert(stored.digest.clone(), output);
        }
        Box::pin(ready(stored))
    }

    fn get_output<'a>(
        &'a self,
        _: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        let output = self.outputs.get(&stored.digest).map(|output| Arc::clone(&output));
        let output = output.ok_or_else(|| JournalError::store(format!("no output `{}`", stored.digest)));
        Box::pin(ready(output))
    }

    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>> {
        let started = self.runs.iter().filter(|record| !record.events.is_empty());
        let mut runs: Vec<RunSummary> =
            started.map(|record| RunSummary { owner: record.owner(), ..record.summary.clone() }).collect();
        runs.sort_by(|one, other| other.started.cmp(&one.started).then_with(|| one.run.cmp(&other.run)));
        Box::pin(ready(Ok(runs)))
    }

    fn leave<'a>(&'a self, run: &'a RunId, letter: &'a Letter) -> BoxFuture<'a, Result<(), JournalError>> {
        let left = match self.runs.get_mut(run) {
            Some(mut record) => {
                record.letters.retain(|other| other.step != letter.step);
                record.letters.push(letter.clone());
                Ok(())
            }
            None => Err(unknown(run)),
        };
        Box::pin(ready(left))
    }

    fn letters<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<Letter>, JournalError>> {
        Box::pin(ready(self.write(claim, |record| std::mem::take(&mut record.letters))))
    }

    fn tool_means<'a>(&'a self) -> BoxFuture<'a, Result<BTreeMap<String, u64>, JournalError>> {
        let mut newest: Vec<_> =
            self.runs.iter().map(|record| (record.summary.started, record.key().clone())).collect();
        newest.sort_by(|one, other| other.cmp(one));
        let mut means = ToolMeans::default();
        for (_, run) in newest.into_iter().take(MOST_RUNS) {
            let Some(record) = self.runs.get(&run) else { continue };
            let parts = both_ends(record.events.len() as u64);
            let events = parts.iter().filter_map(|part| record.events.get(part.start as usize..part.end as usize));
            for event in events.flatten() {
                means.take(event.at, Clue::from(&event.kind));
                if means.has_enough() {
                    break;
                }
            }
            if means.is_full() {
                break;
            }
        }
        Box::pin(ready(Ok(means.into_millis())))
    }
}
