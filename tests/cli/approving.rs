//! Steps that would act on text from outside: somebody is asked, now or later.

use serde_json::{Value, json};

use crate::support::{Place, Ran};

/// An MCP server in a few lines of shell: it reads, and it sends, of which it keeps a record.
const SERVER: &str = r#"
while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case "$line" in
        *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"post","version":"1"}}' ;;
        *'"tools/list"'*) result='{"tools":[{"name":"read","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},{"name":"send","inputSchema":{"type":"object"}}]}' ;;
        *'"send"'*) echo sent >> sent; result='{"content":[{"type":"text","text":"sent"}]}' ;;
        *'"tools/call"'*) result='{"content":[{"type":"text","text":"a letter from a stranger"}]}' ;;
        *) continue ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

pub(crate) fn place() -> Place {
    let place = Place::new();
    place.file("server.sh", SERVER);
    let script = place.path().join("server.sh");
    let post = json!({ "command": "sh", "args": [script], "trust": true, "cwd": place.path() });
    place.file("mcp.json", json!({ "mcpServers": { "post": post } }).to_string());
    place.plan(json!([
        { "id": "letter", "tool": "post.read" },
        { "id": "reply", "tool": "post.send", "args": { "text": "${letter}" } },
        { "id": "other", "tool": "calculate", "args": { "expression": "6 * 7" } },
    ]));
    place
}

pub(crate) fn sent(place: &Place) -> usize {
    std::fs::read_to_string(place.path().join("sent")).unwrap_or_default().lines().count()
}

/// A run that stops for want of a decision, and its name.
fn undecided(place: &Place) -> String {
    let ran = place.run(["run", "plan.json", "--mcp", "mcp.json", "--json"]);
    assert_eq!(ran.exit, 9, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(sent(place), 0);
    let done = |event: &Value| event["ev"] == "step.finished" && event["step"] == "other";
    assert!(ran.events().iter().any(done), "the rest of the run goes on: {}", ran.stdout);
    ran.last_event()["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_step_that_was_approved_acts_once_the_run_goes_on() {
    let place = place();
    let run = undecided(&place);
    let why = place.run(["why", "reply"]);
    assert!(why.stdout.contains("letter"), "{}", why.stdout);
    let again = place.run(["resume", &run]);
    assert_eq!((again.exit, sent(&place)), (9, 0), "nobody has approved it: {}", again.stderr);
    assert!(again.stderr.contains(&format!("plandag approve {run} reply")), "{}", again.stderr);

    let approved = place.run(["approve", &run, "reply"]);
    assert_eq!((approved.exit, sent(&place)), (0, 0), "{}", approved.stderr);
    let ran = place.run(["resume", &run]);
    assert_eq!((ran.exit, sent(&place)), (0, 1), "{}", ran.stderr);
}

#[test]
fn a_step_that_was_denied_has_failed() {
    let place = place();
    let run = undecided(&place);
    assert_eq!(place.run(["approve", &run, "reply", "--deny"]).exit, 0);
    let ran = place.run(["resume", &run]);
    assert_eq!((ran.exit, sent(&place)), (1, 0), "{}", ran.stderr);
    assert!(ran.stderr.contains("reply"), "{}", ran.stderr);
}

#[test]
fn a_tool_that_is_allowed_acts_unasked() {
    for allow in ["post.send", "post.*"] {
        let place = place();
        let ran = place.run(["run", "plan.json", "--mcp", "mcp.json", "--allow", allow]);
        assert_eq!((ran.exit, sent(&place)), (0, 1), "{}", ran.stderr);
    }
}

#[test]
fn what_cannot_be_approved_is_said_so() {
    let place = place();
    let run = undecided(&place);
    let refused = |arguments: [&str; 3]| -> Ran { place.run(arguments) };
    let unknown = refused(["approve", &run, "nothing"]);
    assert_eq!(unknown.exit, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no step `nothing`"), "{}", unknown.stderr);
    let done = refused(["approve", &run, "letter"]);
    assert_eq!(done.exit, 2, "{}", done.stderr);
}
