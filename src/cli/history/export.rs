//! `plandag export`: a run for other programs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plandag::page::{Snapshot, svg_of};
use plandag::report::{ExitCode, Graph};

use super::super::args::TEMPLATE;
use super::super::console::{Console, json_text};
use super::super::failure::Failure;
use super::super::output::Output;
use super::keep::JournalArgs;
use super::look::{self, Found};

/// Gives a run out for other programs.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag export 7f3k --format trace -o trace.json       open it at ui.perfetto.dev
  plandag export 7f3k --format svg -o run.svg            how it went, as a picture
  plandag export 7f3k --format mermaid >> report.md
  plandag export 7f3k > events.jsonl
"
)]
pub(crate) struct ExportArgs {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    run: String,
    /// As what
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: Format,
    /// Writes to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    journal: JournalArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Every event as the journal has it, a JSON line each
    Ndjson,
    /// A trace for Perfetto and Chrome
    #[value(alias = "perfetto", alias = "chrome")]
    Trace,
    /// The last plan as a Mermaid flowchart
    Mermaid,
    /// The last plan as a Graphviz digraph
    Dot,
    /// All steps as an SVG picture, for light pages and dark ones
    Svg,
}

pub(super) fn run(args: &ExportArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, Some(&args.run))?;
    let output = Output::prepare(args.output.as_deref(), console)?;
    let text = match args.format {
        Format::Ndjson => json_text(&found.history.to_ndjson()).into_owned(),
        Format::Trace => json_text(&format!("{:#}\n", found.history.to_trace())).into_owned(),
        Format::Mermaid => graph(&found)?.to_mermaid(),
        Format::Dot => graph(&found)?.to_dot(),
        Format::Svg => svg_of(&Snapshot::of(&found.history, &found.summary)),
    };
    output.write_clean(&text).map(|()| ExitCode::Success)
}

/// The picture of the last plan.
fn graph(found: &Found) -> Result<Graph, Failure> {
    found.history.graph().ok_or_else(|| {
        Failure::usage("journal.no_plan", format!("run {} never had a plan to draw", found.summary.run))
            .help("its events: plandag export RUN --format ndjson")
    })
}
