//! Looking for a local model server.

use std::time::Duration;

use futures::future::join_all;
use plandag::llm::{Provider, Server};
use plandag::report::ExitCode;

use crate::cli::failure::Failure;

/// Longer is not waited for a server on this machine.
const PATIENCE: Duration = Duration::from_millis(300);

/// Where the usual servers listen unless told otherwise.
pub(crate) const USUAL: [(&str, &str); 4] = [
    ("Ollama", "http://127.0.0.1:11434/v1"),
    ("llama.cpp", "http://127.0.0.1:8080/v1"),
    ("LM Studio", "http://127.0.0.1:1234/v1"),
    ("vLLM", "http://127.0.0.1:8000/v1"),
];

/// A server that answers, and the models that it has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) models: Vec<String>,
}

/// The servers that answer and have a model, all asked at once.
pub(crate) fn local() -> Result<Vec<Found>, Failure> {
    let asked = USUAL.map(|(name, url)| async move {
        let models = models(Server::at(url)).await?;
        (!models.is_empty()).then(|| Found { name, url: url.to_owned(), models })
    });
    Ok(block_on(join_all(asked))?.into_iter().flatten().collect())
}

/// The models of a server. None: it does not answer in time, or not as such a server would.
pub(crate) async fn models(server: Server) -> Option<Vec<String>> {
    let provider = Provider::new(server).ok()?;
    tokio::time::timeout(PATIENCE, provider.model_names()).await.ok()?.ok()
}

pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new("internal.panic", ExitCode::Internal, format!("no runtime can be started: {error}"))
    })?;
    Ok(runtime.block_on(future))
}
