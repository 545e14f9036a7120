//! Two hundred broken answers of a planner: none may be taken for a plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plandag::llm::{LlmPlanner, PlanTextFormat, ReplyEnd};
use plandag::{Limits, Plan, PlanError, PlanRequest, PlanSink, Planner as _, Policy, Revision, RunStart, ToolSpec};
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
        inputs: [("city".to_owned(), "Paris".into())].into(),
        planner_server: String::new(),
        labels: Default::default(),
        policy: Policy::default(),
        tools: vec![ToolSpec::new("search", "Searches."), ToolSpec::new("model", "Does steps.")],
        default_tool: Some("model".into()),
    }
}

/// What becomes of an answer: the plan, if it is taken for one.
fn taken(format: PlanTextFormat, text: &str, end: ReplyEnd) -> Result<Plan, Vec<PlanError>> {
    let reply = ends(text, end);
    let model = Script::new(move |_| Ok(reply.clone()));
    let planner = LlmPlanner::new(model).format(format);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = runtime.block_on(planner.plan(PlanRequest::first(&start()), PlanSink::ignore())).unwrap();
    match reply.revision {
        Revision::Plan(plan) => Ok(plan),
        Revision::Unusable(offences) => {
            assert!(!offences.is_empty(), "every offence is named");
            assert_eq!(reply.text.as_deref(), Some(text), "the answer is kept");
            Err(offences)
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
        1 => end = ReplyEnd::Length,
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
        1 => end = ReplyEnd::Length,
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
        19 => *step = json!([step["id"], step["task"], null, null, []]),
        20 => plan["answer"] = json!("42"),
        21 => return (json!([plan["steps"], "42"]).to_string(), end),
        _ => {
            let broken = ["{\"query\": ", "[", "{'query': 1}", "{\"query\": \"a\", \"query\": \"b\"}"];
            plan["steps"][2]["args"] = json!(broken[random.below(broken.len())]);
        }
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
            _ => (PlanTextFormat::Json, break_json(number / 2 % 23, &mut random)),
        };
        if let Ok(plan) = taken(format, &text, end) {
            panic!("seed {seed}, answer {number} was taken for a plan of {} steps:\n{text}", plan.steps.len());
        }
    }
}

/// What is wrong with an answer, in words.
fn offences(format: PlanTextFormat, text: &str, end: ReplyEnd) -> Vec<String> {
    match taken(format, text, end) {
        Ok(plan) => panic!("taken for a plan of {} steps:\n{text}", plan.steps.len()),
        Err(offences) => offences.iter().map(ToString::to_string).collect(),
    }
}

/// A reader of JSON may refuse what another skips: what stands there must not be left out of the plan.
#[test]
fn a_step_that_cannot_be_read_is_named_and_not_left_out() {
    let step = |id: &str, more: &str| format!(r#"{{"id": "{id}", "task": "do {id}", "depends_on": []{more}}}"#);
    let deep = format!(r#", "args": {}{}"#, "[".repeat(300), "]".repeat(300));
    let long = format!(r#", "args": {}"#, "9".repeat(5_000));
    for (more, why) in [
        (r#", "tool": "\ud800 c""#, "hex escape"),
        (r#", "tool": "\ud83d""#, "hex escape"),
        (&*deep, "recursion"),
        (&*long, "number"),
    ] {
        let (good, bad) = (|id: &str| step(id, ""), |id: &str| step(id, more));
        for (steps, place) in [
            ([good("1"), bad("2"), good("3")], "step 2 of the list, line 1 column "),
            ([bad("1"), good("2"), good("3")], "step 1 of the list, line 1 column "),
            ([good("1"), good("2"), bad("3")], "step 3 of the list, line 1 column "),
        ] {
            let text = format!(r#"{{"steps": [{}]}}"#, steps.join(", "));
            let found = offences(PlanTextFormat::Json, &text, ReplyEnd::Complete);
            assert!(found.len() == 1 && found[0].starts_with(place) && found[0].contains(why), "{found:?}");
        }
    }
}

/// Who is told that JSON is none looks for the wrong mistake.
#[test]
fn json_of_another_form_is_not_called_text() {
    let whole = json_plan();
    let plan: serde_json::Value = serde_json::from_str(&whole).unwrap();
    for (text, why) in [
        (plan["steps"].to_string(), "not an answer of that form: invalid type: sequence, expected an object"),
        (json!({ "plan": plan }).to_string(), "not an answer of that form: unknown field `plan`"),
        (json!({ "steps": "1. a" }).to_string(), "not an answer of that form: invalid type: string"),
        (format!("{whole}{whole}"), "not JSON: trailing characters"),
        ("Sure, here you are!".to_owned(), "not JSON, but text (line 1, column 1)"),
        (json!({ "steps": plan["steps"], "answer": "42" }).to_string(), "there are steps and an answer"),
        (json!({ "steps": [{ "id": "1", "task": "a" }] }).to_string(), "missing field `depends_on`"),
    ] {
        let found = offences(PlanTextFormat::Json, &text, ReplyEnd::Complete);
        assert!(found.iter().any(|offence| offence.contains(why)), "{why}: {found:?}");
    }
}

/// Of two equal keys, one would be dropped without a word.
#[test]
fn no_argument_comes_twice() {
    let args = r#"{"query": "a", "query": "b"}"#;
    let item = |args: String| {
        format!(r#"{{"steps": [{{"id": "1", "task": "", "tool": "search", "args": {args}, "depends_on": []}}]}}"#)
    };
    for (format, text) in [
        (PlanTextFormat::Lines, format!("1. @search {args}\nEND\n")),
        (PlanTextFormat::Json, item(args.to_owned())),
        (PlanTextFormat::Json, item(json!(args).to_string())),
    ] {
        let found = offences(format, &text, ReplyEnd::Complete);
        assert!(found.len() == 1 && found[0].contains("the key `query` comes twice"), "{text}: {found:?}");
    }
}

/// Only what did not come to its own end is cut off. What is wrong with the rest is said in either case.
#[test]
fn an_answer_without_an_end_mark_is_told_all_that_is_wrong_with_it() {
    let long = format!("1. {}\nEND\n", "x".repeat(2_000_000));
    let padded = format!("{{\"steps\": [{}", " ".repeat(2_000_000));
    for (format, text, end, expected) in [
        (PlanTextFormat::Lines, r#"{"steps": []}"#, ReplyEnd::Complete, &["line 1: not a step", "no line END"][..]),
        (PlanTextFormat::Lines, "1. a\n2. b <- 1\nEnd\n", ReplyEnd::Complete, &["line 3: not a step", "no line END"]),
        (PlanTextFormat::Lines, "1. a\n2. b", ReplyEnd::Complete, &["no line END after 2 complete steps"]),
        (
            PlanTextFormat::Lines,
            "1. a\u{2028}2. b <- 1\u{2028}END",
            ReplyEnd::Complete,
            &["line 1: step 1", "no line END"],
        ),
        (PlanTextFormat::Lines, &long, ReplyEnd::Complete, &["bytes, over"]),
        (
            PlanTextFormat::Lines,
            "1. a <- 2\n2. b <- 1-",
            ReplyEnd::Length,
            &["the plan was cut off", "step `1` depends on `2`"],
        ),
        (PlanTextFormat::Json, &padded, ReplyEnd::Complete, &["bytes, over"]),
        (
            PlanTextFormat::Json,
            r#"{"steps": [{"id": "1"}, {"#,
            ReplyEnd::Complete,
            &["step 1 of the list", "not closed"],
        ),
        (
            PlanTextFormat::Json,
            r#"{"steps": [{"id": "1"}, {"#,
            ReplyEnd::Other,
            &["the plan was cut off", "step 1 of the list"],
        ),
    ] {
        let found = offences(format, text, end);
        let is_found =
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, words)| found.contains(words));
        assert!(is_found, "{expected:?}: {found:?}");
    }
}

/// However much a model writes: no more of it is kept, and handed on, than a plan may have.
#[test]
fn steps_past_a_limit_are_not_taken_up() {
    // Each step depends on all before it: ten of them have 45 dependencies.
    let lines = |count: usize| {
        let line = |step| if step == 1 { "1. a\n".into() } else { format!("{step}. a <- 1-{}\n", step - 1) };
        (1..=count).map(line).chain(["END\n".into()]).collect::<String>()
    };
    let json = |count: usize| {
        let step = |step| json!({ "id": step, "task": "a", "depends_on": (1..step).collect::<Vec<_>>() });
        json!({ "steps": (1..=count).map(step).collect::<Vec<_>>() }).to_string()
    };
    let too_large = |what: &str, count, limit| vec![PlanError::TooLarge { what: what.into(), count, limit }];
    for (count, steps, edges, offences) in [
        (10, 10, 45, vec![]),
        (30, 10, 1_000, too_large("steps", 11, 10)),
        (30, 1_000, 45, too_large("dependencies", 55, 45)),
    ] {
        for (format, text) in [(PlanTextFormat::Lines, lines(count)), (PlanTextFormat::Json, json(count))] {
            let script = || Script::of([ends(&text, ReplyEnd::Complete)]);
            for model in [script(), script().at_once()] {
                let policy = Policy { limits: Limits { steps, edges, ..Limits::default() }, ..Policy::default() };
                let request = PlanRequest::first(&RunStart { policy, ..start() });
                let sent = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&sent);
                let sink = PlanSink::new(move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                let planner = LlmPlanner::new(model).format(format);
                let reply = futures::executor::block_on(planner.plan(request, sink)).unwrap();
                match reply.revision {
                    Revision::Plan(plan) => assert!(plan.steps.len() == 10 && offences.is_empty(), "{format:?}"),
                    Revision::Unusable(found) => assert_eq!(found, offences, "{format:?}"),
                    other => panic!("{other:?}"),
                }
                assert_eq!(sent.load(Ordering::Relaxed), 10, "{format:?} {offences:?}");
            }
        }
    }
}

/// Nothing is filled into a task: who does it would see the words of a reference, and not wait for what is meant.
#[test]
fn a_task_that_refers_to_a_step_depends_on_it() {
    let json = |steps: &[(&str, &str, &[&str])]| {
        let step = |(id, task, depends_on): &(&str, &str, &[&str])| json!({ "id": id, "task": task, "depends_on": depends_on });
        json!({ "steps": steps.iter().map(step).collect::<Vec<_>>() }).to_string()
    };
    for (format, text, expected) in [
        (
            PlanTextFormat::Lines,
            "1. a\n2. b of ${1} and ${1.x}\nEND\n".to_owned(),
            &["`${1}`, and does not depend on it: write `<- 1`"][..],
        ),
        (PlanTextFormat::Lines, "1. a\n2. @search {\"query\": 1} b of ${1}\nEND\n".to_owned(), &["write `<- 1`"]),
        (
            PlanTextFormat::Lines,
            "1. a\n2. ${ ${1.x} and ${9} <- 1\nEND\n".to_owned(),
            &["`${9}`, which is no other step"],
        ),
        (PlanTextFormat::Lines, "1. a\n2. ${2}\nEND\n".to_owned(), &["`${2}`, which is no other step"]),
        (PlanTextFormat::Json, json(&[("1", "a", &[]), ("2", "b of ${1}", &[])]), &["write \"1\" in `depends_on`"]),
        (
            PlanTextFormat::Lines,
            "1. weather in ${inputs.town}, and ${inputs.city}\nEND\n".to_owned(),
            &["`${inputs.city}`, which nothing takes the place of there: write what is meant"],
        ),
        (
            PlanTextFormat::Json,
            json(&[("b", "${a} or ${c}", &[]), ("a", "${9}", &[])]),
            &["`b` has a bad reference: its task says `${a}`", "which is no other step"],
        ),
    ] {
        let found = offences(format, &text, ReplyEnd::Complete);
        let is_found =
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, words)| found.contains(words));
        assert!(is_found, "{text}: {found:?}");
    }
    // What depends on it may say so, and what is no step's is text.
    for task in ["b of ${1}", "${1.price}, again ${1}", "say $${9}", "print ${HOME}, ${x y} and ${", "$5 {9} $9 ${}"] {
        let text = format!("1. a\n2. {task} <- 1\nEND\n");
        let plan = taken(PlanTextFormat::Lines, &text, ReplyEnd::Complete).unwrap();
        assert_eq!(&*plan.steps[1].description, task);
    }
    let text = "1. a\n2. @search {\"query\": \"${1}\"} look for ${1}\nEND\n";
    assert!(taken(PlanTextFormat::Lines, text, ReplyEnd::Complete).is_ok());
}
