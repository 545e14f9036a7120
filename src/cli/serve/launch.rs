//! Runs that a page asks for: each is the command once more, in a process of its own. So it is gone on with, cancelled
//! and looked at like a run of a terminal, and what becomes of it does not touch the server or the other runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use futures::future::BoxFuture;
use plandag::RunStart;
use plandag::journal::{Owner, RunId};
use plandag::report::ExitCode;
use plandag::web::{Job, Launcher, Problem, Task};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::super::failure::Failure;
use super::super::history::{Recorded, interrupt};
use super::options;

/// Most runs at once. A run has its own limit of what it does at once.
const MOST_RUNS: usize = 64;

/// Longest input, written as JSON: the system limits what a program may be told at its start.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// Starts the command for what a page asks for.
pub(super) struct Commands {
    program: PathBuf,
    journal: PathBuf,
    options: Vec<OsString>,
    inputs: BTreeMap<String, Value>,
    children: Children,
}

impl Commands {
    pub(super) fn new(
        journal: &Path,
        options: Vec<OsString>,
        inputs: BTreeMap<String, Value>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            let message = format!("the command cannot be started a second time: {error}");
            Failure::new("config.program", ExitCode::Configuration, message)
        })?;
        Ok(Self { program, journal: journal.to_owned(), options, inputs, children: Children::default() })
    }

    /// The processes that were started.
    pub(super) fn children(&self) -> Children {
        self.children.clone()
    }

    /// Starts the command, and waits for what it says first. It goes on by itself then, also if whoever asked for it
    /// does not wait.
    async fn run(&self, arguments: Vec<OsString>, input: String) -> Result<RunId, Problem> {
        let place = self.children.take()?;
        let cannot = |error: io::Error| Problem::new("config.program", format!("no run can be started: {error}"));
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--json").arg("--journal").arg(&self.journal);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is for the server, which hands it on.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(cannot)?;
        place.is(child.id());
        let (begun, begins) = oneshot::channel();
        tokio::spawn(follow(child, input, begun, place));
        begins.await.unwrap_or_else(|_| Err(no_beginning()))
    }
}

/// Gives a run its input, says how it begins, and reads on to its end: a run stops when nobody reads what it says.
async fn follow(mut child: Child, input: String, begun: oneshot::Sender<Result<RunId, Problem>>, place: Place) {
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        let mut line = async || lines.next_line().await.ok().flatten();
        // Whoever asked may have gone.
        let _ = begun.send(line().await.map_or_else(|| Err(no_beginning()), |line| beginning(&line)));
        while line().await.is_some() {}
    }
    let status = child.wait().await;
    tracing::info!(?status, "a run that was started from a page has ended");
    drop(place);
}

/// The first line of a run: that it has begun, or why not.
fn beginning(line: &str) -> Result<RunId, Problem> {
    let mut line: Value = serde_json::from_str(line).unwrap_or_default();
    if let Some(run) = line["run"].as_str() {
        return Ok(RunId::from(run));
    }
    for problem in line["problems"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        // The plan is what was sent, and not a file.
        problem.remove("file");
    }
    Err(Problem::deserialize(line).unwrap_or_else(|_| no_beginning()))
}

fn no_beginning() -> Problem {
    Problem::new("internal.panic", "the run ended before it began").help("please report this")
}

impl Launcher for Commands {
    fn start<'a>(&'a self, job: Job) -> BoxFuture<'a, Result<RunId, Problem>> {
        Box::pin(async move {
            let (kind, input) = match &job.task {
                Task::Objective(text) => ("objective", text.clone()),
                Task::Plan(file) => ("plan", file.source.text().to_owned()),
            };
            let mut inputs = self.inputs.clone();
            inputs.extend(job.inputs);
            let mut arguments = vec!["run".into(), "-".into(), format!("--source-kind={kind}").into()];
            arguments.extend(self.options.iter().cloned());
            for (name, value) in &inputs {
                if name.is_empty() || name.contains('=') {
                    let message = format!("there can be no input `{name}`: a name is not empty, and has no `=` in it");
                    return Err(Problem::new("usage.request", message));
                }
                let input = options::input(name, value);
                if input.len() > MAX_INPUT_BYTES {
                    let message = format!("the input `{name}` is longer than {MAX_INPUT_BYTES} bytes");
                    return Err(Problem::new("serve.too_large", message));
                }
                arguments.push(input);
            }
            self.run(arguments, input).await
        })
    }

    fn resume<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let mut arguments = vec!["resume".into(), run.as_str().into()];
            let is_durability = |option: &&OsString| option.to_string_lossy().starts_with(options::DURABILITY);
            arguments.extend(self.options.iter().filter(is_durability).cloned());
            self.run(arguments, String::new()).await.map(|_| ())
        })
    }

    fn check(&self, start: &RunStart) -> Result<(), Problem> {
        Recorded::check(start).map_err(|failure| failure.to_problem())
    }

    fn cancel<'a>(&'a self, _: &'a RunId, owner: Owner, now: bool) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { interrupt(owner.pid, now).map_err(|failure| failure.to_problem()) })
    }
}

/// The processes of runs.
#[derive(Clone, Default)]
pub(super) struct Children(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    gone: Notify,
}

#[derive(Default)]
struct State {
    pids: BTreeSet<u32>,
    /// Runs, those that are just being started included.
    count: usize,
    is_closing: bool,
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more.
    fn take(&self) -> Result<Place, Problem> {
        let mut state = self.lock();
        if state.is_closing {
            return Err(Problem::new("serve.closing", "the server is being stopped"));
        }
        if state.count >= MOST_RUNS {
            let message = format!("{MOST_RUNS} runs go on already that were started from here");
            return Err(Problem::new("serve.busy", message).help("wait for one to end, or cancel one"));
        }
        state.count += 1;
        Ok(Place { children: self.clone(), pid: Mutex::default() })
    }

    /// Asks all of them to stop, and lets no more begin; with `now`, to end what is running, too. Says how many there
    /// are.
    pub(super) fn stop(&self, now: bool) -> usize {
        let mut state = self.lock();
        state.is_closing = true;
        for pid in &state.pids {
            // One that cannot be told stops when nobody reads what it says any more.
            let _ = interrupt(*pid, now);
        }
        state.pids.len()
    }

    /// Waits for all of them to end.
    pub(super) async fn gone(&self) {
        loop {
            let changed = self.0.gone.notified();
            if self.lock().count == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// The room that a run takes, until it is dropped.
struct Place {
    children: Children,
    pid: Mutex<Option<u32>>,
}

impl Place {
    /// The run has this process.
    fn is(&self, pid: Option<u32>) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = pid;
        self.children.lock().pids.extend(pid);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pid = self.pid.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.children.lock();
        state.count -= 1;
        if let Some(pid) = pid {
            state.pids.remove(&pid);
        }
        drop(state);
        self.children.0.gone.notify_waiters();
    }
}
