//! The page that lists runs, and starts new ones.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::journal::RunSummary;
use crate::report::Escaped;

use super::words;

/// The page that lists runs, the first one on top. `token` is what it shows to the server when it starts one,
/// and `may` says what that may do then.
pub fn runs_html(runs: &[RunSummary], token: &str, may: &str) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"plandag-token\" content=\"{}\">\n\
         <link rel=\"stylesheet\" href=\"/assets/page.css\">\n<script src=\"/assets/runs.js\" defer></script>\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>Runs · plandag</title>\n</head>\n<body>\n<header>\n\
         <nav aria-label=\"Where this is\"><b>plandag</b> / runs</nav>\n<h1>Runs</h1>\n\
         <p id=\"message\" role=\"alert\"></p>\n</header>\n\
         <div id=\"columns\"><main>\n<section aria-labelledby=\"new-title\"><h2 id=\"new-title\">New run</h2>\n\
         <form id=\"new\"><label for=\"source\">An objective, or a plan as JSON or YAML</label>\
         <textarea id=\"source\" rows=\"3\" required spellcheck=\"false\"></textarea>\
         <button type=\"submit\">Start</button></form><pre class=\"may\">{}</pre></section>\n\
         <section aria-labelledby=\"runs-title\"><h2 id=\"runs-title\">All runs</h2>\n\
         <div id=\"toolbar\" role=\"search\" hidden><label>Search <input type=\"search\" id=\"search\" \
         placeholder=\"run or objective\" autocomplete=\"off\"></label><label>State <select id=\"filter\">\
         <option value=\"\">all</option></select></label><span id=\"found\" role=\"status\"></span></div>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of the runs, scrollable\">\
         <table id=\"runs\"><caption class=\"hidden\">Runs</caption><thead><tr><th scope=\"col\">State\
         <th scope=\"col\">Run<th scope=\"col\">Objective<th scope=\"col\">Started\
         <th scope=\"col\" class=\"number\">Took</tr></thead><tbody>",
        Escaped(token),
        may.lines().map(|line| format!("<span>{}</span>", Escaped(line))).collect::<String>(),
    );
    for summary in runs {
        let started = summary.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let state = summary.state();
        let _ = write!(
            html,
            "<tr class=\"step {state}\" data-state=\"{state}\"><td class=\"state\"><span class=\"sign\">{}</span> {state}\
             <th scope=\"row\"><a href=\"/runs/{}\">{}</a><td class=\"objective\">{}<td>\
             <time data-unix-ms=\"{}\"></time><td class=\"number\">{}</tr>",
            words::sign(state),
            percent_encoded(summary.run.as_str()),
            Escaped(&summary.run),
            Escaped(&summary.objective),
            started.as_millis(),
            words::time(summary.duration.as_micros()),
        );
    }
    html.push_str("</tbody></table></div>\n");
    if runs.is_empty() {
        html.push_str("<p id=\"none\">No run was kept yet.</p>\n");
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
