//! A run that is over is forked, and somebody goes on with that.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use plandag::history::{Changes, ForkError, History};
use plandag::journal::{Durability, Journal as _, MemoryJournal, RunId};
use plandag::{Event, RunEvent, RunEventKind, Scheduler};
use serde_json::json;

use super::World;
use crate::support::random::{one_of, percent};
use crate::support::trace::Entry;

impl World {
    /// Forks the run, if there is anything to be forked.
    pub(super) fn fork(&mut self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut changes = self.some_changes();
        let mut forked = runtime.block_on(fork(&self.history, &changes));
        if forked.is_err() {
            changes = Changes::default();
            forked = runtime.block_on(fork(&self.history, &changes));
        }
        let Ok(events) = forked else { return false };
        let is_end = |event: &RunEvent| matches!(event.kind, RunEventKind::RunFinished { .. });
        let own = self.history.iter().rposition(is_end).unwrap_or(self.history.len());
        self.counts.one("forks");
        self.trace.push(Entry::Forked { events: events.clone(), own, changes });
        match Scheduler::replay(&events) {
            Ok(scheduler) => self.scheduler = scheduler,
            Err(error) => {
                self.wrong("the history of a fork can be read back", error.to_string());
                return true;
            }
        }
        if self.scheduler.revision() > 0 {
            self.author.takes_over(self.scheduler.members().map(|step| Arc::clone(step.definition)).collect());
        }
        self.history = events;
        self.agenda.clear();
        self.attempts.clear();
        self.past.clear();
        self.wake_at = None;
        (self.transitions, self.resumes_left) = (0, 12);
        let policy = (self.knobs.limits && percent(&mut self.rng, 10)).then(|| {
            let mut policy = self.scheduler.policy().clone();
            policy.limits.attempts = Some(self.rng.u32(1..20));
            Box::new(policy)
        });
        self.tell(Event::Resumed { policy });
        true
    }

    /// What a fork does differently: nothing, mostly.
    fn some_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let steps: Vec<_> = (0..self.scheduler.step_count()).filter_map(|number| self.scheduler.step(number)).collect();
        if steps.is_empty() {
            return changes;
        }
        let parents: BTreeSet<_> = steps.iter().filter_map(|step| step.parent).collect();
        let expanded: Vec<_> = steps.iter().filter(|step| parents.contains(&step.number)).copied().collect();
        let some = |rng: &mut Rng| match rng.bool() && !expanded.is_empty() {
            true => *one_of(rng, &expanded),
            false => *one_of(rng, &steps),
        };
        for _ in 0..2 {
            if percent(&mut self.rng, 20) {
                changes.without.push(some(&mut self.rng).id.clone());
            }
        }
        if percent(&mut self.rng, 40) {
            let step = some(&mut self.rng);
            changes.from = Some(step.id.clone());
            if self.rng.bool() {
                let names = step.definition.args.as_object().into_iter().flat_map(|args| args.keys());
                let names: Vec<&str> = names.map(String::as_str).chain(["n"]).collect();
                changes.set.insert((*one_of(&mut self.rng, &names)).to_owned(), json!(self.rng.u8(0..4)));
            }
        }
        changes
    }
}

/// The history of a fork.
async fn fork(history: &[RunEvent], changes: &Changes) -> Result<Vec<RunEvent>, ForkError> {
    let (journal, run, fork) = (MemoryJournal::new(), RunId::new("run"), RunId::new("fork"));
    let claim = journal.create(&run).await.expect("a new run");
    journal.append(&claim, history, Durability::Process).await.expect("memory");
    let loaded = History::load(&journal, &run).await.expect("a history");
    let made = loaded.fork(changes);
    if let Err(ForkError::Unsound { message }) = &made {
        panic!("{message}");
    }
    made?.save(&journal, &fork).await.expect("memory");
    Ok(journal.history(&fork).await.expect("it was saved"))
}
