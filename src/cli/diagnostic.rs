//! What is wrong with a plan, shown where it is written.
//!
//! A plan comes from anywhere, so no part of it reaches the terminal uncleaned, and of very long lines only the part
//! that is meant is shown.

use std::ops::Range;

use plandag::{Place, PlanError, PlanProblem, PlanProblems, PlanSource, StepId};
use unicode_width::UnicodeWidthStr as _;

use super::style::{self, paint};
use super::text;

/// A line of so many characters is shown as a whole.
const WHOLE_LINE_CHARS: usize = 110;

/// Which takes no more than so many columns, even if each character is shown as its code point.
const WHOLE_LINE_COLUMNS: usize = 10 * WHOLE_LINE_CHARS;

/// How many columns of a longer line are shown before and after what is meant in it.
const CONTEXT_COLUMNS: usize = 50;

/// How many columns of what is meant are shown.
const MARKED_COLUMNS: usize = 60;

/// How many steps of a cycle are named.
const NAMED_STEPS: usize = 12;

/// All problems of a plan, one under the other.
pub(crate) fn render(problems: &PlanProblems) -> String {
    let rendered: Vec<_> = problems.problems.iter().map(|problem| render_one(problem, &problems.source)).collect();
    rendered.join("\n\n")
}

fn render_one(problem: &PlanProblem, source: &PlanSource) -> String {
    let PlanProblem { error, places, help } = problem;
    let (headline, note) = headline(error);
    let code = paint(style::ERROR, &format!("error[{}]", error.code()));
    let mut rendered = format!("{code}: {}", paint(style::STRONG, &text::line(&headline)));

    let name = text::line(source.name());
    match places.first() {
        Some(first) => {
            rendered.push_str(&format!("\n  {} {name}:{}:{}", arrow(), first.line, first.column));
        }
        None => rendered.push_str(&format!("\n  {} {name}", arrow())),
    }
    let digits = places.iter().map(|place| place.line.to_string().len()).max().unwrap_or_default();
    let gutter = |line: &str| paint(style::FAINT, &format!("  {line:>digits$} |"));
    let mut shown_line = None;
    for place in places {
        let excerpt = Excerpt::of(source, place);
        if excerpt.text.is_empty() {
            continue;
        }
        // Two places in one line are shown under the same line, unless only a part of it is shown.
        if shown_line.as_ref() != Some(&(place.line, excerpt.text.clone())) {
            rendered.push_str(&format!("\n{} {}", gutter(&place.line.to_string()), excerpt.text));
        }
        let label = text::cut(&place.label, CONTEXT_COLUMNS + MARKED_COLUMNS);
        let mark = format!("{} {label}", "^".repeat(excerpt.marked.len().max(1)));
        let mark = paint(style::ERROR, mark.trim_end());
        rendered.push_str(&format!("\n{} {}{mark}", gutter(""), " ".repeat(excerpt.marked.start)));
        shown_line = Some((place.line, excerpt.text));
    }

    if let Some(note) = note {
        rendered.push_str(&format!("\n  {}", text::line(&note)));
    }
    for help in help.iter().cloned().chain(command_help(error, help.is_some())) {
        rendered.push_str(&format!("\n  {}: {}", paint(style::HELP, "help"), text::line(&help)));
    }
    rendered
}

fn arrow() -> String {
    paint(style::FAINT, "-->")
}

/// What happened, in one line, and a second one where that is not all.
fn headline(error: &PlanError) -> (String, Option<String>) {
    match error {
        PlanError::Cycle { path } if path.len() == 1 => {
            (format!("step `{}` depends on itself, so it could never start", path[0]), None)
        }
        PlanError::Cycle { path } => {
            let count = path.len();
            // The path runs the way results do; who reads a plan follows `depends_on`.
            let against = path.iter().take(1).chain(path.iter().skip(1).rev());
            let mut named: Vec<_> = against.take(NAMED_STEPS).map(StepId::as_str).collect();
            named.extend((count > NAMED_STEPS).then_some("..."));
            named.extend(path.first().map(StepId::as_str));
            let message = format!("the plan has a cycle, so these {count} steps could never start");
            (message, Some(format!("cycle: {} (each depends on the next)", named.join(" -> "))))
        }
        error => (error.to_string(), None),
    }
}

/// What the command offers against a problem.
fn command_help(error: &PlanError, has_help: bool) -> Option<String> {
    match error {
        PlanError::UnknownTool { .. } | PlanError::NoExecutor { .. } if !has_help => {
            Some("`plandag tools` lists the tools".to_owned())
        }
        PlanError::UnknownInput { input, .. } if !has_help => Some(format!("give it: --input {input}=VALUE")),
        PlanError::OverPool { pool, weight, .. } => {
            Some(format!("use less, or make it larger: --pool {pool}={weight}"))
        }
        _ => None,
    }
}

/// A line of a plan, fit for a terminal.
struct Excerpt {
    text: String,
    /// The columns of what is meant, from 0.
    marked: Range<usize>,
}

impl Excerpt {
    fn of(source: &PlanSource, place: &Place) -> Self {
        let line = source.line(place.line);
        let start = line.char_indices().nth(place.column - 1).map_or(line.len(), |(at, _)| at);
        let end = (start + place.span.len()).min(line.len());

        let is_whole = line.chars().nth(WHOLE_LINE_CHARS).is_none();
        let (context, most) =
            if is_whole { (WHOLE_LINE_COLUMNS, WHOLE_LINE_COLUMNS) } else { (CONTEXT_COLUMNS, MARKED_COLUMNS) };
        let shown_from = line[..start].char_indices().rev().nth(context - 1).map_or(0, |(at, _)| at);
        let ellipsis = if shown_from == 0 { "" } else { "…" };
        let mut text = format!("{ellipsis}{}", text::line(&line[shown_from..start]));
        let marked = text::cut(&line[start..end], most);
        let columns = text.width()..text.width() + marked.width();
        text.push_str(&marked);
        if !marked.ends_with('…') {
            text.push_str(&text::cut(&line[end..], context));
        }
        Self { text: text.trim_end().to_owned(), marked: columns }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use plandag::{Dag, Limits, PlanFile, PlanFileError, PlanFormat, Policy, RunStart, ToolSpec};

    use super::*;

    fn check(name: &str, bytes: Vec<u8>) -> PlanProblems {
        let start = RunStart {
            objective: String::new(),
            inputs: [("city".to_owned(), "Paris".into())].into(),
            policy: Policy { limits: Limits { steps: 100, ..Limits::default() }, ..Policy::default() },
            tools: ["search", "summarise"].map(|tool| ToolSpec::new(tool, "")).into(),
            default_tool: None,
            planner_server: String::new(),
            labels: Default::default(),
        };
        match PlanFile::parse_bytes(name, bytes, PlanFormat::of_path(Path::new(name)), PlanFile::MAX_BYTES) {
            Ok(file) => file.locate(Dag::check(&file.plan, &start).unwrap_err()),
            Err(PlanFileError::Invalid(problems)) => problems,
            Err(error) => panic!("{error}"),
        }
    }

    fn plain(problems: &PlanProblems) -> String {
        anstream::adapter::strip_str(&render(problems)).to_string()
    }

    fn bad_plans() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/bad");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn bad_plans_as_people_see_them() {
        let mut shown = String::new();
        for path in bad_plans() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let rendered = plain(&check(name, std::fs::read(&path).unwrap()));
            assert!(!rendered.chars().any(|c| c != '\n' && text::is_dangerous(c)), "{rendered:?}");
            shown.push_str(&rendered);
            shown.push_str("\n\n\n");
        }
        insta::with_settings!({ snapshot_path => "../../tests/snapshots", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(shown);
        });
    }

    #[test]
    fn of_long_lines_only_a_part_is_shown() {
        let long = format!(
            r#"{{"steps":[{{"id":"a","tool":"search","args":"{}","depends_on":["{}"]{}}}]}}"#,
            "日本".repeat(10_000),
            "c".repeat(10_000),
            " ".repeat(10_000),
        );
        let shown = plain(&check("long.json", long.into_bytes()));
        assert!(shown.lines().all(|line| line.width() < 240), "{shown}");
        assert!(shown.contains("…日本日本"), "{shown}");
    }

    #[test]
    fn colours_are_around_what_was_cleaned() {
        let problems = check("\u{1b}[2J.json", br#"{"steps":[{"id":"\u001b[31m"}]}"#.to_vec());
        assert!(render(&problems).contains('\u{1b}'));
        assert!(plain(&problems).contains(r"\u{1b}[2J.json"), "{}", plain(&problems));
        assert!(!plain(&problems).contains('\u{1b}'));
    }
}
