//! Workloads: plans with durations, one JSON object per line.
//!
//! ```json
//! {"id": "tea", "steps": [
//!   {"id": "boil", "description": "Boil water", "depends_on": [], "duration_ms": 300000},
//!   {"id": "pour", "depends_on": ["boil"], "duration_ms": 60000, "tool": "hand", "resources": {"cups": 1}}],
//!  "meta": {"goal": "Make tea", "resource_capacity": {"cups": 2}}}
//! ```
//!
//! `tool`, `description`, `depends_on`, `resources` and `meta` may be left out. Fields that are not read here are
//! ignored: these files carry statistics of all kinds.
//!
//! A line none of whose steps has a `duration_ms` is a plan as it is in a file, and is read as strictly. It may have an
//! `id`, too; else its line is its name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use thiserror::Error;

use super::misread;
use crate::plan::{Plan, Step, StepId};
#[cfg(feature = "plan-file")]
use crate::plan_file::{PlanFile, PlanFormat};

/// A plan and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its line, from 1.
    pub line: usize,
    /// Its name.
    pub id: String,
    /// The plan. The `estimate_ms` of a step is its duration, if that is known; resources are pools.
    pub plan: Plan,
    /// Makespans that cannot be beaten, in milliseconds, by what limits them: a number of slots, `unlimited`, or
    /// `resources` for the pools of the plan.
    pub optima: BTreeMap<String, u64>,
}

/// A line that is not a workload.
#[derive(Debug, Error)]
#[error("line {line}: {reason}")]
pub struct WorkloadError {
    /// The line, from 1.
    pub line: usize,
    /// What its plan is called, if it says that much.
    pub id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads workloads line by line. A bad line is an error of its own; the lines after it are still read.
pub fn read<R: BufRead>(reader: R) -> Workloads<R> {
    Workloads { reader, line: 0, failed: false }
}

/// The workloads of a reader.
#[derive(Debug)]
pub struct Workloads<R> {
    reader: R,
    line: usize,
    failed: bool,
}

impl<R: BufRead> Iterator for Workloads<R> {
    type Item = Result<Workload, WorkloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        while !self.failed {
            text.clear();
            self.line += 1;
            let line = self.line;
            let parsed = match self.reader.read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) => match content(&text) {
                    [] => continue,
                    content => parse(content, line).map_err(|reason| (id(content), reason)),
                },
                Err(error) => {
                    // Who cannot read this line will not read the next one either.
                    self.failed = true;
                    Err((None, format!("cannot be read: {error}")))
                }
            };
            return Some(parsed.map_err(|(id, reason)| WorkloadError { line, id, reason }));
        }
        None
    }
}

/// Whether one of the lines of a text is a plan, and the text thus no single one: there are other lines, or the line has
/// durations, which a plan file cannot have.
pub fn has_lines(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(content).filter(|line| !line.is_empty());
    let is_only = lines.clone().nth(1).is_none();
    lines.any(|line| AnyLine::of(line).is_some_and(|line| !line.steps.is_empty() && (line.has_durations() || !is_only)))
}

/// A line, as far as it says what it is.
#[derive(Deserialize)]
struct AnyLine {
    steps: Vec<AnyStep>,
}

#[derive(Deserialize)]
struct AnyStep {
    duration_ms: Option<IgnoredAny>,
}

impl AnyLine {
    fn of(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"{") { serde_json::from_slice(line).ok() } else { None }
    }

    fn has_durations(&self) -> bool {
        self.steps.iter().any(|step| step.duration_ms.is_some())
    }
}

/// What is in a line. Some editors begin a file with a mark that says nothing about UTF-8.
fn content(line: &[u8]) -> &[u8] {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii()
}

#[derive(Deserialize)]
struct Line {
    id: String,
    steps: Vec<LineStep>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize)]
struct LineStep {
    id: String,
    #[serde(default)]
    description: Arc<str>,
    #[serde(default)]
    depends_on: Vec<String>,
    duration_ms: u64,
    tool: Option<Arc<str>>,
    #[serde(default)]
    resources: BTreeMap<String, u32>,
}

#[derive(Default, Deserialize)]
struct Meta {
    goal: Option<String>,
    resource_capacity: Option<BTreeMap<String, u32>>,
    optima: Option<BTreeMap<String, Optimum>>,
}

#[derive(Deserialize)]
struct Optimum {
    makespan_ms: u64,
}

/// What a plan is called that cannot be used.
fn id(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(text).ok().map(|named| named.id)
}

fn parse(text: &[u8], number: usize) -> Result<Workload, String> {
    if AnyLine::of(text).is_some_and(|line| !line.has_durations()) {
        return plan(text, number);
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| misread::reason(text, &error))?;
    let ids = step_ids(&line.steps)?;
    let known = |id: &str| ids.get(id).cloned().unwrap_or_else(|| StepId::new(id));
    let steps = line.steps.iter().map(|step| {
        Arc::new(Step {
            tool: step.tool.clone(),
            uses: step.resources.clone(),
            estimate_ms: Some(step.duration_ms),
            depends_on: step.depends_on.iter().map(|id| known(id)).collect(),
            ..Step::described(known(&step.id), Arc::clone(&step.description))
        })
    });
    let plan = Plan {
        objective: line.meta.goal,
        answer: None,
        pools: line.meta.resource_capacity.unwrap_or_default(),
        steps: steps.collect(),
    };
    let optima = line.meta.optima.unwrap_or_default();
    let optima = optima.into_iter().map(|(limit, optimum)| (limit, optimum.makespan_ms)).collect();
    Ok(Workload { line: number, id: line.id, plan, optima })
}

/// Reads a plan as it could be in a file of its own.
fn plan(text: &[u8], number: usize) -> Result<Workload, String> {
    let mut fields: Map<String, Value> = serde_json::from_slice(text).map_err(|error| misread::reason(text, &error))?;
    let id = match fields.remove("id") {
        None => number.to_string(),
        Some(Value::String(id)) => id,
        Some(id) => id.to_string(),
    };
    Ok(Workload { line: number, id, plan: plan_of(fields)?, optima: BTreeMap::new() })
}

#[cfg(feature = "plan-file")]
fn plan_of(fields: Map<String, Value>) -> Result<Plan, String> {
    let text = Value::Object(fields).to_string();
    let file = PlanFile::parse("", text, PlanFormat::Json, u64::MAX);
    file.map(|file| file.plan).map_err(|error| misread::misshapen(&error))
}

#[cfg(not(feature = "plan-file"))]
fn plan_of(fields: Map<String, Value>) -> Result<Plan, String> {
    Plan::deserialize(Value::Object(fields)).map_err(|error| error.to_string())
}

/// The ids of the plan by those of the file. A file may join several plans under ids such as `3/fetch`, which a plan
/// cannot have: what is not allowed becomes a dash.
fn step_ids(steps: &[LineStep]) -> Result<HashMap<&str, StepId>, String> {
    let mut ids = HashMap::with_capacity(steps.len());
    let mut taken = HashSet::with_capacity(steps.len());
    for step in steps {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let id: String = step.id.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        let id = StepId::new(id);
        if ids.insert(&*step.id, id.clone()).is_some() {
            return Err(format!("two steps are called `{}`", step.id));
        }
        if !taken.insert(id.clone()) {
            return Err(format!("step `{}` would be called `{id}`, as another step is", step.id));
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_does_not_hide_the_good_ones() {
        let file = concat!(
            r#"{"id":"a","steps":[{"id":"x","duration_ms":5}]}"#,
            "\n\n",
            r#"{"id":"b","steps":[{"id":"x","duration_ms":-5}]}"#,
            "\n\u{7f}\n",
            r#"{"id":"c","steps":[{"id":"0/x","duration_ms":5},{"id":"1","depends_on":["0/x"],"duration_ms":7}]}"#,
        );
        let read: Vec<_> = read(file.as_bytes()).collect();
        let lines: Vec<_> = read.iter().filter_map(|line| line.as_ref().err()).map(|error| error.line).collect();
        assert_eq!(lines, [3, 4]);
        assert!(read[1].as_ref().unwrap_err().to_string().starts_with("line 3: `duration_ms` of step `x` should be"));
        let last = &read[3].as_ref().unwrap().plan;
        assert_eq!(last.steps[0].id, "0-x");
        assert_eq!(last.steps[1].depends_on, ["0-x"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let file = "\u{feff}{\"id\":\"a\",\"steps\":[{\"id\":\"x\",\"duration_ms\":5}]}\n";
        assert_eq!(read(file.as_bytes()).next().unwrap().unwrap().id, "a");
    }

    #[test]
    fn any_line_with_durations_makes_a_text_lines() {
        let line = r#"{"id":"a","steps":[{"id":"x","duration_ms":5}]}"#;
        for before in ["", "\n", "\u{feff}", "not json\n", "{\"id\":\"e\",\"steps\":[]}\r\n"] {
            assert!(has_lines(format!("{before}{line}\r\nrest").as_bytes()), "{before:?}");
        }
        let plan = r#"{"steps":[{"id":"x","tool":"t"}]}"#;
        for alone in [plan, &format!("\n{plan}\r\n"), "{\n\"steps\":[", "steps:\n- id: x", ""] {
            assert!(!has_lines(alone.as_bytes()), "{alone:?}");
        }
        for other in [plan, "not json", line] {
            assert!(has_lines(format!("{plan}\n{other}").as_bytes()), "{other:?}");
        }
    }

    /// The same as in a file of its own: what a step refers to, it depends on.
    #[test]
    fn a_line_may_be_a_plan_as_it_is_in_a_file() {
        let file = concat!(
            r#"{"objective":"o","pools":{"p":2},"steps":[{"id":"a","tool":"t","uses":{"p":1},"estimate_ms":5},"#,
            r#"{"id":"b","tool":"t","args":{"x":"${a}"}}]}"#,
            "\n",
            r#"{"id":"named","steps":[{"id":"a","tool":"t"}]}"#,
            "\n",
            r#"{"id":"bad","steps":[{"id":"a","tol":"t"},{"id":"b","tool":"t","estimate_ms":-1}]}"#,
        );
        let read: Vec<_> = read(file.as_bytes()).collect();
        let [first, second] = [0, 1].map(|line| read[line].as_ref().unwrap());
        assert_eq!((first.id.as_str(), second.id.as_str()), ("1", "named"));
        assert_eq!((first.plan.pools["p"], first.plan.steps[0].estimate_ms), (2, Some(5)));
        assert_eq!(first.plan.steps[1].args["x"], "${a}");
        let bad = "line 3: step `a` has an unknown field `tol` (did you mean `tool`?); \
                   `estimate_ms` of step `b` should be a whole number from 0 to 18446744073709551615, but is -1";
        let told = read[2].as_ref().unwrap_err().to_string();
        assert!(told.starts_with("line 3: ") && told.contains("unknown field `tol`"), "{told}");
        if cfg!(feature = "plan-file") {
            assert_eq!(told, bad);
        }
    }

    #[test]
    fn resources_are_pools() {
        let file = r#"{"id":"a","steps":[{"id":"x","duration_ms":5,"resources":{"R1":2}}],
            "meta":{"resource_capacity":{"R1":3},"optima":{"resources":{"makespan_ms":5,"by":"hand"}}}}"#
            .replace('\n', " ");
        let workload = read(file.as_bytes()).next().unwrap().unwrap();
        assert_eq!(workload.plan.pools["R1"], 3);
        assert_eq!(workload.plan.steps[0].uses["R1"], 2);
        assert_eq!(workload.optima["resources"], 5);
    }

    #[test]
    fn ids_that_would_fall_together_are_an_error() {
        let file = r#"{"id":"a","steps":[{"id":"0/x","duration_ms":5},{"id":"0-x","duration_ms":5}]}"#;
        let error = read(file.as_bytes()).next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "line 1: step `0-x` would be called `0-x`, as another step is");
        let twice = r#"{"id":"a","steps":[{"id":"x","duration_ms":5},{"id":"x","duration_ms":5}]}"#;
        assert!(read(twice.as_bytes()).next().unwrap().is_err());
    }
}
