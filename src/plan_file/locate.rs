//! Where in its file the problems of a plan are, and what can be done about them.

use std::collections::HashMap;

use super::node::{Node, Span};
use super::shape::shortened;
use super::source::{Place, PlanProblem, PlanSource};
use crate::dag::shown_id;
use crate::error::PlanError;
use crate::plan::{Plan, Step, StepId};
use crate::reference::{self, INPUTS};

/// How many places of one problem are shown: a cycle may have a million steps.
const SHOWN_PLACES: usize = 12;

/// Adds places and help to problems. Without a tree there are no places.
pub(super) fn locate(
    plan: &Plan,
    tree: Option<&Node>,
    source: &PlanSource,
    problems: Vec<PlanError>,
) -> Vec<PlanProblem> {
    let locator = Locator::new(plan, tree, source);
    problems
        .into_iter()
        .map(|error| {
            let mut places = locator.places(&error);
            places.sort_by_key(|place| place.span.start);
            PlanProblem { places, help: locator.help(&error), error }
        })
        .collect()
}

struct Locator<'a> {
    plan: &'a Plan,
    tree: Option<&'a Node>,
    source: &'a PlanSource,
    /// The first step of each id, as problems name it.
    steps: HashMap<StepId, usize>,
}

impl<'a> Locator<'a> {
    fn new(plan: &'a Plan, tree: Option<&'a Node>, source: &'a PlanSource) -> Self {
        let mut steps = HashMap::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            steps.entry(shown_id(&step.id)).or_insert(index);
        }
        Self { plan, tree, source, steps }
    }

    fn places(&self, error: &PlanError) -> Vec<Place> {
        match error {
            PlanError::Empty => self.place(self.tree.and_then(|tree| tree.get("steps"))),
            PlanError::InvalidId { id } => self.place(self.field(&StepId::from(id.as_str()), "id")),
            PlanError::DuplicateId { id } => self.doubles(id),
            PlanError::UnknownDependency { step, dependency, .. } | PlanError::DependsOnFailed { step, dependency } => {
                self.edge(step, dependency).map(|span| self.source.place(span, "")).into_iter().collect()
            }
            PlanError::Cycle { path } => self.cycle(path),
            PlanError::UnknownTool { step, .. } => self.place(self.field(step, "tool")),
            PlanError::NoExecutor { step } => self.place(self.field(step, "id")),
            PlanError::BadReference { step, message } => self.place(self.bad_text(step, message)),
            PlanError::UnknownInput { step, input, .. } => {
                let reference = self.reference(step, &format!("{INPUTS}.{input}"));
                reference.map(|span| self.source.place(span, "")).into_iter().collect()
            }
            PlanError::OverPool { step, pool, .. } => {
                let weight = self.field(step, "uses").and_then(|uses| uses.get(pool));
                self.place(weight.or_else(|| self.field(step, "tool")).or_else(|| self.field(step, "id")))
            }
            PlanError::UnknownAnswer { .. } => self.place(self.tree.and_then(|tree| tree.get("answer"))),
            _ => Vec::new(),
        }
    }

    fn help(&self, error: &PlanError) -> Option<String> {
        let did_you_mean = |suggestion: &Option<StepId>| {
            let suggestion = suggestion.as_ref()?;
            let line = self.line(suggestion).map(|line| format!(" (line {line})")).unwrap_or_default();
            Some(format!("did you mean `{suggestion}`{line}?"))
        };
        match error {
            PlanError::Empty => Some("add a step, such as { \"id\": \"first\", \"tool\": \"...\" }".to_owned()),
            PlanError::InvalidId { id } => {
                let valid = valid_id(id);
                (!self.steps.contains_key(valid.as_str())).then(|| format!("call it `{valid}`"))
            }
            PlanError::DuplicateId { id } => {
                let free =
                    (2..).map(|number| format!("{id}-{number}")).find(|id| !self.steps.contains_key(id.as_str()));
                free.map(|free| format!("ids are how results are passed on: rename one, such as `{free}`"))
            }
            PlanError::UnknownDependency { suggestion, .. } | PlanError::UnknownAnswer { suggestion, .. } => {
                did_you_mean(suggestion)
            }
            PlanError::UnknownTool { suggestion, .. } | PlanError::UnknownInput { suggestion, .. } => {
                suggestion.as_ref().map(|suggestion| format!("did you mean `{suggestion}`?"))
            }
            PlanError::Cycle { path } => Some(self.way_out(path)),
            _ => None,
        }
    }

    fn step(&self, id: &StepId) -> Option<(&'a Step, Option<&'a Node>)> {
        let index = *self.steps.get(id.as_str())?;
        Some((self.plan.steps.get(index)?, self.step_node(index)))
    }

    fn step_node(&self, index: usize) -> Option<&'a Node> {
        self.tree?.get("steps")?.items().get(index)
    }

    fn field(&self, step: &StepId, field: &str) -> Option<&'a Node> {
        self.step(step)?.1?.get(field)
    }

    fn line(&self, step: &StepId) -> Option<usize> {
        self.field(step, "id").map(|id| self.source.position(id.span.start).0)
    }

    fn place(&self, node: Option<&Node>) -> Vec<Place> {
        node.map(|node| self.source.place(node.span.clone(), "")).into_iter().collect()
    }

    fn doubles(&self, id: &StepId) -> Vec<Place> {
        let doubles =
            self.plan.steps.iter().enumerate().filter(|(_, step)| shown_id(&step.id) == *id).take(SHOWN_PLACES);
        let mut ordinal = ["first", "second"].into_iter();
        doubles
            .filter_map(|(index, step)| {
                let node = self.step_node(index)?.get("id")?;
                let what = step.tool.as_ref().unwrap_or(&step.description);
                let ordinal = ordinal.next().unwrap_or("another");
                Some(self.source.place(node.span.clone(), format!("{ordinal}: {}", shortened(what))))
            })
            .collect()
    }

    /// Where a step says that it depends on another: in `depends_on`, or else by a reference.
    fn edge(&self, step: &StepId, dependency: &StepId) -> Option<Span> {
        let declared = self.field(step, "depends_on").into_iter().flat_map(Node::items);
        let declared =
            declared.into_iter().find(|entry| entry.text().is_some_and(|text| shown_id(&text.into()) == *dependency));
        declared.map(|entry| entry.span.clone()).or_else(|| self.reference(step, dependency.as_str()))
    }

    /// Where a step refers to something that begins with `path`.
    fn reference(&self, step: &StepId, path: &str) -> Option<Span> {
        let is_here = |text: &str| {
            let opening = format!("${{{path}");
            let mut found = text.match_indices(&opening);
            found.find(|(at, _)| text[at + opening.len()..].starts_with(['.', '}'])).map(|(at, _)| at)
        };
        let node = self.texts(step).into_iter().find(|node| node.text().is_some_and(|text| is_here(text).is_some()))?;
        // Where the text is written without escapes, the reference itself can be shown.
        let written = self.source.text().get(node.span.clone())?;
        let Some(at) = is_here(written) else { return Some(node.span.clone()) };
        let length = written[at..].find('}').map_or(0, |closing| closing + 1);
        Some(node.span.start + at..node.span.start + at + length)
    }

    /// The text of a step that cannot be read for this reason.
    fn bad_text(&self, step: &StepId, message: &str) -> Option<&'a Node> {
        let when = self.field(step, "when");
        let is_bad = |node: &&Node| {
            let text = node.text().unwrap_or_default();
            let is_condition = when.is_some_and(|when| std::ptr::eq(when, *node));
            let alone = Step::described("", "");
            let step = if is_condition { alone.when(text) } else { alone.args(text.into()) };
            reference::scan(&step).is_err_and(|error| error == message)
        };
        self.texts(step).into_iter().find(is_bad)
    }

    /// Every text of a step that may hold references, in the order in which they are read.
    fn texts(&self, step: &StepId) -> Vec<&'a Node> {
        let mut texts = Vec::new();
        let mut open: Vec<_> = self.field(step, "when").into_iter().chain(self.field(step, "args")).collect();
        while let Some(node) = open.pop() {
            texts.extend(node.text().map(|_| node));
            open.extend(node.items().iter().rev());
            open.extend(node.entries().iter().rev().map(|entry| &entry.value));
        }
        texts
    }

    fn cycle(&self, path: &[StepId]) -> Vec<Place> {
        edges(path)
            .take(SHOWN_PLACES)
            .filter_map(|(step, dependency)| {
                let span = self.edge(step, dependency)?;
                Some(self.source.place(span, format!("`{step}` depends on `{dependency}`")))
            })
            .collect()
    }

    /// Which edge of a cycle is best removed: one that was declared, but whose result is never used.
    fn way_out(&self, path: &[StepId]) -> String {
        if path.len() == 1 {
            return "a step cannot wait for itself: remove the dependency".to_owned();
        }
        let count = path.len();
        let uses = |(step, dependency): &(&StepId, &StepId)| {
            let Some((step, _)) = self.step(step) else { return true };
            reference::scan(step).is_ok_and(|referred| referred.contains(&dependency.as_str()))
        };
        let unused = edges(path).find(|edge| !uses(edge));
        // Where no result is used, as between steps that only wait for each other, none stands out.
        match unused.filter(|_| edges(path).any(|edge| uses(&edge))) {
            Some((step, dependency)) => {
                format!("remove one of the {count} edges; `{step}` never uses the result of `{dependency}`")
            }
            None => format!("remove one of the {count} edges"),
        }
    }
}

/// The edges of a cycle: each step with what it depends on.
fn edges(path: &[StepId]) -> impl Iterator<Item = (&StepId, &StepId)> {
    path.iter().zip(path.iter().cycle().skip(path.len().saturating_sub(1)))
}

/// A valid id that looks like an invalid one.
fn valid_id(id: &str) -> String {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let id: String = id.chars().take(StepId::MAX_BYTES).map(|c| if is_valid(c) { c } else { '-' }).collect();
    let id = id.trim_matches('-');
    if StepId::from(id).is_valid() { id.to_owned() } else { "step-1".to_owned() }
}
