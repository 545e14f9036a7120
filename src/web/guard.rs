//! Who is let in: every request comes through here first.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AsHeaderName;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::app::App;
use super::body::{PATIENCE, too_large};
use super::problem::Problem;

/// How a page of ours proves that a request is its own.
const FORM_KEY: &str = "x-plandag-token";

/// What of a body that is too large is read all the same, so that who sends it gets to read why it was refused.
const MAX_DRAINED: usize = 256 << 20;

/// Goes with every answer: pages run only our own script, are shown in no frame, are kept in no cache, and tell no
/// other site where somebody came from.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// How a request is answered.
enum Admission {
    /// It is carried out.
    Through,
    /// Its address has the token: the browser is given the cookie, and sent to the same address without it.
    Enter(String),
}

pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let is_api = parts.uri.path().starts_with("/api");
    let refused = |problem: Problem| if is_api { problem.into_response() } else { problem.into_text() };
    let mut response = match admit(&app, &parts) {
        Ok(Admission::Through) if declared_length(&parts) > app.max_bytes() => {
            tokio::spawn(drain(body));
            too_large(app.max_bytes()).into_response()
        }
        Ok(Admission::Through) => next.run(Request::from_parts(parts, body)).await,
        Ok(Admission::Enter(path)) => enter(&app, &path),
        Err(problem) => refused(problem),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn admit(app: &App, request: &Parts) -> Result<Admission, Problem> {
    let host = header(request, HOST).filter(|host| app.hosts.has(host)).ok_or_else(|| {
        Problem::new("serve.host", "the request was meant for another host")
            .help("use the address that was printed when the server was started")
    })?;
    let is_own_authority = request.uri.authority().is_none_or(|authority| app.hosts.has(authority.as_str()));
    if !is_own_authority {
        return Err(Problem::new("serve.host", "the request was meant for another host"));
    }
    check_origin(request, host)?;

    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    if let Some(authorization) = header(request, AUTHORIZATION) {
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        return if app.keys.is_token(token.trim()) { Ok(Admission::Through) } else { Err(no_token()) };
    }
    if let Some(path) = is_read.then(|| with_token(app, request)).flatten() {
        return path.map(Admission::Enter);
    }
    let has_session = cookies(request).any(|(name, value)| name == app.cookie && app.keys.is_session(value));
    let is_own_page = is_read || header(request, FORM_KEY).is_some_and(|form| app.keys.is_form(form));
    match (has_session, is_own_page) {
        (true, true) => Ok(Admission::Through),
        (true, false) => Err(Problem::new("serve.token", "the request does not have the key of the page")
            .help("reload the page: the server was started anew")
            .help("scripts send the token instead: Authorization: Bearer TOKEN")),
        (false, _) => Err(no_token()),
    }
}

/// A browser says which site a request comes from. Other sites may lead to a page of ours, and nothing else.
fn check_origin(request: &Parts, host: &str) -> Result<(), Problem> {
    let foreign = || Problem::new("serve.origin", "the request comes from another site");
    let mut origins = request.headers.get_all(ORIGIN).iter();
    let is_own =
        |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host));
    if !origins.all(is_own) {
        return Err(foreign());
    }
    let leads_here = request.method == Method::GET
        && !request.uri.path().starts_with("/api")
        && header(request, "sec-fetch-mode") == Some("navigate");
    match request.headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if leads_here => Ok(()),
        Some(_) => Err(foreign()),
    }
}

/// If the address of a page has a token: the address without it, if it is the right one.
fn with_token(app: &App, request: &Parts) -> Option<Result<String, Problem>> {
    let token = request.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    let path = request.uri.path();
    if path.starts_with("/api") {
        return None;
    }
    // A path that begins with two slashes, of either kind, would be another host to a browser.
    let path = format!("/{}", path.trim_start_matches(['/', '\\']));
    let may_enter = app.keys.is_token(token) || app.keys.takes(token);
    Some(if may_enter { Ok(path) } else { Err(no_token()) })
}

fn enter(app: &App, path: &str) -> Response {
    let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", app.cookie, app.keys.session());
    (StatusCode::SEE_OTHER, [(LOCATION, path.to_owned()), (SET_COOKIE, cookie)]).into_response()
}

fn no_token() -> Problem {
    Problem::new("serve.token", "whoever started the server has the token for it, and this request has not")
        .help("open the address that was printed when the server was started, with its token")
        .help("scripts send it in a header: Authorization: Bearer TOKEN")
}

/// The value of a header that is there once.
fn header(request: &Parts, name: impl AsHeaderName) -> Option<&str> {
    let mut values = request.headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn cookies(request: &Parts) -> impl Iterator<Item = (&str, &str)> {
    let lines = request.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='))
}

fn declared_length(request: &Parts) -> usize {
    let length = header(request, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    length.unwrap_or_default()
}

/// Reads a body to nowhere.
async fn drain(body: Body) {
    let mut rest = MAX_DRAINED;
    let reading = async {
        let mut chunks = body.into_data_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            rest = rest.saturating_sub(chunk.len());
            if rest == 0 {
                break;
            }
        }
    };
    // Who is still sending then has had the time to see the answer.
    let _ = timeout(PATIENCE, reading).await;
}
