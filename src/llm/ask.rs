//! What a planner model is asked: the request of a run in words.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::line_format::number;
use super::markers::without_markers;
use super::plan_text::{DONE, PlanTextFormat};
use super::prompts::Prompts;
use super::shown::written;
use super::thinking::without_thinking;
use super::{Message, ModelRequest, json_format, text};
use crate::counted::counted;
use crate::error::PlanError;
use crate::event::{Output, PlanReason};
use crate::plan::StepId;
use crate::planner::PlanRequest;
use crate::tool::ToolSpec;

/// All results together take up no more than this of a request, and so do all errors.
const RESULTS_BYTES: usize = 48 * 1024;
/// One result, or error, takes up at least this much, if it is not left out, and at most that much.
const RESULT_BYTES: (usize, usize) = (200, 4 * 1024);
/// A longer answer is not shown to the one who has to correct it.
const ANSWER_BYTES: usize = 32 * 1024;

/// How a request is put.
pub(super) struct Ask<'a> {
    pub(super) prompts: &'a Prompts,
    pub(super) format: PlanTextFormat,
    /// Tools that are not spoken of.
    pub(super) hidden: &'a BTreeSet<String>,
}

impl Ask<'_> {
    /// The whole request.
    pub(super) fn request(&self, request: &PlanRequest) -> ModelRequest {
        let mut messages = vec![Message::User(self.situation(request))];
        if let PlanReason::Rejected(offences) = &request.reason {
            let answer = request.rejected_answer.as_deref().map(without_thinking).unwrap_or_default();
            if !answer.is_empty() {
                let lines: Vec<String> = text::within(&answer, ANSWER_BYTES).lines().map(text::quoted).collect();
                messages.push(Message::Assistant { text: lines.join("\n"), calls: Vec::new() });
            }
            messages.push(Message::User(self.correction(offences)));
        }
        ModelRequest {
            system: self.system(request),
            messages,
            schema: match self.format {
                PlanTextFormat::Lines => None,
                PlanTextFormat::Json => Some((json_format::SCHEMA_NAME.to_owned(), json_format::schema())),
            },
            ..ModelRequest::default()
        }
    }

    fn system(&self, request: &PlanRequest) -> String {
        let is_told =
            |tool: &&ToolSpec| Some(&tool.name) != request.default_tool.as_ref() && !self.hidden.contains(&tool.name);
        let tools: Vec<&ToolSpec> = request.tools.iter().filter(is_told).collect();
        let tools = match tools.is_empty() {
            true => String::new(),
            false => self.tools(&tools),
        };
        let name = match self.format {
            PlanTextFormat::Lines => "planner",
            PlanTextFormat::Json => "planner_json",
        };
        let max_steps = request.max_steps.to_string();
        self.prompts.filled(name, &[("max_steps", max_steps.into()), ("tools", tools.into())])
    }

    fn tools(&self, tools: &[&ToolSpec]) -> String {
        let mut list = String::new();
        for tool in tools {
            let description = text::within(&tool.description, RESULT_BYTES.1);
            let line = format!("@{}{} {description}", tool.name, signature(&tool.arguments));
            let _ = writeln!(list, "  {}", text::quoted(&line));
        }
        let call = match self.format {
            PlanTextFormat::Lines => "4. @tool {\"argument\": \"value\"} <- 1",
            PlanTextFormat::Json => "\"tool\" and \"args\"",
        };
        self.prompts.filled("tools", &[("call", call.into()), ("list", list.trim_end().into())])
    }

    /// Where the run stands.
    fn situation(&self, request: &PlanRequest) -> String {
        let mut said = format!("Objective: {}\n", without_markers(request.objective.trim()));
        if !request.inputs.is_empty() {
            said.push_str("\nGiven:\n");
            for (name, value) in &request.inputs {
                text::block(name, &text::within(&text::of_value(value), RESULT_BYTES.1), &mut said);
            }
        }
        if request.revision == 1 {
            return said;
        }
        said.push_str("\nThe plan so far:\n");
        self.steps(request, &mut said);
        let next = next_number(request).to_string();
        let (done, answer) = match self.format {
            PlanTextFormat::Lines => (DONE, "ANSWER on a line of its own, and under it the answer"),
            PlanTextFormat::Json => (r#"{"steps": []}"#, r#"{"steps": [], "answer": "the answer"}"#),
        };
        let words = [("next", next.into()), ("done", done.into()), ("answer", answer.into())];
        let name = match request.failed.is_empty() {
            _ if request.must_answer => "answer",
            true => "review",
            false => "revision",
        };
        said.push('\n');
        said.push_str(&self.prompts.filled(name, &words));
        said
    }

    fn steps(&self, request: &PlanRequest, said: &mut String) {
        let finished = Shown::of(request.finished.iter().map(|finished| (&finished.id, finished)));
        let failed = Shown::of(request.failed.iter().map(|failed| (&failed.id, failed)));
        for step in &request.plan.steps {
            said.push_str(&written(self.format, step));
            said.push('\n');
            if let Some(when) = &step.when {
                let _ = writeln!(said, "  done only if {}", text::quoted(when));
            }
            if let Some((step, is_shown)) = failed.get(&step.id) {
                said.push_str(if is_shown { "  failed:\n" } else { "  failed, why is left out\n" });
                if is_shown {
                    data(&step.id, &step.error.message, failed.budget, said);
                }
            } else if let Some((step, is_shown)) = finished.get(&step.id) {
                match &step.output {
                    Some(output) if is_shown => result(&step.id, output, finished.budget, said),
                    Some(_) => said.push_str("  done, its result is left out\n"),
                    None => said.push_str("  done, without a result\n"),
                }
            } else if request.skipped.contains(&step.id) {
                said.push_str("  waits for a step that failed\n");
            } else {
                said.push_str("  under way\n");
            }
        }
    }

    fn correction(&self, offences: &[PlanError]) -> String {
        let mut list = String::new();
        for offence in offences {
            let _ = writeln!(list, "- {}", text::quoted(&offence.to_string()));
        }
        self.prompts.filled("correction", &[("offences", list.trim_end().into())])
    }
}

/// What came of steps. There is only room for so much: of many, the last are shown, which others were made into.
struct Shown<'a, T> {
    steps: BTreeMap<&'a StepId, (usize, &'a T)>,
    left_out: usize,
    /// How many bytes of each are shown.
    budget: usize,
}

impl<'a, T> Shown<'a, T> {
    fn of(steps: impl ExactSizeIterator<Item = (&'a StepId, &'a T)>) -> Self {
        let (least, most) = RESULT_BYTES;
        let count = steps.len();
        Self {
            steps: steps.enumerate().map(|(index, (id, step))| (id, (index, step))).collect(),
            left_out: count.saturating_sub(RESULTS_BYTES / least),
            budget: (RESULTS_BYTES / count.max(1)).clamp(least, most),
        }
    }

    /// What came of this step, and whether it is shown.
    fn get(&self, id: &StepId) -> Option<(&'a T, bool)> {
        self.steps.get(id).map(|(index, step)| (*step, *index >= self.left_out))
    }
}

fn result(id: &StepId, output: &Output, budget: usize, said: &mut String) {
    let value = match output {
        Output::Inline(value) => text::of_value(value),
        Output::Stored(stored) => Cow::Borrowed(stored.preview.as_str()),
        Output::Gathered(parts) => Cow::Owned(format!("the results of {}", counted(parts.len(), "step"))),
    };
    data(id, &value, budget, said);
}

/// What came of a step, as data.
fn data(id: &StepId, words: &str, budget: usize, said: &mut String) {
    text::block(id.as_str(), &text::quoted(&text::within(words, budget)), said);
}

/// The first number that no step of the plan has.
fn next_number(request: &PlanRequest) -> u32 {
    let numbers = request.plan.steps.iter().filter_map(|step| number(step.id.as_str()));
    numbers.max().map_or(1, |highest| highest + 1)
}

/// The names of a tool's arguments with their types, the optional ones marked.
fn signature(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return String::new() };
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|known| known == name))
    };
    let argument = |(name, schema): (&String, &Value)| {
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or("any");
        format!("\"{name}\"{}: {kind}", if required(name) { "" } else { "?" })
    };
    let arguments: Vec<String> = properties.iter().map(argument).collect();
    format!(" {{{}}}", arguments.join(", "))
}
