//! `plandag doctor`.

use std::path::Path;
use std::time::{Duration, Instant};

use plandag::ModelProblem;
use plandag::llm::{Message, ModelRequest, Server};
use plandag::report::ExitCode;
use serde_json::{Value, json};

use super::args::{DoctorArgs, SpendingArgs};
use super::config;
use super::servers::variable;
use super::{Models, advice, detect};
use crate::cli::args::Settings;
use crate::cli::console::Console;
use crate::cli::duration::human;
use crate::cli::failure::Failure;
use crate::cli::history::check_journal;
use crate::cli::run::block_on;
use crate::cli::style::{self, paint};
use crate::cli::text;
use crate::cli::toolbox::Toolbox;

/// The longest that the one call may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// More models of a server are not listed.
const MOST_MODELS: usize = 8;
/// The providers whose keys are looked for; any other is found out by naming its model.
const PROVIDERS: [&str; 8] = ["openai", "anthropic", "gemini", "groq", "mistral", "deepseek", "xai", "open_router"];

/// `plandag doctor`.
pub(crate) fn run(args: &DoctorArgs, console: &Console) -> Result<ExitCode, Failure> {
    if args.example {
        console.data(include_str!("example.toml"))?;
        return Ok(ExitCode::Success);
    }
    if let Some(journal) = &args.journal {
        return check_journal(journal.as_deref(), console);
    }
    let findings = Findings::gather()?;
    if !args.json {
        console.styled(&findings.render())?;
    }
    let tried = try_models(args, &findings, console);
    if args.json {
        // Who does not read the findings does not miss them.
        let _ = console.json(&findings.to_json(&tried));
        return Ok(tried.map_or_else(|failure| failure.exit(), |_| ExitCode::Success));
    }
    let Tried { call, unpriced } = tried?;
    console.styled(&call.render())?;
    if let Some(unpriced) = unpriced {
        console.styled(&finding("price", false, &unpriced.brief()))?;
    }
    Ok(ExitCode::Success)
}

/// What came of using what is configured.
struct Tried {
    call: Call,
    /// Why a limit on money means nothing.
    unpriced: Option<Failure>,
}

fn try_models(args: &DoctorArgs, findings: &Findings, console: &Console) -> Result<Tried, Failure> {
    let models = Models::find_unpriced(&args.model, &SpendingArgs::default(), None, console)?;
    let models = models.ok_or_else(|| findings.no_model())?;
    Toolbox::open(&Settings::default(), console)?.check_choice(models.step_tools())?;
    Ok(Tried { call: try_call(&models)?, unpriced: models.check_prices().err() })
}

/// What there is.
struct Findings {
    /// Configuration files, and whether they are there.
    files: Vec<(String, bool)>,
    /// Environment variables for keys, and whether they are set.
    keys: Vec<(&'static str, bool)>,
    servers: Vec<detect::Asked>,
}

impl Findings {
    fn gather() -> Result<Self, Failure> {
        let file = |path: &Path| (path.to_string_lossy().into_owned(), path.exists());
        let user = config::user_file().map(|path| file(&path));
        let project = file(Path::new(config::PROJECT_FILE));
        let variables = PROVIDERS.iter().filter_map(|name| Server::named(name)?.key_variable());
        Ok(Self {
            files: [project].into_iter().chain(user).collect(),
            keys: variables.map(|name| (name, variable(name).is_some())).collect(),
            servers: detect::usual()?,
        })
    }

    fn render(&self) -> String {
        let mut lines = String::new();
        let mut line = |heading: &str, good: bool, what: String| lines.push_str(&finding(heading, good, &what));
        for (path, is_there) in &self.files {
            line("config", *is_there, if *is_there { path.clone() } else { format!("{path}: not there") });
        }
        for (name, is_set) in &self.keys {
            line("key", *is_set, format!("{name} is {}", if *is_set { "set" } else { "not set" }));
        }
        for detect::Asked { name, url, models } in &self.servers {
            let what = match models {
                Ok(models) if models.is_empty() => "it answers, and has no model".to_owned(),
                Ok(models) => shown(models),
                Err(problem) if wants_key(*problem) => "it answers, and wants a key".to_owned(),
                Err(_) => "no model server answers".to_owned(),
            };
            let has_model = models.as_ref().is_ok_and(|models| !models.is_empty());
            line("server", has_model, format!("{name} at {url}: {what}"));
        }
        lines
    }

    fn no_model(&self) -> Failure {
        let locked = self.servers.iter().filter(|asked| asked.models.as_ref().is_err_and(|why| wants_key(*why)));
        let failure = Failure::new("config.no_planner", ExitCode::Configuration, "there is no model");
        locked
            .fold(failure, |failure, asked| {
                failure.help(format!("use the server that wants a key: --base-url {} --api-key-file FILE", asked.url))
            })
            .help("start a local server, or name a model: --model gpt-4o-mini, with OPENAI_API_KEY set")
            .help("without a model, objectives are answered from documents: plandag run \"...\" --files DIR")
    }

    fn to_json(&self, tried: &Result<Tried, Failure>) -> Value {
        let files = self.files.iter().map(|(path, is_there)| json!({ "path": path, "found": is_there }));
        let keys = self.keys.iter().map(|(name, is_set)| json!({ "variable": name, "set": is_set }));
        let servers = self.servers.iter().filter_map(|detect::Asked { name, url, models }| match models {
            Ok(models) => Some(json!({ "name": name, "url": url, "models": models, "wants_key": false })),
            Err(problem) if wants_key(*problem) => {
                Some(json!({ "name": name, "url": url, "models": [], "wants_key": true }))
            }
            Err(_) => None,
        });
        let call = |Tried { call, .. }: &Tried| {
            json!({
                "model": call.model, "place": call.place, "ms": call.took.as_millis() as u64,
                "tokens_in": call.tokens_in, "tokens_out": call.tokens_out,
            })
        };
        json!({
            "v": 1,
            "config": files.collect::<Vec<_>>(),
            "keys": keys.collect::<Vec<_>>(),
            "servers": servers.collect::<Vec<_>>(),
            "call": tried.as_ref().ok().map(call),
            "price": tried.as_ref().ok().and_then(|tried| tried.unpriced.as_ref()).map(Failure::brief),
            "error": tried.as_ref().err().map(Failure::fields),
        })
    }
}

fn wants_key(problem: ModelProblem) -> bool {
    matches!(problem, ModelProblem::MissingKey | ModelProblem::WrongKey)
}

fn finding(heading: &str, good: bool, what: &str) -> String {
    let (style, sign) = if good { (style::GOOD, "✓") } else { (style::FAINT, "○") };
    let heading = paint(style::FAINT, &text::pad(heading, 9));
    format!(" {heading}{} {}\n", paint(style, sign), text::line(what))
}

/// The first few of some names.
fn shown(names: &[String]) -> String {
    let first = names.iter().take(MOST_MODELS).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_MODELS) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A call that was answered.
struct Call {
    model: String,
    place: String,
    took: Duration,
    tokens_in: u64,
    tokens_out: u64,
}

impl Call {
    fn render(&self) -> String {
        let Self { model, place, took, tokens_in, tokens_out } = self;
        let what = format!("`{model}` ({place}) answers: {}, {tokens_in} in / {tokens_out} out tokens", human(*took));
        finding("call", true, &what)
    }
}

/// Asks the model that plans for a word.
fn try_call(models: &Models) -> Result<Call, Failure> {
    let planner = models.planner_role();
    let request = ModelRequest {
        messages: vec![Message::User("Reply with the word ready.".to_owned())],
        ..ModelRequest::default()
    };
    let began = Instant::now();
    let answered = block_on(async { tokio::time::timeout(PATIENCE, planner.model.complete(request)).await })?;
    let failure = |code, exit, message: String| Failure::new(code, exit, message);
    let reply = match answered {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            let exit = ExitCode::of_offences(&[error.clone().into()]);
            let failure = failure(error.problem.code(), exit, error.message);
            // One that it does not have, or that is none to talk with.
            if matches!(error.problem, ModelProblem::UnknownModel | ModelProblem::Rejected)
                && let Ok(Ok(names)) = block_on(planner.provider.model_names())
                && !names.is_empty()
            {
                return Err(failure.note(format!("it has {}", shown(&names))).help("name one of them: --model NAME"));
            }
            // This is what it says of others.
            let help = advice(error.problem).iter().filter(|help| !help.contains("plandag doctor"));
            return Err(help.fold(failure, |failure, help| failure.help(*help)));
        }
        Err(_) => {
            let message = format!("model `{}` did not answer within {}", planner.name, human(PATIENCE));
            return Err(failure("provider.stalled", ExitCode::Provider, message));
        }
    };
    Ok(Call {
        model: planner.name.clone(),
        place: planner.place.clone(),
        took: began.elapsed(),
        tokens_in: reply.usage.input_tokens,
        tokens_out: reply.usage.output_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_wants_a_key_is_said_to_be_there() {
        let asked = |url, models| detect::Asked { name: "llama.cpp", url, models };
        let locked = asked("http://127.0.0.1:1/v1", Err(ModelProblem::WrongKey));
        let servers = vec![locked, asked("http://127.0.0.1:2/v1", Err(ModelProblem::Unreachable))];
        let findings = Findings { files: Vec::new(), keys: Vec::new(), servers };
        let shown = findings.render();
        assert!(shown.contains("1/v1: it answers, and wants a key"), "{shown}");
        assert!(shown.contains("2/v1: no model server answers"), "{shown}");
        let none = findings.no_model();
        let failure = none.render();
        assert!(failure.contains("--base-url http://127.0.0.1:1/v1 --api-key-file FILE"), "{failure}");
        let servers = &findings.to_json(&Err(none))["servers"];
        assert_eq!(servers.as_array().map(Vec::len), Some(1), "{servers}");
    }
}
