//! What `fetch` makes of what it reads.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use plandag::tools::Fetch;
use plandag::{Effect, StepContext, StepErrorKind, Tool, ToolOutput};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn a_page_becomes_markdown() {
    let paragraph = "Heat pumps move heat, they do not make it, so one kilowatt hour of electricity moves three. ";
    let page = format!(
        "<!doctype html><html><head><title>Heat  pumps</title><style>p {{}}</style></head><body>
         <nav><a href='/'>Home</a><a href='/shop'>Buy now</a></nav>
         <article><h1>Heat pumps</h1><p>{}</p><h2>Costs</h2><p>{}See <a href='/costs?a=1'>the table</a>.</p>
         <ul><li>air<li>ground</ul><script>document.write('injected')</script></article>
         <footer>Cookies, imprint</footer></body></html>",
        paragraph.repeat(4),
        paragraph.repeat(4),
    );
    let server = Server::of("text/html; charset=utf-8", page).await;
    let output = server.fetch("/pumps").await.unwrap();
    let text = output["text"].as_str().unwrap();
    assert_eq!((&output["title"], &output["content_type"]), (&json!("Heat pumps"), &json!("text/html")));
    assert_eq!((&output["status"], &output["truncated"], &output["json"]), (&json!(200), &json!(false), &Value::Null));
    let link = format!("[the table]({})", server.url("/costs?a=1"));
    for part in ["## Costs", "- air\n- ground", "Heat pumps move heat", &link] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for part in ["injected", "Buy now", "imprint"] {
        assert!(!text.contains(part), "{part} in {text}");
    }

    let tool = Fetch::new().allow_host(server.host());
    let args = json!({ "url": server.url("/pumps"), "whole": true });
    let ToolOutput::Value(output) = tool.call(StepContext::new(args)).await.unwrap() else { panic!() };
    assert!(output["text"].as_str().unwrap().contains("Buy now"));
}

#[tokio::test]
async fn other_text_is_handed_on_as_it_is() {
    let json_server = Server::of("application/json", "{\"a\": [1, 2]}").await;
    let output = json_server.fetch("/").await.unwrap();
    assert_eq!((&output["text"], &output["json"]), (&json!("{\"a\": [1, 2]}"), &json!({ "a": [1, 2] })));
    let broken = Server::of("application/problem+json", "{\"a\": ").await;
    assert_eq!(broken.fetch("/").await.unwrap()["json"], Value::Null);
    let latin = Server::of("text/plain; charset=iso-8859-1", b"gr\xfcn").await;
    assert_eq!(latin.fetch("/").await.unwrap()["text"], "grün");
    let markup = Server::of("text/plain", "<p>a</p>").await;
    assert_eq!(markup.fetch("/").await.unwrap()["text"], "<p>a</p>");
    let unnamed = Server::start(|_| Reply::Bytes(response("200 OK", &[], b" <!DOCTYPE html><p>a</p>"))).await;
    assert_eq!(unnamed.fetch("/").await.unwrap()["text"], "a");
    let nothing = Server::start(|_| Reply::Bytes(response("204 No Content", &[], b""))).await;
    let output = nothing.fetch("/").await.unwrap();
    assert_eq!((&output["status"], &output["text"]), (&json!(204), &json!("")));
}

#[tokio::test]
async fn what_is_not_text_is_refused() {
    for (content_type, body) in [
        ("image/png", &b"\x89PNG"[..]),
        ("application/pdf", b"%PDF-1.7\n\xe2\xe3\xcf\xd3"),
        ("application/octet-stream", b"\0\x01\x02"),
        ("text/plain", b"MZ\0\0"),
    ] {
        let server = Server::of(content_type, body).await;
        let error = server.fetch("/x").await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Permanent);
        let message =
            format!("{} is {content_type}, and fetch only reads text, such as HTML and JSON", server.url("/x"));
        assert_eq!(error.message, message);
    }
}

#[tokio::test]
async fn the_status_decides_whether_to_try_again() {
    let in_a_minute = httpdate(SystemTime::now() + Duration::from_secs(60));
    let late = format!("Retry-After: {in_a_minute}");
    let server = Server::start(move |path| {
        let headers: &[&str] = match path {
            "/429" => &["Retry-After: 7", "Content-Length: 0"],
            "/503" => &[&late, "Content-Length: 0"],
            _ => &["Content-Length: 0"],
        };
        Reply::Bytes(response(&format!("{} Whatever", &path[1..]), headers, b""))
    })
    .await;
    let cases = [
        ("/400", StepErrorKind::Permanent),
        ("/401", StepErrorKind::Permanent),
        ("/403", StepErrorKind::Permanent),
        ("/404", StepErrorKind::Permanent),
        ("/410", StepErrorKind::Permanent),
        ("/304", StepErrorKind::Permanent),
        ("/408", StepErrorKind::Transient),
        ("/429", StepErrorKind::Transient),
        ("/500", StepErrorKind::Transient),
        ("/502", StepErrorKind::Transient),
        ("/503", StepErrorKind::Transient),
    ];
    for (path, kind) in cases {
        let error = server.fetch(path).await.unwrap_err();
        assert_eq!(error.kind, kind, "{path}");
        assert!(error.message.contains(&path[1..]), "{error}");
        assert_eq!(error.details, Some(json!({ "status": path[1..].parse::<u16>().unwrap() })));
        match path {
            "/429" => assert_eq!(error.retry_after_ms, Some(7_000)),
            "/503" => assert!((50_000..=60_000).contains(&error.retry_after_ms.unwrap()), "{error:?}"),
            _ => assert_eq!(error.retry_after_ms, None),
        }
    }
}

/// A time as servers write it.
fn httpdate(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_may_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tool = Fetch::new().allow_host(address.to_string().parse().unwrap()).resolver(Names::default());
    let error = fetch(&tool, &format!("http://{address}/")).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient);
    assert!(error.message.contains("cannot be reached") && error.message.contains("refused"), "{error}");
    let error = fetch(&tool, "http://unknown.test/").await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient);
    assert!(error.message.contains("no such host"), "{error}");

    let cut = Server::start(|_| {
        Reply::Bytes(response("200 OK", &["Content-Type: text/plain", "Content-Length: 99"], b"half"))
    })
    .await;
    let error = cut.fetch("/").await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient);
    assert!(error.message.contains("broke off"), "{error}");
}

#[tokio::test]
async fn servers_cannot_take_for_ever() {
    let silent = Server::start(|_| Reply::Silence).await;
    let half = Server::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n".to_vec())).await;
    let tool = Fetch::new().allow_host(silent.host()).allow_host(half.host()).timeout(Duration::from_millis(300));
    let begin = Instant::now();
    let error = fetch(&tool, &silent.url("/")).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Timeout);
    assert_eq!(error.message, format!("{} was not there in full after 300ms", silent.url("/")));
    assert!(fetch(&tool, &half.url("/")).await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn servers_cannot_send_for_ever() {
    let head = response("200 OK", &["Content-Type: text/plain"], b"x");
    let server = Server::start(move |_| Reply::Endless(head.clone())).await;
    let output = server.fetch("/").await.unwrap();
    assert_eq!((output["text"].as_str().unwrap().len(), &output["truncated"]), (1024 * 1024 + 3, &json!(true)));
    // Neither in the head, nor in a page.
    let head = b"HTTP/1.1 200 OK\r\nX: x".to_vec();
    let server = Server::start(move |_| Reply::Endless(head.clone())).await;
    assert!(server.fetch("/").await.is_err());
    let page = response("200 OK", &["Content-Type: text/html"], b"<p>start</p>x");
    let server = Server::start(move |_| Reply::Endless(page.clone())).await;
    let output = server.fetch("/").await.unwrap();
    assert!(output["text"].as_str().unwrap().starts_with("start") && output["truncated"] == true);
}

#[cfg(feature = "redact")]
#[tokio::test]
async fn no_part_of_a_secret_is_written_down_where_a_text_is_cut() {
    let secret = format!("canary-{}", "5ecret".repeat(4));
    let secrets = plandag::Secrets::new([&secret]);
    let text = format!("{}{secret}{}", "x".repeat(1024 * 1024 - 15), "x".repeat(100));
    for (kind, body) in [("text/plain", text.clone()), ("text/html", format!("<p>{text}</p>"))] {
        let output = Server::of(kind, body).await.fetch("/").await.unwrap();
        let told = output["text"].as_str().unwrap();
        assert!(told.ends_with("canary-5ecret5e..."), "{kind}: {}", &told[told.len().saturating_sub(50)..]);
        assert!(secrets.redact(told).ends_with("[redacted]..."), "{kind}");
    }
}

#[tokio::test]
async fn small_bodies_cannot_become_large_ones() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..200 {
        encoder.write_all(&vec![b'x'; 1024 * 1024]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1024 * 1024);
    let headers = ["Content-Type: text/plain", "Content-Encoding: gzip", &format!("Content-Length: {}", bomb.len())];
    let reply = response("200 OK", &headers, &bomb);
    let server = Server::start(move |_| Reply::Bytes(reply.clone())).await;
    let begin = Instant::now();
    let output = server.fetch("/").await.unwrap();
    assert_eq!((output["text"].as_str().unwrap().len(), &output["truncated"]), (1024 * 1024 + 3, &json!(true)));
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert!(server.requests()[0].to_lowercase().contains("accept-encoding: gzip"));
}

#[tokio::test]
async fn hostile_pages_are_read_as_far_as_is_sound() {
    let page = format!("<p>start</p>{}end", "<div>".repeat(100_000));
    let server = Server::of("text/html", page).await;
    let output = server.fetch("/").await.unwrap();
    assert_eq!((&output["text"], &output["truncated"]), (&json!("start..."), &json!(true)));
}

#[tokio::test]
async fn arguments_are_checked() {
    let tool = Fetch::new();
    let long = format!("http://example.com/{}", "x".repeat(20_000));
    let cases = [
        (json!({}), "`url` is missing"),
        (json!({ "url": null }), "`url` must be text, not null"),
        (json!({ "link": "http://example.com/" }), "unknown argument `link`"),
        (json!({ "url": long }), "over the limit"),
        (json!({ "url": "http://127.0.0.1/", "whole": "yes" }), "`whole` must be true or false"),
        (json!([]), "must be an object"),
    ];
    for (args, message) in cases {
        let error = tool.call(StepContext::new(args)).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::BadInput);
        assert!(error.message.contains(message), "{error}");
    }
    assert_eq!(tool.spec().effect, Effect::Reads);
}
