//! Which language models a command has: from arguments, environment and configuration files, or found on this machine.

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod detect;
pub(crate) mod doctor;
pub(crate) mod prompts;
mod servers;

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use plandag::llm::{
    LlmPlanner, Model, ModelOptions, PlanTool, PlannerWait, Price, PriceList, Prompts, Provider, RateLimits, StepModel,
};
use plandag::report::ExitCode;
use plandag::{Dag, ModelProblem, Plan, Policy, StepId, Tool, ToolSpec};
use tokio::sync::watch;

use super::console::Console;
use super::failure::Failure;
use super::text;
use args::{Chosen, ModelArgs, SpendingArgs, StepTools};
use config::Files;
use servers::Servers;

pub(crate) use servers::{ADDRESSES, OPENAI_BASE_URL, go_back_to, variable};

/// The tool that does the last step, where that has a model of its own.
pub(crate) const ANSWER_TOOL: &str = "answer";
/// Tools that are of no use to a model that plans.
const NOT_FOR_PLANNERS: [&str; 2] = ["quote", "sleep"];

/// The models of a command, one for each role.
pub(crate) struct Models {
    planner: Role,
    steps: Role,
    answer: Option<Role>,
    prompts: Arc<Prompts>,
    args: ModelArgs,
    step_tools: StepTools,
    spending: Spending,
    /// What the planner waits for, whenever it begins to wait.
    waits: watch::Sender<Option<PlannerWait>>,
}

/// A model with what is known about it.
#[derive(Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) provider: Provider,
    pub(crate) place: String,
    price: Option<Price>,
    /// What its provider takes.
    limits: RateLimits,
}

#[derive(Debug)]
struct Spending {
    max_tokens: Option<u64>,
    max_usd: Option<f64>,
    /// What sets that.
    max_usd_by: String,
    review: bool,
}

impl Models {
    /// The models that were named, or else one that was found. None: there is no model.
    /// With a `timeout`, no model is silent for longer.
    pub(crate) fn find(
        args: &ModelArgs,
        spending: &SpendingArgs,
        timeout: Option<Duration>,
        console: &Console,
    ) -> Result<Option<Self>, Failure> {
        let models = Self::find_unpriced(args, spending, timeout, console)?;
        models.as_ref().map_or(Ok(()), Self::check_prices)?;
        Ok(models)
    }

    /// As [`find`](Self::find), also where a limit on money means nothing.
    fn find_unpriced(
        args: &ModelArgs,
        spending: &SpendingArgs,
        timeout: Option<Duration>,
        console: &Console,
    ) -> Result<Option<Self>, Failure> {
        if args.offline {
            return Ok(None);
        }
        let files = Files::read()?;
        let mut servers = Servers::new(args, &files, timeout, console);
        // A model that is named for all roles is named for those, too, that a file has one for.
        let own = |argument: &Option<String>, key: fn(&config::Config) -> Option<String>| {
            argument.clone().or_else(|| if args.model.is_none() { files.find(key) } else { None })
        };
        let all = args.model.clone().or_else(|| files.find(|config| config.model.clone()));
        let planner = own(&args.planner_model, |config| config.planner_model.clone());
        let steps = own(&args.step_model, |config| config.step_model.clone());
        let answer = own(&args.answer_model, |config| config.answer_model.clone());
        let named = all.or_else(|| planner.clone()).or_else(|| steps.clone());
        // What files name now was not named when one was chosen.
        let named = named.filter(|_| args.chosen.is_none());
        let chosen = if named.is_none() { servers.any_model()? } else { None };
        let chosen_name = chosen.as_ref().map(|chosen| chosen.name.clone());
        let Some(all) = named.or(chosen_name) else { return Ok(None) };

        let options = Options {
            temperature: args.temperature.or_else(|| files.find(|config| config.temperature)),
            prices: PriceList::built_in(),
            files: &files,
        };
        let mut role = |name: Option<String>| -> Result<Role, Failure> {
            let name = name.unwrap_or_else(|| all.clone());
            let provider = servers.provider(&name)?;
            let price = options.price(&name);
            let model =
                provider.model(&name, ModelOptions { temperature: options.temperature, price, ..Default::default() });
            Ok(Role { place: servers.place(&name), limits: servers.limits(&name), name, model, provider, price })
        };
        let planner = role(planner)?;
        let steps = role(steps)?;
        let answer = answer.map(|name| role(Some(name))).transpose()?;
        if let Some(url) = args.base_url.as_deref().filter(|url| !servers.has_model_at(url)) {
            let message = format!(
                "no model is at --base-url {}: `{}` names its provider",
                plandag::llm::shown_address(url),
                planner.name
            );
            return Err(Failure::usage("usage.arguments", message)
                .help("name the model without `PROVIDER::` to ask for it there, or leave --base-url out"));
        }
        let by_file = || Some(format!("`max_usd` of {}", files.source(|config| config.max_usd)?.display()));
        let spending = Spending {
            max_usd_by: by_file().filter(|_| spending.max_usd.is_none()).unwrap_or_else(|| "--max-usd".to_owned()),
            max_tokens: spending.max_tokens.or_else(|| files.find(|config| config.max_tokens)).map(NonZeroU64::get),
            max_usd: spending.max_usd.or_else(|| files.find(|config| config.max_usd)),
            review: spending.review,
        };
        let models = Self {
            prompts: Arc::new(prompts::read(args, &files)?),
            step_tools: args
                .step_tools
                .clone()
                .or_else(|| files.find(|config| config.step_tools.clone()))
                .unwrap_or_default(),
            args: ModelArgs {
                plan_format: args.plan_format.or_else(|| files.find(|config| config.plan_format)),
                chosen,
                ..args.clone()
            },
            planner,
            steps,
            answer,
            spending,
            waits: watch::Sender::default(),
        };
        Ok(Some(models))
    }

    /// A limit on money means nothing where the price is not known.
    fn check_prices(&self) -> Result<(), Failure> {
        let unknown = self.roles().find(|role| role.price.is_none());
        match (self.spending.max_usd, unknown) {
            (Some(_), Some(role)) => Err(Failure::new(
                "config.no_price",
                ExitCode::Configuration,
                format!("{} needs the price of model `{}`, which is not known", self.spending.max_usd_by, role.name),
            )
            .help(format!(
                "state it in {}: [prices.\"{}\"] with input and output, in dollars for a million tokens",
                config::PROJECT_FILE,
                role.name
            ))
            .help("or limit the tokens instead: --max-tokens N")),
            _ => Ok(()),
        }
    }

    fn roles(&self) -> impl Iterator<Item = &Role> {
        [&self.planner, &self.steps].into_iter().chain(&self.answer)
    }

    /// What a run with these models has to keep to.
    pub(crate) fn limit(&self, policy: &mut Policy) {
        policy.review = self.spending.review;
        policy.limits.tokens = self.spending.max_tokens;
        policy.limits.micro_usd = self.spending.max_usd.map(|usd| (usd * 1_000_000.0) as u64);
        for (_, role) in self.askers() {
            // Steps that it would make wait do not start, so they hold nothing that others could use.
            if let Some(most) = role.limits.concurrency {
                policy.pools.entry(self.pool(role).to_owned()).or_insert(most);
            }
        }
    }

    /// The tools whose steps ask a model, each with the role that it has.
    fn askers(&self) -> impl Iterator<Item = (&'static str, &Role)> {
        let own = [(StepModel::NAME, &self.steps)].into_iter();
        own.chain(self.answer.iter().map(|answer| (ANSWER_TOOL, answer))).chain([(PlanTool::NAME, &self.planner)])
    }

    /// The pool of the steps that ask the provider of this role: that of the first tool that does.
    fn pool(&self, role: &Role) -> &'static str {
        let asks_it = |(_, other): &(&str, &Role)| other.place == role.place;
        self.askers().find(asks_it).map_or(StepModel::NAME, |(tool, _)| tool)
    }

    /// As [`pool`](Self::pool); empty, so that each tool has its own, where there is nothing to share.
    fn shared_pool(&self, role: &Role) -> &'static str {
        if role.limits == RateLimits::default() { "" } else { self.pool(role) }
    }

    /// A plan whose answer is put together by the model that does so in this run, if there is one.
    pub(crate) fn answering(models: Option<&Self>, mut plan: Plan) -> Plan {
        let model = models.and_then(|models| models.answer.as_ref());
        let Some(answer) = model.and_then(|_| answer(&plan)) else { return plan };
        let step = plan.steps.iter_mut().find(|step| step.id == answer && step.tool.is_none());
        step.into_iter().for_each(|step| Arc::make_mut(step).tool = Some(ANSWER_TOOL.into()));
        plan
    }

    /// The planner, which is not told of tools that are of no use to it.
    pub(crate) fn planner(&self, useless: &[&str]) -> LlmPlanner {
        let waits = self.waits.clone();
        let mut planner = LlmPlanner::new(Arc::clone(&self.planner.model))
            .on_wait(move |wait| {
                waits.send_replace(Some(wait));
            })
            .prompts(Arc::clone(&self.prompts))
            .hide(NOT_FOR_PLANNERS.iter().chain(useless).copied());
        if let Some(format) = self.args.plan_format {
            planner = planner.format(format.into());
        }
        match &self.answer {
            Some(_) => planner.hide([ANSWER_TOOL]).answer_tool(ANSWER_TOOL),
            None => planner,
        }
    }

    /// The tools that are done by models, for a run that has these others.
    pub(crate) fn tools(
        &self,
        others: &[(String, Arc<dyn Tool>)],
        offered: &[&str],
    ) -> Vec<(&'static str, Arc<dyn Tool>)> {
        let step_model = |role: &Role, name: &str| {
            let tool = StepModel::new(Arc::clone(&role.model)).named(name).pool(self.shared_pool(role));
            let tool = tool.prompts(Arc::clone(&self.prompts));
            let offers = others.iter().filter(|(name, _)| offered.contains(&name.as_str()));
            offers.fold(tool, |tool, (name, other)| tool.offer(name, Arc::clone(other)))
        };
        let mut tools: Vec<(&'static str, Arc<dyn Tool>)> =
            vec![(StepModel::NAME, Arc::new(step_model(&self.steps, StepModel::NAME)))];
        if let Some(answer) = &self.answer {
            tools.push((ANSWER_TOOL, Arc::new(step_model(answer, ANSWER_TOOL))));
        }
        tools
    }

    /// The tool that has a step planned, in a run that has these tools beside it. `lines` of a batch may have so many steps
    /// each.
    pub(crate) fn plan_tool(
        &self,
        others: &[(String, Arc<dyn Tool>)],
        useless: &[&str],
        lines: Option<u32>,
    ) -> PlanTool {
        let spec = |(name, tool): &(String, Arc<dyn Tool>)| ToolSpec { name: name.clone(), ..tool.spec() };
        let tool = PlanTool::new(self.planner(useless), others.iter().map(spec).collect(), StepModel::NAME);
        let tool = tool.pool(self.shared_pool(&self.planner));
        match lines {
            Some(max_steps) => tool.answers().max_steps(max_steps),
            None => tool,
        }
    }

    /// The tools that a model may call while it does a step.
    pub(crate) fn step_tools(&self) -> &StepTools {
        &self.step_tools
    }

    /// Is told what the planner waits for.
    pub(crate) fn waits(&self) -> watch::Receiver<Option<PlannerWait>> {
        self.waits.subscribe()
    }

    /// The model that was chosen, if none was named.
    pub(crate) fn chosen(&self) -> Option<&Chosen> {
        self.args.chosen.as_ref()
    }

    /// The model that plans.
    pub(crate) fn planner_role(&self) -> &Role {
        &self.planner
    }

    /// Who is asked, for people.
    pub(crate) fn describe(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for role in self.roles() {
            let name = format!("{} ({})", text::line(&role.name), text::line(&role.place));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }
}

/// The step that puts the answer of a plan together, if one does.
fn answer(plan: &Plan) -> Option<StepId> {
    let dag = Dag::of(plan).ok()?;
    let dependencies = |index: usize| dag.dependencies(index);
    let depended_on: BTreeSet<&StepId> = (0..dag.steps().len()).flat_map(dependencies).collect();
    let mut ends = dag.steps().iter().map(|step| &step.id).filter(|id| !depended_on.contains(id));
    let only_end = ends.next().filter(|_| ends.next().is_none());
    let answer = plan.answer.as_ref().or(only_end)?;
    let puts_together = |index: &usize| dag.steps()[*index].id == *answer && dag.dependencies(*index).len() > 0;
    (0..dag.steps().len()).find(puts_together).map(|_| answer.clone())
}

struct Options<'a> {
    temperature: Option<f64>,
    prices: PriceList,
    files: &'a Files,
}

impl Options<'_> {
    /// What the user's own file says, or else the list. A project may come from somebody else: what it says counts where
    /// neither knows the model, and where it is more.
    fn price(&self, model: &str) -> Option<Price> {
        let own = self.files.of_user(|config| Price::of(model, &config.prices));
        let listed = || self.prices.find(model);
        let of_project = self.files.project.as_ref().and_then(|(_, config)| Price::of(model, &config.prices));
        match (own.or_else(listed), of_project) {
            (Some(known), Some(stated)) => Some(known.max(stated)),
            (known, stated) => known.or(stated),
        }
    }
}

/// What can be done about a model that could not be asked, or did not answer.
pub(crate) fn advice(problem: ModelProblem) -> &'static [&'static str] {
    match problem {
        ModelProblem::MissingKey | ModelProblem::WrongKey => {
            &["set the key in the provider's environment variable, or name a file: --api-key-file FILE"]
        }
        ModelProblem::UnknownModel => &["name a model that the server has: plandag doctor lists them"],
        ModelProblem::Unreachable | ModelProblem::NotAnApi => {
            &["say where the server is: --base-url http://HOST:PORT/v1", "plandag doctor says what answers"]
        }
        ModelProblem::RateLimited => &["try again later, or ask less at once: --max-parallel N"],
        ModelProblem::NoQuota => &["the provider's account pages say what is left"],
        ModelProblem::Unavailable | ModelProblem::Stalled | ModelProblem::CutOff => {
            &["try again later, or try another --model"]
        }
        ModelProblem::ContextOverflow => &["ask for less at once, or try a --model that reads more"],
        ModelProblem::Refused => &["put the objective another way, or try another --model"],
        _ => &["try another --model: plandag doctor lists those of local servers"],
    }
}
