//! `shell`: runs a program.
//!
//! There is no command line: a program gets a list of arguments, each of them as it is. A result of another step that
//! is filled in stays inside of its argument, whatever quotes and dollars it has. What a program makes of its
//! arguments is its own affair, so two things are refused that would let a result become more than data: a result as
//! (a part of) the program or the code it runs, and one that a program would take for an option. See [`request`].
//!
//! Programs start with a clean environment, and their process group ends with the attempt. See [`process`]. If this
//! process is killed, the group is ended by another one. See [`watcher`]. What has left the group by then is ended before
//! the run goes on. See `orphans`.

mod capture;
mod data;
mod process;
mod request;
mod watcher;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::process::Command;

use crate::error::StepError;
use crate::tool::{Effect, StepContext, Tool, ToolOutput, ToolSpec};

use super::orphans;
use process::Finished;
use request::Request;

/// The environment variable that tells a program its idempotency key, which begins with the name of the run.
const KEY: &str = "PLANDAG_IDEMPOTENCY_KEY";
/// What a program inherits of our environment. Everything else could be a secret.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// Where programs are looked for if our own environment does not say.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How much of the end of what a failed program wrote goes into the error.
const TAIL_BYTES: usize = 4 * 1024;

/// Runs programs in one folder.
///
/// It acts, and nobody knows what a program does, so an attempt that was interrupted is not repeated unasked.
#[derive(Debug)]
pub struct Shell {
    folder: PathBuf,
}

impl Shell {
    /// Runs programs in `folder`, which is made when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder in which a program runs: ours, or one in it.
    fn working_directory(&self, inside: Option<&str>) -> Result<PathBuf, StepError> {
        let unusable = |error: io::Error| {
            StepError::permanent(format!("the output folder {} cannot be used: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(unusable)?;
        let folder = self.folder.canonicalize().map_err(unusable)?;
        let Some(inside) = inside else { return Ok(folder) };
        let wanted = folder.join(inside).canonicalize().map_err(|error| {
            StepError::bad_input(format!("`cwd`: there is no `{inside}` in the output folder ({error})"))
        })?;
        if !wanted.starts_with(&folder) {
            return Err(StepError::bad_input(format!("`cwd`: `{inside}` is outside of the output folder")));
        }
        if !wanted.is_dir() {
            return Err(StepError::bad_input(format!("`cwd`: `{inside}` is not a folder")));
        }
        Ok(wanted)
    }
}

impl Tool for Shell {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "argv": {
                        "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] },
                        "description": "the program and its arguments, each as it is: nothing is quoted or expanded"
                    },
                    "env": {
                        "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] },
                        "description": "environment variables, beside PATH, HOME, LANG and TMPDIR"
                    },
                    "cwd": { "type": "string", "description": "a folder in the output folder of the run" },
                    "stdin": { "type": "string", "description": "what the program reads; nothing if left out" }
                },
                "required": ["argv"],
                "additionalProperties": false
            }),
            output: r#"{"exit_code": 0, "stdout": "..", "stderr": "..", "stdout_bytes": <all of it>, "stderr_bytes": <all of it>, "truncated": <over 1 MiB of either, which then ends in ...>, "lossy": <not all of it was UTF-8>}"#.into(),
            effect: Effect::Acts,
            ..ToolSpec::new("shell", "Runs a program with a list of arguments, and waits until it ends. Fails if it does not end with exit code 0.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let request = Request::read(&cx)?;
            let folder = self.working_directory(request.cwd.as_deref())?;
            let mut command = command(&request, &folder);
            let key = cx.idempotency_key();
            if !key.is_empty() {
                command.env(KEY, key);
            }
            let finished = process::run(command, request.stdin, cx.hold())
                .await
                .map_err(|error| not_started(&request.program, &error))?;
            finished.into_output(&request.program)
        })
    }

    fn reap<'a>(&'a self, run: &'a str) -> BoxFuture<'a, ()> {
        let mark = format!("{KEY}={run}/");
        Box::pin(orphans::end(move |variable| variable.starts_with(mark.as_bytes())))
    }
}

fn command(request: &Request, folder: &Path) -> Command {
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).current_dir(folder).env_clear().env("PATH", DEFAULT_PATH).env("TERM", "dumb");
    let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.envs(inherited.map(|(name, value)| (OsString::from(name), value)));
    command.envs(request.env.iter().map(|(name, value)| (name, value)));
    command
}

fn not_started(program: &str, error: &io::Error) -> StepError {
    match error.kind() {
        io::ErrorKind::NotFound => StepError::permanent(format!("there is no program `{program}`")),
        io::ErrorKind::PermissionDenied => StepError::permanent(format!("`{program}` may not be run")),
        io::ErrorKind::ArgumentListTooLong => StepError::bad_input(format!(
            "the arguments and the environment of `{program}` are more than the system takes: hand over long texts \
             with `stdin`"
        )),
        _ => StepError::permanent(format!("`{program}` cannot be run: {error}")),
    }
}

impl Finished {
    fn into_output(self, program: &str) -> Result<ToolOutput, StepError> {
        let Self { status, stdout, stderr } = self;
        if !status.success() {
            let tail = stderr.tail(TAIL_BYTES);
            let last_line = tail.lines().rev().find(|line| !line.trim().is_empty());
            let said = last_line.map_or_else(String::new, |line| format!(": {}", line.trim()));
            return Err(StepError::permanent(format!("`{program}` {}{said}", how_it_ended(status))).details(json!({
                "exit_code": status.code(),
                "signal": status.signal(),
                "stdout": stdout.tail(TAIL_BYTES),
                "stderr": tail,
            })));
        }
        let truncated = stdout.is_truncated() || stderr.is_truncated();
        let (stdout_bytes, stderr_bytes) = (stdout.total(), stderr.total());
        let ((stdout, some_replaced), (stderr, more_replaced)) = (stdout.into_text(), stderr.into_text());
        Ok(ToolOutput::Value(json!({
            "exit_code": 0,
            "stdout": stdout,
            "stderr": stderr,
            "stdout_bytes": stdout_bytes,
            "stderr_bytes": stderr_bytes,
            "truncated": truncated,
            "lossy": some_replaced || more_replaced,
        })))
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}
