//! A web server on loopback, and names that lead where a test wants.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plandag::tools::{Fetch, HostPort, Resolve};
use plandag::{StepContext, StepError, Tool, ToolOutput};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
pub(crate) enum Reply {
    /// Sends this and closes.
    Bytes(Vec<u8>),
    /// Sends this, and then its last byte for ever.
    Endless(Vec<u8>),
    /// Says nothing.
    Silence,
}

/// A web server on loopback.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The requests it got, heads only.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
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
    pub(crate) async fn of(content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let reply = ok(content_type, body.as_ref());
        Self::start(move |_| Reply::Bytes(reply.clone())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn host(&self) -> HostPort {
        self.address.to_string().parse().unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Fetches a path from it.
    pub(crate) async fn fetch(&self, path: &str) -> Result<Value, StepError> {
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
pub(crate) fn response(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn ok(content_type: &str, body: &[u8]) -> Vec<u8> {
    response("200 OK", &[&format!("Content-Type: {content_type}"), &format!("Content-Length: {}", body.len())], body)
}

pub(crate) fn redirect(to: &str) -> Reply {
    Reply::Bytes(response("302 Found", &[&format!("Location: {to}"), "Set-Cookie: a=b", "Content-Length: 0"], b""))
}

pub(crate) async fn fetch(tool: &Fetch, url: &str) -> Result<Value, StepError> {
    match tool.call(StepContext::new(json!({ "url": url }))).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

/// A listener that nobody should connect to.
pub(crate) struct Canary {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Canary {
    pub(crate) async fn start() -> Self {
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
    pub(crate) async fn connections(&self) -> usize {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.connections.load(Ordering::SeqCst)
    }
}

/// Knows the addresses of some names, and counts the questions. The last answer is repeated.
#[derive(Clone, Default)]
pub(crate) struct Names {
    answers: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
    pub(crate) questions: Arc<AtomicUsize>,
}

impl Names {
    pub(crate) fn with(self, name: &str, answers: &[&[&str]]) -> Self {
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
