//! Providers whose APIs are their own, by way of `genai`: our requests in its words, and its replies in ours.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, JsonSpec, MessageContent, StopReason, Tool,
    ToolCall as GenaiCall, ToolChoice, ToolResponse,
};
use genai::resolver::{AuthData, Endpoint, ProviderConfig};
use genai::{Client, ModelIden};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::error::ModelError;
use super::finish::finished;
use super::provider::{Call, MAX_ANSWER_BYTES, too_long};
use super::server::Server;
use super::trouble::{Trouble, counted};
use super::{Message, ModelReply, ModelRequest, OfferedTool, ReplyEnd, ToolCall};
use crate::error::ModelProblem;
use crate::event::Usage;

/// A connection to such a provider.
pub(super) struct Native {
    client: Client,
    kind: AdapterKind,
    settings: ProviderConfig,
}

impl Native {
    pub(super) fn new(server: &Server, http: reqwest::Client) -> Result<Self, ModelError> {
        let settings = ProviderConfig::from_auth(AuthData::from_single(server.sent_key()));
        let settings = match &server.base_url {
            Some(base_url) => settings.with_endpoint(Endpoint::from_owned(base_url.as_str())),
            None => settings,
        };
        let client = Client::builder().with_reqwest(http).append_provider_config(server.kind, settings.clone()).build();
        let client = client.map_err(|error| ModelError::new(ModelProblem::Unreachable, error.to_string()))?;
        Ok(Self { client, kind: server.kind, settings })
    }

    /// The names of the provider's models.
    pub(super) async fn model_names(&self, trouble: &Trouble<'_>) -> Result<Vec<String>, ModelError> {
        let listed = self.client.all_model_names(self.kind, self.settings.clone()).await;
        listed.map_err(|error| trouble.of(error))
    }

    /// Asks for a whole answer.
    pub(super) async fn complete(&self, request: ModelRequest, call: &Call<'_>) -> Result<ModelReply, ModelError> {
        let options = options(&request, call).with_capture_raw_body(true);
        let answered = self.client.exec_chat(self.model(call), chat(request), Some(&options)).await;
        let body = match &answered {
            Ok(answer) => answer.captured_raw_body.as_ref(),
            Err(genai::Error::ChatResponseGeneration { response_body, .. }) => Some(&**response_body),
            Err(_) => None,
        };
        if let Some(instead) = body.and_then(|body| said_instead(body, &call.trouble)) {
            return instead;
        }
        let answer = answered.map_err(|error| call.trouble.of(error))?;
        let (text, calls) = reply(answer.content);
        let reply = ModelReply { text, calls, usage: used(&answer.usage), ..ModelReply::default() };
        finished(reply, reason(answer.stop_reason), String::new(), &call.trouble)
    }

    /// Asks for an answer in pieces.
    pub(super) async fn stream(
        &self,
        request: ModelRequest,
        call: &Call<'_>,
        piece: &mut (dyn FnMut(&str) + Send),
    ) -> Result<ModelReply, ModelError> {
        let noticed = Arc::new(Mutex::new(Noticed::default()));
        let notices = Arc::clone(&noticed);
        let options = options(&request, call).with_raw_frame_fn(move |_, frame| lock(&notices).take(frame.data));
        let answered = self.client.exec_chat_stream(self.model(call), chat(request), Some(&options)).await;
        let mut events = answered.map_err(|error| call.trouble.of(error))?.stream;
        let mut text = String::new();
        // Only an `End` says that the answer is whole: a connection that breaks between two events just ends.
        let (mut silent_since, mut frames) = (Instant::now(), 0);
        let end = loop {
            let event = timeout_at(silent_since + call.trouble.server.stall_after, events.next()).await;
            // Comments only keep the connection open: they are no word of the model's.
            let before = std::mem::replace(&mut frames, lock(&noticed).frames);
            if before != frames {
                silent_since = Instant::now();
            }
            let event = match event {
                Ok(event) => event,
                Err(_) if before != frames => continue,
                Err(_) => break Err(call.trouble.stalled()),
            };
            match event {
                Some(Ok(ChatStreamEvent::Chunk(chunk))) => {
                    text.push_str(&chunk.content);
                    if text.len() > MAX_ANSWER_BYTES {
                        break Err(too_long());
                    }
                    piece(&chunk.content);
                }
                Some(Ok(ChatStreamEvent::End(end))) => break Ok(end),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(call.trouble.of(error)),
                None if text.is_empty() => break Err(call.trouble.no_word()),
                None => break Err(call.trouble.cut_off()),
            }
        };
        let Noticed { frames, usage, blocked } = std::mem::take(&mut *lock(&noticed));
        if let Some(why) = blocked {
            return Ok(blocked_for(why, usage));
        }
        let end = end.map_err(|error| match frames > 0 {
            true => call.trouble.paid(ModelError { usage, ..error }, text.len()),
            false => error,
        })?;
        let usage = end.captured_usage.as_ref().map(used).unwrap_or_default();
        let reply = ModelReply { text, usage, ..ModelReply::default() };
        finished(reply, reason(end.captured_stop_reason), String::new(), &call.trouble)
    }

    fn model(&self, call: &Call<'_>) -> ModelIden {
        // The name is taken apart at the first `::`.
        match call.model.contains("::") {
            true => ModelIden::new(self.kind, format!("{}::{}", self.kind.as_lower_str(), call.model)),
            false => ModelIden::new(self.kind, call.model),
        }
    }
}

fn options(request: &ModelRequest, call: &Call<'_>) -> ChatOptions {
    let stall_after = call.trouble.server.stall_after;
    let options = ChatOptions {
        temperature: call.options.temperature,
        max_tokens: call.options.max_output_tokens,
        // Where there are no tools, it is refused.
        tool_choice: (request.must_answer && !request.tools.is_empty()).then_some(ToolChoice::None),
        ..ChatOptions::default()
            .with_capture_usage(true)
            .with_stream_header_timeout(stall_after)
            .with_stream_read_timeout(stall_after)
    };
    match &request.schema {
        Some((name, schema)) => options.with_response_format(JsonSpec::new(name.as_str(), schema.clone())),
        None => options,
    }
}

/// What `genai` does not hand on of an answer in pieces.
#[derive(Default)]
struct Noticed {
    frames: usize,
    usage: Usage,
    /// Why the request is not answered.
    blocked: Option<String>,
}

impl Noticed {
    fn take(&mut self, event: &str) {
        self.frames += usize::from(!event.is_empty());
        if !event.contains("\"usage") && !event.contains("\"promptFeedback\"") {
            return;
        }
        let Ok(said) = serde_json::from_str::<Value>(event) else { return };
        let Usage { input_tokens, output_tokens, .. } = counted(&said);
        // Each count is of all that came until then.
        self.usage.input_tokens = self.usage.input_tokens.max(input_tokens);
        self.usage.output_tokens = self.usage.output_tokens.max(output_tokens);
        self.blocked = self.blocked.take().or_else(|| block_reason(&said));
    }
}

fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a whole body says in place of an answer, which `genai` takes for an empty one or for one that cannot be read.
fn said_instead(body: &Value, trouble: &Trouble<'_>) -> Option<Result<ModelReply, ModelError>> {
    if let Some(why) = block_reason(body) {
        return Some(Ok(blocked_for(why, counted(body))));
    }
    let mut errors = ["/error", "/choices/0/error"].into_iter().filter_map(|place| body.pointer(place));
    let error = errors.find(|error| !error.is_null())?;
    Some(Err(ModelError { usage: counted(body), ..trouble.broke_off(error) }))
}

/// Why one of Google's servers does not give a request to the model.
fn block_reason(said: &Value) -> Option<String> {
    said.pointer("/promptFeedback/blockReason").and_then(Value::as_str).map(str::to_owned)
}

fn blocked_for(why: String, usage: Usage) -> ModelReply {
    ModelReply { text: why, end: ReplyEnd::Refused, usage, ..ModelReply::default() }
}

/// The provider's word for how an answer ended.
fn reason(reason: Option<StopReason>) -> Option<String> {
    reason.map(|reason| reason.raw().to_owned())
}

/// What was counted.
fn used(counted: &genai::chat::Usage) -> Usage {
    let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0);
    Usage {
        input_tokens: count(counted.prompt_tokens),
        output_tokens: count(counted.completion_tokens),
        ..Usage::default()
    }
}

/// A request.
fn chat(request: ModelRequest) -> ChatRequest {
    let chat = ChatRequest::new(request.messages.into_iter().map(message).collect());
    let chat = match request.system.is_empty() {
        true => chat,
        false => chat.with_system(request.system),
    };
    match request.tools.is_empty() {
        true => chat,
        false => chat.with_tools(request.tools.into_iter().map(tool).collect::<Vec<_>>()),
    }
}

fn message(message: Message) -> ChatMessage {
    match message {
        Message::User(text) => ChatMessage::user(text),
        Message::Assistant { text, calls } => {
            let mut content = match text.is_empty() {
                true => MessageContent::from_parts(Vec::new()),
                false => MessageContent::from_text(text),
            };
            // Some providers want their signatures before the first call that they belong to.
            for signature in calls.iter().flat_map(|call| call.signatures.iter().flatten()) {
                content.push(ContentPart::ThoughtSignature(signature.clone()));
            }
            for call in calls {
                content.push(ContentPart::ToolCall(GenaiCall {
                    call_id: call.id,
                    fn_name: call.name,
                    fn_arguments: call.arguments,
                    thought_signatures: call.signatures,
                }));
            }
            ChatMessage::assistant(content)
        }
        Message::ToolResult { id, name, content } => ChatMessage::tool(MessageContent::from_tool_responses(vec![
            ToolResponse::new(id, content).with_fn_name(name),
        ])),
    }
}

fn tool(tool: OfferedTool) -> Tool {
    Tool::new(tool.name).with_description(tool.description).with_schema(tool.arguments)
}

/// The text of a reply and the tools it calls.
fn reply(content: MessageContent) -> (String, Vec<ToolCall>) {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in content {
        match part {
            ContentPart::Text(more) => text.push_str(&more),
            ContentPart::ToolCall(call) => calls.push(ToolCall {
                id: call.call_id,
                name: call.fn_name,
                arguments: call.fn_arguments,
                signatures: call.thought_signatures,
            }),
            _ => {}
        }
    }
    (text, calls)
}
