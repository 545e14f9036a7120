//! What can be done to runs.

use std::time::Duration;

use plandag::journal::Journal as _;
use serde_json::json;

use crate::live::Follower;
use crate::support::{Site, echo, wait};

#[tokio::test]
async fn a_run_is_cancelled_and_gone_on_with() {
    let site = Site::start().await;
    let run = site.run(json!([wait("a"), echo("b", "${a}")])).await;
    let mut follower = Follower::of(&site, &run).await;
    for what in ["resume", "retry"] {
        let locked = site.post(&format!("/api/runs/{run}/{what}"), json!({})).await;
        assert_eq!((locked.status, &locked.body["code"]), (409, &json!("journal.locked")), "{what}");
    }

    let answer = site.post(&format!("/api/runs/{run}/cancel"), json!({ "now": true })).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("stopped")), "{answer:?}");
    let again = site.post(&format!("/api/runs/{run}/cancel"), json!({})).await;
    assert_eq!((again.status, &again.body["status"]), (200, &json!("stopped")));
    follower.until("stopped").await;

    site.gate.notify_one();
    let answer = site.post(&format!("/api/runs/{run}/resume"), json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    follower.until("succeeded").await;
    follower.until("end").await;
    let over = site.post(&format!("/api/runs/{run}/resume"), json!({})).await;
    assert_eq!((over.status, &over.body["code"]), (409, &json!("journal.nothing_to_resume")));
}

#[tokio::test]
async fn a_run_is_retried_and_forked() {
    let site = Site::start().await;
    let run = site
        .run(json!([echo("a", 1), { "id": "b", "tool": "fail", "depends_on": ["a"], "retry": { "max_attempts": 1 } }]))
        .await;
    site.until(&run, "failed").await;
    let retried = site.post(&format!("/api/runs/{run}/retry"), json!({})).await;
    assert_eq!((retried.status, &retried.body["reused"], &retried.body["again"]), (201, &json!(["a"]), &json!(["b"])));
    site.until(retried.body["run"].as_str().unwrap(), "failed").await;

    let change = json!({ "from": "a", "set": { "value": 2 }, "without": ["b"] });
    let forked = site.post(&format!("/api/runs/{run}/fork"), change).await;
    assert_eq!(forked.status, 201, "{forked:?}");
    let new = forked.body["run"].as_str().unwrap();
    site.until(new, "succeeded").await;
    assert_eq!(site.get(&format!("/api/runs/{new}/steps/a")).await.body["output"], 2);

    let before = site.journal.runs().await.unwrap().len();
    for (body, status, code) in [
        (json!({}), 400, "usage.request"),
        (json!({ "set": { "value": 2 } }), 400, "usage.request"),
        (json!({ "from": "a", "with": ["b"] }), 400, "usage.request"),
        (json!(["a"]), 400, "usage.request"),
        (json!({ "from": "c" }), 404, "journal.unknown_step"),
    ] {
        let answer = site.post(&format!("/api/runs/{run}/fork"), body.clone()).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{body}");
    }
    let done = site.post(&format!("/api/runs/{new}/retry"), json!({})).await;
    assert_eq!((done.status, &done.body["code"]), (409, &json!("journal.no_fork")));
    assert_eq!(site.journal.runs().await.unwrap().len(), before, "nothing was written");
}

/// In an address, its id has a `%2F`.
#[tokio::test]
async fn a_part_of_what_a_step_became_is_done_again() {
    let site = Site::start().await;
    let steps = json!([echo("x", 1), echo("y", 2)]);
    let run = site.run(json!([{ "id": "map", "tool": "spread", "args": { "steps": steps } }])).await;
    site.until(&run, "succeeded").await;
    let change = json!({ "from": "map/x", "set": { "value": 3 } });
    let forked = site.post(&format!("/api/runs/{run}/fork"), change).await;
    let [again, put_together] = ["again", "put_together"].map(|key| &forked.body[key]);
    assert_eq!((forked.status, again, put_together), (201, &json!(["map/x"]), &json!(["map"])));
    let new = forked.body["run"].as_str().unwrap();
    site.until(new, "succeeded").await;
    assert_eq!(site.get(&format!("/api/runs/{new}/steps/map%2Fx")).await.body["output"], 3);
    assert_eq!(site.get(&format!("/api/runs/{new}/steps/map")).await.body["output"], json!({ "x": 3, "y": 2 }));
}

/// Steps of which one would act on text from outside.
fn asking() -> serde_json::Value {
    json!([{ "id": "letter", "tool": "outside" }, { "id": "reply", "tool": "act", "args": { "to": "${letter}" } }])
}

/// A decision that comes while the rest of the run goes on is acted on at once. Who follows the run is not sent away.
#[tokio::test]
async fn what_is_approved_while_the_run_goes_on_is_done_at_once() {
    let site = Site::start().await;
    let mut steps = asking();
    steps.as_array_mut().unwrap().push(wait("rest"));
    let run = site.run(steps).await;
    let mut follower = Follower::of(&site, &run).await;
    while site.get(&format!("/api/runs/{run}")).await.body["steps"][1]["state"] != "unapproved" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = site.post(&format!("/api/runs/{run}/steps/reply/approve"), json!({})).await;
    let said = (answer.status, &answer.body["status"], &answer.body["undecided"]);
    assert_eq!(said, (200, &json!("recorded"), &json!([])), "{answer:?}");
    while site.get(&format!("/api/runs/{run}/steps/reply")).await.body["output"] != "acted" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let state = &site.get(&format!("/api/runs/{run}")).await.body["steps"][2]["state"];
    assert_eq!(state, "running", "the rest goes on");
    site.gate.notify_one();
    follower.until("succeeded").await;
    follower.until("end").await;
}

/// A run that waits for a person is not over: who follows it sees what becomes of it, whoever decides, and however soon.
#[tokio::test]
async fn what_is_denied_fails() {
    let site = Site::start().await;
    let run = site.run(asking()).await;
    let mut follower = Follower::of(&site, &run).await;
    follower.until("undecided").await;
    let answer = site.post(&format!("/api/runs/{run}/steps/reply/deny"), json!({})).await;
    assert_eq!((answer.status, &answer.body["undecided"]), (200, &json!([])), "{answer:?}");
    let shown = site.until(&run, "failed").await;
    assert_eq!(shown["steps"][1]["state"], "failed");
    assert_eq!(shown["steps"][1]["calls"], json!([]), "it was never called");
    follower.until("failed").await;
    follower.until("end").await;
}

#[tokio::test]
async fn nothing_is_decided_that_nobody_asked() {
    let site = Site::start().await;
    let run = site.run(json!([echo("a", 1)])).await;
    site.until(&run, "succeeded").await;
    for action in ["approve", "deny"] {
        let answer = site.post(&format!("/api/runs/{run}/steps/a/{action}"), json!({})).await;
        assert_eq!((answer.status, &answer.body["code"]), (409, &json!("journal.nothing_to_decide")));
    }
    let answer = site.post(&format!("/api/runs/{run}/steps/a/resolve"), json!("retry")).await;
    assert_eq!(answer.body["code"], "journal.nothing_to_decide");
    assert_eq!(site.post(&format!("/api/runs/{run}/steps/z/approve"), json!({})).await.status, 404);
}
