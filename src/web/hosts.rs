//! Under which names a server answers.
//!
//! A page of another site can have its own name point to this machine (DNS rebinding), and then counts for the browser
//! as the same site. The `Host` header still has that name, so a server that knows its own names can tell.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;

/// The names that a server has.
pub(super) struct Hosts {
    port: u16,
    names: Vec<String>,
    /// Whether any address is one of them: who writes an address needs no name that could point elsewhere.
    any_address: bool,
}

impl Hosts {
    /// The names of a server at `address`, which was asked for as `name`.
    pub(super) fn new(address: SocketAddr, name: &str) -> Self {
        let mut names = vec![name.trim_matches(['[', ']']).to_ascii_lowercase(), address.ip().to_string()];
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        }
        Self { port: address.port(), names, any_address: address.ip().is_unspecified() }
    }

    /// Whether `host`, as in the header, is one of them.
    pub(super) fn has(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if host.contains('@') || authority.port_u16().unwrap_or(80) != self.port {
            return false;
        }
        let name = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        self.names.contains(&name) || (self.any_address && name.parse::<IpAddr>().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_at_its_own_port() {
        let hosts = Hosts::new(([127, 0, 0, 1], 7420).into(), "127.0.0.1");
        for right in ["127.0.0.1:7420", "localhost:7420", "LOCALHOST:7420", "[::1]:7420"] {
            assert!(hosts.has(right), "{right}");
        }
        for wrong in [
            "",
            "localhost",
            "localhost:7421",
            "evil.example:7420",
            "localhost.evil.example:7420",
            "127.0.0.2:7420",
            "10.0.0.1:7420",
            "me@localhost:7420",
            "localhost:7420@evil.example",
            "127.0.0.1:7420, evil.example",
        ] {
            assert!(!hosts.has(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_server_of_a_network_answers_to_addresses_and_to_the_name_it_was_given() {
        let everywhere = Hosts::new(([0, 0, 0, 0], 80).into(), "0.0.0.0");
        assert!(everywhere.has("192.168.1.4") && everywhere.has("192.168.1.4:80") && everywhere.has("localhost"));
        assert!(!everywhere.has("evil.example"));
        let named = Hosts::new(([192, 168, 1, 4], 7420).into(), "Box.lan");
        assert!(named.has("box.lan:7420") && named.has("192.168.1.4:7420"));
        assert!(!named.has("192.168.1.5:7420") && !named.has("localhost:7420"));
    }
}
