//! The JSON of OpenTelemetry's protocol: what its collector writes to files.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Deserializer, Value};

use super::events::{line, without_place};
use super::{Span, Trace, TraceError, TraceProblem};

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

/// Reads every export of a text: one, or one a line.
pub(super) fn read(text: &str) -> Result<Trace, TraceError> {
    let mut trace = Trace::default();
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut read: Vec<OtlpSpan> = Vec::new();
    let mut exports = Deserializer::from_str(text).into_iter::<Export>();
    loop {
        let at = line(text.as_bytes(), exports.byte_offset() + 1);
        let export = match exports.next() {
            None => break,
            Some(Err(error)) => {
                return Err(TraceError::Malformed { line: error.line(), reason: without_place(&error) });
            }
            Some(Ok(export)) => export,
        };
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        for value in scopes.flat_map(|scope| scope.spans) {
            match span(value) {
                Ok((span, other)) => {
                    ids.insert(other.span_id.clone(), trace.spans.len());
                    trace.spans.push(span);
                    read.push(other);
                }
                Err(reason) => trace.problems.push(TraceProblem { line: at, reason }),
            }
        }
    }
    for (index, span) in read.iter().enumerate() {
        trace.spans[index].parent = ids.get(&span.parent_span_id).copied().filter(|&parent| parent != index);
        for link in &span.links {
            match ids.get(&link.span_id) {
                Some(&before) if trace.spans[before].end <= trace.spans[index].start => {
                    trace.links.push((index, before));
                }
                _ => trace.loose_links += 1,
            }
        }
    }
    Ok(trace)
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
