use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A complete event, in milliseconds.
fn span(name: &str, thread: u32, from: u64, to: u64) -> Value {
    json!({ "ph": "X", "name": name, "pid": 1, "tid": thread, "ts": from * 1_000, "dur": (to - from) * 1_000 })
}

fn after(mut event: Value, names: &[&str]) -> Value {
    event["args"] = json!({ "after": names });
    event
}

fn read(events: Value) -> Result<Trace, TraceError> {
    Trace::read(events.to_string().as_bytes())
}

fn analyse(events: Value) -> Result<Analysis, TraceError> {
    read(events)?.analyse(64)
}

#[test]
fn what_no_link_joins_could_have_run_at_once() {
    let analysis = analyse(json!([
        span("a", 1, 0, 400),
        after(span("b", 1, 400, 700), &["a"]),
        span("c", 1, 700, 1_200),
        after(span("d", 1, 1_300, 1_500), &["b", "c"]),
    ]))
    .unwrap();
    assert_eq!(analysis.basis, Basis::Links(3));
    assert_eq!([analysis.took, analysis.work, analysis.idle], [1_500, 1_400, 100].map(millis));
    assert_eq!([analysis.critical_path, analysis.bound], [900; 2].map(millis));
    assert_eq!(analysis.dag, millis(1_000), "nobody knows what the time was for in which nothing was running");
    assert_eq!(analysis.critical_steps, ["a", "b", "d"]);
    assert_eq!(analysis.what_if.savings[0].saves, millis(200), "halving `a` or `c` alone saves little");
}

#[test]
fn slots_are_obeyed() {
    let trace = read(json!([span("a", 1, 0, 100), span("b", 1, 100, 200), after(span("c", 1, 200, 300), &["a"])]));
    let trace = trace.unwrap();
    assert_eq!(trace.analyse(64).unwrap().dag, millis(200));
    assert_eq!(trace.analyse(1).unwrap().dag, millis(300));
}

#[test]
fn without_links_a_sequence_says_only_what_is_possible() {
    let analysis = analyse(json!([span("a", 1, 0, 400), span("b", 2, 400, 700)])).unwrap();
    assert_eq!((analysis.basis, analysis.dag, analysis.work), (Basis::Nothing, millis(400), millis(700)));
}

#[test]
fn overlapping_spans_without_links_say_nothing() {
    let error = analyse(json!([span("a", 1, 0, 400), span("b", 2, 100, 300), span("c", 1, 400, 600)])).unwrap_err();
    let TraceError::NoLinks { overlap, at_best, at_worst } = error else { panic!("{error}") };
    assert_eq!((overlap, at_best, at_worst), (["a".into(), "b".into()], millis(400), millis(600)));
}

#[test]
fn spans_inside_of_others_are_the_work() {
    let begin = |name: &str, at: u64| json!({ "ph": "B", "name": name, "pid": 1, "tid": 1, "ts": at * 1_000 });
    let end = |at: u64| json!({ "ph": "E", "pid": 1, "tid": 1, "ts": at * 1_000 });
    let trace = json!({ "traceEvents": [
        begin("all", 0), begin("one", 0), end(100), begin("two", 100), end(300), end(350),
        { "ph": "M", "name": "process_name", "pid": 1, "args": { "name": "x" } },
    ], "displayTimeUnit": "ms" });
    let analysis = analyse(trace).unwrap();
    assert_eq!((analysis.steps, analysis.work, analysis.took), (2, millis(350), millis(350)));
    assert_eq!((analysis.dag, analysis.critical_steps), (millis(250), vec!["two".to_owned(), "all".to_owned()]));
}

#[test]
fn flows_lead_from_the_span_around_them_to_the_one_around_their_end_or_after_it() {
    let flow = |phase: &str, id: u32, thread: u32, at: u64| json!({ "ph": phase, "id": id, "cat": "c", "name": "n", "pid": 1, "tid": thread, "ts": at * 1_000 });
    let mut enclosed = flow("f", 2, 2, 500);
    enclosed["bp"] = json!("e");
    let events = json!([
        span("a", 1, 0, 100),
        span("b", 1, 100, 300),
        span("c", 2, 300, 600),
        span("d", 2, 600, 700),
        flow("s", 1, 1, 50),
        flow("f", 1, 2, 600),
        flow("s", 2, 1, 250),
        enclosed,
        // This one is still running when the other starts: it was not waited for.
        span("e", 3, 0, 650),
        flow("s", 3, 3, 10),
        flow("f", 3, 1, 100),
    ]);
    let trace = read(events).unwrap();
    assert_eq!((trace.links.len(), trace.loose_links), (2, 1));
    assert_eq!(trace.links, [(3, 0), (2, 1)]);
    assert_eq!(trace.analyse(64).unwrap().dag, millis(650));
}

#[test]
fn what_happened_inside_of_a_linked_span_is_a_part_of_it() {
    let events = json!([
        span("a", 1, 0, 1_000),
        span("http", 1, 10, 20),
        after(span("b", 1, 1_000, 2_000), &["a"]),
        span("http", 1, 1_010, 1_020),
        span("http", 1, 1_050, 1_060),
    ]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.steps, analysis.basis), (2, Basis::Links(1)));
    assert_eq!([analysis.dag, analysis.work, analysis.idle], [2_000, 2_000, 0].map(millis));
}

#[test]
fn linked_spans_that_enclose_each_other_are_steps_beside_each_other() {
    let events = json!([
        span("call-1", 1, 0, 1_000),
        span("call-2", 1, 100, 900),
        after(span("sum", 1, 1_000, 1_500), &["call-1", "call-2"]),
    ]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.steps, analysis.dag, analysis.work), (3, millis(1_500), millis(2_300)));
    assert_eq!(analysis.critical_steps, ["call-1", "sum"]);
}

#[test]
fn a_link_of_a_step_is_one_of_the_steps_in_it() {
    let events = json!([
        span("phase 1", 1, 0, 300),
        after(span("phase 2", 1, 300, 600), &["phase 1"]),
        span("c", 1, 300, 400),
        after(span("d", 2, 400, 1_000), &["c"]),
    ]);
    let analysis = analyse(events).unwrap();
    assert_eq!(
        (analysis.dag, analysis.critical_steps),
        (millis(1_000), ["phase 1", "c", "d"].map(str::to_owned).into())
    );
}

#[test]
fn the_own_time_of_a_frame_stays_in_its_place() {
    let frame = |links: &[&str]| {
        json!([
            span("agent", 1, 0, 1_000),
            span("a", 1, 100, 300),
            span("b", 1, 500, 600),
            after(span("c", 1, 600, 900), links),
            after(span("away", 2, 600, 1_400), &["b"]),
        ])
    };
    let analysis = analyse(frame(&["a"])).unwrap();
    assert_eq!((analysis.steps, analysis.took, analysis.idle), (4, millis(1_400), Duration::ZERO));
    assert_eq!(analysis.work, millis(1_800), "400 ms of it are the frame's own");
    assert_eq!(analysis.critical_steps, ["agent", "b", "away"]);
    // The frame did 300 ms of its own before it began `b`. Nothing says that those waited for `a`.
    assert_eq!(analysis.dag, millis(1_200));
    let mut events = frame(&["a", "b"]);
    events.as_array_mut().unwrap().pop();
    let analysis = analyse(events).unwrap();
    assert_eq!(analysis.critical_steps, ["agent", "b", "c", "agent"], "what it did last waits for all inside");
    assert_eq!(analysis.dag, millis(800));
}

#[test]
fn who_is_on_another_thread_is_no_frame() {
    let long = json!([span("long", 1, 0, 1_000), span("a", 2, 0, 100), after(span("b", 2, 100, 200), &["a"])]);
    let analysis = analyse(long).unwrap();
    assert_eq!((analysis.steps, analysis.critical_steps), (3, vec!["long".to_owned()]));
    assert_eq!([analysis.dag, analysis.unlinked, analysis.idle], [1_000, 1_000, 0].map(millis));
}

#[test]
fn who_waits_for_nothing_can_say_so() {
    let free = |name: &str, from: u64| after(span(name, 1, from, from + 200), &[]);
    let analysis = analyse(json!([free("a", 0), free("b", 100), free("c", 300)])).unwrap();
    assert_eq!((analysis.basis, analysis.dag, analysis.unlinked), (Basis::Links(0), millis(200), Duration::ZERO));
    let one_says_nothing = analyse(json!([free("a", 0), span("b", 1, 200, 400)])).unwrap();
    assert_eq!(one_says_nothing.basis, Basis::Nothing);
    let is_unreadable = json!([json!({ "ph": "X", "name": "a", "ts": 0, "dur": 1, "args": { "after": [7] } })]);
    assert_eq!(analyse(is_unreadable).unwrap().basis, Basis::Nothing);
}

#[test]
fn no_answer_is_longer_than_the_run_or_shorter_than_what_is_linked() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Each with its start, its end and the longest chain of links that leads to its end.
        let mut events: Vec<(Value, u64, u64, u64)> = Vec::new();
        let mut longest = 0;
        for number in 0..rng.u64(1..12) {
            let (from, length) = (rng.u64(0..50), rng.u64(1..30));
            let over: Vec<usize> = (0..events.len()).filter(|&before| events[before].2 <= from).collect();
            let before: Vec<usize> = (0..rng.usize(0..3)).filter_map(|_| rng.choice(&over).copied()).collect();
            let chain = length + before.iter().map(|&before| events[before].3).max().unwrap_or(0);
            let mut event = span(&format!("s{number}"), rng.u32(1..4), from, from + length);
            if !before.is_empty() || rng.bool() {
                event["args"] =
                    json!({ "after": before.iter().map(|before| format!("s{before}")).collect::<Vec<_>>() });
            }
            longest = if before.is_empty() { longest } else { longest.max(chain) };
            events.push((event, from, from + length, chain));
        }
        let Ok(analysis) = analyse(events.into_iter().map(|event| event.0).collect()) else { continue };
        assert!(analysis.dag <= analysis.took, "seed {seed}: {analysis:?}");
        assert!(analysis.dag >= millis(longest), "seed {seed}: {analysis:?}");
    }
}

#[test]
fn a_second_attempt_waits_for_the_first() {
    let mut again = span("a", 1, 100, 200);
    again["args"] = json!({ "attempt": 2, "after": [] });
    let analysis = analyse(json!([span("a", 1, 0, 100), again, after(span("b", 1, 200, 300), &["a"])])).unwrap();
    assert_eq!((analysis.basis, analysis.dag), (Basis::Links(2), millis(300)));
}

#[test]
fn links_in_a_circle_are_named() {
    let error = analyse(json!([
        after(span("a", 1, 0, 100), &["c"]),
        after(span("b", 1, 100, 200), &["a"]),
        after(span("c", 1, 200, 300), &["b"]),
    ]));
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with("the links of the trace have a cycle: "), "{message}");
    assert_eq!(message.matches(" -> ").count(), 3, "{message}");
    let own = analyse(json!([after(span("a", 1, 0, 100), &["a"])])).unwrap_err();
    assert_eq!(own.to_string(), "the links of the trace have a cycle: a -> a");
}

#[test]
fn bad_events_are_named_by_line_and_the_others_are_read() {
    let text = concat!(
        "[\n",
        r#"{"ph":"X","name":"a","ts":0,"dur":1000,"pid":1,"tid":1},"#,
        "\n",
        r#"{"ph":"X","name":"b","ts":1000,"dur":-5,"pid":1,"tid":1},"#,
        "\n",
        r#"{"ph":"X","name":"c","ts":"soon","dur":5,"pid":1,"tid":1},"#,
        "\n",
        r#"{"ph":"X","name":"d","dur":5,"pid":1,"tid":1}, 7,"#,
        "\n",
        r#"{"ph":"E","ts":5,"pid":1,"tid":7}, {"ph":"B","name":"f","ts":5,"pid":1,"tid":8},"#,
        // The end is missing, as where a program was killed.
        "\n",
    );
    let trace = Trace::read(text.as_bytes()).unwrap();
    assert_eq!(trace.spans.len(), 1);
    let lines: Vec<usize> = trace.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 4, 5, 5, 6, 6], "{:?}", trace.problems);
    assert_eq!(trace.problems[0].to_string(), "line 3: a negative duration, `dur` -5");
}

#[test]
fn what_is_no_trace_is_refused_with_its_line() {
    let refused = |text: &str| Trace::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused(""), "there are no spans in the trace");
    assert_eq!(refused("[]"), "there are no spans in the trace");
    assert_eq!(refused(r#"{"traceEvents": []}"#), "there are no spans in the trace");
    assert_eq!(refused("[\n{\"ph\":\"X\",,}]"), "line 2: key must be a string");
    assert_eq!(refused("\nhello"), "line 2: expected value");
    assert_eq!(refused("{\"a\": 1,\n\"b\": 2}"), "line 2: the object has neither `traceEvents` nor `resourceSpans`");
    assert_eq!(refused("\"text\""), "line 1: a trace is an array, or an object with `traceEvents` or `resourceSpans`");
    assert_eq!(Trace::read(b"[\n\xff").unwrap_err().to_string(), "line 2: this is not UTF-8 text");
    let deep = "[".repeat(100_000);
    assert!(refused(&deep).starts_with("line 1: EOF"));
    assert_eq!(refused(&(deep + &"]".repeat(100_000))), "there are no spans in the trace");
}

#[test]
fn spans_of_opentelemetry_have_parents_and_links() {
    let span = |id: &str, parent: &str, name: &str, from: u64, to: u64, links: &[&str]| {
        json!({ "traceId": "t", "spanId": id, "parentSpanId": parent, "name": name, "startTimeUnixNano": (from * 1_000_000).to_string(),
                "endTimeUnixNano": (to * 1_000_000).to_string(), "links": links.iter().map(|id| json!({ "traceId": "t", "spanId": id })).collect::<Vec<_>>() })
    };
    let export =
        |spans: Value| json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "spans": spans }] }] }).to_string();
    let one = export(json!([
        span("1", "", "run", 0, 1_000, &[]),
        span("2", "1", "a", 0, 400, &[]),
        span("3", "1", "b", 400, 700, &[]),
    ]));
    let two = export(json!([span("4", "1", "c", 700, 1_000, &["2", "9"]), { "spanId": "5" }]));
    let trace = Trace::read(format!("{one}\n{two}\n").as_bytes()).unwrap();
    assert_eq!((trace.loose_links, trace.problems.len(), trace.problems[0].line), (1, 1, 2));
    let analysis = trace.analyse(64).unwrap();
    assert_eq!((analysis.steps, analysis.work, analysis.dag), (3, millis(1_000), millis(700)));
    assert_eq!(analysis.critical_steps, ["a", "c"]);
}
