//! What would make a run faster, for people and for programs.

use plandag::counted;
use plandag::simulate::{Change, Saving, WhatIf};
use serde_json::{Value, json};

use super::duration::human;
use super::ndjson::exact_millis;
use super::style::{self, paint};
use super::text;

/// Savings that are told.
const MOST_SAVINGS: usize = 3;

/// The lines about it, each with its heading.
pub(crate) fn lines(what_if: &WhatIf) -> Vec<String> {
    let (faster, unnecessary) = what_if.told(MOST_SAVINGS);
    let mut lines = Vec::new();
    if !faster.is_empty() {
        let told = faster.iter().map(|saving| format!("{}: -{}", words(&saving.change), human(saving.saves)));
        let told: Vec<String> = told.collect();
        lines.push(format!("{}  {}", paint(style::FAINT, "to go faster"), told.join("   ")));
    }
    for saving in unnecessary {
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
    let best = what_if.savings.iter().find(|saving| what_if.is_noteworthy(saving)).cloned();
    lines(&WhatIf { savings: best.into_iter().collect(), untried, ..what_if })
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
