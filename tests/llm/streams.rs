//! Answers in pieces, as servers really send them: some leave out how they end, some break off, some say things in their
//! own way.

use std::time::Duration;

use plandag::ModelProblem;
use plandag::llm::{Message, ModelError, ModelOptions, ModelReply, ModelRequest, Provider, ReplyEnd, Server};
use serde_json::{Value, json};

use crate::support::sending;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Chunked,
    Length,
    /// By the end of the connection.
    Close,
}

const FRAMINGS: [Framing; 3] = [Framing::Chunked, Framing::Length, Framing::Close];

impl Framing {
    /// An answer with this body, of which the last bytes never come.
    fn answer(self, kind: &str, body: &[u8], missing: usize) -> Vec<u8> {
        let (said, end) = match self {
            Self::Chunked => (format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()), "\r\n0\r\n\r\n"),
            Self::Length => (format!("content-length: {}\r\n\r\n", body.len()), ""),
            Self::Close => ("\r\n".to_owned(), ""),
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n{said}");
        let mut answer = [head.as_bytes(), body, end.as_bytes()].concat();
        answer.truncate(answer.len() - missing);
        answer
    }
}

/// What comes of a request for an answer in pieces.
async fn asked(answer: Vec<u8>) -> Result<ModelReply, ModelError> {
    asked_at(Server::at(sending(answer, Duration::ZERO).await).stall_after(Duration::from_secs(20))).await
}

async fn asked_at(server: Server) -> Result<ModelReply, ModelError> {
    let model = Provider::new(server).unwrap().model("m", ModelOptions::default());
    let request = ModelRequest { messages: vec![Message::User("Plan it.".into())], ..ModelRequest::default() };
    let mut pieces = String::new();
    let reply = model.stream(request, &mut |piece| pieces.push_str(piece)).await?;
    assert_eq!(reply.text, pieces);
    Ok(reply)
}

async fn streamed(events: &str) -> Result<ModelReply, ModelError> {
    asked(Framing::Chunked.answer("text/event-stream", events.as_bytes(), 0)).await
}

fn problem(reply: Result<ModelReply, ModelError>) -> ModelProblem {
    reply.unwrap_err().problem
}

/// An event with a piece, and with how the model says that it ended.
fn event(content: &str, finish: Value) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": content }, "finish_reason": finish }] }))
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// As ik_llama.cpp and some gateways have it.
#[tokio::test]
async fn an_answer_that_says_how_it_ended_needs_no_last_event() {
    let events = event("1. a\n", json!(null)) + &event("", json!("stop")) + USAGE;
    for framing in FRAMINGS {
        let reply = asked(framing.answer("text/event-stream", events.as_bytes(), 0)).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.end), ("1. a\n", ReplyEnd::Complete), "{framing:?}");
        assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (7, 2), "{framing:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_say_how_it_ended_was_cut_off() {
    for events in [event("1. a\n", json!(null)), event("", json!(null)), event("1. a\n", json!("")) + USAGE] {
        for framing in FRAMINGS {
            let reply = asked(framing.answer("text/event-stream", events.as_bytes(), 0)).await;
            assert_eq!(problem(reply), ModelProblem::CutOff, "{framing:?}: {events}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_all_there_was_cut_off_whatever_it_says() {
    let events = event("1. a\n", json!("stop"));
    for framing in [Framing::Chunked, Framing::Length] {
        for missing in [1, 2, 30] {
            let reply = asked(framing.answer("text/event-stream", events.as_bytes(), missing)).await;
            assert_eq!(problem(reply), ModelProblem::CutOff, "{framing:?}, {missing} bytes");
        }
    }
    let whole = json!({ "choices": [{ "message": { "content": "1. a" }, "finish_reason": "stop" }] }).to_string();
    for framing in FRAMINGS {
        for missing in [1, 30] {
            // Of what ends with the connection nobody can tell otherwise.
            let reply = asked(framing.answer("application/json", whole.as_bytes(), missing)).await;
            assert_eq!(problem(reply), ModelProblem::CutOff, "{framing:?}, {missing} bytes");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_is_whole_or_cut_off() {
    let first = event("1. ä\\n", json!(null));
    let events = first.clone() + ": ping\n\n" + &event("2. b", json!("stop")) + USAGE + DONE;
    let text = "1. ä\\n2. b";
    let mut whole = 0;
    for end in 0..=events.len() {
        match asked(Framing::Close.answer("text/event-stream", &events.as_bytes()[..end], 0)).await {
            Ok(reply) => {
                assert_eq!((reply.text.as_str(), reply.end), (text, ReplyEnd::Complete), "{end} bytes");
                whole += 1;
            }
            // Nothing says that it is a model's.
            Err(error) if end <= "data: ".len() => assert_eq!(error.problem, ModelProblem::NotAnApi),
            Err(error) => assert_eq!(error.problem, ModelProblem::CutOff, "{end} bytes: {error}"),
        }
    }
    assert!(whole > DONE.len(), "from when it said how it ended");
}

#[tokio::test]
async fn what_comes_after_the_end_of_an_answer_does_not_take_it_back() {
    let answer = event("1. a", json!("stop"));
    for after in ["data: done\n\n", "data: {\"choices\":7}\n\n", "data: {\"choices\":[],\"usa"] {
        assert_eq!(streamed(&(answer.clone() + after)).await.unwrap().text, "1. a", "{after}");
    }
    let error = streamed(&(answer + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n")).await;
    assert_eq!(problem(error), ModelProblem::Unavailable);
}

/// As some proxies leave a connection open.
#[tokio::test]
async fn an_answer_that_says_how_it_ended_is_not_given_up_because_nothing_follows() {
    let mut answer = Framing::Chunked.answer("text/event-stream", event("1. a", json!("stop")).as_bytes(), 0);
    answer.truncate(answer.len() - b"0\r\n\r\n".len());
    let server = Server::at(sending(answer, Duration::from_secs(60)).await).stall_after(Duration::from_millis(300));
    assert_eq!(asked_at(server).await.unwrap().text, "1. a");
}

#[tokio::test]
async fn what_servers_say_in_their_own_way_is_understood() {
    let piece = |content: &str| event(content, json!(null));
    let plain = event("a", json!(null)) + &event("b", json!("stop"));
    let no_delta = json!({ "choices": [{ "index": 0, "finish_reason": null, "content_filter_offsets": {} }] });
    let filtered = json!({ "id": "", "choices": [], "model": "", "object": "", "prompt_filter_results": [{}] });
    let nulls = json!({ "choices": null, "usage": null, "error": null, "nonsense": null });
    let null_delta =
        json!({ "choices": [{ "delta": null, "message": null, "finish_reason": null, "logprobs": null }] });
    let null_content = json!({ "choices": [{ "delta": { "role": null, "content": null, "tool_calls": null } }] });
    for (name, events) in [
        (
            "Ollama and SGLang: no reason yet",
            event("a", json!("")) + &event("b", json!("")) + &event("", json!("stop")),
        ),
        ("vLLM: the last piece with the reason", plain.clone()),
        ("Azure: filters first", format!("data: {filtered}\n\n{plain}")),
        ("Azure: filters in between", format!("{}data: {no_delta}\n\n{}", piece("a"), event("b", json!("stop")))),
        ("OpenRouter: comments", format!(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n{plain}")),
        ("empty events", format!("data:\n\nevent: ping\ndata: \n\n{plain}")),
        ("GLM: no empty line between two events", plain.replace("\n\n", "\n")),
        ("lines that end as on Windows", plain.replace('\n', "\r\n")),
        ("no blank after the colon", plain.replace("data: ", "data:")),
        ("the mark of an encoding", format!("\u{feff}{plain}")),
        ("nulls", format!("data: {nulls}\n\ndata: {null_delta}\n\ndata: {null_content}\n\n{plain}")),
        ("more than was asked for", plain.clone() + &event("c", json!(null)).replace("\"c\"", "\"\"")),
    ] {
        let reply = streamed(&(events.clone() + USAGE + DONE)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((reply.text.as_str(), reply.end), ("ab", ReplyEnd::Complete), "{name}");
        assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (7, 2), "{name}");
    }
    // Whatever these mean, the answer is there.
    for reason in [json!(0), json!(true), json!({ "type": "stop" }), json!(["stop"])] {
        let reply = streamed(&(event("ab", reason.clone()) + DONE)).await.unwrap();
        let is_there = matches!(reply.end, ReplyEnd::Complete | ReplyEnd::Other);
        assert!(reply.text == "ab" && is_there, "{reason}: {reply:?}");
    }
    let whole = json!({ "choices": [{ "message": { "content": "ab" }, "finish_reason": 0 }] });
    let whole = asked(Framing::Length.answer("application/json", format!("\u{feff}{whole}").as_bytes(), 0)).await;
    assert_eq!(whole.unwrap().text, "ab");
}

/// Also with the status 200, which was sent before.
#[tokio::test]
async fn an_error_in_place_of_an_answer_is_the_problem_that_it_is() {
    let error = |code: Value, message: &str| json!({ "code": code, "message": message });
    let data = |value: Value| format!("data: {value}\n\n");
    let too_long = error(json!(400), "the request exceeds the available context size");
    let busy = error(json!(429), "Rate limit exceeded");
    let lost = error(json!(502), "Provider disconnected");
    for (name, events, problem) in [
        ("llama.cpp until 2025", format!("error: {too_long}\n\n{DONE}"), ModelProblem::ContextOverflow),
        ("llama.cpp", data(json!({ "error": too_long })), ModelProblem::ContextOverflow),
        ("OpenRouter", data(json!({ "choices": [], "error": busy })), ModelProblem::RateLimited),
        (
            "OpenRouter, in the middle",
            data(json!({ "choices": [{ "delta": { "content": "" }, "finish_reason": "error", "error": lost }] })),
            ModelProblem::Unavailable,
        ),
        (
            "LM Studio",
            data(json!({ "error": { "message": "Compute error." }, "message": "Compute error." })),
            ModelProblem::Unavailable,
        ),
        (
            "a code of its own",
            data(json!({ "error": error(json!("oom"), "out of memory") })),
            ModelProblem::Unavailable,
        ),
        ("a text", data(json!({ "error": "out of memory" })), ModelProblem::Unavailable),
    ] {
        let error = streamed(&(event("1. a\n", json!(null)) + &events)).await.unwrap_err();
        assert_eq!(error.problem, problem, "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_text_is_replaced() {
    let piece = |content: &[u8]| [b"data: {\"choices\":[{\"delta\":{\"content\":\"", content, b"\"}}]}\n\n"].concat();
    let end = event("c", json!("stop"));
    let events = [piece(b"a\xff\xfe"), piece(b"b\\ud83d"), end.into_bytes(), DONE.into()].concat();
    let reply = asked(Framing::Chunked.answer("text/event-stream", &events, 0)).await.unwrap();
    assert_eq!(reply.text, "a\u{fffd}\u{fffd}b\u{fffd}c");
}

/// Its reader takes whole characters only. What it cannot read is not left out of an answer: there is none.
#[tokio::test]
async fn by_way_of_genai_half_a_character_makes_an_answer_unreadable() {
    let piece = |content: &str, half: &str| event(content, json!(null)).replace('\u{fffd}', half);
    let halves = piece("1. a\u{fffd}", "\\ud83d") + &piece("\u{fffd}b\n", "\\ude00");
    let events = halves + &event("END\n", json!("stop")) + DONE;
    let answer = Framing::Chunked.answer("text/event-stream", events.as_bytes(), 0);
    let by_genai = Server::named("deepseek").unwrap().base_url(sending(answer, Duration::ZERO).await).key("sk-x");
    let error = asked_at(by_genai).await.unwrap_err();
    assert_eq!(error.problem, ModelProblem::BadAnswer, "{error}");
    let whole = event("1. \u{1f600}\nEND\n", json!("stop")) + DONE;
    let answer =
        Framing::Chunked.answer("text/event-stream", whole.replace('\u{1f600}', "\\ud83d\\ude00").as_bytes(), 0);
    let by_genai = Server::named("deepseek").unwrap().base_url(sending(answer, Duration::ZERO).await).key("sk-x");
    assert_eq!(asked_at(by_genai).await.unwrap().text, "1. \u{1f600}\nEND\n");
}
