//! A connection to a server: how it is made, what is asked of it, and how it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientRequest, ListToolsRequest, PaginatedRequestParams,
    RequestId, ServerResult, Tool,
};
use rmcp::service::{ClientInitializeError, Peer, PeerRequestOptions, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use super::client::Client;
use super::config::{Launch, ServerConfig};
use super::pipe::{MAX_MESSAGE_BYTES, Pipe, Reason};
use super::process::Process;
use super::trouble::{self, Trouble};
use crate::cut;
use crate::http_client;

const MAX_TOOLS: usize = 1_000;
const MAX_PAGES: usize = 100;
const MAX_NAME_BYTES: usize = 128;
/// How long a connection may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// A connection to a server, and the server's process if it is ours.
pub(super) struct Connection {
    peer: Peer<RoleClient>,
    client: Client,
    reason: Reason,
    service: Mutex<Option<RunningService<RoleClient, Client>>>,
    process: Mutex<Option<Process>>,
    /// Tools that the server does not describe any more as it did at the start.
    changed: StdMutex<BTreeSet<String>>,
}

/// A tool as its server described it at the start.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) arguments: Value,
    pub(super) read_only: bool,
    pub(super) idempotent: bool,
    /// All that was said about it, to see whether that stays so.
    definition: Value,
}

impl Connection {
    pub(super) async fn open(config: &ServerConfig) -> Result<Self, String> {
        let client = Client::default();
        let reason = Reason::default();
        let late = |_| Trouble::Silence(format!("it is not ready after {:?}", config.start));
        let begun =
            |ready: Result<_, ClientInitializeError>| ready.map_err(|error| trouble::of_start(&error, &config.launch));
        let (started, mut process) = match &config.launch {
            Launch::Program { command, args, env, cwd } => {
                let (process, stdin, stdout) =
                    Process::start(command, args, env.iter(), cwd.as_deref(), config.secrets.clone()).map_err(
                        |error| match cwd {
                            Some(cwd) if !cwd.is_dir() => format!("its `cwd` {} is no folder", cwd.display()),
                            _ => format!("`{command}` cannot be started: {error}"),
                        },
                    )?;
                let pipe = Pipe::new(stdin, stdout, reason.clone());
                let started = timeout(config.start, client.clone().serve(pipe)).await.map_err(late);
                (started.and_then(begun), Some(process))
            }
            Launch::Http { url, headers } => {
                let transport = http(url, headers)?;
                let started = timeout(config.start, client.clone().serve(transport)).await.map_err(late);
                (started.and_then(begun), None)
            }
        };
        match started {
            Ok(service) => Ok(Self {
                peer: service.peer().clone(),
                client,
                reason,
                service: Mutex::new(Some(service)),
                process: Mutex::new(process),
                changed: StdMutex::default(),
            }),
            Err(trouble) => {
                let message = explain(trouble, &reason, process.as_mut()).await;
                if let Some(process) = process {
                    process.end().await;
                }
                Err(message)
            }
        }
    }

    /// Sends a request and waits for its answer: for the longest a call may take, and never longer without a word.
    pub(super) async fn ask(
        &self,
        request: ClientRequest,
        config: &ServerConfig,
    ) -> Result<ServerResult, ServiceError> {
        let options = PeerRequestOptions::with_timeout(config.idle.min(config.call))
            .reset_timeout_on_progress()
            .with_max_total_timeout(config.call);
        let sent = timeout(config.call, self.peer.send_request_with_option(request, options)).await;
        let handle = sent.map_err(|_| ServiceError::Timeout { timeout: config.call })??;
        let mut unread = Unread { peer: self.peer.clone(), id: Some(handle.id.clone()) };
        let answer = handle.await_response().await;
        unread.id = None;
        answer
    }

    /// The tools that the server has now.
    pub(super) async fn list(&self, config: &ServerConfig) -> Result<Vec<Listed>, Trouble> {
        let answer = |message: String| Err(Trouble::Answer(message));
        let mut tools: Vec<Listed> = Vec::new();
        let mut names = BTreeSet::new();
        let mut cursor = None;
        let mut is_complete = false;
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor.take());
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let asked = timeout(config.start, self.ask(request, config)).await;
            let late = |_| Trouble::Silence(format!("it has not listed its tools after {:?}", config.start));
            let page = match asked.map_err(late)? {
                Ok(ServerResult::ListToolsResult(page)) => page,
                Ok(_) => return answer("it answers the question for its tools with something else".into()),
                Err(error) => return Err(trouble::of_request(&error, "tools/list", &config.launch)),
            };
            for tool in page.tools {
                if !names.insert(tool.name.to_string()) {
                    return answer(format!("it has two tools with the name `{}`", shown(&tool.name)));
                }
                tools.push(Listed::new(tool).map_err(Trouble::Answer)?);
            }
            if tools.len() > MAX_TOOLS {
                return answer(format!("it has more than {MAX_TOOLS} tools"));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                is_complete = true;
                break;
            }
        }
        if is_complete { Ok(tools) } else { answer(format!("its list of tools has more than {MAX_PAGES} pages")) }
    }

    /// Notes which tools are not what they were.
    pub(super) fn compare(&self, before: &[Listed], now: &[Listed]) {
        let now: BTreeMap<&str, &Value> = now.iter().map(|tool| (tool.name.as_str(), &tool.definition)).collect();
        let has_changed = |tool: &&Listed| now.get(tool.name.as_str()).is_none_or(|now| **now != tool.definition);
        // What has changed once stays so, even if it is changed back.
        self.changed().extend(before.iter().filter(has_changed).map(|tool| tool.name.clone()));
    }

    /// How often the server has said that its tools have changed.
    pub(super) fn changes(&self) -> u64 {
        self.client.changes()
    }

    /// Whether a tool is not what it was at the start.
    pub(super) fn has_changed(&self, tool: &str) -> bool {
        self.changed().contains(tool)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_transport_closed()
    }

    fn changed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message with all that is known about why.
    pub(super) async fn explain(&self, trouble: Trouble) -> String {
        explain(trouble, &self.reason, self.process.lock().await.as_mut()).await
    }

    /// Ends the connection, and the process.
    pub(super) async fn end(&self) {
        if let Some(mut service) = self.service.lock().await.take() {
            // It closes the input of the server, which is what tells it to end.
            let _ = service.close_with_timeout(CLOSE).await;
        }
        if let Some(process) = self.process.lock().await.take() {
            process.end().await;
        }
    }
}

/// What went wrong, with all that is known about why.
async fn explain(trouble: Trouble, reason: &Reason, process: Option<&mut Process>) -> String {
    let Some(process) = process else { return reason.get().unwrap_or_else(|| trouble.message()) };
    let status = process.ended().await;
    let mut message = match trouble {
        Trouble::Answer(message) => message,
        // Whatever else went wrong did so because of that.
        Trouble::Silence(_) if status.is_some() => reason.get().unwrap_or_else(|| "it has ended".to_owned()),
        Trouble::Silence(message) => reason.get().unwrap_or(message),
    };
    if let Some(status) = status {
        message.push_str(&format!(" ({status})"));
    }
    let tail = process.tail();
    if !tail.is_empty() {
        message.push_str(&format!("; it says: {tail}"));
    }
    message
}

/// Tells the server that nobody waits for an answer any more, if the future that waited is dropped.
struct Unread {
    peer: Peer<RoleClient>,
    id: Option<RequestId>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let peer = self.peer.clone();
        runtime.spawn(async move {
            let params = CancelledNotificationParam::new(Some(id), None);
            let _ = timeout(CLOSE, peer.send_notification(CancelledNotification::new(params).into())).await;
        });
    }
}

impl Listed {
    fn new(tool: Tool) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if tool.name.is_empty() || tool.name.len() > MAX_NAME_BYTES || !tool.name.chars().all(is_name) {
            return Err(format!("a tool has the name `{}`, which is none", shown(&tool.name)));
        }
        let definition = serde_json::to_value(&tool).map_err(|error| error.to_string())?;
        let hints = tool.annotations.unwrap_or_default();
        Ok(Self {
            name: tool.name.into_owned(),
            description: tool.description.unwrap_or_default().into_owned(),
            arguments: Value::Object((*tool.input_schema).clone()),
            read_only: hints.read_only_hint == Some(true),
            idempotent: hints.idempotent_hint == Some(true),
            definition,
        })
    }
}

fn shown(name: &str) -> String {
    cut::chars(name, 40).chars().flat_map(char::escape_default).collect()
}

fn http(
    url: &Url,
    headers: &BTreeMap<String, String>,
) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
    let mut custom = HashMap::new();
    for (name, value) in headers {
        let parsed = name.parse().ok().zip(reqwest::header::HeaderValue::from_str(value).ok());
        let (name, value) = parsed.ok_or_else(|| format!("the header `{name}` cannot be sent"))?;
        custom.insert(name, value);
    }
    let client = http_client::builder(Some(url)).build().map_err(|error| error.to_string())?;
    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
        .custom_headers(custom)
        .max_sse_event_size(MAX_MESSAGE_BYTES);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
