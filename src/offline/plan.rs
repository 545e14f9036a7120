//! Turns what an objective asks for into a plan: one search per cell, all at once, and a step that quotes.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::objective::Objective;
use super::words::telling_words;
use crate::plan::{OnFailure, Plan, Step, StepId};

/// The tool that searches.
pub(super) const SEARCH: &str = "search_files";
/// The step that answers.
const ANSWER: &str = "answer";
/// More cells make an answer that nobody reads.
const MAX_CELLS: usize = 120;
/// Passages asked for per search.
const LIMIT: u32 = 30;
/// The longest part of an id that stands for a subject or an aspect, in bytes.
const SLUG_BYTES: usize = 28;
/// The most searches for one free text.
const MAX_VARIANTS: usize = 5;

/// The plan for an objective, with at most `max_steps` steps.
pub(super) fn plan(text: &str, objective: &Objective, max_steps: u32) -> Plan {
    let mut steps = Steps::default();
    let most = MAX_CELLS.min(usize::try_from(max_steps).unwrap_or(usize::MAX).saturating_sub(1)).max(1);
    let Objective { form, subjects, aspects } = objective;
    let mut cells: Vec<(&str, &str)> = Vec::new();
    for subject in subjects {
        match aspects.as_slice() {
            [] => cells.push((subject, "")),
            aspects => cells.extend(aspects.iter().map(|aspect| (subject.as_str(), aspect.as_str()))),
        }
    }
    let left_out = cells.split_off(cells.len().min(most));
    let mut looked_up = Vec::new();
    for (subject, aspect) in &cells {
        let found = match (cells.len(), aspect.is_empty()) {
            (1, true) => {
                let queries = variants(subject, most);
                let ids = queries.iter().map(|query| steps.search(&[query], query));
                ids.map(|id| format!("${{{id}}}")).collect::<Value>()
            }
            _ => {
                let id = steps.search(&[subject, aspect], format!("{subject} {aspect}").trim());
                json!(format!("${{{id}}}"))
            }
        };
        let mut cell = json!({ "subject": literal(subject), "found": found });
        if !aspect.is_empty() {
            cell["aspect"] = json!(literal(aspect));
        }
        looked_up.push(cell);
    }
    let mut args = json!({ "objective": literal(text), "form": form, "cells": looked_up });
    if !left_out.is_empty() {
        let name = |(subject, aspect): &(&str, &str)| literal(format!("{subject} {aspect}").trim());
        args["left_out"] = left_out.iter().map(name).collect();
    }
    let answer = Step::new(ANSWER, super::QUOTE)
        .description("Quote the sentences that are to the point, with their files and lines")
        .args(args);
    Plan::from_iter(steps.steps.into_iter().chain([answer])).objective(text).answer(ANSWER)
}

/// Queries for one text: all of its words, and neighbours among them, since one odd word can lead a search astray.
fn variants(text: &str, most: usize) -> Vec<String> {
    let words = telling_words(text);
    let mut variants = vec![words.join(" ")];
    if words.len() > 2 {
        variants.extend(words.windows(2).map(|pair| pair.join(" ")));
    }
    variants.truncate(MAX_VARIANTS.min(most));
    variants
}

#[derive(Default)]
struct Steps {
    steps: Vec<Step>,
    ids: HashSet<String>,
}

impl Steps {
    /// Adds a search, and gives its id.
    fn search(&mut self, names: &[&str], query: &str) -> StepId {
        let name = names.iter().map(|name| slug(name)).filter(|slug| !slug.is_empty()).collect::<Vec<_>>().join("-");
        let id = self.unused(if name.is_empty() { "search" } else { &name });
        // A search that fails leaves a gap in the answer, which says so; the rest is worth having.
        let step = Step::new(id.clone(), SEARCH)
            .description(format!("Look for {query}"))
            .args(json!({ "query": literal(query), "limit": LIMIT }))
            .on_failure(OnFailure::Continue);
        self.steps.push(step);
        id
    }

    fn unused(&mut self, name: &str) -> StepId {
        let mut id = name.to_owned();
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

/// Text in which nothing is a reference.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}
