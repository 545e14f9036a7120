//! A run on a terminal: finished lines scroll up, and below them stands what goes on.

mod forecast;
mod frame;
mod line;
mod region;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::{RunEvent, RunEventKind, Scheduler, Timestamp};

use super::console::Console;
use super::ledger::Ledger;
use super::text;
use frame::{Size, frame};
use region::Region;

/// How often the picture changes at most: no eye is faster.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// The picture of one run.
pub(crate) struct Live<'a> {
    console: &'a Console,
    region: Region,
    /// Finished lines that are not written yet.
    above: Vec<String>,
    /// The run as its own scheduler knows it: what keeps a step from starting is its to say. None once events were missed.
    run: Option<Scheduler>,
    /// The run's clock at an instant of ours.
    clock: (Timestamp, Instant),
    /// How fast the run's clock goes beside ours.
    speed: f64,
}

impl<'a> Live<'a> {
    /// A picture on this terminal. None if it is not one on which a cursor moves.
    pub(crate) fn new(console: &'a Console) -> Option<Self> {
        let clock = (Timestamp::ZERO, Instant::now());
        let region = Region::default();
        console.can_redraw().then(|| Self { console, region, above: Vec::new(), run: None, clock, speed: 1.0 })
    }

    /// The picture of a run that is shown so many times as fast as it was.
    pub(crate) fn faster(self, speed: f64) -> Self {
        Self { speed, ..self }
    }

    /// Takes up an event that has just happened, and sets the clock by it.
    pub(crate) fn take(&mut self, event: &RunEvent) {
        self.clock = (event.at, Instant::now());
        follow(&mut self.run, event);
    }

    /// Puts lines above the picture, the next time it is drawn.
    pub(crate) fn say(&mut self, text: &str) {
        self.above.push(text.to_owned());
    }

    /// Draws the picture as it is now.
    pub(crate) fn draw(&mut self, ledger: &Ledger) {
        let Some((columns, rows)) = self.console.size() else { return };
        let now = self.clock.0 + self.clock.1.elapsed().mul_f64(self.speed);
        self.write(&frame(ledger, self.run.as_ref(), now, Size { columns, rows }), columns);
    }

    /// Takes the picture away. The finished lines stay.
    pub(crate) fn close(&mut self) {
        let columns = self.console.size().map_or(usize::MAX, |(columns, _)| columns);
        self.write(&[], columns);
    }

    fn write(&mut self, picture: &[String], columns: usize) {
        let fit = |text: &str| self.console.fit(text);
        let above: Vec<String> = self.above.iter().map(|text| fit(&text::fold_lines(text, columns))).collect();
        let picture: Vec<String> = picture.iter().map(|line| fit(line)).collect();
        self.above.clear();
        self.console.redraw(&self.region.draw(&above, &picture, columns));
    }
}

/// Takes over the next event; a run of which some were missed is not known any more.
fn follow(run: &mut Option<Scheduler>, event: &RunEvent) {
    if let RunEventKind::RunStarted { start } = &event.kind {
        *run = Some(Scheduler::new(Arc::clone(start)));
    }
    if run.as_mut().is_some_and(|run| run.follow(event).is_err()) {
        *run = None;
    }
}

#[cfg(test)]
mod tests;
