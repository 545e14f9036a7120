//! The page of a run.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::counted::counted;
use crate::report::Escaped;

use super::assets::{SCRIPT, STYLE};
use super::{Head, Snapshot, data, picture, table, words};

/// Where a page is read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Mode<'a> {
    /// From a server: it asks for its script and its style, follows the run, and can change it.
    Live {
        /// What the page shows to the server with everything that changes something.
        token: &'a str,
    },
    /// From a file: it holds everything and asks for nothing.
    Report,
}

/// The page of a run.
pub fn run_html(snapshot: &Snapshot, mode: Mode<'_>) -> String {
    let head = &snapshot.head;
    let is_live = matches!(mode, Mode::Live { .. });
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    if !is_live {
        let _ = writeln!(html, "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">", report_policy());
    }
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    match mode {
        Mode::Live { token } => {
            let _ = writeln!(html, "<meta name=\"plandag-token\" content=\"{}\">", Escaped(token));
            html.push_str("<link rel=\"stylesheet\" href=\"/assets/page.css\">\n");
            html.push_str("<script src=\"/assets/page.js\" defer></script>\n");
        }
        Mode::Report => {
            let _ = writeln!(html, "<style>{STYLE}</style>");
        }
    }
    let _ = writeln!(html, "<link rel=\"icon\" href=\"data:,\">\n<title>{} · plandag</title>\n</head>", title(head));
    let _ = writeln!(html, "<body data-mode=\"{}\">", if is_live { "live" } else { "report" });
    header(&mut html, head, is_live);
    toolbar(&mut html, snapshot);
    body(&mut html, snapshot);
    let _ = writeln!(html, "<script type=\"application/json\" id=\"data\">{}</script>", data::json(snapshot));
    if !is_live {
        let _ = writeln!(html, "<script>{SCRIPT}</script>");
    }
    html.push_str("</body>\n</html>\n");
    html
}

/// A report may run its own script, and nothing else.
fn report_policy() -> String {
    format!("{}; script-src 'sha256-{}'", style_policy(), hash(SCRIPT))
}

/// A file without a script may have its own style, and nothing else.
pub(super) fn style_policy() -> String {
    let style = hash(STYLE);
    format!("default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'")
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

fn title(head: &Head) -> Escaped<&str> {
    Escaped(if head.objective.is_empty() { head.run.as_str() } else { &head.objective })
}

fn header(html: &mut String, head: &Head, is_live: bool) {
    let runs = if is_live { "<a href=\"/\">runs</a>" } else { "runs" };
    let _ = write!(
        html,
        "<header>\n<nav aria-label=\"Where this is\"><b>plandag</b> / {runs} / <span id=\"run\">{}</span></nav>\n\
         <h1>{}</h1>\n<div class=\"facts\"><span id=\"state\" class=\"badge {}\"><span class=\"sign\">{}</span> {}</span>\
         <span id=\"elapsed\">{}</span><span id=\"done\">{} of {}</span><span id=\"tokens\">{}</span>\
         <span id=\"money\">{}</span><span id=\"eta\"></span><span id=\"connection\" role=\"status\"></span></div>\n\
         <div id=\"progress\" aria-hidden=\"true\"></div>\n<p id=\"problem\">{}</p>\n",
        Escaped(&head.run),
        title(head),
        head.state,
        words::sign(head.state),
        head.state,
        words::time(head.elapsed_us.saturating_sub(head.begun_us)),
        head.done,
        counted(head.total, "step"),
        tokens(head),
        money(head),
        Escaped(&head.problem),
    );
    if is_live {
        html.push_str(
            "<div class=\"actions\"><button type=\"button\" id=\"cancel\" hidden>Cancel</button>\
             <button type=\"button\" id=\"resume\" hidden>Go on</button>\
             <button type=\"button\" id=\"retry\" hidden>Retry what failed</button></div>\n",
        );
    }
    html.push_str(
        "<p id=\"message\" role=\"alert\"></p>\n<p id=\"news\" class=\"hidden\" aria-live=\"polite\"></p>\n</header>\n",
    );
}

fn tokens(head: &Head) -> String {
    let used = head.usage.input_tokens.saturating_add(head.usage.output_tokens);
    match (used, head.limit_tokens) {
        (0, None) => String::new(),
        (used, None) => format!("{used} tokens"),
        (used, Some(limit)) => format!("{used} of {limit} tokens"),
    }
}

fn money(head: &Head) -> String {
    match (head.usage.micro_usd, head.limit_micro_usd) {
        (0, None) => String::new(),
        (used, None) => words::money(used),
        (used, Some(limit)) => format!("{} of {}", words::money(used), words::money(limit)),
    }
}

/// What works on all views at once. It is of use only with the script, which shows it.
fn toolbar(html: &mut String, snapshot: &Snapshot) {
    let unfold = match snapshot.unfolded {
        Some(_) => "<label><input type=\"checkbox\" id=\"unfold\"> unfolded</label>",
        None => "<label hidden><input type=\"checkbox\" id=\"unfold\"> unfolded</label>",
    };
    let _ = writeln!(
        html,
        "<div id=\"toolbar\" role=\"search\" hidden><label>Search <input type=\"search\" id=\"search\" \
         placeholder=\"step, tool, text\" autocomplete=\"off\"></label><label>State <select id=\"filter\">\
         <option value=\"\">all</option></select></label><label><input type=\"checkbox\" id=\"only-critical\"> critical \
         path</label>{unfold}<span id=\"found\" role=\"status\"></span>\
         <button type=\"button\" id=\"help-button\" aria-haspopup=\"dialog\">Keys <kbd>?</kbd></button></div>"
    );
}

fn body(html: &mut String, snapshot: &Snapshot) {
    let is_reached = snapshot.steps.iter().any(|step| step.outside.is_some());
    let _ = write!(
        html,
        "<div id=\"columns\">\n<main>\n<section aria-labelledby=\"graph-title\"><h2 id=\"graph-title\">Graph</h2>\
         <div class=\"zoom\" id=\"graph-tools\" hidden><button type=\"button\" id=\"zoom-out\" aria-label=\"Smaller\">−</button>\
         <button type=\"button\" id=\"zoom-fit\">Fit</button>\
         <button type=\"button\" id=\"zoom-in\" aria-label=\"Larger\">+</button>\
         <button type=\"button\" id=\"full\">Full screen</button></div>\n\
         <p id=\"outside\" class=\"legend\"{}><span><i class=\"outside\"></i>text from outside reaches it</span></p>\
         <div id=\"graph\" class=\"canvas\" tabindex=\"0\" role=\"region\" aria-label=\"Graph, scrollable\">",
        if is_reached { "" } else { " hidden" },
    );
    html.push_str(&picture::picture(snapshot));
    html.push_str(
        "</div><svg id=\"map\" aria-hidden=\"true\" hidden></svg></section>\n\
         <section aria-labelledby=\"timeline-title\"><h2 id=\"timeline-title\">Timeline</h2>\
         <div class=\"zoom\" id=\"time-tools\" hidden><label hidden><input type=\"checkbox\" id=\"fold-idle\" checked> fold \
         idle time</label><button type=\"button\" id=\"time-out\" aria-label=\"Timeline: more of it\">−</button>\
         <button type=\"button\" id=\"time-all\">All</button>\
         <button type=\"button\" id=\"time-in\" aria-label=\"Timeline: nearer\">+</button></div>\
         <div id=\"timeline\"></div></section>\n\
         <section aria-labelledby=\"table-title\"><h2 id=\"table-title\">Steps</h2>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of the steps, scrollable\">",
    );
    html.push_str(&table::table(snapshot));
    html.push_str(
        "</div></section>\n<section aria-labelledby=\"plans-title\" id=\"plans-section\" hidden>\
         <h2 id=\"plans-title\">Plans</h2><div id=\"plans\"></div></section>\n\
         <section aria-labelledby=\"faster-title\" id=\"faster-section\" hidden>\
         <h2 id=\"faster-title\">What to speed up</h2><div id=\"faster\"></div></section>\n",
    );
    let answer = snapshot.head.answer.as_ref();
    let _ = write!(
        html,
        "<section aria-labelledby=\"answer-title\" id=\"answer-section\"{}><h2 id=\"answer-title\">Answer</h2>\
         <pre id=\"answer\">{}</pre></section>\n</main>\n\
         <aside id=\"pane\" aria-label=\"Selected step\" hidden></aside>\n</div>\n<dialog id=\"help\" \
         aria-label=\"Keys\"></dialog>\n",
        if answer.is_some() { "" } else { " hidden" },
        Escaped(answer.map_or("", |answer| &answer.text)),
    );
}
