//! The command that a run was started with, kept with the run, so that it can be gone on with from anywhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use plandag::journal::RunId;
use plandag::report::ExitCode;
use plandag::{Plan, PlanFile, RunStart, Step, StepId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::args::{self, Command, RunArgs};
use super::super::batch::Batch;
use super::super::console::Console;
use super::super::failure::Failure;
use super::super::model::args::{Chosen, base_url};
use super::super::model::{ADDRESSES, OPENAI_BASE_URL, variable};
use super::super::secrets;
use super::super::source::STDIN;
use super::super::text;

/// The name of the label.
const LABEL: &str = "command";

/// How a run was started.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Recorded {
    arguments: Vec<String>,
    directory: PathBuf,
    /// The plan, if it did not come from a planner.
    plan: Option<Plan>,
    /// What the steps of that plan stand for, if it is one of many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<Batch>,
    /// The model, if it was chosen because none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Chosen>,
    /// Where the environment said that servers are, by the variable that said so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    addresses: BTreeMap<String, String>,
}

/// What a process that goes on with a run takes over from those before it.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// What the run was started with. None: it was not started yet.
    pub(super) arguments: Option<Vec<String>>,
    /// What it was told since, for [`Policy::labels`](plandag::Policy::labels).
    pub(crate) labels: BTreeMap<String, String>,
}

impl Recorded {
    /// What a run is started with, as a label of it: what this process was, unless it asks the same as one `before`.
    pub(crate) fn label(
        before: &Before,
        plan: Option<&Plan>,
        batch: Option<&Batch>,
        model: Option<&Chosen>,
    ) -> (&'static str, Value) {
        let recorded = Self {
            arguments: before.arguments.clone().unwrap_or_else(arguments),
            // A directory that is gone cannot be gone back to.
            directory: std::env::current_dir().unwrap_or_default(),
            plan: plan.cloned(),
            batch: batch.cloned(),
            model: model.cloned(),
            addresses: addresses(),
        };
        (LABEL, serde_json::to_value(recorded).unwrap_or_default())
    }

    /// What a run was started with.
    pub(super) fn of(start: &RunStart) -> Result<Self, Failure> {
        let Some(label) = start.labels.get(LABEL) else {
            let message = "the run was not started by plandag run, and only what started it can go on with it";
            return Err(Failure::new("journal.foreign_run", ExitCode::Usage, message).help(
                "resume it with that program (a plandag demo is begun anew); plandag show can be used all the same",
            ));
        };
        Self::deserialize(label).map_err(|error| not_understood(&error.to_string()))
    }

    /// The arguments, read anew. Paths in them are meant from [`directory`](Self::directory).
    pub(super) fn args(&self) -> Result<RunArgs, Failure> {
        match args::parse(&self.arguments).map(|cli| cli.command) {
            Ok(Command::Run(mut args)) => {
                if self.model.is_some() {
                    // What the environment names now was not named then.
                    (args.model.model, args.model.chosen) = (None, self.model.clone());
                }
                Ok(*args)
            }
            Ok(_) => Err(not_understood("they are not those of plandag run")),
            Err(error) => Err(not_understood(&error.render().to_string())),
        }
    }

    /// Refuses a run that this command could not go on with.
    pub(crate) fn check(start: &RunStart) -> Result<(), Failure> {
        let recorded = Self::of(start)?;
        recorded.directory.join(".").metadata().map_err(|error| recorded.unreachable(&error))?;
        recorded.args().map(drop)
    }

    /// The run cannot go on where it was started.
    pub(super) fn unreachable(&self, error: &io::Error) -> Failure {
        let message = format!("the run was started in {}, which cannot be gone to: {error}", self.directory.display());
        Failure::new("config.files", ExitCode::Configuration, message)
    }

    pub(super) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub(super) fn addresses(&self) -> &BTreeMap<String, String> {
        &self.addresses
    }

    /// Whether it is for a planner to say what is done.
    pub(super) fn is_objective(&self) -> bool {
        self.plan.is_none()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Refuses to go on if the plan has changed since the run was started. Where its file cannot be read any more, it says
    /// so and lets the run go on: what it goes on with is kept with it.
    pub(super) fn check_plan(&self, args: &RunArgs, run: &RunId, console: &Console) -> Result<(), Failure> {
        // The file of a batch is no plan; the lines that were read from it are kept whole.
        let (Some(then), None) = (&self.plan, &self.batch) else { return Ok(()) };
        let source = args.source.as_str();
        // What was read from standard input is not there to be read again.
        if source == STDIN {
            return Ok(());
        }
        let file = match PlanFile::read(source, args.settings.size.bytes()) {
            Ok(file) => file,
            Err(error) => {
                let why = error.to_string();
                let why = text::line(why.lines().next().unwrap_or_default());
                let name = text::line(source);
                console.complain(&format!(
                    " {name} cannot be compared with the plan as it was, which the run goes on with: {why}"
                ));
                return Ok(());
            }
        };
        let differences = differences(then, &file.plan);
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("{source} is not what it was when run {run} was started");
        let failure = Failure::new("journal.changed", ExitCode::Journal, message);
        Err(differences
            .into_iter()
            .fold(failure, Failure::note)
            .help(format!("go on with the plan as it was: plandag resume {run} --accept-changes"))
            .help(format!("or run the new plan: plandag run {}", text::quoted(source))))
    }

    pub(super) fn into_plan(self) -> (Option<Plan>, Option<Batch>) {
        (self.plan, self.batch)
    }
}

/// The arguments of this process, with what the environment has said instead of one.
fn arguments() -> Vec<String> {
    let mut arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let is_said = arguments.iter().any(|argument| argument.starts_with("--model") || argument == "--offline");
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    if let Some(model) = variable("PLANDAG_MODEL").filter(|_| !is_said) {
        arguments.insert(end, format!("--model={model}"));
    }
    let has_address = arguments.iter().any(|argument| argument.starts_with("--base-url"));
    // One that has a key in it is not written down.
    if let Some(url) = variable(OPENAI_BASE_URL).filter(|url| !has_address && base_url(url).is_ok()) {
        arguments.insert(end, format!("--base-url={url}"));
    }
    // A label keeps words that can be names, which these are not.
    let mut is_text = false;
    for argument in &mut arguments {
        if is_text || argument.starts_with("--input=") || argument.contains(char::is_whitespace) {
            *argument = secrets::known().redact(argument).into_owned();
        }
        is_text = argument == "--input";
    }
    arguments
}

/// What the environment says of where servers are. One that has a key in it is not written down.
fn addresses() -> BTreeMap<String, String> {
    let is_public = |place: &String| match place.contains("://") {
        true => base_url(place).is_ok(),
        false => base_url(&format!("http://{place}")).is_ok(),
    };
    let said = |name: &str| Some((name.to_owned(), variable(name).filter(is_public)?));
    ADDRESSES.into_iter().filter_map(said).collect()
}

pub(super) fn not_understood(why: &str) -> Failure {
    let message = "this release does not understand the arguments that the run was started with";
    Failure::new("journal.foreign_run", ExitCode::Usage, message)
        .note(why.lines().next().unwrap_or_default())
        .help("resume it with the release that started it")
}

/// How a plan differs from what it was.
fn differences<'a>(then: &'a Plan, now: &'a Plan) -> Vec<String> {
    let mut differences = Vec::new();
    let by_id = |plan: &'a Plan| plan.steps.iter().map(|step| (&step.id, &**step)).collect();
    let (old, new): (HashMap<&StepId, &Step>, HashMap<&StepId, &Step>) = (by_id(then), by_id(now));
    for before in &then.steps {
        match new.get(&before.id) {
            None => differences.push(format!("- {}", before.id)),
            Some(after) if **after != **before => {
                let (before, after) = (fields(&**before), fields(after));
                let changed = changed(&before, &after);
                if !changed.is_empty() {
                    let id = before["id"].as_str().unwrap_or_default();
                    differences.push(format!("~ {id}: {}", changed.join(", ")));
                }
            }
            Some(_) => {}
        }
    }
    let added = now.steps.iter().filter(|step| !old.contains_key(&step.id));
    differences.extend(added.map(|step| format!("+ {}", step.id)));
    let (mut before, mut after) = (fields(then), fields(now));
    before.remove("steps");
    after.remove("steps");
    differences.extend(changed(&before, &after).into_iter().map(|name| format!("~ {name}")));
    differences
}

/// The names of the fields that are different. Words for people that a secret was taken out of are not compared: nothing
/// is done otherwise for them.
fn changed<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> Vec<&'a str> {
    let is_redacted = |name: &str| {
        let text = before.get(name).and_then(Value::as_str);
        matches!(name, "description" | "objective") && text.is_some_and(|text| text.contains("[redacted]"))
    };
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name) && !is_redacted(name)).collect()
}

fn fields(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
