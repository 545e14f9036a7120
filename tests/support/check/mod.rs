//! What a run promises, checked from what happened: the record, the calls of tools and their ends.
//!
//! Nothing here asks the scheduler, and nothing is taken over from its code: the [books](books) are kept from the
//! record alone, and slots and pools are counted from calls and returns.

#![expect(missing_docs, reason = "the fields of the books are the words of the crate")]

pub mod books;
mod calls;
mod fork;
pub mod gates;
mod outside;
pub mod plan;
mod record;
pub mod revision;
mod settled;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use plandag::{AttemptNumber, Event, RequestNumber, RunStart, StepNumber, Timestamp, Usage};

use self::books::{Books, Pending};
use super::trace::Entry;

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// The place in the trace.
    pub at: usize,
    /// What happened instead.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}: {}", self.at, self.promise, self.message)
    }
}

/// Checks everything that happened in and around a run.
pub fn check(start: &RunStart, trace: &[Entry]) -> Vec<Violation> {
    let mut checker = Checker::new(start);
    for (at, entry) in trace.iter().enumerate() {
        checker.at = at;
        checker.entry(entry);
        if checker.violations.len() >= 20 {
            break;
        }
    }
    checker.violations
}

/// Follows a trace.
struct Checker {
    books: Books,
    violations: Vec<Violation>,
    at: usize,
    /// What the scheduler was told last, until it is written what came of it.
    told: Option<Event>,
    /// Attempts whose tool has not gone yet, with the pools they hold.
    alive: BTreeMap<AttemptNumber, Vec<(String, u32)>>,
    /// Attempts that were told to end.
    aborted: BTreeSet<AttemptNumber>,
    /// Attempts that the current transition started, and those that were called in it.
    started: Vec<AttemptNumber>,
    called: Vec<AttemptNumber>,
    asked: Vec<RequestNumber>,
    /// Attempts with an end in the record.
    over: BTreeSet<AttemptNumber>,
    timer: Option<Timestamp>,
    seq: u64,
    now: Timestamp,
    /// Requests after failures and for reviews.
    replans: u32,
    /// Rejected answers since the last request that was not a correction.
    rejections: u32,
    /// How often in a row the planner has put its answer off.
    put_off: u32,
    /// A request that was cut off by a crash, to be made again.
    cut_off: Option<Pending>,
    revision: u32,
    last_request: Option<RequestNumber>,
    /// The planner must answer the pending request, and nothing else.
    must_answer: bool,
    usage: Usage,
    /// Whose usage was noted since the run stopped.
    late: BTreeSet<Option<AttemptNumber>>,
    /// Events that were written when a fork began.
    beginnings: Vec<Range<usize>>,
    /// Steps that the transition settled and that others may have to follow.
    touched: Vec<StepNumber>,
}

impl Checker {
    fn new(start: &RunStart) -> Self {
        Self {
            books: Books::new(start),
            violations: Vec::new(),
            at: 0,
            told: None,
            alive: BTreeMap::new(),
            aborted: BTreeSet::new(),
            started: Vec::new(),
            called: Vec::new(),
            asked: Vec::new(),
            over: BTreeSet::new(),
            timer: None,
            seq: 0,
            now: Timestamp::ZERO,
            replans: 0,
            rejections: 0,
            put_off: 0,
            cut_off: None,
            revision: 0,
            last_request: None,
            must_answer: false,
            usage: Usage::default(),
            late: BTreeSet::new(),
            beginnings: Vec::new(),
            touched: Vec::new(),
        }
    }

    fn wrong(&mut self, promise: &'static str, message: impl Into<String>) {
        self.violations.push(Violation { promise, at: self.at, message: message.into() });
    }

    /// Complains unless something holds.
    fn must(&mut self, holds: bool, promise: &'static str, message: impl FnOnce() -> String) {
        if !holds {
            self.wrong(promise, message());
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Told(event) => self.told = Some(event.clone()),
            Entry::Wrote(events) => {
                let launches = self.books.launches;
                for event in events {
                    self.record(event);
                }
                self.note_startable(launches);
                self.told = None;
            }
            Entry::Called(call) => self.call(call),
            Entry::Aborted(attempt) => {
                let runs = self.alive.contains_key(attempt) && self.aborted.insert(*attempt);
                self.must(runs, "only what runs is ended", || format!("attempt {attempt} is ended"));
            }
            Entry::Asked { request, must_answer } => {
                self.asked.push(*request);
                self.must_answer = *must_answer;
            }
            Entry::Armed(at) => self.timer = Some(*at),
            Entry::Settled(now) => self.settled(*now),
            Entry::Gone(attempt) => {
                let was_alive = self.alive.remove(attempt).is_some();
                self.must(was_alive, "the world is sound", || format!("attempt {attempt} goes twice"));
            }
            Entry::Crashed => self.crashed(),
            Entry::Forked { events, own, changes } => self.forked(events, *own, changes),
        }
    }

    /// Everything that ran is gone, and what was not written never happened.
    fn crashed(&mut self) {
        self.alive.clear();
        self.doubt_all();
        self.told = None;
        self.timer = None;
        self.aborted.clear();
        self.started.clear();
        self.called.clear();
        self.asked.clear();
        self.touched.clear();
    }

    /// Attempts that the record says are running were cut off: those that act may have taken effect.
    fn doubt_all(&mut self) {
        let running: Vec<StepNumber> = self.books.attempts.values().copied().collect();
        for step in running {
            let must_ask = self.books.must_ask(&self.books.step(step).definition);
            self.books.step_mut(step).in_doubt |= must_ask;
        }
    }
}
