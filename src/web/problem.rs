//! What goes wrong, as a client is told: problem details (RFC 9457) with the codes of the command.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::JournalError;
use crate::history::ForkError;
use crate::plan_file::{PlanProblem, PlanProblems};

/// Why something was not done: the answer `application/problem+json`, with the code that the command has for it. It can be
/// read from what the command says with `--json`.
///
/// ```
/// use plandag::web::Problem;
///
/// let problem = Problem::new("journal.unknown_run", "there is no run `7f3k`").help("GET /api/runs lists them");
/// assert_eq!(problem.status(), 404);
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Problem {
    code: Cow<'static, str>,
    message: String,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    help: Vec<String>,
    /// What is wrong with a plan, if that is it.
    #[serde(default)]
    problems: Option<Box<Value>>,
}

impl Problem {
    /// A problem with a code that `plandag explain` knows.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), notes: Vec::new(), help: Vec::new(), problems: None }
    }

    /// Adds a line about what happened.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds something to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// A plan that cannot be run.
    pub fn plan(problems: &PlanProblems) -> Self {
        let told = problems.problems.iter().map(PlanProblem::to_json).collect();
        Self { problems: Some(Box::new(told)), ..Self::new(problems.code(), problems.message()) }
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The status of the answer in HTTP.
    pub fn status(&self) -> u16 {
        self.status_code().as_u16()
    }

    fn status_code(&self) -> StatusCode {
        match &*self.code {
            "serve.token" => StatusCode::UNAUTHORIZED,
            "serve.host" | "serve.origin" | "config.not_allowed" => StatusCode::FORBIDDEN,
            "serve.not_found"
            | "journal.unknown_run"
            | "journal.unknown_step"
            | "journal.no_output"
            | "journal.no_plan" => StatusCode::NOT_FOUND,
            "serve.method" => StatusCode::METHOD_NOT_ALLOWED,
            "serve.slow" => StatusCode::REQUEST_TIMEOUT,
            "serve.one_run"
            | "journal.locked"
            | "journal.no_fork"
            | "journal.nothing_to_decide"
            | "journal.nothing_to_resume"
            | "journal.changed"
            | "journal.foreign_run" => StatusCode::CONFLICT,
            "serve.too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "serve.media_type" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "plan.malformed" | "journal.bad_decision" | "config.run" => StatusCode::BAD_REQUEST,
            code => match code.split('.').next() {
                Some("usage") => StatusCode::BAD_REQUEST,
                Some("plan") => StatusCode::UNPROCESSABLE_ENTITY,
                Some("config" | "journal" | "provider" | "model" | "serve") => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// The details as RFC 9457 has them, with what else is known.
    pub(super) fn details(&self) -> Value {
        let status = self.status_code();
        let mut details = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.message,
            "code": self.code,
            "notes": self.notes,
            "help": self.help,
        });
        if let Some(problems) = &self.problems {
            details["problems"] = Value::clone(problems);
        }
        details
    }

    /// For a person who opened a page that cannot be shown.
    pub(super) fn into_text(self) -> Response {
        let lines = self.notes.iter().chain(&self.help).map(|line| format!("\n{line}"));
        let text = format!("{}\n{}\n\n({})\n", self.message, lines.collect::<String>(), self.code);
        (self.status_code(), text).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let mut response = Response::new(Body::from(self.details().to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        let problem = Self::new(error.code(), error.to_string());
        match error {
            JournalError::UnknownRun { .. } => problem.help("GET /api/runs lists them"),
            _ => problem,
        }
    }
}

impl From<ForkError> for Problem {
    fn from(error: ForkError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
