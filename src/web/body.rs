//! What clients send, as much of it as is taken.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;

/// How long a client may take to send a request.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How something that was sent is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Yaml,
}

/// The whole body of a request, and how it is written. It may have so many bytes.
pub(super) async fn read(request: Request, most: usize) -> Result<(Kind, Vec<u8>), Problem> {
    let declared = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default().to_owned());
    let bytes = timeout(PATIENCE, read_all(request.into_body(), most)).await.map_err(|_| {
        Problem::new("serve.slow", format!("the request did not come within {} s", PATIENCE.as_secs()))
    })??;
    let essence =
        declared.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match essence.as_deref() {
        None if bytes.is_empty() => Ok((Kind::Json, bytes)),
        Some("application/json") => Ok((Kind::Json, bytes)),
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => Ok((Kind::Yaml, bytes)),
        _ => Err(Problem::new("serve.media_type", "the request does not say that it holds JSON or YAML")
            .help("say which it is: Content-Type: application/json, or application/yaml")),
    }
}

/// A request in JSON; one that holds nothing is the same as `{}`.
pub(super) async fn json<T: DeserializeOwned>(request: Request, most: usize) -> Result<T, Problem> {
    match read(request, most).await? {
        (Kind::Json, bytes) if bytes.is_empty() => parse(b"{}"),
        (Kind::Json, bytes) => parse(&bytes),
        (Kind::Yaml, _) => Err(Problem::new("serve.media_type", "only plans may be in YAML")
            .help("send this in JSON: Content-Type: application/json")),
    }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Its values would be taken for those of the fields, in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::new("usage.request", "the request is not understood: it is a list, and not an object"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::new("usage.request", format!("the request is not understood: {error}")))
}

pub(super) fn too_large(most: usize) -> Problem {
    Problem::new("serve.too_large", format!("the request is larger than {most} bytes"))
        .help("large texts belong into files that a step reads")
}

async fn read_all(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::new("usage.request", format!("the request broke off: {error}")))?;
        if bytes.len() + chunk.len() > most {
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
