//! The requests and answers of Tavily: `POST /search` (<https://docs.tavily.com/documentation/api-reference/endpoint/search>).

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Answer, Hit};
use crate::error::StepError;

#[derive(Deserialize)]
struct Found {
    results: Vec<Passage>,
}

#[derive(Deserialize)]
struct Passage {
    #[serde(default)]
    title: String,
    url: String,
    #[serde(default)]
    content: String,
}

pub(super) fn request(
    client: &Client,
    key: &str,
    base: &Url,
    query: &str,
    limit: u64,
) -> Result<RequestBuilder, StepError> {
    let url =
        base.join("search").map_err(|error| StepError::permanent(format!("{base} is no base of URLs: {error}")))?;
    let body = json!({ "query": query, "max_results": limit, "search_depth": "basic" });
    Ok(client.post(url).bearer_auth(key).header("content-type", "application/json").body(body.to_string()))
}

pub(super) fn hits(answer: Answer) -> Result<Vec<Hit>, StepError> {
    let found: Found = answer.read("Tavily")?;
    let hit = |result: Passage| Hit { title: result.title, url: result.url, text: result.content };
    Ok(found.results.into_iter().map(hit).collect())
}
