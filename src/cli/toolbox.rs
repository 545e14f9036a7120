//! The tools of the command, and what a run may do with them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, future, stream};
use plandag::llm::{PlanTool, PlannerWait, StepModel};
use plandag::report::ExitCode;
use plandag::tools::{Fetch, Folder, FolderError, HostPort, WebSearch, WriteFile};
use plandag::{
    Dag, Effect, Plan, PlanError, PlanFile, Planner, Policy, RunStart, Runner, Step, StepContext, StepError, StepId,
    Tool, ToolOutput, ToolSpec, ToolTimeout, offline, tools,
};
use tokio::sync::watch;
use url::Url;

use super::args::Settings;
use super::console::Console;
use super::failure::Failure;
use super::model::args::StepTools;
use super::model::{ANSWER_TOOL, Models, variable};
#[cfg(unix)]
use super::servers::Servers;
use super::style::{self, paint};
use super::text;

/// How many steps beside the first an error names.
const MOST_NOTES: usize = 4;

/// The tools that runs of this command have.
pub(crate) struct Toolbox {
    /// Every tool there is, so that a plan can be checked whatever the run may use of it.
    tools: Vec<(String, Arc<dyn Tool>)>,
    /// How many of them are our own; the others are those of MCP servers.
    own: usize,
    /// Those of our own that act.
    acting: Vec<String>,
    #[cfg(unix)]
    servers: Option<Servers>,
    /// Where web_search asks.
    search_host: String,
    allowed: Vec<String>,
    allowed_hosts: Vec<HostPort>,
    folder: Option<PathBuf>,
    output_folder: PathBuf,
    /// Who is asked, if there are models.
    models: Option<String>,
    /// What the planner waits for, if it is one of them.
    waits: Option<watch::Receiver<Option<PlannerWait>>>,
    /// Plans a part of the run, if there are models.
    planner: Option<PlanTool>,
}

impl Toolbox {
    /// The tools for these settings.
    pub(crate) fn open(settings: &Settings, console: &Console) -> Result<Self, Failure> {
        let mut names = BTreeSet::new();
        if let Some((twice, _)) = settings.inputs.iter().find(|(name, _)| !names.insert(name)) {
            return Err(Failure::usage("usage.arguments", format!("the input `{twice}` is given twice")));
        }
        let output = &settings.output_dir;
        if !settings.allow.is_empty() && output.exists() && !output.is_dir() {
            let message = format!("`{}` is not a folder to write to", output.display());
            return Err(
                Failure::usage("usage.output", message).help("name a folder, which need not exist: --output-dir DIR")
            );
        }
        let folder = settings.files.as_deref().map(open_folder).transpose()?;
        let mut tools = tools::all(folder);
        let fetch = settings.allow_hosts.iter().fold(Fetch::new(), |fetch, host| fetch.allow_host(host.clone()));
        tools.push(("fetch", Arc::new(fetch)));
        tools.push(("write_file", Arc::new(WriteFile::new(&settings.output_dir))));
        #[cfg(unix)]
        tools.push(("shell", Arc::new(tools::Shell::new(&settings.output_dir))));
        let search = web_search()?;
        let search_host = search.host().to_owned();
        tools.push(("web_search", Arc::new(search)));
        tools.extend(offline::tools());
        let mut tools: Vec<_> = tools.into_iter().map(|(name, tool)| (name.to_owned(), tool)).collect();
        let own = tools.len();
        let acting = tools.iter().filter(|(_, tool)| tool.spec().effect == Effect::Acts);
        let acting = acting.map(|(name, _)| name.clone()).collect();
        #[cfg(unix)]
        let servers = Servers::start(&settings.mcp, console)?;
        #[cfg(unix)]
        tools.extend(servers.iter().flat_map(Servers::tools));
        let allowed = allowed(&settings.allow, &tools)?;
        Ok(Self {
            tools,
            own,
            acting,
            #[cfg(unix)]
            servers,
            search_host,
            allowed,
            allowed_hosts: settings.allow_hosts.clone(),
            folder: settings.files.clone(),
            output_folder: settings.output_dir.clone(),
            models: None,
            waits: None,
            planner: None,
        })
    }

    /// Adds the tools that are done by language models. Of a batch, it is said how many steps each of its `lines` may have.
    pub(crate) fn add_models(&mut self, models: &Models, lines: Option<u32>) -> Result<(), Failure> {
        let offered = self.offered(models.step_tools())?;
        let tools = models.tools(&self.tools, &offered);
        self.tools.extend(tools.into_iter().map(|(name, tool)| (name.to_owned(), tool)));
        let planner = models.plan_tool(&self.tools, &self.useless(), lines);
        self.tools.push((PlanTool::NAME.to_owned(), Arc::new(planner.clone())));
        self.planner = Some(planner);
        self.models = Some(models.describe());
        self.waits = Some(models.waits());
        Ok(())
    }

    /// The tools that a model may call while it does a step: only such as read, for a step that acts has to be seen in
    /// the plan.
    fn offered<'a>(&'a self, choice: &StepTools) -> Result<Vec<&'a str>, Failure> {
        let useless = self.useless();
        let readers = self.tools.iter().filter(|(_, tool)| tool.spec().effect == Effect::Reads);
        let useful = readers.map(|(name, _)| name.as_str()).filter(|name| !useless.contains(name));
        Ok(match choice {
            StepTools::None => Vec::new(),
            // Those of a server are called `server.tool`.
            StepTools::Given => useful.filter(|name| tools::NEED_FOLDER.contains(name) || name.contains('.')).collect(),
            StepTools::All => useful.collect(),
            StepTools::Named(names) => {
                let useful: Vec<&str> = useful.collect();
                // A file names them for every run, also for those without a folder.
                let is_unknown = |name: &&String| !useful.contains(&name.as_str()) && !self.lacks_folder(name);
                if let Some(unknown) = names.iter().find(is_unknown) {
                    return Err(Failure::usage(
                        "usage.unknown_tool",
                        format!("there is no tool `{unknown}` that only reads, so no step can be offered it"),
                    )
                    .help(format!("there are {}", useful.join(", "))));
                }
                useful.into_iter().filter(|name| names.iter().any(|named| named == name)).collect()
            }
        })
    }

    /// Refuses a choice of tools that no run could offer, whatever folder and servers it was given.
    pub(crate) fn check_choice(&self, choice: &StepTools) -> Result<(), Failure> {
        let StepTools::Named(names) = choice else { return Ok(()) };
        // What servers there will be is not known.
        let others = names.iter().filter(|name| !name.contains('.')).cloned().collect();
        self.offered(&StepTools::Named(others)).map(drop)
    }

    /// Whether a tool reads a folder, and there is none.
    fn lacks_folder(&self, name: &str) -> bool {
        self.folder.is_none() && tools::NEED_FOLDER.contains(&name)
    }

    /// Tools that a plan should not use: without a folder those that read one, and those that it has no leave to use.
    pub(crate) fn useless(&self) -> Vec<&str> {
        let useless = self.tools.iter().filter(|(name, _)| self.lacks_folder(name) || !self.is_allowed(name));
        useless.map(|(name, _)| name.as_str()).collect()
    }

    /// What plans a part of the run, if there are models.
    pub(crate) fn planner(&self) -> Option<&PlanTool> {
        self.planner.as_ref()
    }

    /// What the planner waits for, each time that it begins to wait.
    pub(crate) fn planner_waits(&self) -> BoxStream<'static, PlannerWait> {
        let next = |waits: Option<watch::Receiver<Option<PlannerWait>>>| async {
            let mut waits = waits?;
            waits.changed().await.ok()?;
            let wait = waits.borrow_and_update().clone();
            Some((wait, Some(waits)))
        };
        stream::unfold(self.waits.clone(), next).filter_map(future::ready).boxed()
    }

    /// Whether models do steps.
    pub(crate) fn has_models(&self) -> bool {
        self.models.is_some()
    }

    /// The tool that does the steps which name none.
    fn default_tool(&self) -> Option<&'static str> {
        self.has_models().then_some(StepModel::NAME)
    }

    /// Whether the run may use a tool. Those that only read need no leave, and neither do those of MCP servers, which
    /// were named by whoever started the run.
    fn is_allowed(&self, name: &str) -> bool {
        !self.needs_leave(name) || self.allowed.iter().any(|allowed| allowed == name)
    }

    /// Whether a run may use a tool only where `--allow` names it.
    pub(crate) fn needs_leave(&self, name: &str) -> bool {
        self.acting.iter().any(|acting| acting == name)
    }

    /// What the tool with this name says about itself.
    pub(crate) fn spec(&self, name: &str) -> Result<ToolSpec, Failure> {
        let named = self.specs().into_iter().find(|spec| spec.name == name);
        named.ok_or_else(|| unknown_tool(&self.tools, format!("there is no tool `{name}`")))
    }

    /// What the tools say about themselves.
    pub(crate) fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|(name, tool)| ToolSpec { name: name.clone(), ..tool.spec() }).collect()
    }

    /// What a run with these tools is started with.
    pub(crate) fn start(&self, objective: &str, settings: &Settings, policy: Policy) -> RunStart {
        RunStart {
            objective: objective.to_owned(),
            inputs: settings.inputs.iter().cloned().collect(),
            policy,
            tools: self.specs(),
            default_tool: self.default_tool().map(str::to_owned),
            planner_server: String::new(),
            labels: Default::default(),
        }
    }

    /// Lets the run's timeout hold for every tool, those that would take as long as their arguments say included.
    pub(crate) fn limit_time(&mut self) {
        for (_, tool) in &mut self.tools {
            *tool = Arc::new(TimeLimited(Arc::clone(tool)));
        }
    }

    /// A runner with these tools.
    pub(crate) fn runner(&self, planner: impl Planner + 'static, settings: &Settings, policy: Policy) -> Runner {
        let allow = self.allowed.iter().cloned().collect();
        let runner = Runner::new(planner).policy(Policy { allow, ..policy });
        let runner = settings.inputs.iter().fold(runner, |runner, (name, value)| runner.input(name, value.clone()));
        let allowed = self.tools.iter().filter(|(name, _)| self.is_allowed(name));
        let runner = allowed.fold(runner, |runner, (name, tool)| runner.tool(name.clone(), Arc::clone(tool)));
        self.default_tool().into_iter().fold(runner, Runner::default_tool)
    }

    /// Checks a plan against what a run may do.
    pub(crate) fn check(&self, file: &PlanFile, start: &RunStart) -> Result<Dag, Failure> {
        Dag::check(&file.plan, start).map_err(|problems| {
            let no_model = problems.iter().all(|problem| matches!(problem, PlanError::NoExecutor { .. }));
            let exit = if no_model { ExitCode::Configuration } else { ExitCode::PlanInvalid };
            let failure = Failure::plan(file.locate(problems), exit);
            if no_model { failure.help("a model does such steps: plandag run PLAN --model NAME") } else { failure }
        })
    }

    /// Refuses a plan that needs more than the run was given.
    pub(crate) fn check_needs(&self, plan: &Plan) -> Result<(), Failure> {
        let missing = self.missing(plan);
        let config = |code, message| Failure::new(code, ExitCode::Configuration, message);
        let forbidden: Vec<&Missing<'_>> = missing.iter().filter(|missing| missing.tool_acts).collect();
        let failure = match (forbidden.as_slice(), missing.first()) {
            ([], None) => return Ok(()),
            ([], Some(Missing { step, tool, .. })) => config(
                "config.no_files",
                format!("step `{step}` uses `{tool}`, and the run was given no folder to read"),
            )
            .help("name the folder: --files DIR"),
            ([first, rest @ ..], _) => {
                let what =
                    format!("step `{}` uses `{}`, which acts, and this run has no leave to", first.step, first.tool);
                let others = rest.iter().take(MOST_NOTES);
                let failure = others.fold(config("config.not_allowed", what), |failure, other| {
                    failure.note(format!("so does step `{}`, with `{}`", other.step, other.tool))
                });
                let failure = match rest.len().checked_sub(MOST_NOTES) {
                    Some(more @ 1..) => failure.note(format!("and so do {more} more")),
                    _ => failure,
                };
                failure.help(format!("if you trust the plan with that: {}", self.needs(plan).join(" ")))
            }
        };
        Err(failure)
    }

    /// What has to be added to the command for the run to have all that a plan uses.
    pub(crate) fn needs(&self, plan: &Plan) -> Vec<String> {
        let options: BTreeSet<String> = self.missing(plan).into_iter().map(|missing| missing.option()).collect();
        options.into_iter().collect()
    }

    /// The steps that cannot run with what the run was given.
    fn missing<'a>(&self, plan: &'a Plan) -> Vec<Missing<'a>> {
        // A plan has many more steps than there are tools.
        let lacks = |(name, _): &(String, Arc<dyn Tool>)| {
            let tool_acts = !self.is_allowed(name);
            let no_folder = self.folder.is_none() && tools::NEED_FOLDER.contains(&name.as_str());
            (tool_acts || no_folder).then(|| (name.clone(), tool_acts))
        };
        let lacking: HashMap<String, bool> = self.tools.iter().filter_map(lacks).collect();
        let missing = |step: &'a Arc<Step>| {
            let tool = step.tool.as_deref()?;
            lacking.get(tool).map(|&tool_acts| Missing { step: &step.id, tool, tool_acts })
        };
        plan.steps.iter().filter_map(missing).collect()
    }

    /// What a run with these tools may do and what it may not, for people.
    pub(crate) fn render(&self) -> String {
        let mut may: Vec<String> = Vec::new();
        let mut may_not: Vec<&str> = Vec::new();
        let output_folder = text::line(&self.output_folder.to_string_lossy()).into_owned();
        // Whatever is forbidden to our own tools, a program can do.
        let runs_programs = self.allowed.iter().any(|allowed| allowed == "shell");
        match &self.folder {
            Some(folder) => {
                may.push(format!("search and read {}", text::line(&folder.to_string_lossy())));
                may_not.push("read other files");
            }
            None => may_not.push("read files"),
        }
        may.push("read public web pages".to_owned());
        may.push(format!("search the web with {}", text::line(&self.search_host)));
        may.extend(self.allowed_hosts.iter().map(|host| format!("read {host}")));
        may_not.push(if self.allowed_hosts.is_empty() {
            "reach private networks"
        } else {
            "reach other private hosts"
        });
        #[cfg(unix)]
        may.extend(self.servers.iter().flat_map(Servers::may));
        for (name, _) in &self.tools[..self.own] {
            match (name.as_str(), self.is_allowed(name)) {
                ("write_file", true) => may.push(format!("write files in {output_folder}")),
                ("write_file", false) => may_not.push("write files"),
                ("shell", true) => {
                    may.push(format!("run commands in {output_folder}, which can do all that you can"));
                }
                ("shell", false) => may_not.push("run commands"),
                ("fetch" | "web_search" | StepModel::NAME | ANSWER_TOOL | PlanTool::NAME, _) => {}
                (name, _) if tools::NEED_FOLDER.contains(&name) => {}
                (name, _) => may.push(name.to_owned()),
            }
        }
        may.extend(self.models.iter().map(|models| format!("ask {models}")));
        let heading = |words: &str| paint(style::FAINT, &text::pad(words, 10));
        #[cfg(unix)]
        let has_servers = self.servers.is_some();
        #[cfg(not(unix))]
        let has_servers = false;
        let mut lines = format!(" {}{}", heading("may"), may.join(", "));
        if !runs_programs {
            lines.push_str(&format!("\n {}{}", heading("may not"), may_not.join(", ")));
        }
        if has_servers {
            let what = "MCP servers are programs of their own, and do what they do outside of these limits";
            lines.push_str(&format!("\n {}{what}", heading("note")));
        }
        lines
    }
}

/// What a run with no tools but our own is started with.
pub(crate) fn own_start(policy: Policy, console: &Console) -> Result<RunStart, Failure> {
    let settings = Settings::default();
    Ok(Toolbox::open(&settings, console)?.start("", &settings, policy))
}

/// A step that uses what the run was not given.
struct Missing<'a> {
    step: &'a StepId,
    tool: &'a str,
    /// Else it reads, and there is no folder.
    tool_acts: bool,
}

impl Missing<'_> {
    fn option(&self) -> String {
        if self.tool_acts { format!("--allow {}", self.tool) } else { "--files DIR".to_owned() }
    }
}

/// The tools that `--allow` names: each by its name, or all of a server as `SERVER.*`.
fn allowed(patterns: &[String], tools: &[(String, Arc<dyn Tool>)]) -> Result<Vec<String>, Failure> {
    let mut allowed = Vec::new();
    for pattern in patterns {
        let is_meant = |name: &&String| match pattern.strip_suffix('*') {
            Some(server) if server.ends_with('.') => name.starts_with(server),
            _ => *name == pattern,
        };
        let before = allowed.len();
        allowed.extend(tools.iter().map(|(name, _)| name).filter(is_meant).cloned());
        if allowed.len() == before {
            return Err(unknown_tool(tools, format!("there is no tool `{pattern}` to allow")));
        }
    }
    Ok(allowed)
}

/// The search engine that the environment names: Tavily where there is a key for it, else a wiki, which needs none.
fn web_search() -> Result<WebSearch, Failure> {
    let url = |name: &'static str, usual: &str| {
        let wrong = |why: String| {
            Failure::new(
                "config.web_search",
                ExitCode::Configuration,
                format!("{name} is no address of the web: {why}"),
            )
            .help(format!("set {name} to an address such as {usual}, or leave it out"))
        };
        let text = variable(name);
        let url: Url = text.as_deref().unwrap_or(usual).parse().map_err(|error| wrong(format!("{error}")))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            scheme => Err(wrong(format!("it begins with {scheme}:"))),
        }
    };
    match variable("TAVILY_API_KEY") {
        Some(key) => Ok(WebSearch::tavily(key, url("TAVILY_BASE_URL", "https://api.tavily.com/")?)),
        None => Ok(WebSearch::mediawiki(url("MEDIAWIKI_API_URL", "https://en.wikipedia.org/w/api.php")?)),
    }
}

fn unknown_tool(tools: &[(String, Arc<dyn Tool>)], message: String) -> Failure {
    let names: Vec<&str> = tools.iter().map(|(name, _)| name.as_str()).collect();
    Failure::usage("usage.unknown_tool", message).help(format!("the tools are {}", names.join(", ")))
}

/// A tool to which the run's own timeout applies.
struct TimeLimited(Arc<dyn Tool>);

impl Tool for TimeLimited {
    fn spec(&self) -> ToolSpec {
        ToolSpec { timeout: ToolTimeout::Default, ..self.0.spec() }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        self.0.call(cx)
    }

    fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
        self.0.reap(run)
    }
}

fn open_folder(path: &Path) -> Result<Arc<Folder>, Failure> {
    Folder::open(path).map(Arc::new).map_err(|error| {
        let exit = match error {
            FolderError::NotFound { .. } | FolderError::NotAFolder { .. } => ExitCode::Usage,
            _ => ExitCode::Configuration,
        };
        Failure::new("config.files", exit, error.to_string())
            .help("name a folder that exists and that you may read: --files DIR")
    })
}
