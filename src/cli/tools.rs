//! `plandag tools`.

use plandag::{Effect, ToolSpec, tools::NEED_FOLDER};
use serde_json::{Value, json};

use super::args::{Settings, ToolsArgs};
use super::console::Console;
use super::failure::Failure;
use super::style::{self, paint};
use super::text;
use super::toolbox::Toolbox;

pub(crate) fn run(args: &ToolsArgs, console: &Console) -> Result<(), Failure> {
    let specs = Toolbox::open(&Settings::default(), &[])?.specs();
    if args.json {
        let list: Vec<Value> = specs.iter().map(to_json).collect();
        return console.data(&format!("{:#}\n", Value::from(list)));
    }
    console.styled(&specs.iter().map(render).collect::<Vec<_>>().join("\n"))
}

fn to_json(spec: &ToolSpec) -> Value {
    json!({
        "name": spec.name,
        "description": spec.description,
        "effect": spec.effect,
        "needs": if NEED_FOLDER.contains(&spec.name.as_str()) { json!("--files") } else { Value::Null },
        "arguments": spec.arguments,
        "output": spec.output,
    })
}

/// A paragraph a tool: its name, what it does, what it takes and what it gives.
fn render(spec: &ToolSpec) -> String {
    let effect = match spec.effect {
        Effect::Reads => "only reads",
        Effect::Acts => "acts: needs --allow",
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
        let kind = schema["type"].as_str().unwrap_or("any");
        let description = schema["description"].as_str().unwrap_or_default();
        paragraph.push_str(&format!(
            "    {}  {}{optional}: {}\n",
            text::line(name),
            text::line(kind),
            text::line(description)
        ));
    }
    if !spec.output.is_empty() {
        paragraph.push_str(&format!("  gives {}\n", text::line(&spec.output)));
    }
    paragraph
}
