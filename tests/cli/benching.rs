//! `bench`: plans both ways.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, calculate, sleep};

#[test]
fn a_plan_is_faster_as_a_dag_and_a_chain_is_not() {
    let place = Place::new();
    let wide = [("a", 40), ("b", 40), ("c", 40)].map(|(id, millis)| json!({ "id": id, "duration_ms": millis }));
    let chain = [json!({ "id": "a", "duration_ms": 40 }), json!({ "id": "b", "duration_ms": 40, "depends_on": ["a"] })];
    let lines = [json!({ "id": "wide", "steps": wide }), json!({ "id": "chain", "steps": chain })];
    place.file("plans.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let ran = place.run(["bench", "plans.jsonl", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let [wide, chain, control] = ran.events().try_into().unwrap();
    assert_eq!([&wide["work_ms"], &wide["critical_ms"], &wide["bound_ms"]], [120.0, 40.0, 40.0]);
    // As many as it takes to have a spread.
    for row in [&wide, &chain, &control] {
        assert_eq!(row["dag_runs_ms"].as_array().unwrap().len(), 3, "{row}");
    }
    assert_eq!([&chain["work_ms"], &chain["bound_ms"], &chain["simulated_ms"]], [80.0, 80.0, 80.0]);
    // Nothing can be won there, whatever the plans are.
    assert_eq!([&control["id"], &control["bound_ms"]], [&json!("chain 10"), &control["work_ms"]]);
    // No step may be shorter than its sleep, on however busy a machine.
    for row in [&wide, &chain, &control] {
        assert!(row["sequential_ms"].as_f64() >= row["work_ms"].as_f64(), "{row}");
        assert!(row["dag_ms"].as_f64() >= row["bound_ms"].as_f64(), "{row}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_others_are_measured() {
    let place = Place::new();
    let good = json!({ "id": "good", "steps": [{ "id": "x", "duration_ms": 5 }] });
    let cycle = json!({ "id": "cycle", "steps": [{ "id": "x", "duration_ms": 5, "depends_on": ["x"] }] });
    place.file("plans.jsonl", format!("{good}\nnonsense\n{cycle}\n"));
    let ran = place.run(["bench", "plans.jsonl"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stdout.contains(" good ") && ran.stdout.contains("of bound"), "{}", ran.stdout);
    assert!(ran.stderr.contains("✗ plans.jsonl:2: not JSON, from column 2 on"), "{}", ran.stderr);
    assert!(ran.stderr.contains("✗ plans.jsonl:3: plan `cycle`: the plan has a cycle: x -> x"), "{}", ran.stderr);
    let rows = place.run(["bench", "plans.jsonl", "--json"]).events();
    let place_of = |row: &Value| ["file", "line", "id"].map(|field| row[field].clone());
    assert_eq!(place_of(&rows[1]), [json!("plans.jsonl"), json!(2), json!(null)]);
    assert_eq!(place_of(&rows[2]), [json!("plans.jsonl"), json!(3), json!("cycle")]);
    assert_eq!(rows[2]["error"], "the plan has a cycle: x -> x");
    // Where there is nothing else to tell, it is told at once.
    place.file("plans.jsonl", format!("\n{cycle}\n"));
    let ran = place.run(["bench", "plans.jsonl"]);
    assert!(ran.stderr.contains("error[plan.cycle]: plans.jsonl:2: plan `cycle`: "), "{}", ran.stderr);
    assert_eq!(place.run(["bench", "--time-scale", "0"]).exit, 2);
    assert_eq!(place.run(["bench", "--max-parallel", "0"]).exit, 2);
}

#[test]
fn the_policy_is_told_as_the_option_has_it() {
    let place = Place::new();
    let steps = [json!({ "id": "x", "duration_ms": 1 })];
    place.file("plans.jsonl", json!({ "id": "p", "steps": steps }).to_string());
    for policy in ["critical-path", "hops", "fifo", "random"] {
        let bench = ["bench", "plans.jsonl", "--runs", "1", "--time-scale", "1", "--policy", policy];
        let rows = place.run([&bench[..], &["--json"]].concat()).events();
        assert!(rows.iter().all(|row| row["policy"] == policy), "{rows:?}");
        let told = place.run(bench).stdout;
        assert_eq!(told.contains(&format!(", cap 64, policy {policy}, ")), policy != "critical-path", "{told}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said_in_the_words_of_the_format() {
    let place = Place::new();
    let step = |fields: &str| format!(r#"{{"id":"p","steps":[{{"id":"a","duration_ms":1}},{fields}]}}"#);
    let lines = [
        ("[1,2]".to_owned(), "a plan should be an object, but this is a list"),
        (r#"{"id":"p","steps":[{"id":"a""#.to_owned(), "not JSON: it is cut off"),
        (step(r#"{"id":"b","duration_ms":NaN}"#), "not JSON, from column 71 on"),
        (
            step(r#"{"id":"b","duration_ms":-5}"#),
            "`duration_ms` of step `b` should be a whole number from 0, but is -5",
        ),
        (
            step(r#"{"id":"b","duration_ms":"9"}"#),
            "`duration_ms` of step `b` should be a whole number from 0, but is \"9\"",
        ),
        (
            step(r#"{"id":"b","duration_ms":0.5}"#),
            "`duration_ms` of step `b` should be a whole number from 0, but is 0.5",
        ),
        (step(r#"{"id":7,"duration_ms":1}"#), "`id` of step 2 should be a text, but is 7"),
        (
            step(r#"{"id":"b","duration_ms":1,"depends_on":"a"}"#),
            "`depends_on` of step `b` should be a list of texts, but is \"a\"",
        ),
        (
            step(r#"{"id":"b","duration_ms":1,"resources":{"r":-1}}"#),
            "`resources` of step `b` should be an object of whole numbers from 0, but is an object",
        ),
        (step("9"), "step 2 should be an object, but is 9"),
        (r#"{"id":"p"}"#.to_owned(), "`steps` is missing"),
        (r#"{"id":"p","steps":{}}"#.to_owned(), "`steps` should be a list, but is an object"),
    ];
    let text: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
    let good = r#"{"id":"good","steps":[{"id":"x","duration_ms":5}]}"#;
    place.file("plans.jsonl", format!("{}\n{good}\n", text.join("\n")));
    let ran = place.run(["simulate", "plans.jsonl", "--json"]);
    let told: Vec<Value> = ran.events().into_iter().filter(|row| row["error"].is_string()).collect();
    let told: Vec<&str> = told.iter().map(|row| row["error"].as_str().unwrap()).collect();
    assert_eq!(told, lines.each_ref().map(|(_, reason)| *reason), "{}", ran.stderr);
}

#[test]
fn the_tools_of_a_plan_are_really_called_both_ways() {
    let place = Place::new();
    place.plan(json!([sleep("a", 30, &[]), sleep("b", 30, &[])]));
    let ran = place.run(["bench", "plan.json", "--real", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let [row, control] = ran.events().try_into().unwrap();
    assert_eq!([&control["id"], &control["time_scale"]], [&json!("chain 10"), &json!(1.0)], "it sleeps");
    assert!(control["dag_ms"].as_f64() >= control["bound_ms"].as_f64(), "{control}");
    assert_eq!(row["dag_runs_ms"].as_array().unwrap().len(), 1, "nobody wanted more calls: {row}");
    assert!(row["work_ms"].as_f64() >= Some(60.0) && row["sequential_ms"].as_f64() >= Some(60.0), "{row}");
    assert_eq!((&row["time_scale"], &row["steps"]), (&json!(null), &json!(2)));
}

#[test]
fn inputs_need_not_be_known_to_measure_and_are_used_where_tools_are_called() {
    let place = Place::new();
    let wait = |id: &str| json!({ "id": id, "tool": "sleep", "args": { "ms": "${inputs.pause}" }, "estimate_ms": 5 });
    place.plan(json!([wait("a"), wait("b")]));
    for inputs in [&[][..], &["--input", "pause=30"]] {
        let ran = place.run([&["bench", "plan.json"], inputs].concat());
        assert_eq!(ran.exit, 0, "{ran:?}");
    }
    let ran = place.run(["bench", "plan.json", "--real"]);
    assert!(ran.exit == 3 && ran.stderr.contains("error[plan.unknown_input]"), "{ran:?}");
    let ran = place.run(["bench", "plan.json", "--real", "--input", "pause=30", "--html", "bench.html", "--json"]);
    assert!(ran.exit == 0 && ran.events()[0]["work_ms"].as_f64() >= Some(60.0), "{ran:?}");
    // One slot and two.
    assert!(
        fs::read_to_string(place.path().join("bench.html")).unwrap().contains("Speed-up over the number of slots"),
        "no chart"
    );
}

#[test]
fn what_is_wrong_with_a_plan_is_told_as_by_any_command() {
    let place = Place::new();
    place.plan(json!([{ "id": "wide", "tool": "sleep", "uses": { "R": 2 }, "estimate_ms": 5 }]));
    let ran = place.run(["bench", "plan.json", "--pool", "R=1"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stderr.contains("error[plan.over_pool]") && ran.stderr.contains("plan.json:1:"), "{}", ran.stderr);
}

#[test]
fn a_bad_file_does_not_hide_the_good_ones() {
    let place = Place::new();
    for name in ["one.json", "two.json"] {
        place.file(name, json!({ "steps": [{ "id": "a", "tool": "sleep", "estimate_ms": 1 }] }).to_string());
    }
    place.file("broken.json", r#"{"steps":["#);
    place.file("empty.jsonl", "");
    for (bad, exit, told) in [
        ("missing.json", 2, "there is no file `missing.json`"),
        ("broken.json", 3, "broken.json: the text ends inside"),
        ("empty.jsonl", 3, "empty.jsonl: there are no plans in the file"),
    ] {
        let ran = place.run(["bench", "one.json", bad, "two.json"]);
        assert_eq!(ran.exit, exit, "{ran:?}");
        assert!([" one ", " two ", " machine "].iter().all(|row| ran.stdout.contains(row)), "{}", ran.stdout);
        assert!(ran.stderr.contains(told) && ran.stderr.contains("1 of 3 plans"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("nothing was run"), "{}", ran.stderr);
    }
}

#[test]
fn a_plan_whose_tools_fail_was_run() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1/0")]));
    let ran = place.run(["bench", "plan.json", "--real"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert!(ran.stderr.contains("step `a` failed") && !ran.stderr.contains("nothing was run"), "{}", ran.stderr);
}

#[test]
fn what_takes_no_time_has_no_share_of_it() {
    let place = Place::new();
    let step = |id: &str, millis: u64| json!({ "id": id, "duration_ms": millis });
    let lines = [
        json!({ "id": "nothing", "steps": [step("x", 0), step("y", 0)] }),
        json!({ "id": "little", "steps": [step("x", 1), step("y", 1_000)] }),
    ];
    place.file("plans.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let ran = place.run(["bench", "plans.jsonl", "--time-scale", "0.0004"]);
    let rows: Vec<&str> = ran.stdout.lines().skip(2).collect();
    assert!(rows[0].starts_with(" nothing ") && rows[0].ends_with("        -        -"), "{}", ran.stdout);
    assert!(rows[1].starts_with(" little ") && rows[1].ends_with('%'), "{}", ran.stdout);
    assert_eq!(rows[2], "   1 of 2 steps have no time left at this scale", "{}", ran.stdout);
    // What is shorter than a millisecond is not nothing.
    let ran = place.run(["bench", "plans.jsonl", "--time-scale", "0.0004", "--json"]);
    assert_eq!([&ran.events()[0]["speed_up"], &ran.events()[1]["work_ms"]], [&json!(null), &json!(0.4)], "{ran:?}");
}

#[test]
fn times_that_are_only_guessed_are_said_to_be() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep" }, { "id": "b", "tool": "sleep", "estimate_ms": 9 }]));
    let ran = place.run(["bench", "plan.json", "--time-scale", "0.01"]);
    assert!(ran.stdout.contains("1 step without an estimate_ms counts as 1s"), "{}", ran.stdout);
}

#[test]
fn which_plan_may_not_run_is_said() {
    let place = Place::new();
    let acting = json!({ "steps": [{ "id": "a", "tool": "write_file", "args": { "path": "x", "text": "y" } }] });
    place.file("acting.json", acting.to_string());
    place.file(
        "lost.json",
        json!({ "steps": [{ "id": "a", "tool": "search_files", "args": { "query": "x" } }] }).to_string(),
    );
    place.file("broken.json", r#"{"steps":["#);
    place.file("empty.jsonl", "");
    let files = ["acting.json", "lost.json", "broken.json", "empty.jsonl", "missing.jsonl"];
    let ran = place.run([&["bench", "--real"][..], &files].concat());
    for told in [
        "✗ acting.json: step `a` uses `write_file`, which acts",
        "✗ lost.json: step `a` uses `search_files`, and the run was given no folder",
        "✗ empty.jsonl: there are no plans in the file",
        "✗ there is no file `missing.jsonl`",
    ] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    let rows = place.run([&["bench", "--real", "--json"][..], &files].concat()).events();
    let named: Vec<&str> = rows.iter().filter_map(|row| row["file"].as_str()).collect();
    assert_eq!(named, files, "{rows:?}");
    // It is the same name as in the rows of those that could be measured.
    assert_eq!(rows[0]["id"], "acting");
}
