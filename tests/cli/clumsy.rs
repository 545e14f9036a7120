//! Command lines that people get wrong, or send on purpose: what each is told, and that nothing is run.

use crate::support::{Place, calculate};
use serde_json::json;

const COMMAND_LINES: &[&[&str]] = &[
    &["plan.json"],
    &["rnu", "plan.json"],
    &["run"],
    &["run", "compare", "A", "and", "B"],
    &["run", "plan.json", "plan.json"],
    &["run", ""],
    &["run", "docs"],
    &["run", "missing.yml"],
    &["run", "/dev/zero"],
    &["run", "???"],
    &["run", "docs/a.md"],
    &["run", "folder.json"],
    &["run", "empty.yaml"],
    &["run", "graph.json"],
    &["run", "workflow.yml"],
    &["run", "tasks.json"],
    &["run", "list.json"],
    &["run", "{\"steps\": []}"],
    &["run", "steps: [{id: a}]"],
    &["run", "plan.json", "--jsn"],
    &["run", "plan.json", "--max-parallel", "0"],
    &["run", "plan.json", "--max-parallel", "lots"],
    &["run", "plan.json", "--max-parallel", "-1"],
    &["run", "plan.json", "--max-replans", "-1"],
    &["run", "plan.json", "--max-usd", "-0.5"],
    &["run", "plan.json", "--timeout", "5"],
    &["run", "plan.json", "--timeout", "-1s"],
    &["run", "plan.json", "--deadline", "0s"],
    &["run", "plan.json", "--input", "x"],
    &["run", "plan.json", "--input", "x=1", "--input", "x=2"],
    &["run", "plan.json", "--pool", "calculate"],
    &["run", "plan.json", "--files", "plan.json"],
    &["run", "plan.json", "--allow", "*"],
    &["run", "plan.json", "--allow", "write_file", "--output-dir", "plan.json"],
    &["run", "plan.json", "--allow-host", "*"],
    &["run", "plan.json", "-o", "docs"],
    &["run", "plan.json", "--quiet", "--verbose"],
    &["plan", "plan.json", "--sequential"],
    &["graph", "plan.json", "--format", "png"],
    &["check", "utf16.json"],
    &["explain", "plan.cicle"],
    &["tools", "../calculate"],
    &["help", "nonsense"],
    &["completions", "tcsh"],
];

#[test]
fn each_is_told_what_is_wrong() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 + 1")]));
    place.file("docs/a.md", "# A\n\nWords: of a document: about A.\n");
    place.file("folder.json/plan.json", "{}");
    place.file("empty.yaml", "# nothing yet\n\n");
    place.file("graph.json", r#"{"graphs": {"agent": "./agent.py:graph"}, "dependencies": ["."], "env": ".env"}"#);
    place.file("workflow.yml", "name: CI\non: [push]\njobs:\n  build:\n    steps:\n      - run: make\n");
    place.file("tasks.json", r#"{"tasks": [{"name": "a", "tool": "sleep", "deps": []}]}"#);
    place.file("list.json", r#"[{"id": "a"}]"#);
    place.file("utf16.json", "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    let mut told = String::new();
    for arguments in COMMAND_LINES {
        let ran = place.run(*arguments);
        assert!([2, 3, 5].contains(&ran.exit), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.contains("✓"), "{arguments:?} was run: {ran:?}");
        told.push_str(&format!("$ plandag {}\n{}-> {}\n\n", arguments.join(" "), ran.stderr, ran.exit));
    }
    insta::assert_snapshot!("clumsy", told);
}
