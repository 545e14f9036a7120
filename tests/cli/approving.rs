//! Steps that would act on text from outside: somebody is asked, now or later.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Place, Ran, sleep};

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

/// From another terminal, while the rest of the run goes on.
#[test]
fn a_step_of_a_live_run_acts_at_once_when_it_is_approved() {
    for deny in [false, true] {
        let place = place();
        let letter = json!({ "id": "letter", "tool": "post.read" });
        let reply = json!({ "id": "reply", "tool": "post.send", "args": { "text": "${letter}" } });
        place.plan(json!([letter, reply, sleep("other", 600_000, &[])]));
        let mut driver =
            place.command(["run", "plan.json", "--mcp", "mcp.json"]).stderr(Stdio::piped()).spawn().unwrap();
        // It says how to decide as soon as the letter is there.
        let mut said = BufReader::new(driver.stderr.take().unwrap()).lines().map(Result::unwrap);
        let run = said.find_map(|line| {
            line.split_once("let it act: plandag approve ")?.1.strip_suffix(" reply").map(str::to_owned)
        });
        let run = run.expect("nobody is told how to approve it");
        std::thread::spawn(move || said.for_each(drop));
        let begun = Instant::now();
        let patience = || assert!(begun.elapsed() < Duration::from_secs(60), "nothing comes of it");
        let arguments = ["approve", run.as_str(), "reply", "--deny"];
        let answer = place.run(&arguments[..if deny { 4 } else { 3 }]);
        assert_eq!(answer.exit, 0, "{answer:?}");
        assert!(answer.stderr.contains(&format!("done: run {run} goes on with it")), "{answer:?}");
        let is_done = || match deny {
            true => place.run(["why", "reply", "--run", &run]).stdout.contains("failed"),
            false => sent(&place) == 1,
        };
        while !is_done() {
            patience();
        }
        assert_eq!(driver.try_wait().unwrap(), None, "the rest goes on");
        assert_eq!(place.run(["cancel", &run, "--now"]).exit, 0);
        driver.wait().unwrap();
        assert_eq!(sent(&place), usize::from(!deny));
    }
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
