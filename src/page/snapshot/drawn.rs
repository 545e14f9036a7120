//! Which steps are drawn, and where.
//!
//! A step that was run anew is drawn where it was: a box stands for an id. Steps that no plan has any more are drawn if
//! they have run, since what they did is part of the story.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::event::{RunEventKind, StepNumber};
use crate::history::History;
use crate::report::{Growth, Layout};

use super::StepEntry;
use super::gather::newest;

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

/// A line from a step to one that depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrawnEdge {
    /// Where it begins.
    pub from: StepNumber,
    /// Where it ends.
    pub to: StepNumber,
    /// Its course, as the `d` of an SVG path.
    pub path: String,
}

/// The picture with everything folded that is finished, and the whole one if that is another.
pub(super) fn drawings(history: &History, steps: &[StepEntry]) -> (Drawing, Option<Drawing>) {
    let is_finished = |step: &StepEntry| step.state == "succeeded";
    let folded = Picture::new(history, steps, is_finished);
    let unfolded = (!folded.folded.is_empty()).then(|| Picture::new(history, steps, |_| false).draw());
    (folded.draw(), unfolded)
}

/// What is drawn.
struct Picture<'a> {
    steps: &'a [StepEntry],
    growth: Growth,
    /// The step of each box.
    boxes: Vec<StepNumber>,
    /// How many steps are folded into each one that has any.
    folded: BTreeMap<StepNumber, usize>,
    is_shown: Vec<bool>,
}

impl<'a> Picture<'a> {
    fn new(history: &History, steps: &'a [StepEntry], folds: impl Fn(&StepEntry) -> bool) -> Self {
        let newest = newest(steps);
        let mut folded = BTreeMap::new();
        // The step that each one is folded into. A parent has a lower number than its children.
        let mut inside: Vec<Option<StepNumber>> = Vec::with_capacity(steps.len());
        for step in steps {
            let parent = step.parent.map(|parent| parent as usize);
            let into = parent
                .and_then(|parent| inside[parent].or_else(|| folds(&steps[parent]).then_some(parent as StepNumber)));
            inside.push(into);
            if let Some(into) = into {
                *folded.entry(into).or_default() += 1;
            }
        }
        let is_newest = |step: &StepEntry| newest.get(step.id.as_str()) == Some(&step.number);
        let is_shown: Vec<bool> = steps
            .iter()
            .zip(&inside)
            .map(|(step, inside)| inside.is_none() && is_newest(step) && (step.member || !step.calls.is_empty()))
            .collect();
        let ids = ids(history, steps);
        let box_of: HashMap<&str, usize> = ids.iter().copied().zip(0..).collect();
        let boxes: Vec<StepNumber> = ids.iter().map(|id| newest[id]).collect();
        let mut picture = Self { steps, growth: Growth::default(), boxes, folded, is_shown };
        let first = first_plan(history);
        picture.growth.first = picture
            .first_boxes(&ids, &first)
            .into_iter()
            .map(|before| {
                before.iter().filter_map(|step| box_of.get(steps[*step as usize].id.as_str()).copied()).collect()
            })
            .collect();
        let before = picture.before();
        picture.growth.now = picture
            .boxes
            .iter()
            .map(|&number| {
                let drawn = |step: &StepNumber| box_of.get(steps[*step as usize].id.as_str()).copied();
                picture.is_shown[number as usize].then(|| before[number as usize].iter().filter_map(drawn).collect())
            })
            .collect();
        picture
    }

    /// What each box of the first plan depended on then.
    fn first_boxes(&self, ids: &[&str], first: &[StepNumber]) -> Vec<Vec<StepNumber>> {
        let of_id: HashMap<&str, StepNumber> =
            first.iter().map(|&number| (self.steps[number as usize].id.as_str(), number)).collect();
        ids.iter().map_while(|id| of_id.get(id)).map(|&number| self.steps[number as usize].after.clone()).collect()
    }

    /// The steps that lines lead from to each shown step. Whoever waits for a step that became a plan waits for the last
    /// steps of that, and its first ones come after the step.
    fn before(&self) -> Vec<Vec<StepNumber>> {
        let mut children: BTreeMap<StepNumber, Vec<StepNumber>> = BTreeMap::new();
        for step in self.steps.iter().filter(|step| self.is_shown[step.number as usize]) {
            if let Some(parent) = step.parent {
                children.entry(parent).or_default().push(step.number);
            }
        }
        let mut ends: Vec<Vec<StepNumber>> = (0..self.steps.len() as StepNumber).map(|number| vec![number]).collect();
        for (&parent, children) in children.iter().rev() {
            let waited_for: HashSet<StepNumber> =
                children.iter().flat_map(|child| &self.steps[*child as usize].after).copied().collect();
            let last = children.iter().filter(|child| !waited_for.contains(child));
            ends[parent as usize] = last.flat_map(|child| ends[*child as usize].clone()).collect();
        }
        let is_shown = |step: &StepNumber| self.is_shown[*step as usize];
        self.steps
            .iter()
            .map(|step| {
                let earlier = step.after.iter().flat_map(|before| &ends[*before as usize]).copied().filter(is_shown);
                let mut before: Vec<StepNumber> = earlier.collect();
                before.extend(step.parent.filter(|_| step.after.is_empty()).filter(is_shown));
                before.sort_unstable();
                before.dedup();
                before
            })
            .collect()
    }

    fn draw(&self) -> Drawing {
        let layout = Layout::grown(&self.growth);
        let mut steps: Vec<DrawnStep> = self
            .boxes
            .iter()
            .zip(&layout.places)
            .filter_map(|(&step, place)| {
                let (x, y) = (*place)?;
                Some(DrawnStep { step, x, y, folded: self.folded.get(&step).copied().unwrap_or_default() })
            })
            .collect();
        steps.sort_by_key(|step| (step.x, step.y));
        let edges = layout.lines.into_iter().map(|line| DrawnEdge {
            from: self.boxes[line.from],
            to: self.boxes[line.to],
            path: line.path,
        });
        Drawing { width: layout.width, height: layout.height, steps, edges: edges.collect() }
    }
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

/// All ids, those of the first plan first.
fn ids<'a>(history: &History, steps: &'a [StepEntry]) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let first = first_plan(history).into_iter().filter_map(|number| steps.get(number as usize));
    first.chain(steps).map(|step| step.id.as_str()).filter(|id| seen.insert(*id)).collect()
}
