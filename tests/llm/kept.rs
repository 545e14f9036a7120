//! Connections that are kept for the next request, and that a server closes without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use plandag::ModelProblem;
use plandag::llm::{Message, Model, ModelError, ModelOptions, ModelRequest, Provider, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BODY: &str = r#"{"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Paris."}}]}"#;

/// A server that answers the first request of each connection. To a second one it says `word`, and closes; whether it then
/// still answers others, `goes_on` says. How many requests there were is counted.
async fn closing(goes_on: bool, word: &'static str) -> (Arc<dyn Model>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::at(format!("http://{}/v1", listener.local_addr().unwrap()));
    let (requests, has_closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (count, has_closed) = (Arc::clone(&count), Arc::clone(&has_closed));
            tokio::spawn(async move {
                let mut is_first = true;
                while has_asked(&mut connection).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let is_answered = is_first && (goes_on || !has_closed.load(Ordering::SeqCst));
                    let answer = if is_answered { head() + BODY } else { word.to_owned() };
                    connection.write_all(answer.as_bytes()).await.unwrap();
                    if !is_answered {
                        has_closed.store(true, Ordering::SeqCst);
                        break;
                    }
                    is_first = false;
                }
            });
        }
    });
    (Provider::new(server).unwrap().model("m", ModelOptions::default()), requests)
}

fn head() -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", BODY.len())
}

/// Reads a whole request. False: there are no more.
async fn has_asked(connection: &mut TcpStream) -> bool {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        match connection.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => request.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
        }
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if length.is_none_or(|length: usize| body.len() >= length) {
            return true;
        }
    }
}

/// Asks until a request has been lost, or answered with an error.
async fn ask_on(model: &Arc<dyn Model>, requests: &AtomicUsize) -> (usize, Result<(), ModelError>) {
    let before = requests.load(Ordering::SeqCst);
    for calls in 1..1_000 {
        let asks = ModelRequest { messages: vec![Message::User("Where?".into())], ..ModelRequest::default() };
        let answered = match calls % 2 {
            0 => model.complete(asks).await,
            _ => model.stream(asks, &mut |_| {}).await,
        };
        let lost = requests.load(Ordering::SeqCst) - before - calls;
        match answered {
            Err(error) => return (lost, Err(error)),
            Ok(reply) => assert_eq!(reply.text, "Paris."),
        }
        if lost > 0 {
            return (lost, Ok(()));
        }
    }
    panic!("no connection was used twice");
}

#[tokio::test]
async fn a_request_that_is_lost_with_a_kept_connection_is_sent_once_more() {
    let (model, requests) = closing(true, "").await;
    for _ in 0..3 {
        assert_eq!(ask_on(&model, &requests).await, (1, Ok(())));
    }
}

#[tokio::test]
async fn a_request_is_sent_at_most_twice() {
    let (model, requests) = closing(false, "").await;
    let (lost, answered) = ask_on(&model, &requests).await;
    assert_eq!((lost, answered.unwrap_err().problem), (1, ModelProblem::CutOff));
    let (lost, answered) = ask_on(&model, &requests).await;
    assert_eq!((lost, answered.unwrap_err().problem), (0, ModelProblem::CutOff), "a new connection is not tried again");
}

#[tokio::test]
async fn a_request_whose_answer_has_begun_is_not_sent_again() {
    let begun: &str = Box::leak((head() + &BODY[..30]).into_boxed_str());
    let (model, requests) = closing(true, begun).await;
    let (lost, answered) = ask_on(&model, &requests).await;
    assert_eq!((lost, answered.unwrap_err().problem), (0, ModelProblem::CutOff));
}
