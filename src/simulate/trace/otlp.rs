//! The JSON of OpenTelemetry's protocol: what its collector writes to files.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::events::{Scanner, without_place};
use super::{Span, Trace, TraceProblem};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    #[serde(default)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default)]
    spans: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtlpSpan {
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    name: String,
    start_time_unix_nano: Value,
    end_time_unix_nano: Value,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    span_id: String,
}

/// Reads every export of a text: one, or one a line. What is wrong with the first of those that cannot be read is told
/// beside the rest.
pub(super) fn read(mut text: Scanner<'_>) -> (Trace, Result<(), TraceProblem>) {
    let mut trace = Trace::default();
    let mut ids: HashMap<String, usize> = HashMap::new();
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
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        for value in scopes.flat_map(|scope| scope.spans) {
            match span(value) {
                Ok((span, other)) => {
                    ids.insert(other.span_id.clone(), trace.spans.len());
                    trace.spans.push(span);
                    read.push((line, other));
                }
                Err(reason) => trace.problems.push(TraceProblem { line, reason }),
            }
        }
    }
    for (index, (_, span)) in read.iter().enumerate() {
        trace.spans[index].parent = ids.get(&span.parent_span_id).copied();
        for link in &span.links {
            match ids.get(&link.span_id) {
                Some(&before) if trace.spans[before].end <= trace.spans[index].start => {
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
    Ok((Span { name: span.name.clone(), start, end, parent: None }, span))
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
