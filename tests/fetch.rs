//! `fetch`: what it reads, and where it does not go.

#![cfg(feature = "fetch")]

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use plandag::tools::{Fetch, HostPort, Resolve};
use plandag::{Effect, StepContext, StepError, StepErrorKind, Tool, ToolOutput};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
enum Reply {
    /// Sends this and closes.
    Bytes(Vec<u8>),
    /// Sends this, and then its last byte for ever.
    Endless(Vec<u8>),
    /// Says nothing.
    Silence,
}

/// A web server on loopback.
struct Server {
    address: SocketAddr,
    /// The requests it got, heads only.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, reply) = (server.requests.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, requests.clone(), reply.clone()));
            }
        });
        server
    }

    /// One that always answers the same.
    async fn of(content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let reply = ok(content_type, body.as_ref());
        Self::start(move |_| Reply::Bytes(reply.clone())).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn host(&self) -> HostPort {
        self.address.to_string().parse().unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Fetches a path from it.
    async fn fetch(&self, path: &str) -> Result<Value, StepError> {
        fetch(&Fetch::new().allow_host(self.host()), &self.url(path)).await
    }
}

async fn answer(mut stream: TcpStream, requests: Arc<Mutex<Vec<String>>>, reply: Arc<impl Fn(&str) -> Reply>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(head);
    match reply(&path) {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Endless(bytes) => {
            let more = vec![bytes[bytes.len() - 1]; 64 * 1024];
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&more).await.is_ok() {}
        }
        Reply::Silence => std::future::pending().await,
    }
}

/// An answer with these header lines.
fn response(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn ok(content_type: &str, body: &[u8]) -> Vec<u8> {
    response("200 OK", &[&format!("Content-Type: {content_type}"), &format!("Content-Length: {}", body.len())], body)
}

fn redirect(to: &str) -> Reply {
    Reply::Bytes(response("302 Found", &[&format!("Location: {to}"), "Set-Cookie: a=b", "Content-Length: 0"], b""))
}

async fn fetch(tool: &Fetch, url: &str) -> Result<Value, StepError> {
    match tool.call(StepContext::new(json!({ "url": url }))).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

/// A listener that nobody should connect to.
struct Canary {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Canary {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let canary = Self { port: listener.local_addr().unwrap().port(), connections: Arc::default() };
        // The same port of other addresses of this machine, where it is free and the system has them.
        for address in ["127.127.127.127", "::1"] {
            if let Ok(listener) = TcpListener::bind((address, canary.port)).await {
                canary.count(listener);
            }
        }
        canary.count(listener);
        canary
    }

    fn count(&self, listener: TcpListener) {
        let connections = self.connections.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                connections.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    /// Waits long enough that a connection on its way would have been counted.
    async fn connections(&self) -> usize {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.connections.load(Ordering::SeqCst)
    }
}

/// Knows the addresses of some names, and counts the questions. The last answer is repeated.
#[derive(Clone, Default)]
struct Names {
    answers: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
    questions: Arc<AtomicUsize>,
}

impl Names {
    fn with(self, name: &str, answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
        self
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let mut names = self.answers.lock().unwrap();
        let found = names.get_mut(host).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        Box::pin(std::future::ready(found.ok_or_else(|| io::Error::other("no such host"))))
    }
}

#[tokio::test]
async fn nothing_but_the_public_internet_is_connected_to() {
    let canary = Canary::start().await;
    let names = Names::default()
        .with("localhost", &[&["127.0.0.1", "::1"]])
        .with("localhost.", &[&["127.0.0.1"]])
        .with("loopback.test", &[&["127.0.0.1"]])
        .with("six.test", &[&["::1"]])
        .with("mapped.test", &[&["::ffff:127.0.0.1"]])
        .with("mixed.test", &[&["1.1.1.1", "127.0.0.1"]])
        .with("metadata.test", &[&["169.254.169.254"]])
        .with("private.test", &[&["10.0.0.1"]])
        .with("zero.test", &[&["0.0.0.0"]]);
    let tool = Fetch::new().resolver(names).timeout(Duration::from_secs(5));
    let hosts = [
        // Loopback, in every notation that anybody has thought of.
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.127.127.127",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0177.0x0.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "00000177.1",
        "%31%32%37.0.0.1",
        "１２７.０.０.１",
        "127。0。0。1",
        "⑫⑦.⓪.⓪.①",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[::ffff:0:127.0.0.1]",
        // Other networks that are nobody's business.
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[::ffff:a9fe:a9fe]",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        // Names that lead there.
        "localhost",
        "LOCALHOST",
        "localhost.",
        "loopback.test",
        "six.test",
        "mapped.test",
        "mixed.test",
        "metadata.test",
        "private.test",
        "zero.test",
    ];
    let port = canary.port;
    let mut urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}/")).collect();
    urls.extend([
        format!("http:127.0.0.1:{port}"),
        format!("http:\\\\127.0.0.1:{port}\\"),
        format!("HTTP://127.0.0.1:{port}"),
        format!("ht\ntp://127.0.\t0.1:{port}"),
        format!("http://127.0.0.1:{port}\\@example.com/"),
        format!("http://127.0.0.1:{port}#@example.com/"),
        format!("http://127.0.0.1:{port}?@example.com/"),
        format!("http://example.com@127.0.0.1:{port}/"),
        format!("http://user:secret@example.com:{port}/"),
        format!("gopher://127.0.0.1:{port}/_GET"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("ws://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "file://localhost/etc/passwd".to_owned(),
        "data:text/plain,hello".to_owned(),
        "javascript:alert(1)".to_owned(),
        "http://".to_owned(),
        "http://[::1".to_owned(),
        format!("//127.0.0.1:{port}/"),
        format!("127.0.0.1:{port}"),
        "/etc/passwd".to_owned(),
        String::new(),
    ]);
    assert!(urls.len() > 60);
    for url in urls {
        let error = fetch(&tool, &url).await.unwrap_err();
        assert!(matches!(error.kind, StepErrorKind::Permanent | StepErrorKind::BadInput), "{url}: {error:?}");
    }
    assert_eq!(canary.connections().await, 0);
}

#[tokio::test]
async fn refusals_name_the_rule_and_the_way_out() {
    let names = Names::default().with("internal.test", &[&["10.0.0.7"]]);
    let tool = Fetch::new().resolver(names);
    let cases = [
        (
            "http://127.0.0.1:8080/x",
            "127.0.0.1 is a loopback address, which fetch does not connect to; --allow-host 127.0.0.1:8080 permits it",
        ),
        (
            "https://[::1]/",
            "::1 is a loopback address, which fetch does not connect to; --allow-host [::1]:443 permits it",
        ),
        (
            "http://internal.test/",
            "`internal.test` has the address 10.0.0.7, a private address, which fetch does not connect to; \
             --allow-host internal.test:80 permits it",
        ),
        ("ftp://example.com/", "`ftp:` is not a scheme that fetch speaks: use http or https"),
        ("http://a:b@example.com/", "the URL has a user name or a password in it, which fetch does not send"),
        ("example.com", "`example.com` is not a URL: relative URL without a base"),
    ];
    for (url, message) in cases {
        assert_eq!(fetch(&tool, url).await.unwrap_err().message, message);
    }
}

/// The address that was judged is the one that is connected to: there is no second question to answer differently.
#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let canary = Canary::start().await;
    // A public address that nobody uses.
    let names = Names::default().with("flip.test", &[&["11.255.255.254"], &["127.0.0.1"]]);
    let tool = Fetch::new().resolver(names.clone()).timeout(Duration::from_millis(500));
    let url = format!("http://flip.test:{}/", canary.port);
    let error = fetch(&tool, &url).await.unwrap_err();
    assert!(matches!(error.kind, StepErrorKind::Transient | StepErrorKind::Timeout), "{error:?}");
    assert_eq!(names.questions.load(Ordering::SeqCst), 1);
    let error = fetch(&tool, &url).await.unwrap_err();
    assert!(error.message.contains("`flip.test` has the address 127.0.0.1, a loopback address"), "{error}");
    assert_eq!(canary.connections().await, 0);
}

#[tokio::test]
async fn redirects_are_judged_like_any_url() {
    let canary = Canary::start().await;
    let port = canary.port;
    let server = Server::start(move |path| match path {
        "/address" => redirect(&format!("http://127.0.0.1:{port}/")),
        "/name" => redirect(&format!("http://loopback.test:{port}/")),
        "/notation" => redirect(&format!("//0x7f.1:{port}/")),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/file" => redirect("file:///etc/passwd"),
        "/user" => redirect(&format!("http://a:b@127.0.0.1:{port}/")),
        "/chain" => redirect("/chain/1"),
        "/chain/1" => redirect("/chain/2"),
        "/chain/2" => redirect("/address"),
        "/nowhere" => Reply::Bytes(response("301 Moved Permanently", &["Content-Length: 0"], b"")),
        "/garbage" => redirect("http://[::1"),
        _ => Reply::Bytes(ok("text/plain", b"")),
    })
    .await;
    let names = Names::default().with("loopback.test", &[&["127.0.0.1"]]);
    let tool = Fetch::new().resolver(names).allow_host(server.host());
    for path in ["/address", "/name", "/notation", "/metadata", "/file", "/user", "/chain", "/nowhere", "/garbage"] {
        let error = fetch(&tool, &server.url(path)).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Permanent, "{path}: {error}");
    }
    assert_eq!(canary.connections().await, 0);

    let error = fetch(&tool, &server.url("/address")).await.unwrap_err();
    let refusal = format!(
        "127.0.0.1 is a loopback address, which fetch does not connect to; --allow-host 127.0.0.1:{port} permits it"
    );
    assert_eq!(error.message, format!("{} redirects to http://127.0.0.1:{port}/: {refusal}", server.url("/address")));
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let server = Server::start(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => Reply::Bytes(ok("text/plain", b"there")),
        Ok(more) => redirect(&format!("{}", more - 1)),
        Err(_) => Reply::Silence,
    })
    .await;
    let output = server.fetch("/5").await.unwrap();
    assert_eq!((&output["text"], &output["url"]), (&json!("there"), &json!(server.url("/5"))));
    assert_eq!(output["final_url"], json!(server.url("/0")));
    assert!(server.fetch("/6").await.unwrap_err().message.contains("redirects more than 5 times"));
    // The server sets a cookie each time, which no request brings back.
    for request in server.requests() {
        let lower = request.to_lowercase();
        assert!(request.starts_with("GET ") && !lower.contains("cookie:") && !lower.contains("referer:"), "{request}");
    }
}

#[tokio::test]
async fn allowed_hosts_are_allowed_exactly() {
    let server = Server::of("text/plain", "inside").await;
    let port = server.address.port();
    let other_port = Canary::start().await;
    let names = Names::default().with("inside.test", &[&["127.0.0.1"]]).with("other.test", &[&["127.0.0.1"]]);
    let tool = |allowed: &str| Fetch::new().resolver(names.clone()).allow_host(allowed.parse().unwrap());

    for allowed in [format!("127.0.0.1:{port}"), format!("0x7f.1:{port}")] {
        assert_eq!(fetch(&tool(&allowed), &server.url("/")).await.unwrap()["text"], "inside");
    }
    let by_name = tool(&format!("Inside.TEST:{port}"));
    assert_eq!(fetch(&by_name, &format!("http://inside.test:{port}/")).await.unwrap()["text"], "inside");
    // Neither another port, nor another name of the same address, nor the address itself.
    for url in [
        format!("http://inside.test:{}/", other_port.port),
        format!("http://other.test:{port}/"),
        server.url("/"),
        format!("https://inside.test.:{port}/"),
    ] {
        assert!(fetch(&by_name, &url).await.is_err(), "{url}");
    }
    assert_eq!(other_port.connections().await, 0);
    for text in
        ["", "localhost", ":80", "localhost:", "localhost:http", "localhost:99999", "http://localhost:80", "a b:1"]
    {
        assert!(text.parse::<HostPort>().is_err(), "{text}");
    }
}

/// The hosts file of the system is asked too, and judged.
#[tokio::test]
async fn the_system_is_asked_for_names() {
    let server = Server::of("text/plain", "here").await;
    let url = format!("http://localhost:{}/", server.address.port());
    assert!(fetch(&Fetch::new(), &url).await.unwrap_err().message.contains("`localhost` has the address"));
    let allowed = Fetch::new().allow_host(format!("localhost:{}", server.address.port()).parse().unwrap());
    assert_eq!(fetch(&allowed, &url).await.unwrap()["text"], "here");
}

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
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn servers_cannot_send_for_ever() {
    let head = response("200 OK", &["Content-Type: text/plain"], b"x");
    let server = Server::start(move |_| Reply::Endless(head.clone())).await;
    let output = server.fetch("/").await.unwrap();
    assert_eq!((output["text"].as_str().unwrap().len(), &output["truncated"]), (1024 * 1024, &json!(true)));
    // Neither in the head, nor in a page.
    let head = b"HTTP/1.1 200 OK\r\nX: x".to_vec();
    let server = Server::start(move |_| Reply::Endless(head.clone())).await;
    assert!(server.fetch("/").await.is_err());
    let page = response("200 OK", &["Content-Type: text/html"], b"<p>start</p>x");
    let server = Server::start(move |_| Reply::Endless(page.clone())).await;
    let output = server.fetch("/").await.unwrap();
    assert!(output["text"].as_str().unwrap().starts_with("start") && output["truncated"] == true);
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
    assert_eq!((output["text"].as_str().unwrap().len(), &output["truncated"]), (1024 * 1024, &json!(true)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(server.requests()[0].to_lowercase().contains("accept-encoding: gzip"));
}

#[tokio::test]
async fn hostile_pages_are_read_as_far_as_is_sound() {
    let page = format!("<p>start</p>{}end", "<div>".repeat(100_000));
    let server = Server::of("text/html", page).await;
    let output = server.fetch("/").await.unwrap();
    assert_eq!((&output["text"], &output["truncated"]), (&json!("start"), &json!(true)));
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
