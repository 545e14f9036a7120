//! `plandag bench`: the same plans one step at a time and as DAGs, and how far both are from what is possible.

mod alarm;
mod measure;
mod shapes;
mod table;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plandag::counted;
use plandag::page::{Comparison, comparisons_html};
use plandag::report::ExitCode;

use super::args::{Settings, TEMPLATE, at_least_one};
use super::console::{Console, LastWords};
use super::failure::Failure;
use super::output::Output;
use super::run::runtime;
use super::signals::Signal;
use super::style::{self, paint};
use super::text;
use measure::{Bench, Measured};

/// Slots of the built-in shapes, where nobody says more.
const DEFAULT_SLOTS: u32 = 8;
/// Runs of each shape, both ways, where nobody says more.
const DEFAULT_RUNS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");
/// How long plans of files may take together, if each is run as often as a shape.
const SHORT: Duration = Duration::from_secs(60);
/// How long a reader may take over each piece of what is said last, if somebody wants it to stop.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

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
",
    after_help = "Beside plans of files, a chain is measured: nothing can be won there. Its steps always sleep.\n\
                  With --real, work is what each step took at least: no run can be faster than the bound that follows.\n\
                  One run before the first is not counted. Where a tool of the plan acts, its steps sleep in it: tools\n\
                  that act are called --runs times each way, and no more.\n\
                  Ctrl-C tells what was measured so far; pressed twice, it ends running steps at once."
)]
pub(crate) struct BenchArgs {
    /// Plans, or files of one plan a line (.jsonl); without any, built-in shapes
    #[arg(value_name = "FILE")]
    pub(crate) plans: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Runs of each, one way and the other in turn; medians are shown [default: 3; for files, 1 from where
    /// 3 would take more than a minute in all, and 1 with --real]
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
    let runtime = runtime()?;
    let ended = Bench::open(args, &runtime, console).and_then(|bench| Told::new(&bench, console)?.tell_all());
    // A sleep that was cut short does not keep the answer back.
    runtime.shutdown_background();
    ended
}

/// What is told of the plans.
struct Told<'a> {
    bench: &'a Bench<'a>,
    console: &'a Console,
    page: Option<Output<'a>>,
    comparisons: Vec<Comparison>,
    measured: usize,
    bad: usize,
    /// The highest exit code of those.
    worst: ExitCode,
    /// Whether somebody still reads it.
    is_read: bool,
}

impl<'a> Told<'a> {
    fn new(bench: &'a Bench<'a>, console: &'a Console) -> Result<Self, Failure> {
        let page = bench.args.html.as_deref().map(|path| Output::prepare(Some(path), console)).transpose()?;
        if !bench.args.json {
            console.styled(&table::head(bench))?;
        }
        let (comparisons, worst) = (Vec::new(), ExitCode::Success);
        Ok(Self { bench, console, page, comparisons, measured: 0, bad: 0, worst, is_read: true })
    }

    /// Measures every plan and tells of each, until somebody wants no more.
    fn tell_all(mut self) -> Result<ExitCode, Failure> {
        let bench = self.bench;
        let mut subjects = bench.subjects().peekable();
        while let Some(subject) = subjects.next() {
            let measured = subject.and_then(|subject| bench.measure(&subject));
            match measured {
                Err(_) if bench.stopped_by().is_some() => {}
                // Where there is nothing else to tell, all of it is told.
                Err(failure) if self.measured + self.bad == 0 && subjects.peek().is_none() => return Err(failure),
                Err(failure) => self.bad(&failure),
                Ok(measured) => {
                    self.measured += usize::from(measured.is_whole);
                    self.good(measured)?;
                }
            }
            if self.is_over() {
                return self.close();
            }
        }
        // Whoever wanted no more may have done so before there was anything to measure.
        if !self.is_over()
            && let Some(Ok(chain)) = bench.chain().map(|chain| bench.measure(&chain))
        {
            self.good(chain)?;
        }
        self.close()
    }

    fn is_over(&self) -> bool {
        self.bench.stopped_by().is_some() || !self.is_read
    }

    fn good(&mut self, mut measured: Measured) -> Result<(), Failure> {
        self.comparisons.extend(measured.comparison.take());
        if self.bench.args.json {
            self.is_read = self.console.json(&table::fields(&measured, self.bench)).is_ok();
            return Ok(());
        }
        self.console.styled(&table::row(&measured))
    }

    fn bad(&mut self, failure: &Failure) {
        self.bad += 1;
        self.worst = self.worst.max(failure.exit());
        if self.bench.args.json {
            self.is_read = self.console.json(&failure.row()).is_ok();
        } else {
            self.console.complain(&format!(" {} {}", paint(style::ERROR, "✗"), text::line(&failure.brief())));
        }
    }

    /// What there is to tell after the last plan.
    fn close(self) -> Result<ExitCode, Failure> {
        if !self.is_read {
            return Ok(ExitCode::Success);
        }
        let stopped_by = self.bench.stopped_by();
        if let Some(signal) = stopped_by {
            self.console.has_last_words(LastWords::Hurried(signal, LAST_PATIENCE));
        }
        if !self.bench.args.json {
            self.console.styled(&table::foot(self.bench))?;
        }
        if let Some(page) = self.page {
            page.write_clean(&comparisons_html(&self.comparisons, &table::about(self.bench)))?;
        }
        let incomplete = |exit, what| Err(Failure::new("bench.incomplete", exit, what).after_start());
        match (stopped_by.map(Signal::exit), self.bad) {
            (Some(exit), _) => {
                incomplete(exit, format!("{}; {} measured before", exit.meaning(), counted(self.measured, "plan")))
            }
            (None, 0) => Ok(ExitCode::Success),
            (None, bad) => {
                let all = counted(self.measured + bad, "plan");
                incomplete(self.worst, format!("{bad} of {all} could not be measured"))
            }
        }
    }
}
