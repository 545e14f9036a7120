//! The tools that come with the crate.
//!
//! Most of them only read: the files of one [`Folder`], pages of the public internet. [`WriteFile`] and `Shell` act, in
//! one output folder. What they may reach is chosen by whoever starts the run, and never by a plan.

mod arguments;
mod calculate;
#[cfg(feature = "fetch")]
mod fetch;
mod folder;
mod index;
#[cfg(all(feature = "mcp", unix))]
pub mod mcp;
#[cfg(all(any(feature = "mcp", feature = "shell"), unix))]
mod orphans;
mod passages;
mod read_file;
mod search_files;
#[cfg(all(feature = "shell", unix))]
mod shell;
mod sleep;
mod thread;
#[cfg(feature = "web-search")]
mod web_search;
mod write_file;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use calculate::Calculate;
#[cfg(feature = "fetch")]
pub use fetch::{Fetch, HostPort, HostPortError, Resolve};
pub use folder::{Folder, FolderError};
pub use read_file::ReadFile;
pub use search_files::SearchFiles;
#[cfg(all(feature = "shell", unix))]
pub use shell::Shell;
pub use sleep::Sleep;
#[cfg(feature = "web-search")]
pub use web_search::WebSearch;
pub use write_file::WriteFile;

use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

/// The tools that read files, and are of no use without a folder.
pub const NEED_FOLDER: [&str; 2] = ["search_files", "read_file"];

/// The error of a step that only reads, and whose server has answered with this status, and how long it wants to be left
/// alone: it may pass where the server has failed, or had too much to do.
#[cfg(feature = "fetch")]
fn refused(status: u16, message: String, pause_ms: Option<u64>) -> StepError {
    let passes = status >= 500 || matches!(status, 408 | 425 | 429);
    let error = if passes { StepError::transient(message) } else { StepError::permanent(message) };
    StepError { retry_after_ms: pause_ms, ..error.details(serde_json::json!({ "status": status })) }
}

/// The tools that only read and reckon, under their names; what acts, or asks others, is made by whoever allows it.
///
/// Without a folder, the tools that [need one](NEED_FOLDER) are there too, so that plans which use them can be written
/// and checked; called, they fail and say what is missing.
pub fn all(folder: Option<Arc<Folder>>) -> Vec<(&'static str, Arc<dyn Tool>)> {
    let [search, read]: [Arc<dyn Tool>; 2] = match folder {
        Some(folder) => [Arc::new(SearchFiles::new(folder.clone())), Arc::new(ReadFile::new(folder))],
        None => [Arc::new(NoFolder(search_files::spec())), Arc::new(NoFolder(read_file::spec()))],
    };
    vec![
        ("search_files", search),
        ("read_file", read),
        ("calculate", Arc::new(Calculate::new())),
        ("sleep", Arc::new(Sleep::new())),
    ]
}

/// Stands in for a tool that needs a folder where there is none.
struct NoFolder(ToolSpec);

impl Tool for NoFolder {
    fn spec(&self) -> ToolSpec {
        self.0.clone()
    }

    fn call<'a>(&'a self, _: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        let message = format!("`{}` needs a folder to read, and none was given (`--files DIR`)", self.0.name);
        Box::pin(std::future::ready(Err(StepError::permanent(message))))
    }
}
