//! Where each model is, and the key for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plandag::ModelProblem;
use plandag::llm::{Provider, RateLimits, Server};
use plandag::report::ExitCode;

use super::args::ModelArgs;
use super::config::{Files, ProviderConfig};
use super::detect::{self, Found};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::secrets;
use crate::cli::text;

const OPENAI: &str = "openai";
const OPENAI_BASE_URL: &str = "OPENAI_BASE_URL";
const OLLAMA_HOST: &str = "OLLAMA_HOST";
const OLLAMA_PORT: u16 = 11434;

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
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
        Self { args, files, timeout, console, found: None, open: BTreeMap::new(), places: BTreeMap::new() }
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

    /// Where a model is, for people.
    pub(crate) fn place(&self, model: &str) -> String {
        match self.places.get(model) {
            Some(server) => server.address().map_or_else(|| server.name().to_owned(), plandag::llm::shown_address),
            None => String::new(),
        }
    }

    /// How much the provider of a model takes at a time.
    pub(crate) fn limits(&self, model: &str) -> RateLimits {
        self.places.get(model).map(|server| self.settings(server.name()).limits()).unwrap_or_default()
    }

    /// A model where none was named: one of the server that was, or one that is found on this machine.
    pub(crate) fn any_model(&mut self) -> Result<Option<String>, Failure> {
        let named = match self.address() {
            Some(address) => Some(address),
            None => variable(OLLAMA_HOST).map(|host| Address { url: ollama_url(&host), is_trusted: true }),
        };
        if let Some(address) = named {
            let shown = plandag::llm::shown_address(&address.url);
            let (server, looked) = self.with_key(Server::at(&address.url), address.is_trusted)?;
            let provider = connect(server.clone(), &looked)?;
            let names =
                detect::block_on(provider.model_names())?.map_err(|error| unusable(&error, "its list of models"))?;
            let Some(first) = names.into_iter().next() else {
                return Err(Failure::new(
                    ModelProblem::UnknownModel.code(),
                    ExitCode::Configuration,
                    format!("the server at {shown} lists no model"),
                )
                .help("name the model: --model NAME"));
            };
            self.say(&format!(
                "no model is named: using `{first}`, the first that {shown} lists (--model names another)"
            ));
            self.places.insert(first.clone(), server);
            return Ok(Some(first));
        }
        let found = self.local()?.first().cloned();
        let Some(Found { name, url, models }) = found else { return Ok(None) };
        let first = models.into_iter().next().unwrap_or_default();
        self.say(&format!("no model is named: found {name} at {url}, using its model `{first}` (--model names another, --offline none)"));
        self.places.insert(first.clone(), Server::at(url));
        Ok(Some(first))
    }

    fn server(&mut self, model: &str) -> Result<(Server, Vec<String>), Failure> {
        if let Some((provider, _)) = model.split_once("::") {
            let Some(server) = Server::named(provider) else {
                let names = Server::names().collect::<Vec<_>>().join(", ");
                return Err(unknown(format!("there is no provider `{provider}`, which model `{model}` names"))
                    .help(format!("there are {names}")));
            };
            if provider == "ollama" {
                let host = variable(OLLAMA_HOST);
                return Ok((host.map_or(server, |host| Server::at(ollama_url(&host))), Vec::new()));
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
        if let Some(host) = variable(OLLAMA_HOST) {
            return Ok((Server::at(ollama_url(&host)), Vec::new()));
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

    /// The server with the key for it, and where the key was looked for.
    fn with_key(&self, server: Server, is_trusted: bool) -> Result<(Server, Vec<String>), Failure> {
        let settings = self.settings(server.name());
        let mut server = server.limits(settings.limits());
        if let Some(stall_after) = settings.stall_after() {
            server = server.stall_after(stall_after);
        }
        // What a project says about an address is left out below, for keys must not follow it there.
        let own = self.files.of_user(|config| config.providers.get(server.name()).cloned()).unwrap_or_default();
        let mut is_trusted = is_trusted;
        if let (None, Some(url)) = (server.address(), settings.base_url) {
            is_trusted = own.base_url.as_ref() == Some(&url);
            server = server.base_url(url);
        }
        let mut looked = vec!["--api-key-file".to_owned()];
        let keyed = |server: Server, key: String| {
            // Wherever it comes from, nobody shall read it.
            secrets::known().add([key.as_str()]);
            server.key(key)
        };
        if let Some(path) = &self.args.api_key_file {
            return Ok((keyed(server, key_file(path)?), looked));
        }
        if !is_trusted {
            return Ok((server, looked));
        }
        let name = own.api_key_env.as_deref().or(server.key_variable()).unwrap_or_default().to_owned();
        looked.push(name.clone());
        if let Some(key) = variable(&name) {
            return Ok((keyed(server, key), looked));
        }
        looked.push("the configuration file".to_owned());
        match &own.api_key_file {
            Some(path) => Ok((keyed(server, key_file(path)?), looked)),
            None => Ok((server, looked)),
        }
    }

    fn settings(&self, provider: &str) -> ProviderConfig {
        self.files.find(|config| config.providers.get(provider).cloned()).unwrap_or_default()
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
                .help("or without a key: a local server (plandag doctor looks for one), or --offline --files DIR"),
            _ => failure.help("say where the server is: --base-url http://HOST:PORT/v1"),
        }
    })
}

fn unusable(error: &plandag::llm::ModelError, what: &str) -> Failure {
    let exit = match error.problem {
        ModelProblem::MissingKey | ModelProblem::WrongKey | ModelProblem::UnknownModel => ExitCode::Configuration,
        _ => ExitCode::Provider,
    };
    Failure::new(error.problem.code(), exit, format!("{what} cannot be had: {}", error.message))
        .help("name the model: --model NAME")
        .help("plandag doctor says what there is")
}

fn unknown(message: String) -> Failure {
    Failure::new(ModelProblem::UnknownModel.code(), ExitCode::Configuration, message)
}

/// The key in a file.
fn key_file(path: &PathBuf) -> Result<String, Failure> {
    let failure = |what: String| Failure::new("config.missing_key", ExitCode::Configuration, what);
    let text = std::fs::read_to_string(path)
        .map_err(|error| failure(format!("the key cannot be read from `{}`: {error}", path.display())))?;
    match text.trim() {
        "" => Err(failure(format!("there is no key in `{}`", path.display()))),
        key => Ok(key.to_owned()),
    }
}

/// The address that `OLLAMA_HOST` stands for, which may lack scheme and port, or be the address of all interfaces.
fn ollama_url(host: &str) -> String {
    let with_scheme = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
    let (scheme, rest) = with_scheme.split_once("://").unwrap_or(("http", host));
    let rest = rest.trim_end_matches('/').replace("0.0.0.0", "127.0.0.1");
    let has_port = rest.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let port = if has_port || scheme == "https" { String::new() } else { format!(":{OLLAMA_PORT}") };
    format!("{scheme}://{rest}{port}/v1")
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
            ("[::1]", "http://[::1]:11434/v1"),
            ("[::1]:5", "http://[::1]:5/v1"),
        ] {
            assert_eq!(ollama_url(host), url);
        }
    }
}
