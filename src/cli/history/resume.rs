//! `plandag resume`.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use plandag::history::{Changes, History};
use plandag::journal::{Journal as _, RunId, SqliteJournal};
use plandag::report::ExitCode;
use plandag::{FailureReason, RunEvent, RunEventKind, RunOutcome};
use serde::{Deserialize, Serialize, Serializer};
use tokio::runtime::Runtime;

use super::super::args::{RunArgs, TEMPLATE, at_least_one};
use super::super::console::Console;
use super::super::duration;
use super::super::failure::Failure;
use super::super::model::args::{base_url, tokens, usd};
use super::super::model::go_back_to;
use super::super::run::{self, Going};
use super::super::source::Source;
use super::keep::{DrivenArgs, KeepArgs, Survives};
use super::recorded::{Before, Recorded, not_understood};
use super::{find, journal_failure};

/// Goes on with a run that was stopped or interrupted. What is finished is not done again.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag resume                        the newest run that is not finished
  plandag resume 7f3k                   the beginning of its name is enough
  plandag resume 7f3k --deadline 2h     with more time than it had
",
    after_help = "Works from any folder: the run goes on in the one it was started in, with the arguments it was\n\
                  started with. Steps that only read and were running are run again; for those that act, and do\n\
                  not say what to do then, somebody has to decide: plandag resolve."
)]
pub(crate) struct ResumeArgs {
    /// The run, or the beginning of its name [default: the newest that can be gone on with]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    journal: DrivenArgs,
    /// Goes on although the plan or the tools are not what they were
    #[arg(long)]
    accept_changes: bool,
    #[command(flatten)]
    told: Told,
    /// Events and errors as JSON lines on standard output; the answer is in the last one
    #[arg(long)]
    pub(super) json: bool,
}

/// What a run is told anew when it is gone on with. It is a part of the record then, and holds until the run is told
/// something else.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    /// Most steps at once, from now on
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_parallel: Option<NonZeroU32>,
    /// Most revisions of the plan, in all
    #[arg(long, value_name = "N")]
    max_replans: Option<u32>,
    /// Longest time for one attempt of a step, from now on
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Longest time for the whole run, what is behind it included
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    deadline: Option<Duration>,
    /// Most tokens, in and out, what is behind it included
    #[arg(long, value_name = "N", value_parser = tokens)]
    max_tokens: Option<NonZeroU64>,
    /// Most money in US dollars, what is behind it included
    #[arg(long, value_name = "USD", value_parser = usd)]
    max_usd: Option<f64>,
    /// Server that has the models, if it is not where it was
    #[arg(long, value_name = "URL", value_parser = base_url)]
    base_url: Option<String>,
    /// Writes the answer to a file instead of where the run would have
    #[arg(short, long, value_name = "FILE")]
    #[serde(serialize_with = "lossy")]
    output: Option<PathBuf>,
}

/// As a part of the record: where a path is no text, it is one as near to it as can be, as in the run's own arguments.
fn lossy<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

impl Told {
    /// The name of the label.
    const LABEL: &str = "resume";

    /// What a run was told so far.
    fn of(past: &[RunEvent]) -> Result<Self, Failure> {
        let policy = past.iter().rev().find_map(|event| match &event.kind {
            RunEventKind::RunResumed { policy } => policy.as_deref(),
            RunEventKind::RunStarted { start } => Some(&start.policy),
            _ => None,
        });
        match policy.and_then(|policy| policy.labels.get(Self::LABEL)) {
            Some(json) => serde_json::from_str(json).map_err(|error| not_understood(&error.to_string())),
            None => Ok(Self::default()),
        }
    }

    /// This as a label, if it is anything.
    fn labels(&self) -> BTreeMap<String, String> {
        let json = || serde_json::to_string(self).unwrap_or_default();
        (*self != Self::default()).then(|| (Self::LABEL.to_owned(), json())).into_iter().collect()
    }

    /// This, with what was told `before` where it says nothing.
    fn or(self, before: Self) -> Self {
        Self {
            max_parallel: self.max_parallel.or(before.max_parallel),
            max_replans: self.max_replans.or(before.max_replans),
            timeout: self.timeout.or(before.timeout),
            deadline: self.deadline.or(before.deadline),
            max_tokens: self.max_tokens.or(before.max_tokens),
            max_usd: self.max_usd.or(before.max_usd),
            base_url: self.base_url.or(before.base_url),
            output: self.output.or(before.output),
        }
    }

    /// The run's own arguments, with this on top.
    fn over(self, mut args: RunArgs) -> RunArgs {
        args.settings.max_parallel = self.max_parallel.or(args.settings.max_parallel);
        args.limits.sequential &= self.max_parallel.is_none();
        args.limits.max_replans = self.max_replans.or(args.limits.max_replans);
        args.limits.timeout = self.timeout.or(args.limits.timeout);
        args.limits.deadline = self.deadline.or(args.limits.deadline);
        args.spending.max_tokens = self.max_tokens.or(args.spending.max_tokens);
        args.spending.max_usd = self.max_usd.or(args.spending.max_usd);
        args.model.base_url = self.base_url.or(args.model.base_url);
        args.output = self.output.or(args.output);
        args
    }
}

pub(super) fn run(args: &ResumeArgs, console: &Console) -> Result<ExitCode, Failure> {
    let mut told = args.told.clone();
    if let Some(output) = &mut told.output {
        let absolute = std::path::absolute(&*output);
        *output = absolute.map_err(|error| Failure::usage("usage.output", error.to_string()))?;
    }
    let journal = args.journal.open()?;
    let runtime = run::runtime()?;
    let summary = runtime.block_on(async {
        match &args.run {
            Some(name) => find::undriven(find::run(&*journal, name).await?),
            None => find::latest_unfinished(&*journal, console).await,
        }
    })?;
    let going = Going { journal, run: summary.run, past: Vec::new(), accept_changes: args.accept_changes };
    take_up(going, told, args.journal.durability, args.json, runtime, console)
}

/// Goes on with a run that this process has just written down.
pub(super) fn go_on(
    journal: Arc<SqliteJournal>,
    run: RunId,
    runtime: Runtime,
    durability: Survives,
    json: bool,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let going = Going { journal, run, past: Vec::new(), accept_changes: false };
    take_up(going, Told::default(), durability, json, runtime, console)
}

fn take_up(
    mut going: Going,
    told: Told,
    durability: Survives,
    json: bool,
    runtime: Runtime,
    console: &Console,
) -> Result<ExitCode, Failure> {
    going.past = runtime.block_on(going.journal.history(&going.run)).map_err(journal_failure)?;
    let recorded = Recorded::of(find::start(&going.past)?)?;
    let has_no_plan = recorded.is_objective() && never_had_a_plan(&going.past);
    if has_no_plan {
        console.say(&format!(" run {} never had a plan: the same is asked again, as a new run", going.run));
        if let Some(run) = runtime.block_on(begun_anew(&going))? {
            return take_up(Going { run, ..going }, told, durability, json, runtime, console);
        }
    }
    let told = told.or(Told::of(&going.past)?);
    let before = Before { arguments: Some(recorded.arguments().to_vec()), labels: told.labels() };
    let keep = KeepArgs::beside(&going.journal, durability);
    let args = RunArgs { json, confirm: false, open: false, keep, before, ..told.over(recorded.args()?) };
    go_to(&recorded)?;
    go_back_to(recorded.addresses().clone());
    if has_no_plan {
        let text = find::start(&going.past)?.objective.clone();
        drop(going);
        return run::run_source(Source::Objective { text, could_be_file: false }, &args, console);
    }
    if !going.accept_changes {
        recorded.check_plan(&args, &going.run, console)?;
    }
    let (plan, batch) = recorded.into_plan();
    run::resume(&args, plan, batch, going, runtime, console)
}

/// Whether the run ended since its planner gave no plan: there is nothing to go on with.
fn never_had_a_plan(past: &[RunEvent]) -> bool {
    let no_plan = |event: &RunEvent| match &event.kind {
        RunEventKind::RunFinished { outcome: RunOutcome::Failed { reason }, .. } => {
            matches!(reason, FailureReason::NoPlan(_))
        }
        _ => false,
    };
    past.last().is_some_and(no_plan)
}

/// A new run for the same that takes over what was finished of plans that were never accepted, if anything was.
async fn begun_anew(going: &Going) -> Result<Option<RunId>, Failure> {
    let history = History::load(&*going.journal, &going.run).await.map_err(journal_failure)?;
    let Ok(fork) = history.fork(&Changes::default()) else { return Ok(None) };
    let new = RunId::random();
    fork.save(&*going.journal, &new).await.map_err(journal_failure)?;
    Ok(Some(new))
}

/// Where the paths in the run's arguments are meant from.
fn go_to(recorded: &Recorded) -> Result<(), Failure> {
    std::env::set_current_dir(recorded.directory()).map_err(|error| recorded.unreachable(&error))
}
