//! What `fetch` connects to, decided before every connection.
//!
//! A host that is written as an address is judged with its URL. A name is judged when it has been looked up, by the
//! [`PublicOnly`] resolver inside of the client: the addresses that were judged are the ones connected to, so a name
//! server that answers differently the next time gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns;
use thiserror::Error;
use url::{Host, Url};

use super::address::not_public;
use crate::cut;

/// A host and a port that [`Fetch`](super::Fetch) connects to although its rules say no.
///
/// ```
/// use plandag::tools::HostPort;
///
/// let allowed: HostPort = "localhost:8080".parse()?;
/// assert!("localhost".parse::<HostPort>().is_err());
/// # Ok::<(), plandag::tools::HostPortError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: Host,
    port: u16,
}

/// Why a text is not a [`HostPort`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not HOST:PORT, such as localhost:8080 or [::1]:8080")]
pub struct HostPortError {
    text: String,
}

impl HostPort {
    /// Whether `url` goes to this host and port, and not just to one of them.
    pub(super) fn is_of(&self, url: &Url) -> bool {
        Self::of(url).as_ref() == Some(self)
    }

    fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            Some(Self { host: Host::parse(host).ok()?, port: port.parse().ok()? })
        };
        parse().ok_or_else(|| HostPortError { text: cut::chars(text, 80).into_owned() })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a URL is not fetched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("`{0}:` is not a scheme that fetch speaks: use http or https")]
    Scheme(String),
    #[error("the URL has no host")]
    NoHost,
    #[error("the URL has a user name or a password in it, which fetch does not send")]
    Credentials,
    #[error("{address} is {what}, which fetch does not connect to")]
    Address { address: IpAddr, what: &'static str },
    #[error("`{host}` has the address {address}, {what}, which fetch does not connect to")]
    Resolved { host: String, address: IpAddr, what: &'static str },
}

impl Refusal {
    /// What is wrong with `url`, and the way out if there is one.
    pub(super) fn of(&self, url: &Url) -> String {
        match (self, HostPort::of(url)) {
            (Self::Address { .. } | Self::Resolved { .. }, Some(allow)) => {
                format!("{self}; --allow-host {allow} permits it")
            }
            _ => self.to_string(),
        }
    }
}

/// Judges the form of a URL, wherever it goes.
pub(super) fn check_form(url: &Url) -> Result<(), Refusal> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::Scheme(cut::chars(url.scheme(), 20).into_owned()));
    }
    if url.host().is_none() {
        return Err(Refusal::NoHost);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Credentials);
    }
    Ok(())
}

/// Judges the address that a URL has in the place of a name.
pub(super) fn check_address(url: &Url) -> Result<(), Refusal> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address),
        Some(Host::Ipv6(address)) => IpAddr::from(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    not_public(address).map_or(Ok(()), |what| Err(Refusal::Address { address, what }))
}

/// Finds the addresses of a host.
pub trait Resolve: Send + Sync {
    /// Every address of `host`, in the order in which they should be tried.
    ///
    /// # Errors
    ///
    /// If there is no such host, or nobody knows at the moment.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Asks the operating system.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Hands on the addresses of a host if all of them belong to the public internet. One that does not is refused with
/// the others: nobody has an honest reason to mix them.
pub(super) struct PublicOnly(pub(super) Arc<dyn Resolve>);

/// Hands on all addresses of a host: for hosts that are allowed.
pub(super) struct Unchecked(pub(super) Arc<dyn Resolve>);

impl dns::Resolve for PublicOnly {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let found = self.0.resolve(name.as_str());
        Box::pin(async move {
            let found = found.await?;
            let refused = found.iter().find_map(|address| Some((*address, not_public(*address)?)));
            match refused {
                Some((address, what)) => {
                    Err(Refusal::Resolved { host: name.as_str().to_owned(), address, what }.into())
                }
                None => Ok(addresses(found)),
            }
        })
    }
}

impl dns::Resolve for Unchecked {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let found = self.0.resolve(name.as_str());
        Box::pin(async move { Ok(addresses(found.await?)) })
    }
}

/// As the client wants them: it puts in the port of the URL.
fn addresses(found: Vec<IpAddr>) -> dns::Addrs {
    Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)))
}
