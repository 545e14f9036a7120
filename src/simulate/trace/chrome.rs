//! The Trace Event Format.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::events::Events;
use super::{Span, Trace, TraceError, TraceProblem};

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: Value,
    ph: String,
    ts: Option<f64>,
    dur: Option<f64>,
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    tid: Value,
    #[serde(default)]
    cat: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    bp: Value,
    #[serde(default)]
    args: Value,
}

/// A process and a thread of it, as text: numbers and names are both in use.
type Thread = (String, String);

/// One end of a flow event, bound to the span that it is in.
struct Flow {
    thread: Thread,
    at: i64,
    /// Whether it leads into the span around it, or into the next one that begins.
    is_enclosed: bool,
}

#[derive(Default)]
struct Reader {
    trace: Trace,
    threads: HashMap<Thread, Vec<usize>>,
    /// Begins and ends, to be paired by thread once they are in the order of time.
    marks: HashMap<Thread, Vec<Mark>>,
    flows: HashMap<[String; 3], Vec<Flow>>,
    /// What spans say themselves that they waited for, by name.
    names_before: Vec<(usize, Vec<String>)>,
    /// Spans that try again what one of the same name did before.
    repeated: Vec<usize>,
}

struct Mark {
    line: usize,
    at: i64,
    /// None: the end of what began last.
    begins: Option<(String, Value)>,
}

/// Reads all events.
pub(super) fn read(mut events: Events<'_>) -> Result<Trace, TraceError> {
    let mut reader = Reader::default();
    while let Some((line, event)) = events.next::<Event>()? {
        if let Err(reason) = event.and_then(|event| reader.take(line, event)) {
            reader.trace.problems.push(TraceProblem { line, reason });
        }
    }
    reader.pair_marks();
    reader.nest();
    reader.bind_flows();
    reader.bind_names();
    Ok(reader.trace)
}

impl Reader {
    fn take(&mut self, line: usize, event: Event) -> Result<(), String> {
        let is_used = matches!(event.ph.as_str(), "X" | "B" | "E" | "b" | "e" | "s" | "t" | "f");
        if !is_used {
            return Ok(());
        }
        let at = nanos(event.ts.ok_or("an event without its time, `ts`")?, "ts")?;
        let thread = match event.ph.as_str() {
            // Events of asynchronous work nest by what they are about, on whatever thread they are.
            "b" | "e" => (text(&event.cat), format!("id {}", text(&event.id))),
            _ => (text(&event.pid), text(&event.tid)),
        };
        match event.ph.as_str() {
            "X" => {
                let duration = event.dur.ok_or("a complete event without its duration, `dur`")?;
                if duration < 0.0 {
                    return Err(format!("a negative duration, `dur` {duration}"));
                }
                let duration = nanos(duration, "dur")?;
                let end = at.checked_add(duration).ok_or("it ends after the end of time")?;
                self.span(thread, text(&event.name), at, end, &event.args);
            }
            "B" | "b" => {
                self.marks.entry(thread).or_default().push(Mark {
                    line,
                    at,
                    begins: Some((text(&event.name), event.args)),
                });
            }
            "E" | "e" => self.marks.entry(thread).or_default().push(Mark { line, at, begins: None }),
            kind => {
                let flow = Flow { thread, at, is_enclosed: kind != "f" || event.bp == "e" };
                let key = [text(&event.cat), text(&event.name), text(&event.id)];
                self.flows.entry(key).or_default().push(flow);
            }
        }
        Ok(())
    }

    fn span(&mut self, thread: Thread, name: String, start: i64, end: i64, args: &Value) {
        let index = self.trace.spans.len();
        self.trace.spans.push(Span { name, start, end, parent: None });
        self.threads.entry(thread).or_default().push(index);
        if let Some(Value::Array(names)) = args.get("after") {
            if names.is_empty() {
                self.trace.waiting_for_nothing.push(index);
            }
            let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
            self.names_before.push((index, names.collect()));
        }
        if args.get("attempt").and_then(Value::as_u64).is_some_and(|attempt| attempt > 1) {
            self.repeated.push(index);
        }
    }

    /// Makes spans of begins and ends.
    fn pair_marks(&mut self) {
        let mut threads: Vec<(Thread, Vec<Mark>)> = self.marks.drain().collect();
        threads.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (thread, mut marks) in threads {
            marks.sort_by_key(|mark| mark.at);
            let mut open = Vec::new();
            for mark in marks {
                match (mark.begins, open.pop()) {
                    (Some(begins), before) => {
                        open.extend(before);
                        open.push((mark.line, mark.at, begins));
                    }
                    (None, Some((_, start, (name, args)))) => {
                        self.span(thread.clone(), name, start, mark.at, &args);
                    }
                    (None, None) => self.problem(mark.line, "an end (`E`) of what never began on its thread"),
                }
            }
            for (line, _, (name, _)) in open {
                self.problem(line, &format!("`{name}` begins (`B`) and never ends"));
            }
        }
        self.trace.problems.sort_by_key(|problem| problem.line);
    }

    fn problem(&mut self, line: usize, reason: &str) {
        self.trace.problems.push(TraceProblem { line, reason: reason.to_owned() });
    }

    /// Finds out which spans of a thread are inside of which. Spans that overlap otherwise, as some programs write
    /// them, are beside each other.
    fn nest(&mut self) {
        let spans = &mut self.trace.spans;
        for indexes in self.threads.values_mut() {
            indexes.sort_by_key(|&index| (spans[index].start, -spans[index].end, index));
            // What takes no time is inside of nothing: it only happened at the same instant.
            indexes.retain(|&index| spans[index].start < spans[index].end);
            let mut around: Vec<usize> = Vec::new();
            for &index in indexes.iter() {
                // Whatever is inside of one that ends earlier is inside of this one, too, or has been seen.
                while around.last().is_some_and(|&outer| spans[outer].end < spans[index].end) {
                    around.pop();
                }
                spans[index].parent = around.last().copied();
                around.push(index);
            }
        }
    }

    /// Links the spans between which a flow goes on, in the order of its events.
    fn bind_flows(&mut self) {
        let mut flows: Vec<_> = std::mem::take(&mut self.flows).into_iter().collect();
        flows.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, flow) in flows {
            let ends: Vec<Option<usize>> = flow.iter().map(|end| self.bound(end)).collect();
            for pair in ends.windows(2) {
                match pair {
                    [Some(before), Some(after)] if before != after => self.link(*after, *before),
                    [Some(_), Some(_)] => {}
                    _ => self.trace.loose_links += 1,
                }
            }
        }
    }

    /// The span that one end of a flow belongs to: the innermost around it, or the next that begins.
    fn bound(&self, end: &Flow) -> Option<usize> {
        let spans = &self.trace.spans;
        let indexes = self.threads.get(&end.thread)?;
        let begun = indexes.partition_point(|&index| spans[index].start <= end.at);
        let around = || {
            let last = begun.checked_sub(1).map(|place| indexes[place]);
            let mut outwards = std::iter::successors(last, |&index| spans[index].parent);
            outwards.find(|&index| spans[index].end >= end.at)
        };
        if end.is_enclosed {
            return around();
        }
        // A flow that ends just where a span begins ends there.
        let next = indexes.partition_point(|&index| spans[index].start < end.at);
        indexes.get(next).copied().or_else(around)
    }

    /// Links spans to those that they name.
    fn bind_names(&mut self) {
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, span) in self.trace.spans.iter().enumerate() {
            named.entry(&span.name).or_default().push(index);
        }
        let spans = &self.trace.spans;
        let mut links = Vec::new();
        let mut loose = 0;
        let mut bind = |after: usize, name: &str| {
            let candidates = named.get(name).map(Vec::as_slice).unwrap_or_default();
            let over = candidates.iter().filter(|&&index| index != after && spans[index].end <= spans[after].start);
            let last = over.max_by_key(|&&index| spans[index].end);
            // What is declared and cannot have been is still what the program meant.
            match last.or_else(|| candidates.iter().find(|&&index| index != after)) {
                Some(&before) => links.push((after, before)),
                None if candidates.is_empty() => loose += 1,
                // It waits for itself.
                None => links.push((after, after)),
            }
        };
        for (after, names) in &self.names_before {
            names.iter().for_each(|name| bind(*after, name));
        }
        self.repeated.iter().for_each(|&again| bind(again, &spans[again].name));
        self.trace.links.extend(links);
        self.trace.loose_links += loose;
    }

    /// What is still going on when the other begins was not waited for.
    fn link(&mut self, after: usize, before: usize) {
        let spans = &self.trace.spans;
        let overlap = spans[before].end > spans[after].start && spans[after].end > spans[before].start;
        if overlap { self.trace.loose_links += 1 } else { self.trace.links.push((after, before)) }
    }
}

/// Microseconds of the format as nanoseconds.
fn nanos(value: f64, field: &str) -> Result<i64, String> {
    const MOST: f64 = 4.0e15;
    if value.abs() <= MOST {
        Ok((value * 1_000.0).round() as i64)
    } else {
        Err(format!("`{field}` is no time: {value}"))
    }
}

/// A name or a number, as text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
