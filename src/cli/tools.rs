//! `plandag tools`.

use plandag::{Effect, ToolSpec, tools::NEED_FOLDER};
use serde_json::{Value, json};

use super::args::{Settings, ToolsArgs};
use super::console::{Console, json_text};
use super::failure::Failure;
use super::style::{self, paint};
use super::text;
use super::toolbox::Toolbox;

pub(crate) fn run(args: &ToolsArgs, console: &Console) -> Result<(), Failure> {
    let toolbox = Toolbox::open(&Settings { mcp: args.mcp.clone(), ..Settings::default() }, console)?;
    let Some(name) = &args.name else {
        let specs = toolbox.specs();
        return if args.json {
            let list: Vec<Value> = specs.iter().map(|spec| to_json(spec, &toolbox)).collect();
            console.data(&format!("{:#}\n", Value::from(list)))
        } else {
            console.styled(&specs.iter().map(|spec| render(spec, &toolbox)).collect::<Vec<_>>().join("\n"))
        };
    };
    let spec = toolbox.spec(name)?;
    if args.json {
        return console.data(&format!("{:#}\n", to_json(&spec, &toolbox)));
    }
    let schema = json_text(&format!("{:#}", spec.arguments)).replace('\n', "\n  ");
    console.styled(&format!("{}\n  JSON Schema of the arguments:\n  {schema}\n", render(&spec, &toolbox)))
}

fn to_json(spec: &ToolSpec, toolbox: &Toolbox) -> Value {
    let needs = if toolbox.needs_leave(&spec.name) {
        json!(format!("--allow {}", spec.name))
    } else if NEED_FOLDER.contains(&spec.name.as_str()) {
        json!("--files")
    } else {
        Value::Null
    };
    json!({
        "name": spec.name,
        "description": spec.description,
        "effect": spec.effect,
        "untrusted": spec.untrusted,
        "needs": needs,
        "arguments": spec.arguments,
        "output": spec.output,
    })
}

/// A paragraph a tool: its name, what it does, what it takes and what it gives.
fn render(spec: &ToolSpec, toolbox: &Toolbox) -> String {
    let effect = match spec.effect {
        Effect::Reads => "only reads".to_owned(),
        Effect::Acts if toolbox.needs_leave(&spec.name) => format!("acts: needs --allow {}", text::line(&spec.name)),
        Effect::Acts => "acts: on text from outside only when you approve".to_owned(),
    };
    let needs = if NEED_FOLDER.contains(&spec.name.as_str()) { "; needs --files" } else { "" };
    let mut paragraph = format!(
        "{}  {}\n",
        paint(style::STRONG, &text::line(&spec.name)),
        paint(style::FAINT, &format!("({effect}{needs})"))
    );
    paragraph.push_str(&format!("  {}\n", text::line(&spec.description)));
    let required: Vec<&str> =
        spec.arguments["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in spec.arguments["properties"].as_object().into_iter().flatten() {
        let optional = if required.contains(&name.as_str()) { "" } else { ", optional" };
        let kind = kind(schema);
        let description = schema["description"].as_str().unwrap_or_default();
        paragraph.push_str(&format!(
            "    {}  {}{optional}: {}\n",
            text::line(name),
            text::line(&kind),
            text::line(description)
        ));
    }
    if !spec.output.is_empty() {
        paragraph.push_str(&format!("  gives {}\n", text::line(&spec.output)));
    }
    paragraph
}

/// The type of an argument in a word or two.
fn kind(schema: &Value) -> String {
    match &schema["type"] {
        Value::String(kind) => match &schema["items"] {
            Value::Null => kind.clone(),
            items => format!("{kind} of {}", self::kind(items)),
        },
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}
