//! Clients of servers that somebody has named: of models, search engines and MCP servers.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{ClientBuilder, Url, redirect};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes a client of a server, or of a provider wherever that is. What it sends may hold a key, so it follows no
/// redirect, and hands nothing to a proxy that is for this machine.
pub(crate) fn builder(server: Option<&Url>) -> ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let builder = if server.is_some_and(is_loopback) { builder.no_proxy() } else { builder };
    match server.map(Url::scheme) {
        // Reading the system's certificates takes longer than a call on this machine.
        Some("http") => builder.tls_certs_only([]),
        _ => builder,
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
