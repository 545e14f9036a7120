//! `read_file`: the text of a file, or some of its lines.

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::folder::{Folder, Skip};
use super::thread::on_thread;
use crate::counted::counted;
use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

/// More text is not handed on at once.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;
/// The highest line number that can be asked for.
const MAX_LINE: u64 = u32::MAX as u64;

/// Reads a text file of a [`Folder`], or some of its lines.
#[derive(Debug)]
pub struct ReadFile {
    folder: Arc<Folder>,
}

impl ReadFile {
    /// Reads files of `folder`.
    pub fn new(folder: impl Into<Arc<Folder>>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Tool for ReadFile {
    fn spec(&self) -> ToolSpec {
        spec()
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let arguments = Arguments::new(&cx.args, &["path", "from_line", "to_line"])?;
            let path = arguments.text("path")?.to_owned();
            let from = arguments.number("from_line", 1..=MAX_LINE)?;
            let to = arguments.number("to_line", 1..=MAX_LINE)?;
            check(&path)?;
            if let (Some(from), Some(to)) = (from, to)
                && from > to
            {
                return Err(StepError::bad_input(format!("`from_line` ({from}) comes after `to_line` ({to})")));
            }
            let folder = self.folder.clone();
            on_thread(cx.hold(), move |_| read(&folder, &path, from, to)).await
        })
    }
}

pub(super) fn spec() -> ToolSpec {
    ToolSpec {
        arguments: json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "the file, relative to the folder given to the run" },
                "from_line": { "type": "integer", "minimum": 1, "description": "the first line wanted" },
                "to_line": { "type": "integer", "minimum": 1, "description": "the last line wanted" }
            },
            "required": ["path"],
            "additionalProperties": false
        }),
        output: r#"{"path": "a.md", "line": 1, "last_line": 40, "lines": <in the whole file>, "text": ".."}"#.into(),
        ..ToolSpec::new("read_file", "Reads a text file of the folder given to the run, or some of its lines.")
    }
}

/// Tells apart the mistakes that the folder would all refuse alike.
fn check(path: &str) -> Result<(), StepError> {
    if path.is_empty() {
        return Err(StepError::bad_input("`path` is empty"));
    }
    if path.contains('\0') {
        return Err(StepError::bad_input("`path` has a NUL character in it"));
    }
    if Path::new(path).has_root() {
        return Err(StepError::bad_input(format!("`{path}` is not relative to the folder given to the run")));
    }
    Ok(())
}

fn read(folder: &Folder, path: &str, from: Option<u64>, to: Option<u64>) -> Result<ToolOutput, StepError> {
    let document = folder.read(path).map_err(|skip| unreadable(path, skip))?;
    let text = document.text();
    let count = text.lines().count();
    let lines = count as u64;
    let first = from.unwrap_or(1);
    let last = to.unwrap_or(lines).min(lines);
    if first > lines.max(1) {
        return Err(StepError::bad_input(format!("`{path}` has {}; there is no line {first}", counted(count, "line"))));
    }
    let wanted = match (from, to) {
        (None, None) => text.to_owned(),
        _ => text
            .split_inclusive('\n')
            .skip(usize::try_from(first - 1).unwrap_or(usize::MAX))
            .take(usize::try_from(last + 1 - first).unwrap_or(usize::MAX))
            .collect(),
    };
    if wanted.len() > MAX_OUTPUT_BYTES {
        return Err(StepError::bad_input(format!(
            "{} bytes of `{path}` were asked for, over the limit of {} KiB at once: ask for fewer of its {lines} lines \
             with `from_line` and `to_line`",
            wanted.len(),
            MAX_OUTPUT_BYTES / 1024
        )));
    }
    let output: Value = json!({ "path": path, "line": first, "last_line": last, "lines": lines, "text": wanted });
    Ok(output.into())
}

fn unreadable(path: &str, skip: Skip) -> StepError {
    StepError::permanent(match skip {
        Skip::Changed => format!("there is no file `{path}` in the folder"),
        Skip::Outside => format!("`{path}` leads out of the folder"),
        Skip::NotAFile => format!("`{path}` is not a file"),
        Skip::Binary => format!("`{path}` is a binary file"),
        Skip::NotUtf8 => format!("`{path}` is not text in UTF-8"),
        Skip::TooLarge => format!("`{path}` is over 4 MiB"),
        other => format!("`{path}` cannot be read: {other}"),
    })
}
