//! Which steps are drawn, and where.
//!
//! A step that was run anew is drawn where it was: a box stands for an id. Steps that no plan has any more are drawn if
//! they have run, since what they did is part of the story.
//!
//! The graph is followed from the first plan through all that changed it, so that whoever looks at the run while it goes
//! on sees move only what a change moves, and whoever comes later sees everything in the same place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::event::{Graft, RunEvent, RunEventKind, StepNumber};
use crate::history::History;
use crate::report::{BOX_HEIGHT, BOX_WIDTH, Layout};

use super::StepEntry;

/// Of very many changes to very many steps the first ones are followed, and the rest are taken as one.
const MOST_WORK: usize = 400_000;
/// Where more lines than these would lead from what a step became to what waits for it, they all meet on their way: in a
/// junction, which is a line as long as a box.
const MOST_WRITTEN_OUT: usize = 256;

/// A picture of the steps of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Drawing {
    /// How wide it is.
    pub width: u32,
    /// How high it is.
    pub height: u32,
    /// Its boxes, in an order in which each comes after what it depends on.
    pub steps: Vec<DrawnStep>,
    /// Its lines.
    pub edges: Vec<DrawnEdge>,
}

/// The box of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrawnStep {
    /// The step.
    pub step: StepNumber,
    /// How far to the right its left side is.
    pub x: u32,
    /// How far down its upper side is.
    pub y: u32,
    /// How many steps of its expansion are folded into it.
    pub folded: usize,
}

/// A line from a step to one that depends on it, or a part of one where very many meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrawnEdge {
    /// Where it begins. Where lines meet, the step whose end is waited for.
    pub from: StepNumber,
    /// Where it ends; the same there.
    pub to: StepNumber,
    /// Its course, as the `d` of an SVG path.
    pub path: String,
}

/// The picture with everything folded that is finished, and the whole one if that is another.
/// `order` has each step after the one whose expansion it is part of.
pub(super) fn drawings(history: &History, steps: &[StepEntry], order: &[StepNumber]) -> (Drawing, Option<Drawing>) {
    let picture = Picture::new(history, steps, order);
    let folded = picture.draw(true);
    let has_folds = folded.steps.iter().any(|step| step.folded > 0);
    (folded, has_folds.then(|| picture.draw(false)))
}

/// What could be drawn.
struct Picture<'a> {
    history: &'a History,
    steps: &'a [StepEntry],
    /// All steps, each after the one whose expansion it is part of.
    order: &'a [StepNumber],
    first: Vec<StepNumber>,
    /// The box of each step.
    box_of: Vec<usize>,
    boxes: usize,
    /// The steps that became a plan. The lines from what they became may meet: such a junction takes up a place like a box,
    /// after all boxes.
    parents: Vec<StepNumber>,
}

/// What is known of the steps at some moment, by number.
#[derive(Clone, Default)]
struct Moment {
    /// Whether it is part of the plan.
    member: Vec<bool>,
    started: Vec<bool>,
    /// Whether it is done, what it has become included.
    finished: Vec<bool>,
    /// The steps that became a plan.
    expanded: HashSet<StepNumber>,
}

/// What is drawn at some moment.
struct Shown {
    /// The step that each box stands for, if it is drawn.
    steps: Vec<Option<StepNumber>>,
    /// What each box depends on.
    graph: Vec<Option<Vec<usize>>>,
    /// How many steps are folded into each one that has any.
    folded: BTreeMap<StepNumber, usize>,
}

impl<'a> Picture<'a> {
    fn new(history: &'a History, steps: &'a [StepEntry], order: &'a [StepNumber]) -> Self {
        let first: Vec<StepNumber> =
            first_plan(history).into_iter().filter(|number| (*number as usize) < steps.len()).collect();
        // Those of the first plan come first.
        let mut boxes: HashMap<&str, usize> = HashMap::new();
        for number in first.iter().copied().chain(0..steps.len() as StepNumber) {
            let next = boxes.len();
            boxes.entry(steps[number as usize].id.as_str()).or_insert(next);
        }
        let box_of = steps.iter().map(|step| boxes[step.id.as_str()]).collect();
        let parents: BTreeSet<StepNumber> = steps.iter().filter_map(|step| step.parent).collect();
        Self { history, steps, order, first, box_of, boxes: boxes.len(), parents: parents.into_iter().collect() }
    }

    fn draw(&self, folds: bool) -> Drawing {
        let last = self.shown(&Moment::of(self.steps), folds);
        let first: Vec<Vec<usize>> = self.first_boxes();
        let moments = self.moments().map(|moment| self.shown(&moment, folds).graph);
        let changes = moments.take(MOST_WORK / self.steps.len().max(1)).chain([last.graph]);
        let layout = Layout::grown(&first, self.boxes + self.parents.len(), changes);
        let mut steps: Vec<DrawnStep> = last
            .steps
            .iter()
            .zip(&layout.places)
            .filter_map(|(step, place)| {
                let (step, (x, y)) = ((*step)?, (*place)?);
                Some(DrawnStep { step, x, y, folded: last.folded.get(&step).copied().unwrap_or_default() })
            })
            .collect();
        steps.sort_by_key(|step| (step.x, step.y));
        let junctions = self.parents.iter().zip(&layout.places[self.boxes..]).filter_map(|(&step, place)| {
            let (x, y) = (*place)?;
            Some(DrawnEdge { from: step, to: step, path: format!("M{x} {}H{}", y + BOX_HEIGHT / 2, x + BOX_WIDTH) })
        });
        let end = |place: usize| match place.checked_sub(self.boxes) {
            Some(junction) => Some(self.parents[junction]),
            None => last.steps[place],
        };
        let lines = layout
            .lines
            .into_iter()
            .filter_map(|line| Some(DrawnEdge { from: end(line.from)?, to: end(line.to)?, path: line.path }));
        let edges = lines.chain(junctions).collect();
        Drawing { width: layout.width, height: layout.height, edges, steps }
    }

    /// What each box of the first plan depended on then.
    fn first_boxes(&self) -> Vec<Vec<usize>> {
        let box_of = |number: &StepNumber| self.box_of[*number as usize];
        let mut boxes = vec![Vec::new(); self.first.iter().map(|number| box_of(number) + 1).max().unwrap_or_default()];
        let count = boxes.len();
        for number in &self.first {
            let before = self.steps[*number as usize].after.iter().map(box_of);
            boxes[box_of(number)] = before.filter(|earlier| *earlier < count).collect();
        }
        boxes
    }

    /// The run after each event that may have changed what is drawn, from the first plan on.
    fn moments(&self) -> impl Iterator<Item = Moment> {
        let events = self.history.events().iter().skip_while(|event| !is_plan(event));
        let before = self.history.events().iter().take_while(|event| !is_plan(event));
        let mut moment = Moment::default();
        for event in before {
            moment.take(event);
        }
        events.filter_map(move |event| if moment.take(event) { Some(moment.clone()) } else { None })
    }

    /// What is drawn at some moment: with everything folded that is finished, or with nothing.
    fn shown(&self, moment: &Moment, folds: bool) -> Shown {
        let known = moment.member.len().min(self.steps.len());
        let graph = vec![None; self.boxes + self.parents.len()];
        let mut shown = Shown { steps: vec![None; self.boxes], graph, folded: BTreeMap::new() };
        // The step that each one is folded into. Before a fork took it over, that is one which is not known yet.
        let mut inside: Vec<Option<StepNumber>> = vec![None; known];
        for &number in self.order.iter().filter(|number| (**number as usize) < known) {
            let parent = self.steps[number as usize].parent.filter(|parent| folds && (*parent as usize) < known);
            let into = parent.and_then(|parent| {
                inside[parent as usize].or_else(|| moment.finished[parent as usize].then_some(parent))
            });
            inside[number as usize] = into;
            if let Some(into) = into {
                *shown.folded.entry(into).or_default() += 1;
            }
        }
        // What an id stands for is in the plan, or else has run. A result that was taken up again is older than what had
        // replaced it.
        let rank = |number: &StepNumber| {
            let (is_member, has_run) = (moment.member[*number as usize], moment.started[*number as usize]);
            (is_member, is_member || has_run, *number)
        };
        for number in 0..known as StepNumber {
            let newest = &mut shown.steps[self.box_of[number as usize]];
            *newest = newest.iter().copied().chain([number]).max_by_key(rank);
        }
        for newest in &mut shown.steps {
            *newest = newest.filter(|number| inside[*number as usize].is_none() && rank(number).1);
        }
        for (place, before) in self.before(&shown) {
            shown.graph[place] = Some(before);
        }
        shown
    }

    /// The places that lines lead from to each box that is drawn, and to each junction. Whoever waits for a step that
    /// became a plan waits for the last steps of that, and its first ones come after the step.
    fn before(&self, shown: &Shown) -> Vec<(usize, Vec<usize>)> {
        let is_drawn = |number: StepNumber| shown.steps[self.box_of[number as usize]] == Some(number);
        let mut drawn: Vec<StepNumber> = shown.steps.iter().copied().flatten().collect();
        drawn.sort_unstable();
        let mut children: HashMap<StepNumber, Vec<StepNumber>> = HashMap::new();
        for &number in &drawn {
            if let Some(parent) = self.steps[number as usize].parent {
                children.entry(parent).or_default().push(number);
            }
        }
        let mut dependents: HashMap<StepNumber, usize> = HashMap::new();
        for before in drawn.iter().flat_map(|number| &self.steps[*number as usize].after) {
            *dependents.entry(*before).or_default() += 1;
        }
        let own = |step: StepNumber| is_drawn(step).then(|| self.box_of[step as usize]);
        let mut ends: HashMap<StepNumber, Vec<usize>> = HashMap::new();
        let end = |ends: &HashMap<StepNumber, Vec<usize>>, step: StepNumber| {
            ends.get(&step).cloned().unwrap_or_else(|| own(step).into_iter().collect())
        };
        let mut all = Vec::with_capacity(drawn.len());
        // The inner ones first: where they end, what they are part of may end.
        for (parent, children) in self.order.iter().rev().filter_map(|step| children.get_key_value(step)) {
            let waited_for: HashSet<StepNumber> =
                children.iter().flat_map(|child| &self.steps[*child as usize].after).copied().collect();
            let last = children.iter().filter(|child| !waited_for.contains(child));
            let mut last: Vec<usize> = last.flat_map(|child| end(&ends, *child)).collect();
            let dependents = dependents.get(parent).copied().unwrap_or_default();
            if last.len().min(dependents) > 1
                && last.len() * dependents > MOST_WRITTEN_OUT
                && let Ok(junction) = self.parents.binary_search(parent)
            {
                let junction = self.boxes + junction;
                all.push((junction, std::mem::replace(&mut last, vec![junction])));
            }
            ends.insert(*parent, last);
        }
        let before = |number: StepNumber| {
            let step = &self.steps[number as usize];
            let earlier = step.after.iter().flat_map(|before| end(&ends, *before));
            let parent = step.parent.filter(|_| step.after.is_empty()).and_then(own);
            let mut before: Vec<usize> = earlier.chain(parent).collect();
            before.sort_unstable();
            before.dedup();
            before
        };
        all.extend(drawn.iter().map(|&number| (self.box_of[number as usize], before(number))));
        all
    }
}

impl Moment {
    /// As it is now.
    fn of(steps: &[StepEntry]) -> Self {
        Self {
            member: steps.iter().map(|step| step.member).collect(),
            started: steps.iter().map(|step| !step.calls.is_empty()).collect(),
            finished: steps.iter().map(|step| step.state == "succeeded").collect(),
            expanded: HashSet::new(),
        }
    }

    /// Takes up an event, and says whether something else may have to be drawn then.
    fn take(&mut self, event: &RunEvent) -> bool {
        match &event.kind {
            RunEventKind::StepDrafted { graft, .. } | RunEventKind::PlanAccepted { graft, .. } => self.graft(graft),
            RunEventKind::StepExpanded { graft, .. } => self.graft(graft),
            RunEventKind::PlanRejected { rejection, .. } => {
                rejection.closed.iter().chain(&rejection.left).for_each(|step| set(&mut self.member, *step, false));
                return !rejection.closed.is_empty() || !rejection.left.is_empty();
            }
            RunEventKind::AttemptStarted { step, .. } => {
                set(&mut self.started, *step, true);
                return false;
            }
            RunEventKind::StepSucceeded { step, .. } => {
                set(&mut self.finished, *step, true);
                return self.expanded.contains(step);
            }
            _ => return false,
        }
        true
    }

    fn graft(&mut self, graft: &Graft) {
        let count = graft.first as usize + graft.added.len();
        for (flags, new) in [(&mut self.member, true), (&mut self.started, false), (&mut self.finished, false)] {
            flags.resize(flags.len().max(count), new);
        }
        graft.joined.iter().for_each(|step| set(&mut self.member, *step, true));
        graft.closed.iter().chain(&graft.left).for_each(|step| set(&mut self.member, *step, false));
        self.expanded.extend(graft.scope);
    }
}

fn set(flags: &mut [bool], step: StepNumber, to: bool) {
    if let Some(flag) = flags.get_mut(step as usize) {
        *flag = to;
    }
}

fn is_plan(event: &RunEvent) -> bool {
    matches!(event.kind, RunEventKind::PlanAccepted { .. })
}

/// The steps of the first plan.
fn first_plan(history: &History) -> Vec<StepNumber> {
    let mut steps = Vec::new();
    for event in history.events() {
        match &event.kind {
            RunEventKind::StepDrafted { graft, .. } => steps.extend((graft.first..).take(graft.added.len())),
            RunEventKind::PlanAccepted { graft, .. } => {
                steps.extend((graft.first..).take(graft.added.len()));
                break;
            }
            _ => {}
        }
    }
    steps
}
