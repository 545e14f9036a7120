//! Models behind real connections: what goes over the wire, and what is made of all that can come back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use plandag::llm::{
    Message, Model, ModelError, ModelOptions, ModelReply, ModelRequest, OfferedTool, Price, Provider, RateLimits,
    ReplyEnd, Server,
};
use plandag::{ModelProblem, StepError, StepErrorKind};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{pinging, sending};

const SECRET: &str = "sk-test-very-secret";

/// Servers at this address: one that is spoken to directly, and one by way of `genai`. What holds must hold for both.
fn servers_at(url: &str) -> [Server; 2] {
    [Server::at(url), Server::named("deepseek").unwrap().base_url(url)].map(|server| server.key(SECRET))
}

fn models_at(url: &str) -> [Arc<dyn Model>; 2] {
    servers_at(url).map(|server| {
        let server = server.stall_after(Duration::from_millis(300));
        Provider::new(server).unwrap().model("local-high", ModelOptions::default())
    })
}

fn asks(text: &str) -> ModelRequest {
    ModelRequest { system: "Be brief.".into(), messages: vec![Message::User(text.into())], ..ModelRequest::default() }
}

/// What comes of a request for a whole answer.
async fn complete(server: &MockServer, request: ModelRequest) -> Result<ModelReply, ModelError> {
    let [one, other] = models_at(&format!("{}/v1", server.uri()));
    let answered = one.complete(request.clone()).await;
    assert_same(&answered, &other.complete(request).await);
    answered
}

/// What comes of a stream, and the pieces that came.
async fn stream(url: &str) -> (Result<ModelReply, ModelError>, String) {
    let [one, other] = models_at(url);
    let (mut pieces, mut other_pieces) = (String::new(), String::new());
    let answered = one.stream(asks("Plan it."), &mut |piece| pieces.push_str(piece)).await;
    assert_same(&answered, &other.stream(asks("Plan it."), &mut |piece| other_pieces.push_str(piece)).await);
    assert_eq!(pieces, other_pieces);
    (answered, pieces)
}

fn assert_same(one: &Result<ModelReply, ModelError>, other: &Result<ModelReply, ModelError>) {
    match (one, other) {
        (Err(one), Err(other)) => assert_eq!(one.problem, other.problem, "{one:?} {other:?}"),
        (one, other) => assert_eq!(one, other),
    }
}

async fn answering(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(response).mount(&server).await;
    server
}

fn answer(content: &str, finish: &str) -> Value {
    json!({
        "id": "1", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{ "index": 0, "finish_reason": finish, "message": { "role": "assistant", "content": content } }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15 },
    })
}

fn event(content: &str, finish: Option<&str>) -> String {
    let choice = json!({ "index": 0, "delta": { "content": content }, "finish_reason": finish });
    format!("data: {}\n\n", json!({ "id": "1", "choices": [choice] }))
}

fn head(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_request_goes_out_as_it_should_and_the_answer_comes_back_with_its_cost() {
    let server = answering(ResponseTemplate::new(200).set_body_json(answer(" Paris. ", "stop"))).await;
    let provider = Provider::new(Server::at(format!("{}/v1/", server.uri())).key(SECRET)).unwrap();
    let options = ModelOptions {
        temperature: Some(0.5),
        max_output_tokens: Some(9),
        price: Some(Price { input: 1.0, output: 2.0 }),
    };
    let tool = OfferedTool {
        name: "now".into(),
        description: "Tells the time.".into(),
        arguments: json!({ "type": "object" }),
    };
    let request = ModelRequest { tools: vec![tool], ..asks("Capital of France?") };
    let reply = provider.model("some-model-medium", options).complete(request).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.end), ("Paris.", ReplyEnd::Complete));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.micro_usd), (12, 3, 18));
    let requests = server.received_requests().await.unwrap();
    let body: Value = requests[0].body_json().unwrap();
    assert_eq!(body["model"], "some-model-medium", "the end of a name is not taken for an effort");
    assert_eq!(
        body["messages"],
        json!([
            { "role": "system", "content": "Be brief." }, { "role": "user", "content": "Capital of France?" },
        ])
    );
    assert_eq!((&body["temperature"], &body["max_tokens"]), (&json!(0.5), &json!(9)));
    assert_eq!(body["tools"][0]["function"]["name"], "now");
    assert!(body.get("reasoning_effort").is_none(), "{body}");
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {SECRET}"));
}

#[tokio::test]
async fn calls_of_tools_and_their_results_keep_together() {
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "now", "arguments": "{\"zone\": \"UTC\"}" } });
    let mut answered = answer("", "tool_calls");
    answered["choices"][0]["message"]["tool_calls"] = json!([call]);
    let server = answering(ResponseTemplate::new(200).set_body_json(answered)).await;
    let reply = complete(&server, asks("What time is it?")).await.unwrap();
    assert_eq!((reply.calls[0].name.as_str(), &reply.calls[0].arguments), ("now", &json!({ "zone": "UTC" })));
    let mut again = asks("What time is it?");
    again.messages.push(Message::Assistant { text: String::new(), calls: reply.calls });
    again.messages.push(Message::ToolResult { id: "c1".into(), name: "now".into(), content: "noon".into() });
    complete(&server, again.clone()).await.unwrap();
    // Servers refuse calls of tools that are not named, and a choice where there are none.
    let tool = OfferedTool { name: "now".into(), description: String::new(), arguments: json!({ "type": "object" }) };
    let named = ModelRequest { tools: vec![tool], must_answer: true, ..again.clone() };
    complete(&server, named).await.unwrap();
    complete(&server, ModelRequest { must_answer: true, ..again }).await.unwrap();
    for (number, request) in server.received_requests().await.unwrap().iter().enumerate().skip(2) {
        let body: Value = request.body_json().unwrap();
        let must_answer = matches!(number, 4 | 5);
        assert_eq!((&body["tool_choice"] == "none", body["tools"].is_array()), (must_answer, must_answer), "{body}");
        assert_eq!(body["messages"][2]["tool_calls"][0]["id"], "c1");
        assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["arguments"], "{\"zone\":\"UTC\"}");
        assert_eq!(body["messages"][3], json!({ "role": "tool", "content": "noon", "tool_call_id": "c1" }));
    }
}

#[tokio::test]
async fn a_schema_is_sent_also_to_ollama() {
    let server = answering(ResponseTemplate::new(200).set_body_json(answer("{}", "stop"))).await;
    // The server behind the name `ollama`, at another address.
    let ollama = Server::named("ollama").unwrap().base_url(format!("{}/v1", server.uri()));
    let model = Provider::new(ollama).unwrap().model("ollama::llama3.2", ModelOptions::default());
    let schema = json!({ "type": "object", "properties": { "steps": { "type": "array" } } });
    let request = ModelRequest { schema: Some(("plan".into(), schema.clone())), ..asks("Plan.") };
    model.complete(request).await.unwrap();
    let body: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    assert_eq!(body["model"], "llama3.2");
    let format = &body["response_format"]["json_schema"];
    assert_eq!((&format["name"], &format["schema"]), (&json!("plan"), &schema));
}

#[tokio::test]
async fn a_stream_is_handed_on_piece_by_piece() {
    let tail = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let bytes = head("text/event-stream") + &event("1. ", None) + &event("a\n", None) + &event("", Some("stop")) + tail;
    let (reply, pieces) = stream(&sending(bytes, Duration::ZERO).await).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), pieces.as_str(), reply.end), ("1. a\n", "1. a\n", ReplyEnd::Complete));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (7, 2));
}

#[tokio::test]
async fn what_servers_say_beside_the_answer_does_no_harm() {
    let said = json!({ "role": "assistant", "content": [{ "type": "thinking", "thinking": [] }, { "type": "text", "text": "Paris." }] });
    let choice = json!({ "index": 0, "finish_reason": "stop", "message": said, "logprobs": null });
    let body =
        json!({ "choices": [choice], "usage": { "prompt_tokens": "many", "completion_tokens": 3 }, "error": null });
    let server = answering(ResponseTemplate::new(200).set_body_json(body)).await;
    let model = Provider::new(Server::at(format!("{}/v1", server.uri()))).unwrap().model("m", ModelOptions::default());
    let reply = model.complete(asks("Capital of France?")).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.usage.input_tokens, reply.usage.output_tokens), ("Paris.", 0, 3));
    let bytes = head("text/event-stream")
        + ": processing\r\n\r\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"usage\":null}\r\n\r\n"
        + "data: {\"choices\":[{\"delta\":{\"content\":\"\\u00fc\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]";
    let (reply, pieces) = stream(&sending(bytes, Duration::ZERO).await).await;
    assert_eq!((reply.unwrap().end, pieces.as_str()), (ReplyEnd::Complete, "ü"));
}

#[tokio::test]
async fn arguments_that_are_no_json_stay_text_and_go_back_as_none() {
    let call = |arguments: &str| {
        let function = json!({ "name": "now", "arguments": arguments });
        json!({ "id": "c1", "type": "function", "function": function })
    };
    let mut answered = answer("", "tool_calls");
    answered["choices"][0]["message"]["tool_calls"] = json!([call("{zone: UTC")]);
    let server = answering(ResponseTemplate::new(200).set_body_json(answered)).await;
    let model = Provider::new(Server::at(format!("{}/v1", server.uri()))).unwrap().model("m", ModelOptions::default());
    let reply = model.complete(asks("What time is it?")).await.unwrap();
    assert_eq!(reply.calls[0].arguments, json!("{zone: UTC"));
    let mut again = asks("What time is it?");
    again.messages.push(Message::Assistant { text: String::new(), calls: reply.calls });
    model.complete(again).await.unwrap();
    let body: Value = server.received_requests().await.unwrap()[1].body_json().unwrap();
    assert_eq!(body["messages"][2]["tool_calls"][0], call("{}"), "servers read it again");
}

#[tokio::test]
async fn a_call_without_arguments_or_a_number_is_one() {
    let functions = [
        json!({ "name": "now", "arguments": "" }),
        json!({ "name": "now", "arguments": null }),
        json!({ "name": "now" }),
    ];
    let calls = functions.map(|function| json!({ "id": null, "function": function }));
    let mut answered = answer("", "tool_calls");
    answered["choices"][0]["message"]["tool_calls"] = json!(calls);
    let server = answering(ResponseTemplate::new(200).set_body_json(answered)).await;
    let model = Provider::new(Server::at(format!("{}/v1", server.uri()))).unwrap().model("m", ModelOptions::default());
    let calls = model.complete(asks("What time is it?")).await.unwrap().calls;
    let calls: Vec<_> = calls.iter().map(|call| (call.id.as_str(), call.arguments.to_string())).collect();
    assert_eq!(calls, ["call_1", "call_2", "call_3"].map(|id| (id, "{}".to_owned())));
}

#[tokio::test]
async fn every_call_has_an_id_of_its_own() {
    let calls = ["x", "", "x", "call_1", ""];
    let calls =
        calls.map(|id| json!({ "id": id, "type": "function", "function": { "name": "now", "arguments": "{}" } }));
    let mut answered = answer("", "tool_calls");
    answered["choices"][0]["message"]["tool_calls"] = json!(calls);
    let server = answering(ResponseTemplate::new(200).set_body_json(answered)).await;
    let calls = complete(&server, asks("What time is it?")).await.unwrap().calls;
    let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["x", "call_2", "call_3", "call_1", "call_4"]);
}

#[tokio::test]
async fn pieces_are_read_of_servers_that_say_more_with_them() {
    let choices = [
        json!({ "message": { "content": "on" }, "delta": { "content": "on" }, "finish_reason": null }),
        json!({ "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": "{" } }] } }),
        json!({ "message": { "content": "one" }, "delta": { "content": "e" }, "finish_reason": "stop" }),
    ];
    let events: String = choices.map(|choice| format!("data: {}\n\n", json!({ "choices": [choice] }))).concat();
    let server = sending(head("text/event-stream") + &events + "data: [DONE]\n\n", Duration::ZERO).await;
    let (reply, pieces) = stream(&server).await;
    assert_eq!((reply.unwrap().text.as_str(), pieces.as_str()), ("one", "one"));
}

#[tokio::test]
async fn a_whole_answer_where_pieces_were_asked_for_is_one() {
    let whole = sending(head("application/json") + &answer("one", "stop").to_string(), Duration::ZERO).await;
    let [model, _] = models_at(&whole);
    let mut pieces = String::new();
    let reply = model.stream(asks("Plan it."), &mut |piece| pieces.push_str(piece)).await;
    assert_eq!((reply.unwrap().end, pieces.as_str()), (ReplyEnd::Complete, "one"));
    let trouble = json!({ "error": { "message": "the model is loading" } }).to_string();
    let [model, _] = models_at(&sending(head("application/json") + &trouble, Duration::ZERO).await);
    let error = model.stream(asks("Plan it."), &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("the model is loading"), "{error}");
}

#[tokio::test]
async fn an_address_keeps_what_it_says_beside_the_path() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/gateway/v1/chat/completions"))
        .and(query_param("version", "2"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer("done", "stop")))
        .mount(&server)
        .await;
    let at = Server::at(format!("{}/gateway/v1?version=2", server.uri()));
    Provider::new(at).unwrap().model("m", ModelOptions::default()).complete(asks("x")).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_cut_between_two_events_is_no_answer() {
    let bytes = head("text/event-stream") + &event("1. a\n", None) + &event("2. b\n", None);
    let (reply, pieces) = stream(&sending(bytes, Duration::ZERO).await).await;
    assert_eq!((reply.unwrap_err().problem, pieces.as_str()), (ModelProblem::CutOff, "1. a\n2. b\n"));
}

#[tokio::test]
async fn a_stream_that_is_cut_at_the_limit_of_length_says_so() {
    let bytes = head("text/event-stream") + &event("1. a\n", Some("length")) + "data: [DONE]\n\n";
    let (reply, _) = stream(&sending(bytes, Duration::ZERO).await).await;
    assert_eq!(reply.unwrap().end, ReplyEnd::Length);
}

#[tokio::test]
async fn comments_are_no_word_of_a_model() {
    let words = head("text/event-stream") + &event("1. a\n", None);
    let (half, whole) = (pinging(words.clone()).await, pinging(words + &event("", Some("stop"))).await);
    let asked = async {
        let (reply, _) = stream(&half).await;
        assert_eq!(reply.unwrap_err().problem, ModelProblem::Stalled);
        let [model, _] = models_at(&whole);
        let reply = model.stream(asks("Plan it."), &mut |_| {}).await;
        assert_eq!(reply.unwrap().text, "1. a\n", "nothing of the answer is missing");
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it ends");
}

#[tokio::test]
async fn a_stream_that_stalls_is_given_up() {
    let bytes = head("text/event-stream") + &event("1. a\n", None);
    let began = Instant::now();
    let (reply, _) = stream(&sending(bytes, Duration::from_secs(30)).await).await;
    assert_eq!(reply.unwrap_err().problem, ModelProblem::Stalled);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_ends_it() {
    let bytes =
        head("text/event-stream") + &event("1. a\n", None) + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    let (reply, _) = stream(&sending(bytes, Duration::ZERO).await).await;
    let error = reply.unwrap_err();
    assert!(error.problem == ModelProblem::Unavailable && error.message.contains("out of memory"), "{error:?}");
}

#[tokio::test]
async fn what_is_no_api_of_a_model_is_recognised() {
    let html = ResponseTemplate::new(200).set_body_raw("<html>Sign in</html>", "text/html");
    let server = answering(html).await;
    assert_eq!(complete(&server, asks("x")).await.unwrap_err().problem, ModelProblem::NotAnApi);
    let (streamed, _) = stream(&format!("{}/v1", server.uri())).await;
    let error = streamed.unwrap_err();
    assert!(error.problem == ModelProblem::NotAnApi && error.message.contains("text/html"), "{error:?}");
    let (elsewhere, _) = stream(&format!("{}/v2", server.uri())).await;
    assert_eq!(elsewhere.unwrap_err().problem, ModelProblem::NotAnApi);
    let moved = answering(ResponseTemplate::new(301).insert_header("location", "http://127.0.0.1:9/v1")).await;
    assert_eq!(complete(&moved, asks("x")).await.unwrap_err().problem, ModelProblem::NotAnApi, "no key goes elsewhere");
    for body in ["{", "{}", "[]", "{\"choices\": 1}"] {
        let server = answering(ResponseTemplate::new(200).set_body_raw(body, "application/json")).await;
        for model in models_at(&format!("{}/v1", server.uri())) {
            let reply = model.complete(asks("x")).await;
            assert!(reply.as_ref().is_ok_and(|reply| reply.text.is_empty()) || reply.is_err(), "{body}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn each_status_is_a_problem_of_its_own_also_in_a_stream() {
    let error = |message: &str| json!({ "error": { "message": message } });
    for (status, body, problem) in [
        (401, error("Incorrect API key"), ModelProblem::WrongKey),
        (403, error("no"), ModelProblem::WrongKey),
        (402, error("no"), ModelProblem::NoQuota),
        (404, error("The model `x` does not exist"), ModelProblem::UnknownModel),
        (404, error("not here"), ModelProblem::NotAnApi),
        (400, error("This model's maximum context length is 8192 tokens"), ModelProblem::ContextOverflow),
        (
            400,
            json!({ "error": { "code": 400, "type": "exceed_context_size_error", "message": "too big" } }),
            ModelProblem::ContextOverflow,
        ),
        (400, error("bad parameter"), ModelProblem::Rejected),
        (429, error("slow down"), ModelProblem::RateLimited),
        (429, json!({ "error": { "message": "no money", "code": "insufficient_quota" } }), ModelProblem::NoQuota),
        (500, error("oops"), ModelProblem::Unavailable),
        (529, error("overloaded"), ModelProblem::Unavailable),
    ] {
        let server = answering(ResponseTemplate::new(status).set_body_json(body)).await;
        let whole = complete(&server, asks("x")).await.unwrap_err();
        let (streamed, _) = stream(&format!("{}/v1", server.uri())).await;
        assert_eq!((whole.problem, streamed.unwrap_err().problem), (problem, problem), "{status}");
    }
}

#[tokio::test]
async fn what_a_server_says_about_an_error_is_told() {
    let missing = json!({ "loc": ["body", "model"], "msg": "field required", "input": { "n": "one" } });
    let page = "<html><head><style>p { }</style><TITLE lang=en>502 Bad Gateway</TITLE></head><body>nginx</body></html>";
    for (status, body, words) in [
        (429, json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED" } }).to_string(), "RESOURCE_EXHAUSTED"),
        (500, json!({ "error": { "message": "", "type": "server_error" } }).to_string(), "server_error"),
        (500, json!({ "error": { "code": 1305 } }).to_string(), "1305"),
        (500, json!({ "error": "out of memory" }).to_string(), "out of memory"),
        (500, json!([{ "error": { "message": "overloaded" } }]).to_string(), "overloaded"),
        (422, json!({ "detail": [missing] }).to_string(), "(HTTP 422: body, model, field required)"),
        (400, json!({ "error": "Bad Request", "message": "no field `x`" }).to_string(), "no field `x`"),
        (500, json!({ "error": false, "message": "not now" }).to_string(), "(HTTP 500: not now)"),
        (500, json!({ "error": { "code": 1305 }, "message": "not now" }).to_string(), "(HTTP 500: not now)"),
        (400, json!({}).to_string(), "(HTTP 400)"),
        (400, json!({ "error": {} }).to_string(), "(HTTP 400)"),
        (503, "the model\nis loading".to_owned(), "(HTTP 503: the model is loading)"),
        (502, page.to_owned(), "(HTTP 502: 502 Bad Gateway)"),
        (502, "<h1>502</h1><hr>nginx".to_owned(), "(HTTP 502: 502 nginx)"),
        (500, "a < b ".repeat(10_000), "a < b a < b"),
        (500, String::new(), "(HTTP 500)"),
    ] {
        let server = answering(ResponseTemplate::new(status).set_body_string(body)).await;
        for model in models_at(&format!("{}/v1", server.uri())) {
            for answered in [model.complete(asks("x")).await, model.stream(asks("x"), &mut |_| {}).await] {
                let message = answered.unwrap_err().message;
                assert!(message.contains(words) && message.len() < 500, "{message}");
            }
        }
    }
    for (error, words) in
        [(json!({ "type": "server_error" }), "server_error"), (json!("out of memory"), "out of memory")]
    {
        let bytes = head("text/event-stream") + &format!("data: {}\n\n", json!({ "error": error }));
        let (reply, _) = stream(&sending(bytes, Duration::ZERO).await).await;
        let message = reply.unwrap_err().message;
        assert!(message.ends_with(&format!("the server broke off with an error: {words}")), "{message}");
    }
}

/// LM Studio says so with the status of an answer.
#[tokio::test]
async fn an_endpoint_that_there_is_not_is_no_error_that_passes() {
    let said = json!({ "error": "Unexpected endpoint or method. (POST /chat/completions)" });
    let server = answering(ResponseTemplate::new(200).set_body_json(said)).await;
    for model in models_at(&server.uri()) {
        for answered in [model.complete(asks("x")).await, model.stream(asks("x"), &mut |_| {}).await] {
            let error = answered.unwrap_err();
            assert_eq!(error.problem, ModelProblem::NotAnApi, "{error}");
            assert!(error.message.contains("It usually ends in /v1"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_model_that_says_why_it_does_not_answer_has_refused() {
    let mut whole = answer("", "stop");
    whole["choices"][0]["message"] = json!({ "content": null, "refusal": "I cannot help." });
    let server = answering(ResponseTemplate::new(200).set_body_json(whole)).await;
    let delta = |delta: Value| format!("data: {}\n\n", json!({ "choices": [{ "delta": delta }] }));
    let refusal = delta(json!({ "refusal": "I cannot" })) + &delta(json!({ "content": null, "refusal": " help." }));
    let bytes = head("text/event-stream") + &refusal + &event("", Some("stop")) + "data: [DONE]\n\n";
    for (url, is_streamed) in [(format!("{}/v1", server.uri()), false), (sending(bytes, Duration::ZERO).await, true)] {
        let [model, _] = models_at(&url);
        let reply = match is_streamed {
            true => model.stream(asks("x"), &mut |piece| assert_eq!(piece, "")).await,
            false => model.complete(asks("x")).await,
        };
        let reply = reply.unwrap();
        assert_eq!((reply.end, reply.text.as_str()), (ReplyEnd::Refused, "I cannot help."), "{is_streamed}");
    }
}

#[tokio::test]
async fn the_beginning_of_an_answer_is_not_why_it_was_refused() {
    let begun = "The first step of it is to take";
    let server = answering(ResponseTemplate::new(200).set_body_json(answer(begun, "content_filter"))).await;
    let bytes =
        head("text/event-stream") + &event(begun, None) + &event("", Some("content_filter")) + "data: [DONE]\n\n";
    for (url, is_streamed) in [(format!("{}/v1", server.uri()), false), (sending(bytes, Duration::ZERO).await, true)] {
        // The one connection that is sent to is taken by the first.
        for model in models_at(&url).into_iter().take(if is_streamed { 1 } else { 2 }) {
            let reply = match is_streamed {
                true => model.stream(asks("x"), &mut |_| {}).await,
                false => model.complete(asks("x")).await,
            };
            let reply = reply.unwrap();
            assert_eq!((reply.end, reply.text.as_str()), (ReplyEnd::Refused, ""), "{is_streamed}");
        }
    }
}

#[tokio::test]
async fn a_repeated_request_is_recognised_however_it_is_written() {
    let secret = "the secret project of the house, which nobody may know of";
    let short: String = secret.chars().take(43).collect();
    for (asked, body) in [
        // A page shows what was sent, and that looks as its own tags do.
        (format!("<objective>Plan {secret}</objective>"), format!("<p>bad: <objective>Plan {secret}</objective></p>")),
        (format!("Write a plan\nabout {secret}"), format!("bad: Write a plan about {secret}")),
        (format!("Write a plan about {secret}"), format!("bad: Write a plan\n about\n{secret}")),
        (
            format!("Write \"a\tplan\" about {secret}"),
            json!({ "error": format!("bad: Write \"a plan\" about {secret}") }).to_string(),
        ),
        (
            format!("Write \"a\tplan\" about {secret}"),
            json!([format!("Write \"a\tplan\" about {secret}")]).to_string() + "...",
        ),
        (short.clone(), json!({ "error": { "input": short } }).to_string()),
    ] {
        let server = answering(ResponseTemplate::new(400).set_body_string(body)).await;
        let error = complete(&server, asks(&asked)).await.unwrap_err().to_string();
        assert!(!error.contains("secret project"), "{error}");
    }
}

#[tokio::test]
async fn neither_key_nor_request_gets_into_an_error() {
    let long = "Write a plan\nabout the secret project of the house, which nobody may know of, please.";
    let in_base64 = "c2stdGVzdC12ZXJ5LXNlY3JldA==";
    for said in [
        format!("Incorrect API key provided: {SECRET}"),
        format!("Incorrect API key provided: {in_base64}"),
        format!("invalid input: {long}"),
    ] {
        let (message, detail) = (json!({ "error": { "message": said } }), json!({ "detail": [{ "msg": said }] }));
        let message = message.to_string();
        let cut = message[..message.len() - 2].to_owned();
        for body in [message, detail.to_string(), cut, said.clone(), format!("<p>{said}</p>")] {
            let server = answering(ResponseTemplate::new(400).set_body_string(body.clone())).await;
            let error = complete(&server, asks(long)).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET) && !shown.contains(&in_base64[..24]), "{shown}");
            assert!(!shown.contains("secret project"), "{shown}");
        }
    }
    let broken =
        answering(ResponseTemplate::new(200).set_body_json(json!({ "choices": [{ "message": { "tool_calls": 1 } }] })))
            .await;
    let error = complete(&broken, asks(long)).await.unwrap_err();
    assert!(error.problem == ModelProblem::BadAnswer && !error.message.contains("secret project"), "{error:?}");
}

#[tokio::test]
async fn a_call_that_is_over_the_limit_is_put_off_and_not_sent() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer("done", "stop")))
        .mount(&server)
        .await;
    let limits = RateLimits { requests_per_minute: Some(1), ..RateLimits::default() };
    let provider = Provider::new(Server::at(format!("{}/v1", server.uri())).limits(limits)).unwrap();
    let model = provider.model("a", ModelOptions::default());
    model.complete(asks("x")).await.unwrap();
    let error = model.complete(asks("x")).await.unwrap_err();
    assert!(error.is_deferred && error.usage.is_zero(), "{error:?}");
    assert!(error.message.contains("its only request a minute is used up for another "), "{error}");
    assert!(error.retry_after_ms.is_some_and(|left| (1..=60_000).contains(&left)), "{error:?}");
    let error = StepError::from(error);
    assert_eq!((error.kind, error.code()), (StepErrorKind::Deferred, Some("provider.rate_limited")));
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_calls_before_the_time_that_a_server_named() {
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "1");
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(busy).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer("done", "stop")))
        .mount(&server)
        .await;
    let provider = Provider::new(Server::at(format!("{}/v1", server.uri()))).unwrap();
    let (one, other) = (provider.model("a", ModelOptions::default()), provider.model("b", ModelOptions::default()));
    let began = Instant::now();
    let error = one.complete(asks("x")).await.unwrap_err();
    assert_eq!((error.problem, error.retry_after_ms), (ModelProblem::RateLimited, Some(1_000)));
    // Another model of the same provider is not asked either: it is told how long is left.
    let error = other.complete(asks("x")).await.unwrap_err();
    assert!(error.retry_after_ms.is_some_and(|left| (1..=1_000).contains(&left)), "{error:?}");
    assert!(error.is_deferred, "{error:?}");
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    // Who can wait, waits.
    other.complete(ModelRequest { wait: true, ..asks("x") }).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_time_that_a_server_names_may_be_a_date() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    let server = answering(ResponseTemplate::new(429).insert_header("retry-after", date)).await;
    for model in models_at(&format!("{}/v1", server.uri())) {
        let error = model.complete(asks("x")).await.unwrap_err();
        assert!(error.retry_after_ms.is_some_and(|pause| (30_000..=60_000).contains(&pause)), "{error:?}");
    }
}

#[tokio::test]
async fn no_more_calls_are_made_at_once_than_a_provider_takes() {
    let slow = ResponseTemplate::new(200).set_body_json(answer("done", "stop")).set_delay(Duration::from_millis(200));
    let server = answering(slow).await;
    let limits = RateLimits { concurrency: Some(2), ..RateLimits::default() };
    let provider = Provider::new(Server::at(format!("{}/v1", server.uri())).limits(limits)).unwrap();
    let model = provider.model("m", ModelOptions::default());
    let began = Instant::now();
    let waits = || ModelRequest { wait: true, ..asks("x") };
    let (waited, put_off) =
        futures::join!(futures::future::try_join_all((0..6).map(|_| model.complete(waits()))), async {
            // Who does not wait is told so, and holds up nobody.
            model.complete(asks("x")).await.unwrap_err()
        });
    assert!(waited.is_ok() && began.elapsed() >= Duration::from_millis(600));
    assert!(put_off.is_deferred && put_off.message.contains("2 calls are being made"), "{put_off:?}");
    assert_eq!(server.received_requests().await.unwrap().len(), 6);
}

#[tokio::test]
async fn nothing_at_an_address_is_said_to_be_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    for model in models_at(&url) {
        let error = model.complete(asks("x")).await.unwrap_err();
        assert!(error.problem == ModelProblem::Unreachable && error.message.contains("refused"), "{error:?}");
    }
    for url in ["nonsense", "ftp://x/v1"] {
        assert_eq!(Provider::new(Server::at(url)).unwrap_err().problem, ModelProblem::Unreachable);
    }
    for model in models_at("http://name:password@127.0.0.1:9/v1?token=t") {
        let shown = model.complete(asks("x")).await.unwrap_err().message;
        assert!(!shown.contains("password") && !shown.contains("token"), "{shown}");
    }
}

#[tokio::test]
async fn a_provider_without_its_key_is_refused_before_anything_is_sent() {
    let error = Provider::new(Server::named("anthropic").unwrap()).unwrap_err();
    assert_eq!(error.problem, ModelProblem::MissingKey);
}

#[tokio::test]
async fn the_models_of_a_server_are_listed() {
    let server = MockServer::start().await;
    let list =
        json!({ "object": "list", "data": [{ "id": "one", "object": "model" }, { "id": "two", "object": "model" }] });
    Mock::given(method("GET"))
        .and(path("/v1/models"))
        .respond_with(ResponseTemplate::new(200).set_body_json(list))
        .mount(&server)
        .await;
    for server in servers_at(&format!("{}/v1", server.uri())) {
        assert_eq!(Provider::new(server).unwrap().model_names().await.unwrap(), ["one", "two"]);
    }
}
