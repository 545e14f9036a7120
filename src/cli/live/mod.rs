//! A run on a terminal: finished lines scroll up, and below them stands what goes on.

mod forecast;
mod frame;
mod line;
mod region;

use std::time::{Duration, Instant};

use plandag::{RunEvent, Timestamp};

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
    /// The run's clock at an instant of ours.
    clock: (Timestamp, Instant),
    /// How fast the run's clock goes beside ours.
    speed: f64,
}

impl<'a> Live<'a> {
    /// A picture on this terminal. None if it is not one on which a cursor moves.
    pub(crate) fn new(console: &'a Console) -> Option<Self> {
        let clock = (Timestamp::ZERO, Instant::now());
        console.can_redraw().then(|| Self { console, region: Region::default(), above: Vec::new(), clock, speed: 1.0 })
    }

    /// The picture of a run that is shown so many times as fast as it was.
    pub(crate) fn faster(self, speed: f64) -> Self {
        Self { speed, ..self }
    }

    /// Sets the clock by an event that has just happened.
    pub(crate) fn at(&mut self, event: &RunEvent) {
        self.clock = (event.at, Instant::now());
    }

    /// Puts lines above the picture, the next time it is drawn.
    pub(crate) fn say(&mut self, text: &str) {
        self.above.push(text.to_owned());
    }

    /// Draws the picture as it is now.
    pub(crate) fn draw(&mut self, ledger: &Ledger) {
        let Some((columns, rows)) = self.console.size() else { return };
        let now = self.clock.0 + self.clock.1.elapsed().mul_f64(self.speed);
        self.write(&frame(ledger, now, Size { columns, rows }), columns);
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

#[cfg(test)]
mod tests;
