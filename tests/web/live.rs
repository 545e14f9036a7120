//! Runs as they change.

use std::time::Duration;

use plandag::journal::Journal as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Site, echo, wait};

/// Somebody who follows a run.
pub(crate) struct Follower {
    response: reqwest::Response,
    text: String,
}

impl Follower {
    pub(crate) async fn of(site: &Site, run: &str) -> Self {
        let response = site.script(Method::GET, &format!("/api/runs/{run}/events")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event, by its name; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let name = event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: "));
                let event = name.map(|(name, data)| (name.to_owned(), serde_json::from_str(data).unwrap()));
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Reads until the run is in a state, or the stream says that it ends.
    pub(crate) async fn until(&mut self, word: &str) {
        let mut seen = Vec::new();
        while let Some((name, data)) = self.next().await {
            seen.push(data["head"]["state"].as_str().map_or(name, str::to_owned));
            if seen.last().is_some_and(|state| state == word) {
                return;
            }
        }
        panic!("{word} is never said: {seen:?}");
    }
}

#[tokio::test]
async fn a_run_is_followed_from_any_moment_to_its_end() {
    let site = Site::start().await;
    let run = site.run(json!([wait("a"), echo("b", "${a}"), wait("c")])).await;
    let mut early = Follower::of(&site, &run).await;
    let (name, whole) = early.next().await.unwrap();
    assert_eq!((name.as_str(), whole["steps"].as_array().unwrap().len()), ("snapshot", 3));

    site.gate.notify_one();
    let (name, update) = early.next().await.unwrap();
    assert_eq!(name, "update");
    assert!(update.to_string().len() < whole.to_string().len(), "an update has what is new, and not everything");

    let mut late = Follower::of(&site, &run).await;
    assert_eq!(late.next().await.unwrap().0, "snapshot");
    site.gate.notify_one();
    site.gate.notify_one();
    for follower in [&mut early, &mut late] {
        follower.until("end").await;
        assert!(follower.next().await.is_none());
    }

    // Of a run that is over there is only the end to wait for.
    let mut after = Follower::of(&site, &run).await;
    assert_eq!(after.next().await.unwrap().0, "snapshot");
    assert_eq!(after.next().await.unwrap().0, "end");
    assert!(after.next().await.is_none());
}

/// Both ends of each are in this process, and 1,024 files are all that many systems let a process have.
const CLIENTS: usize = 400;

/// The run does not know of those who look at it, so it takes no notice if they do not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_keep_nobody_waiting() {
    let site = Site::start().await;
    let steps: Vec<Value> = (0..200).map(|i| echo(&format!("s{i}"), "x".repeat(2_000))).chain([wait("gate")]).collect();
    let run = site.run(json!(steps)).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = site.connect().await;
        let request = format!(
            "GET /api/runs/{run}/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            site.address, site.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    let mut reader = Follower::of(&site, &run).await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    site.gate.notify_one();
    tokio::time::timeout(Duration::from_secs(60), reader.until("end")).await.unwrap();
    assert_eq!(site.journal.summary(&run.as_str().into()).await.unwrap().state(), "succeeded");
    drop(clients);
}
