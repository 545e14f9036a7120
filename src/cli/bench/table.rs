//! What was measured, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::prediction::{as_guessed, counted};
use super::super::style::{self, paint};
use super::super::text;
use super::measure::{Bench, Measured};

/// How wide the names are.
const NAME_COLUMNS: usize = 24;

/// The head of the table.
pub(super) fn head(bench: &Bench<'_>) -> String {
    let runs = if bench.runs == 1 { "1 run".to_owned() } else { format!("{} runs", bench.runs) };
    let title = format!(
        " {runs} of each{}, cap {}, {}\n",
        if bench.runs == 1 { "" } else { ", median ± half the interquartile range" },
        bench.policy.max_parallel,
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
    let row = format!(
        " {} {:>5} {:>8} {:>8} {:>8} {:>17} {:>17} {:>8} {:>8}\n",
        text::pad(&text::cut(&measured.name, NAME_COLUMNS), NAME_COLUMNS),
        measured.steps,
        seconds(measured.work),
        seconds(measured.critical),
        seconds(measured.bound),
        spread(&measured.sequential),
        spread(&measured.dag),
        shown(speed_up, |ratio| format!("{ratio:.1}x")),
        shown(of_bound, |ratio| format!("{:.1}%", 100.0 * ratio)),
    );
    let vanished = (measured.vanished > 0).then(|| {
        format!("{} of {} have no time left at this scale", measured.vanished, counted(measured.steps, "step"))
    });
    let notes = as_guessed(measured.guessed, measured.steps).into_iter().chain(vanished);
    row + &notes.map(|note| format!("   {note}\n")).collect::<String>()
}

/// The speed-up, and how close it is to the bound. A plan that takes no time has neither.
fn ratios(measured: &Measured) -> (Option<f64>, Option<f64>) {
    let (sequential, dag) = (median(&measured.sequential), median(&measured.dag));
    let ratio = |part: Duration| {
        let is_something = !measured.bound.is_zero() && !dag.is_zero();
        is_something.then(|| part.as_secs_f64() / dag.as_secs_f64())
    };
    (ratio(sequential), ratio(measured.bound))
}

/// Where and how it was measured.
pub(super) fn foot(bench: &Bench<'_>) -> String {
    let machine = Machine::here();
    let heading = paint(style::FAINT, "machine");
    format!(
        " {heading}  {} cores, {} on {}   plandag {}   seed {}\n",
        machine.cores, machine.system, machine.processor, machine.version, bench.args.seed
    )
}

/// The same in a sentence.
pub(super) fn about(bench: &Bench<'_>) -> String {
    let machine = Machine::here();
    format!(
        "The first run of each, on a machine of {} cores, {} on {}; plandag {}, seed {}.",
        machine.cores, machine.system, machine.processor, machine.version, bench.args.seed
    )
}

/// One plan for programs.
pub(super) fn fields(measured: &Measured, bench: &Bench<'_>) -> Value {
    let (speed_up, of_bound) = ratios(measured);
    let all = |times: &[Duration]| times.iter().copied().map(exact).collect::<Vec<_>>();
    let machine = Machine::here();
    json!({
        "v": 1,
        "id": measured.name,
        "steps": measured.steps,
        "work_ms": exact(measured.work),
        "critical_ms": exact(measured.critical),
        "bound_ms": exact(measured.bound),
        "simulated_ms": measured.simulated.map(exact),
        "sequential_ms": exact(median(&measured.sequential)),
        "dag_ms": exact(median(&measured.dag)),
        "sequential_runs_ms": all(&measured.sequential),
        "dag_runs_ms": all(&measured.dag),
        "speed_up": speed_up,
        "of_bound": of_bound,
        "without_estimate": measured.guessed,
        "time_scale": measured.time_scale,
        "max_parallel": bench.policy.max_parallel,
        "policy": bench.policy.order,
        "seed": bench.args.seed,
        "machine": { "cores": machine.cores, "system": machine.system, "processor": machine.processor },
        "plandag": machine.version,
    })
}

struct Machine {
    cores: usize,
    system: &'static str,
    processor: &'static str,
    version: &'static str,
}

impl Machine {
    fn here() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The middle of sorted times.
fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// A quantile of sorted times, between the two nearest.
fn quantile(times: &[Duration], share: f64) -> Duration {
    let Some(last) = times.len().checked_sub(1) else { return Duration::ZERO };
    let place = share * last as f64;
    let (below, above) = (times[place.floor() as usize], times[place.ceil() as usize]);
    below + above.saturating_sub(below).mul_f64(place.fract())
}

/// The median, and half of the range in which the middle half of the times lies.
fn spread(times: &[Duration]) -> String {
    let median = seconds(median(times));
    if times.len() == 1 {
        return median;
    }
    let half = quantile(times, 0.75).saturating_sub(quantile(times, 0.25)) / 2;
    format!("{median} ±{:.1}ms", exact(half))
}

fn seconds(time: Duration) -> String {
    format!("{:.3}s", time.as_secs_f64())
}

/// Milliseconds with their fraction: a run may take less than one.
fn exact(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_half_of_the_middle_half() {
        let times: Vec<Duration> = [100, 110, 120, 130, 200].map(Duration::from_millis).to_vec();
        assert_eq!(median(&times), Duration::from_millis(120));
        assert_eq!(spread(&times), "0.120s ±10.0ms");
        assert_eq!(spread(&times[..1]), "0.100s");
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
