//! Which servers there are: the `mcpServers` JSON that MCP clients share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::redact::{self, Secrets};

const START: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(120);

/// The servers of a configuration.
#[derive(Clone, Debug, Default)]
pub struct McpConfig {
    pub(super) servers: Vec<ServerConfig>,
}

/// One server.
#[derive(Clone)]
pub struct ServerConfig {
    /// Its name, with which those of its tools begin.
    pub name: String,
    /// How it is reached.
    pub launch: Launch,
    /// Whether the hints are believed that it gives about its tools.
    pub trust: bool,
    /// How long it may take until it is ready; a minute if nothing else is said.
    pub start: Duration,
    /// How long a call may take; ten minutes if nothing else is said.
    pub call: Duration,
    /// How long it may say nothing during a call, not even how far it is; two minutes if nothing else is said.
    pub idle: Duration,
    pub(super) secrets: Secrets,
}

/// How a server is reached.
#[derive(Clone)]
pub enum Launch {
    /// A program that is started, and talks on its standard input and output.
    Program {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// What is added to its environment.
        env: BTreeMap<String, String>,
        /// Where it runs; here if nothing is said.
        cwd: Option<PathBuf>,
    },
    /// A server that runs already, by streamable HTTP.
    Http {
        /// Its address.
        url: Url,
        /// What is sent with every request.
        headers: BTreeMap<String, String>,
    },
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum McpConfigError {
    /// It is not JSON of this shape.
    #[error("it is not a list of MCP servers: {0}")]
    Malformed(String),
    /// One of the servers cannot be used.
    #[error("server `{server}`: {message}")]
    Server {
        /// Its name.
        server: String,
        /// What is wrong with it.
        message: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, Entry>,
}

/// A server as the file has it. Other clients have fields of their own here, which are none of our business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    trust: bool,
    start_timeout_ms: Option<u64>,
    call_timeout_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
}

impl McpConfig {
    /// Reads a configuration such as
    ///
    /// ```json
    /// { "mcpServers": {
    ///     "files": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "docs"], "trust": true },
    ///     "search": { "type": "http", "url": "https://example.org/mcp", "headers": { "Authorization": "Bearer ${TOKEN}" } } } }
    /// ```
    ///
    /// `${NAME}` stands for a variable of the environment, and `${NAME:-text}` for `text` where there is none. A server
    /// that is `"disabled"` is passed over. `"trust"`, `"startTimeoutMs"`, `"callTimeoutMs"` and `"idleTimeoutMs"` are
    /// this crate's own.
    ///
    /// # Errors
    ///
    /// If it is not of that shape, or needs a variable that is not set.
    pub fn parse(json: &str) -> Result<Self, McpConfigError> {
        Self::parse_with(json, |name| std::env::var(name).ok())
    }

    fn parse_with(json: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, McpConfigError> {
        let file: File = serde_json::from_str(json).map_err(|error| McpConfigError::Malformed(error.to_string()))?;
        let enabled = file.servers.into_iter().filter(|(_, entry)| !entry.disabled);
        let servers = enabled.map(|(name, entry)| {
            let server = name.clone();
            entry.into_config(name, &variable).map_err(|message| McpConfigError::Server { server, message })
        });
        Ok(Self { servers: servers.collect::<Result<_, _>>()? })
    }

    /// Adds the servers of another configuration. One of the same name is replaced.
    pub fn extend(&mut self, other: Self) {
        self.servers.retain(|server| other.servers.iter().all(|replacing| replacing.name != server.name));
        self.servers.extend(other.servers);
    }

    /// The servers.
    pub fn servers(&self) -> &[ServerConfig] {
        &self.servers
    }
}

impl Entry {
    fn into_config(self, name: String, variable: &dyn Fn(&str) -> Option<String>) -> Result<ServerConfig, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
            return Err("a name is 1 to 64 of the characters A-Z a-z 0-9 _ -".into());
        }
        let mut filled_in = Vec::new();
        let mut fill = |text: String| fill(&text, variable, &mut filled_in);
        let mut fill_values = |values: BTreeMap<String, String>| {
            values.into_iter().map(|(name, value)| Ok((name, fill(value)?))).collect::<Result<BTreeMap<_, _>, String>>()
        };
        let headers = fill_values(self.headers)?;
        let env = fill_values(self.env)?;
        let launch = match (self.command, self.url) {
            (Some(command), None) => Launch::Program {
                command: fill(command)?,
                args: self.args.into_iter().map(&mut fill).collect::<Result<_, _>>()?,
                env,
                cwd: self.cwd.map(&mut fill).transpose()?.map(PathBuf::from),
            },
            (None, Some(url)) => {
                if self.kind.is_some_and(|kind| kind == "sse") {
                    return Err("it speaks the HTTP+SSE of 2024, which has been replaced by streamable HTTP".into());
                }
                Launch::Http { url: address(&fill(url)?)?, headers }
            }
            (Some(_), Some(_)) => {
                return Err("it has a `command` and a `url`: it is either a program or reached by HTTP".into());
            }
            (None, None) => return Err("it has neither a `command` nor a `url`".into()),
        };
        let secrets = Secrets::new(filled_in);
        secrets.add(launch.secrets());
        let millis = |millis: Option<u64>, usual| millis.map_or(usual, Duration::from_millis);
        Ok(ServerConfig {
            name,
            launch,
            trust: self.trust,
            start: millis(self.start_timeout_ms, START),
            call: millis(self.call_timeout_ms, CALL),
            idle: millis(self.idle_timeout_ms, IDLE),
            secrets,
        })
    }
}

impl Launch {
    /// Where it is, if it is reached by HTTP: no more of its address, which may have secrets anywhere.
    pub(super) fn host(&self) -> Option<String> {
        let Self::Http { url, .. } = self else { return None };
        let host = url.host_str().unwrap_or_default();
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// What is not to be seen of it: a server may repeat it, by mistake or on purpose.
    fn secrets(&self) -> Vec<String> {
        let (named, texts): (Vec<(&str, &str)>, Vec<&str>) = match self {
            Self::Program { args, env, .. } => {
                let args = args.iter().map(String::as_str);
                // `--api-key abc`, `--api-key=abc`, `Authorization: Bearer abc`.
                let pairs = args.clone().zip(args.clone().skip(1)).filter(|(option, _)| option.starts_with('-'));
                let pairs = pairs.chain(args.clone().filter_map(|arg| arg.split_once(['=', ':'])));
                let env = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                (pairs.chain(env.clone()).collect(), args.chain(env.map(|(_, value)| value)).collect())
            }
            Self::Http { url, headers } => {
                (headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(), vec![url.as_str()])
            }
        };
        let named = named.into_iter().filter(|(name, _)| redact::is_secret_field(name));
        // `Bearer abc`: the second word alone is one, too.
        let named = named.flat_map(|(_, value)| [value, value.rsplit(' ').next().unwrap_or_default()]);
        let in_urls = texts.into_iter().flat_map(Secrets::in_url);
        named.map(str::to_owned).chain(in_urls).collect()
    }
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("its `url` is not one: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        scheme => Err(format!("its `url` begins with {scheme}:, and must begin with http: or https:")),
    }
}

/// A text with its `${NAME}` and `${NAME:-text}` filled, once. Adds to `secrets` what variables held whose names say so.
fn fill(text: &str, variable: &dyn Fn(&str) -> Option<String>, secrets: &mut Vec<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        filled.push_str(before);
        let Some((reference, after)) = reference.split_once('}') else {
            return Err("a `${` is not closed".into());
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        let value = variable(name);
        secrets.extend(value.clone().filter(|_| redact::is_secret_name(name)));
        match value.or_else(|| default.map(str::to_owned)) {
            Some(value) => filled.push_str(&value),
            None => return Err(format!("the environment has no variable `{name}`")),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

impl ServerConfig {
    /// What of it is to be kept secret: values of variables, headers and options whose names say so, and what is
    /// [secret in its URLs](Secrets::in_url). They are taken out of everything that the server returns.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("name", &self.name).field("launch", &self.launch).finish_non_exhaustive()
    }
}

impl fmt::Debug for Launch {
    /// Without values that may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { command, env, .. } => {
                f.debug_struct("Program").field("command", command).field("env", &env.keys()).finish_non_exhaustive()
            }
            Self::Http { url, headers } => {
                f.debug_struct("Http").field("host", &url.host_str()).field("headers", &headers.keys()).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<McpConfig, McpConfigError> {
        McpConfig::parse_with(json, |name| (name == "TOKEN").then(|| "s3cret-value".to_owned()))
    }

    #[test]
    fn the_usual_file_is_read() {
        let config = parse(
            r#"{"mcpServers": {
                "files": {"command": "npx", "args": ["-y", "x"], "env": {"API_KEY": "${TOKEN}"}, "autoApprove": []},
                "web": {"type": "http", "url": "https://example.org/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
                "off": {"command": "x", "disabled": true},
                "slow": {"command": "x", "args": ["${NONE:-default}"], "cwd": "${NONE:-/a}/b", "startTimeoutMs": 5, "trust": true}}}"#,
        )
        .unwrap();
        let names: Vec<&str> = config.servers().iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["files", "slow", "web"]);
        assert!(config.servers()[1].trust && config.servers()[1].start == Duration::from_millis(5));
        let Launch::Program { args, cwd, .. } = &config.servers()[1].launch else { panic!("it is a program") };
        assert_eq!(
            (args.as_slice(), cwd.as_deref()),
            (&["default".to_owned()][..], Some(std::path::Path::new("/a/b")))
        );
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }

    #[test]
    fn secrets_are_known_by_their_names_wherever_they_stand() {
        let redacted = |entry: &str, said: &str| {
            let config = parse(&format!(r#"{{"mcpServers": {{"a": {entry}}}}}"#)).unwrap();
            assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
            config.servers()[0].secrets().redact(said).into_owned()
        };
        let web = r#"{"url": "https://example.org/mcp",
            "headers": {"Authorization": "Bearer ${TOKEN}", "Accept": "application/json"}}"#;
        assert_eq!(redacted(web, "Bearer s3cret-value, s3cret-value"), "[redacted], [redacted]");
        assert_eq!(redacted(web, "application/json"), "application/json");
        let said = "got s3cret-value of example.org";
        for entry in [
            r#"{"url": "https://example.org/mcp?tavilyApiKey=s3cret-value"}"#,
            r#"{"url": "https://example.org/mcp?x=${TOKEN}"}"#,
            r#"{"url": "https://example.org/${TOKEN}/mcp"}"#,
            r#"{"url": "https://me:s3cret-value@example.org/mcp"}"#,
            r#"{"url": "https://s3cret-value@example.org/mcp"}"#,
            r#"{"command": "x", "args": ["--api-key", "s3cret-value"]}"#,
            r#"{"command": "x", "args": ["--api-key=s3cret-value"]}"#,
            r#"{"command": "x", "args": ["--header", "Authorization: Bearer s3cret-value"]}"#,
            r#"{"command": "x", "args": ["https://example.org/mcp?token=s3cret-value"]}"#,
            r#"{"command": "x", "args": ["${TOKEN}"]}"#,
            r#"{"command": "x", "env": {"A_TOKEN": "s3cret-value"}}"#,
            r#"{"command": "x", "env": {"DATABASE": "postgres://me:s3cret-value@example.org/db"}}"#,
        ] {
            assert_eq!(redacted(entry, said), "got [redacted] of example.org", "{entry}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let of = |entry: &str| parse(&format!(r#"{{"mcpServers": {{"a": {entry}}}}}"#)).unwrap_err().to_string();
        assert_eq!(of("{}"), "server `a`: it has neither a `command` nor a `url`");
        assert!(of(r#"{"command": "x", "url": "http://a"}"#).contains("either"));
        assert!(of(r#"{"url": "file:///etc"}"#).contains("http"));
        assert!(of(r#"{"url": "http://a", "type": "sse"}"#).contains("streamable"));
        assert_eq!(of(r#"{"command": "${NONE}"}"#), "server `a`: the environment has no variable `NONE`");
        assert!(of(r#"{"command": "${NONE"}"#).contains("not closed"));
        assert!(of(r#"{"command": 3}"#).contains("not a list of MCP servers"));
        assert!(parse(r#"{"mcpServers": {"a.b": {"command": "x"}}}"#).is_err());
        assert!(parse(r#"{"servers": {}}"#).unwrap_err().to_string().contains("mcpServers"));
    }
}
