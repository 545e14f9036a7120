//! The lines a person reads while a run goes on: one for each change of state.

use std::time::Duration;

use anstyle::Style;
use plandag::counted;
use plandag::journal::RunId;
use plandag::{
    Graft, Output, PlanReason, Rejection, RunEvent, RunEventKind, RunOutcome, SkipReason, StepErrorKind, StepNumber,
    StopReason,
};
use serde_json::{Map, Value};

use super::difference::difference;
use super::duration::human;
use super::ledger::Ledger;
use super::style::{self, paint};
use super::text;

/// Ids and tools are padded to the longest seen so far, up to this, so that columns line up without jumping about.
const MOST_COLUMNS: usize = 24;
/// Longer results and errors are cut: the answer and the report have them whole.
const PREVIEW_COLUMNS: usize = 60;
/// Shorter pauses of the planner are not told.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// What stands beside the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing: each line begins with the time.
    Nothing,
    /// A person, who sees for himself when a line appears.
    Person,
    /// A picture of the run, which shows what has started.
    Picture,
}

/// Writes the lines of one run.
#[derive(Debug)]
pub(crate) struct Progress {
    beside: Beside,
    id_columns: usize,
    tool_columns: usize,
    max_replans: u32,
    /// The plan that the run began with: that of a fork is not its first.
    first_revision: u32,
}

impl Progress {
    pub(crate) fn new(beside: Beside) -> Self {
        Self { beside, id_columns: 0, tool_columns: 0, max_replans: 0, first_revision: 1 }
    }

    /// The line of an event; none if a person learns nothing from it.
    pub(crate) fn line(&mut self, event: &RunEvent, ledger: &Ledger) -> Option<String> {
        self.learn(event, ledger);
        let text = self.text(event, ledger)?;
        Some(match self.beside {
            Beside::Nothing => format!("{:>9} {text}", event.at.to_string()),
            Beside::Person | Beside::Picture => text,
        })
    }

    /// Takes up what later lines need, of an event whose own line was shown before.
    pub(crate) fn learn(&mut self, event: &RunEvent, ledger: &Ledger) {
        match &event.kind {
            RunEventKind::RunStarted { start } => self.max_replans = start.policy.max_replans,
            RunEventKind::PlanRequested { reason: PlanReason::First, revision, .. } => self.first_revision = *revision,
            RunEventKind::PlanAccepted { graft, .. } | RunEventKind::StepExpanded { graft, .. } => {
                self.measure(graft, ledger);
            }
            _ => {}
        }
    }

    fn text(&self, event: &RunEvent, ledger: &Ledger) -> Option<String> {
        match &event.kind {
            RunEventKind::PlanAccepted { revision, graft, .. } => Self::plan(*revision, graft, ledger),
            RunEventKind::PlanRequested { reason: PlanReason::Failures, revision, reported, .. } => {
                let failed = names(ledger, reported.iter().copied());
                Some(format!(
                    " {} replan {} of {}  because {failed} failed",
                    paint(style::RETRY, "⇄"),
                    revision.saturating_sub(self.first_revision),
                    self.max_replans
                ))
            }
            RunEventKind::PlanRejected { rejection, .. } => Some(rejected(rejection)),
            RunEventKind::PlanPutOff { error, retry_at, .. } => wait_line(*retry_at - event.at, &error.to_string()),
            RunEventKind::StepExpanded { step, graft, .. } => {
                let took = took(ledger);
                Some(self.step(
                    ledger,
                    *step,
                    (style::GOOD, "+"),
                    &format!("became {}{took}", counted(graft.added.len(), "step")),
                ))
            }
            RunEventKind::ApprovalRequested { step, from } => {
                let what = format!("waits for approval: text from {} reaches it", text::line(ledger.id(*from)));
                Some(self.step(ledger, *step, (style::RETRY, "?"), &what))
            }
            RunEventKind::StepApproved { step } => Some(self.step(ledger, *step, (style::FAINT, "▸"), "approved")),
            RunEventKind::AttemptStarted { .. } if self.beside == Beside::Picture => None,
            RunEventKind::AttemptStarted { step, .. } => {
                let what = match ledger.step(*step).filter(|entry| entry.tool.is_none()) {
                    // The ids of a model's plan are numbers, which say nothing.
                    Some(entry) => format!("started: {}", text::cut(&entry.task, 2 * PREVIEW_COLUMNS)),
                    None => "started".to_owned(),
                };
                Some(self.step(ledger, *step, (style::FAINT, "▸"), &what))
            }
            RunEventKind::AttemptFailed { step, error, retry_at, .. } => {
                let took = took(ledger);
                let attempt = ledger.step(*step).map_or(0, |entry| entry.attempts);
                let said = text::cut(&error.message, PREVIEW_COLUMNS).into_owned();
                let wait = human(*retry_at - event.at);
                let what = match error.kind {
                    StepErrorKind::Deferred => format!("put off: {said}; next in {wait}"),
                    _ => format!("attempt {attempt} failed{took}: {said}; next in {wait}"),
                };
                Some(self.step(ledger, *step, (style::RETRY, "↻"), &what))
            }
            RunEventKind::AttemptDiscarded { .. } => {
                let (step, _) = ledger.ended()?;
                let took = took(ledger);
                Some(self.step(ledger, step, (style::FAINT, "○"), &format!("ended{took}, no longer needed")))
            }
            RunEventKind::StepUnknown { step, error, .. } => {
                let took = took(ledger);
                let error = text::cut(&error.message, PREVIEW_COLUMNS).into_owned();
                let what = format!("unknown whether it took effect{took}: {error}");
                Some(self.step(ledger, *step, (style::RETRY, "?"), &what))
            }
            RunEventKind::StepSucceeded { step, output, .. } => {
                let took = took(ledger);
                let what = format!("done{took}{}", preview(output));
                Some(self.step(ledger, *step, (style::GOOD, "✓"), &what))
            }
            RunEventKind::StepFailed { step, error, .. } => {
                let took = took(ledger);
                let attempts = match ledger.step(*step).map_or(0, |entry| entry.attempts) {
                    0 | 1 => String::new(),
                    attempts => format!(", attempt {attempts}"),
                };
                let error = text::cut(&error.message, 2 * PREVIEW_COLUMNS).into_owned();
                Some(self.step(ledger, *step, (style::ERROR, "✗"), &format!("failed{took}{attempts}: {error}")))
            }
            RunEventKind::StepSkipped { step, because, .. } => {
                let what = match because {
                    SkipReason::Failed(cause) => format!("skipped, because {} failed", text::line(ledger.id(*cause))),
                    SkipReason::Condition => "skipped, because its condition is false".to_owned(),
                    SkipReason::LeftOut => "left out of this fork".to_owned(),
                };
                Some(self.step(ledger, *step, (style::FAINT, "○"), &what))
            }
            // A person who pressed Ctrl-C was answered at once.
            RunEventKind::StopRequested { why: StopReason::Cancelled }
            | RunEventKind::RunStarted { .. }
            | RunEventKind::RunResumed { .. }
            | RunEventKind::RunStopped { .. }
            | RunEventKind::UsageNoted { .. }
            | RunEventKind::RunFinished { .. }
            | RunEventKind::PlanRequested { .. }
            | RunEventKind::StepDrafted { .. }
            | RunEventKind::StepReady { .. } => None,
            RunEventKind::StopRequested { why } => Some(format!(" {} stopping: {why}", paint(style::RETRY, "■"))),
        }
    }

    /// A revision as a difference to the plan before. The first plan was shown before the run began, or is the
    /// planner's: then its steps follow at once.
    fn plan(revision: u32, graft: &Graft, ledger: &Ledger) -> Option<String> {
        if revision <= 1 {
            return None;
        }
        let mut lines = vec![format!(" {} plan {revision}", paint(style::RETRY, "⇄"))];
        lines.extend(difference(graft, ledger));
        Some(lines.join("\n"))
    }

    fn measure(&mut self, graft: &Graft, ledger: &Ledger) {
        for entry in (graft.first..).take(graft.added.len()).filter_map(|step| ledger.step(step)) {
            let tool = entry.tool.as_deref().unwrap_or_default();
            self.id_columns = self.id_columns.max(entry.id.as_str().len()).min(MOST_COLUMNS);
            self.tool_columns = self.tool_columns.max(tool.len()).min(MOST_COLUMNS);
        }
    }

    fn step(&self, ledger: &Ledger, step: StepNumber, (style, sign): (Style, &str), what: &str) -> String {
        let tool = ledger.step(step).and_then(|entry| entry.tool.as_deref()).unwrap_or_default();
        let id = text::pad(&text::cut(ledger.id(step), 64), self.id_columns);
        let tool = text::pad(&text::cut(tool, MOST_COLUMNS), self.tool_columns);
        format!(" {} {id}  {}  {what}", paint(style, sign), paint(style::FAINT, &tool))
    }
}

fn took(ledger: &Ledger) -> String {
    match ledger.ended() {
        Some((_, duration)) if duration > Duration::ZERO => format!(" in {}", human(duration)),
        _ => String::new(),
    }
}

/// Where a run is that is taken up again.
pub(crate) fn goes_on(run: &RunId, past: &[RunEvent]) -> String {
    let is_done = |event: &&RunEvent| matches!(event.kind, RunEventKind::StepSucceeded { .. });
    let done = counted(past.iter().filter(is_done).count(), "step");
    let goes_on = match past.last().map(|last| (&last.kind, last.at)) {
        Some((RunEventKind::RunFinished { outcome: RunOutcome::Failed { .. }, .. }, _)) => {
            format!("had failed already; to run what failed again: plandag retry {run}")
        }
        Some((RunEventKind::RunFinished { .. }, _)) => "had finished already".to_owned(),
        last => {
            let at = last.map(|(_, at)| at).unwrap_or_default();
            format!("goes on after {}; {done} done before", human(at.since_start()))
        }
    };
    format!(" {}{run}  {goes_on}", paint(style::FAINT, "run       "))
}

/// What people are told when the planner begins to wait, unless that is over soon.
pub(crate) fn wait_line(pause: Duration, why: &str) -> Option<String> {
    let what = format!("the planner waits {}: {}", human(pause), text::cut(why, 4 * PREVIEW_COLUMNS));
    (pause >= WORTH_TELLING).then(|| format!(" {} {what}", paint(style::RETRY, "↻")))
}

fn rejected(rejection: &Rejection) -> String {
    let outcome = if rejection.given_up { "" } else { ", asking again" };
    let mut line = match rejection.offences.len() {
        0 => format!(" {} the planner was interrupted{outcome}", paint(style::RETRY, "⇄")),
        1 => format!(" {} the plan was rejected{outcome}", paint(style::RETRY, "⇄")),
        problems => format!(" {} the plan was rejected for {problems} reasons{outcome}", paint(style::RETRY, "⇄")),
    };
    for offence in rejection.offences.iter().take(5) {
        line.push_str(&format!("\n     {}", text::cut(&offence.to_string(), 2 * PREVIEW_COLUMNS)));
    }
    line
}

/// The ids of some steps, the first few of them.
pub(crate) fn names(ledger: &Ledger, steps: impl IntoIterator<Item = StepNumber>) -> String {
    let ids: Vec<String> = steps.into_iter().map(|step| text::line(ledger.id(step)).into_owned()).collect();
    some_of(&ids)
}

/// The first few of some names.
pub(crate) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// A few words about a result.
fn preview(output: &Output) -> String {
    let words = match output {
        Output::Inline(value) => value_words(value),
        Output::Stored(stored) => format!("{} bytes", stored.bytes),
        Output::Gathered(parts) => counted(parts.len(), "result"),
    };
    if words.is_empty() { words } else { format!("  {}", text::cut(&words, PREVIEW_COLUMNS)) }
}

fn value_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.trim_start().lines().next().unwrap_or_default().to_owned(),
        Value::Array(items) => plural(items.len(), "items"),
        Value::Object(fields) => object_words(fields),
    }
}

/// The lists of an object are what there is to say of it, as of {"query": ..., "hits": [...]}; without one, its fields.
fn object_words(fields: &Map<String, Value>) -> String {
    let lists: Vec<String> =
        fields.iter().filter_map(|(name, value)| Some(plural(value.as_array()?.len(), name))).collect();
    if !lists.is_empty() {
        return lists.join(", ");
    }
    let words = fields.iter().map(|(name, value)| match value {
        Value::Object(inner) => format!("{name} with {}", plural(inner.len(), "fields")),
        value => format!("{name} {}", value_words(value)),
    });
    words.take(5).collect::<Vec<_>>().join(", ")
}

/// `0 hits`, `1 hit`, `2 hits`: what lists are called is not ours to inflect, except that a last `s` is lost.
fn plural(count: usize, name: &str) -> String {
    let name = if count == 1 { name.strip_suffix('s').unwrap_or(name) } else { name };
    format!("{count} {name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn previews_say_what_there_is() {
        assert_eq!(value_words(&json!({ "query": "x", "hits": [1, 2] })), "2 hits");
        assert_eq!(value_words(&json!({ "hits": [1] })), "1 hit");
        assert_eq!(value_words(&json!({ "exact": true, "result": 0.25 })), "exact true, result 0.25");
        assert_eq!(value_words(&json!([])), "0 items");
        assert_eq!(value_words(&json!(4.5)), "4.5");
        assert_eq!(value_words(&json!("\nfirst\nsecond")), "first");
        assert_eq!(value_words(&json!(null)), "");
        assert_eq!(preview(&Output::inline(json!("\u{1b}[2J"))), "  \\u{1b}[2J");
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<String> = (1..=7).map(|n| format!("s{n}")).collect();
        assert_eq!(some_of(&names), "s1, s2, s3, s4, s5 and 2 more");
        assert_eq!(some_of(&names[..1]), "s1");
    }
}
