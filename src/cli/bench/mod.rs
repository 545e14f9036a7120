//! `plandag bench`: the same plans one step at a time and as DAGs, and how far both are from what is possible.

mod measure;
mod shapes;
mod table;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use plandag::page::comparisons_html;
use plandag::report::ExitCode;

use super::args::{Settings, TEMPLATE, at_least_one};
use super::console::Console;
use super::failure::Failure;
use super::output::Output;
use measure::{Bench, Measured};

/// Slots of the built-in shapes, where nobody says more.
const DEFAULT_SLOTS: u32 = 8;
/// Runs of each shape, both ways, where nobody says more.
const DEFAULT_RUNS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");

/// Measures what running as a DAG wins: plans run one step at a time and as DAGs.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag bench                                 built-in shapes, about 15 seconds
  plandag bench plan.json --max-parallel 4      a plan; its steps sleep for their estimate_ms
  plandag bench plans.jsonl --time-scale 0.01   a plan a line, with durations
  plandag bench plan.json --real --files docs   the plan's own tools, really called both ways
  plandag bench plan.json --html bench.html     both timelines one above the other
"
)]
pub(crate) struct BenchArgs {
    /// Plans, or files of one plan a line (.jsonl); without any, built-in shapes
    #[arg(value_name = "FILE")]
    pub(crate) plans: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Runs of each, one way and the other; medians are shown [default: 3, for files 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) runs: Option<NonZeroU32>,
    /// What durations are multiplied with [default: 0.1; for files, what makes the critical path 2 s at most]
    #[arg(long, value_name = "FACTOR", value_parser = factor, conflicts_with = "real")]
    pub(crate) time_scale: Option<f64>,
    /// Which of several ready steps starts first, where there is no room for all
    #[arg(long, value_name = "POLICY", default_value = "critical-path")]
    pub(crate) policy: super::order::Order,
    /// Draws the random shape, and the order of --policy random
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Calls the plans' own tools instead of sleeping; tools that act need --allow
    #[arg(long, requires = "plans")]
    pub(crate) real: bool,
    /// Writes the timelines both ways, and the speed-up over the number of slots, as a page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// One JSON line a plan
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number above zero.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 0.0 && f64::is_finite(factor) => Ok(factor),
        _ => Err(format!("`{text}` is not a number above 0")),
    }
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, console: &Console) -> Result<ExitCode, Failure> {
    let bench = Bench::open(args, console)?;
    let page = args.html.as_deref().map(|path| Output::prepare(Some(path), console)).transpose()?;
    let mut comparisons = Vec::new();
    if !args.json {
        console.styled(&table::head(&bench))?;
    }
    let mut tally = Tally::default();
    let mut tell = |mut measured: Result<Measured, String>| {
        comparisons.extend(measured.as_mut().ok().and_then(|measured| measured.comparison.take()));
        tally.all += 1;
        tally.bad += usize::from(measured.is_err());
        match &measured {
            _ if args.json => console.json(&table::fields(measured.as_ref(), &bench)).map_err(|_| None),
            Ok(measured) => console.styled(&table::row(measured)).map_err(Some),
            Err(reason) => {
                console.complain(&format!(" ✗ {}", super::text::line(reason)));
                Ok(())
            }
        }
    };
    let told = bench.each(args, console, &mut tell);
    match told {
        // Nobody reads on.
        Err(None) => return Ok(ExitCode::Success),
        Err(Some(failure)) => return Err(failure),
        Ok(()) => {}
    }
    if !args.json {
        console.styled(&table::foot(&bench))?;
    }
    if let Some(page) = page {
        page.write(&comparisons_html(&comparisons, &table::about(&bench)))?;
    }
    match tally {
        Tally { all: 0, .. } => {
            Err(Failure::new("plan.empty", ExitCode::PlanInvalid, "there are no plans in the file"))
        }
        Tally { bad: 0, .. } => Ok(ExitCode::Success),
        Tally { all, bad } => Err(Failure::new(
            "bench.incomplete",
            ExitCode::PlanInvalid,
            format!("{bad} of {} could not be measured", super::prediction::counted(all, "plan")),
        )
        .after_start()),
    }
}

#[derive(Default)]
struct Tally {
    all: usize,
    bad: usize,
}
