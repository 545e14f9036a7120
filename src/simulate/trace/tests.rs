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
    let trace = read(json!([span("a", 1, 0, 400), span("b", 2, 100, 300), span("c", 1, 400, 600)])).unwrap();
    for (slots, best, worst) in [(64, 400, 600), (1, 800, 800)] {
        let error = trace.analyse(slots).unwrap_err();
        let TraceError::NoLinks { overlap, at_best, at_worst } = error else { panic!("{error}") };
        assert_eq!((overlap, at_best, at_worst), (["a".into(), "b".into()], millis(best), millis(worst)));
    }
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

fn flow(phase: &str, thread: u32, at: u64) -> Value {
    json!({ "ph": phase, "id": 1, "cat": "c", "name": "n", "bp": "e", "pid": 1, "tid": thread, "ts": at * 1_000 })
}

#[test]
fn an_id_stands_for_another_flow_once_one_is_finished() {
    let mut events = vec![span("a", 1, 0, 100), span("b", 2, 100, 200), span("c", 1, 200, 300), span("d", 2, 300, 400)];
    events.extend([flow("s", 1, 50), flow("f", 2, 150), flow("s", 1, 250), flow("f", 2, 350)]);
    let links = |trace: &Trace| (trace.links.clone(), trace.loose_links);
    let trace = read(events.clone().into()).unwrap();
    assert_eq!(links(&trace), (vec![(1, 0), (3, 2)], 0));
    assert_eq!(trace.analyse(64).unwrap().dag, millis(200));
    // Whatever the order in the file.
    events.reverse();
    assert_eq!(links(&read(events.into()).unwrap()), (vec![(2, 3), (0, 1)], 0));
    // An end and the next beginning at one instant; what has ended does not go on.
    let at_once = json!([
        span("a", 1, 0, 100),
        span("b", 2, 100, 250),
        span("c", 3, 100, 200),
        span("d", 2, 250, 300),
        span("e", 1, 300, 400),
        flow("s", 1, 50),
        flow("s", 3, 200),
        flow("f", 2, 200),
        flow("f", 2, 275),
        flow("f", 1, 350),
    ]);
    assert_eq!(links(&read(at_once).unwrap()), (vec![(1, 0), (3, 2)], 1));
    // The other way round, a beginning and its own end.
    let handed_over = json!([span("a", 1, 0, 100), span("b", 2, 100, 200), flow("f", 2, 100), flow("s", 1, 100)]);
    assert_eq!(links(&read(handed_over).unwrap()), (vec![(1, 0)], 0));
    // What a flow passes through is in its order, too; an end without a beginning says nothing.
    let chain = json!([
        span("a", 1, 0, 100),
        span("b", 2, 100, 200),
        span("c", 3, 200, 300),
        flow("f", 3, 250),
        flow("t", 2, 150),
        flow("s", 1, 50),
        flow("f", 1, 10),
    ]);
    assert_eq!(links(&read(chain).unwrap()), (vec![(1, 0), (2, 1)], 1));
}

#[test]
fn asynchronous_spans_are_told_apart_by_where_their_ids_hold() {
    let event = |phase: &str, pid: u32, id: &Value, at: u64| {
        let mut event = json!({ "ph": phase, "cat": "net", "name": "r", "pid": pid, "tid": 1, "ts": at * 1_000 });
        event.as_object_mut().unwrap().extend(id.as_object().unwrap().clone());
        event
    };
    let times = |one: (u32, Value), other: (u32, Value)| {
        let trace = read(json!([
            event("b", one.0, &one.1, 0),
            event("b", other.0, &other.1, 100),
            event("e", one.0, &one.1, 200),
            event("e", other.0, &other.1, 1_000),
        ]));
        let mut times: Vec<i64> = trace.unwrap().spans.iter().map(|span| (span.end - span.start) / 1_000_000).collect();
        times.sort_unstable();
        times
    };
    let [one, two] = ["0x1", "0x2"].map(|id| json!({ "id2": { "local": id } }));
    assert_eq!(times((1, one.clone()), (1, two)), [200, 900]);
    assert_eq!(times((1, one.clone()), (2, one)), [200, 900], "it holds in its process");
    let everywhere = [
        ["0x1", "0x2"].map(|id| json!({ "id2": { "global": id } })),
        [1, 2].map(|id| json!({ "id": id })),
        ["x", "y"].map(|scope| json!({ "id": 1, "scope": scope })),
        ["x", "y"].map(|cat| json!({ "id": 1, "cat": cat })),
        // Under one id, an end is one of what has its name.
        ["x", "y"].map(|name| json!({ "id": 1, "name": name })),
    ];
    for [one, two] in everywhere {
        assert_eq!(times((1, one.clone()), (1, two.clone())), [200, 900], "{one} {two}");
        assert_eq!(times((1, one.clone()), (2, one.clone())), [100, 1_000], "{one} holds everywhere");
    }
    let id = json!({ "id": 1 });
    let old = [event("S", 1, &id, 0), event("F", 2, &id, 100), event("e", 1, &json!({}), 100)];
    let trace = read(old.into_iter().collect()).unwrap();
    assert_eq!((trace.spans.len(), trace.problems.len()), (1, 1));
    assert_eq!(trace.problems[0].reason, "event 3 (`r`): `id` is missing");
}

#[test]
fn spans_can_say_themselves_that_a_flow_goes_on_in_them() {
    let bound = |mut event: Value, id: Value, phase: &str| {
        event["bind_id"] = id;
        for way in phase.split_whitespace() {
            event[format!("flow_{way}")] = json!(true);
        }
        event
    };
    let id = || json!("0x51");
    let mut begun = json!({ "ph": "B", "name": "d", "pid": 1, "tid": 4, "ts": 400_000 });
    begun = bound(begun, id(), "in");
    let events = json!([
        bound(span("c", 3, 250, 300), id(), "in"),
        bound(span("b", 2, 100, 200), id(), "in out"),
        bound(span("a", 1, 0, 100), id(), "out"),
        begun,
        { "ph": "E", "pid": 1, "tid": 4, "ts": 500_000 },
        bound(span("other", 5, 500, 600), json!(7), "in"),
        bound(span("neither", 5, 600, 700), id(), ""),
    ]);
    let trace = read(events).unwrap();
    let names = |&(after, before): &(usize, usize)| format!("{}<{}", trace.spans[after].name, trace.spans[before].name);
    let mut links: Vec<String> = trace.links.iter().map(names).collect();
    links.sort();
    // Whoever a flow comes into waits for the one that it went on from last, however many do.
    assert_eq!((links, trace.loose_links), (["b<a", "c<b", "d<b"].map(str::to_owned).into(), 1));
}

#[test]
fn what_is_said_at_the_end_of_a_span_counts_too() {
    let mark = |phase: &str, at: u64, args: Value| json!({ "ph": phase, "name": "n", "cat": "c", "id": 1, "pid": 1, "tid": 1, "ts": at * 1_000, "args": args });
    for (begin, end) in [("B", "E"), ("b", "e"), ("S", "F")] {
        let waits = |early: Value, late: Value| {
            let trace = read(json!([span("a", 2, 0, 100), mark(begin, 100, early), mark(end, 200, late)])).unwrap();
            (trace.links.len(), trace.waiting_for_nothing.len(), trace.problems.len())
        };
        assert_eq!(waits(json!({ "x": 1 }), json!({ "after": ["a"] })), (1, 0, 0), "{begin}");
        assert_eq!(waits(Value::Null, json!({ "after": ["a"] })), (1, 0, 0), "{begin}");
        assert_eq!(waits(json!({ "after": ["a"] }), Value::Null), (1, 0, 0), "{begin}");
        assert_eq!(waits(json!({ "after": ["a"] }), json!({ "x": 1 })), (1, 0, 0), "{begin}");
        assert_eq!(
            waits(json!({ "after": ["a"] }), json!({ "after": [] })),
            (0, 1, 0),
            "{begin}: the last word counts"
        );
    }
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
fn a_linked_span_around_linked_spans_is_a_frame() {
    let events = json!([
        span("call-1", 1, 0, 1_000),
        span("call-2", 1, 100, 900),
        after(span("sum", 1, 1_000, 1_500), &["call-1", "call-2"]),
    ]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.steps, analysis.dag, analysis.work), (2, millis(1_500), millis(1_500)));
    assert_eq!(analysis.critical_steps, ["call-1", "call-2", "call-1", "sum"]);

    let events = json!([
        span("prepare", 1, 0, 100),
        after(span("phase", 1, 100, 1_000), &["prepare"]),
        after(span("a", 1, 200, 500), &[]),
        after(span("b", 1, 500, 900), &[]),
        after(span("report", 2, 1_000, 1_100), &["phase"]),
    ]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.steps, analysis.work, analysis.unlinked), (4, millis(1_100), Duration::ZERO));
    // What it is linked to holds for its own first and last 100 ms, and for all in between.
    assert_eq!(analysis.critical_steps, ["prepare", "phase", "b", "phase", "report"]);
    assert_eq!(analysis.dag, millis(800));
    let savings: Vec<(String, Duration)> =
        analysis.what_if.savings.iter().map(|saving| (saving.change.to_string(), saving.saves)).collect();
    let phase: Vec<_> = savings.iter().filter(|(change, _)| change == "halve phase").collect();
    assert_eq!(phase, [&("halve phase".to_owned(), millis(100))], "all of its own time: {savings:?}");
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
            // What is inside of another needs no time of its own: then a chain may be shorter than its spans.
            let thread = if seed % 2 == 0 { number as u32 } else { rng.u32(1..4) };
            let mut event = span(&format!("s{number}"), thread, from, from + length);
            if !before.is_empty() || rng.bool() {
                event["args"] =
                    json!({ "after": before.iter().map(|before| format!("s{before}")).collect::<Vec<_>>() });
            }
            longest = if before.is_empty() || seed % 2 == 1 { longest } else { longest.max(chain) };
            events.push((event, from, from + length, chain));
        }
        let Ok(analysis) = analyse(events.into_iter().map(|event| event.0).collect()) else { continue };
        assert!(analysis.dag <= analysis.took, "seed {seed}: {analysis:?}");
        assert!(analysis.dag >= millis(longest), "seed {seed}: {analysis:?}");
    }
}

/// A later attempt, with the pause before it in milliseconds.
fn again(name: &str, attempt: u32, pause: u64, from: u64, to: u64) -> Value {
    let mut again = span(name, 1, from, to);
    again["args"] = json!({ "attempt": attempt, "paused_us": pause * 1_000, "after": [] });
    again
}

#[test]
fn attempts_at_one_thing_are_one_step_and_its_pauses_stay() {
    let events = |pause: u64| {
        json!([
            span("a", 1, 0, 100),
            again("a", 3, pause, 1_000, 1_200),
            // Files are in any order.
            again("a", 2, pause, 500, 600),
            after(span("b", 1, 1_200, 1_300), &["a"]),
            after(span("c", 2, 0, 700), &[]),
        ])
    };
    let analysis = analyse(events(400)).unwrap();
    assert_eq!(
        (analysis.basis, analysis.steps, analysis.critical_steps),
        (Basis::Links(1), 3, ["a", "b"].map(str::to_owned).into())
    );
    assert_eq!([analysis.took, analysis.dag, analysis.critical_path, analysis.bound], [1_300; 4].map(millis));
    assert_eq!([analysis.work, analysis.idle], [1_200, 0].map(millis), "it paused for longer than nothing was running");
    let half = &analysis.what_if.savings[0];
    assert_eq!((half.change.to_string(), half.saves), ("halve a".to_owned(), millis(200)), "no pause is halved");
    // In 400 ms nothing was running, and nobody says why.
    let analysis = analyse(events(0)).unwrap();
    assert_eq!([analysis.critical_path, analysis.idle], [700, 300].map(millis));
    // No pause is longer than there was time for it.
    assert_eq!(analyse(events(9_000)).unwrap().dag, millis(1_300));
    // Whatever else runs in them.
    let slots = read(events(400)).unwrap().analyse(1).unwrap();
    assert!(slots.dag >= millis(1_300) && slots.dag <= millis(1_700), "{slots:?}");
}

#[test]
fn attempts_between_which_something_else_had_to_happen_are_steps_of_their_own() {
    let mut second = again("a", 2, 100, 300, 400);
    second["args"]["after"] = json!(["x"]);
    let events = json!([span("a", 1, 0, 100), after(span("x", 1, 100, 300), &["a"]), second]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.steps, analysis.basis, analysis.dag), (3, Basis::Links(3), millis(400)));
    let aside = after(span("x", 2, 100, 900), &["a"]);
    let analysis = analyse(json!([span("a", 1, 0, 100), aside, again("a", 2, 100, 300, 400)])).unwrap();
    assert_eq!((analysis.steps, analysis.dag, analysis.took), (3, millis(900), millis(900)));
}

#[test]
fn what_another_run_did_was_there_from_the_start() {
    let mut old = ["a", "b"].map(|name| after(span(name, 1, 0, 400), &[]));
    old.iter_mut().for_each(|event| event["args"]["taken_over"] = json!(true));
    let [a, b] = old;
    let events = json!([
        a,
        b,
        again("b", 2, 700, 1_000, 1_100),
        after(span("c", 2, 1_000, 1_300), &["a"]),
        after(span("d", 1, 1_300, 1_400), &["a", "b", "c"]),
    ]);
    let trace = read(events).unwrap();
    let analysis = trace.analyse(64).unwrap();
    assert_eq!((analysis.steps, analysis.basis, trace.loose_links), (3, Basis::Links(2), 0));
    assert_eq!([analysis.took, analysis.dag, analysis.work, analysis.unlinked], [400, 400, 500, 0].map(millis));
}

#[test]
fn an_attempt_whose_first_is_not_in_the_trace_waits_for_nothing() {
    let again = |from: u64, to: u64| {
        let mut again = span("fetch", 1, from, to);
        again["args"] = json!({ "attempt": 2 });
        again
    };
    let events = json!([again(0, 100), again(100, 200), after(span("sum", 1, 200, 300), &["fetch"])]);
    let analysis = analyse(events).unwrap();
    assert_eq!((analysis.basis, analysis.dag), (Basis::Links(1), millis(300)));
}

#[test]
fn nothing_waited_for_what_began_when_it_was_over() {
    // At that instant the flow ends in the one, and begins in the other.
    let backwards = read(json!([span("a", 1, 0, 100), span("b", 2, 100, 200), flow("s", 2, 100), flow("f", 1, 100)]));
    let backwards = backwards.unwrap();
    assert_eq!((&backwards.links, backwards.loose_links), (&vec![], 1));
    // A loop whose trace begins in the middle: what it waited for has been cut away, and is there again later.
    let looped = json!([
        after(span("b", 1, 0, 100), &["a"]),
        after(span("a", 1, 100, 200), &["b"]),
        after(span("b", 1, 200, 300), &["a"]),
        after(span("a", 1, 300, 400), &["b"]),
    ]);
    let trace = read(looped).unwrap();
    assert_eq!((&trace.links, trace.loose_links), (&vec![(1, 0), (2, 1), (3, 2)], 1));
    assert_eq!(trace.analyse(64).unwrap().dag, millis(400));
    let own = read(json!([after(span("a", 1, 0, 100), &["a"]), after(span("b", 1, 100, 200), &["a"])])).unwrap();
    assert_eq!((&own.links, own.loose_links), (&vec![(1, 0)], 1));
}

#[test]
fn what_happened_at_one_instant_is_in_the_order_of_the_trace() {
    let events = json!([
        span("k", 1, 100, 100),
        after(span("x", 1, 100, 100), &["k"]),
        again("k", 2, 0, 100, 100),
        again("k", 3, 0, 100, 100),
        after(span("y", 1, 100, 200), &["k"]),
    ]);
    assert_eq!(read(events).unwrap().links, [(1, 0), (4, 3), (2, 0), (3, 2)]);
    // Nothing else of that name was there by then.
    let backwards = json!([after(span("x", 1, 100, 100), &["k"]), span("k", 1, 100, 100)]);
    assert_eq!(read(backwards).unwrap().links, [(0, 1)]);
    let own = ["c"; 2].map(|name| after(span(name, 1, 0, 100), &[name]));
    let [first, mut second] = own;
    second["ts"] = json!(50_000);
    let trace = read(json!([first, second])).unwrap();
    assert_eq!((&trace.links, trace.loose_links), (&vec![(1, 0)], 1), "no later one of its own name is meant");
}

#[test]
fn links_in_a_circle_are_named() {
    let error = analyse(json!([
        after(span("a", 1, 0, 300), &["c"]),
        after(span("b", 2, 100, 300), &["a"]),
        after(span("c", 3, 200, 300), &["b"]),
    ]));
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with("the links of the trace have a cycle: "), "{message}");
    assert_eq!(message.matches(" -> ").count(), 3, "{message}");
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
    assert_eq!(trace.problems[0].to_string(), "line 3: event 2 (`b`): a negative duration, `dur` -5");
}

#[test]
fn other_signals_may_be_in_one_file_with_the_spans() {
    let spans = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"spanId":"1","name":"a","startTimeUnixNano":"1","endTimeUnixNano":"9"}]}]}]}"#;
    let others = "{\"resourceLogs\":[{\"x\":1}]}\n{\"resourceMetrics\":[]}\n";
    let trace = Trace::read(format!("{others}{spans}\n{others}").as_bytes()).unwrap();
    assert_eq!((trace.spans.len(), trace.problems), (1, vec![]));
    let none = Trace::read(others.as_bytes()).unwrap_err().to_string();
    assert_eq!(none, "line 1: the object has neither `traceEvents` nor `resourceSpans`");
}

#[test]
fn of_a_trace_that_is_cut_off_the_beginning_is_read() {
    let whole = format!("[\n{},\n{},\n", span("a", 1, 0, 100), span("b", 1, 100, 200));
    for cut in ["{\"ph\": \"X\", \"na", "{\"ph\":", "tru", "{} {\"ph\", "] {
        let trace = Trace::read(format!("{whole}{cut}").as_bytes()).unwrap();
        assert_eq!((trace.spans.len(), trace.problems.len(), trace.problems[0].line), (2, 1, 4), "{cut}");
        let reason = &trace.problems[0].reason;
        assert!(reason.ends_with(": the trace is left out from here on"), "{reason}");
    }
    let within_a_character = [whole.as_bytes(), b"{\"name\": \"\xc3"].concat();
    assert_eq!(Trace::read(&within_a_character).unwrap().spans.len(), 2);
    // Some programs end the list so.
    let ended = Trace::read(format!("{whole}{{ }}]").as_bytes()).unwrap();
    assert_eq!((ended.spans.len(), ended.problems), (2, vec![]));
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
    assert_eq!(Trace::read(b"\x1f\x8b\x08\x00").unwrap_err(), TraceError::Gzipped);
    let deep = "[".repeat(100_000);
    assert!(refused(&deep).starts_with("line 1: EOF"));
    assert_eq!(refused(&(deep + &"]".repeat(100_000))), "there are no spans in the trace");
}

/// Not a measurement, only far from quadratic.
#[test]
fn what_names_very_many_that_began_later_is_not_linked_to_them() {
    let count = 100_000;
    let early = (0..count).map(|at| after(span(&format!("a{at}"), 1, at, at + 1), &["x"]));
    let late = (count..2 * count).map(|at| after(span("x", 1, at, at + 1), &[]));
    let trace = read(early.chain(late).collect()).unwrap();
    assert_eq!((trace.links.len(), trace.loose_links), (0, count as usize));
}

#[test]
fn the_longest_of_what_can_start_comes_first() {
    let events = |unit: u64| {
        let span = |name: &str, at: u64, took: u64| json!({ "ph": "X", "name": name, "pid": 1, "tid": 1, "ts": at * unit, "dur": took * unit });
        json!([span("a", 0, 400), span("b", 400, 400), span("long", 800, 800)])
    };
    for (unit, expected) in [(1_000, 800_000), (1, 800)] {
        let analysis = read(events(unit)).unwrap().analyse(2).unwrap();
        assert_eq!(analysis.dag, Duration::from_micros(expected));
    }
}
