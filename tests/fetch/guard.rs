//! Where `fetch` does not go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plandag::StepErrorKind;
use plandag::tools::{Fetch, HostPort};
use serde_json::json;

use crate::support::*;

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
