//! A model that says what the test wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plandag::Usage;
use plandag::llm::{Message, Model, ModelError, ModelReply, ModelRequest, ReplyEnd, ToolCall};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What to answer to a request, and how long that takes.
type Answers = dyn Fn(&ModelRequest) -> (Result<ModelReply, ModelError>, Duration) + Send + Sync;

/// Answers as it is told, and keeps what it was asked.
pub(crate) struct Script {
    answers: Box<Answers>,
    asked: Mutex<Vec<ModelRequest>>,
    /// How many bytes a piece of a stream has.
    piece: usize,
    /// What a stream begins with that comes to nothing.
    in_vain: String,
}

impl Script {
    /// Answers every request with what `answers` makes of it.
    pub(crate) fn new(
        answers: impl Fn(&ModelRequest) -> Result<ModelReply, ModelError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::waiting(move |request| (answers(request), Duration::ZERO))
    }

    /// Also takes so long for it, where it is not streamed.
    pub(crate) fn waiting(
        answers: impl Fn(&ModelRequest) -> (Result<ModelReply, ModelError>, Duration) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { answers: Box::new(answers), asked: Mutex::default(), piece: 7, in_vain: String::new() })
    }

    /// Answers with these texts, one after the other.
    pub(crate) fn of<I: IntoIterator<Item = T>, T: Into<ModelReply>>(replies: I) -> Arc<Self> {
        let replies: Mutex<VecDeque<ModelReply>> = Mutex::new(replies.into_iter().map(Into::into).collect());
        Self::new(move |_| Ok(replies.lock().unwrap().pop_front().expect("asked more often than there are answers")))
    }

    /// The same, with answers that come in one piece.
    pub(crate) fn at_once(self: Arc<Self>) -> Arc<Self> {
        let script = Arc::into_inner(self).expect("nobody has it yet");
        Arc::new(Self { piece: usize::MAX, ..script })
    }

    /// The same, with this said before each error in a stream.
    pub(crate) fn breaking_off(self: Arc<Self>, in_vain: &str) -> Arc<Self> {
        let script = Arc::into_inner(self).expect("nobody has it yet");
        Arc::new(Self { in_vain: in_vain.to_owned(), ..script })
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<ModelRequest> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, request: ModelRequest) -> (Result<ModelReply, ModelError>, Duration) {
        let answer = (self.answers)(&request);
        self.asked.lock().unwrap().push(request);
        answer
    }
}

impl Model for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn complete<'a>(&'a self, request: ModelRequest) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async {
            let (reply, takes) = self.answer(request);
            if !takes.is_zero() {
                sleep(takes).await;
            }
            reply
        })
    }

    fn stream<'a>(
        &'a self,
        request: ModelRequest,
        piece: &'a mut (dyn FnMut(&str) + Send),
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let reply = self.answer(request).0.inspect_err(|_| piece(&self.in_vain))?;
            let mut rest = reply.text.as_str();
            while !rest.is_empty() {
                let end = (self.piece..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
                let (now, later) = rest.split_at(end);
                piece(now);
                tokio::task::yield_now().await;
                rest = later;
            }
            Ok(reply)
        })
    }
}

/// A whole answer that cost two tokens in and one out.
pub(crate) fn says(text: &str) -> ModelReply {
    ModelReply { text: text.to_owned(), usage: tokens(2, 1), ..ModelReply::default() }
}

/// An answer that ends otherwise.
pub(crate) fn ends(text: &str, end: ReplyEnd) -> ModelReply {
    ModelReply { end, ..says(text) }
}

/// An answer that calls tools.
pub(crate) fn calls<const N: usize>(calls: [(&str, Value); N]) -> ModelReply {
    let call = |(number, (name, arguments)): (usize, (&str, Value))| ToolCall {
        id: format!("call-{number}"),
        name: name.to_owned(),
        arguments,
        signatures: None,
    };
    ModelReply { calls: calls.into_iter().enumerate().map(call).collect(), ..says("") }
}

pub(crate) fn tokens(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

/// Everything that a request says, as one text.
pub(crate) fn said(request: &ModelRequest) -> String {
    let mut said = request.system.clone();
    for message in &request.messages {
        said.push_str("\n---\n");
        said.push_str(match message {
            Message::User(text) | Message::Assistant { text, .. } => text,
            Message::ToolResult { content, .. } => content,
        });
    }
    said
}

/// A server that sends these bytes to whoever comes and then, after a while, closes.
pub(crate) async fn sending(bytes: impl Into<Vec<u8>>, then: Duration) -> String {
    serving(bytes, move |mut connection| async move {
        sleep(then).await;
        let _ = connection.shutdown().await;
    })
    .await
}

/// A server that sends these bytes, and then comments for ever.
pub(crate) async fn pinging(bytes: impl Into<Vec<u8>>) -> String {
    serving(bytes, |mut connection| async move {
        while connection.write_all(b": ping\n\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// A server that sends these bytes to whoever comes, and does something more with the connection.
async fn serving<F>(bytes: impl Into<Vec<u8>>, then: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> String
where
    F: Future<Output = ()> + Send,
{
    let bytes: Vec<u8> = bytes.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (bytes, then) = (bytes.clone(), then.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = connection.read(&mut request).await;
                let _ = connection.write_all(&bytes).await;
                then(connection).await;
            });
        }
    });
    format!("http://{address}/v1")
}
