//! Two hundred broken answers of a planner: none may be taken for a plan.

use plandag::llm::{LlmPlanner, PlanTextFormat, ReplyEnd};
use plandag::{Plan, PlanRequest, PlanSink, Planner as _, Policy, Revision, RunStart, ToolSpec};
use serde_json::json;

use crate::support::{Script, ends};

const LINES: &str = "1. look up the price of a\n2. look up the price of b\n3. @search {\"query\": \"a or b\"}\n\
                     4. compare the prices <- 1-2\n5. write it up <- 3,4\nEND\n";

/// A generator whose numbers are the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth, The Art of Computer Programming 2, 3.3.4: a multiplier of good quality.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn json_plan() -> String {
    let step = |id: &str, task: &str, depends_on: &[&str]| json!({ "id": id, "task": task, "depends_on": depends_on });
    json!({ "steps": [
        step("a", "look up the price of a", &[]),
        step("b", "look up the price of b", &[]),
        { "id": "search", "task": "", "tool": "search", "args": "{\"query\": \"a or b\"}", "depends_on": [] },
        step("compare", "compare the prices", &["a", "b"]),
        step("report", "write it up", &["search", "compare"]),
    ]})
    .to_string()
}

fn start() -> RunStart {
    RunStart {
        objective: "compare".into(),
        inputs: Default::default(),
        labels: Default::default(),
        policy: Policy::default(),
        tools: vec![ToolSpec::new("search", "Searches."), ToolSpec::new("model", "Does steps.")],
        default_tool: Some("model".into()),
    }
}

/// What becomes of an answer: the plan, if it is taken for one.
fn taken(format: PlanTextFormat, text: &str, end: ReplyEnd) -> Option<Plan> {
    let reply = ends(text, end);
    let model = Script::new(move |_| Ok(reply.clone()));
    let planner = LlmPlanner::new(model).format(format);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = runtime.block_on(planner.plan(PlanRequest::first(&start()), PlanSink::ignore())).unwrap();
    match reply.revision {
        Revision::Plan(plan) => Some(plan),
        Revision::Unusable(offences) => {
            assert!(!offences.is_empty(), "every offence is named");
            assert_eq!(reply.text.as_deref(), Some(text), "the answer is kept");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// One way to break lines, by number.
fn break_lines(way: usize, random: &mut Random) -> (String, ReplyEnd) {
    let mut lines: Vec<String> = LINES.lines().map(str::to_owned).collect();
    let steps = lines.len() - 1;
    let at = random.below(steps);
    let other = (at + 1 + random.below(steps - 1)) % steps;
    let mut end = ReplyEnd::Complete;
    match way {
        0 => return (LINES[..random.below(LINES.len() - 5)].to_owned(), end),
        1 => end = [ReplyEnd::Length, ReplyEnd::Other][random.below(2)],
        2 => drop(lines.remove(steps)),
        3 => lines.insert(at, lines[at].clone()),
        4 => lines.swap(at.min(2), 4 - random.below(2)),
        5 => lines[at] = format!("{}. something else <- {}", at + 1, at + 1 + random.below(9)),
        6 => lines[at] = format!("{}. @nothing {{\"a\": 1}}", at + 1),
        7 => lines[at] = format!("{}. @search {{\"query\": \"cut off", at + 1),
        8 => lines.insert(
            0,
            ["Sure! Here is the plan:", "# Plan", "Thought: I should look", "{\"steps\": []}"][random.below(4)].into(),
        ),
        9 => lines.push(
            ["I hope this helps!", "6. one more", "END OF PLAN", "Note: step 2 may fail"][random.below(4)].into(),
        ),
        10 => lines[at] = lines[at].replacen('.', [")", ":", " -", ""][random.below(4)], 1),
        11 => lines[at] = format!("- {}", lines[at]),
        12 => {
            lines[at] = format!(
                "{}. use the result <- {}",
                at + 1,
                ["step 1", "all", "1 and 2", "#1", "$1", "1..2", "0"][random.below(7)]
            )
        }
        13 => lines[at] = format!("{}.", at + 1),
        14 => lines[at] = format!("   and then some\n{}", lines[other]),
        15 => lines.insert(steps, LINES.trim_end().to_owned()),
        _ => lines[at] = format!("{}. then <- {}-{}", at + 1, at + 3 + random.below(3), at + 2),
    }
    (lines.join("\n"), end)
}

/// One way to break JSON, by number.
fn break_json(way: usize, random: &mut Random) -> (String, ReplyEnd) {
    let whole = json_plan();
    let mut plan: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let at = random.below(5);
    let step = &mut plan["steps"][at];
    let mut end = ReplyEnd::Complete;
    match way {
        0 => return (whole[..random.below(whole.len())].to_owned(), end),
        1 => end = [ReplyEnd::Length, ReplyEnd::Other][random.below(2)],
        2 => step["depends_on"] = json!(vec![["a/b", "", "1", "nobody"][random.below(4)]]),
        3 => step["depends_on"] = json!([step["id"]]),
        4 => plan["steps"][random.below(2)]["depends_on"] = json!(["report"]),
        5 => step["id"] = json!(["a b", "", "inputs", "a/b", &"x".repeat(65)][random.below(5)]),
        6 => {
            let copy = plan["steps"][at].clone();
            plan["steps"].as_array_mut().unwrap().push(copy);
        }
        7 => step["tool"] = json!("nothing"),
        8 => drop(step.as_object_mut().unwrap().remove("id")),
        9 => step["depends_on"] = json!("a"),
        10 => step["extra"] = json!(true),
        11 => return (whole.replace('"', "'"), end),
        12 => return (format!("Here is the plan:\n```json\n{whole}\n```"), end),
        13 => return (format!("{whole}\n\nLet me know!"), end),
        14 => return (json!({ "plan": plan }).to_string(), end),
        15 => return (plan["steps"].to_string(), end),
        16 => return (whole.replacen("},", "}", 1), end),
        17 => return (format!("{whole}{whole}"), end),
        18 => return (r#"{"steps": []}"#.to_owned(), end),
        _ => plan["steps"][2]["args"] = json!(["{\"query\": ", "[", "{'query': 1}"][random.below(3)]),
    }
    (plan.to_string(), end)
}

#[test]
fn none_of_two_hundred_broken_answers_is_taken_for_a_plan() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    let mut random = Random(seed);
    let good = |format, text: &str| taken(format, text, ReplyEnd::Complete).unwrap();
    let (lines, json) = (good(PlanTextFormat::Lines, LINES), good(PlanTextFormat::Json, &json_plan()));
    assert_eq!((lines.steps.len(), json.steps.len()), (5, 5));
    for number in 0..200 {
        let (format, (text, end)) = match number % 2 {
            0 => (PlanTextFormat::Lines, break_lines(number / 2 % 17, &mut random)),
            _ => (PlanTextFormat::Json, break_json(number / 2 % 20, &mut random)),
        };
        if let Some(plan) = taken(format, &text, end) {
            panic!("seed {seed}, answer {number} was taken for a plan of {} steps:\n{text}", plan.steps.len());
        }
    }
}
