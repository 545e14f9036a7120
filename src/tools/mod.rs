//! The tools that come with the crate: search and read the files of a folder, calculate, wait.
//!
//! All of them only read. What they may read is one [`Folder`], chosen by whoever starts the run and never by a plan.

mod arguments;
mod calculate;
mod folder;
mod index;
mod passages;
mod read_file;
mod search_files;
mod sleep;
mod thread;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use calculate::Calculate;
pub use folder::{Folder, FolderError};
pub use read_file::ReadFile;
pub use search_files::SearchFiles;
pub use sleep::Sleep;

use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

/// The tools that read files, and are of no use without a folder.
pub const NEED_FOLDER: [&str; 2] = ["search_files", "read_file"];

/// Every tool of this module under its name.
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
