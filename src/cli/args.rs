//! The arguments of the command, and what they are called in its help.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, Styles};
use clap::error::{ContextKind, ContextValue};
use clap::{
    Arg, ArgAction, ArgMatches, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    ValueEnum,
};
use plandag::tools::HostPort;
use plandag::{Limits, PlanFile, Secrets};

use super::analyse::AnalyseArgs;
use super::bench::BenchArgs;
use super::console;
use super::duration;
use super::earlier::EarlierArgs;
use super::history::{Before, KeepArgs, Verb};
use super::model::args::{DoctorArgs, ModelArgs, PromptsArgs, SpendingArgs};
use super::order::Order;
use super::serve::{OpenArgs, ServeArgs};
use super::source::Kind;

/// Examples come first: they are what most people look for.
pub(crate) const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

const EXAMPLES: &str = "\
Examples:
  plandag run \"Compare A, B and C on X and Y\" --files docs
  plandag run plan.json --max-parallel 8
  plandag plan \"Compare A, B and C on X and Y\" --files docs -o plan.json
  plandag graph plan.json
";

/// Runs plans of steps as parallel as their dependencies allow.
#[derive(Debug, Parser)]
#[command(
    name = "plandag",
    version,
    before_help = EXAMPLES,
    after_help = "Exit codes: plandag help exit-codes      What an error means: plandag explain CODE",
    help_template = TEMPLATE,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_subcommands = false,
    styles = Styles::styled(),
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Only errors and the answer
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// More about what happens inside (-vv, -vvv: still more); RUST_LOG chooses in detail
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// Whether to use colours [NO_COLOR and CLICOLOR_FORCE are obeyed]
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub(crate) color: When,
    /// Signs and drawings in ASCII
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) ascii: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    #[command(flatten)]
    History(Verb),
    Serve(Box<ServeArgs>),
    Open(OpenArgs),
    Plan(Box<PlanArgs>),
    Check(Box<CheckArgs>),
    Graph(GraphArgs),
    Simulate(SimulateArgs),
    Bench(Box<BenchArgs>),
    Analyse(AnalyseArgs),
    Schema(SchemaArgs),
    Tools(ToolsArgs),
    Prompts(PromptsArgs),
    Doctor(DoctorArgs),
    Explain(ExplainArgs),
    Completions(CompletionsArgs),
    Help(HelpArgs),
}

impl Command {
    /// Whether errors are wanted as JSON, too.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
            Self::History(verb) => verb.wants_json(),
            Self::Serve(args) => args.json,
            Self::Plan(args) => args.json,
            Self::Check(args) => args.json,
            Self::Simulate(args) => args.json,
            Self::Bench(args) => args.json,
            Self::Analyse(args) => args.json,
            Self::Tools(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Open(_)
            | Self::Graph(_)
            | Self::Schema(_)
            | Self::Prompts(_)
            | Self::Explain(_)
            | Self::Completions(_)
            | Self::Help(_) => false,
        }
    }
}

/// What a plan or an objective may use, and how much at once.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Folder whose documents the run may search and read
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
    /// Lets the run use a tool that acts, and lets that act on text from outside unasked; can be repeated. For all tools
    /// of an MCP server: SERVER.*
    #[arg(long = "allow", value_name = "TOOL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) allow: Vec<String>,
    /// Lets fetch reach this host at this port although it is not on the public internet; can be repeated
    #[arg(long = "allow-host", value_name = "HOST:PORT")]
    pub(crate) allow_hosts: Vec<HostPort>,
    /// MCP servers whose tools the run may use: a file with "mcpServers"; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp: Vec<PathBuf>,
    /// Folder in which write_file writes and programs run; made when it is needed
    #[arg(long, value_name = "DIR", default_value = "plandag-output")]
    pub(crate) output_dir: PathBuf,
    /// Value of ${inputs.KEY}: JSON if it is JSON, else text, also a number that would be written otherwise (1.10); can be repeated
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) inputs: Vec<(String, serde_json::Value)>,
    /// Most steps at once [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) max_parallel: Option<NonZeroU32>,
    /// Size of a pool, such as the name of a tool; can be repeated
    #[arg(long = "pool", value_name = "NAME=N", value_parser = pool)]
    pub(crate) pools: Vec<(String, NonZeroU32)>,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
}

/// How large a plan may be.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct SizeArgs {
    /// Most steps of a plan that is trusted, with ten dependencies and 1 KiB of its file for each [default: 10000, in a
    /// file of 1 MiB]
    #[arg(long, value_name = "N")]
    max_steps: Option<NonZeroU32>,
}

impl SizeArgs {
    /// How long a plan may be, in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.max_steps.map_or(0, |steps| u64::from(steps.get()) << 10).max(PlanFile::MAX_BYTES)
    }

    /// Lets a run have as many steps.
    pub(crate) fn apply(self, limits: &mut Limits) {
        let Some(steps) = self.max_steps else { return };
        limits.steps = steps.get();
        limits.edges = limits.edges.max(steps.get().saturating_mul(10));
    }
}

/// How far a run may go.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitArgs {
    /// One step at a time, the same plan
    #[arg(long, conflicts_with = "max_parallel")]
    pub(crate) sequential: bool,
    /// Most revisions of the plan [default: 2]
    #[arg(long, value_name = "N")]
    pub(crate) max_replans: Option<u32>,
    /// Longest time for one attempt of a step, such as 30s or 1m30s [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Longest time for the whole run
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) deadline: Option<Duration>,
}

/// Runs a plan, or plans an objective and runs that.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag run \"Compare A, B and C on X and Y\" --files docs
  plandag run \"Compare A, B and C on X and Y\" --model gpt-4o-mini --max-usd 0.50
  plandag run plan.json --input city=Paris
  plandag run build.yaml --allow shell --allow write_file --output-dir out
  plandag run plan.json --sequential            one step at a time, for comparison
  plandag run --batch objectives.txt            many objectives and plans, under one shared set of caps
  plandag run plan.json --open                  watched in a browser
  generate-plan | plandag run - --json          events as JSON lines
",
    after_help = "The answer goes to standard output, everything else to standard error.\n\
                  Ctrl-C lets running steps finish; pressed twice, it ends them at once; a third time, it leaves\n\
                  what does not end."
)]
pub(crate) struct RunArgs {
    /// A plan (an existing file, or a name in .json, .yaml or .yml), an objective, or - for standard input
    #[arg(value_name = "FILE|OBJECTIVE|-")]
    pub(crate) source: String,
    /// What comes on standard input, if who starts the run knows
    #[arg(long, hide = true)]
    pub(crate) source_kind: Option<Kind>,
    /// Takes FILE for a list, an objective or the path of a plan on each line (not on empty ones, nor after a #): all run
    /// at once, under one shared set of caps, and each fails alone
    #[arg(long, conflicts_with = "confirm")]
    pub(crate) batch: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) spending: SpendingArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// Serves the live page of the run while it goes on, and opens it in a browser
    #[arg(long, conflicts_with = "no_journal")]
    pub(crate) open: bool,
    /// Shows the plan and asks before anything runs
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Writes the answer to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Events and errors as JSON lines on standard output; the answer is in the last one
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(skip)]
    pub(crate) before: Before,
}

/// Plans an objective and writes the plan down; runs nothing.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag plan \"Compare A, B and C on X and Y\" --files docs -o plan.json
  plandag plan plan.json --max-parallel 4       what would four slots make of it?
"
)]
pub(crate) struct PlanArgs {
    /// An objective, a plan, or - for standard input
    #[arg(value_name = "FILE|OBJECTIVE|-")]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) earlier: EarlierArgs,
    /// Writes the plan to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Errors as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Says everything that is wrong with a plan.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag check plan.json
  plandag check plan.json --model gpt-4o-mini
  generate-plan | plandag check - --json
"
)]
pub(crate) struct CheckArgs {
    /// The plan, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) plan: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Draws a plan.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag graph plan.json
  plandag graph plan.json --format mermaid >> README.md
  plandag graph plan.json --format svg -o plan.svg
  plandag graph plan.json --format dot | dot -Tpng -o plan.png
"
)]
pub(crate) struct GraphArgs {
    /// The plan, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) plan: String,
    /// What to draw
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: GraphFormat,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    /// Writes the picture to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A drawing for the terminal
    Text,
    /// A Mermaid flowchart; more than 400 dependencies are folded
    Mermaid,
    /// A Graphviz digraph
    Dot,
    /// An SVG picture, for light pages and dark ones
    Svg,
}

/// Runs plans in virtual time: how long they would take, if every step took its estimate, or as long as its tool did.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag simulate plan.json --max-parallel 4
  plandag simulate plans.jsonl --max-parallel 8 --json
"
)]
pub(crate) struct SimulateArgs {
    /// A plan, a file of one plan a line (.jsonl), or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) plans: String,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    /// Value of ${inputs.KEY}, as for a run; changes nothing here: no text is filled in, and conditions count as true
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) _inputs: Vec<(String, serde_json::Value)>,
    /// Most steps at once [default: 64, as for a run]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) max_parallel: Option<NonZeroU32>,
    /// Size of a pool; can be repeated
    #[arg(long = "pool", value_name = "NAME=N", value_parser = pool)]
    pub(crate) pools: Vec<(String, NonZeroU32)>,
    /// Which of several ready steps starts first, where there is no room for all
    #[arg(long, value_name = "POLICY", default_value = "critical-path")]
    pub(crate) policy: Order,
    /// Draws the order of --policy random
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) earlier: EarlierArgs,
    /// One JSON line a plan, with its `id` and `makespan_ms`
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints the JSON Schema of plans.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Example:\n  plandag schema > plan.schema.json\n")]
pub(crate) struct SchemaArgs {}

/// Lists the tools that a plan can name.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag tools\n  plandag tools fetch\n  plandag tools --mcp servers.json\n")]
pub(crate) struct ToolsArgs {
    /// Only this tool, with the whole JSON Schema of its arguments
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The tools of these MCP servers, too: a file with "mcpServers"; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp: Vec<PathBuf>,
    /// JSON, with the JSON Schema of the arguments
    #[arg(long)]
    pub(crate) json: bool,
}

/// Explains an error code; without one, lists them.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Example:\n  plandag explain plan.cycle\n")]
pub(crate) struct ExplainArgs {
    /// The code, as in error[plan.cycle]
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
}

/// Prints a completion script for a shell.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag completions bash > ~/.local/share/bash-completion/completions/plandag
  plandag completions fish > ~/.config/fish/completions/plandag.fish
"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints this, the help of a command, or the table of exit codes.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag help run\n  plandag help exit-codes\n")]
pub(crate) struct HelpArgs {
    /// A command, or exit-codes
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
}

/// Reads the arguments of a command, those of this process or those that another one was started with.
pub(crate) fn parse<T: AsRef<OsStr>>(arguments: &[T]) -> Result<Cli, clap::Error> {
    matches(arguments).and_then(|matches| Cli::from_arg_matches(&matches)).map_err(without_secrets)
}

/// The arguments of a command by their names.
pub(crate) fn matches<T: AsRef<OsStr>>(arguments: &[T]) -> Result<ArgMatches, clap::Error> {
    let arguments = || arguments.iter().map(AsRef::as_ref);
    // Errors in the arguments are coloured, or not, by arguments that are not read yet.
    let is_never = arguments().zip(arguments().skip(1)).any(|pair| pair == ("--color".as_ref(), "never".as_ref()))
        || arguments().any(|argument| argument == "--color=never")
        || console::is_dumb();
    // `-1` is refused by who knows what it should be, not as an option that there is not.
    let with_numbers = |arg: Arg| {
        let is_value = !arg.is_positional() && arg.get_action().takes_values();
        arg.allow_negative_numbers(is_value)
    };
    let color = if is_never { ColorChoice::Never } else { ColorChoice::Auto };
    let command = Cli::command().mut_subcommands(|command| command.mut_args(with_numbers)).color(color);
    command.try_get_matches_from(arguments())
}

/// What is wrong with arguments, without the secrets of an address that was refused because it has some.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let secrets = Secrets::in_url(value)
        && !secrets.is_empty()
    {
        let hidden = secrets.iter().fold(value.clone(), |text, secret| text.replace(secret, "[redacted]"));
        error.insert(ContextKind::InvalidValue, ContextValue::String(hidden));
    }
    error
}

/// `KEY=VALUE`, the value read as JSON where it is JSON. What looks like a number and would be written otherwise is none, but
/// a version, or the number of an account.
pub(crate) fn key_value(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example city=Paris")?;
    if key.is_empty() {
        return Err("there is no key before the =".to_owned());
    }
    let value = match serde_json::from_str(value) {
        Ok(serde_json::Value::Number(number)) if number.to_string() != value.trim() => value.into(),
        Ok(parsed) => parsed,
        Err(_) => value.into(),
    };
    Ok((key.to_owned(), value))
}

/// `NAME=N`.
fn pool(text: &str) -> Result<(String, NonZeroU32), String> {
    let (name, size) = text.rsplit_once('=').ok_or("write NAME=N, for example search_files=4")?;
    if name.is_empty() {
        return Err("there is no name before the =".to_owned());
    }
    Ok((name.to_owned(), at_least_one(size)?))
}

pub(crate) fn at_least_one(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number from 1 to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let examples = command.get_before_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains(&format!("plandag {}", command.get_name())), "{}", command.get_name());
        }
    }

    #[test]
    fn input_values_are_json_where_they_are_json() {
        assert_eq!(key_value("city=Paris"), Ok(("city".into(), json!("Paris"))));
        assert_eq!(key_value("n=3"), Ok(("n".into(), json!(3))));
        assert_eq!(key_value("x=-1.5"), Ok(("x".into(), json!(-1.5))));
        for text in ["1.10", "12345678901234567890123", "1e5", "-0"] {
            assert_eq!(key_value(&format!("n={text}")), Ok(("n".into(), json!(text))));
        }
        assert_eq!(key_value("list=[1, 2]"), Ok(("list".into(), json!([1, 2]))));
        assert_eq!(key_value("formula=a=b"), Ok(("formula".into(), json!("a=b"))));
        assert_eq!(key_value("empty="), Ok(("empty".into(), json!(""))));
        assert!(key_value("city").is_err() && key_value("=Paris").is_err());
    }

    #[test]
    fn pools_have_a_name_and_a_size() {
        assert_eq!(pool("gpu=2").map(|(name, size)| (name, size.get())), Ok(("gpu".into(), 2)));
        assert!(["gpu", "gpu=0", "gpu=-1", "=2", "gpu=two"].iter().all(|text| pool(text).is_err()));
        let too_many = "`4294967296` is not a whole number from 1 to 4294967295";
        assert_eq!(pool("gpu=4294967296"), Err(too_many.to_owned()));
    }
}
