//! What the README says, done.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::Place;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The blocks of the README in this language.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

#[test]
fn the_plan_in_it_runs_as_it_says() {
    let place = Place::new();
    place.file("tea.yaml", &blocks("yaml")[0]);
    for arguments in ["check tea.yaml --input guests=3", "graph tea.yaml", "run tea.yaml --input guests=3"] {
        assert!(readme().contains(&format!("plandag {arguments}")), "{arguments}");
        let ran = place.run(arguments.split(' '));
        assert_eq!(ran.exit, 0, "{ran:?}");
        match arguments.split(' ').next() {
            Some("graph") => {
                assert!(blocks("text").iter().any(|block| ran.stdout.starts_with(block)), "{}", ran.stdout);
            }
            Some("run") => assert!(ran.stdout.contains("\"result\": 1000"), "{}", ran.stdout),
            _ => {}
        }
    }
}

#[test]
fn its_main_job_gives_the_answer_it_shows() {
    let job = blocks("sh").into_iter().find(|block| block.starts_with("cargo run --release -- run")).unwrap();
    let objective = job.split('"').nth(1).unwrap();
    let notes = root().join("examples/notes");
    let ran = Place::new().run(["run".as_ref(), objective.as_ref(), "--files".as_ref(), notes.as_os_str()]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let shown = blocks("text").into_iter().find(|block| block.starts_with("# SQLite")).unwrap();
    for line in shown.lines().filter(|line| *line != "...") {
        assert!(ran.stdout.lines().any(|said| said == line), "{line}\nis not in\n{}", ran.stdout);
    }
    let told = blocks("text").into_iter().find(|block| block.starts_with(" run  ")).unwrap();
    for line in told.lines().filter(|line| line.starts_with(" may ")) {
        let line = line.replace("examples/notes", &notes.display().to_string());
        assert!(ran.stderr.lines().any(|said| said == line), "{line}\nis not in\n{}", ran.stderr);
    }
}

#[test]
fn its_table_has_every_field_of_a_step() {
    let schema: Value = serde_json::from_str(&Place::new().run(["schema"]).stdout).unwrap();
    let text = readme();
    let table = text.split("| field of a step |").nth(1).unwrap().split("\n\n").next().unwrap();
    for field in schema["$defs"]["Step"]["properties"].as_object().unwrap().keys() {
        assert!(table.contains(&format!("`{field}`")), "{field}");
    }
    for field in schema["properties"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    for link in readme().split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(root().join(link).exists(), "{link}");
    }
    for example in fs::read_dir(root().join("examples")).unwrap() {
        let path = example.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(readme().contains(&format!("(examples/{name})")), "{name}");
        }
    }
}
