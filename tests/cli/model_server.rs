//! A server of a model that answers as it is told to.

use std::process::Command;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::support::{Place, Ran};

pub(crate) const KEY: &str = "sk-very-secret-key";

/// A model server that plans two steps and an answer, and does them.
pub(crate) struct Server {
    pub(crate) server: MockServer,
    runtime: Runtime,
}

pub(crate) struct Model;

impl Respond for Model {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 });
        if body["stream"] == json!(true) {
            return streamed("1. look up a\n2. look up b\n3. compare <- 1-2\nEND\n", &usage);
        }
        let message = json!({ "role": "assistant", "content": "found it" });
        ResponseTemplate::new(200).set_body_json(json!({
            "id": "1", "model": "m", "usage": usage,
            "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
        }))
    }
}

/// Its plans have no end.
pub(crate) struct Unfinished;

impl Respond for Unfinished {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        if body["stream"] == json!(true) {
            ended("1. look up a\n2. look", "length", &json!({}))
        } else {
            Model.respond(request)
        }
    }
}

pub(crate) fn streamed(text: &str, usage: &Value) -> ResponseTemplate {
    ended(text, "stop", usage)
}

/// An answer that ended for this reason.
pub(crate) fn ended(text: &str, reason: &str, usage: &Value) -> ResponseTemplate {
    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] });
    let usage = json!({ "choices": [], "usage": usage });
    let body = format!("data: {delta}\n\ndata: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

/// A list of models.
pub(crate) fn listed(names: &[&str]) -> ResponseTemplate {
    let models: Vec<Value> = names.iter().map(|name| json!({ "id": name, "object": "model" })).collect();
    ResponseTemplate::new(200).set_body_json(json!({ "object": "list", "data": models }))
}

impl Server {
    pub(crate) fn with(respond: impl Respond + 'static) -> Self {
        Self::listing(listed(&["first"]), respond)
    }

    /// One that answers this when it is asked for its models.
    pub(crate) fn listing(list: impl Respond + 'static, respond: impl Respond + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            Mock::given(method("GET")).and(path("/v1/models")).respond_with(list).mount(&server).await;
            Mock::given(method("POST")).respond_with(respond).mount(&server).await;
            server
        });
        Self { server, runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/v1", self.server.uri())
    }

    /// The bodies of the calls so far, each with its key.
    pub(crate) fn calls(&self) -> Vec<(Value, String)> {
        let requests = self.runtime.block_on(self.server.received_requests()).unwrap();
        let key = |request: &Request| {
            request.headers.get("authorization").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        requests.iter().filter_map(|request| Some((request.body_json().ok()?, key(request)))).collect()
    }

    pub(crate) fn run<const N: usize>(&self, place: &Place, arguments: [&str; N]) -> Ran {
        self.command(place, arguments).output().unwrap().into()
    }

    pub(crate) fn command<const N: usize>(&self, place: &Place, arguments: [&str; N]) -> Command {
        let mut command = place.command(arguments);
        command.env("OPENAI_BASE_URL", self.url()).env("OPENAI_API_KEY", KEY);
        command
    }
}
