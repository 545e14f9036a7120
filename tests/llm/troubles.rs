//! What providers say when they do not answer, in their own words, and what is made of it.

use plandag::ModelProblem::{self, ContextOverflow, NoQuota, RateLimited, Refused, Rejected, UnknownModel, WrongKey};
use plandag::llm::{Message, Model, ModelError, ModelOptions, ModelRequest, Provider, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Servers at this address, by what is spoken there.
fn models_at(url: &str) -> [Arc<dyn Model>; 2] {
    [Server::at(url), Server::named("gemini").unwrap().base_url(url)]
        .map(|server| Provider::new(server.key("sk-test-key")).unwrap().model("m", ModelOptions::default()))
}

fn asks() -> ModelRequest {
    ModelRequest { messages: vec![Message::User("Plan it.".into())], ..ModelRequest::default() }
}

/// What comes of this answer, however it is asked for.
async fn errors(answer: ResponseTemplate) -> Vec<ModelError> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let mut errors = Vec::new();
    // A pause that one of them is told holds for its whole connection.
    for is_streamed in [false, true] {
        for model in models_at(&format!("{}/v1", server.uri())) {
            let answered = match is_streamed {
                true => model.stream(asks(), &mut |_| {}).await,
                false => model.complete(asks()).await,
            };
            errors.push(answered.unwrap_err());
        }
    }
    errors
}

async fn assert_problem(status: u16, body: Value, problem: ModelProblem) {
    for error in errors(ResponseTemplate::new(status).set_body_json(&body)).await {
        assert_eq!(error.problem, problem, "{body}: {error}");
    }
}

/// As Google's servers say it.
fn google(code: u16, message: &str, status: &str, details: Value) -> Value {
    json!({ "error": { "code": code, "message": message, "status": status, "details": details } })
}

/// As OpenAI's say it.
fn openai(message: &str, kind: &str, code: &str) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

const EXCEEDED: &str = "You exceeded your current quota, please check your plan and billing details.";
const MINUTE: &str = "Rate limit reached for m on requests per min (RPM): Limit 3, Used 3. You can increase your rate \
                      limit by adding a payment method at https://platform.openai.com/account/billing.";

fn exceeded(quota: &str) -> Value {
    let details = json!([
        { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": quota }] },
        { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26.5s" },
    ]);
    google(429, EXCEEDED, "RESOURCE_EXHAUSTED", details)
}

#[tokio::test]
async fn a_limit_by_the_minute_is_one_also_where_it_speaks_of_billing() {
    assert_problem(429, openai(MINUTE, "requests", "rate_limit_exceeded"), RateLimited).await;
    assert_problem(429, google(429, EXCEEDED, "RESOURCE_EXHAUSTED", json!([])), RateLimited).await;
    let minute = exceeded("GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
    // Google's server for OpenAI's clients has a list around it.
    for body in [minute.clone(), json!([minute])] {
        for error in errors(ResponseTemplate::new(429).set_body_json(&body)).await {
            assert_eq!((error.problem, error.retry_after_ms), (RateLimited, Some(26_500)), "{body}: {error}");
        }
    }
    // Whoever says when to come back has not closed the account.
    let busy = ResponseTemplate::new(429).set_body_json(openai(EXCEEDED, "x", "insufficient_quota"));
    for error in errors(busy.insert_header("retry-after", "7")).await {
        assert_eq!((error.problem, error.retry_after_ms), (RateLimited, Some(7_000)), "{error}");
    }
}

#[tokio::test]
async fn an_account_without_money_is_known_by_what_means_it() {
    let anthropic = "Your credit balance is too low to access the Anthropic API.";
    for (status, body) in [
        (429, openai(EXCEEDED, "insufficient_quota", "insufficient_quota")),
        (429, openai("Check your billing details.", "billing_not_active", "billing_not_active")),
        (400, openai("Billing hard limit has been reached", "invalid_request_error", "billing_hard_limit_reached")),
        (400, json!({ "type": "error", "error": { "type": "invalid_request_error", "message": anthropic } })),
        (402, openai("Insufficient Balance", "unknown_error", "invalid_request_error")),
        (429, json!({ "error": { "message": EXCEEDED, "type": "exceeded_current_quota_error" } })),
    ] {
        assert_problem(status, body, NoQuota).await;
    }
    // The pause that is named with it is over long before the day is.
    let day = exceeded("GenerateRequestsPerDayPerProjectPerModel-FreeTier");
    for error in errors(ResponseTemplate::new(429).set_body_json(&day)).await {
        assert_eq!((error.problem, error.retry_after_ms), (NoQuota, None), "{error}");
        assert!(error.message.contains("the quota of the day is used up"), "{error}");
    }
}

#[tokio::test]
async fn a_refused_request_is_the_problem_that_it_is_and_not_always_the_key() {
    let reason = json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
    let too_many = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    let prompt = "This model's maximum prompt length is 131072 but the request contains 537812 tokens.";
    let project = "Project `p` does not have access to model `m`";
    for (status, body, problem) in [
        (400, google(400, "API key not valid.", "INVALID_ARGUMENT", reason), WrongKey),
        (400, json!({ "code": "invalid argument", "error": "Incorrect API key provided: x" }), WrongKey),
        (400, google(400, too_many, "INVALID_ARGUMENT", json!([])), ContextOverflow),
        (400, json!({ "code": "Client specified an invalid argument", "error": prompt }), ContextOverflow),
        (403, openai(project, "invalid_request_error", "model_not_found"), UnknownModel),
        (403, json!({ "error": { "message": "no" } }), WrongKey),
        (400, openai("The response was filtered", "x", "content_filter"), Refused),
    ] {
        assert_problem(status, body, problem).await;
    }
    let country = "Country, region, or territory not supported";
    let body = openai(country, "request_forbidden", "unsupported_country_region_territory");
    for error in errors(ResponseTemplate::new(403).set_body_json(body)).await {
        assert_eq!(error.problem, Rejected, "{error}");
        assert!(error.message.contains(country) && !error.message.contains("key"), "{error}");
    }
    for server in [Server::named("gemini").unwrap(), Server::at("x")] {
        let listing = MockServer::start().await;
        let reason = json!([{ "reason": "API_KEY_INVALID" }]);
        let body = google(400, "API key not valid.", "INVALID_ARGUMENT", reason);
        Mock::given(any()).respond_with(ResponseTemplate::new(400).set_body_json(body)).mount(&listing).await;
        let provider = Provider::new(server.base_url(format!("{}/v1", listing.uri())).key("x")).unwrap();
        assert_eq!(provider.model_names().await.unwrap_err().problem, WrongKey);
    }
}

#[tokio::test]
async fn whoever_says_when_to_come_back_is_left_alone_until_then() {
    for (status, pause) in [(408, true), (425, true), (429, true), (503, true), (529, true), (403, false)] {
        for error in errors(ResponseTemplate::new(status).insert_header("retry-after", "2")).await {
            assert_eq!(error.retry_after_ms, pause.then_some(2_000), "{status}: {error}");
        }
    }
}
