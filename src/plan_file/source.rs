//! The text of a plan, and problems with their places in it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::locate::locate;
use super::shape::Finding;
use super::{PlanFormat, tree_of};
use crate::counted::counted;
use crate::dag::Dag;
use crate::error::PlanError;
use crate::event::RunStart;
use crate::plan::Plan;

/// The text of a plan and what it is called.
#[derive(Debug)]
pub struct PlanSource {
    name: String,
    text: String,
    format: PlanFormat,
    /// Where each line begins; found when first needed.
    line_starts: OnceLock<Vec<usize>>,
}

impl PlanSource {
    pub(super) fn new(name: &str, text: String, format: PlanFormat) -> Self {
        Self { name: name.to_owned(), text, format, line_starts: OnceLock::new() }
    }

    /// What the text is called: a path, as a rule.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How the text is written.
    pub fn format(&self) -> PlanFormat {
        self.format
    }

    /// The text of a line, counted from 1, without its end.
    pub fn line(&self, line: usize) -> &str {
        let starts = self.line_starts();
        let Some(&start) = line.checked_sub(1).and_then(|line| starts.get(line)) else { return "" };
        let end = starts.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The line and the column of a byte, both counted from 1, columns in characters.
    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        let line = self.line_starts().partition_point(|&start| start <= byte);
        let start = self.line_starts()[line - 1];
        let before = self.text.get(start..byte).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts
            .get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    pub(super) fn place(&self, span: Range<usize>, label: impl Into<String>) -> Place {
        let (line, column) = self.position(span.start);
        Place { span, line, column, label: label.into() }
    }
}

/// A place in the text of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bytes that are meant. May be empty, where something is missing.
    pub span: Range<usize>,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// What is there; may be empty.
    pub label: String,
}

/// Something wrong with a plan, where it is, and what can be done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanProblem {
    /// What is wrong.
    pub error: PlanError,
    /// Where; empty if it is nowhere in particular.
    pub places: Vec<Place>,
    /// What can be done about it.
    pub help: Option<String>,
}

impl PlanProblem {
    /// For programs: its code, what is wrong, where, and what can be done about it.
    pub fn to_json(&self) -> Value {
        let place = |place: &Place| json!({ "line": place.line, "column": place.column, "label": place.label });
        json!({
            "code": self.error.code(),
            "message": self.error.to_string(),
            "places": self.places.iter().map(place).collect::<Vec<_>>(),
            "help": self.help,
        })
    }
}

/// Everything that is wrong with a plan.
///
/// Shown as a line for each, with file, line and column.
#[derive(Clone, Debug)]
pub struct PlanProblems {
    /// The text they are in.
    pub source: Arc<PlanSource>,
    /// The problems.
    pub problems: Vec<PlanProblem>,
    /// What can be read of a plan whose shape is wrong.
    pub(super) salvaged: Option<Box<Salvaged>>,
}

/// A plan that was read in spite of the first few of its problems.
#[derive(Clone, Debug)]
pub(super) struct Salvaged {
    pub(super) plan: Plan,
    /// How many problems are about its shape.
    pub(super) misshapen: usize,
}

impl PlanProblems {
    /// How many problems of one text are listed.
    const LISTED: usize = 100;

    /// The code of the first of them.
    pub fn code(&self) -> &'static str {
        self.problems.first().map_or("plan.malformed", |problem| problem.error.code())
    }

    /// What is wrong, if it is one thing, or else how much.
    pub fn message(&self) -> String {
        match self.problems.as_slice() {
            [only] => only.error.to_string(),
            several => format!("the plan has {}", counted(several.len(), "problem")),
        }
    }

    pub(super) fn malformed(source: Arc<PlanSource>, findings: Vec<Finding>) -> Self {
        let more = findings.len().saturating_sub(Self::LISTED);
        let mut problems: Vec<_> = findings
            .into_iter()
            .take(Self::LISTED)
            .map(|Finding { message, places, help }| PlanProblem {
                error: PlanError::Malformed { message },
                places: places.into_iter().map(|(span, label)| source.place(span, label)).collect(),
                help,
            })
            .collect();
        if more > 0 {
            let error = PlanError::Malformed { message: format!("and {}", counted(more, "more problem")) };
            problems.push(PlanProblem { error, places: Vec::new(), help: None });
        }
        Self { source, problems, salvaged: None }
    }

    /// Adds what is wrong with the rest of a plan whose shape is wrong, as far as that can be read.
    pub(super) fn with_rest(mut self, plan: Option<Plan>) -> Self {
        let misshapen = self.problems.len();
        self.salvaged = plan.map(|plan| Box::new(Salvaged { plan, misshapen }));
        self.look_further(|plan| Dag::of(plan).err())
    }

    /// The same problems, and what else is wrong with the plan for a run that starts like this: unknown tools and
    /// inputs, for example. Makes a difference only if the shape of the plan is wrong, which does not keep its other
    /// problems from being told.
    #[must_use]
    pub fn in_run(self, start: &RunStart) -> Self {
        self.look_further(|plan| Dag::check(plan, start).err())
    }

    fn look_further(mut self, check: impl FnOnce(&Plan) -> Option<Vec<PlanError>>) -> Self {
        if let Some(Salvaged { plan, misshapen }) = self.salvaged.as_deref()
            && *misshapen <= Self::LISTED
        {
            let further = check(plan).unwrap_or_default();
            self.problems.truncate(*misshapen);
            self.problems.extend(locate(plan, tree_of(&self.source).ok().as_ref(), &self.source, further));
            self.problems.truncate(Self::LISTED + 1);
        }
        self
    }
}

impl fmt::Display for PlanProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PlanProblem { error, places, help }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.source.name)?;
            if let Some(place) = places.first() {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            write!(f, ": error[{}]: {error}", error.code())?;
            if let Some(help) = help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for PlanProblems {}
