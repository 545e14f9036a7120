//! Where each model is, and the key for it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use plandag::llm::{ModelError, Provider, RateLimits, Server};
use plandag::report::ExitCode;
use plandag::{ModelProblem, Secrets};
use tokio::time::timeout;

use super::advice;
use super::args::{Chosen, ModelArgs};
use super::config::{Files, PROJECT_FILE, ProviderConfig};
use super::detect::{self, Found};
use crate::cli::console::Console;
use crate::cli::duration::human;
use crate::cli::failure::Failure;
use crate::cli::run::block_on;
use crate::cli::secrets;
use crate::cli::source;
use crate::cli::text;

const OPENAI: &str = "openai";
const OLLAMA: &str = "ollama";
pub(crate) const OPENAI_BASE_URL: &str = "OPENAI_BASE_URL";
/// Variables that say where servers are, beside that.
pub(crate) const ADDRESSES: [&str; 3] = [OLLAMA_HOST, "MEDIAWIKI_API_URL", "TAVILY_BASE_URL"];
const OLLAMA_HOST: &str = "OLLAMA_HOST";
const OLLAMA_PORT: u16 = 11434;
/// The longest that a server may take to list its models.
const PATIENCE: Duration = Duration::from_secs(10);

/// What [`ADDRESSES`] were when the run was started that this process goes on with.
static BEFORE: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    let now = std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    now.or_else(|| BEFORE.get()?.get(name).cloned())
}

/// From now on, servers are where they were before, unless the environment says where they are now.
pub(crate) fn go_back_to(addresses: BTreeMap<String, String>) {
    // A process goes on with one run.
    let _ = BEFORE.set(addresses);
}

/// Finds the server of a model, and keeps one connection for each.
pub(crate) struct Servers<'a> {
    args: &'a ModelArgs,
    files: &'a Files,
    timeout: Option<Duration>,
    console: &'a Console,
    found: Option<Vec<Found>>,
    /// By name and address.
    open: BTreeMap<(String, Option<String>), Provider>,
    /// Whose the key of `--api-key-file` is.
    key_file_of: Option<String>,
    /// The server of each model that was asked for, or chosen because none was named.
    places: BTreeMap<String, Server>,
}

/// An address for models whose name does not say where they are.
struct Address {
    url: String,
    /// Whether it was chosen by the user and not by a project's file.
    is_trusted: bool,
}

impl<'a> Servers<'a> {
    pub(crate) fn new(args: &'a ModelArgs, files: &'a Files, timeout: Option<Duration>, console: &'a Console) -> Self {
        Self {
            args,
            files,
            timeout,
            console,
            found: None,
            open: BTreeMap::new(),
            key_file_of: None,
            places: BTreeMap::new(),
        }
    }

    /// The connection to where a model is.
    pub(crate) fn provider(&mut self, model: &str) -> Result<Provider, Failure> {
        let (server, looked) = match self.places.get(model) {
            Some(server) => (server.clone(), Vec::new()),
            None => self.server(model)?,
        };
        let place = (server.name().to_owned(), server.address().map(str::to_owned));
        self.places.insert(model.to_owned(), server.clone());
        if let Some(provider) = self.open.get(&place) {
            return Ok(provider.clone());
        }
        let server = match self.timeout {
            Some(timeout) => server.stall_after(timeout),
            None => server,
        };
        let provider = connect(server, &looked)?;
        self.open.insert(place, provider.clone());
        Ok(provider)
    }

    /// Whether a model is at this address.
    pub(crate) fn has_model_at(&self, url: &str) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        self.places.values().filter_map(Server::address).any(|address| plain(address) == plain(url))
    }

    /// Where a model is, for people.
    pub(crate) fn place(&self, model: &str) -> String {
        match self.places.get(model) {
            Some(server) => server.address().map_or_else(|| server.name().to_owned(), plandag::llm::shown_address),
            None => String::new(),
        }
    }

    /// How much the provider of a model takes at a time.
    pub(crate) fn limits(&self, model: &str) -> RateLimits {
        self.places.get(model).map(Server::rate_limits).unwrap_or_default()
    }

    /// A model where none was named: the one that was chosen when the run was started, else one of the server that was
    /// named, or one that is found on this machine.
    pub(crate) fn any_model(&mut self) -> Result<Option<Chosen>, Failure> {
        if let (Some(chosen), None) = (&self.args.chosen, &self.args.base_url)
            && let Some(url) = &chosen.url
        {
            self.places.insert(chosen.name.clone(), Server::at(url));
            return Ok(Some(chosen.clone()));
        }
        let named = match self.address() {
            Some(address) => Some(self.with_key(Server::at(address.url), address.is_trusted)?),
            None => self.ollama_address().map(|address| self.ollama(address)).transpose()?,
        };
        if let Some((server, looked)) = named {
            let name = match &self.args.chosen {
                Some(chosen) => chosen.name.clone(),
                None => self.first_model(&server, &looked)?,
            };
            self.places.insert(name.clone(), server);
            return Ok(Some(Chosen { name, url: None }));
        }
        if self.args.chosen.is_some() {
            return Ok(self.args.chosen.clone());
        }
        let found = self.local()?.first().cloned();
        let Some(Found { name, url, models }) = found else { return Ok(None) };
        let first = to_talk_with(models).unwrap_or_default();
        self.say(&format!("no model is named: found {name} at {url}, using its model `{first}` (--model names another, --offline none)"));
        self.places.insert(first.clone(), Server::at(url.clone()));
        Ok(Some(Chosen { name: first, url: Some(url) }))
    }

    /// The first model that a server lists.
    fn first_model(&self, server: &Server, looked: &[String]) -> Result<String, Failure> {
        let shown = plandag::llm::shown_address(server.address().unwrap_or_default());
        let provider = connect(server.clone(), looked)?;
        let listed = block_on(async { timeout(PATIENCE, provider.model_names()).await })?;
        let listed = listed.unwrap_or_else(|_| {
            let message = format!("{shown} has not listed its models within {}", human(PATIENCE));
            Err(ModelError::new(ModelProblem::Stalled, message))
        });
        let names = listed.map_err(|error| unusable(&error, "its list of models"))?;
        let Some(first) = to_talk_with(names) else {
            return Err(Failure::new(
                ModelProblem::UnknownModel.code(),
                ExitCode::Configuration,
                format!("the server at {shown} lists no model"),
            )
            .help("name the model: --model NAME"));
        };
        self.say(&format!("no model is named: using `{first}`, which {shown} lists (--model names another)"));
        Ok(first)
    }

    fn server(&mut self, model: &str) -> Result<(Server, Vec<String>), Failure> {
        if let Some((provider, _)) = model.split_once("::") {
            let Some(server) = Server::named(provider) else {
                let names = Server::names().collect::<Vec<_>>().join(", ");
                return Err(unknown(format!("there is no provider `{provider}`, which model `{model}` names"))
                    .help(format!("there are {names}")));
            };
            if provider == OLLAMA {
                let here = || Address { url: ollama_url("localhost"), is_trusted: true };
                return self.ollama(self.ollama_address().unwrap_or_else(here));
            }
            let address = (provider == OPENAI).then(|| self.address()).flatten();
            return match address {
                Some(address) => self.with_key(Server::at(address.url), address.is_trusted),
                None => self.with_key(server, true),
            };
        }
        if let Some(address) = self.address() {
            return self.with_key(Server::at(address.url), address.is_trusted);
        }
        if let Some(server) = Server::of_model(model) {
            return self.with_key(server, true);
        }
        if let Some(address) = self.ollama_address() {
            return self.ollama(address);
        }
        let has_it =
            |found: &&Found| found.models.iter().any(|name| name == model || name.split(':').next() == Some(model));
        match self.local()?.iter().find(has_it).cloned() {
            Some(Found { name, url, .. }) => {
                self.say(&format!("found model `{model}` at {url} ({name})"));
                Ok((Server::at(url), Vec::new()))
            }
            None => Err(unknown(format!("no provider is known for the model `{model}`"))
                .note(format!("looked for a local server that has it: {}", usual_places()))
                .help(format!("say where it is: --base-url URL, or {OPENAI_BASE_URL}=URL"))
                .help(format!("or name the provider: --model PROVIDER::{model} (plandag doctor says what there is)"))),
        }
    }

    /// The address for models whose name does not say where they are.
    fn address(&self) -> Option<Address> {
        let trusted = |url: String| Address { url, is_trusted: true };
        let in_file = |config: &super::config::Config| config.base_url.clone();
        let flag_or_variable = self.args.base_url.clone().or_else(|| variable(OPENAI_BASE_URL));
        flag_or_variable.map(trusted).or_else(|| {
            let url = self.files.find(in_file)?;
            let is_trusted = self.files.of_user(in_file).as_ref() == Some(&url);
            Some(Address { url, is_trusted })
        })
    }

    /// Where Ollama is said to be.
    fn ollama_address(&self) -> Option<Address> {
        if let Some(host) = variable(OLLAMA_HOST) {
            return Some(Address { url: ollama_url(&host), is_trusted: true });
        }
        let url = self.files.provider(OLLAMA).base_url?;
        let own = self.files.of_user(|config| config.providers.get(OLLAMA)?.base_url.clone());
        Some(Address { is_trusted: own.as_ref() == Some(&url), url })
    }

    /// The Ollama server at this address, which wants no key: at most one that is named for it.
    fn ollama(&mut self, address: Address) -> Result<(Server, Vec<String>), Failure> {
        let settings = self.files.provider(OLLAMA);
        let server = limited(Server::at(address.url), &settings);
        self.key_of(server, address.is_trusted, &settings, None)
    }

    /// Says that a server gets no key, if there is one that it might have had.
    fn keep_keys_from(&self, server: &Server, has_key: bool) {
        if !has_key {
            return;
        }
        let place = plandag::llm::shown_address(server.address().unwrap_or_default());
        self.say(&format!(
            "no key is sent to {place}, which only {PROJECT_FILE} names: if you trust it, name it yourself \
             (--base-url, or your own configuration file)"
        ));
    }

    /// The server with the key of `--api-key-file`, if there is that: one key is for one server.
    fn with_key_file(&mut self, server: Server) -> Result<Server, Failure> {
        let Some(path) = &self.args.api_key_file else { return Ok(server) };
        let whose = server.address().map_or_else(|| server.name().to_owned(), plandag::llm::shown_address);
        match &self.key_file_of {
            Some(other) if *other != whose => {
                let message = format!("--api-key-file has one key, and both {other} and {whose} are asked");
                let failure = Failure::usage("usage.arguments", message);
                return Err(failure.help("set the key of each in its environment variable or in the configuration"));
            }
            _ => self.key_file_of = Some(whose),
        }
        Ok(keyed(server, key_file(path)?))
    }

    /// The server with the key for it, and where the key was looked for.
    fn with_key(&mut self, server: Server, is_trusted: bool) -> Result<(Server, Vec<String>), Failure> {
        let settings = self.files.provider(server.name());
        let mut server = limited(server, &settings);
        let mut is_trusted = is_trusted;
        if let (None, Some(url)) = (server.address(), &settings.base_url) {
            let own = self.files.of_user(|config| config.providers.get(server.name())?.base_url.clone());
            is_trusted = own.as_ref() == Some(url);
            server = server.base_url(url);
        }
        let usual = server.key_variable();
        self.key_of(server, is_trusted, &settings, usual)
    }

    /// The server with the key that the settings name, or else the `usual` variable, and where it was looked for. Keys do
    /// not follow a project to an address of its choice.
    fn key_of(
        &mut self,
        server: Server,
        is_trusted: bool,
        settings: &ProviderConfig,
        usual: Option<&str>,
    ) -> Result<(Server, Vec<String>), Failure> {
        secrets::known().add(server.address().map(Secrets::in_url).unwrap_or_default());
        let name = settings.api_key_env.as_deref().or(usual);
        let key = name.and_then(variable);
        let mut looked = vec!["--api-key-file".to_owned()];
        if !is_trusted {
            let has_key = self.args.api_key_file.is_some() || settings.api_key_file.is_some() || key.is_some();
            self.keep_keys_from(&server, has_key);
            return Ok((server, looked));
        }
        if self.args.api_key_file.is_some() {
            return Ok((self.with_key_file(server)?, looked));
        }
        looked.extend(name.map(str::to_owned));
        looked.push("your configuration file".to_owned());
        match (key, &settings.api_key_file) {
            (Some(key), _) => Ok((keyed(server, key), looked)),
            (None, Some(path)) => Ok((keyed(server, key_file(path)?), looked)),
            (None, None) => Ok((server, looked)),
        }
    }

    /// The servers on this machine, looked for once.
    fn local(&mut self) -> Result<&[Found], Failure> {
        if self.found.is_none() {
            self.found = Some(detect::local()?);
        }
        Ok(self.found.as_deref().unwrap_or_default())
    }

    fn say(&self, message: &str) {
        self.console.say(&text::line(message));
    }
}

/// The first of these models, but for those that only make vectors: servers list them among the others.
fn to_talk_with(models: Vec<String>) -> Option<String> {
    let talks = models.iter().position(|name| !name.to_lowercase().contains("embed"));
    models.into_iter().nth(talks.unwrap_or_default())
}

/// A server with what the configuration says of how it is asked.
fn limited(server: Server, settings: &ProviderConfig) -> Server {
    let server = server.limits(settings.limits());
    match settings.stall_after() {
        Some(stall_after) => server.stall_after(stall_after),
        None => server,
    }
}

/// A server with its key, which nobody shall read, wherever it comes from.
fn keyed(server: Server, key: String) -> Server {
    secrets::known().add([key.as_str()]);
    server.key(key)
}

/// Connects, or says what is missing.
pub(crate) fn connect(server: Server, looked: &[String]) -> Result<Provider, Failure> {
    let (name, variable) = (server.name(), server.key_variable());
    Provider::new(server).map_err(|error| {
        let failure = Failure::new(error.problem.code(), ExitCode::Configuration, error.message.clone());
        match (error.problem, variable) {
            (ModelProblem::MissingKey, Some(variable)) => failure
                .note(format!("looked in: {} [not set in any]", looked.join(", ")))
                .note(format!("a provider is chosen by the model's name; this one is `{name}`"))
                .help(format!("export {variable}=..."))
                .help("or without a key: a local server (plandag doctor looks for one; --model ollama::NAME), or --offline --files DIR"),
            _ => failure.help("say where the server is: --base-url http://HOST:PORT/v1"),
        }
    })
}

fn unusable(error: &plandag::llm::ModelError, what: &str) -> Failure {
    let exit = match error.problem {
        ModelProblem::MissingKey | ModelProblem::WrongKey | ModelProblem::UnknownModel => ExitCode::Configuration,
        _ => ExitCode::Provider,
    };
    let failure = Failure::new(error.problem.code(), exit, format!("{what} cannot be had: {}", error.message));
    let failure = match error.problem {
        ModelProblem::MissingKey | ModelProblem::WrongKey => failure,
        _ => failure.help("name the model: --model NAME"),
    };
    advice(error.problem).iter().fold(failure, |failure, help| failure.help(*help))
}

fn unknown(message: String) -> Failure {
    Failure::new(ModelProblem::UnknownModel.code(), ExitCode::Configuration, message)
}

/// The key in a file.
fn key_file(path: &Path) -> Result<String, Failure> {
    let failure = |what: String| Failure::new("config.missing_key", ExitCode::Configuration, what);
    let text = source::text_of(path)
        .map_err(|error| failure(format!("the key cannot be read from `{}`: {error}", path.display())))?;
    match text.trim() {
        "" => Err(failure(format!("there is no key in `{}`", path.display()))),
        key => Ok(key.to_owned()),
    }
}

/// The address that `OLLAMA_HOST` stands for, in the way of Ollama itself: quotes are left out; the port is its own, or that
/// of a scheme that is named, also where none can be read; and no host is this machine, as all its interfaces are.
fn ollama_url(host: &str) -> String {
    let host = host.trim().trim_matches(['"', '\'']).trim();
    let (scheme, usual_port, rest) = match host.split_once("://") {
        Some((scheme, rest)) => (scheme, String::new(), rest),
        None => ("http", format!(":{OLLAMA_PORT}"), host),
    };
    let (place, query) = rest.find('?').map_or((rest, ""), |at| rest.split_at(at));
    let (authority, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let (login, named) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
    let (name, port) = match named.rsplit_once(':') {
        _ if named.parse::<Ipv6Addr>().is_ok() => (format!("[{named}]"), usual_port),
        Some((name, port)) if !port.ends_with(']') => {
            let port = port.parse::<u16>().map_or(usual_port, |port| format!(":{port}"));
            (name.to_owned(), port)
        }
        _ => (named.to_owned(), usual_port),
    };
    let name = match name.as_str() {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        name => name,
    };
    let path = path.trim_end_matches('/').trim_end_matches("/v1");
    format!("{scheme}://{login}{name}{port}{path}/v1{query}")
}

/// The places where a local server is looked for.
pub(crate) fn usual_places() -> String {
    detect::USUAL.map(|(name, url)| format!("{name} at {url}")).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_ollama_is_completed() {
        for (host, url) in [
            ("127.0.0.1", "http://127.0.0.1:11434/v1"),
            ("0.0.0.0:1", "http://127.0.0.1:1/v1"),
            ("https://models.example/", "https://models.example/v1"),
            ("http://127.0.0.1:5/v1/", "http://127.0.0.1:5/v1"),
            ("[::1]", "http://[::1]:11434/v1"),
            ("[::1]:5", "http://[::1]:5/v1"),
            ("::1", "http://[::1]:11434/v1"),
            ("[::]:5", "http://[::1]:5/v1"),
            (":5", "http://127.0.0.1:5/v1"),
            ("http://:5", "http://127.0.0.1:5/v1"),
            ("http://127.0.0.1", "http://127.0.0.1/v1"),
            ("1.2.3.4:66000", "http://1.2.3.4:11434/v1"),
            (" '1.2.3.4:5' ", "http://1.2.3.4:5/v1"),
            ("1.2.3.4:5/ollama/", "http://1.2.3.4:5/ollama/v1"),
            ("http://me:secret@models.example:5/v1?key=abc", "http://me:secret@models.example:5/v1?key=abc"),
        ] {
            assert_eq!(ollama_url(host), url);
        }
    }
}
