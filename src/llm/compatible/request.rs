//! What is asked, as JSON.

use serde::Serialize;
use serde_json::{Value, json};

use crate::llm::provider::Call;
use crate::llm::{Message, ModelRequest, OfferedTool, ToolCall};

/// Models that have another word for the longest answer, by how their names begin.
const COUNT_REASONING: [&str; 5] = ["gpt-5", "gpt-6", "o1", "o3", "o4"];

/// The body of a request. What seldom changes comes first: servers keep the beginning of what they have read.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Said<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Value>,
    },
    Tool {
        content: &'a str,
        tool_call_id: &'a str,
    },
}

impl<'a> Body<'a> {
    /// A request for an answer as a whole.
    pub(super) fn whole(request: &'a ModelRequest, call: &Call<'a>) -> Self {
        let system = Some(Said::System { content: &request.system }).filter(|_| !request.system.is_empty());
        let counts_reasoning = COUNT_REASONING.iter().any(|name| call.model.starts_with(name));
        let (max_tokens, max_completion_tokens) = match counts_reasoning {
            true => (None, call.options.max_output_tokens),
            false => (call.options.max_output_tokens, None),
        };
        Self {
            model: call.model,
            stream: false,
            tools: request.tools.iter().map(tool).collect(),
            // Where there are no tools, it is refused.
            tool_choice: (request.must_answer && !request.tools.is_empty()).then_some("none"),
            messages: system.into_iter().chain(request.messages.iter().map(said)).collect(),
            response_format: request.schema.as_ref().map(|(name, schema)| response_format(name, schema)),
            stream_options: None,
            temperature: call.options.temperature,
            max_tokens,
            max_completion_tokens,
        }
    }

    /// A request for an answer in pieces, and for what it cost.
    pub(super) fn streamed(request: &'a ModelRequest, call: &Call<'a>) -> Self {
        let stream_options = Some(StreamOptions { include_usage: true });
        Self { stream: true, stream_options, ..Self::whole(request, call) }
    }
}

fn said(message: &Message) -> Said<'_> {
    match message {
        Message::User(text) => Said::User { content: text },
        Message::Assistant { text, calls } => {
            Said::Assistant { content: text, tool_calls: calls.iter().map(tool_call).collect() }
        }
        Message::ToolResult { id, content, .. } => Said::Tool { content, tool_call_id: id },
    }
}

fn tool_call(call: &ToolCall) -> Value {
    // Servers read them again, and refuse all that is said if they cannot. What was wrong with them is in the result.
    let arguments = if call.arguments.is_object() { call.arguments.to_string() } else { "{}".to_owned() };
    json!({ "type": "function", "id": call.id, "function": { "name": call.name, "arguments": arguments } })
}

fn tool(tool: &OfferedTool) -> Value {
    let OfferedTool { name, description, arguments } = tool;
    let function = json!({ "name": name, "description": description, "parameters": arguments, "strict": false });
    json!({ "type": "function", "function": function })
}

/// A schema that the provider holds the model to, if it is one that OpenAI takes as such; any other one is refused there.
fn response_format(name: &str, schema: &Value) -> Value {
    let strict = schema["type"] == "object" && is_strict(schema);
    json!({ "type": "json_schema", "json_schema": { "name": name, "strict": strict, "schema": schema } })
}

/// The words of JSON Schema that may be in a strict one, beside those that hold schemas.
const STRICT_WORDS: &str = "type title description enum const required additionalProperties $ref pattern format \
    multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems";

/// Whether a schema keeps to OpenAI's rules for strict ones, at every level: an object names all its properties, requires
/// each and has no others, and there is no word in it that is not taken.
fn is_strict(schema: &Value) -> bool {
    let Some(words) = schema.as_object() else { return false };
    let has_object =
        schema["type"] == "object" || schema["type"].as_array().is_some_and(|types| types.contains(&"object".into()));
    if has_object || words.contains_key("properties") {
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
        let properties = schema["properties"].as_object();
        if schema["additionalProperties"] != false || !properties.is_some_and(|them| them.keys().all(required)) {
            return false;
        }
    }
    words.iter().all(|(word, value)| match (word.as_str(), value) {
        ("properties" | "$defs" | "definitions", Value::Object(schemas)) => schemas.values().all(is_strict),
        ("anyOf", Value::Array(schemas)) => schemas.iter().all(is_strict),
        ("items", schema) => is_strict(schema),
        (word, _) => STRICT_WORDS.split(' ').any(|known| known == word),
    })
}
