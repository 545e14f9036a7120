//! The pages and what they are made of.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse as _, Response};

use crate::page::{self, Mode};

use super::api;
use super::app::App;
use super::problem::Problem;

/// `GET /`: all runs.
pub(super) async fn runs(State(app): State<Arc<App>>) -> Response {
    match app.runs().await {
        Ok(runs) => Html(page::runs_html(&runs, app.keys.form(), &app.may)).into_response(),
        Err(problem) => problem.into_text(),
    }
}

/// `GET /runs/RUN`: one of them.
pub(super) async fn run(State(app): State<Arc<App>>, Path(run): Path<String>) -> Response {
    match api::snapshot(&app, &run).await {
        Ok(snapshot) => Html(page::run_html(&snapshot, Mode::Live { token: app.keys.form() })).into_response(),
        Err(problem) => problem.into_text(),
    }
}

/// `GET /assets/NAME`: a script or a style sheet.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match page::ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => ([(CONTENT_TYPE, asset.content_type)], asset.bytes).into_response(),
        None => Problem::new("serve.not_found", "there is nothing at this address").into_text(),
    }
}
