//! MCP servers: started before anything is looked at, since only they know their tools, and ended with the command.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use plandag::Tool;
use plandag::report::ExitCode;
use plandag::tools::mcp::{Launch, McpConfig, McpError, McpServers, ServerConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::console::Console;
use super::duration::human;
use super::failure::Failure;
use super::run;
use super::secrets;
use super::source;
use super::text;

/// How long servers may take to start before anybody is told that they are waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// The servers of this command.
pub(crate) struct Servers {
    servers: McpServers,
    /// What they run on, apart from the run: they are there before it and after it.
    runtime: Runtime,
}

impl Servers {
    /// Starts the servers of some files; none if there are no files.
    pub(crate) fn start(files: &[PathBuf], console: &Console) -> Result<Option<Self>, Failure> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut config = McpConfig::default();
        for file in files {
            config.extend(read(file)?);
        }
        config.servers().iter().for_each(|server| secrets::known().add_all(server.secrets()));
        let runtime = run::built(Builder::new_multi_thread().worker_threads(1).thread_name("mcp"))?;
        let is_web = |server: &&ServerConfig| matches!(server.launch, Launch::Http { .. });
        let on_web: Vec<String> = config.servers().iter().filter(is_web).map(|server| server.name.clone()).collect();
        let servers = runtime.block_on(ready(config, console)).map_err(|error| {
            let server = &error.server;
            let first = match on_web.contains(server) {
                true => {
                    format!("see whether the server runs, and whether the `url` and `headers` of `{server}` are right")
                }
                false => format!("try the command of `{server}` by hand"),
            };
            Failure::new("config.mcp", ExitCode::Configuration, error.to_string())
                .help(format!("{first}, or say `\"disabled\": true` in its entry"))
        })?;
        Ok(Some(Self { servers, runtime }))
    }

    pub(crate) fn tools(&self) -> Vec<(String, Arc<dyn Tool>)> {
        self.servers.tools()
    }

    /// What a run may do with them, for people.
    pub(crate) fn may(&self) -> impl Iterator<Item = String> {
        self.servers.list().map(|(name, whereabouts, tools)| {
            let tools = if tools == 1 { "the tool".to_owned() } else { format!("the {tools} tools") };
            format!("use {tools} of MCP server {name} ({})", text::line(&whereabouts))
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.runtime.block_on(self.servers.close());
    }
}

/// The servers, once they are ready. Says what is waited for if that takes long: a program that is started for the first
/// time may have to be downloaded.
async fn ready(config: McpConfig, console: &Console) -> Result<McpServers, McpError> {
    let names: Vec<String> = config.servers().iter().map(|server| server.name.clone()).collect();
    let longest = config.servers().iter().map(|server| server.start).max().unwrap_or_default();
    let mut started = pin!(McpServers::start(config));
    if let Ok(started) = timeout(SILENCE, &mut started).await {
        return started;
    }
    let (names, longest) = (names.join(", "), human(longest));
    console.say(&format!("waiting for MCP servers to be ready, at most {longest}: {names}"));
    started.await
}

fn read(file: &Path) -> Result<McpConfig, Failure> {
    let name = file.display();
    let failed = |exit, message: String| {
        Failure::new("config.mcp", exit, message)
            .help("it has the form {\"mcpServers\": {\"NAME\": {\"command\": \"PROGRAM\", \"args\": []}}}")
    };
    let text = source::text_of(file).map_err(|error| {
        let exit = if error.kind() == ErrorKind::FileTooLarge { ExitCode::Configuration } else { ExitCode::Usage };
        failed(exit, format!("{name} cannot be read: {error}"))
    })?;
    McpConfig::parse(&text).map_err(|error| failed(ExitCode::Configuration, format!("{name}: {error}")))
}
