//! `search_files`: finds passages in the files of a folder.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Mutex;

use super::arguments::Arguments;
use super::folder::Folder;
use super::index::{Failed, Index, cache_directory};
use super::thread::on_thread;
use crate::error::StepError;
use crate::tool::{StepContext, Tool, ToolOutput, ToolSpec};

const DEFAULT_LIMIT: u32 = 10;
const MAX_LIMIT: u64 = 100;
/// The longest query, in words; more are a document, not a question.
const MAX_WORDS: usize = 64;

/// Finds the passages that have most to do with a query, by full-text search over the files of a [`Folder`].
///
/// The index is brought up to date at the first search; from then on the tool sees the folder as it was then, and
/// passes over files that have changed since. Make another one for another look.
pub struct SearchFiles {
    folder: Arc<Folder>,
    cache: Option<PathBuf>,
    index: Mutex<Option<Arc<Index>>>,
}

impl SearchFiles {
    /// Searches `folder`. The index is kept in the user's cache directory.
    pub fn new(folder: impl Into<Arc<Folder>>) -> Self {
        Self { folder: folder.into(), cache: cache_directory(), index: Mutex::default() }
    }

    /// Keeps the index in another directory.
    #[must_use]
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = Some(directory.into());
        self
    }

    /// The index, brought up to date by the first search that gets here; those beside it wait for it.
    async fn index(&self, cx: &StepContext) -> Result<Arc<Index>, StepError> {
        let mut index = self.index.lock().await;
        if let Some(index) = &*index {
            return Ok(index.clone());
        }
        let (folder, cache) = (self.folder.clone(), self.cache.clone());
        let opened = on_thread(cx.hold(), move |cancelled| Index::open(folder, cache, cancelled)).await?;
        Ok(index.insert(Arc::new(opened)).clone())
    }

    /// Makes the next search open the index again, unless another one has done so since.
    async fn forget(&self, damaged: &Arc<Index>) {
        let mut index = self.index.lock().await;
        if index.as_ref().is_some_and(|index| Arc::ptr_eq(index, damaged)) {
            *index = None;
            damaged.remove();
        }
    }

    async fn search(&self, cx: &StepContext) -> Result<ToolOutput, StepError> {
        let arguments = Arguments::new(&cx.args, &["query", "limit"])?;
        let query = arguments.text("query")?;
        let limit = arguments.number("limit", 1..=MAX_LIMIT)?;
        let limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT);
        let words = words(query)?;
        let index = self.index(cx).await?;
        let searched = index.clone();
        let found = on_thread(cx.hold(), move |cancelled| Ok(searched.search(&words, limit, cancelled))).await?;
        match found {
            Ok(found) => Ok(json!({
                "query": query,
                "hits": found.hits,
                "words": found.words,
                "searched": found.searched,
            })
            .into()),
            Err(Failed::Damaged) => {
                self.forget(&index).await;
                Err(StepError::transient("the index of the folder was damaged; it is built anew on the next try"))
            }
            Err(Failed::Other(error)) => Err(error),
        }
    }
}

impl Tool for SearchFiles {
    fn spec(&self) -> ToolSpec {
        spec()
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async move { self.search(&cx).await })
    }
}

impl std::fmt::Debug for SearchFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchFiles").field("folder", &self.folder).finish_non_exhaustive()
    }
}

pub(super) fn spec() -> ToolSpec {
    ToolSpec {
        arguments: json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "the words to look for; a passage with more of them, and rarer ones, comes first. \
                        Words match in all their forms (`index`, `indexes`, `indexed`), in the text, in the headings \
                        above it and in the name of the file"
                },
                "limit": {
                    "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
                    "description": "how many passages"
                }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        output: r#"{"query": "..", "hits": [{"file": "a.md", "line": 3, "last_line": 5, "heading": "Title > Part", "kind": "prose|comment|code|table", "text": "..", "score": 7.1}], "words": {"word": <passages that have it>}, "searched": {"files": 12, "passages": 340, "skipped": {"binary": 3}}}; hits are best first, line `n` of a text is line `line + n` of the file"#.into(),
        ..ToolSpec::new("search_files", "Finds passages in the text files of the folder given to the run.")
    }
}

/// The words of a query, each once.
fn words(query: &str) -> Result<Vec<String>, StepError> {
    let mut words: Vec<String> = Vec::new();
    for word in query.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if !words.contains(&word) {
            words.push(word);
        }
        if words.len() > MAX_WORDS {
            return Err(StepError::bad_input(format!(
                "the query has more than {MAX_WORDS} words: ask for less at once"
            )));
        }
    }
    match words.is_empty() {
        true => Err(StepError::bad_input("the query has no word to look for")),
        false => Ok(words),
    }
}
