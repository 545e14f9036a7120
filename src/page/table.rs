//! The steps as a table: everything that the pictures say, in words.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::event::StepNumber;
use crate::report::{Escaped, fitting};

use super::picture::{busy, classes};
use super::{Snapshot, StepEntry, words};

/// Characters of a result that are shown in its row.
const RESULT_CHARS: usize = 90;

/// The table, its head included.
pub(super) fn table(snapshot: &Snapshot) -> String {
    let critical: HashSet<StepNumber> = snapshot.critical.iter().copied().collect();
    let class = if snapshot.head.usage.is_zero() { "free" } else { "" };
    let mut html = format!(
        "<table id=\"steps\" class=\"{class}\"><caption class=\"hidden\">Steps</caption><thead><tr>\
                    <th scope=\"col\">State<th scope=\"col\">Step<th scope=\"col\">Tool<th scope=\"col\">After\
                    <th scope=\"col\" class=\"number\">Start<th scope=\"col\" class=\"number\">Queued\
                    <th scope=\"col\" class=\"number\">Ran<th scope=\"col\" class=\"number\">Tries\
                    <th scope=\"col\" class=\"number\">Tokens<th scope=\"col\" class=\"number\">Cost\
                    <th scope=\"col\" class=\"number\">Plan<th scope=\"col\">Result</tr></thead><tbody>"
    );
    for step in &snapshot.steps {
        row(&mut html, snapshot, step, critical.contains(&step.number));
    }
    html.push_str("</tbody></table>");
    html
}

fn row(html: &mut String, snapshot: &Snapshot, step: &StepEntry, is_critical: bool) {
    let after: Vec<&str> = step.after.iter().map(|number| snapshot.steps[*number as usize].id.as_str()).collect();
    let (queued, tokens, money) = step.calls.iter().fold((0_u64, 0_u64, 0_u64), |(queued, tokens, money), call| {
        let used = call.usage.input_tokens.saturating_add(call.usage.output_tokens);
        let sum = |sum: u64, more: u64| sum.saturating_add(more);
        (sum(queued, call.queued_us), sum(tokens, used), sum(money, call.usage.micro_usd))
    });
    let has_run = !step.calls.is_empty();
    let if_run = |text: String| if has_run { text } else { String::new() };
    let _ = write!(
        html,
        "<tr class=\"{}\" data-step=\"{}\"><td class=\"state\"><span class=\"sign\">{}</span> {}\
         <th scope=\"row\"><a href=\"#{}\">{}</a><td>{}<td class=\"after\">{}<td class=\"number\">{}<td class=\"number\">{}\
         <td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{}\
         <td class=\"number\">{}<td class=\"result\">{}</tr>",
        classes(step, is_critical),
        step.number,
        words::sign(step.state),
        step.state,
        step.number,
        Escaped(&step.id),
        Escaped(&step.tool),
        Escaped(fitting(&after.join(", "), RESULT_CHARS)),
        step.calls.first().map(|call| words::time(call.started_us)).unwrap_or_default(),
        if queued > 0 { words::time(queued) } else { String::new() },
        if_run(words::time(busy(step))),
        if_run(step.calls.len().to_string()),
        if tokens > 0 { tokens.to_string() } else { String::new() },
        if money > 0 { words::money(money) } else { String::new() },
        step.since,
        Escaped(fitting(result(step), RESULT_CHARS)),
    );
}

/// What came of a step, or why nothing did.
fn result(step: &StepEntry) -> &str {
    match (&step.error, &step.output) {
        (_, Some(output)) => &output.text,
        (Some(error), None) => &error.text,
        (None, None) => step.why.last().map_or("", String::as_str),
    }
}
