//! What can be done over HTTP. The same rules hold as for the command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::event::{Decision, Output, StepNumber};
use crate::history::{self, Changes, History, Told};
use crate::journal::{RunId, RunSummary};
use crate::plan::StepId;
use crate::report::StepOutcome;

use super::api::{Answer, done, unknown_step};
use super::app::App;
use super::body;
use super::problem::Problem;
use super::submit;

/// How often, and after how long each, a run that others still have is looked at before the client is told so.
const LOOKS: u32 = 20;
const GLANCE: Duration = Duration::from_millis(50);

/// How long the process that drives a run may take to act on a decision before the client is told that it has not yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// `POST /api/runs`: an objective or a plan.
pub(super) async fn submit(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (kind, bytes) = body::read(request, app.max_bytes()).await?;
    may_start(&app)?;
    let run = app.launcher()?.start(submit::job(kind, bytes, app.max_plan_bytes)?).await?;
    Ok(started(&run, json!({})))
}

fn may_start(app: &App) -> Result<(), Problem> {
    match &app.only {
        Some(run) => Err(Problem::new("serve.one_run", format!("this server shows run {run} and starts no others"))
            .help("to start runs from a page: plandag serve")),
        None => Ok(()),
    }
}

fn started(run: &RunId, fields: Value) -> Response {
    let location = format!("/api/runs/{run}");
    (StatusCode::CREATED, [(LOCATION, location)], done(run.as_str(), fields)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    /// Whether what is running is ended, too.
    #[serde(default)]
    now: bool,
}

/// `POST /api/runs/RUN/cancel`.
pub(super) async fn cancel(State(app): State<Arc<App>>, Path(run): Path<String>, request: Request) -> Answer {
    let Cancel { now } = body::json(request, app.max_bytes()).await?;
    let mut summary = app.summary(&run).await?;
    match summary.owner {
        Some(owner) if summary.is_resumable() => {
            app.launcher()?.cancel(&summary.run, owner, now).await?;
            for _ in 0..LOOKS {
                summary = app.summary(&run).await?;
                if summary.owner.is_none() {
                    break;
                }
                sleep(GLANCE).await;
            }
        }
        None if summary.is_resumable() => {
            history::cancel(&*app.journal, &summary.run).await?;
            summary = app.summary(&run).await?;
        }
        _ => {}
    }
    // What still runs is given time to finish.
    let state = if summary.owner.is_some() && summary.is_resumable() { "stopping" } else { summary.state() };
    Ok(done(&run, json!({ "status": state })))
}

/// `POST /api/runs/RUN/resume`: goes on with a run that was stopped or interrupted.
pub(super) async fn resume(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer {
    let summary = app.summary(&run).await?;
    if !summary.is_resumable() {
        return Err(Problem::new("journal.nothing_to_resume", format!("run {run} is finished"))
            .help("to run the failed part of it again: retry"));
    }
    free(&summary)?;
    app.launcher()?.resume(&summary.run).await?;
    Ok(done(&run, json!({ "status": "running" })))
}

/// A run that another process drives is not touched.
fn free(summary: &RunSummary) -> Result<(), Problem> {
    match summary.owner {
        Some(owner) if summary.is_resumable() => {
            let message = format!("run {} is being run by another process, pid {}", summary.run, owner.pid);
            Err(Problem::new("journal.locked", message).help("this can be done when it has stopped"))
        }
        _ => Ok(()),
    }
}

/// `POST /api/runs/RUN/retry`: what failed or was skipped once more, as a new run.
pub(super) async fn retry(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer {
    go_on(&app, &run, &Changes::default()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fork {
    from: Option<StepId>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    without: Vec<StepId>,
}

/// `POST /api/runs/RUN/fork`: the same run with a change, as a new run.
pub(super) async fn fork(State(app): State<Arc<App>>, Path(run): Path<String>, request: Request) -> Answer {
    let Fork { from, set, without } = body::json(request, app.max_bytes()).await?;
    if from.is_none() && without.is_empty() {
        return Err(Problem::new("usage.request", "the request does not say what is to be different")
            .help(r#"{"from": "compare", "set": {"query": "TLS"}}"#)
            .help(r#"{"without": ["search"]}"#));
    }
    if from.is_none() && !set.is_empty() {
        return Err(Problem::new("usage.request", "`set` needs the step that it is about, as `from`"));
    }
    go_on(&app, &run, &Changes { from, set, without }).await
}

async fn go_on(app: &App, run: &str, changes: &Changes) -> Answer {
    may_start(app)?;
    let launcher = app.launcher()?;
    let (summary, history) = app.history(run).await?;
    // What goes on there would be done twice.
    free(&summary)?;
    let fork = history.fork(changes)?;
    launcher.check(history.report().start())?;
    let new = RunId::random();
    fork.save(&*app.journal, &new).await?;
    launcher.resume(&new).await?;
    let what = json!({
        "from": run, "reused": fork.reused, "again": fork.again, "first": fork.first,
        "put_together": fork.put_together, "left_out": fork.left_out,
    });
    Ok(started(&new, what))
}

/// `POST /api/runs/RUN/steps/STEP/approve`: the step may act although text from outside reaches it.
pub(super) async fn approve(State(app): State<Arc<App>>, Path((run, step)): Path<(String, String)>) -> Answer {
    decide(&app, &run, &step, StepOutcome::Unapproved, Decision::Approve).await
}

/// `POST /api/runs/RUN/steps/STEP/deny`: it may not.
pub(super) async fn deny(State(app): State<Arc<App>>, Path((run, step)): Path<(String, String)>) -> Answer {
    decide(&app, &run, &step, StepOutcome::Unapproved, Decision::Deny).await
}

/// What became of a step that was interrupted while it acted.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Resolution {
    /// It took effect, and this is its output.
    Succeeded(Value),
    /// It did not: `{"failed": "why"}`.
    Failed(String),
    /// It is run again: `"retry"`.
    Retry,
}

/// `POST /api/runs/RUN/steps/STEP/resolve`: what became of a step that was interrupted while it acted.
pub(super) async fn resolve(
    State(app): State<Arc<App>>,
    Path((run, step)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let decision = match body::json(request, app.max_bytes()).await? {
        Resolution::Succeeded(output) => Decision::Succeeded(Output::inline(output)),
        Resolution::Failed(why) => Decision::Failed(why),
        Resolution::Retry => Decision::Retry,
    };
    decide(&app, &run, &step, StepOutcome::Unknown, decision).await
}

/// Has a decision acted on: by the process that drives the run, or by one that goes on with it once nothing is undecided.
async fn decide(app: &Arc<App>, run: &str, step: &str, outcome: StepOutcome, decision: Decision) -> Answer {
    let (summary, history) = app.history(run).await?;
    let number = waiting(&history, run, step, outcome)?;
    // It is not taken back if whoever asked for it does not wait.
    let settled = tokio::spawn(settle(Arc::clone(app), summary.run, number, decision));
    match timeout(PATIENCE, settled).await {
        Ok(Ok(settled)) => {
            let open = settled?.ok_or_else(|| nothing_to_decide(run, step, outcome))?;
            Ok(done(run, json!({ "step": step, "status": "recorded", "undecided": open })))
        }
        Ok(Err(_)) => Err(Problem::new("internal.panic", "the decision could not be recorded")),
        Err(_) => {
            let answer = done(run, json!({ "step": step, "status": "waiting" }));
            Ok((StatusCode::ACCEPTED, answer).into_response())
        }
    }
}

/// Gives the steps that are still to be decided; nothing if there was nothing to decide any more.
async fn settle(
    app: Arc<App>,
    run: RunId,
    step: StepNumber,
    decision: Decision,
) -> Result<Option<Vec<StepId>>, Problem> {
    let told = history::decide(&*app.journal, &run, step, decision).await?;
    if told == Told::Nothing {
        return Ok(None);
    }
    let (summary, history) = app.history(run.as_str()).await?;
    let is_open = |outcome| matches!(outcome, StepOutcome::Unapproved | StepOutcome::Unknown);
    let steps = history.report().steps().filter(|step| is_open(step.outcome));
    let open: Vec<StepId> = steps.map(|step| step.id.clone()).collect();
    if told == Told::Recorded && open.is_empty() && summary.is_resumable() {
        drive_on(&app, &summary).await?;
    }
    Ok(Some(open))
}

/// Has a run gone on with that nobody drove when it was like this.
async fn drive_on(app: &App, before: &RunSummary) -> Result<(), Problem> {
    let mut looks = 0;
    while let Err(problem) = app.launcher()?.resume(&before.run).await {
        // Others decide, too: one of them may have had it gone on with, or hold it for a moment to write that down.
        if app.summary(before.run.as_str()).await?.events > before.events {
            break;
        }
        looks += 1;
        if problem.code() != "journal.locked" || looks == LOOKS {
            return Err(problem);
        }
        sleep(GLANCE).await;
    }
    Ok(())
}

/// The number of a step about which a person has to decide.
fn waiting(history: &History, run: &str, step: &str, outcome: StepOutcome) -> Result<StepNumber, Problem> {
    let report = history.report().step(step).ok_or_else(|| unknown_step(run, step))?;
    if report.outcome == outcome { Ok(report.number) } else { Err(nothing_to_decide(run, step, outcome)) }
}

fn nothing_to_decide(run: &str, step: &str, outcome: StepOutcome) -> Problem {
    let what = if outcome == StepOutcome::Unknown { "has an unknown outcome" } else { "waits for approval" };
    Problem::new("journal.nothing_to_decide", format!("step `{step}` of run {run} is not one that {what}"))
}
