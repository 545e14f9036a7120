//! `web_search`: asks a search engine.
//!
//! The engine is chosen by whoever starts the run: [Tavily](https://tavily.com), for which a key is needed, or the search
//! of any MediaWiki, such as Wikipedia, for which none is. What they find was written by strangers, so it is
//! [untrusted](crate::ToolSpec::untrusted).

mod mediawiki;
mod tavily;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::arguments::Arguments;
use super::fetch::causes;
use crate::cut;
use crate::error::{StepError, StepErrorKind};
use crate::http_client;
use crate::retry_after::pause_wanted;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

const DEFAULT_LIMIT: u64 = 5;
const MAX_LIMIT: u64 = 20;
/// The longest query: engines take no more.
const MAX_QUERY_BYTES: usize = 1_000;
/// A larger answer is not read.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How much of a hit's text is handed on.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// How much of what a server says goes into an error.
const MAX_SAID_BYTES: usize = 300;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks a search engine.
///
/// ```
/// use plandag::tools::WebSearch;
///
/// let search = WebSearch::mediawiki("https://en.wikipedia.org/w/api.php".parse()?);
/// # Ok::<(), url::ParseError>(())
/// ```
pub struct WebSearch {
    engine: Engine,
    timeout: Duration,
    /// Made when first needed, since reading the certificates of the system takes its time.
    client: OnceLock<Result<Client, String>>,
}

enum Engine {
    Tavily { key: String, base: Url },
    MediaWiki { api: Url },
}

/// Something that was found.
#[derive(Debug, PartialEq, Serialize)]
struct Hit {
    title: String,
    url: String,
    text: String,
}

impl WebSearch {
    /// Asks Tavily, at `base`; `https://api.tavily.com/` is the public service. The key is sent there and nowhere else,
    /// and is in no error.
    pub fn tavily(key: impl Into<String>, base: Url) -> Self {
        Self::new(Engine::Tavily { key: key.into(), base })
    }

    /// Asks a MediaWiki by the address of its `api.php`.
    pub fn mediawiki(api: Url) -> Self {
        Self::new(Engine::MediaWiki { api })
    }

    fn new(engine: Engine) -> Self {
        Self { engine, timeout: TIMEOUT, client: OnceLock::new() }
    }

    /// How long an answer may take; half a minute if nothing else is said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The host that is asked.
    pub fn host(&self) -> &str {
        self.url().host_str().unwrap_or_default()
    }

    fn url(&self) -> &Url {
        let (Engine::Tavily { base: url, .. } | Engine::MediaWiki { api: url }) = &self.engine;
        url
    }

    fn client(&self) -> Result<Client, String> {
        let client = http_client::builder(Some(self.url())).build();
        client.map_err(|error| format!("web_search cannot be set up: {}", causes(&error)))
    }

    fn name(&self) -> &str {
        match &self.engine {
            Engine::Tavily { .. } => "tavily",
            Engine::MediaWiki { .. } => self.host(),
        }
    }

    async fn search(&self, query: &str, limit: u64) -> Result<ToolOutput, StepError> {
        let client =
            self.client.get_or_init(|| self.client()).as_ref().map_err(|error| StepError::permanent(error.clone()))?;
        let hits = match &self.engine {
            Engine::Tavily { key, base } => {
                let answer = self.ask(tavily::request(client, key, base, query, limit)?).await?;
                tavily::hits(answer)
            }
            Engine::MediaWiki { api } => {
                let answer = self.ask(mediawiki::request(client, api, query, limit)).await?;
                mediawiki::hits(answer, self.host())
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let hits: Vec<Hit> = hits?.into_iter().take(limit).map(Hit::bounded).collect();
        Ok(json!({ "query": query, "engine": self.name(), "hits": hits }).into())
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Answer, StepError> {
        let response = request.send().await.map_err(|error| {
            StepError::transient(format!("{} cannot be reached: {}", self.host(), causes(&error.without_url())))
        })?;
        let wait_ms = pause_wanted(response.headers(), SystemTime::now());
        let status = response.status();
        let body = self.body(response).await?;
        let answer = Answer { json: serde_json::from_slice(&body).ok(), wait_ms };
        if !status.is_success() {
            return Err(self.refused(status, &answer, &body));
        }
        if answer.json.is_none() {
            let message = format!("{} answers with something that is not JSON: {}", self.host(), self.said(&body));
            return Err(StepError::new(StepErrorKind::BadOutput, message));
        }
        Ok(answer)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, StepError> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| {
                StepError::transient(format!("the answer of {} broke off: {}", self.host(), causes(&error)))
            })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message = format!("the answer of {} is larger than {MAX_ANSWER_BYTES} bytes", self.host());
                return Err(StepError::new(StepErrorKind::BadOutput, message));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn refused(&self, status: StatusCode, answer: &Answer, body: &[u8]) -> StepError {
        let host = self.host();
        let is_tavily = matches!(self.engine, Engine::Tavily { .. });
        let message = match status.as_u16() {
            401 | 403 if is_tavily => format!("{host} does not accept the key in TAVILY_API_KEY ({status})"),
            // Codes of Tavily's own.
            432 | 433 if is_tavily => {
                format!("the limit of the plan that the key in TAVILY_API_KEY has is used up ({status})")
            }
            _ => format!("{host} answers {status}: {}", self.said(body)),
        };
        super::refused(status.as_u16(), message, answer.wait_ms)
    }

    /// The beginning of what a server said, without the key if it repeats that.
    fn said(&self, body: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(body).trim().to_owned();
        if let Engine::Tavily { key, .. } = &self.engine
            && !key.is_empty()
        {
            text = text.replace(key.as_str(), "[key]");
        }
        cut::bytes(&text, MAX_SAID_BYTES).into_owned()
    }
}

/// What a server answered.
struct Answer {
    json: Option<Value>,
    wait_ms: Option<u64>,
}

impl Answer {
    /// The JSON, as the type of the engine's answers.
    fn read<T: serde::de::DeserializeOwned>(self, host: &str) -> Result<T, StepError> {
        serde_json::from_value(self.json.unwrap_or_default()).map_err(|error| {
            let message = format!("{host} answers with JSON that is no search result: {error}");
            StepError::new(StepErrorKind::BadOutput, message)
        })
    }
}

impl Hit {
    fn bounded(mut self) -> Self {
        for text in [&mut self.title, &mut self.url, &mut self.text] {
            *text = cut::bytes(text, MAX_TEXT_BYTES).into_owned();
        }
        self
    }
}

impl fmt::Debug for WebSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSearch").field("engine", &self.name()).field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Tool for WebSearch {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "query": { "type": "string", "description": "what to look for, in a few words" },
                    "limit": { "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "description": "the most hits; 5 if left out" }
                },
                "required": ["query"],
                "additionalProperties": false
            }),
            output: r#"{"query": "..", "engine": "tavily" or the host of a wiki, "hits": [{"title": "..", "url": "https://..", "text": <the passage or introduction>}]}, the best hit first"#.into(),
            untrusted: true,
            ..ToolSpec::new("web_search", "Asks a search engine of the web, and gives titles, addresses and passages.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let arguments = Arguments::new(&cx.args, &["query", "limit"])?;
            let query = arguments.text("query")?.trim();
            if query.is_empty() || query.len() > MAX_QUERY_BYTES {
                let message = format!("`query` must have from 1 to {MAX_QUERY_BYTES} bytes, and has {}", query.len());
                return Err(StepError::bad_input(message));
            }
            let limit = arguments.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
            tokio::time::timeout(self.timeout, self.search(query, limit)).await.unwrap_or_else(|_| {
                let message = format!("{} has not answered after {:?}", self.host(), self.timeout);
                Err(StepError::new(StepErrorKind::Timeout, message))
            })
        })
    }
}
