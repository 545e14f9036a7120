//! Our requests and replies in the words of `genai`.

use genai::chat::{ChatMessage, ChatRequest, ContentPart, MessageContent, Tool, ToolCall as GenaiCall, ToolResponse};

use super::{Message, ModelRequest, OfferedTool, ToolCall};

/// A request.
pub(super) fn request(request: ModelRequest) -> ChatRequest {
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
pub(super) fn reply(content: MessageContent) -> (String, Vec<ToolCall>) {
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
