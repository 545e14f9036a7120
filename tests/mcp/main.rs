//! MCP servers that behave, and more that do not. The server is this very program, started again as [`fake::server`].

#![cfg(all(unix, feature = "mcp"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;
mod http;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::tools::mcp::{McpConfig, McpError, McpServers};
use plandag::{Effect, Plan, Runner, Step, StepContext, StepError, StepErrorKind, Tool, ToolOutput, ToolSpec, tool_fn};
use serde_json::{Value, json};

/// A configuration with one fake server that misbehaves in some way.
fn config(way: &str, more: Value) -> Value {
    let program = std::env::current_exe().unwrap();
    let mut entry = json!({
        "command": program,
        "args": ["fake::server", "--exact", "--ignored", "--quiet", "--nocapture"],
        "env": { "FAKE_SERVER": way },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        match value {
            Value::Object(fields) => entry[name].as_object_mut().unwrap().extend(fields.clone()),
            value => entry[name] = value.clone(),
        }
    }
    json!({ "mcpServers": { "fake": entry } })
}

async fn start(way: &str, more: Value) -> Result<McpServers, McpError> {
    McpServers::start(McpConfig::parse(&config(way, more).to_string()).unwrap()).await
}

async fn running(way: &str, more: Value) -> McpServers {
    start(way, more).await.unwrap_or_else(|error| panic!("{way}: {error}"))
}

fn tool(servers: &McpServers, name: &str) -> Arc<dyn Tool> {
    let tools = servers.tools();
    let names: Vec<&String> = tools.iter().map(|(name, _)| name).collect();
    let found = tools.iter().find(|(known, _)| known == name);
    Arc::clone(&found.unwrap_or_else(|| panic!("`{name}` is not among {names:?}")).1)
}

async fn call(servers: &McpServers, args: Value) -> Result<Value, StepError> {
    match tool(servers, "fake.say").call(StepContext::new(args)).await {
        Ok(ToolOutput::Value(value)) => Ok(value),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

async fn refused(way: &str, more: Value) -> String {
    match start(way, more).await {
        Ok(servers) => panic!("{way} was started: {servers:?}"),
        Err(error) => error.to_string(),
    }
}

async fn failing(way: &str, more: Value) -> StepError {
    let servers = running(way, more).await;
    let started = Instant::now();
    let error = call(&servers, json!({})).await.expect_err(way);
    assert!(started.elapsed() < Duration::from_secs(10), "{way}: {error}");
    servers.close().await;
    error
}

#[tokio::test]
async fn a_server_that_behaves_has_tools() {
    let servers = running("good", json!({})).await;
    let spec: ToolSpec = tool(&servers, "fake.say").spec();
    assert_eq!(spec.description, "Says it again.");
    assert_eq!(spec.arguments["type"], "object");
    assert!(spec.untrusted, "what a server returns is text from outside");
    assert_eq!(call(&servers, json!({ "text": "hello" })).await.unwrap()["text"], "hello");
    assert_eq!(call(&servers, Value::Null).await.unwrap()["text"], "null");
    assert_eq!(call(&servers, json!([1])).await.unwrap_err().kind, StepErrorKind::BadInput);
    servers.close().await;
    assert!(call(&servers, json!({})).await.unwrap_err().message.contains("has been ended"));
}

#[tokio::test]
async fn hints_are_believed_only_of_servers_that_are_trusted() {
    for (trust, effect) in [(false, Effect::Acts), (true, Effect::Reads)] {
        let servers = running("good", json!({ "trust": trust })).await;
        assert_eq!(tool(&servers, "fake.say").spec().effect, effect, "{trust}");
        assert_eq!(tool(&servers, "fake.act").spec().effect, Effect::Acts, "it says nothing of itself");
        assert_eq!(tool(&servers, "fake.say").spec().idempotent, trust);
        servers.close().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_get_ready_says_why() {
    let late = refused("mute", json!({ "startTimeoutMs": 300 })).await;
    assert_eq!(late, "MCP server `fake`: it is not ready after 300ms");
    let dead = refused("dies", json!({})).await;
    assert!(dead.contains("it has ended (exit status: 3)") && dead.contains("no licence found"), "{dead}");
    let missing = start("good", json!({ "command": "/no/such/program" })).await.unwrap_err().to_string();
    assert!(missing.contains("`/no/such/program` cannot be started"), "{missing}");
    let nowhere = start("good", json!({ "cwd": "/no/such/folder" })).await.unwrap_err().to_string();
    assert!(nowhere.contains("its `cwd` /no/such/folder is no folder"), "{nowhere}");
    let silent = refused("lists_nothing", json!({ "startTimeoutMs": 300 })).await;
    assert!(silent.contains("tools after 300ms"), "{silent}");
    let endless = refused("endless_pages", json!({})).await;
    assert!(endless.contains("more than 100 pages"), "{endless}");
    let twice = refused("two_of_a_name", json!({})).await;
    assert!(twice.contains("two tools with the name `say`"), "{twice}");
    let unlicensed = refused("refuses_at_once", json!({})).await;
    assert!(unlicensed.ends_with("it refuses `initialize`: license expired (exit status: 0)"), "{unlicensed}");
    let strange = refused("strange_name", json!({})).await;
    assert!(strange.contains(r"\u{1b}[2J"), "{strange}");
}

#[tokio::test]
async fn a_call_ends_however_the_server_goes_on() {
    let silent = failing("hangs", json!({ "idleTimeoutMs": 300 })).await;
    assert_eq!(silent.kind, StepErrorKind::Timeout);
    assert!(silent.message.contains("has said nothing for 300ms"), "{silent}");
    assert_eq!(silent.details, Some(json!({ "setting": "idleTimeoutMs" })));
    let busy = failing("makes_progress", json!({ "idleTimeoutMs": 300, "callTimeoutMs": 1000 })).await;
    assert_eq!(busy.kind, StepErrorKind::Timeout);
    assert!(busy.message.contains("not answered for 1s"), "{busy}");
    assert_eq!(busy.details, Some(json!({ "setting": "callTimeoutMs" })));
    let huge = failing("huge_message", json!({})).await;
    assert!(huge.message.contains("more than 4194304 bytes"), "{huge}");
    let flood = failing("floods", json!({})).await;
    assert!(flood.message.contains("floods its output"), "{flood}");
    let garbage = failing("answers_garbage", json!({})).await;
    assert_eq!(garbage.kind, StepErrorKind::BadOutput, "{garbage}");
    let deep = failing("answers_too_deep", json!({})).await;
    assert_eq!(deep.kind, StepErrorKind::BadOutput, "{deep}");
    assert!(deep.message.contains("with what cannot be read: recursion limit"), "{deep}");
    let error = failing("reports_an_error", json!({})).await;
    assert_eq!(
        (error.kind, error.message.as_str()),
        (StepErrorKind::Permanent, "the tool reports an error: not today")
    );
    let refusal = failing("refuses", json!({})).await;
    assert_eq!(refusal.kind, StepErrorKind::BadInput, "{refusal}");
}

#[tokio::test]
async fn what_comes_beside_the_messages_is_passed_over() {
    for way in ["noise", "stderr_flood", "answers_twice", "asks_for_a_model", "lies_about_its_name"] {
        let servers = running(way, json!({})).await;
        for text in ["one", "two"] {
            let answer = call(&servers, json!({ "text": text })).await;
            assert_eq!(answer.unwrap_or_else(|error| panic!("{way}: {error}"))["text"], text, "{way}");
        }
        servers.close().await;
    }
}

#[tokio::test]
async fn text_cut_inside_a_character_is_an_answer_all_the_same() {
    for way in ["half_an_emoji", "not_utf8"] {
        let servers = running(way, json!({ "callTimeoutMs": 5_000 })).await;
        let answer = call(&servers, json!({ "text": "smile " })).await;
        assert_eq!(answer.unwrap_or_else(|error| panic!("{way}: {error}"))["text"], "smile \u{fffd}", "{way}");
        servers.close().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_is_started_again_a_few_times() {
    let servers = running("dies_in_a_call", json!({})).await;
    let first = call(&servers, json!({})).await.unwrap_err();
    assert_eq!(first.kind, StepErrorKind::Interrupted, "what acts may have acted: {first}");
    assert!(first.message.contains("is gone in a call of `say`: it has ended"), "{first}");
    let mut errors = Vec::new();
    for _ in 0..6 {
        errors.push(call(&servers, json!({})).await.unwrap_err());
    }
    assert_eq!(errors[4].kind, StepErrorKind::Interrupted, "{}", errors[4]);
    assert!(errors[5].message.contains("has ended 6 times"), "{}", errors[5]);
    servers.close().await;

    let servers = running("dies_in_a_call", json!({ "trust": true })).await;
    let error = call(&servers, json!({})).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient, "what reads can be tried again");
    servers.close().await;
}

/// The error of the first call that is not answered as all before.
async fn refusal(servers: &McpServers) -> StepError {
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Err(error) = call(servers, json!({})).await {
            return error;
        }
    }
    panic!("the change is not noticed");
}

#[tokio::test]
async fn a_tool_that_is_described_otherwise_is_not_called_any_more() {
    let servers = running("changes_its_mind", json!({})).await;
    assert!(call(&servers, json!({})).await.is_ok());
    let refused = refusal(&servers).await;
    assert_eq!(refused.kind, StepErrorKind::Permanent);
    assert!(refused.message.contains("describes `say` otherwise than when the run began"), "{refused}");
    assert_eq!(tool(&servers, "fake.say").spec().description, "Says it again.");
    servers.close().await;
}

#[tokio::test]
async fn a_change_that_could_not_be_looked_at_is_looked_at_by_the_next_call() {
    let servers = running("changes_its_mind_unseen", json!({})).await;
    assert!(call(&servers, json!({})).await.is_ok());
    let unseen = refusal(&servers).await;
    assert_eq!(unseen.kind, StepErrorKind::Transient, "{unseen}");
    assert_eq!(call(&servers, json!({})).await.expect_err("it has changed").kind, StepErrorKind::Permanent);
    servers.close().await;
}

#[tokio::test]
async fn a_change_that_a_dropped_call_was_looking_at_is_looked_at_by_the_next_one() {
    let servers = running("changes_its_mind_unheard", json!({})).await;
    assert!(call(&servers, json!({})).await.is_ok());
    let patient = async { while call(&servers, json!({})).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(1), patient).await.expect_err("the question is not answered");
    assert_eq!(call(&servers, json!({})).await.expect_err("it has changed").kind, StepErrorKind::Permanent);
    servers.close().await;
}

#[tokio::test]
async fn secrets_do_not_come_back() {
    let more = json!({ "env": { "SOME_TOKEN": "canary-5ecret" } });
    let servers = running("tells_secrets", more.clone()).await;
    let answer = call(&servers, json!({})).await.unwrap();
    assert_eq!(answer["text"], "[redacted]");
    assert!(!format!("{servers:?} {:?}", tool(&servers, "fake.say").spec()).contains("canary"), "{servers:?}");
    servers.close().await;
    let error = failing("dies_telling_secrets", more).await;
    assert!(error.message.contains("[redacted]") && !error.message.contains("canary"), "{error}");
}

#[tokio::test]
async fn no_part_of_a_secret_comes_back_where_a_text_is_cut() {
    let token = format!("canary-{}-end-of-it", "5ecret".repeat(8));
    let more = json!({ "env": { "SOME_TOKEN": token } });
    let servers = running("describes_secrets", more.clone()).await;
    let description = tool(&servers, "fake.say").spec().description;
    assert!(description.ends_with("d[redacted]"), "{description}");
    servers.close().await;
    let error = failing("dies_with_a_cut_secret", more.clone()).await;
    assert!(error.message.contains("it says: eee") || error.message.contains("[redacted] eee"), "{error}");
    assert!(!error.message.contains("5ecret") && !error.message.contains("end-of-it"), "{error}");
    let listed = refused("lists_secrets", more).await;
    assert!(listed.contains("`![redacted]...`") && !listed.contains("canary"), "{listed}");
}

/// The first error in the environment of the server itself: nothing but what it was given.
#[tokio::test]
async fn servers_have_a_clean_environment() {
    let servers = running("tells_environment", json!({})).await;
    let answer = call(&servers, json!({})).await.unwrap();
    let names = answer["text"].as_str().unwrap();
    assert!(names.contains("FAKE_SERVER") && names.contains("PATH"), "{names}");
    assert!(!names.contains("CARGO"), "{names}");
    servers.close().await;
}

/// Whether a process is there.
fn lives(number: &str) -> bool {
    Command::new("kill").args(["-0", number]).stderr(Stdio::null()).status().unwrap().success()
}

/// Whether a process is there, and not just nobody's to wait for.
fn runs(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn gone(number: &str) -> bool {
    for _ in 0..100 {
        if !lives(number) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn number_in(file: &Path) -> String {
    for _ in 0..200 {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("the server has not written its number");
}

/// A server that does not end when its input is closed, nor when it is asked to, and its child.
#[tokio::test]
async fn a_stubborn_server_does_not_outlive_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("number");
    let servers = running("stubborn", json!({ "env": { "NUMBER": file } })).await;
    let (server, child) = (number_in(&file).await, number_in(&file.with_extension("child")).await);
    assert!(lives(&server) && lives(&child));
    servers.close().await;
    assert!(gone(&server).await && gone(&child).await);
}

#[tokio::test]
async fn a_server_does_not_outlive_a_command_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("number");
    let write = |name: &str, value: Value| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path
    };
    let servers = write("servers.json", config("stubborn", json!({ "env": { "NUMBER": file } })));
    let plan = write("plan.json", json!({ "steps": [{ "id": "wait", "tool": "sleep", "args": { "ms": 60_000 } }] }));
    let mut command = Command::new(env!("CARGO_BIN_EXE_plandag"))
        .arg("run")
        .arg(plan)
        .arg("--mcp")
        .arg(servers)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (server, child) = (number_in(&file).await, number_in(&file.with_extension("child")).await);
    assert!(lives(&server) && lives(&child));
    command.kill().unwrap();
    command.wait().unwrap();
    assert!(gone(&server).await && gone(&child).await);
}

/// A call that goes on in a server whose command was killed is over before the step is tried again.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn servers_of_a_killed_command_are_gone_before_its_steps_are_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("number");
    let write = |name: &str, value: Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    write("servers.json", config("goes_on", json!({ "env": { "NUMBER": file } })));
    write("plan.json", json!({ "steps": [{ "id": "a", "tool": "fake.say", "on_interrupt": "retry" }] }));
    let command = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plandag"));
        command.args(arguments.split(' ')).args(["--journal", "runs.db"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut killed = command("run plan.json --mcp servers.json").stdout(Stdio::null()).spawn().unwrap();
    let server = number_in(&file).await;
    assert!(runs(&server));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // It would end by itself after a second: this is faster.
    let resumed = command("resume").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    assert!(String::from_utf8_lossy(&resumed.stdout).contains("is gone"), "{resumed:?}");
}

/// One server goes wrong in every call; the steps beside it do not notice.
#[tokio::test]
async fn other_steps_go_on() {
    let servers = running("dies_in_a_call", json!({ "trust": true })).await;
    let mut plan = Plan::from_iter([Step::new("bad", "fake.say").on_failure(plandag::OnFailure::Continue)]);
    for index in 0..99 {
        plan.push(Step::new(format!("good-{index}"), "fine"));
    }
    let report = Runner::new(plan)
        .tool("fake.say", tool(&servers, "fake.say"))
        .tool("fine", tool_fn(|_| async move { Ok(1) }))
        .run("test")
        .await
        .unwrap();
    assert!(report.succeeded());
    let good = report.steps().filter(|step| step.outcome == plandag::report::StepOutcome::Succeeded).count();
    assert_eq!(good, 99);
    servers.close().await;
}
