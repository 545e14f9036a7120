//! Traces of other programs: what they did, and what running as a DAG would have made of it.
//!
//! Two formats are read. The Trace Event Format of Chromium (an array of events, or an object with `traceEvents`) has
//! spans as complete events (`X`) or as begin and end (`B` and `E`, `b` and `e`, `S` and `F`), and links as flow events
//! (`s`, `t`, `f`), as flows of spans (`bind_id` with `flow_in` and `flow_out`) or as a list of names in `args.after`, as
//! [`History::to_trace`](crate::history::History::to_trace) writes them. The JSON of
//! OpenTelemetry's protocol (an object with `resourceSpans`, or one a line) has parents and links by id.
//!
//! A step is a span with a link; what else happened inside of it is a part of it. A span with linked spans inside is where
//! they happened: what it did itself beside them stays in its place. So is one on another thread that was around all of
//! them and little else: it waited. What is neither is a step of its own. Where there are no links at all, the spans with
//! no other inside are the steps.
//!
//! Spans of one name that count themselves in `args.attempt` are one step that was tried several times; `args.paused_us`
//! says how long it was not to be tried again. What another run did, as `args.taken_over` says, was there from the start.
//! What a span takes of pools is in `args.uses`; how large these are is in `args.pools` of the name of a process, with how
//! many steps could run at once, `args.max_parallel`.
//!
//! ```
//! use std::time::Duration;
//! use plandag::simulate::trace::{Basis, Trace};
//!
//! let text = r#"[
//!     {"ph": "X", "name": "left", "ts": 0, "dur": 4000, "pid": 1, "tid": 1},
//!     {"ph": "X", "name": "right", "ts": 4000, "dur": 5000, "pid": 1, "tid": 1},
//!     {"ph": "X", "name": "join", "ts": 9000, "dur": 1000, "pid": 1, "tid": 1, "args": {"after": ["left", "right"]}}
//! ]"#;
//! let analysis = Trace::read(text.as_bytes()).unwrap().analyse(64).unwrap();
//! assert_eq!(analysis.took, Duration::from_millis(10));
//! assert_eq!(analysis.dag, Duration::from_millis(6));
//! assert_eq!(analysis.basis, Basis::Links(2));
//! ```

mod analyse;
mod around;
mod attempts;
mod chrome;
mod events;
mod otlp;
mod steps;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

pub use analyse::{Analysis, Basis};
use attempts::Again;

/// What a program did, as its trace has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    spans: Vec<Span>,
    /// Which span waited for which: the later one, then the one that it waited for.
    links: Vec<(usize, usize)>,
    /// Which of them tried what another had tried before, and is linked to it.
    attempts: Vec<Again<usize>>,
    /// Spans that say themselves that they waited for none.
    waiting_for_nothing: Vec<usize>,
    /// The name of the outermost span around everything linked that no link says anything of.
    around: Option<String>,
    /// How large the pools are of which spans take something.
    pools: BTreeMap<String, u32>,
    /// How many steps the program could run at once, if the trace says so.
    pub max_parallel: Option<u32>,
    /// Parts of the trace that could not be used. The rest was.
    pub problems: Vec<TraceProblem>,
    /// Links that say nothing about who waited for whom: to spans that are not in the trace, or that were not over when
    /// the other began. What `args.after` names also counts if it had only begun when the other ended.
    pub loose_links: usize,
}

/// A stretch of time in which something was done. Times are nanoseconds of the trace's own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    name: String,
    start: i64,
    end: i64,
    /// The span in which it happened.
    parent: Option<usize>,
    /// How much it takes of pools.
    uses: BTreeMap<String, u32>,
}

/// A part of a trace that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct TraceProblem {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl TraceProblem {
    /// The same where nothing of the trace could be used.
    fn refused(self) -> TraceError {
        TraceError::Malformed { line: self.line, reason: self.reason }
    }
}

/// Why a trace says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It is not a trace.
    #[error("line {line}: {reason}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It is compressed.
    #[error("the trace is gzipped")]
    Gzipped,
    /// Nothing takes any time in it.
    #[error("there are no spans in the trace")]
    Empty {
        /// Parts that could not be used, among which spans may have been.
        problems: Vec<TraceProblem>,
    },
    /// Steps ran at the same time and nothing links them, so what waited for what cannot be known.
    #[error("spans overlap and nothing links them, so nobody can tell which waited for which")]
    NoLinks {
        /// Two spans that ran at the same time.
        overlap: [String; 2],
        /// How long it would have taken if nothing waited for anything.
        at_best: Duration,
        /// How long it would have taken if everything waited for all that was over before it began.
        at_worst: Duration,
    },
    /// Steps wait for each other.
    #[error("the links of the trace have a cycle: {}", path.join(" -> "))]
    Cycle {
        /// The names along it; the last is the first again.
        path: Vec<String>,
    },
    /// There are more links than can be looked at.
    #[error("the trace has more than {limit} links between steps")]
    TooManyLinks {
        /// How many can be looked at.
        limit: usize,
    },
}

impl Trace {
    /// The largest trace, in bytes, that a program should offer to [`read`](Self::read): it takes a few times as much
    /// memory.
    pub const MAX_BYTES: u64 = 256 * 1024 * 1024;

    /// Reads a trace. What is wrong with a part of it is kept in [`problems`](Self::problems).
    ///
    /// # Errors
    ///
    /// If the text is no trace, or has no spans.
    pub fn read(text: &[u8]) -> Result<Self, TraceError> {
        if text.starts_with(b"\x1f\x8b") {
            return Err(TraceError::Gzipped);
        }
        let text = match std::str::from_utf8(text) {
            Ok(whole) => whole,
            // It is cut off within a character.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(error) => {
                let line = events::line(text, error.valid_up_to());
                return Err(TraceError::Malformed { line, reason: "this is not UTF-8 text".to_owned() });
            }
        };
        let found = events::find(text).map_err(TraceProblem::refused)?;
        let (mut trace, ended) = match found {
            events::Found::Nothing => (Self::default(), Ok(())),
            events::Found::Chrome(events) => chrome::read(events),
            events::Found::Otlp(text) => otlp::read(text),
        };
        if trace.spans.is_empty() {
            ended.map_err(TraceProblem::refused)?;
            return Err(TraceError::Empty { problems: trace.problems });
        }
        around::put_inside(&mut trace);
        Ok(trace)
    }
}

/// How long at least one of some stretches of time was going on.
fn union(mut times: Vec<(i64, i64)>) -> i64 {
    times.sort_unstable();
    let mut until = i64::MIN;
    let mut all = 0;
    for (start, end) in times {
        all = end.saturating_sub(start.max(until)).max(0).saturating_add(all);
        until = until.max(end);
    }
    all
}

#[cfg(test)]
mod tests;
