//! `bench`: plans both ways.

use serde_json::json;

use crate::support::{Place, sleep};

#[test]
fn a_plan_is_faster_as_a_dag_and_a_chain_is_not() {
    let place = Place::new();
    let wide = [("a", 40), ("b", 40), ("c", 40)].map(|(id, millis)| json!({ "id": id, "duration_ms": millis }));
    let chain = [json!({ "id": "a", "duration_ms": 40 }), json!({ "id": "b", "duration_ms": 40, "depends_on": ["a"] })];
    let lines = [json!({ "id": "wide", "steps": wide }), json!({ "id": "chain", "steps": chain })];
    place.file("plans.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let ran = place.run(["bench", "plans.jsonl", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let [wide, chain] = ran.events().try_into().unwrap();
    assert_eq!([&wide["work_ms"], &wide["critical_ms"], &wide["bound_ms"]], [120.0, 40.0, 40.0]);
    assert_eq!([&chain["work_ms"], &chain["bound_ms"], &chain["simulated_ms"]], [80.0, 80.0, 80.0]);
    // No step may be shorter than its sleep, on however busy a machine.
    for row in [&wide, &chain] {
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
    assert!(ran.stderr.contains("plans.jsonl: line 2: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("plan `cycle`: the plan has a cycle: x -> x"), "{}", ran.stderr);
    assert_eq!(place.run(["bench", "--time-scale", "0"]).exit, 2);
    assert_eq!(place.run(["bench", "--max-parallel", "0"]).exit, 2);
}

#[test]
fn the_tools_of_a_plan_are_really_called_both_ways() {
    let place = Place::new();
    place.plan(json!([sleep("a", 30, &[]), sleep("b", 30, &[])]));
    let ran = place.run(["bench", "plan.json", "--real", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let row = ran.last_event();
    assert!(row["work_ms"].as_f64() >= Some(60.0) && row["sequential_ms"].as_f64() >= Some(60.0), "{row}");
    assert_eq!((&row["time_scale"], &row["steps"]), (&json!(null), &json!(2)));
}
