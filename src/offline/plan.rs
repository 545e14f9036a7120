//! Turns what an objective asks for into a plan: one search per cell, all at once, and a step that quotes.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::objective::{Form, MAX_CHARACTERS, Objective};
use super::words::{american, telling_words, words};
use crate::plan::{OnFailure, Plan, Step, StepId};

/// The tool that searches.
pub(super) const SEARCH: &str = "search_files";
/// The step that answers.
const ANSWER: &str = "answer";
/// More searches make an answer that nobody reads.
const MAX_SEARCHES: usize = 120;
/// The most words of a query; other spellings of them come on top.
const MAX_QUERY_WORDS: usize = 30;
/// Passages asked for per search.
const LIMIT: u32 = 30;
/// The longest part of an id that stands for a subject or an aspect, in bytes.
const SLUG_BYTES: usize = 28;
/// Where nothing in particular is compared, the places where documents say what something is.
const WHAT_IT_IS: &str = "description overview introduction";
/// The most searches for one free text.
const MAX_VARIANTS: usize = 5;

/// The plan for an objective, with at most `max_steps` steps.
pub(super) fn plan(text: &str, objective: &Objective, max_steps: u32) -> Plan {
    let most = usize::try_from(max_steps.saturating_sub(1)).unwrap_or(usize::MAX).clamp(1, MAX_SEARCHES);
    let cells = cells(objective);
    let mut steps = Steps::default();
    let mut looked_up = Vec::new();
    for (subject, aspect) in &cells {
        let mut searches = searches(objective.form, subject, aspect, cells.len() == 1);
        searches.truncate(most - steps.steps.len());
        if searches.is_empty() {
            break;
        }
        let found: Value = searches.iter().map(|search| format!("${{{}}}", steps.add(search))).collect();
        let mut cell = json!({ "subject": literal(subject), "found": found });
        if !aspect.is_empty() {
            cell["aspect"] = json!(literal(aspect));
        }
        looked_up.push(cell);
    }
    let name = |(subject, aspect): &(&str, &str)| literal(format!("{subject} {aspect}").trim());
    let mut left_out: Vec<String> = cells[looked_up.len()..].iter().map(name).collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        left_out.insert(0, format!("what comes after the first {MAX_CHARACTERS} characters"));
    }
    let mut args = json!({ "objective": literal(text), "form": objective.form, "cells": looked_up });
    if !left_out.is_empty() {
        args["left_out"] = json!(left_out);
    }
    let answer = Step::new(ANSWER, super::QUOTE)
        .description("Quote the sentences that are to the point, with their files and lines")
        .args(args);
    Plan::from_iter(steps.steps.into_iter().chain([answer])).objective(text).answer(ANSWER)
}

/// Every subject with every aspect, or alone if there are none.
fn cells(objective: &Objective) -> Vec<(&str, &str)> {
    let aspects = match objective.aspects.as_slice() {
        [] => vec![""],
        aspects => aspects.iter().map(String::as_str).collect(),
    };
    let subjects = objective.subjects.iter();
    subjects.flat_map(|subject| aspects.iter().map(move |aspect| (subject.as_str(), *aspect))).collect()
}

/// A search for a cell.
struct Search {
    /// What its id is made of.
    name: [String; 2],
    query: String,
}

impl Search {
    fn new(subject: &str, aspect: &str, query: &str) -> Self {
        Self { name: [subject.into(), aspect.into()], query: query.into() }
    }
}

/// The searches for a cell.
fn searches(form: Form, subject: &str, aspect: &str, is_only: bool) -> Vec<Search> {
    match (form, aspect) {
        (Form::Comparison, "") => in_general(subject),
        (_, "") if is_only => variants(subject),
        (_, "") => vec![Search::new(subject, "", subject)],
        (_, aspect) => vec![Search::new(subject, aspect, &format!("{subject} {aspect}"))],
    }
}

/// Searches for what something is.
fn in_general(subject: &str) -> Vec<Search> {
    vec![Search::new(subject, "", subject), Search::new(subject, "overview", &format!("{subject} {WHAT_IT_IS}"))]
}

/// Searches for one text: all of its words, and neighbours among them, since one odd word can lead a search astray.
fn variants(text: &str) -> Vec<Search> {
    let words = telling_words(text);
    let whole = words.join(" ");
    if words.len() <= 2 {
        return in_general(&whole);
    }
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    std::iter::once(whole).chain(pairs).take(MAX_VARIANTS).map(|query| Search::new(&query, "", &query)).collect()
}

#[derive(Default)]
struct Steps {
    steps: Vec<Step>,
    ids: HashSet<String>,
}

impl Steps {
    /// Adds a search, and gives its id.
    fn add(&mut self, search: &Search) -> StepId {
        let slugs: Vec<String> = search.name.iter().map(|name| slug(name)).filter(|slug| !slug.is_empty()).collect();
        let id = self.unused(if slugs.is_empty() { "search".into() } else { slugs.join("-") });
        // A search that fails leaves a gap in the answer, which says so; the rest is worth having.
        let step = Step::new(id.clone(), SEARCH)
            .description(format!("Look for {}", search.query))
            .args(json!({ "query": query(&search.query), "limit": LIMIT }))
            .on_failure(OnFailure::Continue);
        self.steps.push(step);
        id
    }

    fn unused(&mut self, name: String) -> StepId {
        let mut id = name.clone();
        let mut number = 2;
        while matches!(id.as_str(), "inputs" | ANSWER) || !self.ids.insert(id.clone()) {
            id = format!("{name}-{number}");
            number += 1;
        }
        id.into()
    }
}

/// The letters and digits of a name that may be in an id.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for word in name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if slug.len() + word.len() >= SLUG_BYTES && !slug.is_empty() {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(SLUG_BYTES).map(|character| character.to_ascii_lowercase()));
    }
    slug
}

/// The words of a text as a query that finds British and American texts, and is not too long for the tool.
fn query(text: &str) -> String {
    let mut query: Vec<String> = words(text).take(MAX_QUERY_WORDS).collect();
    let other_spellings: Vec<String> =
        query.iter().map(|word| american(word).into_owned()).filter(|word| !query.contains(word)).collect();
    query.extend(other_spellings);
    query.join(" ")
}

/// Text in which nothing is a reference.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::objective;

    fn planned(text: &str) -> Plan {
        plan(text, &objective::read(text).unwrap(), 10_000)
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn cells_are_looked_up_side_by_side() {
        let plan = planned("Compare HAProxy, nginx and Apache on TLS and caching");
        let cells = ["haproxy-tls", "haproxy-caching", "nginx-tls", "nginx-caching", "apache-tls", "apache-caching"];
        assert_eq!(ids(&plan), [&cells[..], &["answer"]].concat());
        assert!(plan.steps.iter().all(|step| step.depends_on.is_empty()), "references imply what to wait for");
        assert_eq!(plan.answer, Some("answer".into()));
    }

    #[test]
    fn a_question_is_looked_up_in_several_ways() {
        let plan = planned("How does SQLite make commits durable?");
        assert_eq!(ids(&plan), ["sqlite-commits-durable", "sqlite-commits", "commits-durable", "answer"]);
    }

    #[test]
    fn long_lists_are_cut_and_ids_stay_valid() {
        let subjects: Vec<String> = (0..300).map(|number| format!("subject{number}")).collect();
        let plan = planned(&format!("Compare {} on {}", subjects.join(", "), "long winding aspect ".repeat(9)));
        assert_eq!(plan.steps.len(), MAX_SEARCHES + 1);
        assert!(plan.steps.iter().all(|step| step.id.is_valid()));
        let answer = plan.steps.last().unwrap();
        assert!(!answer.args["left_out"].as_array().unwrap().is_empty());
        let long = planned(&format!("What is {}?", "very ".repeat(1_000)));
        assert_eq!(long.steps.last().unwrap().args["left_out"], json!(["what comes after the first 4000 characters"]));
        let few = super::plan("x", &objective::read("Compare A and B on C and D").unwrap(), 3);
        assert_eq!(ids(&few), ["a-c", "a-d", "answer"]);
    }

    #[test]
    fn an_objective_holds_no_references() {
        let plan = planned("Compare ${a} and ${b.c} on inputs and answer");
        let answer = plan.steps.last().unwrap();
        assert_eq!(answer.args["objective"], "Compare $${a} and $${b.c} on inputs and answer");
        assert!(plan.steps.iter().all(|step| step.id.is_valid()));
    }
}
