//! What became of every line, for people and for programs.

use std::collections::HashMap;
use std::time::Duration;

use plandag::counted;
use plandag::report::{ExitCode, StepOutcome, StepReport};
use plandag::{RunReport, SkipReason, Timestamp};
use serde_json::{Value, json};

use super::super::duration::human;
use super::super::failure::Failure;
use super::super::ndjson::millis;
use super::super::style::{self, paint};
use super::super::text;
use super::{Batch, Line};

/// How wide the texts of lines are.
const TEXT_COLUMNS: usize = 40;
/// How much of an error is shown.
const ERROR_COLUMNS: usize = 120;

/// What became of a line.
struct Row<'a> {
    number: usize,
    text: &'a str,
    /// None: it was never part of the run.
    outcome: Option<StepOutcome>,
    steps: usize,
    /// From the start of its first step to the end of its last.
    took: Duration,
    work: Duration,
    error: Option<String>,
}

impl Row<'_> {
    fn state(&self) -> &'static str {
        match self.outcome {
            None => "refused",
            Some(StepOutcome::Succeeded) => "succeeded",
            Some(StepOutcome::Skipped(SkipReason::LeftOut)) => "left_out",
            Some(StepOutcome::Failed | StepOutcome::Skipped(_)) => "failed",
            Some(_) => "unfinished",
        }
    }
}

impl Batch {
    fn rows<'a>(&'a self, report: &RunReport) -> Vec<Row<'a>> {
        let refused = self.refused.iter().map(|line| Row {
            number: line.number,
            text: &line.text,
            outcome: None,
            steps: 0,
            took: Duration::ZERO,
            work: Duration::ZERO,
            error: Some(line.reason.clone()),
        });
        // What each line became.
        let mut inside: HashMap<&str, Vec<StepReport<'_>>> = HashMap::new();
        for step in report.steps() {
            if let Some((line, _)) = step.id.as_str().split_once('/') {
                inside.entry(line).or_default().push(step);
            }
        }
        let ran = |line: &Line| inside.get(line.id().as_str()).map_or(&[][..], Vec::as_slice);
        let rows = self.lines.iter().map(|line| row(line, report, ran(line)));
        let mut rows: Vec<Row<'_>> = rows.chain(refused).collect();
        rows.sort_by_key(|row| row.number);
        rows
    }

    /// One line for each, as a table.
    pub(crate) fn table(&self, report: &RunReport) -> Vec<String> {
        let rows = self.rows(report);
        let digits = rows.iter().map(|row| row.number.to_string().len()).max().unwrap_or_default();
        let line = |row: &Row<'_>| {
            let sign = match row.state() {
                "succeeded" => paint(style::GOOD, "✓"),
                "unfinished" => paint(style::RETRY, "■"),
                "left_out" => paint(style::FAINT, "-"),
                _ => paint(style::ERROR, "✗"),
            };
            let text = text::pad(&text::cut(row.text, TEXT_COLUMNS), TEXT_COLUMNS);
            let figures = format!("{:>9} {:>8}", counted(row.steps, "step"), human(row.took));
            let error = row.error.as_deref().map(|error| format!("  {}", text::cut(error, ERROR_COLUMNS)));
            format!(" {sign} {:>digits$}  {text} {figures}{}", row.number, error.unwrap_or_default())
        };
        rows.iter().map(line).collect()
    }

    /// The same for programs.
    pub(crate) fn fields(&self, report: &RunReport) -> Value {
        let field = |row: &Row<'_>| {
            let id = row.number.to_string();
            json!({
                "line": row.number, "source": row.text, "state": row.state(), "steps": row.steps,
                "ms": millis(row.took), "work_ms": millis(row.work), "error": row.error,
                "answer": report.output::<Value>(&id).ok(),
            })
        };
        self.rows(report).iter().map(field).collect()
    }

    /// The answers of the lines that have one, each with its line.
    pub(crate) fn answers(&self, report: &RunReport) -> Vec<(String, Value)> {
        let answer = |line: &Line| {
            let answer = report.output::<Value>(&line.id()).ok()?;
            Some((format!("{}  {}", line.number, line.text), answer))
        };
        self.lines.iter().filter_map(answer).collect()
    }

    /// Why the command does not succeed although its run may have.
    pub(crate) fn failure(&self, report: &RunReport, exit: ExitCode) -> Option<Failure> {
        let rows: Vec<_> = self.rows(report).into_iter().filter(|row| row.state() != "left_out").collect();
        let bad = rows.iter().filter(|row| row.state() != "succeeded").count();
        let message = format!("{bad} of {} failed", counted(rows.len(), "line"));
        let failure = Failure::new("batch.incomplete", exit, message).after_start();
        (bad > 0).then(|| failure.help("each line of the table above says why; the others have their answers"))
    }
}

fn row<'a>(line: &'a Line, report: &RunReport, ran: &[StepReport<'_>]) -> Row<'a> {
    let own = report.step(&line.id());
    let parts: Vec<&StepReport<'_>> = ran.iter().filter(|step| step.member).collect();
    let calls = || own.iter().chain(ran).flat_map(|step| &step.attempts).filter(|call| !call.taken_over);
    let start = calls().map(|call| call.started).min().unwrap_or(Timestamp::ZERO);
    let end = calls().map(|call| call.ended).max().unwrap_or(start);
    // What failed inside of it says more than that something did.
    let failed = parts.iter().copied().filter(|step| step.outcome == StepOutcome::Failed).chain(&own);
    let error = failed.filter_map(|step| Some((step.id, step.error?))).next();
    let outcome = own.as_ref().map_or(StepOutcome::Cancelled, |step| step.outcome);
    Row {
        number: line.number,
        text: &line.text,
        outcome: Some(outcome),
        steps: parts.len(),
        took: end - start,
        work: calls().map(|call| call.duration()).sum(),
        error: error.filter(|_| outcome == StepOutcome::Failed).map(|(id, error)| format!("{id}: {}", error.message)),
    }
}
