//! Connections that are kept open after an answer. A server may close one at any time, also while a request is on its way.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::Response;

/// Our ends of the connections on which there was an answer.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashSet<SocketAddr>>);

impl Kept {
    /// From now on, its connection is one that was kept.
    pub(super) fn answered(&self, response: &Response) {
        if let Some(info) = response.extensions().get::<HttpInfo>() {
            self.lock().insert(info.local_addr());
        }
    }

    /// Whether such a connection was closed before an answer to this request had begun. Then nobody works on one.
    pub(super) fn has_lost(&self, error: &reqwest::Error) -> bool {
        let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<legacy::Error>()) else { return false };
        let is_closed = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(|cause| {
            cause.is_incomplete_message() || cause.source().is_some_and(|cause| cause.is::<std::io::Error>())
        });
        let mut about = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut about);
        }
        is_closed && about.get::<HttpInfo>().is_some_and(|info| self.lock().remove(&info.local_addr()))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
