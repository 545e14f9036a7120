//! What attempts leave for the next ones at their steps.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{RunEvent, RunEventKind, StepNumber};
use crate::scheduler::Scheduler;

/// By step and type: one of each. What a step has left is dropped when it will not be tried again.
#[derive(Default)]
pub(super) struct CarriedOver {
    /// Whether anything was ever left. Most runs need not look further.
    is_used: AtomicBool,
    by_step: Mutex<BTreeMap<StepNumber, Vec<Box<dyn Any + Send>>>>,
}

impl CarriedOver {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StepNumber, Vec<Box<dyn Any + Send>>>> {
        self.by_step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, step: StepNumber, what: Box<dyn Any + Send>) {
        self.is_used.store(true, Ordering::Relaxed);
        let mut by_step = self.lock();
        let left = by_step.entry(step).or_default();
        let before = match left.iter_mut().find(|before| (***before).type_id() == (*what).type_id()) {
            Some(before) => Some(std::mem::replace(before, what)),
            None => {
                left.push(what);
                None
            }
        };
        drop(by_step);
        // Whatever its drop does, it does it where nothing is locked.
        drop(before);
    }

    pub(super) fn take(&self, step: StepNumber, of: TypeId) -> Option<Box<dyn Any + Send>> {
        let mut by_step = self.lock();
        let left = by_step.get_mut(&step)?;
        let place = left.iter().position(|what| (**what).type_id() == of)?;
        Some(left.swap_remove(place))
    }

    /// Drops what is left for steps that these events have ended, also by an attempt that was still to be over then.
    pub(super) fn forget(&self, events: &[RunEvent], scheduler: &Scheduler) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        for event in events {
            let (step, closed) = match &event.kind {
                RunEventKind::StepSucceeded { step, .. }
                | RunEventKind::StepFailed { step, .. }
                | RunEventKind::StepSkipped { step, .. } => (Some(*step), &[][..]),
                RunEventKind::AttemptDiscarded { attempt, .. } => (scheduler.step_of(*attempt), &[][..]),
                RunEventKind::PlanAccepted { graft, .. } | RunEventKind::StepExpanded { graft, .. } => {
                    (None, &graft.closed[..])
                }
                RunEventKind::PlanRejected { rejection, .. } => (None, &rejection.closed[..]),
                _ => continue,
            };
            for step in step.iter().chain(closed) {
                let left = self.lock().remove(step);
                drop(left);
            }
        }
    }
}
