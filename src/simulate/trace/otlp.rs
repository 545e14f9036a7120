//! The JSON of OpenTelemetry's protocol: what its collector writes to files.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::events::{Scanner, without_place};
use super::{Span, Trace, TraceProblem};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    #[serde(default, deserialize_with = "or_default")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default, deserialize_with = "or_default")]
    scope_spans: Vec<ScopeSpans>,
    /// The same before version 0.15 of the protocol.
    #[serde(default, deserialize_with = "or_default")]
    instrumentation_library_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default, deserialize_with = "or_default")]
    spans: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtlpSpan {
    #[serde(default, deserialize_with = "or_default")]
    trace_id: String,
    span_id: String,
    #[serde(default, deserialize_with = "or_default")]
    parent_span_id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    start_time_unix_nano: Value,
    end_time_unix_nano: Value,
    #[serde(default, deserialize_with = "or_default")]
    links: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    #[serde(default)]
    trace_id: Option<String>,
    span_id: String,
}

/// Nothing and null are the same in the JSON of protocol buffers.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// Reads every export of a text: one, or one a line. What is wrong with the first of those that cannot be read is told
/// beside the rest.
pub(super) fn read(mut text: Scanner<'_>) -> (Trace, Result<(), TraceProblem>) {
    let mut trace = Trace::default();
    // An id holds in its trace.
    let mut ids: HashMap<(String, String), usize> = HashMap::new();
    let mut read: Vec<(usize, OtlpSpan)> = Vec::new();
    let mut ended = Ok(());
    while text.peek().is_some() {
        let line = text.line();
        let export: Export = match text.value() {
            Ok(export) => export,
            Err(error) => {
                let reason = format!("{}: all spans of this export are left out", error.reason);
                trace.problems.push(TraceProblem { line, reason });
                ended = ended.and(Err(error));
                text.skip_to_object();
                continue;
            }
        };
        let scopes = export
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans.into_iter().chain(resource.instrumentation_library_spans));
        for value in scopes.flat_map(|scope| scope.spans) {
            match span(value) {
                Ok((span, other)) => {
                    let id = (other.trace_id.clone(), other.span_id.clone());
                    // Whoever is not sure that an export has arrived sends it again.
                    if ids.get(&id).is_some_and(|&same| trace.spans[same] == span) {
                        continue;
                    }
                    ids.insert(id, trace.spans.len());
                    trace.spans.push(span);
                    read.push((line, other));
                }
                Err(reason) => trace.problems.push(TraceProblem { line, reason }),
            }
        }
    }
    for (index, (_, span)) in read.iter().enumerate() {
        let find = |trace: &str, id: &str| ids.get(&(trace.to_owned(), id.to_owned())).copied();
        trace.spans[index].parent = find(&span.trace_id, &span.parent_span_id);
        for link in &span.links {
            match find(link.trace_id.as_ref().unwrap_or(&span.trace_id), &link.span_id) {
                Some(before) if trace.spans[before].end <= trace.spans[index].start => {
                    trace.links.push((index, before));
                }
                _ => trace.loose_links += 1,
            }
        }
    }
    for cut in cut_circles(&mut trace.spans) {
        let reason =
            format!("by its parents, span `{}` is inside of itself: it is read without one", trace.spans[cut].name);
        trace.problems.push(TraceProblem { line: read[cut].0, reason });
    }
    (trace, ended)
}

/// Takes the parent from one span of each that are inside of each other.
fn cut_circles(spans: &mut [Span]) -> Vec<usize> {
    let mut cut = Vec::new();
    // From which span on each was come to on the way to its outermost parent.
    let mut seen_from = vec![usize::MAX; spans.len()];
    for from in 0..spans.len() {
        let mut at = from;
        while seen_from[at] == usize::MAX {
            seen_from[at] = from;
            match spans[at].parent {
                Some(parent) if seen_from[parent] == from => {
                    spans[at].parent = None;
                    cut.push(at);
                }
                Some(parent) => at = parent,
                None => {}
            }
        }
    }
    cut
}

fn span(value: Value) -> Result<(Span, OtlpSpan), String> {
    let span: OtlpSpan = serde_json::from_value(value).map_err(|error| without_place(&error))?;
    let (start, end) = (nanos(&span.start_time_unix_nano)?, nanos(&span.end_time_unix_nano)?);
    if end < start {
        return Err(format!("span `{}` ends before it begins", span.name));
    }
    Ok((Span { name: span.name.clone(), start, end, parent: None, uses: Default::default() }, span))
}

/// Numbers of 64 bits are text in this format; some programs write them as numbers.
fn nanos(value: &Value) -> Result<i64, String> {
    let nanos = match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    let nanos: u64 = nanos.ok_or_else(|| format!("{value} is no time in nanoseconds"))?;
    i64::try_from(nanos).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use crate::simulate::trace::{Trace, TraceError};

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn otlp_span(id: &str, parent: &str, name: &str, from: u64, to: u64, links: &[&str]) -> Value {
        let nanos = |millis: u64| (millis * 1_000_000).to_string();
        json!({
            "traceId": "t", "spanId": id, "parentSpanId": parent, "name": name, "startTimeUnixNano": nanos(from),
            "endTimeUnixNano": nanos(to), "links": links.iter().map(|id| json!({ "traceId": "t", "spanId": id })).collect::<Vec<_>>(),
        })
    }

    fn otlp_export(spans: Value) -> String {
        json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "spans": spans }] }] }).to_string()
    }

    #[test]
    fn spans_of_opentelemetry_have_parents_and_links() {
        let one = otlp_export(json!([
            otlp_span("1", "", "run", 0, 1_000, &[]),
            otlp_span("2", "1", "a", 0, 400, &[]),
            otlp_span("3", "1", "b", 400, 700, &[]),
        ]));
        let two = otlp_export(json!([otlp_span("4", "1", "c", 700, 1_000, &["2", "9"]), { "spanId": "5" }]));
        let trace = Trace::read(format!("{one}\n{two}\n").as_bytes()).unwrap();
        assert_eq!((trace.loose_links, trace.problems.len(), trace.problems[0].line), (1, 1, 2));
        let analysis = trace.analyse(64).unwrap();
        assert_eq!((analysis.steps, analysis.work, analysis.dag), (3, millis(1_000), millis(700)));
        assert_eq!(analysis.critical_steps, ["a", "c"]);
    }

    #[test]
    fn ids_of_opentelemetry_hold_in_their_trace() {
        let of = |trace: &str, mut span: Value| {
            span["traceId"] = json!(trace);
            span
        };
        let mut across = otlp_span("2", "1", "d", 150, 200, &["2"]);
        across["links"][0]["traceId"] = json!("one");
        let mut here = otlp_span("3", "", "e", 200, 300, &["2"]);
        here["links"][0].as_object_mut().unwrap().remove("traceId");
        let spans = json!([
            of("one", otlp_span("1", "", "a", 0, 100, &[])),
            of("one", otlp_span("2", "1", "b", 50, 100, &[])),
            of("two", otlp_span("1", "", "c", 100, 200, &[])),
            of("two", across),
            of("two", here),
        ]);
        let trace = Trace::read(otlp_export(spans).as_bytes()).unwrap();
        let parents: Vec<Option<usize>> = trace.spans.iter().map(|span| span.parent).collect();
        assert_eq!((parents, trace.loose_links), (vec![None, Some(0), None, Some(2), None], 0));
        // A link that names no trace is one to its own.
        assert_eq!(trace.links, [(3, 1), (4, 3)]);
    }

    #[test]
    fn an_export_that_is_sent_again_says_nothing_new() {
        let one = otlp_export(json!([otlp_span("1", "", "a", 0, 100, &[])]));
        let two = otlp_export(json!([otlp_span("1", "", "a", 0, 100, &[]), otlp_span("2", "", "b", 100, 200, &["1"])]));
        let trace = Trace::read([one, two.clone(), two].join("\n").as_bytes()).unwrap();
        assert_eq!((trace.spans.len(), trace.links.len(), trace.problems.len()), (2, 1, 0));
        assert_eq!(trace.analyse(64).unwrap().work, millis(200));
    }

    #[test]
    fn what_is_left_out_or_null_in_json_of_opentelemetry_is_empty() {
        let mut span = otlp_span("1", "", "", 0, 100, &[]);
        span.as_object_mut().unwrap().remove("name");
        span["parentSpanId"] = Value::Null;
        span["links"] = Value::Null;
        let export = |spans: Value| {
            let scopes = [json!({ "scopeSpans": null }), json!({ "scopeSpans": [{ "spans": null }] })];
            // It was called so before version 0.15 of the protocol.
            let old = json!({ "instrumentationLibrarySpans": [{ "spans": spans }] });
            json!({ "resourceSpans": scopes.into_iter().chain([old]).collect::<Vec<_>>() }).to_string()
        };
        let text = [export(json!([span])), json!({ "resourceSpans": null }).to_string()].join("\n");
        let trace = Trace::read(text.as_bytes()).unwrap();
        assert_eq!((trace.spans.len(), &trace.problems), (1, &vec![]));
        assert_eq!(trace.analyse(64).unwrap().critical_steps, ["(unnamed)"]);
    }

    #[test]
    fn an_export_that_cannot_be_read_is_named_and_the_others_are_read() {
        let [one, two] = ["1", "2"].map(|id| otlp_export(json!([otlp_span(id, "", id, 0, 100, &[])])));
        let (_, half) = one.split_at(one.len() / 2);
        for bad in ["garbage", r#"{"resourceSpans": 7}"#, &one[..40], half] {
            let trace = Trace::read(format!("{one}\n{bad}\n{two}\n").as_bytes()).unwrap();
            assert_eq!((trace.spans.len(), trace.problems.len(), trace.problems[0].line), (2, 1, 2), "{bad}");
        }
        let cut = Trace::read(format!("{one}\n{}", &two[..two.len() - 30]).as_bytes()).unwrap();
        assert_eq!((cut.spans.len(), cut.problems[0].line), (1, 2));
        let nothing = Trace::read(&one.as_bytes()[..40]).unwrap_err();
        assert!(matches!(nothing, TraceError::Malformed { line: 1, .. }), "{nothing}");
    }

    #[test]
    fn a_span_that_is_inside_of_itself_is_taken_out() {
        let spans = json!([
            otlp_span("1", "2", "a", 0, 100, &[]),
            otlp_span("2", "1", "b", 100, 200, &[]),
            otlp_span("3", "3", "c", 200, 300, &[]),
            otlp_span("4", "2", "d", 300, 400, &[]),
        ]);
        let trace = Trace::read(otlp_export(spans).as_bytes()).unwrap();
        assert_eq!(trace.problems.len(), 2, "{:?}", trace.problems);
        let analysis = trace.analyse(64).unwrap();
        assert_eq!((analysis.took, analysis.work, analysis.idle), (millis(400), millis(400), Duration::ZERO));
    }

    #[test]
    fn what_outlives_the_span_around_it_is_not_waited_for_with_it() {
        let spans = json!([
            otlp_span("1", "", "request", 0, 100, &[]),
            otlp_span("2", "1", "log", 50, 300, &[]),
            otlp_span("3", "", "next", 100, 200, &["1"]),
            otlp_span("4", "1", "sync", 300, 350, &["2", "3"]),
        ]);
        let analysis = Trace::read(otlp_export(spans).as_bytes()).unwrap().analyse(64).unwrap();
        assert_eq!((analysis.took, analysis.dag), (millis(350), millis(350)));
        assert_eq!(analysis.critical_steps, ["request", "log", "sync"]);
    }

    #[test]
    fn no_answer_about_spans_inside_of_each_other_is_longer_than_the_run() {
        for seed in 0..2_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut spans: Vec<(Value, u64, u64)> = Vec::new();
            for number in 0..rng.usize(1..10) {
                let around = rng.choice(0..number).filter(|_| rng.u8(0..4) > 0);
                let (from, until) = around.map_or((0, 50), |around: usize| (spans[around].1, spans[around].2));
                // Some begin before the one around them, and some go on when it is over.
                let from = if rng.u8(0..9) > 0 { rng.u64(from..=until) } else { rng.u64(0..=from) };
                let to = if rng.u8(0..3) > 0 { rng.u64(from..=until.max(from)) } else { from + rng.u64(1..40) };
                let over: Vec<usize> = (0..number).filter(|&before| spans[before].2 <= from).collect();
                let links: Vec<String> =
                    (0..rng.usize(0..3)).filter_map(|_| rng.choice(&over)).map(usize::to_string).collect();
                let links: Vec<&str> = links.iter().map(String::as_str).collect();
                let parent = around.map(|around| around.to_string()).unwrap_or_default();
                let id = number.to_string();
                spans.push((otlp_span(&id, &parent, &id, from, to, &links), from, to));
            }
            let text = otlp_export(spans.into_iter().map(|span| span.0).collect());
            match Trace::read(text.as_bytes()).unwrap().analyse(64) {
                Ok(analysis) => assert!(analysis.dag <= analysis.took, "seed {seed}: {analysis:?} {text}"),
                Err(error) => assert!(matches!(error, TraceError::NoLinks { .. }), "seed {seed}: {error} {text}"),
            }
        }
    }
}
