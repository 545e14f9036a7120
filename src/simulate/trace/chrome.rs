//! The Trace Event Format.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::attempts::Again;
use super::events::Events;
use super::{Span, Trace, TraceProblem};
use crate::simulate::misread::brief;

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    ph: Value,
    #[serde(default)]
    ts: Value,
    #[serde(default)]
    dur: Value,
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    tid: Value,
    #[serde(default)]
    cat: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    id2: Value,
    #[serde(default)]
    scope: Value,
    #[serde(default)]
    bp: Value,
    #[serde(default)]
    bind_id: Value,
    #[serde(default)]
    flow_in: Value,
    #[serde(default)]
    flow_out: Value,
    #[serde(default)]
    args: Value,
}

/// A process and a thread of it, as text: numbers and names are both in use.
type Thread = (String, String);

/// An event of a flow.
struct Flow {
    at: i64,
    kind: FlowKind,
    /// Whether it leads into the span around it, or into the next one that begins.
    is_enclosed: bool,
    /// The span that it belongs to.
    span: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum FlowKind {
    Start,
    Step,
    Finish,
}

/// What happened on a thread.
#[derive(Default)]
struct Track {
    spans: Vec<usize>,
    /// The numbers of its events of flows.
    flows: Vec<usize>,
}

#[derive(Default)]
struct Reader {
    trace: Trace,
    threads: HashMap<Thread, Track>,
    /// Begins and ends, to be paired by thread once they are in the order of time; those of asynchronous work also by
    /// name, as there may be work of several under one id.
    marks: HashMap<(Thread, String), Vec<Mark>>,
    flows: Vec<Flow>,
    /// The numbers of the events of each.
    flows_by_id: HashMap<[String; 3], Vec<usize>>,
    /// The spans that say themselves that a flow goes on in them, by its id.
    bound: HashMap<String, Vec<Bound>>,
    /// What spans say themselves that they waited for, by name.
    names_before: Vec<(usize, Vec<String>)>,
    /// Spans that try again what one of the same name did before, and how long that was not to be tried again.
    repeated: Vec<(usize, i64)>,
    /// The names of what another run did.
    taken_over: HashSet<String>,
}

/// A span that a flow comes into, or goes on from.
struct Bound {
    span: usize,
    comes: bool,
    goes: bool,
}

/// The spans of one name.
#[derive(Default)]
struct Namesakes {
    /// In the order in which they ended.
    by_end: Vec<usize>,
    /// When the first began of each of them and those that ended before it.
    first_starts: Vec<i64>,
}

impl Namesakes {
    /// Adds one that ended last.
    fn push(&mut self, span: usize, start: i64) {
        let first = self.first_starts.last().copied().unwrap_or(i64::MAX);
        self.first_starts.push(first.min(start));
        self.by_end.push(span);
    }

    /// The first to end of those that began before this time.
    fn first_begun_before(&self, time: i64) -> Option<usize> {
        self.by_end.get(self.first_starts.partition_point(|start| *start >= time)).copied()
    }
}

/// A begin or an end.
struct Mark {
    line: usize,
    at: i64,
    phase: char,
    said: Said,
}

/// What an event says of its span.
struct Said {
    name: String,
    args: Value,
    /// The flow that goes on in it: its id, whether it comes into the span, and whether it goes on from there.
    flow: Option<(String, bool, bool)>,
}

/// Reads all events, up to where the text is no longer JSON.
pub(super) fn read(mut events: Events<'_>) -> (Trace, Result<(), TraceProblem>) {
    let mut reader = Reader::default();
    let mut count = 0;
    let ended = loop {
        count += 1;
        match events.next::<Event>() {
            Ok(Some((line, event))) => {
                let name = event.as_ref().map_or(String::new(), |event| text(&event.name));
                if let Err(reason) = event.and_then(|event| reader.take(line, event)) {
                    // A whole trace may be on one line.
                    let named = if name.is_empty() { name } else { format!(" (`{name}`)") };
                    reader.problem(line, &format!("event {count}{named}: {reason}"));
                }
            }
            Ok(None) => break Ok(()),
            Err(TraceProblem { line, reason }) => {
                reader.problem(line, &format!("{reason}: the trace is left out from here on"));
                break Err(TraceProblem { line, reason });
            }
        }
    };
    reader.pair_marks();
    reader.nest();
    reader.bind_flows();
    reader.bind_spans();
    reader.bind_names();
    (reader.trace, ended)
}

impl Reader {
    fn take(&mut self, line: usize, mut event: Event) -> Result<(), String> {
        let Value::String(kind) = event.ph.take() else { return Err("`ph`, its kind, should be a text".to_owned()) };
        let kind = kind.as_str();
        if kind == "M" {
            self.trace.pools.extend(weights(&event.args["pools"]));
            let most = event.args["max_parallel"].as_u64().and_then(|most| u32::try_from(most).ok());
            self.trace.max_parallel = most.filter(|most| *most > 0).or(self.trace.max_parallel);
            return Ok(());
        }
        let is_used = matches!(kind, "X" | "B" | "E" | "b" | "e" | "S" | "F" | "s" | "t" | "f");
        if !is_used {
            return Ok(());
        }
        let at = nanos(number(&event.ts, "ts")?, "ts")?;
        let thread = match kind {
            // Events of asynchronous work nest by what they are about, on whatever thread they are.
            "b" | "e" | "S" | "F" => (text(&event.cat), event.id()?),
            _ => (text(&event.pid), text(&event.tid)),
        };
        match kind {
            "X" => {
                let duration = number(&event.dur, "dur")?;
                if duration < 0.0 {
                    return Err(format!("a negative duration, `dur` {duration}"));
                }
                let duration = nanos(duration, "dur")?;
                let end = at.checked_add(duration).ok_or("it ends after the end of time")?;
                self.span(thread, at, end, event.said());
            }
            "B" | "E" | "b" | "e" | "S" | "F" => {
                let phase = kind.chars().next().unwrap_or_default();
                let said = event.said();
                let name = if matches!(phase, 'B' | 'E') { String::new() } else { said.name.clone() };
                self.marks.entry((thread, name)).or_default().push(Mark { line, at, phase, said });
            }
            kind => {
                let key = [text(&event.cat), text(&event.name), event.id()?];
                let is_enclosed = kind != "f" || event.bp == "e";
                let kind = match kind {
                    "s" => FlowKind::Start,
                    "t" => FlowKind::Step,
                    _ => FlowKind::Finish,
                };
                let number = self.flows.len();
                self.flows.push(Flow { at, kind, is_enclosed, span: None });
                self.flows_by_id.entry(key).or_default().push(number);
                self.threads.entry(thread).or_default().flows.push(number);
            }
        }
        Ok(())
    }

    fn span(&mut self, thread: Thread, start: i64, end: i64, Said { name, args, flow }: Said) {
        if args.get("taken_over") == Some(&Value::Bool(true)) {
            self.taken_over.insert(name);
            return;
        }
        let index = self.trace.spans.len();
        self.trace.spans.push(Span { name, start, end, parent: None, uses: weights(&args["uses"]) });
        self.threads.entry(thread).or_default().spans.push(index);
        if let Some((id, comes, goes)) = flow {
            self.bound.entry(id).or_default().push(Bound { span: index, comes, goes });
        }
        let names = match args.get("after") {
            Some(Value::Array(names)) => Some(names.iter().map(text).collect()),
            Some(name @ (Value::String(_) | Value::Number(_))) => Some(vec![text(name)]),
            _ => None,
        };
        self.names_before.extend(names.map(|names| (index, names)));
        if args.get("attempt").and_then(Value::as_u64).is_some_and(|attempt| attempt > 1) {
            let pause = args.get("paused_us").and_then(Value::as_f64).and_then(|us| nanos(us, "paused_us").ok());
            self.repeated.push((index, pause.unwrap_or(0)));
        }
    }

    /// Makes spans of begins and ends.
    fn pair_marks(&mut self) {
        let mut threads: Vec<_> = self.marks.drain().collect();
        threads.sort_by(|(one, _), (other, _)| one.cmp(other));
        for ((thread, _), mut marks) in threads {
            marks.sort_by_key(|mark| mark.at);
            let mut open: Vec<Mark> = Vec::new();
            for Mark { line, at, phase, said } in marks {
                if matches!(phase, 'B' | 'b' | 'S') {
                    open.push(Mark { line, at, phase, said });
                    continue;
                }
                let Some(mut begun) = open.pop() else {
                    let at = at as f64 / 1_000.0;
                    self.problem(line, &format!("an end (`{phase}`) at `ts` {at} of what never began there"));
                    continue;
                };
                merge(&mut begun.said.args, said.args);
                self.span(thread.clone(), begun.at, at, begun.said);
            }
            for Mark { line, phase, said, .. } in open {
                self.problem(line, &format!("`{}` begins (`{phase}`) and never ends", said.name));
            }
        }
        self.trace.problems.sort_by_key(|problem| problem.line);
    }

    fn problem(&mut self, line: usize, reason: &str) {
        self.trace.problems.push(TraceProblem { line, reason: reason.to_owned() });
    }

    /// Finds out which spans of a thread are inside of which, and which of them its events of flows belong to: the
    /// innermost around, or the next that begins. Spans that overlap otherwise, as some programs write them, are beside
    /// each other.
    fn nest(&mut self) {
        let spans = &mut self.trace.spans;
        for Track { spans: indexes, flows } in self.threads.values_mut() {
            // What takes no time is inside of nothing: it only happened at the same instant.
            indexes.retain(|&index| spans[index].start < spans[index].end);
            indexes.sort_by_key(|&index| (spans[index].start, -spans[index].end, index));
            flows.sort_by_key(|&number| self.flows[number].at);
            let mut flows = flows.iter().peekable();
            // Each ends no later than the one before.
            let mut around: Vec<usize> = Vec::new();
            for next in indexes.iter().map(Some).chain([None]) {
                let begins = next.map_or(i64::MAX, |&index| spans[index].start);
                while let Some(&number) = flows.next_if(|&&number| self.flows[number].at < begins) {
                    let flow = &mut self.flows[number];
                    // Nothing that begins later is inside of what is over by then.
                    while around.last().is_some_and(|&outer| spans[outer].end < flow.at) {
                        around.pop();
                    }
                    let first = indexes.partition_point(|&index| spans[index].start < flow.at);
                    // A flow that ends just where a span begins ends there.
                    let following = indexes.get(first).copied().filter(|_| !flow.is_enclosed);
                    flow.span = following.or(around.last().copied());
                }
                let Some(&index) = next else { break };
                // Whatever is inside of one that ends earlier is inside of this one, too, or has been seen.
                while around.last().is_some_and(|&outer| spans[outer].end < spans[index].end) {
                    around.pop();
                }
                spans[index].parent = around.last().copied();
                around.push(index);
            }
        }
    }

    /// Links the spans between which a flow goes on. Files are in any order, and an id is used again for another flow
    /// once one is finished.
    fn bind_flows(&mut self) {
        let flows = std::mem::take(&mut self.flows);
        let mut ids: Vec<_> = std::mem::take(&mut self.flows_by_id).into_iter().collect();
        ids.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, mut numbers) in ids {
            numbers.sort_by_key(|&number| flows[number].at);
            // What the flow that is going on came to last.
            let mut last: Option<Option<usize>> = None;
            for at_once in numbers.chunk_by_mut(|&one, &other| flows[one].at == flows[other].at) {
                // Of what happens at once, that which can be comes first: an end of what has begun, else a beginning.
                at_once.sort_by_key(|&number| (flows[number].kind == FlowKind::Start) == last.is_some());
                for &number in at_once.iter() {
                    let Flow { kind, span, .. } = flows[number];
                    match (kind, last.flatten(), span) {
                        (FlowKind::Start, ..) => {}
                        (_, Some(before), Some(after)) if before == after => {}
                        (_, Some(before), Some(after)) => self.link(after, before),
                        _ => self.trace.loose_links += 1,
                    }
                    last = (kind != FlowKind::Finish).then_some(span);
                }
            }
        }
    }

    /// Links each span that a flow comes into to the one that it went on from last.
    fn bind_spans(&mut self) {
        let mut ids: Vec<_> = std::mem::take(&mut self.bound).into_iter().collect();
        ids.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, mut bound) in ids {
            let spans = &self.trace.spans;
            bound.sort_by_key(|&Bound { span, .. }| (spans[span].start, spans[span].end, span));
            let mut last = None;
            for Bound { span, comes, goes } in bound {
                match last {
                    Some(before) if comes => self.link(span, before),
                    None if comes => self.trace.loose_links += 1,
                    _ => {}
                }
                last = if goes { Some(span) } else { last };
            }
        }
    }

    /// Links spans to those that they name.
    fn bind_names(&mut self) {
        let spans = &self.trace.spans;
        let order = |index: usize| (spans[index].end, spans[index].start, index);
        let mut by_end: Vec<usize> = (0..spans.len()).collect();
        by_end.sort_unstable_by_key(|&index| order(index));
        let mut named: HashMap<&str, Namesakes> = HashMap::new();
        for index in by_end {
            named.entry(&spans[index].name).or_default().push(index, spans[index].start);
        }
        let is_own = |after: usize, name: &str| spans[after].name == name;
        // Of what took no time at the same instant, that which the trace has first was first.
        let last_before = |after: usize, name: &str| {
            let by_end = &named.get(name)?.by_end;
            let over = by_end.partition_point(|&index| spans[index].end <= spans[after].start);
            let earlier = by_end.partition_point(|&index| order(index) < order(after)).min(over);
            let last = if earlier > 0 || is_own(after, name) { earlier } else { over };
            by_end[..last].last().copied()
        };
        for (after, names) in &self.names_before {
            let mut were_there = 0;
            for name in names {
                let before = last_before(*after, name);
                // What is declared and was not quite over is still what the program meant; what began later is another of
                // that name, and of its own name it means none that it did not come after.
                let by_then = if is_own(*after, name) { spans[*after].start } else { spans[*after].end };
                let begun = || named.get(name.as_str())?.first_begun_before(by_then);
                match before {
                    None if self.taken_over.contains(name) => were_there += 1,
                    _ => match before.or_else(begun) {
                        Some(before) => self.trace.links.push((*after, before)),
                        None => self.trace.loose_links += 1,
                    },
                }
            }
            if were_there == names.len() {
                self.trace.waiting_for_nothing.push(*after);
            }
        }
        for &(again, pause) in &self.repeated {
            // The attempt before may have been before the trace.
            if let Some(before) = last_before(again, &spans[again].name) {
                self.trace.links.push((again, before));
                let pause = pause.clamp(0, spans[again].start.saturating_sub(spans[before].end));
                self.trace.attempts.push(Again { again, before, pause });
            }
        }
    }

    /// What was not over when the other began was not waited for.
    fn link(&mut self, after: usize, before: usize) {
        let was_over = self.trace.spans[before].end <= self.trace.spans[after].start;
        if was_over { self.trace.links.push((after, before)) } else { self.trace.loose_links += 1 }
    }
}

impl Event {
    /// What it is about, in its category. An id holds everywhere, unless it says that it is one of its process.
    fn id(&self) -> Result<String, String> {
        // An id that says where it holds.
        let [global, local] = ["global", "local"].map(|reach| &self.id2[reach]);
        let id = match [&self.id, global].into_iter().find(|id| !id.is_null()) {
            Some(id) => text(id),
            None if local.is_null() => return Err("`id` is missing".to_owned()),
            None => format!("{} of {}", text(local), text(&self.pid)),
        };
        Ok(format!("id {id} in {}", text(&self.scope)))
    }

    fn said(self) -> Said {
        let flow =
            (!self.bind_id.is_null()).then(|| (text(&self.bind_id), is_set(&self.flow_in), is_set(&self.flow_out)));
        Said { name: text(&self.name), args: self.args, flow }
    }
}

/// Adds what is said at the end of a span to what was said at its beginning.
fn merge(args: &mut Value, later: Value) {
    match (args, later) {
        (Value::Object(args), Value::Object(later)) => args.extend(later),
        (args, later @ Value::Object(_)) => *args = later,
        _ => {}
    }
}

/// Pools, and how much of each.
fn weights(value: &Value) -> BTreeMap<String, u32> {
    BTreeMap::deserialize(value).unwrap_or_default()
}

/// Whether something is so, as JavaScript has it.
fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value != 0
}

fn number(value: &Value, field: &str) -> Result<f64, String> {
    match value {
        Value::Null => Err(format!("`{field}` is missing")),
        value => value.as_f64().ok_or_else(|| format!("`{field}` should be a number, but is {}", brief(value))),
    }
}

/// Microseconds of the format as nanoseconds.
fn nanos(value: f64, field: &str) -> Result<i64, String> {
    const MOST: f64 = 4.0e15;
    if value.abs() <= MOST {
        Ok((value * 1_000.0).round() as i64)
    } else {
        Err(format!("`{field}` is no time: {value:e}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_end_of_those_that_had_begun_is_found() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let starts: Vec<i64> = (0..rng.usize(0..7)).map(|_| rng.i64(0..10)).collect();
            let mut namesakes = Namesakes::default();
            starts.iter().enumerate().for_each(|(span, start)| namesakes.push(span, *start));
            let time = rng.i64(0..11);
            let expected = (0..starts.len()).find(|span| starts[*span] < time);
            assert_eq!(namesakes.first_begun_before(time), expected, "{starts:?} before {time}");
        }
    }
}
