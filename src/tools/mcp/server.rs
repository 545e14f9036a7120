//! One server: started, asked for its tools once, and started again if it ends before its time.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorCode, JsonObject, ServerResult,
};
use rmcp::service::ServiceError;
use serde_json::json;
use tokio::sync::Mutex;

use super::McpError;
use super::config::{Launch, ServerConfig};
use super::connection::{Connection, Listed};
use super::message::UNREADABLE;
use super::trouble;
use crate::error::{StepError, StepErrorKind};

/// So often a server is started again. One that ends each time would be started for ever.
const MAX_RESTARTS: u32 = 5;

/// A server that has been started.
pub(super) struct Server {
    config: ServerConfig,
    tools: Vec<Listed>,
    state: Mutex<State>,
}

struct State {
    /// None once it is closed for good.
    connection: Option<Arc<Connection>>,
    restarts: u32,
    /// As many changes of the tools as the connection had seen when they were last compared with what they were.
    compared: u64,
}

impl Server {
    pub(super) async fn start(config: ServerConfig) -> Result<Self, McpError> {
        let failed = |message: String| McpError {
            server: config.name.clone(),
            message: config.secrets.redact(&message).into_owned(),
        };
        let connection = Connection::open(&config).await.map_err(failed)?;
        let tools = match connection.list(&config).await {
            Ok(tools) => tools,
            Err(trouble) => {
                let message = connection.explain(trouble).await;
                connection.end().await;
                return Err(failed(message));
            }
        };
        let state = Mutex::new(State { connection: Some(Arc::new(connection)), restarts: 0, compared: 0 });
        Ok(Self { config, tools, state })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.config
    }

    pub(super) fn tools(&self) -> &[Listed] {
        &self.tools
    }

    /// What it is, for people: a command or a host, no arguments, since those may be anything.
    pub(super) fn whereabouts(&self) -> String {
        match &self.config.launch {
            Launch::Program { command, .. } => self.hide(command),
            launch => self.hide(&launch.host().unwrap_or_default()),
        }
    }

    /// Calls a tool. `acts` says that a call that broke off may have done what must not be done twice.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: Option<JsonObject>,
        acts: bool,
    ) -> Result<CallToolResult, StepError> {
        let connection = self.connection().await?;
        if connection.has_changed(tool) {
            let message = format!("MCP server `{}` describes `{tool}` otherwise than when the run began", self.name());
            return Err(StepError::permanent(format!("{message}: it is not called any more")));
        }
        let mut params = CallToolRequestParams::new(tool.to_owned());
        params.arguments = arguments;
        let answered = connection.ask(ClientRequest::CallToolRequest(CallToolRequest::new(params)), &self.config).await;
        match answered {
            Ok(ServerResult::CallToolResult(result)) => Ok(result),
            Ok(_) => {
                let message = format!("MCP server `{}` answers a call of `{tool}` with something else", self.name());
                Err(StepError::new(StepErrorKind::BadOutput, message))
            }
            Err(error) => Err(self.failed(&connection, tool, error, acts).await),
        }
    }

    /// The connection, made again if the server has ended.
    async fn connection(&self) -> Result<Arc<Connection>, StepError> {
        let mut state = self.state.lock().await;
        let Some(connection) = state.connection.clone() else {
            return Err(StepError::permanent(format!("MCP server `{}` has been ended", self.name())));
        };
        if !connection.is_closed() {
            let changes = connection.changes();
            if changes != state.compared {
                let now = connection.list(&self.config).await.map_err(|trouble| self.unusable(&trouble.message()))?;
                connection.compare(&self.tools, &now);
                state.compared = changes;
            }
            return Ok(connection);
        }
        if state.restarts >= MAX_RESTARTS {
            let message = format!("MCP server `{}` has ended {} times", self.name(), MAX_RESTARTS + 1);
            return Err(StepError::permanent(message));
        }
        state.restarts += 1;
        connection.end().await;
        let again = Connection::open(&self.config).await.map_err(|message| self.unusable(&message))?;
        let now = again.list(&self.config).await.map_err(|trouble| self.unusable(&trouble.message()))?;
        again.compare(&self.tools, &now);
        let again = Arc::new(again);
        state.connection = Some(Arc::clone(&again));
        state.compared = 0;
        Ok(again)
    }

    /// What it says, without the secrets that it was given.
    fn hide(&self, text: &str) -> String {
        self.config.secrets.redact(text).into_owned()
    }

    fn unusable(&self, message: &str) -> StepError {
        StepError::transient(self.hide(&format!("MCP server `{}`: {message}", self.name())))
    }

    async fn failed(&self, connection: &Connection, tool: &str, error: ServiceError, acts: bool) -> StepError {
        let name = self.name();
        match error {
            ServiceError::McpError(error) if error.code == UNREADABLE => {
                let why = self.hide(&error.message);
                let message = format!("MCP server `{name}` answers a call of `{tool}` with what cannot be read: {why}");
                StepError::new(StepErrorKind::BadOutput, message)
            }
            ServiceError::McpError(error) => {
                let message =
                    self.hide(&format!("MCP server `{name}` refuses the call of `{tool}`: {}", error.message));
                let is_bad_input = error.code == ErrorCode::INVALID_PARAMS;
                if is_bad_input { StepError::bad_input(message) } else { StepError::permanent(message) }
            }
            ServiceError::Timeout { timeout } => {
                let (what, setting) = match timeout == self.config.call {
                    true => ("not answered", "callTimeoutMs"),
                    false => ("said nothing", "idleTimeoutMs"),
                };
                let message = format!("MCP server `{name}` has {what} for {timeout:?} in a call of `{tool}`");
                let details = Some(json!({ "setting": setting }));
                StepError { details, ..StepError::new(StepErrorKind::Timeout, message) }
            }
            ServiceError::UnexpectedResponse => {
                let message = format!("MCP server `{name}` answers a call of `{tool}` with something else");
                StepError::new(StepErrorKind::BadOutput, message)
            }
            error => {
                if let Some(refusal) = trouble::refusal_of(&error) {
                    let message =
                        self.hide(&format!("MCP server `{name}` answers a call of `{tool}` with {}", refusal.words));
                    let kind = refusal.kind(acts);
                    let details = Some(json!({ "status": refusal.status }));
                    return StepError { details, retry_after_ms: refusal.pause_ms, ..StepError::new(kind, message) };
                }
                let why = connection.explain(trouble::of_request(&error, "tools/call", &self.config.launch)).await;
                let message = self.hide(&format!("MCP server `{name}` is gone in a call of `{tool}`: {why}"));
                // What acts may have acted.
                let kind = if acts { StepErrorKind::Interrupted } else { StepErrorKind::Transient };
                StepError::new(kind, message)
            }
        }
    }

    /// Ends the server.
    pub(super) async fn close(&self) {
        let connection = self.state.lock().await.connection.take();
        if let Some(connection) = connection {
            connection.end().await;
        }
    }
}
