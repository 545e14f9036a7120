//! New runs: an objective or a plan, from a page or a script.

use std::collections::BTreeMap;
use std::str;

use serde::Deserialize;
use serde_json::Value;

use crate::plan_file::{self, PlanFile, PlanFileError};

use super::body::{self, Kind};
use super::launcher::{Job, Task};
use super::problem::Problem;

/// What messages call the text of a plan.
const NAME: &str = "the request";

/// A request in JSON that is not itself a plan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    objective: Option<String>,
    plan: Option<Value>,
    source: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
}

/// Reads what is to be run. A plan comes as it is, in JSON or YAML, or as `{"plan": PLAN, "inputs": {..}}`, where PLAN
/// may also be the text of a plan file; an objective comes as `{"objective": "..."}`, and what a person has written, who
/// may mean either, as `{"source": "..."}`. A plan may have `most` bytes.
pub(super) fn job(kind: Kind, bytes: Vec<u8>, most: u64) -> Result<Job, Problem> {
    let plan = |bytes| plan(bytes, most);
    if kind == Kind::Yaml {
        return Ok(Job { task: plan(bytes)?, inputs: BTreeMap::new() });
    }
    // What is no JSON has a place where it stops being it, which a plan file can tell.
    let is_envelope = match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => value.get("steps").is_none(),
        Err(_) => false,
    };
    if !is_envelope {
        return Ok(Job { task: plan(bytes)?, inputs: BTreeMap::new() });
    }
    let envelope: Envelope = body::parse(&bytes)?;
    let task = match (envelope.objective, envelope.plan, envelope.source) {
        (None, None, Some(text)) if PlanFile::is_plan(&text) => plan(text.into_bytes())?,
        (Some(text), None, None) | (None, None, Some(text)) => objective(&text)?,
        (None, Some(Value::String(text)), None) => plan(text.into_bytes())?,
        (None, Some(_), None) => {
            let part = str::from_utf8(&bytes).ok().and_then(|text| plan_file::part(text, "plan"));
            plan(part.unwrap_or_default().into_bytes())?
        }
        (None, None, None) => return Err(neither_or_both("the request has neither an objective nor a plan")),
        _ => return Err(neither_or_both("the request has more than one of an objective, a plan and a source")),
    };
    Ok(Job { task, inputs: envelope.inputs })
}

fn neither_or_both(message: &str) -> Problem {
    Problem::new("usage.request", message)
        .help(r#"{"objective": "Compare A and B on X"}"#)
        .help(r#"{"plan": {"steps": [...]}, "inputs": {...}}"#)
}

fn objective(text: &str) -> Result<Task, Problem> {
    match text.trim() {
        "" => Err(Problem::new("usage.empty_objective", "the objective is empty")),
        text if text.len() as u64 > PlanFile::MAX_BYTES => {
            Err(Problem::new("usage.request", format!("the objective is longer than {} bytes", PlanFile::MAX_BYTES)))
        }
        text => Ok(Task::Objective(text.to_owned())),
    }
}

fn plan(bytes: Vec<u8>, most: u64) -> Result<Task, Problem> {
    PlanFile::parse_bytes(NAME, bytes, None, most).map(|file| Task::Plan(Box::new(file))).map_err(|error| match error {
        PlanFileError::Invalid(problems) => Problem::plan(&problems),
        PlanFileError::Unreadable { .. } => Problem::new("usage.request", error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(kind: Kind, bytes: Vec<u8>) -> Result<Job, Problem> {
        super::job(kind, bytes, PlanFile::MAX_BYTES)
    }

    fn problem(kind: Kind, text: &str) -> Problem {
        job(kind, text.as_bytes().to_vec()).unwrap_err()
    }

    #[test]
    fn a_plan_comes_in_any_of_five_ways() {
        let plan = r#"{"steps": [{"id": "a", "tool": "sleep"}]}"#;
        let text = serde_json::to_string(plan).unwrap();
        let yaml = "objective: rest\nsteps:\n  - id: a\n    tool: sleep\n";
        let source = serde_json::to_string(yaml).unwrap();
        for (kind, body) in [
            (Kind::Json, plan.to_owned()),
            (Kind::Json, format!(r#"{{"inputs": {{}}, "plan": {plan}}}"#)),
            (Kind::Json, format!(r#"{{"plan": {text}}}"#)),
            (Kind::Json, format!(r#"{{"source": {source}}}"#)),
            (Kind::Yaml, yaml.to_owned()),
        ] {
            let job = job(kind, body.clone().into_bytes()).unwrap();
            assert!(matches!(job.task, Task::Plan(file) if file.plan.steps[0].id == "a"), "{body}");
        }
    }

    #[test]
    fn what_a_person_writes_is_a_plan_or_an_objective() {
        let job = job(Kind::Json, br#"{"source": "Compare A and B\nsteps: find both"}"#.to_vec()).unwrap();
        assert!(matches!(job.task, Task::Objective(text) if text.starts_with("Compare")));
    }

    #[test]
    fn places_are_those_of_the_request() {
        let body = "{ \"plan\":\n  {\"steps\": [{\"id\": \"a\", \"tol\": \"sleep\"}]} }";
        let found = problem(Kind::Json, body).details();
        assert_eq!(found["code"], "plan.malformed");
        assert_eq!(
            (&found["problems"][0]["places"][0]["line"], &found["problems"][0]["places"][0]["column"]),
            (&2.into(), &26.into()),
            "{found}"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (body, code) in [
            ("", "plan.malformed"),
            ("{", "plan.malformed"),
            ("[]", "usage.request"),
            ("{}", "usage.request"),
            (r#"{"objective": " "}"#, "usage.empty_objective"),
            (r#"{"objective": 1}"#, "usage.request"),
            (r#"{"objective": "a", "plan": {}}"#, "usage.request"),
            (r#"{"objective": "a", "model": "b"}"#, "usage.request"),
            (r#"{"plan": null}"#, "usage.request"),
            (r#"{"plan": 1}"#, "plan.malformed"),
            (r#"{"steps": 1}"#, "plan.malformed"),
            (r#"{"source": "{\"steps\": ["}"#, "plan.malformed"),
            (r#"{"source": "a", "objective": "a"}"#, "usage.request"),
        ] {
            assert_eq!(problem(Kind::Json, body).code(), code, "{body}");
        }
        assert_eq!(problem(Kind::Yaml, "steps: [").code(), "plan.malformed");
    }
}
