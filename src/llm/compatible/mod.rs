//! Servers that are compatible with OpenAI's, asked directly: most of a run's calls go to one, and each token of a plan
//! is an event of its own, so what comes is read as it is, without a tree of values in between.

mod answer;
mod events;
mod kept;
mod request;

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ModelError;
use super::provider::{Call, MAX_ANSWER_BYTES, http_client, too_long};
use super::server::Server;
use super::trouble::Trouble;
use super::{ModelReply, ModelRequest};
use answer::{Answer, Models, Streamed};
use kept::Kept;
use request::Body;

/// How long is waited for what it cost and for the end mark, when the model has said that its answer is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection to such a server.
pub(super) struct Compatible {
    http: Client,
    kept: Kept,
    chat: Url,
    models: Url,
    key: String,
    stall_after: Duration,
}

impl Compatible {
    /// A connection to the server at this address.
    pub(super) fn new(server: &Server, base_url: &Url, http: Client) -> Self {
        Self {
            http,
            kept: Kept::default(),
            chat: at(base_url, "chat/completions"),
            models: at(base_url, "models"),
            key: server.sent_key().to_owned(),
            stall_after: server.stall_after,
        }
    }

    /// The names of the server's models.
    pub(super) async fn model_names(&self, trouble: &Trouble<'_>) -> Result<Vec<String>, ModelError> {
        let sent = self.send(self.http.get(self.models.clone()).bearer_auth(&self.key)).await;
        let response = self.accepted(sent, trouble).await?;
        let body = json(response, trouble).await?;
        Ok(Models::read(&body, trouble)?.into_names())
    }

    /// Asks for a whole answer.
    pub(super) async fn complete(&self, request: &ModelRequest, call: &Call<'_>) -> Result<ModelReply, ModelError> {
        let sent = self.send(self.chat(&Body::whole(request, call))).await;
        let response = self.accepted(sent, &call.trouble).await?;
        let body = json(response, &call.trouble).await?;
        Answer::whole(&body, &call.trouble)
    }

    /// Asks for an answer in pieces.
    pub(super) async fn stream(
        &self,
        request: &ModelRequest,
        call: &Call<'_>,
        piece: &mut (dyn FnMut(&str) + Send),
    ) -> Result<ModelReply, ModelError> {
        let trouble = &call.trouble;
        let sent = self.send(self.chat(&Body::streamed(request, call)));
        let sent = timeout(self.stall_after, sent).await.map_err(|_| trouble.stalled())?;
        let mut response = self.accepted(sent, trouble).await?;
        if is_json(&response) {
            // It does not do that, or has something else to say.
            let body = timeout(self.stall_after, json(response, trouble)).await;
            let body = body.unwrap_or_else(|_| Err(trouble.paid(trouble.stalled(), 0)))?;
            let reply = Answer::whole(&body, trouble)?;
            piece(&reply.text);
            return Ok(reply);
        }
        let mut streamed = Streamed::new(piece, trouble);
        match self.follow(&mut response, &mut streamed, trouble).await {
            Ok(()) => streamed.into_reply(),
            Err(error) => Err(streamed.paid(error)),
        }
    }

    /// Takes up an answer that comes in pieces, until it is whole.
    async fn follow(
        &self,
        response: &mut Response,
        streamed: &mut Streamed<'_>,
        trouble: &Trouble<'_>,
    ) -> Result<(), ModelError> {
        let mut silent_since = Instant::now();
        while !streamed.is_whole() {
            let patience = if streamed.has_ended() { self.stall_after.min(LAST_WORDS) } else { self.stall_after };
            match timeout_at(silent_since + patience, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    let (before, had_ended) = (streamed.event_count(), streamed.has_ended());
                    streamed.take(&bytes)?;
                    // Comments only keep the connection open: they are no word of the model's.
                    if streamed.event_count() > before && !had_ended {
                        silent_since = Instant::now();
                    }
                }
                Ok(Ok(None)) => return streamed.end(kind(response)),
                Ok(Err(error)) => return Err(trouble.transport(&error)),
                // All that is missing is what it cost, and that nothing more comes.
                Err(_) if streamed.has_ended() => return streamed.end(kind(response)),
                Err(_) => return Err(trouble.stalled()),
            }
        }
        Ok(())
    }

    fn chat(&self, body: &Body<'_>) -> RequestBuilder {
        let body = serde_json::to_vec(body).expect("requests have text for keys");
        let asked = self.http.post(self.chat.clone()).bearer_auth(&self.key);
        asked.header(CONTENT_TYPE, "application/json").body(body)
    }

    /// Sends a request; once more, on a connection of its own, if it was lost with one that had been kept.
    async fn send(&self, request: RequestBuilder) -> Result<Response, reqwest::Error> {
        let again = request.try_clone();
        match (request.send().await, again) {
            (Err(error), Some(again)) if self.kept.has_lost(&error) => {
                tracing::debug!("the server has closed a kept connection: the request is sent once more");
                let Ok(other) = http_client(Some(&self.chat)) else { return Err(error) };
                other.execute(again.build()?).await
            }
            (sent, _) => sent.inspect(|response| self.kept.answered(response)),
        }
    }

    /// The answer to a request that was sent, if it is one.
    async fn accepted(
        &self,
        sent: Result<Response, reqwest::Error>,
        trouble: &Trouble<'_>,
    ) -> Result<Response, ModelError> {
        let mut response = sent.map_err(|error| trouble.transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let mut body = Vec::new();
        // What has come says what there is to say, also if the rest does not.
        let _ = timeout(self.stall_after, read(&mut response, &mut body)).await;
        Err(trouble.status(status, &String::from_utf8_lossy(&body), response.headers()))
    }
}

/// An address below another, with what that one says beside the path: some gateways want to be told something each time.
fn at(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    url.set_path(&format!("{}/{path}", base_url.path().trim_end_matches('/')));
    url
}

fn kind(response: &Response) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

fn is_json(response: &Response) -> bool {
    kind(response).to_ascii_lowercase().starts_with("application/json")
}

/// The whole of an answer in JSON.
async fn json(mut response: Response, trouble: &Trouble<'_>) -> Result<Vec<u8>, ModelError> {
    if !is_json(&response) {
        return Err(trouble.not_json(kind(&response)));
    }
    let mut body = Vec::new();
    let error = match read(&mut response, &mut body).await {
        Ok(()) if body.len() <= MAX_ANSWER_BYTES => return Ok(body),
        Ok(()) => too_long(),
        Err(error) => trouble.transport(&error),
    };
    Err(trouble.paid(error, body.len()))
}

/// Adds what comes to `body`, until it is whole or longer than an answer may be.
async fn read(response: &mut Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while let Some(bytes) = response.chunk().await? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(())
}
