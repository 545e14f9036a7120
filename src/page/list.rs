//! The page that lists runs, and starts new ones.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::event::Timestamp;
use crate::journal::{RunId, RunSummary};
use crate::report::Escaped;

use super::words;

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunEntry {
    /// Its name.
    pub run: RunId,
    /// What it is for.
    pub objective: String,
    /// Where it is: `running`, `interrupted`, `undecided`, `stopped`, `succeeded` or `failed`.
    pub state: &'static str,
    /// When it was started, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// How long it has been driven, up to its last event.
    pub elapsed_us: u64,
}

impl From<&RunSummary> for RunEntry {
    fn from(summary: &RunSummary) -> Self {
        let started = summary.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            run: summary.run.clone(),
            objective: summary.objective.clone(),
            state: summary.state(),
            started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            elapsed_us: Timestamp::as_micros(summary.duration),
        }
    }
}

/// The page that lists runs, the first one on top. `token` is what it shows to the server when it starts one.
pub fn runs_html(runs: &[RunSummary], token: &str) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"plandag-token\" content=\"{}\">\n\
         <link rel=\"stylesheet\" href=\"/assets/page.css\">\n<script src=\"/assets/runs.js\" defer></script>\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>Runs · plandag</title>\n</head>\n<body>\n<header>\n\
         <nav aria-label=\"Where this is\"><b>plandag</b> / runs</nav>\n<h1>Runs</h1>\n\
         <p id=\"message\" role=\"alert\"></p>\n</header>\n\
         <div id=\"columns\"><main>\n<section aria-labelledby=\"new-title\"><h2 id=\"new-title\">New run</h2>\n\
         <form id=\"new\"><label for=\"source\">An objective, or a plan as JSON</label>\
         <textarea id=\"source\" rows=\"3\" required spellcheck=\"false\"></textarea>\
         <button type=\"submit\">Start</button></form></section>\n\
         <section aria-labelledby=\"runs-title\"><h2 id=\"runs-title\">All runs</h2>\n\
         <div id=\"toolbar\" role=\"search\" hidden><label>Search <input type=\"search\" id=\"search\" \
         placeholder=\"run or objective\" autocomplete=\"off\"></label><label>State <select id=\"filter\">\
         <option value=\"\">all</option></select></label><span id=\"found\" role=\"status\"></span></div>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of the runs, scrollable\">\
         <table id=\"runs\"><caption class=\"hidden\">Runs</caption><thead><tr><th scope=\"col\">State\
         <th scope=\"col\">Run<th scope=\"col\">Objective<th scope=\"col\">Started\
         <th scope=\"col\" class=\"number\">Took</tr></thead><tbody>",
        Escaped(token)
    );
    for entry in runs.iter().map(RunEntry::from) {
        let _ = write!(
            html,
            "<tr class=\"step {}\" data-state=\"{}\"><td class=\"state\"><span class=\"sign\">{}</span> {}\
             <th scope=\"row\"><a href=\"/runs/{}\">{}</a><td class=\"objective\">{}<td>\
             <time data-unix-ms=\"{}\"></time><td class=\"number\">{}</tr>",
            entry.state,
            entry.state,
            words::sign(entry.state),
            entry.state,
            percent_encoded(entry.run.as_str()),
            Escaped(&entry.run),
            Escaped(&entry.objective),
            entry.started_unix_ms,
            words::time(entry.elapsed_us),
        );
    }
    html.push_str("</tbody></table></div>\n");
    if runs.is_empty() {
        html.push_str("<p>No run was kept yet.</p>\n");
    }
    html.push_str("</section></main></div>\n</body>\n</html>\n");
    html
}

/// A name as one segment of a path.
fn percent_encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
