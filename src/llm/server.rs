//! Where a model is, and what lets one in.

use std::fmt;
use std::time::Duration;

use genai::adapter::AdapterKind;

use super::gate::RateLimits;
use super::trouble::shown_address;

/// Where Ollama listens unless told otherwise.
const OLLAMA: &str = "http://localhost:11434/v1/";

/// A provider of models: one of those known by name, or an OpenAI-compatible server at an address.
#[derive(Clone)]
pub struct Server {
    pub(super) kind: AdapterKind,
    pub(super) base_url: Option<String>,
    pub(super) key: Option<String>,
    pub(super) limits: RateLimits,
    pub(super) stall_after: Duration,
    /// Whether nobody is let in without a key.
    needs_key: bool,
}

impl Server {
    /// An OpenAI-compatible server (llama.cpp, vLLM, LM Studio, Ollama, a gateway) at a base URL, which usually ends in
    /// `/v1`. Whatever the model is called, it is asked for there.
    pub fn at(base_url: impl Into<String>) -> Self {
        Self { base_url: Some(directory(base_url.into())), needs_key: false, ..Self::of(AdapterKind::OpenAI) }
    }

    /// A provider by its name, such as `openai`, `anthropic`, `gemini` or `ollama`.
    pub fn named(provider: &str) -> Option<Self> {
        match AdapterKind::from_lower_str(provider)? {
            // The adapter for Ollama's own API drops the schema of an answer; its OpenAI-compatible one keeps it.
            AdapterKind::Ollama => Some(Self::at(OLLAMA)),
            kind => Some(Self::of(kind)),
        }
    }

    /// The provider of a model: stated as `provider::model`, or known by how the name begins, as that of `claude-...`
    /// is. None for a name that could be anybody's.
    pub fn of_model(model: &str) -> Option<Self> {
        if let Some((provider, _)) = model.split_once("::") {
            return Self::named(provider);
        }
        match AdapterKind::from_model(model).ok()? {
            // What no provider is known for.
            AdapterKind::Ollama => None,
            kind => Some(Self::of(kind)),
        }
    }

    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        AdapterKind::all().iter().map(AdapterKind::as_lower_str)
    }

    fn of(kind: AdapterKind) -> Self {
        Self {
            kind,
            base_url: None,
            key: None,
            limits: RateLimits::default(),
            stall_after: Duration::from_secs(120),
            needs_key: kind.default_key_env_name().is_some(),
        }
    }

    /// Sets another address for the same API.
    #[must_use]
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = Some(directory(base_url.into()));
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets how much the provider may be asked at a time.
    #[must_use]
    pub fn limits(mut self, limits: RateLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How much it may be asked at a time.
    pub fn rate_limits(&self) -> RateLimits {
        self.limits
    }

    /// Sets how long a stream may be silent before it counts as stalled; two minutes at first.
    #[must_use]
    pub fn stall_after(mut self, stall_after: Duration) -> Self {
        self.stall_after = stall_after;
        self
    }

    /// The provider's name.
    pub fn name(&self) -> &'static str {
        self.kind.as_lower_str()
    }

    /// The address, where it is not the provider's usual one.
    pub fn address(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// The environment variable in which the provider's key is usually kept.
    pub fn key_variable(&self) -> Option<&'static str> {
        self.kind.default_key_env_name()
    }

    /// Whether a key is needed and not there.
    pub fn lacks_key(&self) -> bool {
        self.needs_key && self.key.as_ref().is_none_or(|key| key.trim().is_empty())
    }

    /// What is sent as the key, also to servers that want none.
    pub(super) fn sent_key(&self) -> &str {
        self.key.as_deref().unwrap_or("none")
    }

    /// The model's name as this server knows it.
    pub(super) fn model_name(&self, model: &str) -> String {
        match model.split_once("::") {
            Some((provider, name)) if AdapterKind::from_lower_str(provider).is_some() => name.to_owned(),
            _ => model.to_owned(),
        }
    }
}

/// A base URL to which a path can be joined.
fn directory(mut url: String) -> String {
    if !url.ends_with('/') && !url.contains('?') {
        url.push('/');
    }
    url
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("provider", &self.name())
            .field("base_url", &self.base_url.as_deref().map(shown_address))
            .field("key", &self.key.as_ref().map(|_| "..."))
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_known_by_name_and_by_how_a_model_is_called() {
        assert_eq!(Server::of_model("claude-sonnet-4").unwrap().name(), "anthropic");
        assert_eq!(Server::of_model("groq::llama-3.3-70b").unwrap().name(), "groq");
        assert!(Server::of_model("mock").is_none() && Server::of_model("nobody::mock").is_none());
        let ollama = Server::of_model("ollama::llama3.2").unwrap();
        assert_eq!((ollama.name(), ollama.address()), ("openai", Some(OLLAMA)));
        assert!(!ollama.lacks_key() && Server::named("anthropic").unwrap().lacks_key());
        assert_eq!(ollama.model_name("ollama::llama3.2"), "llama3.2");
        assert_eq!(ollama.model_name("hf.co::x"), "hf.co::x");
    }

    #[test]
    fn a_key_is_not_shown() {
        let server = Server::at("http://me:secret@localhost/v1?api-key=secret").key("sk-secret");
        let shown = format!("{server:?}");
        assert!(!shown.contains("secret") && shown.contains("localhost"), "{shown}");
    }
}
