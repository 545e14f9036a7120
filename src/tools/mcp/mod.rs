//! The tools of MCP servers, named `server.tool`.
//!
//! Which servers there are is said by the usual `mcpServers` JSON ([`McpConfig`]). They are started before the run
//! ([`McpServers::start`]), one process each, and ended after it ([`McpServers::close`]), or when the process that
//! started them is gone, however that went: by themselves within a second, or when a run is resumed before that. A server may be anybody's, so it is not believed more than it has to be:
//!
//! - What its tools return is [untrusted](crate::ToolSpec::untrusted), always.
//! - Its tools act, whatever they say of themselves. Where the configuration says `"trust": true`, a tool with a
//!   `readOnlyHint` reads, and one with an `idempotentHint` may be repeated.
//! - Names, descriptions and schemas are those of the start. A tool that is described otherwise later on, because the
//!   server says so or after it had to be started again, is not called any more.
//! - A start, a call, and a call in which the server says nothing have each an end. A message has at most 4 MiB. What
//!   comes beside messages, on either output, is passed over, up to a limit.
//! - It gets a clean environment, to which the configuration adds. Values of variables and headers that are named like
//!   secrets are in no error and in no result.

mod client;
mod config;
mod connection;
mod message;
mod owner;
mod pipe;
mod process;
mod server;
mod tool;
mod trouble;

use std::fmt;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use thiserror::Error;

pub use config::{Launch, McpConfig, McpConfigError, ServerConfig};

use crate::tool::Tool;
use server::Server;
use tool::McpTool;

/// A server could not be started.
#[derive(Clone, Debug, Error)]
#[error("MCP server `{server}`: {message}")]
pub struct McpError {
    /// Its name in the configuration.
    pub server: String,
    /// What happened.
    pub message: String,
}

/// Servers that have been started.
pub struct McpServers {
    servers: Vec<Arc<Server>>,
}

impl McpServers {
    /// Starts all servers of a configuration at the same time, and asks each for its tools.
    ///
    /// # Errors
    ///
    /// The first that does not start; the others are ended then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime. That runtime has to last as long as the servers are used.
    pub async fn start(config: McpConfig) -> Result<Self, McpError> {
        let started = config.servers.into_iter().map(Server::start);
        let servers = try_join_all(started).await?.into_iter().map(Arc::new).collect();
        Ok(Self { servers })
    }

    /// All tools, as `server.tool`.
    pub fn tools(&self) -> Vec<(String, Arc<dyn Tool>)> {
        let tools_of = |server: &Arc<Server>| {
            let server = Arc::clone(server);
            (0..server.tools().len()).map(move |index| {
                let tool = McpTool::new(Arc::clone(&server), index);
                (tool.name(), Arc::new(tool) as Arc<dyn Tool>)
            })
        };
        self.servers.iter().flat_map(tools_of).collect()
    }

    /// The name of each server, what it is, and how many tools it has.
    pub fn list(&self) -> impl Iterator<Item = (&str, String, usize)> {
        self.servers.iter().map(|server| (server.name(), server.whereabouts(), server.tools().len()))
    }

    /// Ends all servers, and waits until they are gone.
    pub async fn close(&self) {
        join_all(self.servers.iter().map(|server| server.close())).await;
    }
}

impl fmt::Debug for McpServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
