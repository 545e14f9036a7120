//! A revision of a plan, as its difference to the one before.

use std::collections::HashSet;

use plandag::counted;
use plandag::{Graft, StepNumber};

use super::ledger::{Ledger, State};
use super::progress::some_of;
use super::style::{self, paint};
use super::text;

/// The lines of a difference: what is kept (`=`), dropped (`-`), new (`+`) and changed (`~`).
pub(crate) fn difference(graft: &Graft, ledger: &Ledger) -> Vec<String> {
    let added = graft.first..graft.first + graft.added.len() as StepNumber;
    let gone: Vec<StepNumber> = graft.closed.iter().chain(&graft.left).copied().collect();
    let gone_ids: HashSet<&str> = gone.iter().map(|&number| ledger.id(number)).collect();
    let added_ids: HashSet<&str> = added.clone().map(|number| ledger.id(number)).collect();
    let kept = (0..graft.first).zip(ledger.steps()).filter(|(_, entry)| {
        // Results of an expansion belong to the step that was expanded.
        entry.is_member && entry.state == State::Succeeded && entry.scope.is_none()
    });

    let mut lines = Vec::new();
    let mut line = |style, sign: &str, what: &str| lines.push(format!("     {} {what}", paint(style, sign)));
    match kept.count() {
        0 => {}
        kept => line(style::FAINT, "=", &format!("{} kept", counted(kept, "result"))),
    }
    for id in gone.iter().map(|&number| ledger.id(number)).filter(|id| !added_ids.contains(id)) {
        line(style::ERROR, "-", &text::line(id));
    }
    for number in added {
        let Some(entry) = ledger.step(number) else { continue };
        let (style, sign) = match gone_ids.contains(entry.id.as_str()) {
            true => (style::RETRY, "~"),
            false => (style::GOOD, "+"),
        };
        let after: Vec<String> = entry.dependencies.iter().map(|&on| text::line(ledger.id(on)).into_owned()).collect();
        let after = if after.is_empty() { "-".to_owned() } else { some_of(&after) };
        let tool = text::line(entry.tool.as_deref().unwrap_or_default()).into_owned();
        line(
            style,
            sign,
            &format!("{}  {}", text::line(entry.id.as_str()), paint(style::FAINT, &format!("{tool}  after: {after}"))),
        );
    }
    lines
}
