//! Looking for a local model server.

use std::time::Duration;

use futures::future::join_all;
use plandag::ModelProblem;
use plandag::llm::{Provider, Server};

use crate::cli::failure::Failure;
use crate::cli::run::block_on;

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

/// What came of asking one of the usual places for its models.
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) url: &'static str,
    pub(crate) models: Result<Vec<String>, ModelProblem>,
}

/// The usual places, all asked at once.
pub(crate) fn usual() -> Result<Vec<Asked>, Failure> {
    block_on(join_all(USUAL.map(|(name, url)| async move { Asked { name, url, models: models(url).await } })))
}

/// The servers that answer and have a model.
pub(crate) fn local() -> Result<Vec<Found>, Failure> {
    let found = |Asked { name, url, models }: Asked| {
        let models = models.ok().filter(|models| !models.is_empty())?;
        Some(Found { name, url: url.to_owned(), models })
    };
    Ok(usual()?.into_iter().filter_map(found).collect())
}

/// The models of a server, or why they are not known.
async fn models(url: &str) -> Result<Vec<String>, ModelProblem> {
    let provider = Provider::new(Server::at(url)).map_err(|error| error.problem)?;
    let listed = tokio::time::timeout(PATIENCE, provider.model_names()).await;
    listed.map_err(|_| ModelProblem::Unreachable)?.map_err(|error| error.problem)
}
