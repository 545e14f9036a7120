//! The requests and answers of a MediaWiki: a search whose hits come with their introductions
//! (<https://www.mediawiki.org/wiki/API:Search>, <https://www.mediawiki.org/wiki/Extension:TextExtracts>).

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use url::Url;

use super::{Answer, Hit};
use crate::cut;
use crate::error::StepError;

#[derive(Deserialize)]
struct Found {
    query: Option<Query>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    pages: Vec<Page>,
}

#[derive(Deserialize)]
struct Page {
    title: String,
    /// Its place among the hits: pages come in the order of their ids.
    #[serde(default)]
    index: i64,
    #[serde(default)]
    fullurl: String,
    #[serde(default)]
    extract: String,
}

/// An error is answered with status 200.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    info: String,
}

pub(super) fn request(client: &Client, api: &Url, query: &str, limit: u64) -> RequestBuilder {
    let mut url = api.clone();
    url.query_pairs_mut().extend_pairs([
        ("action", "query"),
        ("format", "json"),
        ("formatversion", "2"),
        ("generator", "search"),
        ("gsrsearch", query),
        ("gsrlimit", &limit.to_string()),
        ("prop", "extracts|info"),
        ("exintro", "1"),
        ("explaintext", "1"),
        ("exlimit", "max"),
        ("inprop", "url"),
    ]);
    client.get(url)
}

pub(super) fn hits(answer: Answer, host: &str) -> Result<Vec<Hit>, StepError> {
    let wait_ms = answer.wait_ms;
    let found: Found = answer.read(host)?;
    if let Some(Refusal { code, info }) = found.error {
        let message = format!("{host} refuses the search: {code}: {}", cut::chars(&info, 300));
        let passes = matches!(code.as_str(), "maxlag" | "ratelimited" | "readonly") || code.starts_with("internal_api");
        let error = if passes { StepError::transient(message) } else { StepError::permanent(message) };
        return Err(StepError { retry_after_ms: wait_ms, ..error });
    }
    // A search that finds nothing is answered without a query.
    let mut pages = found.query.map(|query| query.pages).unwrap_or_default();
    pages.sort_by_key(|page| page.index);
    Ok(pages.into_iter().map(|page| Hit { title: page.title, url: page.fullurl, text: page.extract }).collect())
}
