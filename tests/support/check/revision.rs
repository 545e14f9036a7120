//! What a revision must lead to, worked out from the rules and the checker's own books.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plandag::{Patch, Plan, Revision, Step, StepId, StepNumber};

use super::books::{Books, State};
use super::plan::{dependencies, is_usable, same_content, topological_order};

/// What must come of a revision.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It must be rejected, for this reason among others.
    Bad(String),
    /// The rules leave it open.
    Unclear,
    /// It must be accepted, with these steps.
    Good(BTreeMap<StepId, (Fate, Arc<Step>)>),
}

/// What must become of a step that a revision lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on under the number it has.
    Kept(StepNumber),
    /// It is a new step.
    New,
    /// The rules leave it open.
    Either,
}

/// A revision as a full list of steps.
struct Listing {
    steps: BTreeMap<StepId, Arc<Step>>,
    answer: Option<StepId>,
    /// Failures that the planner knows of and that its patch says nothing about.
    given_up: BTreeSet<StepId>,
}

/// Judges a revision of the root plan.
pub fn judge(books: &Books, revision: &Revision) -> Verdict {
    let listing = match revision {
        Revision::Plan(plan) => list_plan(books, plan),
        Revision::Patch(patch) => list_patch(books, patch),
        Revision::Answer(_) | Revision::Declined | Revision::Unusable(_) | Revision::PutOff { .. } => {
            return Verdict::Unclear;
        }
    };
    match listing.and_then(|listing| judge_listing(books, listing)) {
        Ok(fates) => Verdict::Good(fates),
        Err(verdict) => verdict,
    }
}

fn bad<T>(reason: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Bad(reason.into()))
}

fn list_plan(books: &Books, plan: &Plan) -> Result<Listing, Verdict> {
    if plan.steps.is_empty() {
        return bad("it has no steps");
    }
    let mut steps = BTreeMap::new();
    let mut pools = books.pools.clone();
    for (pool, size) in &plan.pools {
        pools.entry(pool.clone()).or_insert(*size);
    }
    for step in &plan.steps {
        if steps.insert(step.id.clone(), Arc::clone(step)).is_some() {
            return bad(format!("`{}` is there twice", step.id));
        }
        if !is_usable(&books.start, &pools, step) {
            return bad(format!("`{}` cannot be done", step.id));
        }
    }
    Ok(Listing { steps, answer: plan.answer.clone(), given_up: BTreeSet::new() })
}

fn list_patch(books: &Books, patch: &Patch) -> Result<Listing, Verdict> {
    if patch.add.is_empty() && patch.change.is_empty() && patch.drop.is_empty() {
        return if patch.answer.is_none() { bad("it changes nothing") } else { Err(Verdict::Unclear) };
    }
    let mut steps = BTreeMap::new();
    for number in books.children(None) {
        let step = books.step(number);
        if step.draft {
            return Err(Verdict::Unclear);
        }
        steps.insert(step.id.clone(), Arc::clone(&step.definition));
    }
    let members: BTreeSet<StepId> = steps.keys().cloned().collect();
    let mut mentioned = BTreeSet::new();
    for id in &patch.drop {
        if !members.contains(id) {
            return bad(format!("it drops `{id}`, which is not there"));
        }
        if steps.remove(id).is_none() {
            return Err(Verdict::Unclear);
        }
    }
    for step in &patch.change {
        if !members.contains(&step.id) {
            return bad(format!("it changes `{}`, which is not there", step.id));
        }
        if !steps.contains_key(&step.id) || !mentioned.insert(step.id.clone()) {
            return Err(Verdict::Unclear);
        }
        steps.insert(step.id.clone(), Arc::clone(step));
    }
    for step in &patch.add {
        if members.contains(&step.id) || !mentioned.insert(step.id.clone()) {
            return bad(format!("it adds `{}`, which is there", step.id));
        }
        steps.insert(step.id.clone(), Arc::clone(step));
    }
    if let Some(id) = mentioned.iter().find(|id| !is_usable(&books.start, &books.pools, &steps[*id])) {
        return bad(format!("`{id}` cannot be done"));
    }
    let given_up = books.children(None).map(|number| books.step(number)).filter(|step| {
        step.state == State::Failed && step.reported && !mentioned.contains(&step.id) && !patch.drop.contains(&step.id)
    });
    let given_up: BTreeSet<StepId> = given_up.map(|step| step.id.clone()).collect();
    let answer = patch.answer.clone().or_else(|| books.answer.clone().filter(|answer| !patch.drop.contains(answer)));
    steps.retain(|id, _| !given_up.contains(id));
    if steps.is_empty() {
        return bad("it leaves no steps");
    }
    Ok(Listing { steps, answer, given_up })
}

fn judge_listing(books: &Books, mut listing: Listing) -> Result<BTreeMap<StepId, (Fate, Arc<Step>)>, Verdict> {
    let needed = listing.steps.values().flat_map(|step| dependencies(step)).chain(listing.answer.clone());
    if let Some(id) = needed.into_iter().find(|id| listing.given_up.contains(id)) {
        return bad(format!("it needs `{id}`, which failed and is not mentioned"));
    }
    pull_in_facts(books, &mut listing)?;
    let needs: BTreeMap<StepId, BTreeSet<StepId>> =
        listing.steps.iter().map(|(id, step)| (id.clone(), dependencies(step))).collect();
    let declared: usize = listing.steps.values().map(|step| step.depends_on.len()).sum();
    let edges = needs.values().map(BTreeSet::len).sum::<usize>().max(declared);
    if edges > books.policy.limits.edges as usize {
        return bad("it has too many dependencies");
    }
    let Some(order) = topological_order(&needs) else { return bad("it has a cycle") };
    let mut fates = BTreeMap::new();
    for id in order {
        let fate = fate(books, &listing, &needs[&id], &fates, &id)?;
        fates.insert(id, fate);
    }
    let new = fates.values().filter(|fate| **fate == Fate::New).count();
    let either = fates.values().filter(|fate| **fate == Fate::Either).count();
    let limit = books.policy.limits.steps as usize;
    let (ended, perhaps_ended) = ended_by(books, &fates);
    let taken = books.room_taken();
    match () {
        () if listing.steps.len() > books.own_steps + limit => bad("it lists too many steps"),
        () if taken + new > limit + ended + perhaps_ended => bad("it has too many steps"),
        () if taken + new + either > limit + ended => Err(Verdict::Unclear),
        () => {
            let listed = |id: StepId, fate| {
                let step = Arc::clone(&listing.steps[&id]);
                (id, (fate, step))
            };
            Ok(fates.into_iter().map(|(id, fate)| listed(id, fate)).collect())
        }
    }
}

/// How many steps that are not over yet will be ended, and how many more may be: those that are not kept, and what they have
/// become.
fn ended_by(books: &Books, fates: &BTreeMap<StepId, Fate>) -> (usize, usize) {
    let (mut ended, mut perhaps) = (0, 0);
    for number in
        (books.own_steps as u32..books.steps.len() as u32).filter(|number| !books.step(*number).state.is_terminal())
    {
        let root = books.ancestors(number).last().copied().unwrap_or(number);
        match fates.get(&books.step(root).id) {
            Some(Fate::Kept(kept)) if *kept == root => {}
            Some(Fate::Either) => perhaps += 1,
            _ => ended += 1,
        }
    }
    (ended, perhaps)
}

/// Finished steps that are named but not listed are part of the plan again.
fn pull_in_facts(books: &Books, listing: &mut Listing) -> Result<(), Verdict> {
    let mut named: Vec<StepId> = listing.steps.values().flat_map(|step| dependencies(step)).collect();
    named.extend(listing.answer.clone());
    while let Some(id) = named.pop() {
        if listing.steps.contains_key(&id) {
            continue;
        }
        if id.as_str().contains('/') {
            return Err(Verdict::Unclear);
        }
        let Some(fact) = books.last_finished(&id) else {
            return bad(format!("it needs `{id}`, which is not there"));
        };
        let definition = Arc::clone(&books.step(fact).definition);
        named.extend(dependencies(&definition));
        listing.steps.insert(id, definition);
    }
    Ok(())
}

fn fate(
    books: &Books,
    listing: &Listing,
    needs: &BTreeSet<StepId>,
    fates: &BTreeMap<StepId, Fate>,
    id: &StepId,
) -> Result<Fate, Verdict> {
    let step = &listing.steps[id];
    let mut inputs = Some(BTreeSet::new());
    let mut unclear = false;
    let mut under_fatal = false;
    for dependency in needs {
        match fates[dependency] {
            Fate::Kept(number) => {
                under_fatal |= books.step(number).state.is_fatal();
                if let Some(inputs) = &mut inputs {
                    inputs.insert(number);
                }
            }
            Fate::New => inputs = None,
            Fate::Either => unclear = true,
        }
    }
    let fits = |number: StepNumber| {
        let known = books.step(number);
        let same_inputs = inputs
            .as_ref()
            .is_some_and(|inputs| unclear || known.dependencies.iter().copied().collect::<BTreeSet<_>>() == *inputs);
        same_content(&known.definition, step) && (same_inputs || known.is_left_out)
    };
    let kept = |number| if unclear { Fate::Either } else { Fate::Kept(number) };
    let current = books.current.get(id).copied();
    if let Some(current) = current {
        let state = &books.step(current).state;
        if *state == State::Unknown {
            return if unclear {
                Err(Verdict::Unclear)
            } else if fits(current) {
                Ok(Fate::Kept(current))
            } else {
                bad(format!("`{id}` is undecided"))
            };
        }
        if fits(current) && (!state.is_terminal() || state.is_finished()) {
            return Ok(kept(current));
        }
    }
    if let Some(finished) = books.last_finished(id)
        && fits(finished)
    {
        // A fork does again what is finished. If it fails with that, it is that failure which the planner mentions.
        let failed_again = current.filter(|current| books.step(*current).state == State::Failed && fits(*current));
        return Ok(match failed_again {
            Some(again) if books.step(again).reported => Fate::New,
            Some(again) if books.step(again).member => kept(again),
            Some(_) => Fate::Either,
            None => kept(finished),
        });
    }
    let Some(current) = current else { return Ok(Fate::New) };
    let known = books.step(current);
    match known.state {
        State::Failed if fits(current) && !known.reported && known.member => Ok(kept(current)),
        State::Failed if fits(current) && !known.reported => Ok(Fate::Either),
        State::SkippedFor(_) if fits(current) && under_fatal => Ok(kept(current)),
        State::SkippedFor(_) if fits(current) && unclear => Ok(Fate::Either),
        _ => Ok(Fate::New),
    }
}
