//! The picture of a run at one instant: a row for each step that goes on or waits, and a line of figures.

use std::time::Duration;

use plandag::report::Forecast;
use plandag::{Hindrance, Scheduler, StepNumber, Timestamp};
use unicode_width::UnicodeWidthStr as _;

use super::forecast::{expected, forecast, rough, words};
use super::line::Line;
use crate::cli::ledger::{Entry, Ledger, State};
use crate::cli::style;
use crate::cli::text;

/// Rows of the terminal that are left to the lines above the picture.
const ROWS_LEFT: usize = 4;
/// Ids and tools are cut to this.
const MOST_COLUMNS: usize = 24;
/// Narrower terminals get no bars.
const COLUMNS_FOR_BARS: usize = 64;
/// Narrower ones no tools either.
const COLUMNS_FOR_TOOLS: usize = 44;
const BAR: usize = 8;
const SPINNER: [&str; 8] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧"];
/// How long each picture of the spinner is shown.
const SPIN_MS: u64 = 100;

/// The size of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The lines of the picture, none of them wider than the terminal.
pub(super) fn frame(ledger: &Ledger, run: Option<&Scheduler>, now: Timestamp, size: Size) -> Vec<String> {
    // In the last column some terminals begin a new line and others do not.
    let columns = size.columns.saturating_sub(1).max(1);
    let forecast = forecast(ledger);
    let footer = footer(ledger, &forecast, now, columns);
    let most = size.rows.saturating_sub(ROWS_LEFT + 2);
    if most == 0 {
        return vec![footer.render(columns)];
    }
    let mut lines = rows(ledger, run, &forecast, now, columns, most);
    lines.push(footer);
    // No wider than it has to be: a wide line falls into pieces when the terminal becomes narrower.
    let widest = lines.iter().map(Line::columns).max().unwrap_or(0).min(columns);
    lines.insert(0, Line::default().styled(style::FAINT, "─".repeat(widest)));
    lines.iter().map(|line| line.render(columns)).collect()
}

/// The steps that go on, then those that wait, as many as there is room for.
fn rows(
    ledger: &Ledger,
    run: Option<&Scheduler>,
    forecast: &Forecast,
    now: Timestamp,
    columns: usize,
    most: usize,
) -> Vec<Line> {
    let mut open: Vec<(StepNumber, &Entry)> =
        (0..).zip(ledger.steps()).filter(|(_, entry)| is_shown(ledger, entry)).collect();
    open.sort_by_key(|(number, entry)| (rank(ledger, entry), *number));
    let planning = ledger.planning().map(|since| match ledger.planner_waits(now) {
        Some((until, why)) => waiting(until, why, now),
        None => thinking(since, now),
    });
    let count = open.len() + usize::from(planning.is_some());
    let room = if count > most { most - 1 } else { most };
    open.truncate(room.saturating_sub(usize::from(planning.is_some())));

    let widest = |of: fn(&Entry) -> usize| open.iter().map(|(_, entry)| of(entry)).max().unwrap_or(0);
    let table = Table {
        ledger,
        run,
        critical: forecast.critical(now),
        now,
        columns,
        id_columns: widest(|entry| entry.id.as_str().width()).min(MOST_COLUMNS).min(columns / 2),
        tool_columns: widest(|entry| entry.tool.as_deref().unwrap_or_default().width()).min(MOST_COLUMNS),
    };
    let steps = open.iter().map(|(number, entry)| table.row(*number, entry));
    let mut lines: Vec<Line> = planning.into_iter().chain(steps).collect();
    if count > most {
        lines.push(Line::default().styled(style::FAINT, format!(" +{} more", count - lines.len())));
    }
    lines
}

/// The children of an expanded step are shown in its place. What waits while the run stops waits for nothing.
fn is_shown(ledger: &Ledger, entry: &Entry) -> bool {
    match entry.state {
        State::Running { .. } => true,
        State::Expanded => false,
        _ => entry.is_open() && !ledger.is_stopping(),
    }
}

/// What goes on comes first, then what is about to.
fn rank(ledger: &Ledger, entry: &Entry) -> u8 {
    match entry.state {
        State::Running { .. } => 0,
        State::Retrying { .. } => 1,
        State::Undecided => 2,
        _ if unmet(ledger, entry).next().is_none() => 3,
        _ => 4,
    }
}

/// The steps that a step still waits for.
fn unmet<'a>(ledger: &'a Ledger, entry: &'a Entry) -> impl Iterator<Item = &'a Entry> {
    let dependencies = entry.dependencies.iter().filter_map(|number| ledger.step(*number));
    dependencies.filter(|dependency| !dependency.state.is_settled())
}

fn thinking(since: Timestamp, now: Timestamp) -> Line {
    Line::new(" ")
        .styled(style::RETRY, spinner(now))
        .plain(format!(" planner  thinks about the plan  {}", rough(now - since)))
}

fn waiting(until: Timestamp, why: &str, now: Timestamp) -> Line {
    let words = format!(" planner  waits another {}: {}", rough(until - now), text::line(why));
    Line::new(" ").styled(style::RETRY, "↻").plain(words)
}

fn spinner(now: Timestamp) -> &'static str {
    SPINNER[usize::try_from(now.as_millis() / SPIN_MS).unwrap_or(0) % SPINNER.len()]
}

struct Table<'a> {
    ledger: &'a Ledger,
    /// None if it is not known any more what keeps steps from starting.
    run: Option<&'a Scheduler>,
    /// The step at the head of the longest path.
    critical: Option<StepNumber>,
    now: Timestamp,
    columns: usize,
    id_columns: usize,
    tool_columns: usize,
}

impl Table<'_> {
    fn row(&self, number: StepNumber, entry: &Entry) -> Line {
        let (style, sign) = match entry.state {
            State::Running { .. } => (style::GOOD, spinner(self.now)),
            State::Retrying { .. } => (style::RETRY, "↻"),
            State::Undecided => (style::RETRY, "?"),
            _ => (style::FAINT, "○"),
        };
        let id = text::pad(&text::cut(entry.id.as_str(), self.id_columns), self.id_columns);
        let mut line = Line::new(" ").styled(style, sign).plain(format!(" {id}"));
        if self.columns >= COLUMNS_FOR_TOOLS {
            let tool = text::cut(entry.tool.as_deref().unwrap_or_default(), self.tool_columns).into_owned();
            line = line.styled(style::FAINT, format!("  {}", text::pad(&tool, self.tool_columns)));
        }
        let line = match entry.state {
            State::Running { since } => self.running(line, entry, self.now - since),
            State::Retrying { at } => {
                line.plain(format!("  attempt {} in {}", entry.attempts + 1, rough(at - self.now)))
            }
            State::Undecided => line.plain("  waits for a decision"),
            _ => line.styled(style::FAINT, format!("  waits for {}", self.waits_for(number, entry))),
        };
        if self.critical == Some(number) { line.styled(style::STRONG, "  ◆ critical") } else { line }
    }

    /// How long it has been going on, and how long it should still take, if anybody knows.
    fn running(&self, line: Line, entry: &Entry, elapsed: Duration) -> Line {
        let line = line.plain(format!("  {:>6}", rough(elapsed)));
        match expected(self.ledger, entry) {
            Some((expected, _)) if self.columns >= COLUMNS_FOR_BARS => {
                let share = elapsed.as_secs_f64() / expected.as_secs_f64().max(f64::MIN_POSITIVE);
                let full = ((share * BAR as f64) as usize).min(BAR);
                let bar = "▰".repeat(full) + &"▱".repeat(BAR - full);
                let left = match expected.checked_sub(elapsed) {
                    Some(left) => format!("~{}", rough(left)),
                    None => format!("over ~{}", rough(expected)),
                };
                line.plain(format!("  {bar} {left}"))
            }
            _ => line,
        }
    }

    fn waits_for(&self, number: StepNumber, entry: &Entry) -> String {
        let unmet: Vec<&Entry> = unmet(self.ledger, entry).collect();
        match unmet.as_slice() {
            [] => self.kept_back(number),
            [only] => format!("{}{}", text::cut(only.id.as_str(), MOST_COLUMNS), self.progress_of(only)),
            several => {
                let left: Option<Vec<Duration>> = several.iter().map(|entry| self.left(entry)).collect();
                let left = left.and_then(|left| left.into_iter().max());
                let left = left.map_or_else(String::new, |left| format!(" (running, ~{} left)", rough(left)));
                format!("{} of {}{left}", several.len(), entry.dependencies.len())
            }
        }
    }

    /// What a step waits for that depends on nothing any more.
    fn kept_back(&self, number: StepNumber) -> String {
        let behind = self.run.map_or_else(Vec::new, |run| run.hindrances(number, self.now));
        let words: Vec<String> = behind
            .iter()
            .map(|hindrance| match hindrance {
                // How long it is yet is worth more here than the instant.
                Hindrance::Paused { tool, until, error } => {
                    let said = error.as_ref().map_or_else(String::new, |error| format!(": {}", error.message));
                    format!("{tool}, paused for {}{said}", rough(*until - self.now))
                }
                other => other.to_string(),
            })
            .collect();
        if words.is_empty() { "its turn".to_owned() } else { text::line(&words.join(" and ")).into_owned() }
    }

    /// What is known of a step that another one waits for.
    fn progress_of(&self, entry: &Entry) -> String {
        match entry.state {
            State::Running { .. } => match self.left(entry) {
                Some(left) => format!(" (running, ~{} left)", rough(left)),
                None => " (running)".to_owned(),
            },
            State::Retrying { at } => format!(" (tried again in {})", rough(at - self.now)),
            State::Undecided => " (waits for a decision)".to_owned(),
            _ => String::new(),
        }
    }

    /// How long a step should still run. None if it is not running, if nothing is known, or if it should be done already.
    fn left(&self, entry: &Entry) -> Option<Duration> {
        let State::Running { since } = entry.state else { return None };
        let (expected, _) = expected(self.ledger, entry)?;
        expected.checked_sub(self.now - since)
    }
}

/// The figures, the least important ones left out where the terminal is narrow.
fn footer(ledger: &Ledger, forecast: &Forecast, now: Timestamp, columns: usize) -> Line {
    let members = ledger.steps().iter().filter(|entry| entry.is_member);
    let (mut total, mut done, mut running, mut retrying, mut waiting, mut failed) = (0, 0, 0, 0, 0, 0);
    for entry in members {
        total += 1;
        match entry.state {
            State::Succeeded | State::Skipped => done += 1,
            State::Failed => failed += 1,
            State::Running { .. } => running += 1,
            State::Retrying { .. } => retrying += 1,
            State::Waiting | State::Undecided => waiting += 1,
            State::Expanded => {}
        }
    }
    // The higher, the sooner it is left out.
    let mut parts = vec![(0, Line::new(format!(" {done}/{total} done")))];
    let mut count = |place, count: usize, style, word: &str| {
        if count > 0 {
            parts.push((place, Line::new("  ").styled(style, format!("{count} {word}"))));
        }
    };
    count(1, failed, style::ERROR, "failed");
    count(3, running, style::GOOD, "running");
    count(5, retrying, style::RETRY, "retrying");
    count(7, waiting, style::FAINT, "waiting");
    if ledger.is_stopping() {
        parts.push((2, Line::new("  ").styled(style::RETRY, "stopping")));
    }
    parts.push((0, Line::new(format!("   {}", rough(now.since_start())))));
    if let Some((eta, basis)) = words(forecast, now) {
        parts.push((2, Line::new(format!("  {eta}"))));
        parts.push((4, Line::default().styled(style::FAINT, format!(" {basis}"))));
    }
    let usd = ledger.used().micro_usd;
    if usd > 0 {
        parts.push((6, Line::new(format!("   ${:.3}", usd as f64 / 1e6))));
    }
    while parts.iter().map(|(_, part)| part.columns()).sum::<usize>() > columns
        && let Some(least) = (0..parts.len()).max_by_key(|&index| parts[index].0)
        && parts.len() > 1
    {
        parts.remove(least);
    }
    parts.into_iter().fold(Line::default(), |line, (_, part)| line.append(part))
}
