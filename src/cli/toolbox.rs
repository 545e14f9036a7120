//! The tools of the command, and what a run may do with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use plandag::report::ExitCode;
use plandag::tools::{Folder, FolderError};
use plandag::{
    Dag, Effect, Plan, PlanError, PlanFile, Planner, Policy, RunStart, Runner, StepContext, StepError, Tool,
    ToolOutput, ToolSpec, ToolTimeout, offline, tools,
};

use super::args::Settings;
use super::failure::Failure;
use super::style::{self, paint};
use super::text;

/// The tools that runs of this command have.
pub(crate) struct Toolbox {
    tools: Vec<(&'static str, Arc<dyn Tool>)>,
    folder: Option<PathBuf>,
}

impl Toolbox {
    /// The tools for these settings. Those that act are there if they are `allowed`.
    pub(crate) fn open(settings: &Settings, allowed: &[String]) -> Result<Self, Failure> {
        let folder = settings.files.as_deref().map(open_folder).transpose()?;
        let mut tools = tools::all(folder);
        tools.extend(offline::tools());
        if let Some(unknown) = allowed.iter().find(|name| !tools.iter().any(|(known, _)| known == name)) {
            return Err(Failure::usage("usage.unknown_tool", format!("there is no tool `{unknown}` to allow"))
                .help("`plandag tools` lists the tools"));
        }
        tools.retain(|(name, tool)| {
            tool.spec().effect == Effect::Reads || allowed.iter().any(|allowed| allowed == name)
        });
        Ok(Self { tools, folder: settings.files.clone() })
    }

    /// What the tools say about themselves.
    pub(crate) fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|(name, tool)| ToolSpec { name: (*name).to_owned(), ..tool.spec() }).collect()
    }

    /// What a run with these tools is started with.
    pub(crate) fn start(&self, objective: &str, settings: &Settings, policy: Policy) -> RunStart {
        RunStart {
            objective: objective.to_owned(),
            inputs: settings.inputs.iter().cloned().collect(),
            policy,
            tools: self.specs(),
            default_tool: None,
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
        let runner = Runner::new(planner).policy(policy);
        let runner = settings.inputs.iter().fold(runner, |runner, (name, value)| runner.input(name, value.clone()));
        self.tools.iter().fold(runner, |runner, (name, tool)| runner.tool(*name, Arc::clone(tool)))
    }

    /// Checks a plan against what a run may do.
    pub(crate) fn check(&self, file: &PlanFile, start: &RunStart) -> Result<Dag, Failure> {
        Dag::check(&file.plan, start).map_err(|problems| {
            let no_model = problems.iter().all(|problem| matches!(problem, PlanError::NoExecutor { .. }));
            let exit = if no_model { ExitCode::Configuration } else { ExitCode::PlanInvalid };
            Failure::plan(file.locate(problems), exit)
        })
    }

    /// Refuses a plan whose tools need a folder where there is none.
    pub(crate) fn check_folder(&self, plan: &Plan) -> Result<(), Failure> {
        let mut used = plan.steps.iter().filter_map(|step| Some((step.tool.as_deref()?, &step.id)));
        match used.find(|(tool, _)| tools::NEED_FOLDER.contains(tool)) {
            Some((tool, step)) if self.folder.is_none() => Err(Failure::new(
                "config.no_files",
                ExitCode::Configuration,
                format!("step `{step}` uses `{tool}`, and the run was given no folder to read"),
            )
            .help("name the folder: --files DIR")),
            _ => Ok(()),
        }
    }

    /// What a run with these tools may do and what it may not, for people.
    pub(crate) fn render(&self) -> String {
        let mut may: Vec<String> = Vec::new();
        let mut may_not = vec!["write files", "run commands", "use the network"];
        match &self.folder {
            Some(folder) => {
                may.push(format!("search and read {}", text::line(&folder.to_string_lossy())));
                may_not.insert(0, "read other files");
            }
            None => may_not.insert(0, "read files"),
        }
        for (name, tool) in &self.tools {
            match tool.spec().effect {
                Effect::Reads if tools::NEED_FOLDER.contains(name) => {}
                Effect::Reads => may.push((*name).to_owned()),
                Effect::Acts => may.push(format!("{name}, which acts")),
            }
        }
        let heading = |words: &str| paint(style::FAINT, &text::pad(words, 10));
        format!(" {}{}\n {}{}", heading("may"), may.join(", "), heading("may not"), may_not.join(", "))
    }
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
