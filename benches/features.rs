//! What each feature costs a step that does nothing: the same plan with one thing more, in turns.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

#[expect(dead_code, reason = "it uses a part of it")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use plandag::journal::{Durability, Journal, MemoryJournal, SqliteJournal};
use plandag::{Limits, Plan, Runner, Secrets};
use tokio::runtime::{Builder, Runtime};

use support::plandag::{listened, runner, whole};
use support::{SHAPES, plan};

const STEPS: usize = 10_000;
const ROUNDS: usize = 21;

/// A way to run the plan, and what it is called.
type Feature = (&'static str, Box<dyn Fn() -> Duration>);

fn main() {
    let runtime = Arc::new(builder().build().expect("a runtime"));
    let traced = Arc::new(traced());
    println!(
        "ns per step of {STEPS}, medians of {ROUNDS} rounds; more than nothing: the median of each round's difference"
    );
    for (name, shape) in SHAPES.into_iter().filter(|(name, _)| ["layered", "wide"].contains(name)) {
        let plan = plan(&shape(STEPS));
        // Not the default for temporary files: that is often in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let journal = |durability| {
            let path = folder.path().join(format!("{durability:?}.db"));
            let journal = SqliteJournal::open_with(path, Secrets::default(), Some(durability)).expect("a journal");
            Arc::new(journal) as Arc<dyn Journal>
        };
        let features = features(&plan, &runtime, &traced, journal(Durability::Process));
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); features.len()];
        // The first round warms up.
        for round in 0..=ROUNDS {
            for ((_, run), times) in features.iter().zip(&mut times) {
                let time = run().as_nanos() as f64 / STEPS as f64;
                if round > 0 {
                    times.push(time);
                }
            }
        }
        println!("{name:>8} {:>28} {:>8} {:>8}", "", "ns", "more");
        for ((feature, _), own) in features.iter().zip(&times) {
            let more: Vec<f64> = own.iter().zip(&times[0]).map(|(own, nothing)| own - nothing).collect();
            println!("{:>8} {feature:>28} {:>8.0} {:>8.0}", "", median(own), median(&more));
        }
    }
}

fn features(plan: &Plan, runtime: &Arc<Runtime>, traced: &Arc<Runtime>, file: Arc<dyn Journal>) -> Vec<Feature> {
    let bare = || runner(plan.clone());
    let on = |runtime: &Arc<Runtime>, runner: Runner| {
        let runtime = Arc::clone(runtime);
        Box::new(move || runtime.block_on(whole(&runner))) as Box<dyn Fn() -> Duration>
    };
    let limits = Limits {
        attempts: Some(u32::MAX),
        tokens: Some(u64::MAX),
        micro_usd: Some(u64::MAX),
        deadline_ms: Some(3_600_000),
        ..Limits::NONE
    };
    let listening = {
        let (runtime, runner) = (Arc::clone(runtime), bare());
        Box::new(move || runtime.block_on(listened(&runner)))
    };
    vec![
        ("nothing", on(runtime, bare())),
        ("a timeout", on(runtime, bare().timeout(Duration::from_secs(3_600)))),
        ("limits of every kind", on(runtime, bare().limits(limits))),
        ("a pool", on(runtime, bare().pool("next", 1_000))),
        ("a cap of 2", on(runtime, bare().max_parallel(2))),
        ("a listener to all events", listening),
        ("a span an attempt, recorded", on(traced, bare())),
        ("a journal in memory", on(runtime, bare().journal(MemoryJournal::new()))),
        ("a journal in a file", on(runtime, bare().journal(file))),
    ]
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn builder() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    builder
}

/// A runtime whose threads write every span down, to nowhere.
fn traced() -> Runtime {
    let mut builder = builder();
    builder.on_thread_start(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink);
        // For as long as the thread lives.
        std::mem::forget(tracing::subscriber::set_default(subscriber.finish()));
    });
    builder.build().expect("a runtime")
}
