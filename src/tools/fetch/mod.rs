//! `fetch`: the text behind a URL.
//!
//! Plans are written by models that have read what strangers wrote, so `fetch` connects to the public internet only:
//! not to this machine, its network or the services of a cloud, whatever name, redirect or notation leads there. Who
//! starts the run may allow single hosts; a plan may not.

mod address;
mod body;
mod guard;
mod page;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::{Value, json};
use url::Url;

use super::arguments::Arguments;
use super::thread::on_thread;
use crate::cut;
use crate::error::{StepError, StepErrorKind};
use crate::retry_after::pause_wanted;
use crate::tool::{Hold, StepContext, Tool, ToolOutput, ToolSpec};

use body::Body;
pub use guard::{HostPort, HostPortError, Resolve};
use guard::{PublicOnly, Refusal, System, Unchecked, check_address, check_form};
use page::Page;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// More text is not handed on.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// The longest URL; browsers and servers stop at much less.
const MAX_URL_BYTES: usize = 16 * 1024;
/// How much of a URL a message shows.
const SHOWN_CHARS: usize = 200;
/// How long a page may take, redirects and all.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Some servers have their pages in Markdown too, which is what HTML is turned into here.
const ACCEPTED: &str = "text/markdown,text/html,application/xhtml+xml,application/json;q=0.9,text/*;q=0.8,*/*;q=0.5";

/// Reads a page of the public internet.
///
/// ```
/// use plandag::tools::Fetch;
///
/// let fetch = Fetch::new().allow_host("localhost:8080".parse()?);
/// # Ok::<(), plandag::tools::HostPortError>(())
/// ```
pub struct Fetch {
    allowed: Vec<HostPort>,
    resolver: Arc<dyn Resolve>,
    timeout: Duration,
    /// Made when first needed, since reading the certificates of the system takes its time.
    clients: OnceLock<Result<Clients, String>>,
}

/// Two clients, so that a connection made for an allowed host is never used for another one.
struct Clients {
    public: Client,
    allowed: Client,
}

impl Fetch {
    /// Connects to the public internet, and nowhere else.
    pub fn new() -> Self {
        Self { allowed: Vec::new(), resolver: Arc::new(System), timeout: TIMEOUT, clients: OnceLock::new() }
    }

    /// Also connects to this host at this port, whatever address it has; redirects may lead there too.
    #[must_use]
    pub fn allow_host(mut self, host: HostPort) -> Self {
        self.allowed.push(host);
        self
    }

    /// Looks up hosts with `resolver` instead of asking the operating system. The rules stay.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self.clients = OnceLock::new();
        self
    }

    /// How long a page may take, redirects and all; a minute if nothing else is said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn fetch(&self, start: &Url, whole: bool, attempt: Hold) -> Result<ToolOutput, StepError> {
        let (url, response) = self.follow(start).await?;
        check_status(&url, &response)?;
        let status = response.status().as_u16();
        let Body { content_type, text, mut truncated } =
            Body::read(response).await.map_err(|unreadable| unreadable.into_error(&shown(&url)))?;

        let (title, mut text) = if content_type.is_html() {
            let of = url.clone();
            let page = on_thread(attempt, move |stop| Page::read(&text, &of, whole, stop)).await?;
            truncated |= page.truncated;
            (page.title, page.text)
        } else {
            (None, text)
        };
        truncated |= text.len() > MAX_TEXT_BYTES;
        if truncated {
            text.truncate(cut::start(&text, MAX_TEXT_BYTES).trim_end().len());
            text.push_str(cut::MARK);
        }
        let json: Option<Value> = if content_type.is_json() { serde_json::from_str(&text).ok() } else { None };
        Ok(ToolOutput::Value(json!({
            "url": start.as_str(),
            "final_url": url.as_str(),
            "status": status,
            "title": title,
            "text": text,
            "json": json,
            "content_type": content_type.essence,
            "truncated": truncated,
        })))
    }

    /// Asks for `start`, and for whatever it redirects to.
    async fn follow(&self, start: &Url) -> Result<(Url, Response), StepError> {
        let mut url = start.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(&url).map_err(|refusal| match url == *start {
                true => StepError::permanent(refusal),
                false => StepError::permanent(format!("{} redirects to {}: {refusal}", shown(start), shown(&url))),
            })?;
            let response = client.get(url.clone()).send().await.map_err(|error| failed(&url, error))?;
            let Some(next) = redirection(&url, &response)? else { return Ok((url, response)) };
            url = next;
        }
        Err(StepError::permanent(format!(
            "{} redirects more than {MAX_REDIRECTS} times, at last to {}",
            shown(start),
            shown(&url)
        )))
    }

    /// The client to ask for `url`, if it may be asked for.
    fn client(&self, url: &Url) -> Result<&Client, String> {
        check_form(url).map_err(|refusal| refusal.of(url))?;
        let clients = self.clients.get_or_init(|| Clients::new(&self.resolver)).as_ref().map_err(String::clone)?;
        if self.allowed.iter().any(|allowed| allowed.is_of(url)) {
            return Ok(&clients.allowed);
        }
        check_address(url).map_err(|refusal| refusal.of(url))?;
        Ok(&clients.public)
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("allowed", &self.allowed).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Tool for Fetch {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "url": { "type": "string", "description": "what to read, with http or https" },
                    "whole": { "type": "boolean", "description": "all of a page, with its menus; by default its main part" }
                },
                "required": ["url"],
                "additionalProperties": false
            }),
            output: r#"{"url": "https://a.org/b", "final_url": <after redirects>, "status": 200, "title": <of a page, or null>, "text": <HTML as Markdown, anything else as it is>, "json": <JSON as a value, or null>, "content_type": "text/html", "truncated": false}"#.into(),
            untrusted: true,
            many_servers: true,
            ..ToolSpec::new("fetch", "Reads a page of the public internet: its main text in Markdown, or JSON and other text as it is.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let arguments = Arguments::new(&cx.args, &["url", "whole"])?;
            let url = parse(arguments.text("url")?)?;
            let fetched = self.fetch(&url, arguments.flag("whole")?, cx.hold());
            tokio::time::timeout(self.timeout, fetched).await.unwrap_or_else(|_| {
                let message = format!("{} was not there in full after {:?}", shown(&url), self.timeout);
                Err(StepError::new(StepErrorKind::Timeout, message))
            })
        })
    }
}

impl Clients {
    fn new(resolver: &Arc<dyn Resolve>) -> Result<Self, String> {
        let builder = || {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
            Client::builder()
                .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
        };
        let public = builder().dns_resolver(PublicOnly(resolver.clone()));
        let allowed = builder().dns_resolver(Unchecked(resolver.clone()));
        let build = || Ok(Self { public: public.build()?, allowed: allowed.build()? });
        build().map_err(|error: reqwest::Error| format!("fetch cannot be set up: {}", causes(&error)))
    }
}

fn parse(text: &str) -> Result<Url, StepError> {
    if text.len() > MAX_URL_BYTES {
        return Err(StepError::bad_input(format!("`url` has {} bytes, over the limit of {MAX_URL_BYTES}", text.len())));
    }
    let url =
        Url::parse(text).map_err(|error| StepError::bad_input(format!("`{}` is not a URL: {error}", shown(text))))?;
    check_form(&url).map_err(|refusal| StepError::bad_input(refusal.to_string()))?;
    Ok(url)
}

/// Where `response` redirects to, if it does.
fn redirection(url: &Url, response: &Response) -> Result<Option<Url>, StepError> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !redirects.contains(&response.status()) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|location| std::str::from_utf8(location.as_bytes()).ok());
    let next = location
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| StepError::permanent(format!("{} redirects, but does not say where to", shown(url))))?;
    if url.scheme() == "https" && next.scheme() == "http" {
        let message = format!("{} redirects to {}, which leaves https for http", shown(url), shown(&next));
        return Err(StepError::permanent(message));
    }
    Ok(Some(next))
}

fn check_status(url: &Url, response: &Response) -> Result<(), StepError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let pause_ms = pause_wanted(response.headers(), SystemTime::now());
    Err(super::refused(status.as_u16(), format!("{} answers {status}", shown(url)), pause_ms))
}

/// The error of a request that was not answered.
fn failed(url: &Url, error: reqwest::Error) -> StepError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return StepError::permanent(refusal.of(url));
        }
        source = cause.source();
    }
    StepError::transient(format!("{} cannot be reached: {}", shown(url), causes(&error.without_url())))
}

/// An error with everything that caused it. The outermost ones say little, and often the same.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn shown(url: impl AsRef<str>) -> String {
    cut::chars(url.as_ref(), SHOWN_CHARS).into_owned()
}
