//! A fork: what its history begins with is believed, and what comes after that is judged like any run.

use std::collections::{BTreeMap, BTreeSet};

use plandag::history::Changes;
use plandag::{RunEvent, RunEventKind, StepId, StepNumber, Usage};

use super::Checker;
use super::books::{Books, Record, State};

/// The steps of a plan, and of what they became, by id: their numbers, and whether they are finished.
type Planned = BTreeMap<StepId, (StepNumber, bool)>;

impl Checker {
    /// The run goes on as a fork, whose own events are those from `own` on.
    pub(super) fn forked(&mut self, events: &[RunEvent], own: usize, changes: &Changes) {
        let mut fork = Self::new(&self.books.start);
        fork.beginnings = std::mem::take(&mut self.beginnings);
        fork.follow(&events[..own]);
        fork.violations.clear();
        let before = fork.books.planned();
        fork.beginnings.push(own..events.len());
        fork.follow(&events[own..]);
        // No tool was called for what it begins with, and nobody was asked.
        fork.violations.retain(|violation| violation.promise == "a graft fits the graph");
        for message in fork.books.wrong_beginning(&before, changes) {
            fork.wrong("a fork does again what is changed or not finished", message);
        }
        fork.violations.iter_mut().for_each(|violation| violation.at = self.at);
        (fork.at, fork.must_answer) = (self.at, false);
        fork.violations.splice(0..0, self.violations.drain(..));
        *self = fork;
    }

    /// Follows a history in which forks may have begun before.
    fn follow(&mut self, events: &[RunEvent]) {
        for event in events {
            let at = event.seq as usize;
            let beginning = self.beginnings.iter().find(|beginning| beginning.contains(&at)).cloned();
            self.books.is_forking = beginning.is_some();
            if beginning.as_ref().is_some_and(|beginning| beginning.start == at) {
                (self.books.own_steps, self.books.own_at) = (self.books.steps.len(), self.now);
                self.books.own_forgotten.clear();
            }
            self.record(event);
            if beginning.is_some_and(|beginning| beginning.end == at + 1) {
                self.begun(matches!(event.kind, RunEventKind::PlanRequested { .. }));
            }
        }
        self.books.is_forking = false;
    }

    /// A fork has begun, and counts what it does itself. If there never was a plan, its planner is asked as that of the
    /// run was.
    fn begun(&mut self, is_asked: bool) {
        self.crashed();
        (self.books.launches, self.books.no_calls, self.usage) = (0, 0, Usage::default());
        (self.replans, self.rejections, self.put_off, self.cut_off) = (0, 0, 0, None);
        if !is_asked {
            self.books.seen = self.books.is_seen_in_plan();
        }
    }
}

impl Books {
    fn planned(&self) -> Planned {
        let is_planned = |number: &StepNumber| {
            let around = self.ancestors(*number).into_iter().chain([*number]);
            around.into_iter().all(|number| self.step(number).member && !self.step(number).draft)
        };
        let numbers = (0..self.steps.len() as StepNumber).filter(is_planned);
        numbers.map(|number| (self.step(number).id.clone(), (number, self.step(number).state.is_finished()))).collect()
    }

    /// What is finished and not changed is taken over, and nothing else than the plan that there was.
    fn wrong_beginning(&self, before: &Planned, changes: &Changes) -> Vec<String> {
        let (own, count) = (self.own_steps as StepNumber, self.steps.len() as StepNumber);
        let is_open_draft = |number: &StepNumber| self.step(*number).draft && !self.step(*number).state.is_terminal();
        let drafts = (0..count).filter(is_open_draft);
        let mut wrong: Vec<String> =
            drafts.map(|step| format!("step {step} is of an answer that never came")).collect();
        // Without a plan there is nothing to begin with.
        if count > own {
            let put_together = (own..count).filter(|step| self.step(*step).state == State::Expanded);
            for scope in std::iter::once(None).chain(put_together.map(Some)) {
                wrong.extend(self.wrong_scope(scope, before, changes));
            }
        }
        wrong
    }

    fn wrong_scope(&self, scope: Option<StepNumber>, before: &Planned, changes: &Changes) -> Vec<String> {
        let own = self.own_steps as StepNumber;
        let parent = scope.map(|scope| self.step(scope).id.as_str());
        let is_in_scope = |id: &&StepId| id.as_str().rsplit_once('/').map(|(parent, _)| parent) == parent;
        let planned: BTreeSet<&StepId> = before.keys().filter(is_in_scope).collect();
        let members: BTreeMap<&StepId, StepNumber> =
            self.children(scope).map(|step| (&self.step(step).id, step)).collect();
        let mut wrong = Vec::new();
        if !members.keys().eq(planned.iter()) {
            wrong.push(format!("{members:?} are there of {planned:?}"));
        }
        let named: BTreeSet<&StepId> = changes.without.iter().chain(&changes.from).collect();
        for (id, step) in members {
            let Some((number, is_finished)) = before.get(id) else { continue };
            let Record { dependencies, state, .. } = self.step(step);
            let is_around = named.iter().any(|other| other.as_str().starts_with(&format!("{id}/")));
            let is_below = dependencies.iter().any(|before| *before >= own);
            let is_due = named.contains(id) || is_around || is_below || !is_finished;
            let is_left_out = step >= own && *state == State::SkippedItself;
            let is_anew = |input: &&StepNumber| self.is_made_anew(**input, before);
            wrong
                .extend(dependencies.iter().find(is_anew).map(|input| format!("step {step} is given that of {input}")));
            if (step != *number) != is_due || is_left_out != changes.without.contains(id) {
                wrong.push(format!("step {step} for {number} (`{id}`), which is {state:?}"));
            }
        }
        wrong
    }

    /// Whether a fork makes anew what a step has come to.
    fn is_made_anew(&self, step: StepNumber, before: &Planned) -> bool {
        let id = &self.step(step).id;
        let is_inside = |parent: &StepId| id.as_str().starts_with(&format!("{parent}/"));
        let is_replaced =
            before.get(id).is_some_and(|(number, _)| *number == step) && self.current.get(id) != Some(&step);
        is_replaced || step < self.own_steps as StepNumber && self.own_forgotten.iter().any(is_inside)
    }

    /// Whether a planner that is shown the plan sees text from outside: in what is finished of it, or in the words of the
    /// rest.
    fn is_seen_in_plan(&self) -> bool {
        let expanded = (0..self.steps.len() as StepNumber).filter(|number| *number >= self.own_steps as StepNumber);
        let scopes = std::iter::once(None).chain(expanded.map(Some));
        scopes.flat_map(|scope| self.children(scope)).any(|number| match self.step(number).state.is_finished() {
            true => self.may_give(number),
            false => self.is_written_in_view(number),
        })
    }
}
