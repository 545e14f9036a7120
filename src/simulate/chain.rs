//! The longest chain of work of a run, found while its attempts end.

use crate::event::StepNumber;
use crate::scheduler::Scheduler;

/// The longest chains of work that end with each step, in microseconds.
///
/// An attempt ends after everything it waited for has ended, so one look at its dependencies is enough. No order of
/// step numbers would do: the steps of an expansion have higher numbers than those that wait for their parent.
#[derive(Debug, Default)]
pub(super) struct Chains {
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Whether an attempt of the step has ended.
    begun: bool,
    /// The last step of the longest chain that leads to this one.
    before: Option<StepNumber>,
    /// That chain and the step's own attempts.
    length: u64,
    /// The longest chain that the step's dependents wait for: its own, or one through its expansion.
    to_end: u64,
    /// The last step of that one.
    last: StepNumber,
}

impl Chains {
    /// An attempt of `step` took `micros`.
    pub(super) fn ended(&mut self, scheduler: &Scheduler, step: StepNumber, micros: u64) {
        if self.links.len() <= step as usize {
            self.links.resize(scheduler.step_count().max(step + 1) as usize, Link::default());
        }
        let parent = parent_of(scheduler, step);
        if !self.link(step).begun {
            let mut link = Link { begun: true, last: step, ..Link::default() };
            for &dependency in scheduler.dependencies(step) {
                let earlier = self.link(dependency);
                if earlier.begun && (link.before.is_none() || earlier.to_end > link.length) {
                    (link.length, link.before) = (earlier.to_end, Some(earlier.last));
                }
            }
            if let Some(parent) = parent
                && (link.before.is_none() || self.link(parent).length > link.length)
            {
                (link.length, link.before) = (self.link(parent).length, Some(parent));
            }
            self.links[step as usize] = link;
        }
        let link = &mut self.links[step as usize];
        link.length = link.length.saturating_add(micros);
        (link.to_end, link.last) = (link.length, step);
        let Link { to_end, last, .. } = *link;

        let mut around = parent;
        while let Some(parent) = around {
            let link = &mut self.links[parent as usize];
            if to_end >= link.to_end {
                (link.to_end, link.last) = (to_end, last);
            }
            around = parent_of(scheduler, parent);
        }
    }

    /// The longest chain of all: its length in microseconds, and its steps in order.
    pub(super) fn longest(&self) -> (u64, Vec<StepNumber>) {
        let Some(end) = self.links.iter().filter(|link| link.begun).max_by_key(|link| link.to_end) else {
            return (0, Vec::new());
        };
        let mut steps = Vec::new();
        let mut next = Some(end.last);
        while let Some(step) = next {
            steps.push(step);
            next = self.link(step).before;
        }
        steps.reverse();
        (end.to_end, steps)
    }

    fn link(&self, step: StepNumber) -> Link {
        self.links.get(step as usize).copied().unwrap_or_default()
    }
}

fn parent_of(scheduler: &Scheduler, step: StepNumber) -> Option<StepNumber> {
    scheduler.step(step).and_then(|view| view.parent)
}
