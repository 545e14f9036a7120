//! `plandag replay`: a run that is over, seen once more as it went.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use plandag::report::ExitCode;
use plandag::{RunEvent, Timestamp};

use super::super::args::TEMPLATE;
use super::super::console::Console;
use super::super::failure::Failure;
use super::super::ledger::Ledger;
use super::super::live::{FRAME, Live};
use super::super::progress::{Beside, Progress};
use super::super::style::{self, paint};
use super::super::text;
use super::super::timing::Timing;
use super::keep::JournalArgs;
use super::{look, runs};

/// Shows a run once more as it went.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag replay                      the newest run, as fast as it was
  plandag replay 7f3k --speed 10      ten times as fast
"
)]
pub(crate) struct ReplayArgs {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// How many times as fast as it was
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: f64,
    #[command(flatten)]
    journal: JournalArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse() {
        Ok(speed) if (0.001..=1_000_000.0).contains(&speed) => Ok(speed),
        _ => Err("a number over 0 is wanted, such as 10 or 0.5".to_owned()),
    }
}

pub(super) fn run(args: &ReplayArgs, console: &Console) -> Result<ExitCode, Failure> {
    let found = look::find(&args.journal, args.run.as_deref())?;
    let summary = &found.summary;
    console.say(&format!(" {}{}  {}", paint(style::FAINT, "run       "), summary.run, text::line(&summary.objective)));
    Film::new(args.speed, console).show(found.history.events());
    let report = found.history.report();
    let timing = Timing::of(report);
    console.say(&format!("\n {}  {}", runs::state(summary.state()).trim_end(), timing.headline()));
    if !look::is_driven(summary) {
        timing.lines(report).iter().for_each(|line| console.say(line));
    }
    Ok(ExitCode::Success)
}

/// The events of a run on their way to a person.
struct Film<'a> {
    console: &'a Console,
    live: Option<Live<'a>>,
    ledger: Ledger,
    progress: Progress,
    speed: f64,
}

impl<'a> Film<'a> {
    fn new(speed: f64, console: &'a Console) -> Self {
        let live = Live::new(console).map(|live| live.faster(speed));
        let beside = if live.is_some() { Beside::Picture } else { Beside::Nothing };
        Self { console, live, ledger: Ledger::default(), progress: Progress::new(beside), speed }
    }

    fn show(mut self, events: &[RunEvent]) {
        let started = Instant::now();
        for event in events {
            self.wait(started, event.at);
            self.ledger.take(event);
            if let Some(live) = &mut self.live {
                live.take(event);
            }
            match (self.progress.line(event, &self.ledger), &mut self.live) {
                (Some(line), Some(live)) => live.say(&line),
                (Some(line), None) => self.console.say(&line),
                (None, _) => {}
            }
        }
        if let Some(live) = &mut self.live {
            live.close();
        }
    }

    /// Waits for an instant of the run, and draws meanwhile.
    fn wait(&mut self, started: Instant, until: Timestamp) {
        let due = until.since_start().div_f64(self.speed);
        while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| *left > Duration::ZERO) {
            thread::sleep(left.min(FRAME));
            if let Some(live) = &mut self.live {
                live.draw(&self.ledger);
            }
        }
    }
}
