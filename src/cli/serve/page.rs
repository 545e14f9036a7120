//! `plandag run --open`: the page of a run while it goes on.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::BoxFuture;
use plandag::RunStart;
use plandag::journal::{Owner, RunId};
use plandag::report::ExitCode;
use plandag::web::{Job, Launcher, Problem, Server};

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::history::{Survives, interrupt, open_journal};
use super::super::style::{self, paint};
use super::{LOOPBACK, bind, browser};

/// How long a browser may take to show a page that was opened for it, before the run and the page with it are gone.
const LOADING: Duration = Duration::from_secs(3);

/// How long the end of the run may take to be shown.
const FAREWELL: Duration = Duration::from_millis(400);

/// The page of the run of this process. It has a thread and a connection to the journal of its own, so that the run
/// never waits for it.
pub(crate) struct RunPage {
    run: RunId,
    opened: Option<Instant>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl RunPage {
    /// Serves the page of a run that this process drives, opens it if there is a browser, and says where it is.
    pub(crate) fn open(run: &RunId, journal: &Path, console: &Console) -> Result<Self, Failure> {
        let (stop, stopped) = oneshot::channel();
        let (sender, urls) = mpsc::sync_channel(1);
        let server = Server::new(open_journal(Some(journal), Survives::Auto)?).only(run).launcher(Myself, "");
        let thread = thread::Builder::new().name("plandag-page".to_owned()).spawn({
            let path = format!("/runs/{run}");
            move || serve(server, &path, &sender, stopped)
        });
        let thread = thread.map_err(|error| no_page(&error.to_string()))?;
        let Urls { shown, opened } = urls.recv().map_err(|_| no_page("its thread has ended"))??;
        console.say(&format!(" {}{shown}", paint(style::FAINT, "page      ")));
        let opened = browser::open(opened).then(Instant::now);
        if opened.is_none() {
            console.say(" there is no browser to open; the address above is for one");
        }
        Ok(Self { run: run.clone(), opened, stop, thread })
    }

    /// Ends it, once a browser has had the time to show how the run ended.
    pub(crate) fn close(self, console: &Console) {
        if let Some(opened) = self.opened {
            thread::sleep(LOADING.saturating_sub(opened.elapsed()).max(FAREWELL));
        }
        // A page that has ended by itself needs no end.
        let _ = self.stop.send(());
        let _ = self.thread.join();
        console.say(&format!(" {}plandag open {}", paint(style::FAINT, "page      "), self.run));
    }
}

/// Where the page is.
struct Urls {
    /// For people.
    shown: String,
    /// For the browser.
    opened: io::Result<String>,
}

fn serve(server: Server, path: &str, urls: &mpsc::SyncSender<Result<Urls, Failure>>, stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = urls.send(Err(no_page(&error.to_string())));
            return;
        }
    };
    runtime.block_on(async {
        match bind(server, LOOPBACK, 0).await {
            Ok(bound) => {
                // Who asked waits for it.
                let _ = urls.send(Ok(Urls { shown: bound.url(path), opened: bound.url_once(path) }));
                let stopped = async {
                    // Whoever is gone wants it no more, either.
                    let _ = stopped.await;
                };
                bound.run(stopped).await;
            }
            Err(failure) => drop(urls.send(Err(failure))),
        }
    });
    runtime.shutdown_background();
}

fn no_page(why: &str) -> Failure {
    Failure::new("serve.address", ExitCode::Configuration, format!("the page cannot be served: {why}"))
        .help("leave --open out; to see the run later: plandag open")
}

/// The process that drives the run is this one.
struct Myself;

impl Launcher for Myself {
    fn start<'a>(&'a self, _: Job) -> BoxFuture<'a, Result<RunId, Problem>> {
        Box::pin(async { Err(Problem::new("serve.one_run", "this server starts no runs")) })
    }

    fn resume<'a>(&'a self, _: &'a RunId) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async {
            Err(Problem::new("serve.one_run", "this server goes on with no runs").help("plandag resume does"))
        })
    }

    fn check(&self, _: &RunStart) -> Result<(), Problem> {
        Ok(())
    }

    fn cancel<'a>(&'a self, _: &'a RunId, owner: Owner, now: bool) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { interrupt(owner.pid, now).map_err(|failure| failure.to_problem()) })
    }
}
