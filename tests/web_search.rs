//! `web_search` against a server on this machine: the wire format of Tavily and of MediaWiki, and what goes wrong.
//! Neither service itself is asked.

#![cfg(feature = "web-search")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use plandag::tools::WebSearch;
use plandag::{Plan, Retry, Runner, Step, StepContext, StepError, StepErrorKind, Tool as _, ToolOutput};
use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

const KEY: &str = "tvly-canary-0123456789-0123456789";

fn tavily(server: &MockServer) -> WebSearch {
    WebSearch::tavily(KEY, server.uri().parse().unwrap())
}

fn wiki(server: &MockServer) -> WebSearch {
    WebSearch::mediawiki(format!("{}/w/api.php", server.uri()).parse().unwrap())
}

async fn search(search: &WebSearch, args: Value) -> Result<Value, StepError> {
    match search.call(StepContext::new(args)).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

/// What comes of a search that is answered so.
async fn answered(response: ResponseTemplate) -> Result<Value, StepError> {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(response).mount(&server).await;
    search(&tavily(&server), json!({ "query": "otters" })).await
}

#[tokio::test]
async fn tavily_is_asked_in_its_own_words() {
    let server = MockServer::start().await;
    let found = json!({ "query": "otters", "answer": null, "results": [
        { "title": "Otters", "url": "https://a.org/otters", "content": "They swim.", "score": 0.9, "raw_content": null },
        { "title": "More", "url": "https://a.org/more", "content": "x".repeat(10_000) }] });
    Mock::given(method("POST"))
        .and(path("/search"))
        .and(header("authorization", format!("Bearer {KEY}")))
        .and(body_json(json!({ "query": "otters", "max_results": 2, "search_depth": "basic" })))
        .respond_with(ResponseTemplate::new(200).set_body_json(found))
        .expect(1)
        .mount(&server)
        .await;
    let found = search(&tavily(&server), json!({ "query": " otters ", "limit": 2 })).await.unwrap();
    assert_eq!((&found["query"], &found["engine"]), (&json!("otters"), &json!("tavily")));
    assert_eq!(found["hits"][0], json!({ "title": "Otters", "url": "https://a.org/otters", "text": "They swim." }));
    assert_eq!(found["hits"][1]["text"], json!("x".repeat(4096) + "..."), "a long text is cut");
}

#[tokio::test]
async fn a_wiki_is_asked_in_its_own_words() {
    let server = MockServer::start().await;
    // Pages come in the order of their ids, the best hit has index 1.
    let found = json!({ "batchcomplete": true, "query": { "pages": [
        { "pageid": 1, "title": "Second", "index": 2, "fullurl": "https://w.org/Second", "extract": "b" },
        { "pageid": 2, "title": "First", "index": 1, "fullurl": "https://w.org/First", "extract": "a" },
        { "pageid": 3, "title": "Third", "index": 3, "fullurl": "https://w.org/Third" }] } });
    Mock::given(method("GET"))
        .and(path("/w/api.php"))
        .and(query_param("action", "query"))
        .and(query_param("generator", "search"))
        .and(query_param("gsrsearch", "sea & otters"))
        .and(query_param("gsrlimit", "5"))
        .and(query_param("formatversion", "2"))
        .respond_with(ResponseTemplate::new(200).set_body_json(found))
        .expect(1)
        .mount(&server)
        .await;
    let found = search(&wiki(&server), json!({ "query": "sea & otters" })).await.unwrap();
    let titles: Vec<&str> =
        found["hits"].as_array().unwrap().iter().map(|hit| hit["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["First", "Second", "Third"]);
    assert_eq!(found["hits"][0], json!({ "title": "First", "url": "https://w.org/First", "text": "a" }));
    assert_eq!(found["engine"], "127.0.0.1");
}

#[tokio::test]
async fn a_wiki_may_find_nothing_or_refuse() {
    let server = MockServer::start().await;
    let nothing = json!({ "batchcomplete": true });
    Mock::given(query_param("gsrsearch", "none"))
        .respond_with(ResponseTemplate::new(200).set_body_json(nothing))
        .mount(&server)
        .await;
    let error = |code: &str| json!({ "error": { "code": code, "info": "a reason" } });
    let busy = ResponseTemplate::new(200).set_body_json(error("maxlag")).insert_header("retry-after", "5");
    Mock::given(query_param("gsrsearch", "busy")).respond_with(busy).mount(&server).await;
    let bad = ResponseTemplate::new(200).set_body_json(error("search-error"));
    Mock::given(query_param("gsrsearch", "bad")).respond_with(bad).mount(&server).await;
    let wiki = wiki(&server);
    assert_eq!(search(&wiki, json!({ "query": "none" })).await.unwrap()["hits"], json!([]));
    let busy = search(&wiki, json!({ "query": "busy" })).await.unwrap_err();
    assert_eq!((busy.kind, busy.retry_after_ms), (StepErrorKind::Transient, Some(5_000)), "{busy}");
    let bad = search(&wiki, json!({ "query": "bad" })).await.unwrap_err();
    assert_eq!(bad.kind, StepErrorKind::Permanent);
    assert!(bad.message.contains("search-error: a reason"), "{bad}");
}

#[tokio::test]
async fn what_goes_wrong_says_what_to_do_and_never_the_key() {
    let with_key = json!({ "detail": { "error": format!("no such key: {KEY}") } });
    let huge = "x".repeat(5 * 1024 * 1024);
    let cases = [
        (ResponseTemplate::new(401).set_body_json(&with_key), StepErrorKind::Permanent, "TAVILY_API_KEY"),
        (ResponseTemplate::new(432).set_body_json(&with_key), StepErrorKind::Permanent, "used up"),
        (ResponseTemplate::new(400).set_body_json(&with_key), StepErrorKind::Permanent, "no such key: [key]"),
        (ResponseTemplate::new(400).set_body_string(KEY.repeat(300)), StepErrorKind::Permanent, "[key][key][key]"),
        (ResponseTemplate::new(503).set_body_string("later"), StepErrorKind::Transient, "503"),
        (ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:9/"), StepErrorKind::Permanent, "302"),
        (ResponseTemplate::new(200).set_body_string("<html>hello"), StepErrorKind::BadOutput, "not JSON: <html>"),
        (ResponseTemplate::new(200).set_body_json(json!({ "hits": [] })), StepErrorKind::BadOutput, "no search result"),
        (ResponseTemplate::new(200).set_body_string(huge), StepErrorKind::BadOutput, "larger than"),
    ];
    for (response, kind, words) in cases {
        let error = answered(response).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let server = MockServer::start().await;
    assert!(!format!("{:?}", tavily(&server)).contains("canary"));
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(5));
    Mock::given(method("POST")).respond_with(slow).mount(&server).await;
    let late = tavily(&server).timeout(Duration::from_millis(100));
    assert_eq!(search(&late, json!({ "query": "otters" })).await.unwrap_err().kind, StepErrorKind::Timeout);
}

#[tokio::test]
async fn arguments_are_checked_before_anybody_is_asked() {
    let server = MockServer::start().await;
    let bad = [
        json!({}),
        json!({ "query": " " }),
        json!({ "query": "x".repeat(1_001) }),
        json!({ "query": "x", "limit": 21 }),
    ];
    for args in bad {
        let error = search(&tavily(&server), args).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::BadInput, "{error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

/// A server that asks to be left alone is, by all steps, and they all have their results in the end.
#[tokio::test]
async fn no_search_comes_before_the_server_wants_one() {
    let server = MockServer::start().await;
    let found = json!({ "results": [{ "url": "https://a.org" }] });
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "1");
    Mock::given(method("POST")).respond_with(busy).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(found)).mount(&server).await;
    let plan: Plan = (0..20).map(|n| Step::new(format!("s{n}"), "web_search").args(json!({ "query": "x" }))).collect();
    let runner = Runner::new(plan).tool("web_search", tavily(&server)).max_parallel(1).retry(Retry::attempts(3));
    let started = Instant::now();
    let report = runner.run("test").await.unwrap();
    assert!(report.succeeded());
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(server.received_requests().await.unwrap().len(), 21, "one call more than there are steps");
}
