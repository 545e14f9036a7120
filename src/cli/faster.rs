//! What would make a run faster, for people and for programs.

use plandag::simulate::{Change, Saving, WhatIf};
use serde_json::{Value, json};

use super::duration::human;
use super::ndjson::exact_millis;
use super::prediction::counted;
use super::style::{self, paint};
use super::text;

/// Savings that are told.
const MOST_SAVINGS: usize = 3;
/// Savings below this share of the run are not worth a word.
const NOTEWORTHY: f64 = 0.01;

/// The lines about it, each with its heading.
pub(crate) fn lines(what_if: &WhatIf) -> Vec<String> {
    let is_noteworthy = |saving: &&Saving| is_noteworthy(saving, what_if);
    let is_dependency = |saving: &&Saving| matches!(saving.change, Change::Independent { .. });
    // Whether more slots would help is worth knowing also where they would not.
    let is_slots = |saving: &&Saving| matches!(saving.change, Change::Slots { .. });
    let told =
        what_if.savings.iter().filter(is_noteworthy).filter(|saving| !is_dependency(saving) && !is_slots(saving));
    let told = told.take(MOST_SAVINGS).chain(what_if.savings.iter().filter(is_slots));
    let told: Vec<String> = told.map(|saving| format!("{}: -{}", words(&saving.change), human(saving.saves))).collect();
    let mut lines = Vec::new();
    if !told.is_empty() {
        lines.push(format!("{}  {}", paint(style::FAINT, "to go faster"), told.join("   ")));
    }
    for saving in what_if.savings.iter().filter(is_dependency).filter(is_noteworthy).take(MOST_SAVINGS) {
        let heading = paint(style::FAINT, "unnecessary?");
        lines.push(format!("{heading}  {}, costs {}", words(&saving.change), human(saving.saves)));
    }
    if what_if.untried > 0 {
        let more = if what_if.savings.is_empty() { "change" } else { "other change" };
        let why = "with so many steps, only those that promise most are simulated";
        let why = if what_if.savings.is_empty() { "the run has too many steps to be simulated again" } else { why };
        lines.push(format!("{}  {}: {why}", paint(style::FAINT, "not tried"), counted(what_if.untried, more)));
    }
    lines
}

/// The line about what saves most, if there is something that saves anything.
pub(crate) fn best(what_if: WhatIf) -> Vec<String> {
    let untried = if what_if.savings.is_empty() { what_if.untried } else { 0 };
    let best = what_if.savings.iter().find(|saving| is_noteworthy(saving, &what_if)).cloned();
    lines(&WhatIf { savings: best.into_iter().collect(), untried, ..what_if })
}

fn is_noteworthy(saving: &Saving, what_if: &WhatIf) -> bool {
    !saving.saves.is_zero() && saving.saves >= what_if.makespan.mul_f64(NOTEWORTHY)
}

fn words(change: &Change) -> String {
    text::line(&change.to_string()).into_owned()
}

/// What saves most.
pub(crate) fn fields(what_if: &WhatIf) -> Value {
    let field = |saving: &Saving| {
        let saves = exact_millis(saving.saves);
        match &saving.change {
            Change::Halve { step } => json!({ "change": "halve", "step": step, "saves_ms": saves }),
            Change::Slots { from, to } => json!({ "change": "slots", "from": from, "to": to, "saves_ms": saves }),
            Change::Pool { pool, from, to } => {
                json!({ "change": "pool", "pool": pool, "from": from, "to": to, "saves_ms": saves })
            }
            Change::Independent { step, dependency } => {
                json!({ "change": "independent", "step": step, "dependency": dependency, "saves_ms": saves })
            }
            _ => Value::Null,
        }
    };
    what_if.savings.iter().map(field).collect()
}
