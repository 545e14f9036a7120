//! Where the time of a run went.

use std::time::Duration;

use plandag::RunReport;
use plandag::counted;
use plandag::report::StepReport;
use serde_json::{Value, json};

use super::duration::human;
use super::faster;
use super::ndjson::millis;
use super::prediction::path;
use super::style::{self, paint};
use super::text;

/// Shares below this are noise of a machine that does other things, too.
const NOTEWORTHY: f64 = 1.05;

/// A step of the critical path.
#[derive(Debug)]
pub(crate) struct Link {
    id: String,
    /// How long it took: its tool ran, or it paused before it was tried again.
    took: Duration,
    paused: Duration,
}

/// The times of a finished run, side by side.
#[derive(Debug)]
pub(crate) struct Timing {
    /// What the run took.
    pub(crate) wall: Duration,
    /// What its attempts took together, each as long as it was beside the others.
    pub(crate) work: Duration,
    /// What its steps paused between their attempts, together.
    paused: Duration,
    /// The longest chain of steps that waited for each other.
    critical: Vec<Link>,
    pub(crate) critical_length: Duration,
    /// What no number of slots, and no order, could have gone below.
    pub(crate) bound: Duration,
    slots: u32,
}

impl Timing {
    pub(crate) fn of(report: &RunReport) -> Self {
        let critical = report.critical_path();
        let steps = critical.steps.iter().filter_map(|&number| report.step_by_number(number));
        let link = |step: StepReport<'_>| {
            let paused = step.paused();
            Link { id: step.id.to_string(), took: step.duration() + paused, paused }
        };
        Self {
            wall: report.wall_time(),
            work: report.work(),
            paused: report.paused(),
            critical: steps.map(link).collect(),
            critical_length: critical.length,
            bound: report.bound(),
            slots: report.slots(),
        }
    }

    /// `in 9.80s   one at a time: up to 27.4s   up to 2.8x faster`. Steps that compete for the same cores take longer
    /// beside each other than they would alone, and a pause need not be waited for where there is something else to do: so
    /// the sum of their times, with their pauses, says only how long it could have taken.
    pub(crate) fn headline(&self) -> String {
        let mut line = format!("in {}", human(self.wall));
        let one_at_a_time = self.work + self.paused;
        let speed_up = ratio(one_at_a_time, self.wall);
        // With one slot it *is* the time one at a time.
        if self.slots > 1 && self.work > Duration::ZERO {
            line.push_str(&format!("   one at a time: up to {}", human(one_at_a_time)));
            if speed_up >= NOTEWORTHY {
                line.push_str(&format!("   up to {speed_up:.1}x faster"));
            }
        }
        line
    }

    /// Where the time went, and what would have made it less; nothing where nothing ran.
    pub(crate) fn lines(&self, report: &RunReport) -> Vec<String> {
        if self.work.is_zero() {
            return Vec::new();
        }
        let heading = |word: &str| paint(style::FAINT, &text::pad(word, 10));
        let mut lines = vec![
            format!("   {}{}", heading("critical"), self.critical_line()),
            format!("   {}{}", heading("bound"), self.bound_line()),
        ];
        lines.extend(faster::lines(&report.what_if()).into_iter().map(|line| format!("   {line}")));
        lines
    }

    /// The same for programs.
    pub(crate) fn fields(&self, report: &RunReport) -> [(&'static str, Value); 7] {
        let link =
            |Link { id, took, paused }: &Link| json!({ "step": id, "ms": millis(*took), "paused_ms": millis(*paused) });
        let what_if = report.what_if();
        [
            ("ms", millis(self.wall)),
            ("work_ms", millis(self.work)),
            ("critical_ms", millis(self.critical_length)),
            ("critical_path", self.critical.iter().map(link).collect()),
            ("bound_ms", millis(self.bound)),
            ("faster", faster::fields(&what_if)),
            ("faster_untried", json!(what_if.untried)),
        ]
    }

    /// The critical path, and what part of the run it was.
    pub(crate) fn critical_line(&self) -> String {
        let step = |Link { id, took, paused }: &Link| {
            let paused = if paused.is_zero() { String::new() } else { format!(" ({} of it paused)", human(*paused)) };
            format!("{} {}{paused}", text::line(id), human(*took))
        };
        let steps: Vec<String> = self.critical.iter().map(step).collect();
        let share = 100.0 * ratio(self.critical_length, self.wall);
        format!("{}   {share:.0}% of the time", path(&steps))
    }

    /// How far the run was from what it could have been.
    pub(crate) fn bound_line(&self) -> String {
        let over = ratio(self.wall, self.bound);
        let why = if self.bound > self.critical_length {
            format!("{} of work on {}", human(self.work), counted(self.slots as usize, "slot"))
        } else {
            "the critical path".to_owned()
        };
        let verdict =
            if over < NOTEWORTHY { "as fast as these steps allow".to_owned() } else { format!("{over:.2}x that") };
        format!("{} ({why}); this run took {}, {verdict}", human(self.bound), human(self.wall))
    }
}

/// `part / whole`; 1 if there is no whole.
fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 1.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(wall: u64, work: u64, critical: u64, slots: u32) -> Timing {
        let bound = critical.max(work / u64::from(slots));
        Timing {
            wall: Duration::from_millis(wall),
            work: Duration::from_millis(work),
            paused: Duration::ZERO,
            critical: vec![Link { id: "a".into(), took: Duration::from_millis(critical), paused: Duration::ZERO }],
            critical_length: Duration::from_millis(critical),
            bound: Duration::from_millis(bound),
            slots,
        }
    }

    #[test]
    fn a_speed_up_is_claimed_only_where_there_is_one() {
        assert_eq!(
            timing(9_800, 27_400, 9_700, 64).headline(),
            "in 9.80s   one at a time: up to 27.4s   up to 2.8x faster"
        );
        assert_eq!(timing(1_000, 1_000, 1_000, 64).headline(), "in 1.00s   one at a time: up to 1.00s");
        assert_eq!(timing(4_500, 4_500, 1_000, 1).headline(), "in 4.50s");
        assert_eq!(timing(0, 0, 0, 64).headline(), "in 0ms");
        let mut paused = timing(3_000, 700, 3_000, 64);
        paused.paused = Duration::from_millis(2_300);
        assert_eq!(paused.headline(), "in 3.00s   one at a time: up to 3.00s");
    }

    #[test]
    fn the_bound_says_what_limits_it() {
        assert_eq!(
            timing(1_010, 4_500, 1_000, 64).bound_line(),
            "1.00s (the critical path); this run took 1.01s, as fast as these steps allow"
        );
        assert_eq!(
            timing(3_000, 4_500, 1_000, 2).bound_line(),
            "2.25s (4.50s of work on 2 slots); this run took 3.00s, 1.33x that"
        );
        let mut timing = timing(1_000, 1_000, 990, 8);
        assert_eq!(timing.critical_line(), "a 990ms   99% of the time");
        timing.critical[0].paused = Duration::from_millis(900);
        assert_eq!(timing.critical_line(), "a 990ms (900ms of it paused)   99% of the time");
    }
}
