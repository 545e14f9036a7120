//! Whether a tree has the shape of a plan: known fields, each of its type, none missing, none twice.
//!
//! The readers of [`Plan`](crate::Plan) stop at the first such mistake. This finds all of them, with places.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use super::node::{Data, Entry, Node, Span};
use crate::cut;
use crate::reference::MAX_DEPTH;
use crate::suggest::closest;

/// Something wrong with a text, not yet with lines and columns.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) places: Vec<(Span, String)>,
    pub(super) help: Option<String>,
}

impl Finding {
    pub(super) fn new(message: impl Into<String>, span: Span) -> Self {
        Self { message: message.into(), places: vec![(span, String::new())], help: None }
    }

    /// Labels the only place so far.
    pub(super) fn label(mut self, label: &str) -> Self {
        self.places[0].1 = label.to_owned();
        self
    }

    /// Adds a place before the others.
    pub(super) fn place_first(mut self, span: Span, label: &str) -> Self {
        self.places.insert(0, (span, label.to_owned()));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What a field holds.
enum Shape {
    Anything,
    Text,
    Texts,
    /// A whole number from 0 to this.
    Whole(u64),
    /// A whole number from 1 to this.
    Positive(u64),
    /// An object of whole numbers.
    Weights,
    OneOf(&'static [&'static str]),
    Retry,
    Steps,
}

struct Field {
    name: &'static str,
    shape: Shape,
    /// Whether null stands for leaving it out.
    optional: bool,
    required: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, optional: false, required: false }
}

const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { optional: true, ..field(name, shape) }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { required: true, ..field(name, shape) }
}

const U64: Shape = Shape::Whole(u64::MAX);

const PLAN: &[Field] = &[
    optional("objective", Shape::Text),
    optional("answer", Shape::Text),
    field("pools", Shape::Weights),
    required("steps", Shape::Steps),
];

const STEP: &[Field] = &[
    required("id", Shape::Text),
    optional("tool", Shape::Text),
    field("description", Shape::Text),
    field("args", Shape::Anything),
    field("depends_on", Shape::Texts),
    optional("when", Shape::Text),
    optional("timeout_ms", Shape::Positive(u64::MAX)),
    optional("retry", Shape::Retry),
    field("on_failure", Shape::OneOf(&["fail", "continue"])),
    field("on_interrupt", Shape::OneOf(&["ask", "retry"])),
    field("uses", Shape::Weights),
    optional("estimate_ms", U64),
];

const RETRY: &[Field] =
    &[field("max_attempts", Shape::Positive(u32::MAX as u64)), field("base_ms", U64), field("max_ms", U64)];

/// What other plan formats call our fields.
const SYNONYMS: &[(&str, &str)] = &[
    ("name", "id"),
    ("action", "tool"),
    ("function", "tool"),
    ("task", "description"),
    ("goal", "objective"),
    ("arguments", "args"),
    ("parameters", "args"),
    ("params", "args"),
    ("input", "args"),
    ("inputs", "args"),
    ("with", "args"),
    ("after", "depends_on"),
    ("deps", "depends_on"),
    ("dependencies", "depends_on"),
    ("needs", "depends_on"),
    ("requires", "depends_on"),
    ("condition", "when"),
    ("if", "when"),
    ("timeout", "timeout_ms"),
    ("retries", "retry"),
    ("estimate", "estimate_ms"),
    ("pool", "uses"),
    ("tasks", "steps"),
    ("nodes", "steps"),
];

/// Said to who has something else.
const LIKE_THIS: &str = r#"a plan looks like { "steps": [{ "id": "first", "tool": "..." }] }"#;

/// Finds everything that keeps a tree from being a plan.
pub(super) fn check(plan: &Node) -> Vec<Finding> {
    if is_something_else(plan) {
        let message = match &plan.data {
            // What each of its fields should have been called helps nobody.
            Data::Map(_) => "the plan has no `steps`".to_owned(),
            _ => format!("the plan should be an object with `steps`, but is {}", plan.kind()),
        };
        return vec![Finding::new(message, start_of(plan)).help(LIKE_THIS)];
    }
    let mut checker = Checker { findings: Vec::new() };
    checker.fields(plan, PLAN, "the plan");
    checker.findings.sort_by_key(|finding| finding.places[0].0.start);
    checker.findings
}

/// Whether this was not meant to be a plan: it has no field that is one of ours, or was meant as one.
fn is_something_else(plan: &Node) -> bool {
    let names = || PLAN.iter().map(|field| field.name);
    let is_ours = |name: &str| names().any(|ours| ours == name);
    let is_meant = |name: &str| SYNONYMS.iter().any(|(theirs, ours)| *theirs == name && is_ours(ours));
    let is_foreign = |entry: &Entry| {
        let name = entry.key.as_str();
        !is_ours(name) && !is_meant(name) && closest(name, names()).is_none()
    };
    plan.entries().iter().all(is_foreign)
}

struct Checker {
    findings: Vec<Finding>,
}

impl Checker {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn fields(&mut self, node: &Node, fields: &[Field], owner: &str) {
        let Data::Map(entries) = &node.data else {
            let names: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            let with = if names.is_empty() { String::new() } else { format!(" with `{}`", names.join("`, `")) };
            self.add(Finding::new(
                format!("{owner} should be an object{with}, but is {}", node.kind()),
                node.span.clone(),
            ));
            return;
        };
        self.doubles(entries);
        let there: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let missing: Vec<_> = fields.iter().map(|field| field.name).filter(|name| !there.contains(name)).collect();
        let mut meant = Vec::new();
        for entry in entries {
            match fields.iter().find(|field| field.name == entry.key) {
                Some(field) if field.optional && matches!(entry.value.data, Data::Null) => {}
                Some(field) => self.value(&entry.value, field, owner),
                None => meant.extend(self.unknown(entry, &missing, fields, owner)),
            }
        }
        for field in fields.iter().filter(|field| field.required && !meant.contains(&field.name)) {
            if missing.contains(&field.name) {
                self.add(Finding::new(format!("{owner} has no `{}`", field.name), start_of(node)));
            }
        }
    }

    /// Reports an unknown field, and returns the missing one that was probably meant.
    fn unknown(
        &mut self,
        entry: &Entry,
        missing: &[&'static str],
        fields: &[Field],
        owner: &str,
    ) -> Option<&'static str> {
        let synonym = SYNONYMS.iter().find(|(theirs, ours)| *theirs == entry.key && missing.contains(ours));
        let meant = synonym.map(|(_, ours)| *ours).or_else(|| closest(&entry.key, missing.iter().copied()));
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                format!("the fields are `{}`", names.join("`, `"))
            }
        };
        let key = shortened(&entry.key);
        self.add(Finding::new(format!("{owner} has an unknown field `{key}`"), entry.key_span.clone()).help(help));
        meant
    }

    fn value(&mut self, node: &Node, field: &Field, owner: &str) {
        let name = format!("`{}` of {owner}", field.name);
        match (&field.shape, &node.data) {
            (Shape::Anything, _) => self.doubles_within(node),
            (Shape::Text, Data::Text(_)) => {}
            (Shape::Texts, Data::List(items)) => {
                for item in items {
                    self.expect_text(item, &format!("an entry of {name}"));
                }
            }
            (Shape::Weights, Data::Map(entries)) => {
                self.doubles(entries);
                for entry in entries {
                    let name = format!("`{}` in {name}", shortened(&entry.key));
                    self.expect_whole(&entry.value, 0..=u32::MAX.into(), &name);
                }
            }
            (Shape::OneOf(words), Data::Text(text)) if words.contains(&text.as_str()) => {}
            (Shape::Retry, _) => self.fields(node, RETRY, &name),
            (Shape::Steps, Data::List(steps)) => {
                for (index, step) in steps.iter().enumerate() {
                    let owner = match step.get("id").and_then(Node::text) {
                        Some(id) => format!("step `{}`", shortened(id)),
                        None => format!("step {}", index + 1),
                    };
                    self.fields(step, STEP, &owner);
                }
            }

            (Shape::Text, _) => self.expect_text(node, &name),
            (Shape::Whole(max), _) => self.expect_whole(node, 0..=*max, &name),
            (Shape::Positive(max), _) => self.expect_whole(node, 1..=*max, &name),
            (Shape::OneOf(words), Data::Text(text)) => {
                let words = words.join("` or `");
                let text = shortened(text);
                self.add(Finding::new(format!("{name} should be `{words}`, but is `{text}`"), node.span.clone()));
            }
            (Shape::OneOf(words), _) => self.wrong(node, &name, &format!("`{}`", words.join("` or `"))),
            (Shape::Texts, _) => self.wrong(node, &name, "a list of text"),
            (Shape::Weights, _) => self.wrong(node, &name, "an object of whole numbers"),
            (Shape::Steps, _) => self.wrong(node, &name, "a list"),
        }
    }

    fn expect_text(&mut self, node: &Node, name: &str) {
        match node.data {
            Data::Text(_) => {}
            Data::Number(_) | Data::Bool(_) => {
                self.wrong(node, name, "text");
                if let Some(finding) = self.findings.last_mut() {
                    finding.help = Some("put it into quotes".to_owned());
                }
            }
            _ => self.wrong(node, name, "text"),
        }
    }

    fn expect_whole(&mut self, node: &Node, range: RangeInclusive<u64>, name: &str) {
        match &node.data {
            Data::Number(number) if number.as_u64().is_some_and(|number| range.contains(&number)) => {}
            Data::Number(number) => {
                let (least, most) = range.into_inner();
                let message = format!("{name} should be a whole number from {least} to {most}, but is {number}");
                self.add(Finding::new(message, node.span.clone()));
            }
            _ => self.wrong(node, name, "a whole number"),
        }
    }

    fn wrong(&mut self, node: &Node, name: &str, expected: &str) {
        let message = format!("{name} should be {expected}, but is {}", node.kind());
        self.add(Finding::new(message, start_of(node)));
    }

    fn doubles(&mut self, entries: &[Entry]) {
        let mut first_spans = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = first_spans.insert(entry.key.as_str(), entry.key_span.clone()) {
                let message = format!("the key `{}` comes twice", shortened(&entry.key));
                let second = Finding::new(message, entry.key_span.clone()).label("second");
                self.add(second.place_first(first, "first"));
            }
        }
    }

    /// Recurses no deeper than the readers of the tree did.
    fn doubles_within(&mut self, node: &Node) {
        self.doubles(node.entries());
        node.entries().iter().map(|entry| &entry.value).chain(node.items()).for_each(|node| self.doubles_within(node));
    }
}

pub(super) fn too_deep(span: Span) -> Finding {
    Finding::new(format!("this nests deeper than {MAX_DEPTH}"), span)
}

/// The opening bracket of a list or an object, all of any other value.
fn start_of(node: &Node) -> Span {
    match node.data {
        Data::List(_) | Data::Map(_) => node.span.start..(node.span.start + 1).min(node.span.end),
        _ => node.span.clone(),
    }
}

pub(super) fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    cut::chars(text, SHOWN_CHARS).into_owned()
}

#[cfg(all(test, feature = "schema"))]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plan::Plan;

    fn names(schema: &Value) -> Vec<&str> {
        let properties = schema["properties"].as_object().expect("an object");
        let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_fields_are_those_of_the_types() {
        let schema = Plan::schema();
        for (fields, schema) in [(PLAN, &schema), (STEP, &schema["$defs"]["Step"]), (RETRY, &schema["$defs"]["Retry"])]
        {
            let mut ours: Vec<_> = fields.iter().map(|field| field.name).collect();
            ours.sort_unstable();
            assert_eq!(ours, names(schema));
            let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            assert_eq!(
                schema.get("required").cloned().unwrap_or_else(|| Value::Array(Vec::new())),
                Value::from(required)
            );
            for field in fields {
                let shown = &schema["properties"][field.name];
                assert_eq!(field.optional, shown.to_string().contains("null"), "{}", field.name);
            }
        }
        for (_, ours) in SYNONYMS {
            assert!([PLAN, STEP].iter().any(|fields| fields.iter().any(|field| field.name == *ours)), "{ours}");
        }
    }
}
