//! Models behind the APIs of providers, by way of `genai`.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use genai::adapter::AdapterKind;
use genai::chat::{ChatOptions, ChatResponse, ChatStreamEvent, JsonSpec, ReasoningEffort, StopReason};
use genai::resolver::{AuthData, Endpoint, ProviderConfig};
use genai::{Client, ModelIden};
use reqwest::redirect;

use super::converse;
use super::error::ModelError;
use super::gate::{Gate, Pass};
use super::price::Price;
use super::server::Server;
use super::trouble::{self, Told};
use super::{Model, ModelReply, ModelRequest, ReplyEnd};
use crate::error::ModelProblem;
use crate::event::Usage;

/// Longer answers are not read: no plan and no step needs them.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// How long to try to reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// What is sent as a key to servers that want none.
const NO_KEY: &str = "none";

/// A connection to one [`Server`], shared by all of its models: one pool of connections, one gate.
///
/// ```no_run
/// use plandag::llm::{ModelOptions, Provider, Server};
///
/// # fn main() -> Result<(), plandag::llm::ModelError> {
/// let provider = Provider::new(Server::at("http://localhost:8080/v1"))?;
/// let model = provider.model("qwen3", ModelOptions::default());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Provider(Arc<Connection>);

struct Connection {
    server: Server,
    client: Client,
    gate: Gate,
}

/// How a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelOptions {
    /// How much chance there is in the answers; none: as the provider has it.
    pub temperature: Option<f64>,
    /// The longest answer, in tokens; none: as the provider has it.
    pub max_output_tokens: Option<u32>,
    /// What the tokens cost; none: nothing is counted but tokens.
    pub price: Option<Price>,
}

impl Provider {
    /// Sets a connection up. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the server needs a key and has none, or its address is none.
    pub fn new(server: Server) -> Result<Self, ModelError> {
        if server.lacks_key() {
            let message = format!("no API key for the provider `{}`", server.name());
            return Err(ModelError::new(ModelProblem::MissingKey, message));
        }
        let http = http_client(server.base_url.as_deref())?;
        let client = Client::builder()
            .with_reqwest(http)
            .append_provider_config(server.kind, settings(&server))
            .build()
            .map_err(|error| ModelError::new(ModelProblem::Unreachable, error.to_string()))?;
        let gate = Gate::new(server.limits);
        Ok(Self(Arc::new(Connection { server, client, gate })))
    }

    /// The names of the models that the server lists.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or answers otherwise than such a server does.
    pub async fn model_names(&self) -> Result<Vec<String>, ModelError> {
        let Connection { server, client, .. } = &*self.0;
        let listed = client.all_model_names(server.kind, settings(server)).await;
        listed.map_err(|error| trouble::trouble(error, server, "", &Told::default()))
    }

    /// A model of this provider, by its name with or without `provider::` before it.
    pub fn model(&self, name: &str, options: ModelOptions) -> Arc<dyn Model> {
        let connection = Arc::clone(&self.0);
        let own_name = connection.server.model_name(name);
        let mut chat = ChatOptions::default()
            .with_capture_usage(true)
            .with_stream_header_timeout(connection.server.stall_after)
            .with_stream_read_timeout(connection.server.stall_after);
        chat.temperature = options.temperature;
        chat.max_tokens = options.max_output_tokens;
        if connection.server.base_url.is_some() && connection.server.kind == AdapterKind::OpenAI {
            // An effort that is stated keeps the end of a name such as `mistral-medium` from being taken for one; a
            // budget is an effort that this API has no word for, so nothing is sent.
            chat.reasoning_effort = Some(ReasoningEffort::Budget(0));
        }
        // The name is taken apart at the first `::`.
        let iden = match own_name.contains("::") {
            true => ModelIden::new(connection.server.kind, format!("{}::{own_name}", connection.server.name())),
            false => ModelIden::new(connection.server.kind, own_name),
        };
        Arc::new(ProviderModel { connection, name: name.to_owned(), iden, chat, price: options.price })
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Provider").field(&self.0.server).finish()
    }
}

/// The address and the key of a server.
fn settings(server: &Server) -> ProviderConfig {
    let key = server.key.clone().unwrap_or_else(|| NO_KEY.to_owned());
    let settings = ProviderConfig::from_auth(AuthData::from_single(key));
    match &server.base_url {
        Some(base_url) => settings.with_endpoint(Endpoint::from_owned(base_url.as_str())),
        None => settings,
    }
}

fn http_client(base_url: Option<&str>) -> Result<reqwest::Client, ModelError> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .user_agent(concat!("plandag/", env!("CARGO_PKG_VERSION")))
        // A key is for the server it was given for.
        .redirect(redirect::Policy::none());
    if let Some(url) = base_url {
        let parsed = reqwest::Url::parse(url)
            .map_err(|error| ModelError::new(ModelProblem::Unreachable, format!("`{url}` is no address: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            let message = format!("`{url}` is no address: it has to begin with http:// or https://");
            return Err(ModelError::new(ModelProblem::Unreachable, message));
        }
        if is_loopback(&parsed) {
            builder = builder.no_proxy();
        }
        if parsed.scheme() == "http" {
            // Reading the system's certificates takes longer than a call on this machine.
            builder = builder.tls_certs_only([]);
        }
    }
    builder.build().map_err(|error| ModelError::new(ModelProblem::Unreachable, error.to_string()))
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

struct ProviderModel {
    connection: Arc<Connection>,
    name: String,
    iden: ModelIden,
    chat: ChatOptions,
    price: Option<Price>,
}

impl Model for ProviderModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn complete<'a>(&'a self, request: ModelRequest) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let told = Told::of(&request);
            let pass = self.pass(&request, &told).await?;
            let options = self.options(&request);
            let answered =
                self.connection.client.exec_chat(self.iden.clone(), converse::request(request), Some(&options)).await;
            let reply = answered.map_err(|error| self.trouble(error, &told)).and_then(|answer| self.whole(answer))?;
            pass.took(reply.usage.input_tokens + reply.usage.output_tokens);
            self.tell(&reply.usage);
            Ok(reply)
        })
    }

    fn stream<'a>(
        &'a self,
        request: ModelRequest,
        piece: &'a mut (dyn FnMut(&str) + Send),
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let told = Told::of(&request);
            let pass = self.pass(&request, &told).await?;
            let options = self.options(&request);
            let chat = converse::request(request);
            let answered = self.connection.client.exec_chat_stream(self.iden.clone(), chat, Some(&options)).await;
            let mut events = answered.map_err(|error| self.trouble(error, &told))?.stream;
            let mut text = String::new();
            // Only an `End` says that the answer is whole: a connection that breaks between two events just ends.
            let end = loop {
                match events.next().await {
                    Some(Ok(ChatStreamEvent::Chunk(chunk))) => {
                        text.push_str(&chunk.content);
                        if text.len() > MAX_ANSWER_BYTES {
                            return Err(too_long());
                        }
                        piece(&chunk.content);
                    }
                    Some(Ok(ChatStreamEvent::End(end))) => break end,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(self.trouble(error, &told)),
                    None if text.is_empty() => {
                        let message = "the server's answer has no word in it: is the base URL that of a model's API? It \
                                       usually ends in /v1";
                        return Err(self.placed(ModelProblem::NotAnApi, message));
                    }
                    None => {
                        return Err(
                            self.placed(ModelProblem::CutOff, "the connection broke before the answer was complete")
                        );
                    }
                }
            };
            let usage = self.charged(end.captured_usage.unwrap_or_default());
            pass.took(usage.input_tokens + usage.output_tokens);
            self.tell(&usage);
            Ok(ModelReply { text, calls: Vec::new(), end: ended(end.captured_stop_reason.as_ref()), usage })
        })
    }
}

impl ProviderModel {
    async fn pass(&self, request: &ModelRequest, told: &Told) -> Result<Pass<'_>, ModelError> {
        let gate = &self.connection.gate;
        if let Some(left) = gate.closed_for().filter(|_| !request.wait) {
            let message = format!("the provider wants no call for another {:.1}s", left.as_secs_f64());
            let error = self.placed(ModelProblem::RateLimited, &message);
            return Err(error.retry_after_ms(Some(millis(left))));
        }
        Ok(gate.pass(told.tokens()).await)
    }

    fn options(&self, request: &ModelRequest) -> ChatOptions {
        match &request.schema {
            Some((name, schema)) => {
                self.chat.clone().with_response_format(JsonSpec::new(name.as_str(), schema.clone()))
            }
            None => self.chat.clone(),
        }
    }

    fn whole(&self, answer: ChatResponse) -> Result<ModelReply, ModelError> {
        let usage = self.charged(answer.usage);
        let end = ended(answer.stop_reason.as_ref());
        let (text, calls) = converse::reply(answer.content);
        if text.len() > MAX_ANSWER_BYTES {
            return Err(ModelError { usage, ..too_long() });
        }
        Ok(ModelReply { text, calls, end, usage })
    }

    /// What one call cost, for those who listen.
    fn tell(&self, usage: &Usage) {
        let Usage { input_tokens, output_tokens, micro_usd } = usage;
        tracing::info!(model = self.name, input_tokens, output_tokens, micro_usd, "model called");
    }

    /// What the provider counted, and what that costs.
    fn charged(&self, counted: genai::chat::Usage) -> Usage {
        let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0);
        let mut usage = Usage {
            input_tokens: count(counted.prompt_tokens),
            output_tokens: count(counted.completion_tokens),
            micro_usd: 0,
        };
        if let Some(price) = &self.price {
            price.charge(&mut usage);
        }
        usage
    }

    /// What went wrong, in our words; a pause that the server wants holds for everybody from now on.
    fn trouble(&self, error: genai::Error, told: &Told) -> ModelError {
        let mut error = trouble::trouble(error, &self.connection.server, &self.name, told);
        if let Some(pause) = error.retry_after_ms.filter(|_| error.problem.may_pass()) {
            self.connection.gate.close(Duration::from_millis(pause));
        }
        error.message = format!("{}: {}", self.place(), error.message);
        error
    }

    fn placed(&self, problem: ModelProblem, message: &str) -> ModelError {
        ModelError::new(problem, format!("{}: {message}", self.place()))
    }

    /// Who is talked about.
    fn place(&self) -> String {
        match self.connection.server.address() {
            Some(address) => format!("model `{}` at {}", self.name, trouble::shown_address(address)),
            None => format!("model `{}` of {}", self.name, self.connection.server.name()),
        }
    }
}

fn ended(reason: Option<&StopReason>) -> ReplyEnd {
    match reason {
        Some(StopReason::Completed(_) | StopReason::ToolCall(_) | StopReason::StopSequence(_)) => ReplyEnd::Complete,
        Some(StopReason::MaxTokens(_)) => ReplyEnd::Length,
        Some(StopReason::ContentFilter(_)) => ReplyEnd::Refused,
        Some(StopReason::Other(_)) | None => ReplyEnd::Other,
    }
}

fn too_long() -> ModelError {
    ModelError::new(ModelProblem::BadAnswer, format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
