//! The words that providers have for how an answer ended, and what is made of it.

use std::time::Duration;

use plandag::llm::{LlmPlanner, Message, Model, ModelError, ModelOptions, ModelReply, ModelRequest, PlanTextFormat};
use plandag::llm::{Provider, ReplyEnd, Server};
use plandag::report::ExitCode;
use plandag::{ModelProblem, Runner, tool_fn};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::sending;

fn models_at(url: &str) -> [Arc<dyn Model>; 2] {
    [Server::at(url), Server::named("deepseek").unwrap().base_url(url)]
        .map(|server| Provider::new(server.key("x")).unwrap().model("m", ModelOptions::default()))
}

fn model_at(url: &str) -> Arc<dyn Model> {
    Provider::new(Server::at(url)).unwrap().model("m", ModelOptions::default())
}

fn asks() -> ModelRequest {
    ModelRequest { messages: vec![Message::User("Do it.".into())], ..ModelRequest::default() }
}

fn usage() -> Value {
    json!({ "prompt_tokens": 7, "completion_tokens": 2 })
}

async fn whole(reason: &Value) -> String {
    let message = json!({ "role": "assistant", "content": "It is" });
    let body = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": reason }], "usage": usage() });
    sending(format!("{}{body}", head("application/json")), Duration::ZERO).await
}

async fn streamed(text: &str, reason: &Value) -> String {
    let piece = |content: &str, reason: &Value| json!({ "choices": [{ "delta": { "content": content }, "finish_reason": reason }] });
    let events = [piece(text, &Value::Null), piece("", reason), json!({ "choices": [], "usage": usage() })];
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    sending(format!("{}{events}data: [DONE]\n\n", head("text/event-stream")), Duration::ZERO).await
}

fn head(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n")
}

/// What comes of answers that end like that, however they are asked for.
async fn asked(reason: Value) -> Vec<Result<ModelReply, ModelError>> {
    let mut answers = Vec::new();
    for model in models_at(&whole(&reason).await) {
        answers.push(model.complete(asks()).await);
    }
    for model in models_at(&streamed("It is", &reason).await) {
        answers.push(model.stream(asks(), &mut |_| {}).await);
    }
    answers
}

#[tokio::test]
async fn a_word_for_an_answer_that_was_broken_off_is_no_end_of_it() {
    for word in ["error", "abort", "insufficient_system_resource", "cancelled", "pause_turn", "OTHER", "engine_failed"]
    {
        for answer in asked(json!(word)).await {
            let error = answer.unwrap_err();
            assert_eq!((error.problem, error.usage.input_tokens), (ModelProblem::CutOff, 7), "{error}");
            assert!(error.message.contains(&format!("finish reason `{word}`")), "{error}");
        }
    }
    for nothing in [json!(null), json!("")] {
        for answer in asked(nothing).await {
            let error = answer.unwrap_err();
            assert_eq!((error.problem, error.usage.input_tokens), (ModelProblem::CutOff, 7), "{error}");
            assert!(error.message.contains("without a finish reason"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_word_for_an_ordinary_end_is_one_and_one_that_nobody_knows_is_kept() {
    for (word, end) in [
        ("stop", ReplyEnd::Complete),
        ("STOP", ReplyEnd::Complete),
        ("end_turn", ReplyEnd::Complete),
        ("stop_sequence", ReplyEnd::Complete),
        ("eos", ReplyEnd::Complete),
        ("eos_token", ReplyEnd::Complete),
        ("length", ReplyEnd::Length),
        ("LENGTH", ReplyEnd::Length),
        ("max_output_tokens", ReplyEnd::Length),
        ("content_filter", ReplyEnd::Refused),
        ("sensitive", ReplyEnd::Refused),
        ("sated", ReplyEnd::Other),
    ] {
        for answer in asked(json!(word)).await {
            let reply = answer.unwrap();
            let known = (end == ReplyEnd::Other).then(|| word.to_owned());
            assert_eq!((reply.end, reply.finish_reason), (end, known), "{word}");
        }
    }
}

#[tokio::test]
async fn calls_of_tools_are_whole_also_if_nothing_says_so() {
    let call = json!({ "id": "a", "function": { "name": "now", "arguments": "{}" } });
    let choice = json!({ "message": { "content": "", "tool_calls": [call] }, "finish_reason": null });
    let body = json!({ "choices": [choice] });
    let url = sending(format!("{}{body}", head("application/json")), Duration::ZERO).await;
    assert_eq!(model_at(&url).complete(asks()).await.unwrap().end, ReplyEnd::Complete);
}

#[tokio::test]
async fn a_plan_with_its_end_mark_is_whole_also_if_nobody_knows_why_it_ended() {
    let json = r#"{"steps": [{"id": "1", "task": "do it", "depends_on": []}]}"#;
    for (format, plan, cut) in [
        (PlanTextFormat::Lines, "1. do it\nEND", "1. do it\n2. and th"),
        (PlanTextFormat::Json, json, r#"{"steps": [{"id": "1", "ta"#),
    ] {
        let run = async |text: &str, word: &str| {
            let planner = LlmPlanner::new(model_at(&streamed(text, &json!(word)).await)).format(format);
            let done = tool_fn(|_| async { Ok("done") });
            Runner::new(planner).default_tool(done).max_replans(0).run("").await.unwrap()
        };
        for word in ["eos_token", "sated"] {
            assert!(run(plan, word).await.succeeded(), "{word}");
        }
        for (text, word) in [(plan, "abort"), (cut, "sated")] {
            let report = run(text, word).await;
            assert_eq!(ExitCode::of(&report), ExitCode::NoPlan);
            let why = format!("{:?}", report.ending());
            assert!(why.contains("Truncated") && why.contains(&format!("finish reason `{word}`")), "{why}");
        }
    }
}
