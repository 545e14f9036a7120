//! `plandag show RUN --planner-answers`: what the planner wrote that could not be used.

use plandag::counted;
use plandag::report::ExitCode;
use plandag::{Rejection, RunEventKind};
use serde_json::{Value, json};

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::style::{self, paint};
use super::super::text;
use super::look::Found;

/// Shows every answer that was sent back, as it came, with what was wrong with it.
pub(super) fn show(found: &Found, json: bool, console: &Console) -> Result<ExitCode, Failure> {
    let mut revision = 0;
    let mut refused: Vec<(u32, &Rejection)> = Vec::new();
    for event in found.history.events() {
        match &event.kind {
            RunEventKind::PlanRequested { revision: asked, .. } => revision = *asked,
            // Without an offence nobody has answered: the process was killed before.
            RunEventKind::PlanRejected { rejection, .. } if !rejection.offences.is_empty() => {
                refused.push((revision, rejection));
            }
            _ => {}
        }
    }
    if json {
        let answers: Value = refused.iter().map(|(revision, rejection)| fields(*revision, rejection)).collect();
        let _ = console.json(&json!({ "v": 1, "run": found.summary.run, "planner_answers": answers }));
        return Ok(ExitCode::Success);
    }
    if refused.is_empty() {
        console.say(" every answer of the planner was taken up");
        return Ok(ExitCode::Success);
    }
    let shown = refused.iter().map(|(revision, rejection)| render(*revision, rejection));
    console.styled(&shown.collect::<Vec<_>>().join("\n")).map(|()| ExitCode::Success)
}

fn fields(revision: u32, rejection: &Rejection) -> Value {
    let offences = rejection.offences.iter();
    json!({
        "revision": revision,
        "errors": offences.map(|it| json!({ "code": it.code(), "message": it.to_string() })).collect::<Vec<_>>(),
        "answer": rejection.answer,
    })
}

fn render(revision: u32, rejection: &Rejection) -> String {
    let what = format!("plan {revision} was sent back: {}", counted(rejection.offences.len(), "problem"));
    let mut lines = vec![format!(" {} {what}", paint(style::ERROR, "✗"))];
    lines.extend(rejection.offences.iter().map(|offence| format!("   {}", text::line(&offence.to_string()))));
    match &rejection.answer {
        Some(answer) => {
            lines.extend(text::lines(answer).lines().map(|line| format!("   {} {line}", paint(style::FAINT, "|"))));
        }
        None => lines.push(format!("   {}", paint(style::FAINT, "it was not read from a text"))),
    }
    lines.join("\n") + "\n"
}
