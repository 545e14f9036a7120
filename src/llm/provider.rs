//! Models behind the APIs of providers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use genai::adapter::AdapterKind;
use reqwest::Url;
use tokio::time::Instant;

use super::compatible::Compatible;
use super::dropped::Sent;
use super::error::ModelError;
use super::gate::{Gate, Pass, Why};
use super::native::Native;
use super::price::Price;
use super::server::Server;
use super::trouble::{self, Told, Trouble, tokens};
use super::{Model, ModelReply, ModelRequest, ToolCall};
use crate::error::ModelProblem;
use crate::event::Usage;
use crate::http_client;

/// Longer answers are not read: no plan and no step needs them.
pub(super) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

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
    /// What the server is called, for people.
    place: String,
    api: Api,
    gate: Gate,
}

/// How a server is spoken to.
enum Api {
    Compatible(Compatible),
    Native(Native),
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
        let base_url = server.base_url.as_deref().map(address).transpose()?;
        let http = http_client(base_url.as_ref())?;
        let api = match base_url.filter(|_| server.kind == AdapterKind::OpenAI) {
            Some(base_url) => Api::Compatible(Compatible::new(&server, &base_url, http)),
            None => Api::Native(Native::new(&server, http)?),
        };
        let gate = Gate::new(server.limits);
        let place = server.address().map_or_else(|| server.name().to_owned(), trouble::shown_address);
        Ok(Self(Arc::new(Connection { server, place, api, gate })))
    }

    /// The names of the models that the server lists.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or answers otherwise than such a server does.
    pub async fn model_names(&self) -> Result<Vec<String>, ModelError> {
        let Connection { server, api, .. } = &*self.0;
        let trouble = Trouble { server, model: "", told: &Told::default() };
        match api {
            Api::Compatible(api) => api.model_names(&trouble).await,
            Api::Native(api) => api.model_names(&trouble).await,
        }
    }

    /// A model of this provider, by its name with or without `provider::` before it.
    pub fn model(&self, name: &str, options: ModelOptions) -> Arc<dyn Model> {
        let connection = Arc::clone(&self.0);
        let own_name = connection.server.model_name(name);
        Arc::new(ProviderModel { connection, name: name.to_owned(), own_name, options })
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Provider").field(&self.0.server).finish()
    }
}

/// The address of a server, if it is one.
fn address(url: &str) -> Result<Url, ModelError> {
    // Whatever it is, a password stands before the last `@`, and a key after the first `?`.
    let shown = url.rsplit('@').next().and_then(|rest| rest.split('?').next()).unwrap_or_default();
    let no_address =
        |why: String| ModelError::new(ModelProblem::Unreachable, format!("`{shown}` is no address: {why}"));
    let parsed = Url::parse(url).map_err(|error| no_address(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        _ => Err(no_address("it has to begin with http:// or https://".to_owned())),
    }
}

pub(super) fn http_client(base_url: Option<&Url>) -> Result<reqwest::Client, ModelError> {
    let client = http_client::builder(base_url).build();
    client.map_err(|error| ModelError::new(ModelProblem::Unreachable, error.to_string()))
}

struct ProviderModel {
    connection: Arc<Connection>,
    name: String,
    /// The name as the server knows it.
    own_name: String,
    options: ModelOptions,
}

/// One call of a model.
pub(super) struct Call<'a> {
    /// The model's name as its server knows it.
    pub(super) model: &'a str,
    pub(super) options: &'a ModelOptions,
    pub(super) trouble: Trouble<'a>,
}

impl Model for ProviderModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn server(&self) -> &str {
        &self.connection.place
    }

    fn complete<'a>(&'a self, request: ModelRequest) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let told = Told::of(&request);
            let pass = self.pass(&request, &told).await?;
            let call = self.call(&told);
            let sent = self.sent(&request, &told, &pass);
            let answered = match &self.connection.api {
                Api::Compatible(api) => api.complete(&request, &call).await,
                Api::Native(api) => api.complete(request, &call).await,
            };
            sent.over();
            self.done(pass, &told, answered)
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
            let call = self.call(&told);
            let mut sent = self.sent(&request, &told, &pass);
            let mut piece = |text: &str| {
                sent.received += text.len();
                piece(text);
            };
            let answered = match &self.connection.api {
                Api::Compatible(api) => api.stream(&request, &call, &mut piece).await,
                Api::Native(api) => api.stream(request, &call, &mut piece).await,
            };
            sent.over();
            self.done(pass, &told, answered)
        })
    }
}

impl ProviderModel {
    async fn pass(&self, request: &ModelRequest, told: &Told) -> Result<Pass<'_>, ModelError> {
        let gate = &self.connection.gate;
        if request.wait {
            return Ok(gate.pass(told.tokens()).await);
        }
        gate.pass_now(told.tokens()).map_err(|shut| {
            let left = shut.until.saturating_duration_since(Instant::now());
            let message = match shut.why {
                // Until one is over, whenever that is.
                Why::Busy(_) => format!("not asked yet: {}", shut.why),
                why => format!("not asked yet: {why} for another {:.1}s", left.as_secs_f64()),
            };
            self.placed(ModelError::deferred(message, millis(left)))
        })
    }

    fn sent<'a>(&'a self, request: &ModelRequest, told: &Told, pass: &'a Pass<'a>) -> Sent<'a> {
        Sent {
            pass,
            when_dropped: Some(request.when_dropped.clone()),
            price: self.options.price.as_ref(),
            input_tokens: told.tokens(),
            received: 0,
        }
    }

    fn call<'a>(&'a self, told: &'a Told) -> Call<'a> {
        let trouble = Trouble { server: &self.connection.server, model: &self.name, told };
        Call { model: &self.own_name, options: &self.options, trouble }
    }

    /// What came of a call, and what it cost; a pause that the server wants holds for everybody from now on.
    fn done(
        &self,
        pass: Pass<'_>,
        told: &Told,
        answered: Result<ModelReply, ModelError>,
    ) -> Result<ModelReply, ModelError> {
        let mut reply = answered.map_err(|mut error| {
            error.usage.calls = 1;
            if let Some(pause) = error.retry_after_ms.filter(|_| error.problem.may_pass()) {
                self.connection.gate.close(Duration::from_millis(pause));
            }
            if let Some(price) = &self.options.price {
                price.charge(&mut error.usage);
            }
            let used = error.usage.tokens();
            if used > 0 {
                pass.took(used);
            }
            self.placed(error)
        })?;
        tell_apart(&mut reply.calls);
        if reply.usage.is_zero() {
            reply.usage = estimated(told, &reply);
        }
        reply.usage.calls = 1;
        if let Some(price) = &self.options.price {
            price.charge(&mut reply.usage);
        }
        let usage = reply.usage;
        if reply.text.len() > MAX_ANSWER_BYTES {
            return Err(ModelError { usage, ..self.placed(too_long()) });
        }
        pass.took(usage.tokens());
        let Usage { input_tokens, output_tokens, micro_usd, .. } = usage;
        tracing::info!(model = self.name, input_tokens, output_tokens, micro_usd, "model called");
        Ok(reply)
    }

    /// An error, and whose it is.
    fn placed(&self, error: ModelError) -> ModelError {
        ModelError { message: format!("{}: {}", self.place(), error.message), ..error }
    }

    /// Who is talked about.
    fn place(&self) -> String {
        let at = if self.connection.server.address().is_some() { "at" } else { "of" };
        format!("model `{}` {at} {}", self.name, self.connection.place)
    }
}

/// What a call has used if its server does not say: a limit on what a run may use would mean nothing otherwise.
fn estimated(told: &Told, reply: &ModelReply) -> Usage {
    let said = reply.text.len() + reply.calls.iter().map(trouble::of_call).sum::<usize>();
    Usage { input_tokens: told.tokens(), output_tokens: tokens(said), ..Usage::default() }
}

/// Gives a call an id where it has none, or that of another one: servers find by it what came of which.
fn tell_apart(calls: &mut [ToolCall]) {
    let given: BTreeSet<String> = calls.iter().map(|call| call.id.clone()).collect();
    let mut free = (1..).map(|number: u32| format!("call_{number}")).filter(|id| !given.contains(id));
    let mut seen = BTreeSet::new();
    for call in calls {
        if call.id.is_empty() || !seen.insert(call.id.clone()) {
            call.id = free.next().unwrap_or_default();
        }
    }
}

pub(super) fn too_long() -> ModelError {
    ModelError::new(ModelProblem::BadAnswer, format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
