//! Language models: as the planner, and as the one that does the steps that name no tool.
//!
//! A [`Model`] is asked and answers; [`Provider`] makes one for any of the usual APIs. [`LlmPlanner`] has a model write
//! plans, and hands on each step the moment its line is complete. [`StepModel`] is the tool that has a model do a step.
//! [`PlanTool`] plans a step that is an objective of its own when it runs.
//!
//! Nothing here reads the environment: keys and addresses come from whoever makes a [`Server`].

mod ask;
mod called;
mod carried;
mod compatible;
mod dropped;
mod error;
mod executor;
mod finish;
mod gate;
mod json_format;
mod line_format;
mod markers;
mod native;
mod plan_text;
mod planner;
mod price;
mod prompts;
mod provider;
mod server;
mod shown;
mod subplan;
mod text;
mod thinking;
mod trouble;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::event::Usage;

pub use dropped::WhenDropped;
pub use error::ModelError;
pub use executor::StepModel;
pub use gate::RateLimits;
pub use plan_text::PlanTextFormat;
pub use planner::{LlmPlanner, PlannerWait};
pub use price::{Price, PriceList};
pub use prompts::Prompts;
pub use provider::{ModelOptions, Provider};
pub use server::Server;
pub use subplan::PlanTool;
pub use trouble::shown_address;

/// A language model.
///
/// [`Provider::model`] makes one of a model behind an API; a test can write its own.
pub trait Model: Send + Sync {
    /// The model's name, for people.
    fn name(&self) -> &str;

    /// The name of the server that has it, which others of its models have, too: see
    /// [`ToolSpec::server`](crate::ToolSpec::server). Empty: it has one for itself.
    fn server(&self) -> &str {
        ""
    }

    /// Asks for a whole answer.
    ///
    /// # Errors
    ///
    /// If the model cannot be asked or does not answer. An answer that was cut off at a limit of length is not an error: see
    /// [`ModelReply::end`].
    fn complete<'a>(&'a self, request: ModelRequest) -> BoxFuture<'a, Result<ModelReply, ModelError>>;

    /// Asks for an answer and hands on every piece of its text as it comes. The reply has the whole text once more.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete); also if the connection breaks before the answer is complete.
    fn stream<'a>(
        &'a self,
        request: ModelRequest,
        piece: &'a mut (dyn FnMut(&str) + Send),
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>>;
}

impl<M: Model + ?Sized> Model for std::sync::Arc<M> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn server(&self) -> &str {
        (**self).server()
    }

    fn complete<'a>(&'a self, request: ModelRequest) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        (**self).complete(request)
    }

    fn stream<'a>(
        &'a self,
        request: ModelRequest,
        piece: &'a mut (dyn FnMut(&str) + Send),
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        (**self).stream(request, piece)
    }
}

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelRequest {
    /// What it is told before the conversation.
    pub system: String,
    /// The conversation so far; the last message is not the model's.
    pub messages: Vec<Message>,
    /// The tools it may call.
    pub tools: Vec<OfferedTool>,
    /// Whether it is to answer without calling any. They are named all the same: some servers refuse a conversation with
    /// calls of tools that are not.
    pub must_answer: bool,
    /// The JSON Schema that the answer has to follow, with a name for it.
    pub schema: Option<(String, Value)>,
    /// Whether to wait where the provider is not to be asked now, as it said so or as a [limit](RateLimits) is reached. If
    /// not, that is an [error](ModelError::deferred) that says how long to wait, and nothing is sent.
    pub wait: bool,
    /// Who is told what the call has used, if it is dropped while it is made.
    pub when_dropped: WhenDropped,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Said to the model.
    User(String),
    /// Said by the model.
    Assistant {
        /// The text, which may be empty if it called tools.
        text: String,
        /// The tools it called.
        calls: Vec<ToolCall>,
    },
    /// What came of one of the model's calls.
    ToolResult {
        /// The [id](ToolCall::id) of the call.
        id: String,
        /// The name of the tool.
        name: String,
        /// The result, as text.
        content: String,
    },
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedTool {
    /// Its name: at most 64 of `A-Z a-z 0-9 _ -`, which is what every API takes.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub arguments: Value,
}

/// A call of a tool by a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the result has to carry back.
    pub id: String,
    /// The name of the tool, which may be one that was not offered.
    pub name: String,
    /// The arguments. Text, if they are not the JSON that they should be.
    pub arguments: Value,
    /// What the provider wants back with the call, unread.
    pub signatures: Option<Vec<String>>,
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelReply {
    /// The text. Of an answer that was refused: why, if that was said.
    pub text: String,
    /// The tools it calls.
    pub calls: Vec<ToolCall>,
    /// How the answer ended.
    pub end: ReplyEnd,
    /// The provider's word for that, if nobody knows what it means.
    pub finish_reason: Option<String>,
    /// What it cost, as the provider counts it, or roughly if the provider does not say.
    pub usage: Usage,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyEnd {
    /// The model was done.
    #[default]
    Complete,
    /// It was cut off at a limit of length.
    Length,
    /// The model, or a filter, would not go on.
    Refused,
    /// The provider has a word of its own for it, which does not say that it was broken off.
    Other,
}
