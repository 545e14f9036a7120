//! Text that would do something to a terminal comes from plans, documents and tools. None of it arrives there.

use serde_json::json;

use crate::support::{Place, Ran, calculate};

/// The clipboard, the title, the screen, the reading direction.
const HOSTILE: &str = "\u{1b}]52;c;aGFja2Vk\u{7}\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{feff}\r\u{8}";

fn assert_inert(ran: &Ran) {
    for (name, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        let bad: Vec<char> = text
            .chars()
            .filter(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || "\u{202e}\u{2066}\u{feff}".contains(*c))
            .collect();
        assert!(bad.is_empty(), "{name} has {bad:?}:\n{}", text.escape_debug());
    }
}

#[test]
fn in_plans() {
    let place = Place::new();
    place.plan(json!([
        { "id": HOSTILE, "tool": HOSTILE, "description": HOSTILE, "depends_on": [HOSTILE] },
        { "id": "b", "tool": "calculate", "args": { HOSTILE: format!("${{{HOSTILE}}}") }, "uses": { HOSTILE: 3 } },
    ]));
    for arguments in [
        vec!["run", "plan.json"],
        vec!["run", "plan.json", "--json"],
        vec!["check", "plan.json"],
        vec!["plan", "plan.json"],
        vec!["graph", "plan.json"],
        vec!["graph", "plan.json", "--format", "mermaid"],
        vec!["simulate", "plan.json"],
    ] {
        let ran = place.run(&arguments);
        assert_eq!(ran.exit, 3, "{arguments:?}");
        assert_inert(&ran);
    }
}

#[test]
fn in_descriptions_that_are_drawn() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "description": HOSTILE }, { "id": "b", "tool": HOSTILE }]));
    for format in ["text", "mermaid", "dot"] {
        let ran = place.run(["graph", "plan.json", "--format", format]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert_inert(&ran);
    }
}

#[test]
fn in_text_that_is_not_json() {
    let place = Place::new();
    place.file("plan.json", format!("{{\"steps\": {HOSTILE}"));
    place.file("other.yaml", format!("steps:\n  - id: \"{HOSTILE}\n"));
    for plan in ["plan.json", "other.yaml"] {
        let ran = place.run(["run", plan]);
        assert_eq!(ran.exit, 3, "{ran:?}");
        assert_inert(&ran);
    }
}

#[test]
fn in_results_and_errors() {
    let place = Place::new();
    place.plan(json!([calculate("a", &format!("1 + {HOSTILE}")), calculate("b", "\"x\"")]));
    assert_inert(&place.run(["run", "plan.json"]));
    assert_inert(&place.run(["run", "plan.json", "--json"]));
    assert_inert(&place.run(["run", "plan.json", "-vvv"]));
}

#[test]
fn in_documents() {
    let place = Place::new();
    place.file("docs/a.md", format!("# Redis\n\nRedis keeps {HOSTILE} data in memory, and persistence is optional.\n"));
    place.plan(json!([{ "id": "read", "tool": "read_file", "args": { "path": "a.md" } }]));
    assert_inert(&place.run(["run", "plan.json", "--files", "docs"]));
    assert_inert(&place.run(["run", "plan.json", "--files", "docs", "--json"]));
    assert_inert(&place.run(["run", "What does Redis say on persistence?", "--files", "docs"]));
}

#[test]
fn in_arguments() {
    let place = Place::new();
    for arguments in [vec!["run", HOSTILE], vec!["explain", HOSTILE], vec!["help", HOSTILE], vec!["graph", HOSTILE]] {
        assert_inert(&place.run(&arguments));
    }
}

#[test]
fn a_file_gets_an_answer_byte_for_byte() {
    let place = Place::new();
    let text = format!("{HOSTILE}\n");
    place.file("docs/a.txt", &text);
    place.plan(json!([{ "id": "read", "tool": "read_file", "args": { "path": "a.txt" } }]));
    let ran = place.run(["run", "plan.json", "--files", "docs", "-o", "answer.txt"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(std::fs::read_to_string(place.path().join("answer.txt")).unwrap(), text);
}

#[test]
fn colours_are_only_where_they_are_wanted() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1 + 1")]));
    let colourful = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = place.command(["run", "plan.json"].iter().chain(arguments));
        let ran = Ran::from(command.envs(environment.iter().copied()).output().unwrap());
        assert!(!ran.stdout.contains('\u{1b}'), "the answer is data");
        ran.stderr.contains('\u{1b}')
    };
    assert!(!colourful(&[], &[]), "not a terminal");
    assert!(colourful(&[], &["--color", "always"]));
    assert!(colourful(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!colourful(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]), "NO_COLOR wins over CLICOLOR_FORCE");
    assert!(colourful(&[("NO_COLOR", "1")], &["--color", "always"]), "the flag wins over both");
    assert!(!colourful(&[("CLICOLOR_FORCE", "1")], &["--color=never"]));
}
