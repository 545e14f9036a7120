//! How a revision changes the graph: a list of steps is compared with what is there, and the difference is a
//! [`Graft`]. First plans, revisions, patches, expansions and drafts all go through here.
//!
//! Nothing in this file changes the state. What is kept, and what gets a new number:
//!
//! - A step keeps its number if its content is the same, its dependencies resolve to the numbers it already has, and
//!   it has not failed. Failing that, the newest finished step of its id is taken up again on the same terms.
//! - Everything else gets a new number, and so does everything below it: other inputs, other result.
//! - A failure that was reported to the planner is tried again if the revision mentions it; one that was not stays,
//!   and is reported next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::dag::{Checked, Rules, check_with, dependencies};
use crate::error::PlanError;
use crate::event::{Added, AnswerFrom, Graft, SkipReason, StepNumber};
use crate::plan::{Patch, Plan, Step, StepId};
use crate::tool::Room;

use super::state::{NONE, Name, Node};
use super::{Scheduler, StepState};

/// A revision as a full list of steps.
pub(super) struct Listed {
    pub(super) steps: Vec<Arc<Step>>,
    pub(super) answer: Option<StepId>,
    pub(super) pools: BTreeMap<String, u32>,
}

impl From<Plan> for Listed {
    fn from(plan: Plan) -> Self {
        Self { steps: plan.steps, answer: plan.answer, pools: plan.pools }
    }
}

/// Which of the failed steps are tried again.
#[derive(Clone, Copy)]
enum Retried<'a> {
    All,
    These(&'a [StepNumber]),
}

/// What becomes of a listed step.
enum Fate {
    Kept(StepNumber),
    New,
}

impl Scheduler {
    /// What is left of the limits for a plan.
    pub(super) fn room(&self) -> Room {
        let limits = &self.policy.limits;
        Room { steps: limits.steps.saturating_sub(self.own_steps()), edges: limits.edges }
    }

    /// How many of its own steps the run has done, or may still do: what has come to nothing makes room for what is to make
    /// up for it.
    fn own_steps(&self) -> u32 {
        self.step_count() - self.own.steps - self.counts.gone
    }

    /// How many steps a plan may have that repeats what is there and has not failed.
    pub(crate) fn most_steps(&self) -> u32 {
        let kept = |number: &&StepNumber| {
            let node = self.node(**number);
            node.member && !node.is_fatal()
        };
        self.room().steps.saturating_add(self.root.members.iter().filter(kept).count() as u32)
    }

    /// The graft of a whole plan.
    pub(super) fn graft_plan(&self, mut listed: Listed) -> Result<Graft, Vec<PlanError>> {
        self.pull_in_facts(&mut listed);
        let reported = self.pending.as_ref().map_or(&[][..], |pending| &pending.reported);
        self.graft(listed, NONE, Retried::These(reported))
    }

    /// The graft of the plan that a step's tool returned.
    pub(super) fn graft_expansion(&self, parent: StepNumber, plan: Plan) -> Result<Graft, Vec<PlanError>> {
        self.graft(plan.into(), parent, Retried::All)
    }

    /// The graft of one step of a plan that is still being written.
    pub(super) fn graft_draft(&self, step: &Arc<Step>) -> Result<Graft, Vec<PlanError>> {
        let listed = Listed { steps: vec![Arc::clone(step)], answer: None, pools: BTreeMap::new() };
        let is_there = |id: &StepId| {
            let current = self.current(id.as_str()).map(|number| self.node(number));
            current.is_some_and(|node| node.parent == NONE && (node.member || node.is_finished()))
        };
        let checked = self.check(&listed, &is_there)?;
        let number = |id: &StepId| self.current(id.as_str()).unwrap_or(NONE);
        let dependencies = checked.external.iter().map(number).collect();
        let added = vec![Added { id: None, step: Arc::clone(step), dependencies }];
        Ok(Graft { first: self.step_count(), added, ..Graft::default() })
    }

    /// A patch as the list of steps that it leads to.
    pub(super) fn patched(&self, patch: Patch) -> Result<Listed, Vec<PlanError>> {
        // A draft is of the answer that is still to be taken up: only what that answer says makes it part of the plan.
        let members = self.root.members.iter();
        let is_kept = |number: &&StepNumber| self.node(**number).member && !self.node(**number).draft;
        let steps = members.filter(is_kept).map(|number| Arc::clone(self.definition(*number))).collect();
        let answer = match self.root.answer {
            AnswerFrom::Step(number) => Some(self.id(number).clone()),
            _ => None,
        };
        let reported = self.pending.iter().flat_map(|pending| &pending.reported);
        let reported = reported.map(|number| self.id(*number).clone()).collect();
        // The pools of the plan are there.
        let plan = Plan { steps, answer, ..Plan::new() };
        patch.apply_to(&plan, &reported).map(Listed::from)
    }

    /// Finished steps are facts: one that a listed step depends on, or that shall answer, belongs to the plan whether
    /// the plan repeats it or not. So do the steps that it depends on in turn.
    fn pull_in_facts(&self, listed: &mut Listed) {
        if self.nodes.is_empty() {
            return;
        }
        let mut ids: BTreeSet<StepId> = listed.steps.iter().map(|step| step.id.clone()).collect();
        let mut next = 0;
        let mut wanted: Vec<StepId> = listed.answer.iter().cloned().collect();
        while next < listed.steps.len() || !wanted.is_empty() {
            if wanted.is_empty() {
                wanted = dependencies(&listed.steps[next]);
                next += 1;
            }
            for id in wanted.drain(..) {
                if let Some(fact) = self.fact(&id).filter(|_| !ids.contains(&id)) {
                    listed.steps.push(Arc::clone(self.definition(fact)));
                    ids.insert(id);
                }
            }
        }
    }

    /// The finished step of the run's plan that an id stands for.
    fn fact(&self, id: &StepId) -> Option<StepNumber> {
        self.newest_finished(id).filter(|number| self.node(*number).parent == NONE)
    }

    /// The newest finished step of an id.
    fn newest_finished(&self, id: &StepId) -> Option<StepNumber> {
        let name = self.names().get(id)?;
        let is_finished = |number: &StepNumber| self.nodes.get(*number as usize).is_some_and(Node::is_finished);
        [name.current, name.finished].into_iter().find(is_finished)
    }

    fn check(&self, listed: &Listed, external: &dyn Fn(&StepId) -> bool) -> Result<Checked, Vec<PlanError>> {
        let mut pools: BTreeMap<String, u32> = listed.pools.clone();
        pools.extend(self.pools.sizes().map(|(name, size)| (name.to_owned(), size)));
        let limits = &self.policy.limits;
        // What there is already may all be part of it.
        let max_steps = self.own.steps.saturating_add(limits.steps);
        let rules = Rules { start: Some(&self.start), external, max_steps, max_edges: limits.edges };
        check_with(&listed.steps, listed.answer.as_ref(), &pools, &rules)
    }

    fn graft(&self, listed: Listed, scope: StepNumber, retried: Retried<'_>) -> Result<Graft, Vec<PlanError>> {
        // A step of the run's plan may use what an expansion has produced, by its full id.
        let child_fact = |id: &StepId| {
            scope == NONE && self.newest_finished(id).is_some_and(|number| self.node(number).parent != NONE)
        };
        let checked = self.check(&listed, &child_fact)?;
        let Listed { steps, answer, pools } = listed;
        let first = self.step_count();
        let mut graft = Graft { scope: Some(scope).filter(|scope| *scope != NONE), first, pools, ..Graft::default() };
        let mut offences = Vec::new();
        let mut numbers = vec![NONE; steps.len()];
        // Steps are moved into the graft: in a large plan none is at hand, and to clone or drop one is to wait for it.
        let mut steps: Vec<Option<Arc<Step>>> = steps.into_iter().map(Some).collect();
        let mut kept = BTreeSet::new();
        if first == 0 {
            graft.added.reserve_exact(steps.len());
        }
        for &index in &checked.order {
            let Some(step) = steps[index as usize].take() else { continue };
            let resolve = |&target: &u32| match checked.external_id(target) {
                Some(id) => self.newest_finished(id).unwrap_or(NONE),
                None => numbers[target as usize],
            };
            let dependencies: SmallVec<_> = checked.dependencies(index as usize).iter().map(resolve).collect();
            let id = (scope != NONE).then(|| self.id(scope).child(&step.id));
            let known = if first == 0 { None } else { self.names().get(id.as_ref().unwrap_or(&step.id)) };
            let fate = match known {
                None => Fate::New,
                Some(name) => self.fate(*name, &step, &dependencies, retried, &mut graft, &mut offences),
            };
            numbers[index as usize] = match fate {
                Fate::Kept(number) => {
                    kept.insert(number);
                    number
                }
                Fate::New => {
                    graft.added.push(Added { id, step, dependencies });
                    first + graft.added.len() as u32 - 1
                }
            };
        }
        self.leave_out(scope, &kept, &mut graft);
        let closed = graft.closed.iter().filter(|number| **number >= self.own.steps).count();
        let count = u64::from(self.own_steps()) + graft.added.len() as u64 - closed as u64;
        let limit = self.policy.limits.steps;
        if count > u64::from(limit) {
            offences.push(PlanError::TooLarge { what: "steps in this run".into(), count, limit: limit.into() });
        }
        self.check_child_facts(&checked, &numbers, answer.as_ref(), &graft, &mut offences);
        graft.answer = self.answer_from(&checked, answer.as_ref(), &numbers);
        if offences.is_empty() { Ok(graft) } else { Err(offences) }
    }

    /// Whether a listed step whose id is known is one that is there.
    fn fate(
        &self,
        name: Name,
        step: &Arc<Step>,
        dependencies: &[StepNumber],
        retried: Retried<'_>,
        graft: &mut Graft,
        offences: &mut Vec<PlanError>,
    ) -> Fate {
        // What a fork leaves out waits for nothing, and stays left out.
        let is_left_out = |number| self.node(number).state == StepState::Skipped(SkipReason::LeftOut);
        let is_same = |number: StepNumber| {
            self.definition(number).same_content(step)
                && (same_set(self.dependencies(number), dependencies) || is_left_out(number))
        };
        let is_outdated = |number: StepNumber| match is_left_out(number) {
            true => self.definition(number) != step,
            false => !self.node(number).is_settled() && !self.definition(number).same_settings(step),
        };
        let parent = graft.scope.unwrap_or(NONE);
        if let Some(node) = self.nodes.get(name.current as usize) {
            let same = is_same(name.current);
            let keeps = match node.state {
                StepState::Unknown(_) if !same => {
                    offences.push(PlanError::Undecided { step: step.id.clone() });
                    return Fate::New;
                }
                StepState::Superseded => false,
                StepState::Failed if node.is_fatal() => {
                    // One that an earlier revision left out is mentioned again to be tried again.
                    let is_retried = !node.member
                        || match retried {
                            Retried::All => true,
                            Retried::These(reported) => reported.contains(&name.current),
                        };
                    // Not to take the result that there was before a fork did it again.
                    if same && is_retried {
                        return Fate::New;
                    }
                    same
                }
                // A skipped one, too: what it depends on has not changed, so it cannot run.
                _ => same,
            };
            if keeps {
                if !node.member || node.draft || node.parent != parent {
                    graft.joined.push(name.current);
                }
                if node.draft && node.state == StepState::Failed && node.is_fatal() && self.may_be_mended(name.current)
                {
                    graft.unreported.push(name.current);
                }
                if is_outdated(name.current) {
                    graft.settings.push((name.current, Arc::clone(step)));
                }
                return Fate::Kept(name.current);
            }
            if !same && name.has_expanded {
                graft.forgotten.push(name.current);
            }
        }
        // One before the newest finished step is history: its result has been replaced.
        let is_newest = !self.nodes.get(name.current as usize).is_some_and(Node::is_finished);
        let finished = name.finished;
        if is_newest && finished != NONE && self.node(finished).is_finished() && is_same(finished) {
            graft.joined.push(finished);
            if is_outdated(finished) {
                graft.settings.push((finished, Arc::clone(step)));
            }
            return Fate::Kept(finished);
        }
        Fate::New
    }

    /// What the scope has and the list has not: dropped if it is still open, else only left out.
    fn leave_out(&self, scope: StepNumber, kept: &BTreeSet<StepNumber>, graft: &mut Graft) {
        let Some(members) = self.scope(scope).map(|scope| &scope.members) else { return };
        for &number in members.iter().filter(|number| self.node(**number).member && !kept.contains(number)) {
            if self.node(number).is_settled() {
                graft.left.push(number);
            } else {
                graft.closed.push(number);
                self.close_below(number, &mut graft.closed);
            }
        }
    }

    /// Adds every unsettled step of a step's expansions.
    pub(super) fn close_below(&self, step: StepNumber, closed: &mut Vec<StepNumber>) {
        let mut parents = vec![step];
        while let Some(parent) = parents.pop() {
            for &child in self.scopes.get(&parent).iter().flat_map(|scope| &scope.members) {
                if self.node(child).parent == parent && !self.node(child).is_settled() {
                    closed.push(child);
                    parents.push(child);
                }
            }
        }
    }

    /// The ids of steps whose expansions have come to what is to be forgotten.
    pub(super) fn forgotten<'a>(&'a self, graft: &Graft) -> BTreeSet<&'a str> {
        graft.forgotten.iter().map(|number| self.id(*number).as_str()).collect()
    }

    /// Results of an expansion that this very revision redefines are no facts any more.
    fn check_child_facts(
        &self,
        checked: &Checked,
        numbers: &[StepNumber],
        answer: Option<&StepId>,
        graft: &Graft,
        offences: &mut Vec<PlanError>,
    ) {
        if graft.forgotten.is_empty() {
            return;
        }
        let forgotten = self.forgotten(graft);
        let is_forgotten = |id: &&StepId| id.parents().any(|parent| forgotten.contains(parent));
        if let Some(answer) = answer.filter(is_forgotten).cloned() {
            offences.push(PlanError::UnknownAnswer { answer, suggestion: None });
        }
        for (index, &number) in numbers.iter().enumerate() {
            let external = checked.dependencies(index).iter().filter_map(|target| checked.external_id(*target));
            for dependency in external.filter(is_forgotten).cloned() {
                let step = match number.checked_sub(graft.first) {
                    Some(added) => &graft.added[added as usize].step,
                    None => self.definition(number),
                };
                let step = step.id.clone();
                offences.push(PlanError::UnknownDependency { step, dependency, suggestion: None });
            }
        }
    }

    fn answer_from(&self, checked: &Checked, answer: Option<&StepId>, numbers: &[StepNumber]) -> AnswerFrom {
        if let Some(answer) = answer {
            let step = checked.answer.map(|index| numbers[index as usize]);
            return AnswerFrom::Step(step.or_else(|| self.newest_finished(answer)).unwrap_or(NONE));
        }
        let mut is_sink = vec![true; numbers.len()];
        for dependency in &checked.flat {
            if let Some(is_sink) = is_sink.get_mut(*dependency as usize) {
                *is_sink = false;
            }
        }
        AnswerFrom::Sinks(numbers.iter().zip(is_sink).filter(|(_, is_sink)| *is_sink).map(|(step, _)| *step).collect())
    }
}

/// Whether two dependency lists name the same numbers. Each list names a number once.
fn same_set(left: &[StepNumber], right: &[StepNumber]) -> bool {
    if left == right {
        return true;
    }
    if left.len() != right.len() {
        return false;
    }
    let left: BTreeSet<_> = left.iter().collect();
    right.iter().all(|number| left.contains(number))
}
