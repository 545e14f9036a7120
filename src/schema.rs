//! The JSON Schema of plans, for editors and for planners that are made to write JSON.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema as _, Schema};
use serde_json::{Value, json};

use crate::plan::{Plan, Step, StepId};

impl Plan {
    /// The JSON Schema (draft 2020-12) of a plan.
    ///
    /// It says what a plan looks like. That dependencies exist, and form no cycle, no schema can say:
    /// [`Dag::check`](crate::Dag::check) does.
    pub fn schema() -> Value {
        let mut schema = SchemaSettings::draft2020_12()
            .with_transform(RecursiveTransform(first_paragraph))
            .into_generator()
            .into_root_schema_for::<Self>();
        schema.insert("description".to_owned(), "A plan for plandag: steps, and what they depend on.".into());
        let constraints = [
            ("/properties/steps/minItems".to_owned(), json!(1)),
            (
                definition(&StepId::schema_name(), "pattern"),
                json!(format!("^[A-Za-z0-9_-]{{1,{}}}$", StepId::MAX_BYTES)),
            ),
            (definition(&StepId::schema_name(), "not"), json!({ "const": crate::reference::INPUTS })),
            (definition(&Step::schema_name(), "examples"), json!([example()])),
        ];
        let mut schema = schema.to_value();
        for (pointer, constraint) in constraints {
            let (owner, keyword) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(Value::Object(owner)) = schema.pointer_mut(owner) {
                owner.insert(keyword.to_owned(), constraint);
            }
        }
        schema
    }
}

fn definition(name: &str, keyword: &str) -> String {
    format!("/$defs/{name}/{keyword}")
}

fn example() -> Value {
    json!({ "id": "compare", "tool": "summarise", "args": { "left": "${apache}", "right": "${haproxy.hits.0.text}" } })
}

/// Leaves of each description, which was written for Rust programmers, the paragraph that everybody needs.
fn first_paragraph(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        let paragraph = description.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        *description = paragraph;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_a_plan_looks_like() {
        let schema = Plan::schema();
        assert_eq!(schema["required"], json!(["steps"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["steps"]["minItems"], json!(1));
        assert_eq!(schema["$defs"]["StepId"]["pattern"], json!("^[A-Za-z0-9_-]{1,64}$"));
        assert_eq!(schema["$defs"]["StepId"]["not"], json!({ "const": "inputs" }));
        assert!(serde_json::from_value::<Step>(schema["$defs"]["Step"]["examples"][0].clone()).is_ok());
        let text = schema.to_string();
        assert!(!text.contains("crate::") && !text.contains("```"), "{text}");
    }
}
