//! Connections, as many as are taken, for as long as they behave.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, Either};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::app::App;
use super::router;

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of headers, and of an answer that is not yet taken.
const MAX_BUFFER: usize = 64 << 10;

/// How long answers that are under way may take when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait where the system takes no more connections just now.
const RESPITE: Duration = Duration::from_millis(100);

/// A server that has its port.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    max_connections: usize,
}

impl Bound {
    pub(super) fn new(listener: TcpListener, address: SocketAddr, app: Arc<App>, max_connections: usize) -> Self {
        Self { listener, address, app, max_connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What scripts send as `Authorization: Bearer TOKEN`.
    pub fn token(&self) -> &str {
        self.app.keys.token()
    }

    /// The address of a page, such as `/` or `/runs/7f3k`, for a browser on this machine. It has the token in it:
    /// whoever has it can do what the server can.
    pub fn url(&self, path: &str) -> String {
        self.url_with(path, self.token())
    }

    /// As [`url`](Self::url), but it lets in once: for starting a browser, as every user of a machine can see what
    /// programs are started with. One that was given out before lets in nobody any more.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn url_once(&self, path: &str) -> io::Result<String> {
        Ok(self.url_with(path, &self.app.keys.new_ticket()?))
    }

    fn url_with(&self, path: &str, token: &str) -> String {
        // Nobody is at the address that stands for all of them.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}{path}?token={token}", SocketAddr::new(ip, self.address.port()))
    }

    /// Answers requests until `stop` is done; answers that are under way then are given a moment to end.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let ends = GracefulShutdown::new();
        let service = TowerToHyperService::new(router(Arc::clone(&self.app)));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_BUFFER);
        let mut stop = pin!(stop);
        loop {
            let accepted = async {
                // It is never closed.
                let permit = Arc::clone(&connections).acquire_owned().await.ok();
                (self.accept().await, permit)
            };
            let (stream, permit) = match future::select(pin!(accepted), &mut stop).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => break,
            };
            let connection = http.serve_connection(TokioIo::new(stream), service.clone());
            let connection = ends.watch(connection);
            tokio::spawn(async move {
                // A client that goes away, or talks nonsense, is nobody's concern.
                let _ = connection.await;
                drop(permit);
            });
        }
        drop(self.listener);
        self.app.watchers.close();
        let _ = timeout(GRACE, ends.shutdown()).await;
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Small answers are not held back; where that cannot be set, they are.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    sleep(RESPITE).await;
                }
            }
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is for whoever asks for it, and not for logs.
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}
