//! Schemas of answers, as they go over the wire.

use plandag::llm::{LlmPlanner, Message, ModelOptions, ModelRequest, PlanTextFormat, Provider, Server, StepModel};
use plandag::{Runner, tool_fn};
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::Script;

/// A server that always gives this answer.
async fn answering(content: &str) -> MockServer {
    let choice = json!({ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } });
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "choices": [choice] }));
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    server
}

fn provider(server: &MockServer) -> Provider {
    Provider::new(Server::at(format!("{}/v1", server.uri()))).unwrap()
}

/// What was sent as the form of the first answer.
async fn form(server: &MockServer) -> Value {
    let body: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    body["response_format"]["json_schema"].clone()
}

/// What OpenAI asks of a strict schema, at every level: each object has no other properties than it names, and requires
/// them all. How many objects there were.
fn assert_strict(schema: &Value) -> usize {
    let mut objects = 0;
    if schema["type"] == "object" {
        objects += 1;
        assert_eq!(schema["additionalProperties"], false, "{schema}");
        let names: Vec<Value> = schema["properties"].as_object().unwrap().keys().cloned().map(Value::from).collect();
        assert_eq!(schema["required"], Value::from(names), "{schema}");
    }
    match schema {
        Value::Object(fields) => objects + fields.values().map(assert_strict).sum::<usize>(),
        Value::Array(items) => objects + items.iter().map(assert_strict).sum::<usize>(),
        _ => objects,
    }
}

#[tokio::test]
async fn a_plan_is_asked_for_with_a_strict_schema_and_what_is_null_in_it_is_not_there() {
    let plan = json!({ "steps": [
        { "id": "1", "task": "say it", "tool": null, "args": null, "depends_on": [] },
        { "id": "2", "task": "", "tool": "text", "args": null, "depends_on": ["1"] },
    ], "answer": null });
    let server = answering(&plan.to_string()).await;
    let planner = LlmPlanner::new(provider(&server).model("m", ModelOptions::default())).format(PlanTextFormat::Json);
    let report = Runner::new(planner)
        .tool("text", tool_fn(|cx| async move { Ok(cx.args.clone()) }))
        .default_tool(StepModel::new(Script::new(|_| Ok(crate::support::says("said")))))
        .run("")
        .await
        .unwrap();
    assert_eq!(report.answer().unwrap(), &Value::Null);
    assert_eq!(report.output::<String>("1").unwrap(), "said");
    let form = form(&server).await;
    assert_eq!(form["strict"], true);
    assert_eq!(assert_strict(&form["schema"]), 2, "{form}");
    let step = &form["schema"]["properties"]["steps"]["items"]["properties"];
    for optional in [&step["tool"], &step["args"], &form["schema"]["properties"]["answer"]] {
        assert_eq!(optional["type"], json!(["string", "null"]));
    }
}

#[tokio::test]
async fn a_schema_is_strict_only_if_it_keeps_to_the_rules_and_goes_out_as_it_is() {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    let number = || json!({ "type": "number", "minimum": 0 });
    let all = object(json!({ "a": number() }), json!(["a"]));
    let optional = object(json!({ "a": number() }), json!([]));
    let open = json!({ "type": "object", "properties": { "a": number() }, "required": ["a"] });
    let list = |of: &Value| object(json!({ "a": { "type": "array", "items": of } }), json!(["a"]));
    let either = |of: &Value| object(json!({ "a": { "anyOf": [of, { "type": "null" }] } }), json!(["a"]));
    for (schema, strict) in [
        (all.clone(), true),
        (list(&all), true),
        (either(&all), true),
        (optional.clone(), false),
        (open.clone(), false),
        (list(&optional), false),
        (either(&open), false),
        (list(&json!({ "type": ["object", "null"] })), false),
        (object(json!({ "a": { "allOf": [number()] } }), json!(["a"])), false),
        (json!({ "type": "array", "items": all }), false),
        (json!({ "anyOf": [all] }), false),
    ] {
        let server = answering("{}").await;
        let messages = vec![Message::User("Go on.".into())];
        let request = ModelRequest { messages, schema: Some(("it".into(), schema.clone())), ..ModelRequest::default() };
        provider(&server).model("m", ModelOptions::default()).complete(request).await.unwrap();
        let form = form(&server).await;
        assert_eq!((&form["schema"], &form["strict"]), (&schema, &json!(strict)), "{form}");
    }
}
