//! Starting the command and reading what it says.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Does again what was not done in time.
pub(crate) fn in_time<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    (0..5).find_map(|_| attempt()).unwrap()
}

/// A folder of its own, in which the command runs.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes `plan.json` with these steps.
    pub(crate) fn plan(&self, steps: Value) -> PathBuf {
        self.file("plan.json", json!({ "steps": steps }).to_string())
    }

    /// The command, not started. Nothing of the caller's surroundings can change what it says.
    pub(crate) fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plandag"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for name in ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        for name in ["PLANDAG_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_HOST", "ANTHROPIC_API_KEY"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.path().join(".config"));
        // The index of documents and the journal are kept between runs; not in the home of whoever tests.
        command.env("XDG_CACHE_HOME", self.path().join(".cache")).env("XDG_STATE_HOME", self.path().join(".state"));
        command.env("TERM", "xterm");
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs the command with `input` on its standard input.
    pub(crate) fn run_with_input<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I, input: &str) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Everything that was said, for a golden file.
    pub(crate) fn transcript(&self) -> String {
        format!("[stdout]\n{}[stderr]\n{}[exit {}]", self.stdout, self.stderr, self.exit)
    }

    /// The lines of `--json`.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The last line of `--json`.
    pub(crate) fn last_event(&self) -> Value {
        self.events().pop().unwrap()
    }
}

/// Waits until somebody who asks is told this.
pub(crate) fn wait_until(place: &Place, asked: &[&str], told: &str) {
    let begun = Instant::now();
    loop {
        let ran = place.run(asked);
        if ran.stdout.contains(told) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{ran:?}");
    }
}

/// A step that waits.
pub(crate) fn sleep(id: &str, ms: u64, depends_on: &[&str]) -> Value {
    json!({ "id": id, "tool": "sleep", "args": { "ms": ms }, "depends_on": depends_on })
}

/// A step that calculates.
pub(crate) fn calculate(id: &str, expression: &str) -> Value {
    json!({ "id": id, "tool": "calculate", "args": { "expression": expression } })
}
