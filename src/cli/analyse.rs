//! `plandag analyse`: what running as a DAG would have made of another program's run.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::Path;

use clap::Args;
use plandag::Policy;
use plandag::counted;
use plandag::report::ExitCode;
use plandag::simulate::trace::{Analysis, Basis, Trace, TraceError};
use serde_json::{Value, json};

use super::args::{TEMPLATE, at_least_one};
use super::console::{Console, ReaderGone};
use super::duration::human;
use super::failure::Failure;
use super::faster;
use super::ndjson::exact_millis;
use super::prediction::path;
use super::source;
use super::style::{self, paint};
use super::text;

/// Problems of a trace that are told one by one.
const MOST_PROBLEMS: usize = 10;
/// A speed-up below this is noise.
const NOTEWORTHY: f64 = 1.005;
/// What no link says anything of could make the time as a DAG longer by itself at most. Up to this part of it, one of
/// so many, the answer stands.
const SMALL_PART: u32 = 10;

/// Says what running as a DAG would have made of a run that another program has traced.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag analyse trace.json
  plandag analyse spans.otlp.json --max-parallel 8 --json
  plandag export 7f3k --format trace | plandag analyse -
",
    after_help = "Reads the Trace Event Format (Chrome, Perfetto) and the JSON of OpenTelemetry. What waited for what is\n\
                  in flow events, in flows of spans (bind_id), in a list of names in args.after (an empty one: for\n\
                  nothing), or in the links of spans. A span with a link is a step, with whatever has none\n\
                  inside of it."
)]
pub(crate) struct AnalyseArgs {
    /// The trace, or - for standard input
    #[arg(value_name = "TRACE|-")]
    trace: String,
    /// Most steps at once [default: as many as the trace says, else 64, as for a run]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_parallel: Option<NonZeroU32>,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &AnalyseArgs, console: &Console) -> Result<(), Failure> {
    let bytes = source::bytes(&args.trace, Trace::MAX_BYTES, console).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => {
            let message = format!("`{}` is larger than {} MiB", args.trace, Trace::MAX_BYTES >> 20);
            Failure::new("trace.too_large", ExitCode::PlanInvalid, message)
                .help("record a shorter time, or fewer categories")
        }
        _ => source::unreadable(Path::new(&args.trace), &error),
    })?;
    let trace = Trace::read(&bytes).map_err(refused)?;
    let slots = args.max_parallel.map(NonZeroU32::get).or(trace.max_parallel);
    let slots = slots.unwrap_or(Policy::default().max_parallel);
    drop(bytes);
    let analysis = trace.analyse(slots).map_err(|error| {
        let is_of_links = matches!(error, TraceError::NoLinks { .. });
        let loose = loose_links(&trace).filter(|_| is_of_links);
        loose.into_iter().fold(refused(error), Failure::note)
    })?;
    if args.json {
        if let Err(ReaderGone) = console.json(&fields(&trace, &analysis, slots)) {
            return Ok(());
        }
    } else {
        console.styled(&render(&trace, &analysis, slots))?;
    }
    match trace.problems.len() {
        0 => Ok(()),
        count => {
            let message = format!("{} of the trace could not be used", counted(count, "part"));
            let failure = Failure::new("trace.incomplete", ExitCode::PlanInvalid, message);
            Err(noted(failure, &trace.problems).help("the answer above is about the rest of it"))
        }
    }
}

fn refused(error: TraceError) -> Failure {
    let message = error.to_string();
    let failure = |code| Failure::new(code, ExitCode::PlanInvalid, message.clone());
    match error {
        TraceError::Empty { problems } => {
            let failure = failure("trace.empty");
            noted(failure, &problems).help("a span is an event `X` with `ts` and `dur`, or a pair of `B` and `E`")
        }
        TraceError::NoLinks { overlap: [one, other], at_best, at_worst } => failure("trace.no_links")
            .note(format!("`{one}` and `{other}` ran at the same time, among others"))
            .note(format!("if nothing waited for anything, it would have taken {} as a DAG", human(at_best)))
            .note(format!("if everything waited for all that was over before it began, {}", human(at_worst)))
            .help("say what waited for what: flow events (`s`, `f`), or \"args\": {\"after\": [names]}"),
        TraceError::Cycle { .. } => failure("trace.cycle").help("steps that wait for each other could never have run"),
        TraceError::TooManyLinks { .. } => failure("trace.too_large").help("link single steps instead of whole frames"),
        TraceError::Gzipped => failure("trace.malformed").help("unpack it: `gunzip -c FILE | plandag analyse -`"),
        _ => failure("trace.malformed")
            .help("a trace is JSON: an array of events, or an object with `traceEvents` or `resourceSpans`"),
    }
}

fn noted(failure: Failure, problems: &[plandag::simulate::trace::TraceProblem]) -> Failure {
    let told = problems.iter().take(MOST_PROBLEMS);
    let failure = told.fold(failure, |failure, problem| failure.note(problem.to_string()));
    match problems.len().saturating_sub(MOST_PROBLEMS) {
        0 => failure,
        more => failure.note(format!("... and {more} more")),
    }
}

fn render(trace: &Trace, analysis: &Analysis, slots: u32) -> String {
    let heading = |word: &str| paint(style::FAINT, &text::pad(word, 10));
    let (took, dag) = (human(analysis.took), human(analysis.dag));
    let speed_up = speed_up(analysis);
    let verdict = match is_at_best(analysis) {
        false if speed_up < NOTEWORTHY => format!("{dag}, and it took {took}: there is nothing to win"),
        false => format!("{dag} instead of {took}, {speed_up:.1}x faster"),
        true if speed_up < NOTEWORTHY => {
            format!("{dag} at best, and it took {took}: there is nothing to win, unless some of it only waited")
        }
        true => format!("{dag} at best, instead of {took}"),
    };
    let verdict = format!("as a DAG this run would have taken {verdict}");
    let steps = counted(analysis.steps, "step");
    let loose = loose_links(trace).map(|loose| format!("; {loose}")).unwrap_or_default();
    let basis = match analysis.basis {
        Basis::Links(links) => {
            let unlinked = match analysis.unlinked {
                unlinked if unlinked.is_zero() => String::new(),
                unlinked => format!("; no link says anything of {} of the work", human(unlinked)),
            };
            let around = analysis
                .around
                .as_ref()
                .map(|name| format!("; `{}` around all of them is taken to have waited for them", text::line(name)));
            format!(
                "{steps}, {}: each waits for what it is linked to, and nothing else{unlinked}{}{loose}",
                counted(links, "link"),
                around.unwrap_or_default()
            )
        }
        _ => format!(
            "{steps} one after the other, no links: the answer holds if none needs another; if each needs the one before, nothing can be won{loose}"
        ),
    };
    let idle = match analysis.idle {
        idle if idle.as_micros() == 0 => String::new(),
        idle => format!("; for {} of the {took} nothing was running, which is counted both times", human(idle)),
    };
    let mut lines = vec![
        format!(" {}", paint(style::STRONG, &verdict)),
        format!("   {}{}{idle}", heading("work"), human(analysis.work)),
        format!(
            "   {}{}: {}",
            heading("critical"),
            human(analysis.critical_path),
            text::line(&path(&analysis.critical_steps))
        ),
        format!("   {}{} with {}", heading("bound"), human(analysis.bound), counted(slots as usize, "slot")),
        format!("   {}{basis}", heading("basis")),
    ];
    lines.extend(faster::lines(&analysis.what_if).into_iter().map(|line| format!("   {line}")));
    lines.join("\n") + "\n"
}

/// What the trace says about who waited for whom and cannot be.
fn loose_links(trace: &Trace) -> Option<String> {
    let loose = counted(trace.loose_links, "link");
    (trace.loose_links > 0).then(|| format!("{loose} to what is not in the trace or was not over were left out"))
}

/// Whether the answer rests on steps being independent of which nothing is known.
fn is_at_best(analysis: &Analysis) -> bool {
    let most_unlinked = analysis.dag / SMALL_PART;
    analysis.basis == Basis::Nothing || analysis.around.is_some() || analysis.unlinked > most_unlinked
}

fn speed_up(analysis: &Analysis) -> f64 {
    if analysis.dag.is_zero() { 1.0 } else { analysis.took.as_secs_f64() / analysis.dag.as_secs_f64() }
}

fn fields(trace: &Trace, analysis: &Analysis, slots: u32) -> Value {
    let links = match analysis.basis {
        Basis::Links(links) => links,
        _ => 0,
    };
    json!({
        "v": 1,
        "steps": analysis.steps,
        "links": links,
        "loose_links": trace.loose_links,
        "basis": if is_at_best(analysis) { "at_best" } else { "links" },
        "took_ms": exact_millis(analysis.took),
        "idle_ms": exact_millis(analysis.idle),
        "work_ms": exact_millis(analysis.work),
        "unlinked_ms": exact_millis(analysis.unlinked),
        "around": analysis.around,
        "critical_ms": exact_millis(analysis.critical_path),
        "critical": analysis.critical_steps,
        "bound_ms": exact_millis(analysis.bound),
        "dag_ms": exact_millis(analysis.dag),
        "speed_up": speed_up(analysis),
        "max_parallel": slots,
        "faster": faster::fields(&analysis.what_if),
        "faster_untried": analysis.what_if.untried,
    })
}
