//! The command in a folder of its own, and what its steps leave behind there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder in which the command runs, with a journal in it.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, not started. Nothing of the caller's surroundings can change what it says.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plandag"));
        command.args(line.split(' ')).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command.env("XDG_CACHE_HOME", self.path(".cache")).env("XDG_STATE_HOME", self.path(".state"));
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.command(line).output().unwrap().into()
    }

    /// Starts the command, in silence.
    pub(crate) fn start(&self, line: &str) -> Child {
        self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The lines that steps have appended to their own file: what really happened.
    pub(crate) fn witnessed(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("witness")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Writes a plan.
    pub(crate) fn plan(&self, steps: Value) {
        fs::write(self.path("plan.json"), json!({ "objective": "test", "steps": steps }).to_string()).unwrap();
    }

    /// The default journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path(".state/plandag/runs.db")
    }

    /// What a query of one column says.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        query(&self.journal(), sql)
    }
}

pub(crate) fn query(journal: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A step of a program that appends its start and its end to the witness, and takes some time in between.
pub(crate) fn witnessed(id: &str, ms: u64, depends_on: &[&str]) -> Value {
    let seconds = ms as f64 / 1000.0;
    let script = format!("echo start {id} >> ../witness; sleep {seconds}; echo end {id} >> ../witness; echo {id}; cat");
    let input: String = depends_on.iter().map(|parent| format!("${{{parent}.stdout}}")).collect();
    json!({
        "id": id, "tool": "shell", "on_interrupt": "retry", "depends_on": depends_on,
        "args": { "argv": ["sh", "-c", script], "stdin": input }
    })
}
