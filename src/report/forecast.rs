//! How long the rest of a run should take: its longest path, each step as long as it is expected to be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use crate::event::{RunStart, StepNumber, Timestamp};

/// What an expectation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Basis {
    /// The plan says so.
    Estimate,
    /// The same tool in this run, so far.
    ThisRun,
    /// The same tool in earlier runs.
    EarlierRuns,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Estimate => "estimates",
            Self::ThisRun => "this run",
            Self::EarlierRuns => "earlier runs",
        })
    }
}

/// What successful calls of each tool have taken in a run so far: all together, and how many there were.
#[derive(Clone, Debug, Default)]
pub struct Means(HashMap<String, (Duration, u32)>);

impl Means {
    /// Takes up a call.
    pub fn observe(&mut self, tool: &str, took: Duration) {
        if !self.0.contains_key(tool) {
            self.0.insert(tool.to_owned(), Default::default());
        }
        if let Some((total, count)) = self.0.get_mut(tool) {
            *total += took;
            *count += 1;
        }
    }

    /// How long one call of a step should take. None if nothing is known: a guess would look like knowledge.
    pub fn expected(&self, estimate: Option<Duration>, tool: &str, start: &RunStart) -> Option<(Duration, Basis)> {
        if let Some(estimate) = estimate {
            return Some((estimate, Basis::Estimate));
        }
        if let Some((total, count)) = self.0.get(tool) {
            return Some((*total / *count, Basis::ThisRun));
        }
        let spec = start.tools.iter().find(|spec| spec.name == tool)?;
        spec.mean_ms.map(|mean| (Duration::from_millis(mean), Basis::EarlierRuns))
    }
}

/// How far a step is that the run still has to do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its tool is still to be called.
    Waiting,
    /// Its tool was called then, and has not answered.
    Running(Timestamp),
    /// Its tool is called again then.
    Retrying(Timestamp),
    /// The plan that its tool returned is being carried out.
    Expanded,
}

/// A step that the run still has to do something about.
#[derive(Clone, Copy, Debug)]
pub struct OpenStep<'a> {
    /// Its number.
    pub number: StepNumber,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// The steps that it depends on, open or not.
    pub dependencies: &'a [StepNumber],
    /// How far it is.
    pub progress: Progress,
    /// How long one call of its tool should take, as [`Means::expected`] knows it.
    pub expected: Option<(Duration, Basis)>,
}

/// The rest of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    paths: Vec<Path>,
    bases: BTreeSet<Basis>,
    /// Whether nothing is known about some of the steps.
    has_unknown: bool,
    steps: usize,
}

/// The longest path from a step that waits for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    step: StepNumber,
    /// When its call should end; none if it is still to begin.
    pub(crate) due: Option<Timestamp>,
    /// Whether its call has begun.
    is_running: bool,
    /// What comes after that, or all of it.
    pub(crate) after: Duration,
}

impl Path {
    fn left(&self, now: Timestamp) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due - now).saturating_add(self.after)
    }
}

impl Forecast {
    /// What is to be expected of these steps. Numbers grow along dependencies, and a step has a lower one than those of
    /// its expansion.
    pub fn new<'a>(open: impl IntoIterator<Item = OpenStep<'a>>) -> Self {
        let mut scopes: BTreeMap<Option<StepNumber>, Vec<OpenStep<'a>>> = BTreeMap::new();
        let mut is_open: Vec<bool> = Vec::new();
        for step in open {
            let number = step.number as usize;
            is_open.resize(is_open.len().max(number + 1), false);
            is_open[number] = true;
            scopes.entry(step.parent).or_default().push(step);
        }
        let is_open = |step: StepNumber| is_open.get(step as usize).is_some_and(|is_open| *is_open);
        let mut forecast = Self { steps: scopes.values().map(Vec::len).sum(), ..Self::default() };
        // What comes after each step. Each scope is done before those inside of it, and each step before what it depends
        // on.
        let mut after: BTreeMap<StepNumber, Duration> = BTreeMap::new();
        let rest = |after: &BTreeMap<StepNumber, Duration>, step| after.get(&step).copied().unwrap_or_default();
        for (scope, mut steps) in scopes {
            let rest_of_parent = scope.map_or(Duration::ZERO, |parent| rest(&after, parent));
            steps.sort_by_key(|step| step.number);
            for step in steps.into_iter().rev() {
                let after_this = rest(&after, step.number).max(rest_of_parent);
                after.insert(step.number, after_this);
                let (own, due) = forecast.own(&step);
                // A plan may expect anything.
                let with_this = own.saturating_add(after_this);
                for dependency in step.dependencies {
                    let after = after.entry(*dependency).or_default();
                    *after = with_this.max(*after);
                }
                if step.progress != Progress::Expanded && !step.dependencies.iter().any(|before| is_open(*before)) {
                    forecast.paths.push(Path {
                        step: step.number,
                        due,
                        is_running: matches!(step.progress, Progress::Running(_)),
                        after: if due.is_some() { after_this } else { with_this },
                    });
                }
            }
        }
        forecast
    }

    /// How long a step should take by itself, and when it should be done if it has begun.
    fn own(&mut self, step: &OpenStep<'_>) -> (Duration, Option<Timestamp>) {
        let Some((expected, basis)) = step.expected.filter(|_| step.progress != Progress::Expanded) else {
            self.has_unknown |= step.progress != Progress::Expanded;
            return (Duration::ZERO, None);
        };
        self.bases.insert(basis);
        match step.progress {
            Progress::Running(from) | Progress::Retrying(from) => (expected, Some(from + expected)),
            Progress::Waiting | Progress::Expanded => (expected, None),
        }
    }

    /// How long it should still take. None if that would rest on nothing.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = self.longest(now).map_or(Duration::ZERO, |path| path.left(now));
        let is_nothing = self.bases.is_empty() || (self.is_partial(now) && left.is_zero());
        (!is_nothing).then_some(left)
    }

    /// Whether it may well take longer: nothing is known of some of the steps, or one of them takes longer than it should,
    /// and nobody knows how much.
    pub fn is_partial(&self, now: Timestamp) -> bool {
        let is_overdue = |path: &Path| path.is_running && path.due.is_some_and(|due| due < now);
        self.has_unknown || self.paths.iter().any(is_overdue)
    }

    /// The step at the head of the longest path. None if it is the only one, or if nobody can tell.
    pub fn critical(&self, now: Timestamp) -> Option<StepNumber> {
        let path = self.longest(now).filter(|_| self.steps > 1 && !self.is_partial(now))?;
        Some(path.step)
    }

    /// What it rests on.
    pub fn bases(&self) -> impl Iterator<Item = Basis> {
        self.bases.iter().copied()
    }

    /// For a page, which tells the time itself.
    #[cfg(feature = "page")]
    pub(crate) fn paths(&self) -> &[Path] {
        &self.paths
    }

    #[cfg(feature = "page")]
    pub(crate) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// The first of the longest paths.
    fn longest(&self, now: Timestamp) -> Option<&Path> {
        self.paths.iter().rev().max_by_key(|path| path.left(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(number: StepNumber, dependencies: &[StepNumber], progress: Progress, seconds: u32) -> OpenStep<'_> {
        let expected = (seconds > 0).then_some((SECOND * seconds, Basis::Estimate));
        OpenStep { number, parent: None, dependencies, progress, expected }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn time_passes_for_what_runs_until_it_is_overdue() {
        let forecast = Forecast::new([
            step(0, &[], Progress::Running(at(1)), 4),
            step(1, &[], Progress::Waiting, 2),
            step(2, &[0, 1], Progress::Waiting, 3),
        ]);
        assert_eq!((forecast.left(at(2)), forecast.critical(at(2))), (Some(SECOND * 6), Some(0)));
        // What waits for a slot has not come nearer.
        assert_eq!((forecast.left(at(5)), forecast.critical(at(5))), (Some(SECOND * 5), Some(1)));
        assert!(!forecast.is_partial(at(5)) && forecast.is_partial(at(6)));
        assert_eq!((forecast.left(at(6)), forecast.critical(at(6))), (Some(SECOND * 5), None));
    }

    #[test]
    fn a_pause_counts_and_nothing_known_is_nothing_said() {
        let retried = Forecast::new([step(0, &[], Progress::Retrying(at(9)), 1)]);
        assert_eq!((retried.left(at(2)), retried.critical(at(2))), (Some(SECOND * 8), None));
        assert_eq!(Forecast::new([step(0, &[], Progress::Running(at(0)), 0)]).left(at(2)), None);
        let half = Forecast::new([step(0, &[], Progress::Waiting, 0), step(1, &[0], Progress::Waiting, 2)]);
        assert_eq!((half.left(at(2)), half.is_partial(at(2))), (Some(SECOND * 2), true));
    }
}
