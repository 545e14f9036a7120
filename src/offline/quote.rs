//! `quote`: the answer of an offline run, out of what its searches have found.

use std::collections::{BTreeMap, HashMap};

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answered};
use super::choose::{self, Hit, Rarity, Wanted};
use super::objective::Form;
use super::words::{Stems, american, telling_words};
use crate::error::StepError;
use crate::tool::{Inputs, StepContext, Tool, ToolOutput, ToolSpec};

/// Quotes, for each cell of a question, the sentences that are to the point among the passages found for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quote;

impl Quote {
    /// The tool.
    pub fn new() -> Self {
        Self
    }
}

impl Tool for Quote {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "objective": { "type": "string", "description": "the heading of the answer" },
                    "form": { "enum": ["comparison", "question", "topics"] },
                    "cells": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "subject": { "type": "string" },
                                "aspect": { "type": "string" },
                                "found": { "description": "the output of `search_files`, or a list of such outputs" }
                            },
                            "required": ["subject", "found"],
                            "additionalProperties": false
                        }
                    },
                    "left_out": { "type": "array", "items": { "type": "string" }, "description": "what was too much to look up" }
                },
                "required": ["objective", "form", "cells"],
                "additionalProperties": false
            }),
            output: r#"{"text": "<Markdown>", "quotes": [{"subject": "..", "aspect": "..", "file": "a.md", "line": 3, "text": ".."}], "gaps": [{"subject": "..", "aspect": ".."}]}"#.into(),
            ..ToolSpec::new("quote", "Composes an answer of sentences quoted from passages that `search_files` found.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let work = move || {
                let args = cx.args_as::<Arguments>()?;
                compose(args, &cx.inputs)
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(StepError::transient("the runtime is shutting down")),
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    objective: String,
    form: Form,
    cells: Vec<Cell>,
    #[serde(default)]
    left_out: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    subject: String,
    #[serde(default)]
    aspect: String,
    found: Outputs,
}

/// What was found for a cell: by one search, by several, or, where the search failed, by none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Outputs {
    One(Found),
    Several(Vec<Option<Found>>),
    None(()),
}

/// What is used of the output of `search_files`.
#[derive(Deserialize)]
struct Found {
    hits: Vec<Hit>,
    words: HashMap<String, u64>,
    searched: Searched,
}

/// What was searched.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Searched {
    pub(super) files: u64,
    pub(super) passages: u64,
    #[serde(default)]
    pub(super) skipped: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) note: Option<String>,
}

fn compose(args: Arguments, inputs: &Inputs) -> Result<ToolOutput, StepError> {
    let stems = Stems::new();
    let mut searched = None;
    let mut answered = Vec::new();
    let subjects: Vec<String> = args.cells.iter().map(|cell| cell.subject.clone()).collect();
    let limit = limit(args.form, args.cells.len());
    for cell in args.cells {
        let found: Vec<Found> = match cell.found {
            Outputs::One(found) => vec![found],
            Outputs::Several(found) => found.into_iter().flatten().collect(),
            Outputs::None(()) => Vec::new(),
        };
        let was_searched = !found.is_empty();
        let mut words = HashMap::new();
        let mut hits: Vec<Hit> = Vec::new();
        for found in found {
            words.extend(found.words);
            searched = Some(found.searched);
            let is_new = |hit: &Hit| !hits.iter().any(|other| (&other.file, other.line) == (&hit.file, hit.line));
            let new: Vec<Hit> = found.hits.into_iter().filter(is_new).collect();
            hits.extend(new);
        }
        let passages = searched.as_ref().map_or(0, |searched: &Searched| searched.passages);
        let rarity = Rarity::new(&stems, &words, passages);
        // What stands alone is looked for as a whole; only a comparison has subjects that rule each other out.
        let is_whole = cell.aspect.is_empty() && args.form != Form::Comparison;
        let wanted = Wanted {
            subject: if is_whole { "" } else { &cell.subject },
            aspect: if is_whole { &cell.subject } else { &cell.aspect },
            others: match args.form {
                Form::Comparison => {
                    subjects.iter().map(String::as_str).filter(|other| *other != cell.subject).collect()
                }
                _ => Vec::new(),
            },
            limit,
        };
        let quotes = choose::choose(&stems, &wanted, &hits, &rarity);
        let asked = telling_words(&format!("{} {}", cell.subject, cell.aspect));
        let is_unknown = |word: &str| words.get(word).is_none_or(|count| *count == 0);
        let unknown_words =
            asked.into_iter().filter(|word| was_searched && is_unknown(word) && is_unknown(&american(word))).collect();
        answered.push(Answered { subject: cell.subject, aspect: cell.aspect, quotes, was_searched, unknown_words });
    }
    let Some(searched) = searched else {
        let reason = inputs.iter().find_map(|(id, _)| inputs.error(id.as_str()));
        return Err(StepError::permanent(match reason {
            Some(error) => format!("every search failed: {error}"),
            None => "nothing was searched".into(),
        }));
    };
    let text = answer::markdown(&args.objective, args.form, &answered, &searched, &args.left_out);
    let cell_of = |cell: &Answered| json!({ "subject": cell.subject, "aspect": cell.aspect });
    let quotes = answered.iter().flat_map(|cell| {
        cell.quotes.iter().map(move |quote| {
            json!({
                "subject": cell.subject, "aspect": cell.aspect,
                "file": quote.file, "line": quote.line, "text": quote.text,
            })
        })
    });
    let gaps = answered.iter().filter(|cell| cell.quotes.is_empty()).map(cell_of);
    Ok(json!({ "text": text, "quotes": quotes.collect::<Value>(), "gaps": gaps.collect::<Value>() }).into())
}

/// How many sentences are quoted for each cell: an answer is to be read at one go.
fn limit(form: Form, cells: usize) -> usize {
    match (form, cells) {
        (Form::Question, _) => 4,
        (Form::Topics, ..=1) => 8,
        (Form::Topics, _) => 4,
        (Form::Comparison, ..=12) => 3,
        (Form::Comparison, _) => 2,
    }
}
