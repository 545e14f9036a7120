//! Server-sent events: a run as it changes.
//!
//! Nothing is queued for a client. Whoever reads slowly finds the latest state when they come back, as a whole if they
//! have missed one in between, so a client that never reads costs a connection and nothing more.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::watch::{Shown, Sight, event};

/// After so long without news a comment is sent, so that nothing in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How somebody is told of a run from now on.
pub(super) fn stream(receiver: watch::Receiver<Sight>) -> Response {
    let client = Client { receiver, has: 0, is_told: false };
    let events = stream::unfold(client, |mut client| async {
        let bytes = client.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), client))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

struct Client {
    receiver: watch::Receiver<Sight>,
    /// The version that was sent last.
    has: u64,
    /// Whether the end was sent.
    is_told: bool,
}

/// What a client is to do about what it sees.
enum Next {
    Send(Arc<Shown>),
    End(Bytes),
    Wait,
}

impl Client {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_told {
            let next = match &*self.receiver.borrow_and_update() {
                Sight::Shown(shown) if shown.version > self.has => Next::Send(Arc::clone(shown)),
                Sight::Shown(shown) if shown.is_over => Next::End(event("end", &json!({}))),
                Sight::Lost(problem) => Next::End(event("problem", &problem.details())),
                Sight::Shown(_) | Sight::Opening => Next::Wait,
            };
            match next {
                Next::Send(shown) => {
                    let has_one_before = self.has > 0 && self.has + 1 == shown.version;
                    self.has = shown.version;
                    match &shown.update {
                        Some(update) if has_one_before => return Some(update.clone()),
                        // Nothing that is shown has changed.
                        None if has_one_before => {}
                        _ => return Some(shown.whole()),
                    }
                }
                Next::End(bytes) => {
                    self.is_told = true;
                    return Some(bytes);
                }
                Next::Wait => match timeout(KEEP_ALIVE, self.receiver.changed()).await {
                    Ok(Ok(())) => {}
                    // The watcher has come to its end.
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
                },
            }
        }
        None
    }
}
