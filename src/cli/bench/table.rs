//! What was measured, for people and for programs.

use std::time::Duration;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use plandag::counted;

use super::super::ndjson::exact_millis;
use super::super::order::Order;
use super::super::prediction::as_guessed;
use super::super::style::{self, paint};
use super::super::text;
use super::DEFAULT_RUNS;
use super::measure::{Bench, Expected, Measured, Runs};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it was built from, if whoever built it has said so: sources need not be a checkout, and a checkout may be of another
/// commit by now.
const COMMIT: Option<&str> = option_env!("PLANDAG_COMMIT");
/// How wide the names are.
const NAME_COLUMNS: usize = 24;

/// The head of the table.
pub(super) fn head(bench: &Bench<'_>) -> String {
    let (runs, is_spread) = match bench.runs {
        Runs::Each(runs) => (format!("{} of each", counted(runs as usize, "run")), runs > 1),
        Runs::WhileShort(_) => (format!("{DEFAULT_RUNS} runs of each, 1 from where that takes too long"), true),
    };
    let title = format!(
        " {runs}{}, cap {}{}, {}\n",
        if is_spread { ", median ± half the interquartile range" } else { "" },
        bench.policy.max_parallel,
        if bench.args.policy == Order::CriticalPath { String::new() } else { format!(", policy {}", policy(bench)) },
        match bench.time_scale {
            Some(scale) => format!("times x {scale}"),
            None => "times as each plan needs them".to_owned(),
        }
    );
    let columns = format!(
        " {} {:>5} {:>8} {:>8} {:>8} {:>17} {:>17} {:>8} {:>8}\n",
        text::pad("shape", NAME_COLUMNS),
        "steps",
        "work",
        "critical",
        "bound",
        "sequential",
        "DAG",
        "speed-up",
        "of bound"
    );
    title + &paint(style::FAINT, columns.trim_end_matches('\n')) + "\n"
}

/// One plan.
pub(super) fn row(measured: &Measured) -> String {
    let (speed_up, of_bound) = ratios(measured);
    let shown = |ratio: Option<f64>, show: fn(f64) -> String| ratio.map_or_else(|| "-".to_owned(), show);
    let expected = |time: fn(&Expected) -> Duration| {
        measured.expected.as_ref().map_or_else(|| "-".to_owned(), |expected| seconds(time(expected)))
    };
    let row = format!(
        " {} {:>5} {:>8} {:>8} {:>8} {:>17} {:>17} {:>8} {:>8}\n",
        text::pad(&text::cut(&measured.name, NAME_COLUMNS), NAME_COLUMNS),
        measured.steps,
        expected(|expected| expected.work),
        expected(|expected| expected.critical),
        expected(|expected| expected.bound),
        spread(&measured.sequential),
        spread(&measured.dag),
        shown(speed_up, |ratio| format!("{ratio:.1}x")),
        shown(of_bound, |ratio| format!("{:.1}%", 100.0 * ratio)),
    );
    let vanished = (measured.vanished > 0).then(|| {
        format!("{} of {} have no time left at this scale", measured.vanished, counted(measured.steps, "step"))
    });
    let stopped = (!measured.is_whole).then(|| {
        let runs = |times: &[Duration]| counted(times.len(), "run");
        format!("stopped after {} one at a time and {} as a DAG", runs(&measured.sequential), runs(&measured.dag))
    });
    let notes = as_guessed(measured.guessed, measured.steps).into_iter().chain(vanished).chain(stopped);
    row + &notes.map(|note| format!("   {note}\n")).collect::<String>()
}

/// The speed-up, and how close it is to the bound. A plan that takes no time has neither.
fn ratios(measured: &Measured) -> (Option<f64>, Option<f64>) {
    let bound = measured.expected.as_ref().map(|expected| expected.bound).filter(|bound| !bound.is_zero());
    let dag = median(&measured.dag).filter(|dag| !dag.is_zero());
    let ratio = |part: Option<Duration>| Some(bound.and(part)?.as_secs_f64() / dag?.as_secs_f64());
    (ratio(median(&measured.sequential)), ratio(bound))
}

/// The policy, as the option has it.
fn policy(bench: &Bench<'_>) -> String {
    let value = bench.args.policy.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Where and how it was measured.
pub(super) fn foot(bench: &Bench<'_>) -> String {
    let machine = Machine::here();
    let heading = paint(style::FAINT, "machine");
    format!(
        " {heading}  {}, {} on {}   plandag {}   seed {}\n",
        counted(machine.cores, "core"),
        machine.system,
        machine.processor,
        version(),
        bench.args.seed
    )
}

/// The same in a sentence.
pub(super) fn about(bench: &Bench<'_>) -> String {
    let machine = Machine::here();
    format!(
        "The first run of each, on a machine of {}, {} on {}; plandag {}, seed {}.",
        counted(machine.cores, "core"),
        machine.system,
        machine.processor,
        version(),
        bench.args.seed
    )
}

fn version() -> String {
    VERSION.to_owned() + &COMMIT.map(|commit| format!(" (commit {commit})")).unwrap_or_default()
}

/// One plan for programs.
pub(super) fn fields(measured: &Measured, bench: &Bench<'_>) -> Value {
    let (speed_up, of_bound) = ratios(measured);
    let all = |times: &[Duration]| times.iter().copied().map(exact_millis).collect::<Vec<_>>();
    let (machine, expected) = (Machine::here(), measured.expected.as_ref());
    json!({
        "v": 1,
        "id": measured.name,
        "steps": measured.steps,
        "complete": measured.is_whole,
        "work_ms": expected.map(|expected| exact_millis(expected.work)),
        "critical_ms": expected.map(|expected| exact_millis(expected.critical)),
        "bound_ms": expected.map(|expected| exact_millis(expected.bound)),
        "simulated_ms": measured.time_scale.and(expected).map(|expected| exact_millis(expected.makespan)),
        "sequential_ms": median(&measured.sequential).map(exact_millis),
        "dag_ms": median(&measured.dag).map(exact_millis),
        "sequential_runs_ms": all(&measured.sequential),
        "dag_runs_ms": all(&measured.dag),
        "speed_up": speed_up,
        "of_bound": of_bound,
        "without_estimate": measured.guessed,
        "time_scale": measured.time_scale,
        "max_parallel": bench.policy.max_parallel,
        "policy": policy(bench),
        "seed": bench.args.seed,
        "machine": { "cores": machine.cores, "system": machine.system, "processor": machine.processor },
        "plandag": VERSION,
        "commit": COMMIT,
    })
}

struct Machine {
    cores: usize,
    system: &'static str,
    processor: &'static str,
}

impl Machine {
    fn here() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
        }
    }
}

/// The middle of sorted times, if there are any.
fn median(times: &[Duration]) -> Option<Duration> {
    quantile(times, 0.5)
}

/// A quantile of sorted times, between the two nearest.
fn quantile(times: &[Duration], share: f64) -> Option<Duration> {
    let last = times.len().checked_sub(1)?;
    let place = share * last as f64;
    let (below, above) = (times[place.floor() as usize], times[place.ceil() as usize]);
    Some(below + above.saturating_sub(below).mul_f64(place.fract()))
}

/// The median, and half of the range in which the middle half of the times lies.
fn spread(times: &[Duration]) -> String {
    let quartiles = [0.25, 0.5, 0.75].map(|share| quantile(times, share));
    match quartiles {
        [Some(_), Some(median), Some(_)] if times.len() == 1 => seconds(median),
        [Some(low), Some(median), Some(high)] => {
            format!("{} ±{:.1}ms", seconds(median), high.saturating_sub(low).as_secs_f64() * 500.0)
        }
        _ => "-".to_owned(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_half_of_the_middle_half() {
        let times: Vec<Duration> = [100, 110, 120, 130, 200].map(Duration::from_millis).to_vec();
        assert_eq!(median(&times), Some(Duration::from_millis(120)));
        assert_eq!(spread(&times), "0.120s ±10.0ms");
        assert_eq!(spread(&times[..1]), "0.100s");
        assert_eq!((median(&[]), spread(&[]).as_str()), (None, "-"));
    }
}
