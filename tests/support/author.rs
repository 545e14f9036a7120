//! Planners of all kinds: able, stubborn, forgetful, and writing nonsense.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use plandag::{
    ModelProblem, Patch, Plan, PlanError, PlanReason, RequestNumber, RequestPlan, Revision, Scheduler, Step, StepId,
};
use serde_json::json;

use super::knobs::Knobs;
use super::plans::PlanMaker;
use super::random::{one_of, percent};

/// What a planner answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Steps that it sends while it writes.
    pub streamed: Vec<Arc<Step>>,
    /// Its answer in the end.
    pub answer: Result<Revision, PlanError>,
}

/// The planner of a world. It knows what it wrote, as a model would from its prompt.
#[derive(Clone, Debug, Default)]
pub struct Author {
    /// The plan as the run follows it.
    accepted: Vec<Arc<Step>>,
    /// What it has proposed and does not know the fate of.
    proposed: BTreeMap<RequestNumber, Vec<Arc<Step>>>,
    /// Every id it has ever used.
    known: BTreeSet<StepId>,
    /// So that it never runs out of new ids.
    fresh: u32,
}

impl Author {
    /// A planner that will first propose `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self { accepted: plan.steps.clone(), ..Self::default() }
    }

    /// Somebody else has written the plan, which it is shown.
    pub fn takes_over(&mut self, plan: Vec<Arc<Step>>) {
        self.accepted = plan;
        self.proposed.clear();
    }

    /// Its proposal is the plan from now on.
    pub fn was_accepted(&mut self, request: RequestNumber) {
        if let Some(steps) = self.proposed.remove(&request) {
            self.accepted = steps;
        }
        self.proposed.clear();
    }

    /// Answers a request.
    pub fn reply(
        &mut self,
        rng: &mut Rng,
        knobs: &Knobs,
        maker: &PlanMaker,
        first: &Plan,
        request: &RequestPlan,
        scheduler: &Scheduler,
    ) -> Reply {
        let steps = (0..scheduler.step_count()).filter_map(|number| scheduler.step(number));
        self.known.extend(steps.map(|step| step.id.clone()));
        let mut reply = if knobs.garbage && percent(rng, 20) {
            Reply { streamed: Vec::new(), answer: self.garbage(rng, maker) }
        } else {
            let answer = match &request.reason {
                _ if request.revision <= 1 => Ok(Revision::Plan(first.clone())),
                _ if request.must_answer && percent(rng, 80) => Ok(Revision::Answer(json!("all there is"))),
                PlanReason::Review => Ok(self.review(rng, maker)),
                _ => Ok(self.revision(rng, maker, &failed_ids(request, scheduler))),
            };
            Reply { streamed: Vec::new(), answer }
        };
        if let Ok(revision) = &reply.answer {
            match revision {
                Revision::Plan(plan) => {
                    self.proposed.insert(request.request, plan.steps.clone());
                    if knobs.streams && percent(rng, 40) {
                        reply = stream(rng, plan.clone());
                    }
                }
                Revision::Patch(patch) => {
                    self.proposed.insert(request.request, patched(&self.accepted, patch));
                }
                Revision::Answer(_) | Revision::Declined | Revision::Unusable(_) | Revision::PutOff { .. } => {}
            }
        }
        reply
    }

    /// A review: answer, go on, repeat oneself, or have no more to say.
    fn review(&mut self, rng: &mut Rng, maker: &PlanMaker) -> Revision {
        match rng.u8(0..4) {
            0 => Revision::Answer(json!({ "answer": 42 })),
            1 => Revision::Declined,
            2 => Revision::Plan(plan_of(self.accepted.clone())),
            _ => self.revision(rng, maker, &[]),
        }
    }

    fn revision(&mut self, rng: &mut Rng, maker: &PlanMaker, failed: &[StepId]) -> Revision {
        match rng.u32(0..100) {
            0..5 => return Revision::Declined,
            5..8 => return Revision::Answer(json!("good enough")),
            _ => {}
        }
        let before = self.accepted.clone();
        let mut steps = before.clone();
        for id in failed {
            self.mend(rng, maker, &mut steps, id);
        }
        for _ in 0..rng.usize(0..=3) {
            self.change(rng, maker, &mut steps);
        }
        if percent(rng, 30) {
            for step in &mut steps {
                let mut other = (**step).clone();
                maker.settings(rng, &mut other);
                *step = Arc::new(other);
            }
        }
        if steps.is_empty() {
            steps = before.clone();
        }
        if percent(rng, 40)
            && let Some(patch) = patch_between(&before, &steps)
        {
            return Revision::Patch(patch);
        }
        if percent(rng, 20) {
            rng.shuffle(&mut steps);
        }
        let mut plan = plan_of(steps);
        if percent(rng, 20) {
            plan.answer = Some(one_of(rng, &plan.steps).id.clone());
        }
        Revision::Plan(plan)
    }

    /// Does something about a failed step: other arguments, another step in its place, doing without, or nothing.
    fn mend(&mut self, rng: &mut Rng, maker: &PlanMaker, steps: &mut Vec<Arc<Step>>, id: &StepId) {
        let Some(place) = steps.iter().position(|step| step.id == *id) else { return };
        match rng.u8(0..6) {
            0 => steps[place] = Arc::new(self.redefined(&steps[place])),
            1 => {
                let new = self.fresh_id();
                let mut replacement = (*steps[place]).clone();
                replacement.id = new.clone();
                steps[place] = Arc::new(replacement);
                for step in steps.iter_mut() {
                    if let Some(renamed) = with_dependency_renamed(step, id, &new) {
                        *step = Arc::new(renamed);
                    }
                }
            }
            2 => drop_below(steps, id),
            _ => {
                let mut again = (*steps[place]).clone();
                if percent(rng, 50) {
                    maker.settings(rng, &mut again);
                }
                steps[place] = Arc::new(again);
            }
        }
    }

    /// Does something that nobody asked for.
    fn change(&mut self, rng: &mut Rng, maker: &PlanMaker, steps: &mut Vec<Arc<Step>>) {
        if steps.is_empty() {
            return;
        }
        let place = rng.usize(0..steps.len());
        match rng.u8(0..7) {
            0 => steps[place] = Arc::new(self.redefined(&steps[place])),
            1 => {
                let id = steps[place].id.clone();
                drop_below(steps, &id);
            }
            2 => {
                // A step of its own goes; whether those that depend on it may stay is for the run to say.
                steps.remove(place);
            }
            3 => {
                let mut step = (*steps[place]).clone();
                maker.settings(rng, &mut step);
                steps[place] = Arc::new(step);
            }
            4 if place > 0 => {
                let mut step = (*steps[place]).clone();
                step.depends_on.push(steps[rng.usize(0..place)].id.clone());
                steps[place] = Arc::new(step);
            }
            5 if !self.known.is_empty() => {
                // Perhaps of a step that is long gone, perhaps of one inside an expansion.
                let children: Vec<&StepId> = self.known.iter().filter(|id| id.as_str().contains('/')).collect();
                let known: Vec<&StepId> = self.known.iter().collect();
                let among = if children.is_empty() || rng.bool() { &known } else { &children };
                let after = [*one_of(rng, among)];
                let step = maker.step(rng, &StepId::new(format!("k{}", self.fresh)), &after);
                self.fresh += 1;
                steps.push(Arc::new(step));
            }
            _ => {
                for _ in 0..rng.usize(1..=3) {
                    let after: Vec<StepId> = (0..rng.usize(0..=2))
                        .map(|_| one_of(rng, steps).id.clone())
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .collect();
                    let step = maker.step(rng, &self.fresh_id(), &after.iter().collect::<Vec<_>>());
                    steps.push(Arc::new(step));
                }
            }
        }
    }

    /// The same step with other content.
    fn redefined(&mut self, step: &Step) -> Step {
        self.fresh += 1;
        // Few different contents, so that a definition is now and then taken back.
        Step { description: format!("version {}", self.fresh % 3).into(), ..step.clone() }
    }

    fn fresh_id(&mut self) -> StepId {
        self.fresh += 1;
        StepId::new(format!("n{}", self.fresh))
    }

    /// What no run can use, and what cannot be trusted to be unusable.
    fn garbage(&mut self, rng: &mut Rng, maker: &PlanMaker) -> Result<Revision, PlanError> {
        let mut steps = self.accepted.clone();
        let place = rng.usize(0..steps.len().max(1));
        let Some(step) = steps.get(place).cloned() else { return Err(PlanError::Empty) };
        match rng.u8(0..18) {
            0 => return Err(PlanError::Planner { message: "no connection".into() }),
            1 => return Err(PlanError::Truncated { message: "no end mark".into() }),
            2 => steps.clear(),
            15 => {
                let (message, pause) = ("busy".into(), rng.u64(0..50));
                let retry_after_ms = Some(pause).filter(|pause| *pause > 10);
                return Err(PlanError::BrokenOff { problem: ModelProblem::Unavailable, message, retry_after_ms });
            }
            16.. => {
                return Ok(put_off(rng));
            }
            3 => steps.push(step),
            4 => {
                let mut step = (*step).clone();
                step.depends_on.push(step.id.clone());
                steps[place] = Arc::new(step);
            }
            5 => {
                let other = one_of(rng, &steps).id.clone();
                let mut step = (*step).clone();
                step.depends_on.push(other);
                steps[place] = Arc::new(step);
            }
            6 => steps.push(Arc::new(maker.step(rng, &self.fresh_id(), &[&StepId::new("nobody")]))),
            7 => steps.push(Arc::new(Step::new(self.fresh_id(), "rm"))),
            8 => steps.push(Arc::new(Step::new("a b/c", "look"))),
            9 => steps.push(Arc::new(Step::new(self.fresh_id(), "look").args(json!("${broken")))),
            10 => {
                let plan = plan_of(steps).answer("nobody");
                return Ok(Revision::Plan(plan));
            }
            11 => return Ok(Revision::Patch(Patch::default())),
            12 => return Ok(Revision::Patch(Patch { drop: vec![StepId::new("nobody")], ..Patch::default() })),
            13 => return Ok(Revision::Unusable(Vec::new())),
            _ => {
                let patch = Patch { add: vec![step], drop: vec![one_of(rng, &steps).id.clone()], ..Patch::default() };
                return Ok(Revision::Patch(patch));
            }
        }
        Ok(Revision::Plan(plan_of(steps)))
    }
}

fn failed_ids(request: &RequestPlan, scheduler: &Scheduler) -> Vec<StepId> {
    request.failures.iter().filter_map(|&number| scheduler.step(number)).map(|step| step.id.clone()).collect()
}

/// Sends the steps one by one; sometimes not all of them, not in order, or not to the end.
fn stream(rng: &mut Rng, plan: Plan) -> Reply {
    let mut streamed = plan.steps.clone();
    let mut answer = Ok(Revision::Plan(plan));
    match rng.u8(0..6) {
        0 => rng.shuffle(&mut streamed),
        1 => streamed.truncate(streamed.len() / 2),
        2 => {
            streamed.truncate(streamed.len() / 2);
            answer = Err(PlanError::Truncated { message: "cut off".into() });
        }
        3 => {
            streamed.truncate(streamed.len() / 2);
            answer = Ok(put_off(rng));
        }
        _ => {}
    }
    Reply { streamed, answer }
}

/// Somebody is busy, and wants to be asked later.
fn put_off(rng: &mut Rng) -> Revision {
    Revision::PutOff { error: PlanError::Planner { message: "busy".into() }, pause_ms: rng.u64(0..200) }
}

fn plan_of(steps: Vec<Arc<Step>>) -> Plan {
    Plan { steps, ..Plan::default() }
}

/// The plan that a patch makes of another, as its author means it.
fn patched(steps: &[Arc<Step>], patch: &Patch) -> Vec<Arc<Step>> {
    let mut steps: Vec<Arc<Step>> = steps.iter().filter(|step| !patch.drop.contains(&step.id)).cloned().collect();
    for step in &mut steps {
        if let Some(changed) = patch.change.iter().find(|changed| changed.id == step.id) {
            *step = Arc::clone(changed);
        }
    }
    steps.extend(patch.add.iter().cloned());
    steps
}

fn patch_between(before: &[Arc<Step>], after: &[Arc<Step>]) -> Option<Patch> {
    let old: BTreeMap<&StepId, &Arc<Step>> = before.iter().map(|step| (&step.id, step)).collect();
    let new: BTreeSet<&StepId> = after.iter().map(|step| &step.id).collect();
    let mut patch = Patch::default();
    for step in after {
        match old.get(&step.id) {
            None => patch.add.push(Arc::clone(step)),
            Some(other) if *other != step => patch.change.push(Arc::clone(step)),
            Some(_) => {}
        }
    }
    patch.drop = before.iter().map(|step| step.id.clone()).filter(|id| !new.contains(id)).collect();
    (!patch.add.is_empty() || !patch.change.is_empty() || !patch.drop.is_empty()).then_some(patch)
}

/// Takes a step out, and everything that would be left without it.
fn drop_below(steps: &mut Vec<Arc<Step>>, id: &StepId) {
    let mut gone = BTreeSet::from([id.clone()]);
    loop {
        let before = gone.len();
        for step in steps.iter() {
            if super::check::plan::dependencies(step).iter().any(|dependency| gone.contains(dependency)) {
                gone.insert(step.id.clone());
            }
        }
        if gone.len() == before {
            break;
        }
    }
    steps.retain(|step| !gone.contains(&step.id));
}

fn with_dependency_renamed(step: &Step, old: &StepId, new: &StepId) -> Option<Step> {
    if !super::check::plan::dependencies(step).contains(old) {
        return None;
    }
    let mut step = step.clone();
    for dependency in &mut step.depends_on {
        if dependency == old {
            *dependency = new.clone();
        }
    }
    let rename = |text: &str| {
        text.replace(&format!("${{{old}}}"), &format!("${{{new}}}"))
            .replace(&format!("${{{old}."), &format!("${{{new}."))
    };
    step.args = serde_json::from_str(&rename(&step.args.to_string())).expect("renaming keeps it JSON");
    step.when = step.when.map(|when| rename(&when).into());
    Some(step)
}
