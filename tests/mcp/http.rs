//! Servers that are reached by HTTP. The wire format only: there is no server of somebody else behind it.

use std::time::{Duration, SystemTime};

use plandag::tools::mcp::{McpConfig, McpServers};
use plandag::{StepContext, StepErrorKind, Tool as _, ToolOutput};
use serde_json::{Value, json};
use wiremock::matchers::{header, method};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// Answers as a server does that has one tool.
fn answer(request: &Request) -> ResponseTemplate {
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "mock", "version": "1" },
        }),
        Some("tools/list") => json!({ "tools": [
            { "name": "say", "inputSchema": { "type": "object" } },
            { "name": "say_again", "inputSchema": { "type": "object" }, "annotations": { "idempotentHint": true } },
            { "name": "look", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true } },
        ] }),
        Some("tools/call") => match message["params"]["arguments"]["text"].as_str() {
            Some(status) if status.parse::<u16>().is_ok() => {
                return ResponseTemplate::new(status.parse::<u16>().unwrap());
            }
            Some("busy") => return ResponseTemplate::new(429).insert_header("retry-after", "7"),
            Some("busy for a minute") => {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
                return ResponseTemplate::new(503).insert_header("retry-after", date);
            }
            Some("secret") => json!({ "content": [{ "type": "text", "text": "it was canary-5ecret" }] }),
            _ => json!({ "content": [{ "type": "text", "text": "said" }] }),
        },
        _ => return ResponseTemplate::new(202),
    };
    let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    ResponseTemplate::new(200).set_body_raw(body.to_string(), "application/json")
}

async fn start(server: &MockServer) -> Result<McpServers, String> {
    let entry = json!({ "type": "http", "url": server.uri(), "headers": { "Authorization": "Bearer canary-5ecret" } });
    let config = McpConfig::parse(&json!({ "mcpServers": { "web": entry } }).to_string()).unwrap();
    McpServers::start(config).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_on_the_web_has_tools() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(header("authorization", "Bearer canary-5ecret"))
        .respond_with(answer)
        .mount(&server)
        .await;
    let servers = start(&server).await.unwrap();
    let (name, tool) = servers.tools().remove(0);
    assert_eq!(name, "web.say");
    let call = |text: &str| tool.call(StepContext::new(json!({ "text": text })));
    assert_eq!(call("hello").await.unwrap(), ToolOutput::Value(json!({ "text": "said" })));
    assert_eq!(call("secret").await.unwrap(), ToolOutput::Value(json!({ "text": "it was [redacted]" })));
    let busy = call("busy").await.unwrap_err();
    assert_eq!((busy.kind, busy.retry_after_ms), (StepErrorKind::Transient, Some(7_000)), "{busy}");
    let busy = call("busy for a minute").await.unwrap_err();
    assert!(busy.retry_after_ms.is_some_and(|pause| (30_000..=60_000).contains(&pause)), "{busy:?}");
    servers.close().await;
}

/// Only some statuses say that a call was not taken up. Of all others nobody knows whether it took effect: a gateway
/// answers with the same ones whatever came of what it had handed on.
#[tokio::test]
async fn what_acts_is_not_called_again_after_a_status_that_leaves_open_whether_it_acted() {
    use StepErrorKind::{Interrupted, Permanent, Transient};

    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let entry = json!({ "url": server.uri(), "trust": true });
    let config = McpConfig::parse(&json!({ "mcpServers": { "web": entry } }).to_string()).unwrap();
    let servers = McpServers::start(config).await.unwrap();
    let call = async |name: &str, text: &str| {
        let (_, tool) = servers.tools().into_iter().find(|(known, _)| known == name).unwrap();
        tool.call(StepContext::new(json!({ "text": text }))).await.unwrap_err()
    };
    for (text, acting, reading) in [
        ("500", Interrupted, Transient),
        ("502", Interrupted, Transient),
        ("503", Interrupted, Transient),
        ("504", Interrupted, Transient),
        ("408", Interrupted, Transient),
        ("302", Interrupted, Permanent),
        ("busy", Transient, Transient),
        ("busy for a minute", Transient, Transient),
        ("425", Transient, Transient),
        ("400", Permanent, Permanent),
        ("401", Permanent, Permanent),
        ("403", Permanent, Permanent),
        ("422", Permanent, Permanent),
    ] {
        for (tool, kind) in [("web.say", acting), ("web.say_again", reading), ("web.look", reading)] {
            let error = call(tool, text).await;
            assert_eq!(error.kind, kind, "{tool}, {text}: {error}");
            assert!(error.message.contains("` with HTTP "), "{tool}, {text}: {error}");
        }
    }
    let error = call("web.say", "504").await;
    assert_eq!(error.message, "MCP server `web` answers a call of `say` with HTTP 504");
    assert_eq!(error.details, Some(json!({ "status": 504 })));
    servers.close().await;
}

/// The key that a server wants in its URL is in nothing that is said of it.
#[tokio::test]
async fn a_server_with_a_key_in_its_url_keeps_it_however_it_fails() {
    let server = MockServer::builder().start().await;
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let address = *server.address();
    let entry =
        json!({ "url": format!("http://me:canary-5ecret@{address}/mcp?tavilyApiKey=canary-5ecret"), "trust": true });
    let config = || McpConfig::parse(&json!({ "mcpServers": { "web": entry } }).to_string()).unwrap();
    let servers = McpServers::start(config()).await.unwrap();
    let (_, tool) = servers.tools().remove(0);
    let call = |text: &str| tool.call(StepContext::new(json!({ "text": text })));
    assert_eq!(call("secret").await.unwrap(), ToolOutput::Value(json!({ "text": "it was [redacted]" })));
    drop(server);
    let mut last = String::new();
    for _ in 0..3 {
        last = call("hello").await.unwrap_err().message;
        assert!(last.starts_with("MCP server `web`"), "{last}");
        assert!(!last.contains("canary") && !last.contains("::"), "a key, or a name of a type: {last}");
    }
    assert!(last.contains(&format!("{address} cannot be reached: ")), "{last}");
    let error = McpServers::start(config()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("MCP server `web`: {address} cannot be reached: ")), "{error}");
    assert!(error.contains("refused") && !error.contains("canary") && !error.contains("::"), "{error}");
}

#[tokio::test]
async fn what_a_server_answers_is_said_in_words() {
    for (response, said) in [
        (ResponseTemplate::new(500), "answers `initialize` with HTTP 500"),
        (ResponseTemplate::new(401), "answers `initialize` with HTTP 401 Unauthorized"),
        (
            ResponseTemplate::new(401).insert_header("www-authenticate", "Bearer"),
            "answers `initialize` with HTTP 401: it wants a key",
        ),
        (
            ResponseTemplate::new(404).set_body_raw("<h1>no\nsuch page</h1>", "text/html"),
            "answers `initialize` with HTTP 404 Not Found: <h1>no such page</h1>",
        ),
        (
            ResponseTemplate::new(200).set_body_raw("<html>hello</html>", "text/html"),
            "answers `initialize` with text/html, which is not MCP",
        ),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(response).mount(&server).await;
        let error = start(&server).await.expect_err("it is none");
        assert_eq!(error, format!("MCP server `web`: {} {said}", server.address()));
    }
}

#[tokio::test]
async fn what_is_no_mcp_server_is_not_taken_for_one() {
    for response in [
        ResponseTemplate::new(401),
        ResponseTemplate::new(200).set_body_raw("<html>hello</html>", "text/html"),
        ResponseTemplate::new(200).set_body_raw("[]", "application/json"),
        ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:9/elsewhere"),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(response).mount(&server).await;
        let error = start(&server).await.expect_err("it is none");
        assert!(error.starts_with("MCP server `web`: ") && !error.contains("canary"), "{error}");
    }
}
