//! `report`, `bench --html` and the pictures: files for people.

use serde_json::json;

use crate::support::Place;

fn steps() -> serde_json::Value {
    json!([
        { "id": "one", "tool": "calculate", "args": { "expression": "1 + 1" }, "estimate_ms": 5 },
        { "id": "two", "tool": "calculate", "args": { "expression": "${one.result} * 2" }, "estimate_ms": 5 },
        { "id": "side", "tool": "sleep", "args": { "ms": 5 }, "estimate_ms": 5 }
    ])
}

#[test]
fn a_report_is_one_file_of_the_newest_run_or_of_the_named_one() {
    let place = Place::new();
    place.plan(steps());
    assert_eq!(place.run(["run", "plan.json"]).exit, 0);
    let ran = place.run(["report", "-o", "run.html"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let page = std::fs::read_to_string(place.path().join("run.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("default-src 'none'"), "{page}");
    let runs = place.run(["runs", "--json"]).events();
    let run = runs[0]["run"].as_str().unwrap();
    assert_eq!(place.run(["report", run]).stdout, page, "the same on standard output");
    assert_eq!(place.run(["report", "nothing-like-it"]).exit, 2);
}

#[test]
fn pictures_are_svg_and_mark_the_critical_path() {
    let place = Place::new();
    place.plan(steps());
    assert_eq!(place.run(["run", "plan.json"]).exit, 0);
    let run = place.run(["runs", "--json"]).events()[0]["run"].as_str().unwrap().to_owned();
    for arguments in [vec!["graph", "plan.json", "--format", "svg"], vec!["export", &run, "--format", "svg"]] {
        let ran = place.run(&arguments);
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(ran.stdout.starts_with("<svg xmlns=") && ran.stdout.ends_with("</svg>\n"), "{}", ran.stdout);
        assert_eq!(ran.stdout.matches("<g transform=").count(), 3);
        assert!(ran.stdout.contains("class=\"critical\""), "{}", ran.stdout);
    }
}

#[test]
fn a_bench_can_be_looked_at() {
    let place = Place::new();
    place.plan(steps());
    for arguments in [vec!["--time-scale", "1"], vec!["--real"]] {
        let ran = place.run([vec!["bench", "plan.json", "--html", "bench.html"], arguments].concat());
        assert_eq!(ran.exit, 0, "{ran:?}");
        let page = std::fs::read_to_string(place.path().join("bench.html")).unwrap();
        let (first, second) = page.split_once("as a DAG, ").unwrap();
        assert!(first.contains("<h3>one at a time, ") && first.matches("<title>side, ").count() == 1, "{first}");
        assert!(second.contains("<title>two, ") && second.contains("bar critical"), "{second}");
        assert!(second.contains("Speed-up over the number of slots"), "{second}");
        assert!(second.contains("<td class=\"number\">2<td class=\"number\">"), "two slots help: {second}");
        assert!(!second.contains("<td class=\"number\">4<td class=\"number\">"), "four are of no more use: {second}");
    }
    let missing = place.run(["bench", "plan.json", "--html", "no/such/folder/bench.html"]);
    assert_eq!(missing.exit, 2, "{missing:?}");
}
