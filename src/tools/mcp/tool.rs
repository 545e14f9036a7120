//! A tool of a server as a tool of a run.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::connection::Listed;
use super::owner;
use super::server::Server;
use crate::cut;
use crate::error::StepError;
use crate::tool::{Effect, StepContext, Tool, ToolOutput, ToolSpec, ToolTimeout};

/// How much of a description is handed on to planners.
const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// How much of an error that a tool reports goes into the message.
const MAX_ERROR_CHARS: usize = 2_000;
/// The attempt may take a little longer than the call, so that it is the call that says what was late.
const SPARE: Duration = Duration::from_secs(5);

pub(super) struct McpTool {
    server: Arc<Server>,
    index: usize,
}

impl McpTool {
    pub(super) fn new(server: Arc<Server>, index: usize) -> Self {
        Self { server, index }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.server.name(), self.listed().name)
    }

    fn listed(&self) -> &Listed {
        &self.server.tools()[self.index]
    }

    fn acts(&self) -> bool {
        !(self.server.config().trust && self.listed().read_only)
    }

    fn is_idempotent(&self) -> bool {
        self.server.config().trust && self.listed().idempotent
    }
}

impl Tool for McpTool {
    fn spec(&self) -> ToolSpec {
        let listed = self.listed();
        let config = self.server.config();
        let millis = u64::try_from((config.call + SPARE).as_millis()).unwrap_or(u64::MAX);
        let description = cut::chars(&config.secrets.redact(&listed.description), MAX_DESCRIPTION_CHARS).into_owned();
        ToolSpec {
            arguments: listed.arguments.clone(),
            output: r#"{"text": <all texts of the result>}, and if the result has them "structured": <a value> and "other": [<parts that are not text, as MCP has them>]"#.into(),
            effect: if self.acts() { Effect::Acts } else { Effect::Reads },
            untrusted: true,
            idempotent: self.is_idempotent(),
            timeout: ToolTimeout::Millis(millis),
            ..ToolSpec::new(self.name(), description)
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let arguments = match &cx.args {
                Value::Null => None,
                Value::Object(fields) => Some(fields.clone()),
                _ => return Err(StepError::bad_input("the arguments of an MCP tool must be an object")),
            };
            let acts = self.acts() && !self.is_idempotent();
            let result = self.server.call(&self.listed().name, arguments, acts).await?;
            let secrets = &self.server.config().secrets;
            let output = output(result)
                .map_err(|error| StepError { message: secrets.redact(&error.message).into_owned(), ..error })?;
            Ok(secrets.redact_value(output).into())
        })
    }

    fn reap<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // Servers are of a process and not of a run: to look once is enough for all tools of one.
            if self.index == 0 {
                owner::end_orphans().await;
            }
        })
    }
}

fn output(result: CallToolResult) -> Result<Value, StepError> {
    let mut texts = Vec::new();
    let mut other = Vec::new();
    for block in result.content {
        match block {
            ContentBlock::Text(text) => texts.push(text.text),
            block => other.push(serde_json::to_value(block)?),
        }
    }
    let text = texts.join("\n");
    if result.is_error == Some(true) {
        let said = cut::chars(&text, MAX_ERROR_CHARS);
        return Err(StepError::permanent(format!("the tool reports an error: {said}")));
    }
    let mut output = json!({ "text": text });
    if let Some(structured) = result.structured_content {
        output["structured"] = structured;
    }
    if !other.is_empty() {
        output["other"] = other.into();
    }
    Ok(output)
}
