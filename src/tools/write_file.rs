//! `write_file`: a result as a file.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::thread::on_thread;
use crate::cut;
use crate::error::StepError;
use crate::tool::{Effect, StepContext, Tool, ToolOutput, ToolSpec};

/// Larger files are not results but mistakes.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Writes files into one folder, and nowhere else.
///
/// A file is there in full or not at all: it is written under another name first. What was there before is replaced,
/// so doing a step twice does no harm.
#[derive(Debug)]
pub struct WriteFile {
    folder: PathBuf,
}

impl WriteFile {
    /// Writes into `folder`, which is made when the first file is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Tool for WriteFile {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            arguments: json!({
                "type": "object",
                "properties": {
                    "path": { "type": "string", "description": "the file, relative to the output folder of the run" },
                    "content": { "description": "text is written as it is, any other value as JSON" }
                },
                "required": ["path", "content"],
                "additionalProperties": false
            }),
            output: r#"{"path": "notes/a.md", "bytes": 120}"#.into(),
            effect: Effect::Acts,
            idempotent: true,
            ..ToolSpec::new("write_file", "Writes a file into the output folder of the run, replacing what was there.")
        }
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move {
            let arguments = Arguments::new(&cx.args, &["path", "content"])?;
            let path = arguments.text("path")?.to_owned();
            check(&path)?;
            let content = render(arguments.value("content")?)?;
            if content.len() > MAX_BYTES {
                return Err(StepError::bad_input(format!(
                    "`content` has {} bytes, over the limit of {} MiB",
                    content.len(),
                    MAX_BYTES / 1024 / 1024
                )));
            }
            let folder = self.folder.clone();
            on_thread(cx.hold(), move |_| {
                write(&folder, Path::new(&path), content.as_bytes())
                    .map_err(|error| StepError::permanent(format!("`{path}` cannot be written: {error}")))?;
                Ok(json!({ "path": path, "bytes": content.len() }).into())
            })
            .await
        })
    }
}

/// Tells apart the mistakes that the operating system would refuse without a reason, or not at all.
fn check(path: &str) -> Result<(), StepError> {
    let wrong = |what: &str| {
        let shown = cut::chars(path, 80);
        Err(StepError::bad_input(format!("`path` {what}: {shown:?}")))
    };
    if path.is_empty() {
        return Err(StepError::bad_input("`path` is empty"));
    }
    if path.contains(char::is_control) {
        return wrong("has a control character in it");
    }
    if path.ends_with('/') {
        return wrong("names a folder");
    }
    let path_of_file = Path::new(path);
    let inside = |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
    if path_of_file.file_name().is_none() || !path_of_file.components().all(inside) {
        return wrong("must name a file, relative to the output folder and without `..`");
    }
    Ok(())
}

/// What is written for a value.
fn render(content: &Value) -> Result<String, StepError> {
    match content {
        Value::Null => Err(StepError::bad_input("`content` is null, so there is nothing to write")),
        Value::String(text) => Ok(text.clone()),
        value => Ok(serde_json::to_string_pretty(value)? + "\n"),
    }
}

/// Everything below `folder` is reached through handles, with `cap-std`: links that lead out of it are refused, also
/// when somebody puts one there at that moment. A link in the place of the file is replaced, not followed.
fn write(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut dir = Dir::open_ambient_dir(folder, ambient_authority())?;
    let name = path.file_name().unwrap_or_default();
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        dir.create_dir_all(parent)?;
        dir = dir.open_dir(parent)?;
    }
    let part = format!(".{:016x}.part", fastrand::u64(..));
    let written = replace(&dir, &part, name, content);
    if written.is_err() {
        // It is either not there or of no use; the first error is the one to tell.
        let _ = dir.remove_file(&part);
    }
    written
}

fn replace(dir: &Dir, part: &str, name: &OsStr, content: &[u8]) -> io::Result<()> {
    let mut file = dir.open_with(part, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(content)?;
    // Else a power cut could leave an empty file behind that the record says was written.
    file.sync_all()?;
    dir.rename(part, dir, name)
}
