//! What is paid for is counted, also if nothing comes of it.

use std::sync::Arc;
use std::time::Duration;

use plandag::llm::{
    LlmPlanner, Message, Model, ModelError, ModelOptions, ModelReply, ModelRequest, OfferedTool, PlanTool, Price,
    Provider, ReplyEnd, Server, StepModel, ToolCall,
};
use plandag::{Limits, ModelProblem, Plan, Retry, RunReport, Runner, Step, ToolSpec, Usage};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use crate::support::sending;

fn model_of(server: Server) -> Arc<dyn Model> {
    let options = ModelOptions { price: Some(Price { input: 1.0, output: 2.0 }), ..ModelOptions::default() };
    let server = server.key("x").stall_after(Duration::from_millis(300));
    Provider::new(server).unwrap().model("m", options)
}

/// A model that is asked directly, and one by way of `genai`.
fn models_at(url: &str) -> [Arc<dyn Model>; 2] {
    [Server::at(url), Server::named("deepseek").unwrap().base_url(url)].map(model_of)
}

fn model_at(provider: &str, url: &str) -> Arc<dyn Model> {
    model_of(Server::named(provider).unwrap().base_url(url))
}

/// A request of 400 bytes, which are about 100 tokens.
fn asks() -> ModelRequest {
    ModelRequest { messages: vec![Message::User("ask ".repeat(100))], ..ModelRequest::default() }
}

async fn streamed(model: &Arc<dyn Model>) -> Result<ModelReply, ModelError> {
    model.stream(asks(), &mut |_| {}).await
}

async fn serving(kind: &str, body: &str, then: Duration) -> String {
    sending(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}"), then).await
}

async fn events(events: &[Value]) -> String {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    serving("text/event-stream", &events, Duration::ZERO).await
}

async fn body(body: &str) -> String {
    serving("application/json", body, Duration::ZERO).await
}

fn piece(text: &str) -> Value {
    json!({ "choices": [{ "delta": { "content": text }, "finish_reason": null }] })
}

/// Tokens in and out, and what they cost.
type Cost = (u64, u64, u64);

fn priced(input_tokens: u64, output_tokens: u64) -> Cost {
    (input_tokens, output_tokens, input_tokens + 2 * output_tokens)
}

fn cost(usage: Usage) -> Cost {
    (usage.input_tokens, usage.output_tokens, usage.micro_usd)
}

/// The text of the answers: about 50 tokens.
fn words() -> String {
    "word ".repeat(40)
}

#[tokio::test]
async fn a_stream_that_breaks_costs_what_was_asked_and_what_came() {
    for model in models_at(&events(&[piece(&words())]).await) {
        let error = streamed(&model).await.unwrap_err();
        assert_eq!((error.problem, cost(error.usage)), (ModelProblem::CutOff, priced(100, 50)), "{error}");
    }
    let head = format!("data: {}\n\n", piece(&words()));
    for model in models_at(&serving("text/event-stream", &head, Duration::from_secs(30)).await) {
        let error = streamed(&model).await.unwrap_err();
        assert_eq!((error.problem, cost(error.usage)), (ModelProblem::Stalled, priced(100, 50)), "{error}");
    }
    let failed = json!({ "error": { "message": "out of memory" } });
    for model in models_at(&events(&[piece(&words()), failed]).await) {
        let error = streamed(&model).await.unwrap_err();
        assert_eq!((error.problem, cost(error.usage)), (ModelProblem::Unavailable, priced(100, 50)), "{error}");
    }
    // A whole answer of which a part is missing.
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\": [";
    for model in models_at(&sending(answer, Duration::ZERO).await) {
        let error = model.complete(asks()).await.unwrap_err();
        assert_eq!((error.problem, error.usage.input_tokens), (ModelProblem::CutOff, 100), "{error}");
    }
}

#[tokio::test]
async fn all_that_is_sent_counts_where_the_server_does_not_count() {
    let said = json!({ "choices": [{ "index": 0, "message": { "content": "ok" }, "finish_reason": "stop" }] });
    for model in models_at(&body(&said.to_string()).await) {
        let words = "word ".repeat(80);
        let schema = json!({ "type": "object", "description": words });
        let call = ToolCall { id: "1".into(), name: "t".into(), arguments: json!({ "x": words }), signatures: None };
        let tool = OfferedTool { name: "t".into(), description: words.clone(), arguments: schema.clone() };
        let requests = [
            (asks(), 100),
            (ModelRequest { tools: vec![tool], ..asks() }, 300),
            (ModelRequest { schema: Some(("s".into(), schema)), ..asks() }, 200),
            (
                ModelRequest {
                    messages: vec![
                        Message::User("ask ".repeat(100)),
                        Message::Assistant { text: String::new(), calls: vec![call] },
                        Message::ToolResult { id: "1".into(), name: "t".into(), content: words.clone() },
                    ],
                    ..ModelRequest::default()
                },
                300,
            ),
        ];
        for (request, tokens) in requests {
            let counted = model.complete(request).await.unwrap().usage.input_tokens;
            assert!((tokens..tokens + 15).contains(&counted), "{counted} of about {tokens}");
        }
    }
}

#[tokio::test]
async fn what_was_refused_before_the_first_word_costs_nothing() {
    let loading = json!({ "error": { "message": "the model is loading" } });
    for model in models_at(&body(&loading.to_string()).await) {
        assert_eq!(cost(model.complete(asks()).await.unwrap_err().usage), priced(0, 0));
    }
    for model in models_at(&events(&[loading]).await) {
        assert_eq!(cost(streamed(&model).await.unwrap_err().usage), priced(0, 0));
    }
    let busy = "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\r\n";
    for model in models_at(&sending(busy, Duration::ZERO).await) {
        assert_eq!(cost(streamed(&model).await.unwrap_err().usage), priced(0, 0));
        assert_eq!(cost(model.complete(asks()).await.unwrap_err().usage), priced(0, 0));
    }
    for model in models_at(&sending("", Duration::ZERO).await) {
        let error = streamed(&model).await.unwrap_err();
        assert!(error.problem == ModelProblem::CutOff && cost(error.usage) == priced(0, 0), "{error:?}");
    }
}

#[tokio::test]
async fn what_the_first_event_counts_is_kept_if_the_stream_breaks() {
    let usage = json!({ "input_tokens": 5_000, "cache_read_input_tokens": 7, "output_tokens": 1 });
    let begun = json!({ "type": "message_start", "message": { "usage": usage } });
    let said = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": words() } });
    let events = format!("event: message_start\ndata: {begun}\n\nevent: content_block_delta\ndata: {said}\n\n");
    let url = serving("text/event-stream", &events, Duration::ZERO).await;
    let error = streamed(&model_at("anthropic", &url)).await.unwrap_err();
    assert_eq!((error.problem, cost(error.usage)), (ModelProblem::CutOff, priced(5_007, 50)), "{error}");
}

#[tokio::test]
async fn half_of_a_character_is_replaced_and_the_rest_of_the_answer_counts() {
    let answer = r#"{"choices":[{"message":{"content":"so \ud83d"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":5000,"completion_tokens":10000}}"#;
    let [direct, by_genai] = models_at(&body(answer).await);
    let reply = direct.complete(asks()).await.unwrap();
    assert_eq!((reply.text.as_str(), cost(reply.usage)), ("so \u{fffd}", priced(5_000, 10_000)));
    // That one cannot be read here, but is counted.
    let error = by_genai.complete(asks()).await.unwrap_err();
    assert_eq!((error.problem, cost(error.usage)), (ModelProblem::BadAnswer, priced(5_000, 10_000)));
    let event = r#"{"choices":[{"delta":{"content":"so \ud83d"},"finish_reason":"stop"}]}"#;
    let stream = format!("data: {event}\n\ndata: [DONE]\n\n");
    let url = serving("text/event-stream", &stream, Duration::ZERO).await;
    let reply = streamed(&models_at(&url)[0]).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.end), ("so \u{fffd}", ReplyEnd::Complete));
}

#[tokio::test]
async fn what_an_error_says_that_it_cost_is_counted() {
    let usage = json!({ "prompt_tokens": 5_000, "completion_tokens": 10_000 });
    let error = json!({ "code": 502, "message": "upstream broke" });
    let choice = json!({ "message": { "content": "x" }, "finish_reason": null, "error": error });
    for answer in [json!({ "choices": [choice], "usage": usage }), json!({ "error": error, "usage": usage })] {
        for model in models_at(&body(&answer.to_string()).await) {
            let error = model.complete(asks()).await.unwrap_err();
            let expected = (ModelProblem::Unavailable, priced(5_000, 10_000));
            assert_eq!((error.problem, cost(error.usage)), expected, "{error}");
            assert!(error.message.contains("upstream broke"), "{error}");
        }
    }
    let nonsense = json!({ "choices": [{ "message": { "tool_calls": 1 } }], "usage": usage });
    let error = models_at(&body(&nonsense.to_string()).await)[0].complete(asks()).await.unwrap_err();
    assert_eq!((error.problem, cost(error.usage)), (ModelProblem::BadAnswer, priced(5_000, 10_000)));
}

#[tokio::test]
async fn a_request_that_is_blocked_is_refused_and_counted() {
    let blocked = json!({
        "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" },
        "usageMetadata": { "promptTokenCount": 90, "totalTokenCount": 90 },
    });
    let whole = model_at("gemini", &body(&blocked.to_string()).await).complete(asks()).await;
    let pieces = streamed(&model_at("gemini", &events(&[blocked]).await)).await;
    for reply in [whole.unwrap(), pieces.unwrap()] {
        assert_eq!((reply.end, reply.text.as_str()), (ReplyEnd::Refused, "PROHIBITED_CONTENT"));
        assert_eq!(cost(reply.usage), priced(90, 0));
    }
}

/// Also of one that ends in an orderly way, as `genai` has it.
#[tokio::test]
async fn an_answer_of_gemini_without_a_finish_reason_was_cut_off() {
    let begun = json!({ "candidates": [{ "content": { "parts": [{ "text": words() }] } }] });
    let error = streamed(&model_at("gemini", &events(&[begun]).await)).await.unwrap_err();
    assert_eq!((error.problem, cost(error.usage)), (ModelProblem::CutOff, priced(100, 50)), "{error}");
}

/// A server that takes its time, and a model of it that waits.
async fn slow() -> (MockServer, [Arc<dyn Model>; 2]) {
    let server = MockServer::start().await;
    let response = ResponseTemplate::new(200).set_body_raw("{}", "application/json");
    Mock::given(method("POST")).respond_with(response.set_delay(Duration::from_secs(60))).mount(&server).await;
    let models = patient_models_at(&format!("{}/v1", server.uri()));
    (server, models)
}

fn patient_models_at(url: &str) -> [Arc<dyn Model>; 2] {
    let options = || ModelOptions { price: Some(Price { input: 1.0, output: 2.0 }), ..ModelOptions::default() };
    [Server::at(url), Server::named("deepseek").unwrap().base_url(url).key("x")]
        .map(|server| Provider::new(server).unwrap().model("m", options()))
}

/// That the run counts each of these calls, and what was sent with it.
fn assert_counted(report: &RunReport, calls: u64) {
    let usage = report.usage();
    assert_eq!(usage.calls, calls, "{report:?}");
    assert!(usage.input_tokens >= 100 * calls, "{usage:?}");
    assert_eq!(usage.micro_usd, usage.input_tokens + 2 * usage.output_tokens);
}

#[tokio::test]
async fn a_call_that_is_dropped_counts_and_so_limits_hold() {
    let (_server, models) = slow().await;
    for model in models {
        let asks = Plan::from_iter([Step::described("a", "ask ".repeat(100)).timeout_ms(100)]);
        let runner = Runner::new(asks).default_tool(StepModel::new(model));
        let often = Retry { max_attempts: 3, base_ms: 0, ..Retry::default() };
        let report = runner.clone().retry(often).run("").await.unwrap();
        assert_counted(&report, 3);
        let limits = Limits { tokens: Some(50), ..Limits::default() };
        let report = runner.retry(often).limits(limits).run("").await.unwrap();
        assert_counted(&report, 1);
    }
}

#[tokio::test]
async fn what_has_come_of_a_plan_that_is_given_up_counts() {
    let said = words();
    let events = format!("data: {}\n\n", piece(&said));
    for model in patient_models_at(&serving("text/event-stream", &events, Duration::from_secs(60)).await) {
        let objective = "ask ".repeat(100);
        let runner = Runner::new(LlmPlanner::new(model.clone())).default_tool(StepModel::new(model.clone()));
        // It is asked again as often as it may correct itself.
        let report = runner.clone().planner_timeout(Duration::from_millis(150)).run(&objective).await.unwrap();
        assert_counted(&report, 3);
        assert_eq!(report.usage().output_tokens, 3 * 50);
        // It is ended with the run.
        let report = runner.deadline(Duration::from_millis(300)).run(&objective).await.unwrap();
        assert_counted(&report, 1);
        assert_eq!(report.usage().output_tokens, 50);
        // It plans for a step.
        let sub = PlanTool::new(LlmPlanner::new(model), vec![ToolSpec::new("look", "")], "look");
        let plan =
            Plan::from_iter([Step::new("a", PlanTool::NAME).args(json!({ "objective": objective })).timeout_ms(150)]);
        let report = Runner::new(plan).tool(PlanTool::NAME, sub).retry(Retry::NEVER).run("").await.unwrap();
        assert_counted(&report, 1);
        assert_eq!(report.usage().output_tokens, 50);
    }
}

#[tokio::test]
async fn what_came_before_a_plan_was_given_up_counts() {
    let busy = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\n";
    let model = patient_models_at(&sending(busy, Duration::ZERO).await)[0].clone();
    let report = Runner::new(LlmPlanner::new(model.clone()))
        .default_tool(StepModel::new(model))
        .deadline(Duration::from_millis(1_200))
        .run("")
        .await
        .unwrap();
    assert!((1..=5).contains(&report.usage().calls), "{:?}", report.usage());
}

#[tokio::test]
async fn a_server_may_count_as_many_tokens_as_it_likes() {
    let usage = json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX });
    let said = json!({
        "choices": [{ "index": 0, "message": { "content": "ok" }, "finish_reason": "stop" }], "usage": usage,
    });
    let limits = plandag::llm::RateLimits { tokens_per_minute: Some(1_000), ..Default::default() };
    let server = Server::at(body(&said.to_string()).await).limits(limits);
    let model = Provider::new(server).unwrap().model("m", ModelOptions::default());
    assert_eq!(model.complete(asks()).await.unwrap().usage.input_tokens, u64::MAX);
    assert!(model.complete(asks()).await.unwrap_err().is_deferred, "it is far more than there may be in a minute");
    let usage = json!({ "input_tokens": u64::MAX, "cache_read_input_tokens": 7, "output_tokens": 1 });
    let begun = json!({ "type": "message_start", "message": { "usage": usage } });
    let error = streamed(&model_at("anthropic", &events(&[begun]).await)).await.unwrap_err();
    assert_eq!(error.usage.input_tokens, u64::MAX, "{error}");
}
