//! The picture of the steps in a page: its boxes can be chosen, and change with their steps.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::event::StepNumber;
use crate::report::{BOX_HEIGHT, BOX_WIDTH, Escaped, HATCHED, HATCHING, Labelled, fitting, svg};

use super::words::sign;
use super::{Drawing, Snapshot, StepEntry, words};

/// Characters of a step's id that fit into its box.
const ID_CHARS: usize = 21;
/// Characters of what is below it.
const DETAIL_CHARS: usize = 26;
/// Steps that a step waits for, of which the names are read out.
const SPOKEN_STEPS: usize = 8;

/// The picture as an `svg` element.
pub(super) fn picture(snapshot: &Snapshot) -> String {
    let Drawing { width, height, steps, edges } = &snapshot.layout;
    let joints: HashSet<(StepNumber, StepNumber)> =
        snapshot.critical.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let critical: HashSet<StepNumber> = snapshot.critical.iter().copied().collect();
    let mut html = format!(
        "<svg id=\"dag\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" \
         aria-label=\"Graph of the steps; the table below says the same\">{HATCHING}<g id=\"edges\" aria-hidden=\"true\">"
    );
    for edge in edges {
        let class = if joints.contains(&(edge.from, edge.to)) { "edge critical" } else { "edge" };
        let _ = write!(
            html,
            "<path class=\"{class}\" data-from=\"{}\" data-to=\"{}\" d=\"{}\"/>",
            edge.from, edge.to, edge.path
        );
    }
    html.push_str("</g><g id=\"boxes\">");
    for (index, drawn) in steps.iter().enumerate() {
        let step = &snapshot.steps[drawn.step as usize];
        let class = classes(step, critical.contains(&drawn.step));
        let hatching = step.outside.as_ref().map_or("", |_| HATCHED);
        let (id, detail) = (fitting(step.id.as_str(), ID_CHARS), fitting(&detail(step, drawn.folded), DETAIL_CHARS));
        let _ = write!(
            html,
            "<g class=\"{class}\" data-step=\"{}\" transform=\"translate({} {})\" role=\"button\" tabindex=\"{}\" \
             aria-pressed=\"false\" aria-label=\"{}\"><rect class=\"box\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\"/>\
             {hatching}<text class=\"sign\" x=\"11\" y=\"16\">{}</text> <text class=\"id\" x=\"28\" y=\"16\">{}</text> \
             <text class=\"detail\" x=\"28\" y=\"30\">{}</text></g>",
            drawn.step,
            drawn.x,
            drawn.y,
            if index == 0 { 0 } else { -1 },
            Escaped(spoken(snapshot, step, &id, &detail)),
            sign(step.state),
            Escaped(&id),
            Escaped(&detail),
        );
    }
    html.push_str("</g></svg>");
    html
}

/// The run as an SVG picture of its own, the critical path marked: what finished steps had expanded to is folded.
pub fn svg_of(snapshot: &Snapshot) -> String {
    let Drawing { width, height, steps, edges } = &snapshot.layout;
    let joints: HashSet<(StepNumber, StepNumber)> =
        snapshot.critical.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let boxes = steps.iter().map(|drawn| {
        let step = &snapshot.steps[drawn.step as usize];
        let detail = format!("{} {}", sign(step.state), detail(step, drawn.folded));
        let critical = snapshot.critical.contains(&drawn.step);
        let failed = step.state == "failed";
        let outside = step.outside.is_some();
        Labelled { place: (drawn.x, drawn.y), name: step.id.as_str(), detail, critical, failed, outside }
    });
    let lines = edges.iter().map(|edge| (edge.path.as_str(), joints.contains(&(edge.from, edge.to))));
    svg((*width, *height), &format!("Run {}: {}", snapshot.head.run, snapshot.head.objective), boxes, lines)
}

/// The classes of whatever stands for a step.
pub(super) fn classes(step: &StepEntry, is_critical: bool) -> String {
    let mut classes = format!("step {}", step.state);
    for (is, class) in [(is_critical, " critical"), (!step.member, " past"), (step.outside.is_some(), " outside")] {
        if is {
            classes.push_str(class);
        }
    }
    classes
}

/// What stands below the id.
fn detail(step: &StepEntry, folded: usize) -> String {
    let mut detail = match step.state {
        "succeeded" => format!("{} · {}", step.tool, words::time(busy(step))),
        state => format!("{} · {state}", step.tool),
    };
    if folded > 0 {
        let _ = write!(detail, " · {folded} inside");
    }
    detail
}

/// What is read out of a box: what is to be seen in it, then the step's state, what it still waits for or came after, and
/// its whole name if there is no room for that.
fn spoken(snapshot: &Snapshot, step: &StepEntry, id: &str, detail: &str) -> String {
    let mut said = format!("{id} {detail}");
    if !detail.contains(step.state) {
        let _ = write!(said, ", {}", step.state);
    }
    let entry = |number: &StepNumber| &snapshot.steps[*number as usize];
    let waits = step.state == "waiting";
    let before: Vec<&str> = step
        .after
        .iter()
        .map(entry)
        .filter(|earlier| !waits || !words::is_over(earlier.state))
        .map(|earlier| earlier.id.as_str())
        .collect();
    if !before.is_empty() {
        let word = if waits { "waits for" } else { "after" };
        let _ = write!(said, ", {word} {}", before[..before.len().min(SPOKEN_STEPS)].join(", "));
    }
    if before.len() > SPOKEN_STEPS {
        let _ = write!(said, " and {} more", before.len() - SPOKEN_STEPS);
    }
    if step.outside.is_some() {
        said.push_str(", text from outside reaches it");
    }
    if step.id != id {
        let _ = write!(said, ", in full {}", step.id);
    }
    said
}

/// How long the step's tool ran, as far as that is over.
pub(super) fn busy(step: &StepEntry) -> u64 {
    let took = step.calls.iter().filter_map(|call| Some(call.ended_us? - call.started_us.min(call.ended_us?)));
    took.fold(0, u64::saturating_add)
}
