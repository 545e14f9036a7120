//! `sleep`: waits.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;

use super::arguments::Arguments;
use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec, ToolTimeout};

/// A day: longer waits are mistakes.
const MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// Waits for a number of milliseconds: to try out plans, and to leave a server alone for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep;

impl Sleep {
    /// The tool.
    pub fn new() -> Self {
        Self
    }
}

impl Tool for Sleep {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "ms": { "type": "integer", "minimum": 0, "maximum": MAX_MS, "description": "how long, in milliseconds" }
                },
                "required": ["ms"],
                "additionalProperties": false
            }),
            output: r#"{"slept_ms": 500}"#.into(),
            timeout: ToolTimeout::Never,
            ..ToolSpec::new("sleep", "Waits for a number of milliseconds.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let ms = Arguments::new(&cx.args, &["ms"])?.required_number("ms", 0..=MAX_MS)?;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(json!({ "slept_ms": ms }).into())
        })
    }
}
