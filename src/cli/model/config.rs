//! The configuration files: one of the project, one of the user. The project's wins, arguments and environment win
//! over both.

use std::collections::BTreeMap;
use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use plandag::llm::{Price, RateLimits, Server};
use plandag::report::ExitCode;
use serde::Deserialize;

use super::args::{PlanFormat, StepTools, is_limit, is_temperature};
use crate::cli::failure::Failure;
use crate::cli::source;

/// The project's file, in the folder in which the command is started.
pub(crate) const PROJECT_FILE: &str = "plandag.toml";
/// The user's file, in the folder for configuration.
const USER_FILE: &str = "plandag/config.toml";

/// What a file may say. `plandag doctor --example` prints one with all that a project may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) model: Option<String>,
    pub(crate) planner_model: Option<String>,
    pub(crate) step_model: Option<String>,
    pub(crate) answer_model: Option<String>,
    pub(crate) base_url: Option<String>,
    pub(crate) temperature: Option<f64>,
    pub(crate) plan_format: Option<PlanFormat>,
    pub(crate) step_tools: Option<StepTools>,
    pub(crate) max_tokens: Option<NonZeroU64>,
    pub(crate) max_usd: Option<f64>,
    pub(crate) prompts: BTreeMap<String, PathBuf>,
    pub(crate) providers: BTreeMap<String, ProviderConfig>,
    pub(crate) prices: BTreeMap<String, Price>,
}

impl Config {
    /// What has the right form and makes no sense.
    fn offence(&self) -> Option<String> {
        let models = [
            ("model", &self.model),
            ("planner_model", &self.planner_model),
            ("step_model", &self.step_model),
            ("answer_model", &self.answer_model),
        ];
        if let Some((key, _)) = models.iter().find(|(_, name)| name.as_ref().is_some_and(|name| name.trim().is_empty()))
        {
            return Some(format!("{key}: a model has a name"));
        }
        if let Some(Err(why)) = self.temperature.map(is_temperature) {
            return Some(format!("temperature: {why}"));
        }
        if let Some(Err(why)) = self.max_usd.map(is_limit) {
            return Some(format!("max_usd: {why}"));
        }
        let is_price = |amount: f64| amount.is_finite() && amount >= 0.0;
        let wrong = self.prices.iter().find(|(_, price)| !is_price(price.input) || !is_price(price.output));
        if let Some((model, _)) = wrong {
            return Some(format!("[prices.\"{model}\"]: a price is a number of dollars, at least 0"));
        }
        let unknown = self.providers.keys().find(|name| !Server::names().any(|known| known == *name))?;
        let names = Server::names().collect::<Vec<_>>().join(", ");
        Some(format!("[providers.{unknown}]: there is no such provider; there are {names}"))
    }
}

/// What a file may say about a provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProviderConfig {
    pub(crate) base_url: Option<String>,
    /// The environment variable that has the key: never said by a project.
    pub(crate) api_key_env: Option<String>,
    /// The file that has the key: never said by a project.
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) concurrency: Option<NonZeroU32>,
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    pub(crate) tokens_per_minute: Option<NonZeroU64>,
    pub(crate) stall_seconds: Option<NonZeroU64>,
}

impl ProviderConfig {
    pub(crate) fn limits(&self) -> RateLimits {
        RateLimits {
            concurrency: self.concurrency.map(NonZeroU32::get),
            requests_per_minute: self.requests_per_minute.map(NonZeroU32::get),
            tokens_per_minute: self.tokens_per_minute.map(NonZeroU64::get),
        }
    }

    pub(crate) fn stall_after(&self) -> Option<Duration> {
        self.stall_seconds.map(|seconds| Duration::from_secs(seconds.get()))
    }

    /// This, and what `other` says beside it.
    fn or(self, other: Self) -> Self {
        Self {
            base_url: self.base_url.or(other.base_url),
            api_key_env: self.api_key_env.or(other.api_key_env),
            api_key_file: self.api_key_file.or(other.api_key_file),
            concurrency: self.concurrency.or(other.concurrency),
            requests_per_minute: self.requests_per_minute.or(other.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(other.tokens_per_minute),
            stall_seconds: self.stall_seconds.or(other.stall_seconds),
        }
    }
}

/// Both files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) project: Option<(PathBuf, Config)>,
    pub(crate) user: Option<(PathBuf, Config)>,
}

impl Files {
    /// Reads what there is. A file that cannot be understood is an error: guessing what it meant costs money.
    pub(crate) fn read() -> Result<Self, Failure> {
        let user = user_file().map(|path| read(&path)).transpose()?.flatten();
        let project = read(Path::new(PROJECT_FILE))?;
        project.iter().try_for_each(|(_, config)| {
            stay_inside(config)?;
            name_no_key(config)
        })?;
        Ok(Self { project, user })
    }

    /// What is said of a provider, each key by the first file that has it.
    pub(crate) fn provider(&self, name: &str) -> ProviderConfig {
        let said = |file: &Option<(PathBuf, Config)>| {
            file.as_ref().and_then(|(_, config)| config.providers.get(name).cloned()).unwrap_or_default()
        };
        said(&self.project).or(said(&self.user))
    }

    /// The first that says something, the project's before the user's.
    pub(crate) fn find<T>(&self, key: impl Fn(&Config) -> Option<T>) -> Option<T> {
        let said = |file: &Option<(PathBuf, Config)>| file.as_ref().and_then(|(_, config)| key(config));
        said(&self.project).or_else(|| said(&self.user))
    }

    /// The file that says it.
    pub(crate) fn source<T>(&self, key: impl Fn(&Config) -> Option<T>) -> Option<&Path> {
        let mut files = [&self.project, &self.user].into_iter().flatten();
        files.find(|(_, config)| key(config).is_some()).map(|(path, _)| path.as_path())
    }

    /// What the user's own file says. A project may come from somebody else, and must not decide where keys are sent.
    pub(crate) fn of_user<T>(&self, key: impl Fn(&Config) -> Option<T>) -> Option<T> {
        self.user.as_ref().and_then(|(_, config)| key(config))
    }
}

/// Where the user's file would be.
pub(crate) fn user_file() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join(USER_FILE))
}

/// Refuses prompts outside of the project's folder: a project may come from somebody else, and what is in them is sent to
/// the address that it names.
fn stay_inside(project: &Config) -> Result<(), Failure> {
    let folder = Path::new(".").canonicalize().unwrap_or_default();
    // One that is not there is an error when it is read.
    let is_outside = |path: &PathBuf| path.canonicalize().is_ok_and(|path| !path.starts_with(&folder));
    match project.prompts.iter().find(|(_, path)| is_outside(path)) {
        Some((name, path)) => {
            let message = format!("{PROJECT_FILE} names a prompt outside of its folder: `{}`", path.display());
            Err(Failure::new("config.invalid", ExitCode::Configuration, message)
                .help(format!("if you want it, name it yourself: --prompt {name}=FILE")))
        }
        None => Ok(()),
    }
}

/// Refuses a project that says where a key is: the folder may be somebody else's, and which of one's secrets goes where is
/// not for them to say.
fn name_no_key(project: &Config) -> Result<(), Failure> {
    let named = |config: &ProviderConfig| {
        let names = [("api_key_env", config.api_key_env.is_some()), ("api_key_file", config.api_key_file.is_some())];
        names.into_iter().find(|(_, is_named)| *is_named).map(|(name, _)| name)
    };
    let Some((provider, key)) = project.providers.iter().find_map(|(name, config)| Some((name, named(config)?))) else {
        return Ok(());
    };
    let message = format!("{PROJECT_FILE} says where a key is: `{key}` of [providers.{provider}]");
    let own = user_file().map_or_else(|| "your own configuration file".to_owned(), |path| path.display().to_string());
    Err(Failure::new("config.invalid", ExitCode::Configuration, message)
        .note("a project, which may be somebody else's, does not choose among your keys")
        .help(format!("move it to {own}, or name the key for this run: --api-key-file FILE")))
}

fn read(path: &Path) -> Result<Option<(PathBuf, Config)>, Failure> {
    let name = path.display();
    let failure = |message: String| Failure::new("config.invalid", ExitCode::Configuration, message);
    let text = match source::text_of(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure(format!("the configuration file `{name}` cannot be read: {error}"))),
    };
    let mut config: Config = toml::from_str(&text).map_err(|error| {
        error.to_string().lines().fold(failure(format!("the configuration file `{name}` is not valid")), Failure::note)
    })?;
    if let Some(why) = config.offence() {
        return Err(failure(format!("the configuration file `{name}` is not valid")).note(why));
    }
    // A path in a file is seen from that file.
    let folder = path.parent().unwrap_or(Path::new(""));
    let files = config.providers.values_mut().filter_map(|provider| provider.api_key_file.as_mut());
    for file in config.prompts.values_mut().chain(files) {
        *file = folder.join(&*file);
    }
    Ok(Some((path.to_owned(), config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_valid_for_a_project() {
        let example = include_str!("example.toml");
        let uncommented: String = example
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ") || line.starts_with('[')).unwrap_or(line)
            })
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        let config: Config = toml::from_str(&uncommented).unwrap();
        assert!(config.model.is_some() && config.answer_model.is_some() && config.max_usd.is_some());
        name_no_key(&config).unwrap();
        assert!(!config.prompts.is_empty() && !config.providers.is_empty() && !config.prices.is_empty());
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plandag.toml");
        std::fs::write(&path, "modle = \"x\"\n").unwrap();
        let failure = read(&path).unwrap_err().render();
        assert!(failure.contains("modle") && failure.contains("line 1"), "{failure}");
    }
}
