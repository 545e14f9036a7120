//! Clients that go away, say too much, or make no sense.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Site, echo};

impl Site {
    fn upload(&self, length: usize) -> Vec<u8> {
        format!(
            "POST /api/runs HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n",
            self.address, self.token
        )
        .into_bytes()
    }

    async fn is_well(&self) {
        let run = self.run(json!([echo("a", 1)])).await;
        self.until(&run, "succeeded").await;
    }
}

#[tokio::test]
async fn a_body_of_100_megabytes_is_refused_before_it_is_there() {
    let site = Site::start().await;
    let mut stream = site.connect().await;
    stream.write_all(&site.upload(100 << 20)).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("serve.too_large"), "{answer}");
    site.is_well().await;
}

/// Most clients send everything before they read anything.
#[tokio::test]
async fn who_sends_100_megabytes_all_the_same_gets_to_read_why_not() {
    let site = Site::start().await;
    let answer = site.post("/api/runs", json!({ "objective": "x".repeat(100 << 20) })).await;
    assert_eq!((answer.status, &answer.body["code"]), (413, &json!("serve.too_large")));
    // Without a length it is seen when so much has come.
    let mut stream = site.connect().await;
    let head = String::from_utf8(site.upload(0)).unwrap().replace("Content-Length: 0", "Transfer-Encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
    for _ in 0..64 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    site.is_well().await;
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing_behind() {
    let site = Site::start().await;
    for _ in 0..20 {
        let mut stream = site.connect().await;
        stream.write_all(&site.upload(1000)).await.unwrap();
        stream.write_all(b"{\"plan\": {").await.unwrap();
    }
    site.is_well().await;
    assert_eq!(site.get("/api/runs").await.body["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nonsense_is_answered_or_hung_up_on() {
    let site = Site::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(1 << 20), site.address);
    for bytes in
        [b"\0\0\0\0\r\n\r\n".as_slice(), b"EHLO example\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc", long.as_bytes()]
    {
        let mut stream = site.connect().await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    site.is_well().await;
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let site = Site::start().await;
    for path in [
        "/assets/../../Cargo.toml",
        "/assets/%2e%2e%2fCargo.toml",
        "/assets/..%5c..%5cCargo.toml",
        "/api/runs/..%2f..",
        "/runs/%00",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            site.address, site.token
        );
        let answer = site.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on() {
    let site = Site::start().await;
    let mut stream = site.connect().await;
    stream.write_all(b"GET / HT").await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "the server waits for ever");
}
