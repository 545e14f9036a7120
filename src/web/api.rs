//! What can be read over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::duration;
use crate::history::History;
use crate::journal::{RunFilter, RunId, RunSummary};
use crate::page::{Snapshot, svg_of};

use super::app::App;
use super::events;
use super::problem::Problem;

pub(super) type Answer = Result<Response, Problem>;

/// `GET /api`: what this server is.
pub(super) async fn about(State(app): State<Arc<App>>) -> Answer {
    Ok(Json(json!({
        "name": "plandag",
        "version": env!("CARGO_PKG_VERSION"),
        "starts_runs": app.launcher.is_some() && app.only.is_none(),
        "may": app.may,
    }))
    .into_response())
}

/// `GET /api/runs`: the newest first; `run` and `status` (both can be repeated), `since`, `objective` and `limit` choose.
pub(super) async fn list(State(app): State<Arc<App>>, Query(query): Query<Vec<(String, String)>>) -> Answer {
    let Choice { names, filter, limit } = Choice::of(query)?;
    let now = SystemTime::now();
    let is_named = |summary: &RunSummary| names.is_empty() || names.contains(&summary.run);
    let runs = app.runs().await?.into_iter().filter(|summary| is_named(summary) && filter.wants(summary, now));
    let runs: Vec<RunSummary> = runs.take(limit).collect();
    Ok(Json(json!({ "runs": runs })).into_response())
}

/// Which runs are wanted.
struct Choice {
    /// These; all, if there are none.
    names: Vec<RunId>,
    filter: RunFilter,
    /// So many of them.
    limit: usize,
}

impl Choice {
    fn of(query: Vec<(String, String)>) -> Result<Self, Problem> {
        let refuse = |message: String| Problem::new("usage.request", message);
        let mut choice = Self { names: Vec::new(), filter: RunFilter::default(), limit: usize::MAX };
        for (name, value) in query {
            match name.as_str() {
                "run" => choice.names.push(value.into()),
                "status" if RunSummary::STATES.contains(&value.as_str()) => choice.filter.states.push(value),
                "status" => {
                    let message = format!("`{value}` is not a status");
                    return Err(refuse(message).help(format!("there are {}", RunSummary::STATES.join(", "))));
                }
                "since" => choice.filter.since = Some(duration::parse(&value).map_err(refuse)?),
                "objective" => choice.filter.objective = Some(value),
                "limit" => {
                    choice.limit = value.parse().map_err(|_| refuse(format!("`{value}` is not a number of runs")))?;
                }
                _ => {
                    let message = format!("runs cannot be chosen by `{name}`");
                    return Err(refuse(message).help("they can by run, status, since, objective and limit"));
                }
            }
        }
        Ok(choice)
    }
}

/// `GET /api/runs/RUN`: all that its page shows.
pub(super) async fn get(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer {
    Ok(Json(snapshot(&app, &run).await?).into_response())
}

/// A run as it is now.
pub(super) async fn snapshot(app: &App, run: &str) -> Result<Snapshot, Problem> {
    let (summary, history) = app.history(run).await?;
    spawn_blocking(move || Snapshot::of(&history, &summary))
        .await
        .map_err(|_| Problem::new("internal.panic", "the run could not be drawn"))
}

/// `GET /api/runs/RUN/events`: the run as it changes, as server-sent events.
pub(super) async fn events(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer {
    let summary = app.summary(&run).await?;
    Ok(events::stream(app.watchers.watch(&app.journal, &summary.run)))
}

/// `GET /api/runs/RUN/steps/STEP`: the whole output of a step.
pub(super) async fn output(State(app): State<Arc<App>>, Path((run, step)): Path<(String, String)>) -> Answer {
    let (_, history) = app.history(&run).await?;
    if history.report().step(&step).is_none() {
        return Err(unknown_step(&run, &step));
    }
    let output = history.output(&*app.journal, &step).await?;
    let output = output.ok_or_else(|| Problem::new("journal.no_output", format!("step `{step}` has no output")))?;
    Ok(Json(json!({ "run": run, "step": step, "output": *output })).into_response())
}

pub(super) fn unknown_step(run: &str, step: &str) -> Problem {
    Problem::new("journal.unknown_step", format!("run {run} has no step `{step}`"))
        .help(format!("GET /api/runs/{run} has its steps"))
}

/// `GET /api/runs/RUN/export?format=FORMAT`: the run for other programs.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let (summary, history) = app.history(&run).await?;
    // A large run takes a while to write down, and others are to be served meanwhile.
    let format = query.get("format").cloned().unwrap_or_else(|| "ndjson".to_owned());
    let written = spawn_blocking(move || written(&summary, &history, &format)).await;
    let (kind, text) = written.map_err(|_| Problem::new("internal.panic", "the run could not be written down"))??;
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

/// A run in a format, and the media type of that.
fn written(summary: &RunSummary, history: &History, format: &str) -> Result<(&'static str, String), Problem> {
    let graph = || {
        let message = format!("run {} never had a plan to draw", summary.run);
        history.graph().ok_or_else(|| Problem::new("journal.no_plan", message))
    };
    Ok(match format {
        "ndjson" => ("application/x-ndjson", history.to_ndjson()),
        "trace" | "chrome" | "perfetto" => ("application/json", format!("{:#}\n", history.to_trace())),
        "mermaid" => ("text/plain; charset=utf-8", graph()?.to_mermaid()),
        "dot" => ("text/vnd.graphviz; charset=utf-8", graph()?.to_dot()),
        "svg" => ("image/svg+xml", svg_of(&Snapshot::of(history, summary))),
        other => {
            let problem = Problem::new("usage.request", format!("runs are not given out as `{other}`"));
            return Err(problem.help("they are as ndjson, trace, mermaid, dot and svg"));
        }
    })
}

/// Where there is nothing.
pub(super) async fn nothing(uri: Uri) -> Response {
    let problem = Problem::new("serve.not_found", "there is nothing at this address");
    match uri.path().starts_with("/api") {
        true => problem.help("GET /api/runs lists the runs").into_response(),
        false => problem.into_text(),
    }
}

/// Where something else can be done.
pub(super) async fn wrong_method() -> Problem {
    Problem::new("serve.method", "this cannot be done with what is at this address")
        .help("what only looks is a GET, what changes something is a POST")
}

/// The answer to what was done to a run.
pub(super) fn done(run: &str, fields: Value) -> Response {
    let mut answer = json!({ "run": run });
    if let (Some(answer), Value::Object(fields)) = (answer.as_object_mut(), fields) {
        answer.extend(fields);
    }
    Json(answer).into_response()
}
