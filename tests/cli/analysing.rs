//! `analyse`: what a DAG would have made of a trace.

use serde_json::{Value, json};

use crate::support::{Place, sleep};

/// A complete event, in milliseconds.
fn span(name: &str, thread: u32, from: u64, to: u64) -> Value {
    json!({ "ph": "X", "name": name, "pid": 1, "tid": thread, "ts": from * 1_000, "dur": (to - from) * 1_000 })
}

fn after(mut event: Value, names: &[&str]) -> Value {
    event["args"] = json!({ "after": names });
    event
}

#[test]
fn a_sequential_run_is_told_what_a_dag_would_have_made_of_it() {
    let place = Place::new();
    let mut at = 0;
    let mut events: Vec<Value> = Vec::new();
    let mut one = |name: &str, took: u64, names: &[&str]| {
        events.push(after(span(name, 1, at, at + took), names));
        at += took;
    };
    let searches: Vec<String> = (1..=8).map(|n| format!("search-{n}")).collect();
    for (name, took) in searches.iter().zip([2_100, 2_600, 2_900, 3_200, 2_500, 2_400, 2_000, 4_400]) {
        one(name, took, &[]);
    }
    one("compare", 3_100, &searches.iter().map(String::as_str).collect::<Vec<_>>());
    one("report", 2_200, &["compare"]);
    place.file("trace.json", json!({ "traceEvents": events }).to_string());
    let ran = place.run(["analyse", "trace.json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("as a DAG this run would have taken 9.70s instead of 27.4s, 2.8x faster"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("search-8 > compare > report"), "{}", ran.stdout);
    assert!(ran.stdout.contains("halve compare: -1.55s"), "{}", ran.stdout);
    let row = place.run(["analyse", "trace.json", "--max-parallel", "4", "--json"]).last_event();
    assert_eq!((&row["took_ms"], &row["work_ms"], &row["basis"]), (&json!(27_400), &json!(27_400), &json!("links")));
    assert!(row["dag_ms"].as_f64() > Some(9_700.0) && row["dag_ms"].as_f64() < Some(27_400.0), "{row}");
}

#[test]
fn a_run_of_our_own_can_be_analysed() {
    let place = Place::new();
    place.plan(json!([sleep("a", 60, &[]), sleep("b", 60, &["a"]), sleep("c", 60, &[])]));
    let ran = place.run(["run", "plan.json", "--sequential", "--json"]);
    let run = ran.last_event()["run"].as_str().unwrap().to_owned();
    assert_eq!(place.run(["export", &run, "--format", "chrome", "-o", "trace.json"]).exit, 0);
    let row = place.run(["analyse", "trace.json", "--max-parallel", "2", "--json"]).last_event();
    assert_eq!((&row["steps"], &row["links"], &row["critical"]), (&json!(3), &json!(1), &json!(["a", "b"])), "{row}");
    assert!(row["took_ms"].as_f64() >= Some(180.0) && row["dag_ms"].as_f64() < row["took_ms"].as_f64(), "{row}");
    // On the one slot that it had there was nothing to win.
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert!(row["max_parallel"] == 1 && row["dag_ms"].as_f64() >= Some(180.0), "{row}");
}

#[test]
fn a_run_of_our_own_has_the_figures_of_the_run() {
    let place = Place::new();
    let mut flaky = sleep("flaky", 900, &[]);
    let retry = json!({ "max_attempts": 3, "base_ms": 150, "max_ms": 150 });
    flaky.as_object_mut().unwrap().extend([
        ("timeout_ms".to_owned(), json!(20)),
        ("on_failure".to_owned(), json!("continue")),
        ("retry".to_owned(), retry),
    ]);
    // However short the pauses are by chance, its timeouts take longer than the other step.
    place.plan(json!([sleep("slow", 5, &[]), flaky, sleep("end", 100, &["slow", "flaky"])]));
    let check = |arguments: &[&str]| {
        let end = place.run([arguments, &["--json"]].concat()).last_event();
        let run = end["run"].as_str().unwrap().to_owned();
        assert_eq!(place.run(["export", &run, "--format", "trace", "-o", "trace.json"]).exit, 0);
        let row = place.run(["analyse", "trace.json", "--json"]).last_event();
        for field in ["work_ms", "critical_ms", "bound_ms"] {
            let [run, trace] = [&end[field], &row[field]].map(|millis| millis.as_f64().unwrap());
            // The run tells whole milliseconds, and servers count in them.
            assert!((run - trace).abs() <= 4.0, "{field}: {end} {row}");
        }
        let savings = |row: &Value| -> Vec<Value> {
            let savings = row["faster"].as_array().unwrap().iter();
            savings
                .map(|saving| json!([saving["change"], saving["step"]]))
                .filter(|it| it[0] != "independent")
                .collect()
        };
        assert_eq!(savings(&end), savings(&row), "{end} {row}");
        (run, row)
    };
    let (run, row) = check(&["run", "plan.json"]);
    assert_eq!((&row["steps"], &row["critical"]), (&json!(3), &json!(["flaky", "end"])), "{row}");
    // What a fork took over is none of its own.
    let (_, row) = check(&["fork", &run, "--from", "end"]);
    assert_eq!((&row["steps"], &row["critical"]), (&json!(1), &json!(["end"])), "{row}");
    assert_eq!((&row["unlinked_ms"], &row["loose_links"]), (&json!(0), &json!(0)), "{row}");
}

#[test]
fn a_run_of_our_own_keeps_its_slots_and_its_pools() {
    let place = Place::new();
    let step = |id: &str| json!({ "id": id, "tool": "sleep", "args": { "ms": 80 }, "uses": { "gpu": 1 } });
    let steps = json!([step("a"), step("b"), step("c"), sleep("d", 40, &[]), sleep("e", 40, &[])]);
    place.file("plan.json", json!({ "steps": steps, "pools": { "gpu": 2 } }).to_string());
    let end = place.run(["run", "plan.json", "--pool", "sleep=1", "--max-parallel", "4", "--json"]).last_event();
    assert_eq!(place.run(["export", end["run"].as_str().unwrap(), "--format", "trace", "-o", "trace.json"]).exit, 0);
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!((&row["max_parallel"], &row["basis"]), (&json!(4), &json!("links")), "{row}");
    assert!(row["dag_ms"].as_f64() >= Some(160.0), "{row}");
    let saving = &row["faster"][0];
    assert_eq!(
        [&saving["change"], &saving["pool"], &saving["to"]],
        [&json!("pool"), &json!("gpu"), &json!(3)],
        "{row}"
    );
    let narrow = place.run(["analyse", "trace.json", "--max-parallel", "1", "--json"]).last_event();
    assert!(narrow["max_parallel"] == 1 && narrow["dag_ms"].as_f64() >= Some(320.0), "{narrow}");
}

#[test]
fn what_took_microseconds_is_told_to_programs_too() {
    let place = Place::new();
    let span = |name: &str, from: u64| json!({ "ph": "X", "name": name, "pid": 1, "tid": 1, "ts": from, "dur": 400 });
    place.file("trace.json", json!([span("a", 0), after(span("b", 400), &["a"])]).to_string());
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!([&row["took_ms"], &row["dag_ms"], &row["critical_ms"], &row["work_ms"]], [&json!(0.8); 4], "{row}");
    assert_eq!(row["faster"][0]["saves_ms"], json!(0.2), "{row}");
}

#[test]
fn a_run_of_our_own_in_which_nothing_waited_can_be_analysed() {
    let place = Place::new();
    place.plan(json!([sleep("a", 60, &[]), sleep("b", 60, &[])]));
    let run = place.run(["run", "plan.json", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    assert_eq!(place.run(["export", &run, "--format", "trace", "-o", "trace.json"]).exit, 0);
    let ran = place.run(["analyse", "trace.json", "--json"]);
    let row = ran.last_event();
    assert_eq!((ran.exit, &row["basis"], &row["links"]), (0, &json!("links"), &json!(0)), "{row}");
}

#[test]
fn work_that_no_link_says_anything_of_makes_no_promise() {
    let place = Place::new();
    let events = json!([span("a", 1, 0, 100), after(span("b", 1, 100, 200), &["a"]), span("c", 1, 200, 800)]);
    place.file("trace.json", events.to_string());
    let ran = place.run(["analyse", "trace.json"]);
    assert!(ran.stdout.contains("would have taken 600ms at best, instead of 800ms"), "{}", ran.stdout);
    assert!(ran.stdout.contains("no link says anything of 600ms of the work"), "{}", ran.stdout);
}

#[test]
fn no_more_does_what_surrounds_a_little_linked_work() {
    let place = Place::new();
    let iteration = |from: u64| {
        let [forward, backward] = ["forward", "backward"].map(|name| format!("{name}-{from}"));
        let back = after(span(&backward, 1, from + 3_000, from + 3_010), &[&forward]);
        [span("iteration", 1, from, from + 5_000), span(&forward, 1, from + 1_000, from + 1_010), back]
    };
    place.file("trace.json", json!([0, 5_000, 10_000].map(iteration).concat()).to_string());
    let ran = place.run(["analyse", "trace.json"]);
    assert!(ran.stdout.contains("at best, instead of 15.0s"), "{}", ran.stdout);
    assert!(ran.stdout.contains("no link says anything of 14.9s of the work"), "{}", ran.stdout);
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!([&row["basis"], &row["unlinked_ms"]], [&json!("at_best"), &json!(14_940)], "{row}");
    // What a link of theirs says holds for all that they did.
    let mut linked: Vec<Value> = [0, 5_000].map(iteration).concat();
    linked[3] = after(linked[3].clone(), &["iteration"]);
    place.file("trace.json", json!(linked).to_string());
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!([&row["basis"], &row["unlinked_ms"]], [&json!("links"), &json!(0)], "{row}");
}

/// Four steps one after the other, of which the last needs the others, and something around them.
fn worker(around: &[Value]) -> Value {
    let [a, b, c] = [span("a", 2, 0, 2_000), span("b", 2, 2_000, 5_000), span("c", 2, 5_000, 9_000)];
    let all = [a, b, c, after(span("report", 2, 9_000, 10_000), &["a", "b", "c"])];
    around.iter().chain(&all).cloned().collect()
}

#[test]
fn who_waits_on_another_thread_for_everything_is_no_step() {
    let place = Place::new();
    let analysed = |around: &[Value]| {
        place.file("trace.json", worker(around).to_string());
        let [told, row] =
            [&["analyse", "trace.json"][..], &["analyse", "trace.json", "--json"]].map(|it| place.run(it));
        (told.stdout, row.last_event())
    };
    let figures = |row: &Value| ["steps", "work_ms", "dag_ms", "took_ms"].map(|field| row[field].as_f64().unwrap());
    let (told, row) = analysed(&[]);
    assert!(told.contains("would have taken 5.00s instead of 10.0s, 2.0x faster"), "{told}");
    let alone = figures(&row);
    assert_eq!(alone, [4.0, 10_000.0, 5_000.0, 10_000.0], "{row}");
    let main = || span("main", 1, 0, 10_000);
    // With what else was around them, on that thread and on others, whoever began or ended first.
    let arounds = [
        vec![main()],
        vec![main(), span("wait", 1, 0, 10_000)],
        vec![span("lane", 3, 0, 10_000), main(), span("wait", 1, 0, 10_000)],
        vec![main(), span("thread", 2, 0, 10_000)],
    ];
    for around in arounds {
        let (told, row) = analysed(&around);
        assert_eq!((figures(&row), &row["basis"]), (alone, &json!("at_best")), "{row}");
        let name = around[0]["name"].as_str().unwrap();
        assert_eq!(row["around"], name, "{row}");
        assert!(told.contains("would have taken 5.00s at best, instead of 10.0s"), "{told}");
        assert!(told.contains(&format!("`{name}` around all of them is taken to have waited for them")), "{told}");
    }
    // What it did itself before stays before.
    let late = |mut event: Value| {
        event["ts"] = json!(event["ts"].as_u64().unwrap() + 1_000_000);
        event
    };
    let moved = worker(&[]).as_array().unwrap().iter().cloned().map(late).collect::<Vec<_>>();
    let all: Vec<Value> = [span("lane", 3, 500, 11_500), span("main", 1, 0, 11_000)].into_iter().chain(moved).collect();
    place.file("trace.json", json!(all).to_string());
    let row = place.run(["analyse", "trace.json", "--json"]).last_event();
    assert_eq!(figures(&row), [4.0, 11_500.0, 6_500.0, 11_500.0], "{row}");
    // Who had far more to do than what is linked did not only wait.
    let (told, row) = analysed(&[span("long", 1, 0, 30_000)]);
    assert_eq!(figures(&row), [5.0, 40_000.0, 30_000.0, 30_000.0], "{row}");
    assert!(
        told.contains("30.0s at best, and it took 30.0s: there is nothing to win, unless some of it only"),
        "{told}"
    );
}

#[test]
fn one_name_in_after_need_not_be_a_list() {
    let place = Place::new();
    let analysed = |after: Value| {
        let mut second = span("b", 1, 100, 200);
        second["args"] = json!({ "after": after });
        place.file("trace.json", json!([span("a", 1, 0, 100), second]).to_string());
        let row = place.run(["analyse", "trace.json", "--json"]).last_event();
        (row["links"].clone(), row["loose_links"].clone())
    };
    assert_eq!(analysed(json!("a")), (json!(1), json!(0)));
    assert_eq!(analysed(json!("lost")), (json!(0), json!(1)));
    assert_eq!(analysed(json!(["a"])), (json!(1), json!(0)));
}

#[test]
fn a_bad_event_is_found_where_the_whole_trace_is_one_line() {
    let place = Place::new();
    let bad = [
        json!(17),
        json!({ "ph": "X" }),
        json!({ "ph": "X", "name": "q", "ts": "abc", "dur": 1 }),
        json!({ "ph": "X", "name": "far", "ts": 1e300, "dur": 1 }),
        json!({ "ph": 5 }),
        json!({ "ph": "E", "ts": 7.5 }),
    ];
    let all: Vec<Value> = [span("a", 1, 0, 400)].into_iter().chain(bad).collect();
    place.file("trace.json", json!(all).to_string());
    let ran = place.run(["analyse", "trace.json"]);
    let expected = [
        "event 2: this is no object",
        "event 3: `ts` is missing",
        "event 4 (`q`): `ts` should be a number, but is \"abc\"",
        "event 5 (`far`): `ts` is no time: 1e300",
        "event 6: `ph`, its kind, should be a text",
        "an end (`E`) at `ts` 7.5 of what never began there",
    ];
    for line in expected {
        assert!(ran.stderr.contains(&format!("  line 1: {line}\n")), "{line}: {}", ran.stderr);
    }
}

#[test]
fn time_in_which_nothing_was_running_is_not_won() {
    let place = Place::new();
    let events = json!([span("a", 1, 0, 100), after(span("b", 1, 900, 1_000), &["a"])]);
    place.file("trace.json", events.to_string());
    let ran = place.run(["analyse", "trace.json"]);
    assert!(ran.stdout.contains("taken 1.00s, and it took 1.00s: there is nothing to win"), "{}", ran.stdout);
    assert!(ran.stdout.contains("for 800ms of the 1.00s nothing was running"), "{}", ran.stdout);
}

#[test]
fn without_links_the_answer_says_what_it_rests_on() {
    let place = Place::new();
    place.file("trace.json", json!([span("a", 1, 0, 400), span("b", 1, 400, 700)]).to_string());
    let ran = place.run(["analyse", "trace.json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.stdout.contains("would have taken 400ms at best, instead of 700ms"), "{}", ran.stdout);
    assert!(ran.stdout.contains("no links: the answer holds if none needs another"), "{}", ran.stdout);
}

#[test]
fn links_that_say_nothing_are_told_where_there_are_no_others() {
    let place = Place::new();
    let told = |other: Value| {
        place.file("trace.json", json!([span("a", 1, 0, 400), after(other, &["lost"])]).to_string());
        place.run(["analyse", "trace.json"])
    };
    let loose = "1 link to what is not in the trace or was not over were left out";
    let (in_order, at_once) = (told(span("b", 1, 400, 700)), told(span("b", 2, 300, 700)));
    assert!(in_order.exit == 0 && in_order.stdout.contains(loose), "{in_order:?}");
    assert!(at_once.stderr.contains("error[trace.no_links]") && at_once.stderr.contains(loose), "{at_once:?}");
}

#[test]
fn what_says_nothing_is_refused_with_the_reason() {
    let place = Place::new();
    let refused = |content: &str| {
        place.file("trace.json", content);
        let ran = place.run(["analyse", "trace.json"]);
        assert_eq!((ran.exit, ran.stdout.as_str()), (3, ""), "{ran:?}");
        ran.stderr
    };
    let empty = refused("[]");
    assert!(empty.contains("error[trace.empty]: there are no spans in the trace"), "{empty}");
    let broken = refused("[\n{\"ph\": \"X\"\n");
    assert!(broken.contains("error[trace.malformed]: line 3: EOF while parsing an object"), "{broken}");
    let overlap = refused(&json!([span("a", 1, 0, 400), span("b", 2, 300, 700)]).to_string());
    assert!(
        overlap.contains("error[trace.no_links]") && overlap.contains("`a` and `b` ran at the same time"),
        "{overlap}"
    );
    assert!(overlap.contains("400ms as a DAG"), "{overlap}");
    let cycle =
        refused(&json!([after(span("a", 1, 0, 400), &["b"]), after(span("b", 2, 300, 700), &["a"])]).to_string());
    assert!(cycle.contains("error[trace.cycle]: the links of the trace have a cycle: "), "{cycle}");
    assert_eq!(place.run(["analyse", "missing.json"]).exit, 2);
    assert_eq!(place.run(["analyse", "trace.json", "--max-parallel", "0"]).exit, 2);
}

#[test]
fn a_bad_event_is_named_and_the_others_are_analysed() {
    let place = Place::new();
    let good = span("a", 1, 0, 400);
    let bad = json!({ "ph": "X", "name": "b", "ts": 0, "dur": -1, "pid": 1, "tid": 1 });
    place.file("trace.json", format!("[\n{good},\n{bad}\n]"));
    let ran = place.run(["analyse", "trace.json"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stdout.contains("400ms"), "{}", ran.stdout);
    assert!(ran.stderr.contains("line 3: event 2 (`b`): a negative duration, `dur` -1"), "{}", ran.stderr);
    let piped = place.run_with_input(["analyse", "-", "--json"], &json!([good]).to_string());
    assert_eq!((piped.exit, &piped.last_event()["steps"]), (0, &json!(1)));
}

#[test]
fn of_a_trace_that_is_cut_off_the_beginning_is_analysed() {
    let place = Place::new();
    let good = after(span("a", 1, 0, 400), &[]);
    place.file("trace.json", format!("[\n{good},\n{{\"ph\": \"X\", \"na"));
    let ran = place.run(["analyse", "trace.json"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stdout.contains("would have taken 400ms"), "{}", ran.stdout);
    assert!(ran.stderr.contains("error[trace.incomplete]: 1 part of the trace could not be used"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 3: EOF while parsing a string: the trace is left out from here on"), "{ran:?}");
}

#[test]
fn a_compressed_trace_is_told_how_to_be_unpacked() {
    let place = Place::new();
    place.file("trace.json.gz", [0x1f, 0x8b, 8, 0]);
    let ran = place.run(["analyse", "trace.json.gz"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stderr.contains("error[trace.malformed]: the trace is gzipped"), "{}", ran.stderr);
    assert!(ran.stderr.contains("gunzip -c FILE | plandag analyse -"), "{}", ran.stderr);
}

/// Spans of centuries, as broken instrumentation writes them, take long and overflow nothing.
#[test]
fn what_took_centuries_is_told() {
    let place = Place::new();
    let now = 1_730_000_000_000_000_000_u64;
    let span = |n: u64, start: u64, links: Value| {
        json!({ "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": format!("{:016x}", n + 1), "name": format!("s{n}"),
            "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (now + n).to_string(), "links": links })
    };
    let link = json!([{ "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": format!("{:016x}", 1) }]);
    let spans = (0..7).map(|n| span(n, 0, json!([]))).chain([span(7, now, link)]).collect::<Vec<_>>();
    place.file("otlp.json", json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string());
    let far = json!([
        { "ph": "X", "name": "a", "ts": -4e15, "dur": 1, "pid": 1, "tid": 1 },
        { "ph": "X", "name": "b", "ts": 4e15, "dur": 4e15, "pid": 1, "tid": 1 }
    ]);
    place.file("chrome.json", far.to_string());
    for name in ["otlp.json", "chrome.json"] {
        let ran = place.run(["analyse", name]);
        assert!([0, 3].contains(&ran.exit) && !ran.stderr.contains("bug"), "{name}: {ran:?}");
    }
}
