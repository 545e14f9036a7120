//! The live page of runs, and the HTTP API under it.
//!
//! A [`Server`] shows the runs of a journal, whoever drives them: this process, another one, nobody any more. It reads
//! the journal and nothing else, so a run never waits for a page. What a page asks for (a new run, a retry, a fork) is
//! carried out by a [`Launcher`].
//!
//! Whoever has the token of a server can do with it all that its launcher can. It is drawn anew at every start, and is
//! in the address that [`Bound::url`] gives; a browser gets a cookie for it, scripts send it as
//! `Authorization: Bearer TOKEN`. Requests that other sites have a browser make are refused.
//!
//! ```no_run
//! use plandag::journal::SqliteJournal;
//! use plandag::web::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::new(SqliteJournal::open("runs.db")?).bind("127.0.0.1", 7420).await?;
//! println!("{}", server.url("/"));
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
//! # Ok(())
//! # }
//! ```
//!
//! | request | does |
//! |---|---|
//! | `GET /api/runs` | lists the runs; `status`, `since`, `objective`, `run` and `limit` choose |
//! | `POST /api/runs` | starts one, from an objective or a plan |
//! | `GET /api/runs/RUN` | all that its page shows |
//! | `GET /api/runs/RUN/events` | the same as it changes, as server-sent events: `snapshot`, `update`s, and `end` once it has succeeded or failed |
//! | `GET /api/runs/RUN/export` | the run as `ndjson`, `trace`, `mermaid`, `dot` or `svg`, as `format` says |
//! | `GET /api/runs/RUN/steps/STEP` | the whole output of a step |
//! | `POST /api/runs/RUN/cancel`, `resume` | stops a run, goes on with it |
//! | `POST /api/runs/RUN/retry`, `fork` | starts a run that takes over what is finished |
//! | `POST /api/runs/RUN/steps/STEP/approve`, `deny`, `resolve` | decides what a person has to decide |
//!
//! In an address, a step `3/search` of what the step `3` became is `3%2Fsearch`.
//!
//! Errors are problem details (RFC 9457) with the codes of the command.

mod act;
mod api;
mod app;
mod body;
mod events;
mod guard;
mod hosts;
mod keys;
mod launcher;
mod pages;
mod problem;
mod serve;
mod submit;
mod watch;

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::journal::{Journal, RunId};
use crate::plan_file::PlanFile;

use app::App;
use hosts::Hosts;
use keys::Keys;
use watch::Watchers;

pub use launcher::{Job, Launcher, Task};
pub use problem::Problem;
pub use serve::Bound;

/// Shows the runs of a journal, and has new ones started.
pub struct Server {
    journal: Arc<dyn Journal>,
    launcher: Option<Arc<dyn Launcher>>,
    only: Option<RunId>,
    may: String,
    max_connections: usize,
    max_plan_bytes: u64,
}

impl Server {
    /// A server for the runs of `journal`, which only shows them.
    pub fn new(journal: impl Journal + 'static) -> Self {
        Self {
            journal: Arc::new(journal),
            launcher: None,
            only: None,
            may: String::new(),
            max_connections: 4096,
            max_plan_bytes: PlanFile::MAX_BYTES,
        }
    }

    /// Has runs started, stopped and gone on with by `launcher`. `may` says in words what these runs may do.
    #[must_use]
    pub fn launcher(mut self, launcher: impl Launcher + 'static, may: impl Into<String>) -> Self {
        self.launcher = Some(Arc::new(launcher));
        self.may = may.into();
        self
    }

    /// Shows this run and no other, and starts none.
    #[must_use]
    pub fn only(mut self, run: impl Into<RunId>) -> Self {
        self.only = Some(run.into());
        self
    }

    /// Sets how many connections there may be at once, 4,096 at first; each takes a file descriptor. More wait for one
    /// of these to end.
    #[must_use]
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets how long a plan may be that is sent, [`PlanFile::MAX_BYTES`] at first.
    #[must_use]
    pub fn max_plan_bytes(mut self, max_plan_bytes: u64) -> Self {
        self.max_plan_bytes = max_plan_bytes;
        self
    }

    /// Takes a port, 0 being any that is free, at an address of this machine or a name of it. `127.0.0.1` is reached
    /// from this machine alone.
    ///
    /// # Errors
    ///
    /// If the port is taken, or this machine does not have the address.
    pub async fn bind(self, host: &str, port: u16) -> io::Result<Bound> {
        let listener = TcpListener::bind((host.trim_matches(['[', ']']), port)).await?;
        let address = listener.local_addr()?;
        let app = Arc::new(App {
            journal: self.journal,
            launcher: self.launcher,
            only: self.only,
            may: self.may,
            max_plan_bytes: self.max_plan_bytes,
            hosts: Hosts::new(address, host),
            keys: Keys::new()?,
            cookie: format!("plandag-{}", address.port()),
            watchers: Watchers::default(),
        });
        Ok(Bound::new(listener, address, app, self.max_connections))
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::runs))
        .route("/runs/{run}", get(pages::run))
        .route("/assets/{name}", get(pages::asset))
        .route("/api", get(api::about))
        .route("/api/runs", get(api::list).post(act::submit))
        .route("/api/runs/{run}", get(api::get))
        .route("/api/runs/{run}/events", get(api::events))
        .route("/api/runs/{run}/export", get(api::export))
        .route("/api/runs/{run}/cancel", post(act::cancel))
        .route("/api/runs/{run}/resume", post(act::resume))
        .route("/api/runs/{run}/retry", post(act::retry))
        .route("/api/runs/{run}/fork", post(act::fork))
        .route("/api/runs/{run}/steps/{step}", get(api::output))
        .route("/api/runs/{run}/steps/{step}/approve", post(act::approve))
        .route("/api/runs/{run}/steps/{step}/deny", post(act::deny))
        .route("/api/runs/{run}/steps/{step}/resolve", post(act::resolve))
        .fallback(api::nothing)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("only", &self.only).field("may", &self.may).finish_non_exhaustive()
    }
}
