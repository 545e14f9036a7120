//! Measurements as a page: the same plan one step at a time and as a DAG, one above the other on one scale.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::counted::counted;
use crate::duration::human;
use crate::event::{StepNumber, Timestamp};
use crate::report::{Escaped, RunReport};

use super::assets::STYLE;
use super::run::style_policy;

/// How wide a timeline is drawn.
const WIDTH: f64 = 1_000.0;
/// How high a row of it is, and the bar in it.
const ROW: f64 = 18.0;
const BAR: f64 = 14.0;
/// Rows that are drawn of a timeline: the first ones that were needed.
const MOST_ROWS: usize = 64;
/// How high the picture of speed-ups is.
const CHART: f64 = 160.0;

/// A plan that was run both ways.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The name of the plan.
    pub name: String,
    /// How it went one step at a time.
    pub sequential: Timeline,
    /// How it went as a DAG.
    pub dag: Timeline,
    /// How many steps could run at once.
    pub slots: u32,
    /// What no schedule on so many slots could go below.
    pub bound: Duration,
    /// How long it takes with so many slots, in virtual time; the fewest slots first.
    pub by_slots: Vec<(u32, Duration)>,
}

/// When the tools of a run were called.
#[derive(Clone, Debug)]
pub struct Timeline {
    took: Duration,
    calls: Vec<Bar>,
}

#[derive(Clone, Debug)]
struct Bar {
    step: String,
    started: Timestamp,
    ended: Timestamp,
    critical: bool,
}

impl Timeline {
    /// The timeline of a run.
    pub fn of(report: &RunReport) -> Self {
        let critical: HashSet<StepNumber> = report.critical_path().steps.into_iter().collect();
        let mut calls: Vec<Bar> = report
            .steps()
            .flat_map(|step| {
                let bar = |call: &crate::report::AttemptReport<'_>| Bar {
                    step: step.id.to_string(),
                    started: call.started,
                    ended: call.ended,
                    critical: critical.contains(&step.number),
                };
                step.attempts.iter().map(bar).collect::<Vec<_>>()
            })
            .collect();
        calls.sort_by_key(|bar| bar.started);
        Self { took: report.wall_time(), calls }
    }

    /// How long the run took.
    pub fn took(&self) -> Duration {
        self.took
    }
}

impl Comparison {
    fn speed_up(&self) -> f64 {
        ratio(self.sequential.took, self.dag.took)
    }
}

/// The page of some measurements: one file, which asks nobody for anything. `about` says how they were taken.
pub fn comparisons_html(comparisons: &[Comparison], about: &str) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<style>{STYLE}</style>\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>plandag bench</title>\n</head>\n<body class=\"bench\">\n<header>\n\
         <nav aria-label=\"Where this is\"><b>plandag</b> / bench</nav>\n<h1>One step at a time, and as a DAG</h1>\n\
         <p>{}</p>\n</header>\n<main>\n",
        style_policy(),
        Escaped(about)
    );
    summary(&mut html, comparisons);
    for comparison in comparisons {
        section(&mut html, comparison);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// All in a table.
fn summary(html: &mut String, comparisons: &[Comparison]) {
    html.push_str(
        "<section><h2>Summary</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Summary\"><table>\
         <thead><tr><th scope=\"col\">Plan<th scope=\"col\" class=\"number\">One at a time\
         <th scope=\"col\" class=\"number\">As a DAG<th scope=\"col\" class=\"number\">Speed-up\
         <th scope=\"col\" class=\"number\">Slots<th scope=\"col\" class=\"number\">Bound\
         <th scope=\"col\" class=\"number\">Of bound</tr></thead><tbody>",
    );
    for comparison in comparisons {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{:.1}×\
             <td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{:.1} %</tr>",
            Escaped(&comparison.name),
            human(comparison.sequential.took),
            human(comparison.dag.took),
            comparison.speed_up(),
            comparison.slots,
            human(comparison.bound),
            100.0 * ratio(comparison.bound, comparison.dag.took),
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn section(html: &mut String, comparison: &Comparison) {
    let longest = comparison.sequential.took.max(comparison.dag.took).max(Duration::from_micros(1));
    let _ = writeln!(
        html,
        "<section><h2>{}</h2><p class=\"legend\"><span><i class=\"call\"></i>a call of a tool</span>\
         <span><i class=\"critical\"></i>critical path</span></p>",
        Escaped(&comparison.name)
    );
    for (title, timeline) in [("one at a time", &comparison.sequential), ("as a DAG", &comparison.dag)] {
        let _ = writeln!(html, "<h3>{title}, {}</h3>", human(timeline.took));
        picture(html, title, timeline, longest);
    }
    if comparison.by_slots.len() > 1 {
        speed_ups(html, comparison);
    }
    html.push_str("</section>\n");
}

/// A timeline: what runs at the same time is in different rows, as few as will do.
fn picture(html: &mut String, title: &str, timeline: &Timeline, longest: Duration) {
    let x = |at: Timestamp| WIDTH * ratio(at.since_start(), longest);
    let mut rows: Vec<Timestamp> = Vec::new();
    let mut bars = String::new();
    let mut left_out = 0;
    for bar in &timeline.calls {
        let row = rows.iter().position(|free| *free <= bar.started).unwrap_or(rows.len());
        if row >= MOST_ROWS {
            left_out += 1;
            continue;
        }
        if row == rows.len() {
            rows.push(bar.ended);
        } else {
            rows[row] = bar.ended;
        }
        let _ = write!(
            bars,
            "<rect class=\"{}\" x=\"{:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{BAR}\" rx=\"2\"><title>{}, {}</title></rect>",
            if bar.critical { "bar critical" } else { "bar" },
            x(bar.started),
            row as f64 * ROW + 2.0,
            (x(bar.ended) - x(bar.started)).max(1.0),
            Escaped(&bar.step),
            human(bar.ended - bar.started),
        );
    }
    let height = rows.len() as f64 * ROW + 2.0;
    let _ = writeln!(
        html,
        "<svg class=\"bars\" viewBox=\"-2 0 {} {height}\" role=\"img\" aria-label=\"Timeline {title}: {}\">{bars}</svg>",
        WIDTH + 4.0,
        counted(timeline.calls.len(), "call"),
    );
    if left_out > 0 {
        let _ = writeln!(html, "<p class=\"legend\">Beside these, not drawn: {}.</p>", counted(left_out, "more call"));
    }
}

/// How many times faster it is on how many slots: a picture, and the same as a table.
fn speed_ups(html: &mut String, comparison: &Comparison) {
    let alone = comparison.by_slots.first().map_or(Duration::ZERO, |(_, took)| *took);
    let speed_ups: Vec<(u32, f64)> =
        comparison.by_slots.iter().map(|(slots, took)| (*slots, ratio(alone, *took))).collect();
    let chosen = comparison.slots.min(speed_ups.last().map_or(1, |(slots, _)| *slots));
    let most = speed_ups.iter().map(|(_, speed_up)| *speed_up).fold(1.0, f64::max);
    let width = 64.0;
    html.push_str("<h3>Speed-up over the number of slots, in virtual time</h3>\n");
    let _ = write!(
        html,
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Speed-ups; the table below says the same\">",
        width * speed_ups.len() as f64,
        CHART + 36.0
    );
    for (index, (slots, speed_up)) in speed_ups.iter().enumerate() {
        let (left, height) = (width * index as f64, CHART * speed_up / most);
        let middle = left + width / 2.0;
        let _ = write!(
            html,
            "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"2\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\">{speed_up:.1}×</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\">{slots}</text>",
            if *slots == chosen { "bar chosen" } else { "bar" },
            left + 10.0,
            CHART - height + 16.0,
            width - 20.0,
            CHART - height + 12.0,
            CHART + 32.0,
        );
    }
    html.push_str("</svg>\n<table class=\"narrow\"><thead><tr><th scope=\"col\" class=\"number\">Slots");
    html.push_str(
        "<th scope=\"col\" class=\"number\">Takes<th scope=\"col\" class=\"number\">Speed-up</tr></thead><tbody>",
    );
    for ((slots, took), (_, speed_up)) in comparison.by_slots.iter().zip(&speed_ups) {
        let _ = write!(
            html,
            "<tr><td class=\"number\">{slots}<td class=\"number\">{}<td class=\"number\">{speed_up:.2}×</tr>",
            human(*took)
        );
    }
    html.push_str("</tbody></table>\n");
}

/// `part / whole`; 1 if there is no whole.
fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 1.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}
