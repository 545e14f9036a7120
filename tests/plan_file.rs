//! Plan files: what is read, what is refused, and how it is said where.
#![cfg(feature = "yaml")]
#![expect(clippy::unwrap_used, reason = "what is missing here is a mistake of the test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plandag::{Dag, Plan, PlanError, PlanFile, PlanFileError, PlanFormat, PlanProblems, Policy, RunStart, ToolSpec};
use proptest::prelude::*;
use serde_json::{Value, json};

fn plans(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn start() -> RunStart {
    RunStart {
        objective: "test".to_owned(),
        inputs: [("city".to_owned(), json!("Paris"))].into(),
        policy: Policy::default(),
        tools: ["search", "summarise"].map(|tool| ToolSpec::new(tool, "")).into(),
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    }
}

/// Reads and checks a plan, as the command does before anything is run.
fn check(name: &str, bytes: Vec<u8>) -> Result<PlanFile, PlanProblems> {
    let file = match PlanFile::parse_bytes(name, bytes, PlanFormat::of_path(Path::new(name)), PlanFile::MAX_BYTES) {
        Err(PlanFileError::Invalid(problems)) => return Err(problems.in_run(&start())),
        file => file.unwrap(),
    };
    match Dag::check(&file.plan, &start()) {
        Ok(_) => Ok(file),
        Err(problems) => Err(file.locate(problems)),
    }
}

fn problems(name: &str, text: impl Into<Vec<u8>>) -> PlanProblems {
    check(name, text.into()).unwrap_err()
}

#[test]
fn json_and_yaml_say_the_same() {
    let files = plans("good");
    for pair in files.chunks(2) {
        let [json, yaml] = pair else { panic!("every good plan comes in both formats") };
        assert_eq!(json.file_stem(), yaml.file_stem());
        let [json, yaml] = [json, yaml].map(|path| PlanFile::read(path, PlanFile::MAX_BYTES).unwrap());
        assert_eq!(json.plan, yaml.plan, "{}", json.source.name());
        Dag::check(&json.plan, &start()).unwrap();
    }
}

#[test]
fn a_plan_is_told_from_words() {
    for path in plans("good") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(PlanFile::is_plan(&text) && PlanFile::is_plan(&format!("\u{feff}{text}")), "{}", path.display());
    }
    let steps = "- id: a\n    tool: search\n";
    for plan in [
        "{ broken".to_owned(),
        format!("\"steps\":\n  {steps}"),
        format!("'steps' :\n  {steps}"),
        format!("---\nobjective: x\nsteps:\n  {steps}"),
        // Indented as a whole.
        format!("  steps:\n  {steps}"),
        "steps: [{id: a}]".to_owned(),
        // None of these is YAML.
        format!("steps: # all\n  {steps}   x: y"),
        format!("\"steps\":\n  {steps}   x: y"),
        "steps: [{id: a".to_owned(),
    ] {
        assert!(PlanFile::is_plan(&plan), "{plan}");
    }
    for words in [
        "Compare A and B",
        "Compare A and B\nsteps: find both",
        "Compare: A and B",
        "- one\n- two",
        "[urgent] compare A and B",
        "describe the steps: one by one",
        "",
    ] {
        assert!(!PlanFile::is_plan(words), "{words}");
    }
}

#[test]
fn a_plan_survives_being_written_and_read() {
    for path in plans("good") {
        let plan = PlanFile::read(&path, PlanFile::MAX_BYTES).unwrap().plan;
        let text = serde_json::to_string_pretty(&plan).unwrap();
        for format in [PlanFormat::Json, PlanFormat::Yaml] {
            assert_eq!(PlanFile::parse("again", text.as_str(), format, u64::MAX).unwrap().plan, plan);
        }
    }
}

#[test]
fn every_bad_plan_is_refused_with_places_and_help() {
    let mut shown = String::new();
    for path in plans("bad") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let problems = problems(name, std::fs::read(&path).unwrap());
        for c in problems.to_string().chars().chain(['\n']) {
            let is_visible = c == '\n' || !(c.is_control() || c == '\u{202e}');
            if is_visible { shown.push(c) } else { shown.extend(c.escape_unicode()) }
        }
        for problem in &problems.problems {
            for place in &problem.places {
                assert!(problems.source.text().is_char_boundary(place.span.start), "{name}");
                assert!(problems.source.text().is_char_boundary(place.span.end), "{name}");
            }
            for place in problem.places.iter().skip(1) {
                let (line, column, label) = (place.line, place.column, &place.label);
                writeln!(shown, "    and {line}:{column} {label}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn limits_come_before_anything_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("million.json");
    let steps: Vec<_> = (0..1_000_000).map(|index| format!(r#"{{"id":"s{index}","tool":"search"}}"#)).collect();
    std::fs::write(&path, format!(r#"{{"steps":[{}]}}"#, steps.join(","))).unwrap();
    let began = Instant::now();
    let error = PlanFile::read(&path, PlanFile::MAX_BYTES).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let PlanFileError::Invalid(problems) = error else { panic!("{error}") };
    assert!(matches!(problems.problems[0].error, PlanError::TooLarge { limit: PlanFile::MAX_BYTES, .. }));

    let file = PlanFile::read(&path, u64::MAX).unwrap();
    let problems = Dag::check(&file.plan, &start()).unwrap_err();
    assert_eq!(problems[0].to_string(), "1000000 steps, over the limit of 10000");
    assert!(Dag::of(&file.plan).is_ok());
}

#[test]
fn what_cannot_be_opened_is_another_error() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("missing.json"), dir.path().to_owned()] {
        let error = PlanFile::read(&path, PlanFile::MAX_BYTES).unwrap_err();
        assert!(matches!(error, PlanFileError::Unreadable { .. }), "{error}");
    }
}

#[test]
fn a_hostile_plan_costs_little_and_says_little() {
    let megabyte = PlanFile::MAX_BYTES as usize;
    let long_id = format!(r#"{{"steps":[{{"id":"{}","tool":"t","depends_on":["x"]}}]}}"#, "a".repeat(megabyte - 100));
    let ten_megabytes = format!(r#"{{"steps":[{{"id":"{}"}}]}}"#, "a".repeat(10 << 20));
    let unknown = r#"{"id":"a","depends_on":["zzzzzzzz"],"x":1},"#;
    let all_wrong = format!(r#"{{"steps":[{}0]}}"#, unknown.repeat((megabyte - 100) / unknown.len()));
    let doubled = format!(r#"{{"steps":[{{"id":"a","args":{{{}"x":1}}}}]}}"#, r#""x":1,"#.repeat(100_000));
    let step = r#"{"id":"a","tool":"search","depends_on":["bbbbbbbb"]},"#;
    let many_problems = format!(r#"{{"steps":[{}{{"id":"b"}}]}}"#, step.repeat(9_000));
    let references = format!(r#"{{"steps":[{{"id":"a","tool":"search","args":"{}"}}]}}"#, "${b}".repeat(200_000));
    let openings = format!(r#"{{"steps":[{{"id":"a","tool":"search","args":"{}"}}]}}"#, "${".repeat(400_000));
    let brackets = "[".repeat(megabyte);
    let dashes = "- ".repeat(megabyte / 2);
    let braces = format!("steps: {}", "{a: ".repeat(megabyte / 5));
    let anchors = format!("steps: [{}]", "&a x, *a, ".repeat(megabyte / 11));
    let keys: String = (0..90_000).map(|index| format!(r#""{index}":1,"#)).collect();
    let unknown_in_step = format!(r#"{{"steps":[{{{keys}"id":"a"}}]}}"#);
    let unknown_in_plan = format!(r#"{{{keys}"steps":[{{"id":"a"}}]}}"#);
    let keys_doubled = format!(r#"{{"steps":[{{"id":"a","args":{{{keys}"0":1}}}}]}}"#);
    for (name, text) in [
        ("unknown_in_step.json", unknown_in_step),
        ("unknown_in_plan.json", unknown_in_plan),
        ("keys_doubled.json", keys_doubled.clone()),
        ("keys_doubled.yaml", keys_doubled),
        ("long_id.json", long_id),
        ("ten_megabytes.json", ten_megabytes),
        ("all_wrong.json", all_wrong.clone()),
        ("all_wrong.yaml", all_wrong),
        ("doubled.json", doubled),
        ("many_problems.json", many_problems),
        ("references.json", references),
        ("openings.json", openings),
        ("brackets.json", brackets.clone()),
        ("brackets.yaml", brackets),
        ("dashes.yaml", dashes),
        ("braces.yaml", braces),
        ("anchors.yaml", anchors),
    ] {
        let began = Instant::now();
        let problems = problems(name, text);
        let shown = problems.to_string();
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
        assert!(shown.len() < 64 << 10, "{name}: {} bytes", shown.len());
        assert!(problems.problems.len() <= 101, "{name}");
    }
}

/// A plan that has everything, to be damaged.
fn whole_plan() -> Value {
    let text = std::fs::read_to_string(&plans("good")[2]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every place in a value, as JSON pointers.
fn pointers(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), field)).collect(),
        _ => Vec::new(),
    };
    let inner = inner
        .into_iter()
        .flat_map(|(key, value)| pointers(value).into_iter().map(move |pointer| format!("/{key}{pointer}")));
    std::iter::once(String::new()).chain(inner).collect()
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, Option<Value>, String)> {
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!("text")),
        Just(json!("fail")),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(0)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!(["x"])),
        Just(json!([1])),
        Just(json!({})),
        Just(json!({ "id": "x" })),
        Just(json!({ "gpu": 1 })),
        Just(json!({ "max_attempts": 2, "other": 1 })),
    ];
    (any::<prop::sample::Index>(), prop::option::of(value), "[a-z_]{1,12}")
}

#[test]
fn how_deep_an_argument_may_nest_is_the_same_in_either_format() {
    for depth in 90..140 {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let said = |text: String, format| match PlanFile::parse("deep", text, format, PlanFile::MAX_BYTES) {
            Ok(file) => Dag::of(&file.plan).map(drop).map_err(|problems| problems[0].to_string()),
            Err(PlanFileError::Invalid(problems)) => Err(problems.problems[0].error.to_string()),
            Err(error) => panic!("{error}"),
        };
        let json = said(format!(r#"{{"steps":[{{"id":"a","args":{{"x":{deep}}}}}]}}"#), PlanFormat::Json);
        let yaml = said(format!("steps:\n- id: a\n  args:\n    x: {deep}\n"), PlanFormat::Yaml);
        assert_eq!(json, yaml, "{depth}");
        assert_eq!(json.is_ok(), depth < 100, "{depth}: {json:?}");
    }
}

proptest! {
    /// The readers of types decide what is a plan; our own check has to explain each of their refusals, and JSON and
    /// YAML have to agree.
    #[test]
    fn whatever_is_refused_is_explained(damages in prop::collection::vec(damage(), 1..4)) {
        let mut plan = whole_plan();
        for (place, value, name) in damages {
            let pointers = pointers(&plan);
            let damaged = plan.pointer_mut(&pointers[place.index(pointers.len())]).unwrap();
            match (value, &mut *damaged) {
                (Some(value), _) => *damaged = value,
                (None, Value::Object(fields)) => { fields.insert(name, json!(1)); }
                (None, _) => {}
            }
        }
        let text = serde_json::to_string_pretty(&plan).unwrap();
        let read = |format| PlanFile::parse("damaged", text.as_str(), format, PlanFile::MAX_BYTES);
        let typed = serde_json::from_value::<Plan>(plan.clone()).ok().filter(|_| plan.is_object());
        prop_assert_eq!(read(PlanFormat::Json).ok().map(|file| file.plan), typed.clone());
        match read(PlanFormat::Yaml) {
            Ok(file) => prop_assert_eq!(Some(file.plan), typed),
            Err(PlanFileError::Invalid(yaml)) => {
                let Err(PlanFileError::Invalid(json)) = read(PlanFormat::Json) else { panic!("{yaml}") };
                let messages = |problems: &PlanProblems| -> Vec<_> {
                    problems.problems.iter().map(|problem| problem.error.to_string()).collect()
                };
                prop_assert_eq!(messages(&json), messages(&yaml));
                // The words of the reader of types would mean that ours had found nothing.
                prop_assert!(!json.to_string().contains("invalid type"), "{}", json);
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [PlanFormat::Json, PlanFormat::Yaml] {
            let _ = PlanFile::parse_bytes("bytes", bytes.clone(), Some(format), PlanFile::MAX_BYTES);
        }
    }

    #[test]
    fn no_text_is_too_much(text in r#"[\[\]{}:,"'&*!|>%@`#\- \n\ta-c1.é$\\]{0,60}"#) {
        for format in [PlanFormat::Json, PlanFormat::Yaml] {
            for text in [text.clone(), format!("steps:\n- id: a\n  args: {text}"), format!("{{\"steps\": [{text}]}}")] {
                if let Err(error) = PlanFile::parse("text", text, format, PlanFile::MAX_BYTES) {
                    let PlanFileError::Invalid(problems) = error else { panic!("{error}") };
                    for place in problems.problems.iter().flat_map(|problem| &problem.places) {
                        prop_assert!(problems.source.text().get(place.span.clone()).is_some());
                    }
                }
            }
        }
    }
}
