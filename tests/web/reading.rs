//! What can be read, and what is said where it cannot.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::support::{Answer, Site, echo};

#[tokio::test]
async fn a_plan_is_submitted_and_its_run_read() {
    let site = Site::start().await;
    let first = json!({ "id": "first", "tool": "echo", "args": { "value": "${inputs.word}" } });
    let steps = json!([first, echo("second", "<script>${first}</script>")]);
    let body = json!({ "plan": { "objective": "say it", "steps": steps }, "inputs": { "word": "hello" } });
    let answer = site.post("/api/runs", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let run = answer.body["run"].as_str().unwrap();

    let shown = site.until(run, "succeeded").await;
    assert_eq!(shown["head"]["run"], run);
    assert_eq!(shown["steps"].as_array().unwrap().len(), 2);
    let output = site.get(&format!("/api/runs/{run}/steps/second")).await;
    assert_eq!(output.body["output"], "<script>hello</script>");

    let page = site.get(&format!("/runs/{run}")).await;
    assert!(page.kind.starts_with("text/html"), "{page:?}");
    assert!(page.text.contains("first") && !page.text.contains("<script>hello"), "{}", page.text);
    let list = site.get("/").await.text;
    assert!(list.contains(run) && list.contains("may echo"), "{list}");
    assert!(site.get("/assets/page.js").await.kind.starts_with("text/javascript"));
    assert_eq!(site.get("/api").await.body["may"], "may echo");
}

#[tokio::test]
async fn runs_are_listed_and_chosen() {
    let site = Site::start().await;
    let good = site.run(json!([echo("a", 1)])).await;
    let bad = site.run(json!([{ "id": "a", "tool": "fail" }])).await;
    site.until(&good, "succeeded").await;
    site.until(&bad, "failed").await;
    let chosen = async |query: &str| -> Vec<String> {
        let answer = site.get(&format!("/api/runs{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(chosen("").await.len(), 2);
    assert_eq!(chosen("?status=failed").await, [bad]);
    assert_eq!(chosen("?status=succeeded&status=running&since=1h&objective=TEST").await, [good]);
    assert_eq!(chosen("?objective=other").await.len(), 0);
    let newest = chosen("?limit=1").await;
    assert_eq!(newest.len(), 1);
    assert_eq!(chosen(&format!("?run={}", newest[0])).await, newest);
    assert!(chosen("?run=nobody").await.is_empty());
    for query in ["?status=lost", "?since=soon", "?limit=few", "?name=x"] {
        let answer = site.get(&format!("/api/runs{query}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("usage.request")), "{query}");
    }
}

#[tokio::test]
async fn a_run_is_given_out_for_other_programs() {
    let site = Site::start().await;
    let run = site.run(json!([echo("a", 1), echo("b", "${a}")])).await;
    site.until(&run, "succeeded").await;
    for (format, sign) in [
        ("ndjson", "\"run\":"),
        ("trace", "traceEvents"),
        ("chrome", "traceEvents"),
        ("mermaid", "flowchart"),
        ("dot", "digraph"),
    ] {
        let answer = site.get(&format!("/api/runs/{run}/export?format={format}")).await;
        assert!(answer.status == 200 && answer.text.contains(sign), "{format}: {answer:?}");
    }
    assert_eq!(site.get(&format!("/api/runs/{run}/export?format=pdf")).await.status, 400);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let site = Site::start().await;
    let run = site.run(json!([{ "id": "a", "tool": "fail" }])).await;
    site.until(&run, "failed").await;
    for (path, code) in [
        ("/api/runs/nobody".to_owned(), "journal.unknown_run"),
        ("/api/runs/nobody/events".to_owned(), "journal.unknown_run"),
        (format!("/api/runs/{run}/steps/b"), "journal.unknown_step"),
        (format!("/api/runs/{run}/steps/a"), "journal.no_output"),
        ("/api/nothing".to_owned(), "serve.not_found"),
    ] {
        let answer = site.get(&path).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!(code)), "{path}");
        assert_eq!(answer.kind, "application/problem+json");
    }
    let page = site.get("/runs/<script>alert(1)").await;
    assert!(page.status == 404 && page.kind.starts_with("text/plain"), "{page:?}");
    let page = site.get("/run/else/where").await;
    assert!(page.status == 404 && page.kind.starts_with("text/plain"), "{page:?}");
    let answer = site.post(&format!("/api/runs/{run}"), json!({})).await;
    assert_eq!((answer.status, &answer.body["code"]), (405, &json!("serve.method")));
}

#[tokio::test]
async fn a_bad_submission_is_told_where_it_is_bad() {
    let site = Site::start().await;
    let send = async |kind: &str, body: &str| {
        let request = site.script(Method::POST, "/api/runs").header(CONTENT_TYPE, kind).body(body.to_owned());
        Answer::of(request.send().await.unwrap()).await
    };
    let json = "application/json";
    let answer = send(json, "{\"plan\": {\n \"steps\": [{\"id\": \"a\", \"tol\": \"echo\"}]}}").await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!("plan.malformed")), "{answer:?}");
    assert_eq!(answer.body["problems"][0]["places"][0]["line"], 2, "{answer:?}");
    assert_eq!(send(json, "{\"plan\":").await.status, 400);
    assert_eq!(send(json, "{}").await.status, 400);
    assert_eq!(send("text/html", "<html>").await.status, 415);
    assert_eq!(send("application/x-www-form-urlencoded", "objective=x").await.status, 415);
    assert_eq!(send(json, "{\"objective\": \"dream\"}").await.status, 503);
    assert_eq!(send("application/yaml", "steps:\n  - id: a\n    tool: echo\n    args: {value: 1}\n").await.status, 201);
}

#[tokio::test]
async fn a_server_of_one_run_shows_no_other() {
    let site = Site::start_with(|server| server.only("mine")).await;
    assert_eq!(site.get("/api/runs/other").await.body["code"], "journal.unknown_run");
    let answer = site.post("/api/runs", json!({ "plan": { "steps": [echo("a", 1)] } })).await;
    assert_eq!((answer.status, &answer.body["code"]), (409, &json!("serve.one_run")));
}
