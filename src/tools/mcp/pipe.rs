//! Messages over the standard input and output of a program: one JSON text a line.

use std::io;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::message;

/// The longest message.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// A server may write so many lines, and so many bytes, that answer nothing, before it is taken to be out of order.
const MAX_UNASKED_LINES: u64 = 100_000;
const MAX_UNASKED_BYTES: u64 = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Why a connection has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason(Arc<StdMutex<Option<String>>>);

impl Reason {
    /// Says why; the first word counts.
    pub(super) fn set(&self, reason: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.into());
    }

    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The two pipes to a server.
pub(super) struct Pipe {
    /// None once it is closed, which tells the server to end.
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    unasked: Unasked,
    reason: Reason,
}

/// What the server has written since its last answer.
#[derive(Default)]
struct Unasked {
    lines: u64,
    bytes: u64,
}

impl Pipe {
    pub(super) fn new(stdin: ChildStdin, stdout: ChildStdout, reason: Reason) -> Self {
        Self {
            stdin: Arc::new(Mutex::new(Some(stdin))),
            stdout: BufReader::with_capacity(BUFFER_BYTES, stdout),
            line: Vec::new(),
            unasked: Unasked::default(),
            reason,
        }
    }

    /// The next line, without its end. Nothing is lost if the future is dropped: what was read stays in `line`.
    async fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let available = match self.stdout.fill_buf().await {
                Ok([]) => {
                    self.reason.set("it has ended");
                    return None;
                }
                Ok(available) => available,
                Err(error) => {
                    self.reason.set(format!("its output cannot be read: {error}"));
                    return None;
                }
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.line.extend_from_slice(&available[..end.unwrap_or(taken)]);
            self.stdout.consume(taken);
            if self.line.len() > MAX_MESSAGE_BYTES {
                self.reason.set(format!("it has sent a message of more than {MAX_MESSAGE_BYTES} bytes"));
                return None;
            }
            if end.is_some() {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }

    /// Counts a line that answers nothing. There can be too many.
    fn count_unasked(&mut self, bytes: usize) -> bool {
        self.unasked.lines += 1;
        self.unasked.bytes += bytes as u64;
        let too_many = self.unasked.lines > MAX_UNASKED_LINES || self.unasked.bytes > MAX_UNASKED_BYTES;
        if too_many {
            self.reason.set("it floods its output with what nobody has asked for");
        }
        too_many
    }
}

impl Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            match stdin.lock().await.as_mut() {
                Some(stdin) => {
                    stdin.write_all(&line).await?;
                    stdin.flush().await
                }
                None => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let line = self.next_line().await?;
            match message::read(&line) {
                Some(message) => {
                    if matches!(
                        message,
                        RxJsonRpcMessage::<RoleClient>::Response(_) | RxJsonRpcMessage::<RoleClient>::Error(_)
                    ) {
                        self.unasked = Unasked::default();
                    } else if self.count_unasked(line.len()) {
                        return None;
                    }
                    return Some(message);
                }
                // Programs greet, warn and log where they should not.
                None if self.count_unasked(line.len()) => return None,
                None => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.stdin.lock().await.take();
        Ok(())
    }
}
