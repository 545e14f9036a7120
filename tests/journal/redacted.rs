//! Secrets are taken out of text, and of nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::journal::{Durability, Journal as _, Letter, RunId, SqliteJournal};
use plandag::{
    Added, AnswerFrom, Decision, FailureReason, Graft, ModelProblem, Output, Plan, PlanError, PlanReason, Policy,
    Rejection, RunEvent, RunEventKind, RunOutcome, RunStart, Secrets, SkipReason, Step, StepError, StepErrorKind,
    StopReason, StoredOutput, Timestamp, ToolSpec, Usage,
};
use serde_json::{Value, json};

use crate::owner::wait_for;
use crate::support::{Place, Ran};

#[test]
fn what_acts_is_not_called_with_what_was_not_written_down() {
    let place = Place::new();
    let write = |id: &str, content: &str| {
        let args = json!({ "path": format!("{id}.txt"), "content": content });
        json!({ "id": id, "tool": "write_file", "args": args, "depends_on": ["wait"] })
    };
    let wait = json!({ "id": "wait", "tool": "sleep", "args": { "ms": 500 } });
    place.plan(json!([wait, write("secret", "it is ${inputs.token}"), write("plain", "x")]));
    let command = |line: &str| {
        let mut command = place.command(line);
        command.env("MY_API_TOKEN", "sk-verysecret-12345");
        command
    };
    let run = "run plan.json --allow write_file --input token=sk-verysecret-12345";
    let mut child = command(run).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for(&place, "attempt_started", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let ran: Ran = command("resume").output().unwrap().into();
    assert!(ran.exit == Some(1) && ran.stderr.contains("have [redacted] where there was a secret"), "{ran:?}");
    let written = |name: &str| place.path("plandag-output").join(name).exists();
    assert!(written("plain.txt") && !written("secret.txt"), "{ran:?}");
    // As long as the value is known, it is used.
    assert_eq!(command(run).output().unwrap().status.code(), Some(0));
    assert!(written("secret.txt"));
}

/// Events of all kinds, with this in all names and that in all texts.
fn events(name: &str, text: &str) -> Vec<RunEvent> {
    let (owned, id) = (|| name.to_owned(), || name.into());
    let message = || text.to_owned();
    let value = || json!({ text: [text, 1, null, { "a": text }] });
    let usage = Usage::default();
    let step = Step {
        when: Some(format!("${{{name}.{name}}} == {}", json!(text)).into()),
        ..Step::new(name, name).description(text).depends_on([name]).uses(name, 1).args(
            json!({ text: [format!("{text} ${{{name}.{name}}} {text}"), { "a": format!("${{inputs.{name}}}") }] }),
        )
    };
    let plan = Plan::from_iter([step.clone()]).objective(text).pool(name, 1).answer(name);
    let step = Arc::new(step);
    let offences = Arc::new(vec![
        PlanError::Empty,
        PlanError::Malformed { message: message() },
        PlanError::InvalidId { id: message() },
        PlanError::DuplicateId { id: id() },
        PlanError::UnknownDependency { step: id(), dependency: id(), suggestion: Some(id()) },
        PlanError::DependsOnFailed { step: id(), dependency: id() },
        PlanError::AnswerFailed { answer: id() },
        PlanError::Cycle { path: vec![id()] },
        PlanError::UnknownTool { step: id(), tool: message(), suggestion: Some(owned()) },
        PlanError::NoExecutor { step: id() },
        PlanError::BadReference { step: id(), message: message() },
        PlanError::UnknownInput { step: id(), input: message(), suggestion: Some(owned()) },
        PlanError::OverPool { step: id(), pool: owned(), weight: 2, size: 1 },
        PlanError::UnknownAnswer { answer: id(), suggestion: Some(id()) },
        PlanError::TooLarge { what: message(), count: 2, limit: 1 },
        PlanError::BadPatch { message: message() },
        PlanError::Undecided { step: id() },
        PlanError::Truncated { message: message() },
        PlanError::BrokenOff { problem: ModelProblem::Unavailable, message: message(), retry_after_ms: Some(1) },
        PlanError::Planner { message: message() },
        PlanError::Model { problem: ModelProblem::Refused, message: message() },
        PlanError::Declined,
    ]);
    let error = || {
        let details = json!({ "code": ModelProblem::Refused.code(), text: text });
        Arc::new(StepError::new(StepErrorKind::Permanent, text).details(details))
    };
    let graft = Arc::new(Graft {
        added: vec![Added { id: Some(id()), step: Arc::clone(&step), dependencies: Default::default() }],
        settings: vec![(0, step)],
        pools: BTreeMap::from([(owned(), 1)]),
        answer: AnswerFrom::Step(0),
        ..Graft::default()
    });
    let tool = ToolSpec {
        version: owned(),
        pool: owned(),
        output: message(),
        arguments: json!({
            "type": "object", "required": [name], "properties": {
                name: { "type": "string", "description": text, "default": text, "enum": [text] },
                "type": { "type": ["string", "null"], "description": text },
            },
        }),
        ..ToolSpec::new(name, text)
    };
    let policy = Policy { pools: BTreeMap::from([(owned(), 1)]), allow: [owned()].into(), ..Policy::default() };
    let start = Arc::new(RunStart {
        objective: message(),
        inputs: BTreeMap::from([(owned(), value())]),
        policy: policy.clone(),
        tools: vec![tool],
        default_tool: Some(owned()),
        planner_server: message(),
        labels: BTreeMap::from([(owned(), json!({ text: [value(), { "plan": plan }] }))]),
    });
    let stored = StoredOutput { digest: owned(), bytes: 1, preview: message() };
    let rejection = Rejection { offences: Arc::clone(&offences), answer: Some(text.into()), ..Rejection::default() };
    let succeeded = |output| RunEventKind::StepSucceeded { step: 0, attempt: None, output, usage };
    let finished = |outcome| RunEventKind::RunFinished { outcome, usage };
    let failed = |reason| finished(RunOutcome::Failed { reason });
    let requested = |reason| RunEventKind::PlanRequested { request: 0, revision: 1, reason, reported: vec![0] };
    let kinds = vec![
        RunEventKind::RunStarted { start },
        RunEventKind::RunResumed { policy: Some(Arc::new(policy)) },
        requested(PlanReason::First),
        requested(PlanReason::Rejected(Arc::clone(&offences))),
        RunEventKind::PlanAccepted { request: 0, revision: 1, graft: Arc::clone(&graft), usage },
        RunEventKind::PlanRejected { request: 0, rejection: Arc::new(rejection), usage },
        RunEventKind::PlanPutOff { request: 0, error: Arc::new(offences[0].clone()), retry_at: Timestamp::ZERO, usage },
        RunEventKind::StepDrafted { request: 0, graft: Arc::clone(&graft) },
        RunEventKind::StepExpanded { step: 0, attempt: 0, graft, usage },
        RunEventKind::StepReady { step: 0 },
        RunEventKind::ApprovalRequested { step: 0, from: 0 },
        RunEventKind::StepApproved { step: 0 },
        RunEventKind::AttemptStarted { step: 0, attempt: 0 },
        RunEventKind::StepUnknown { step: 0, attempt: 0, error: error(), usage },
        RunEventKind::AttemptFailed { step: 0, attempt: 0, error: error(), retry_at: Timestamp::ZERO, usage },
        RunEventKind::AttemptDiscarded { attempt: 0, usage },
        succeeded(Output::inline(value())),
        succeeded(Output::Stored(Arc::new(stored))),
        succeeded(Output::Gathered(Arc::new(vec![(id(), 0)]))),
        RunEventKind::StepFailed { step: 0, attempt: None, error: error(), usage },
        RunEventKind::StepSkipped { step: 0, because: SkipReason::Condition, attempt: None },
        RunEventKind::StopRequested { why: StopReason::Cancelled },
        RunEventKind::RunStopped { why: StopReason::Cancelled },
        finished(RunOutcome::Succeeded { answer: Output::inline(value()) }),
        failed(FailureReason::NoPlan(offences)),
        failed(FailureReason::StepsFailed(vec![0])),
    ];
    (0..).zip(kinds).map(|(seq, kind)| RunEvent { seq, at: Timestamp::ZERO, kind }).collect()
}

/// The events as they come back from a journal that knows of these secrets, and letters.
async fn kept(file: &Path, secrets: Secrets, events: &[RunEvent], decisions: [Decision; 2]) -> (Vec<RunEvent>, Value) {
    let journal = SqliteJournal::open_with(file, secrets, None).unwrap();
    let run = RunId::random();
    let claim = journal.create(&run).await.unwrap();
    journal.append(&claim, events, Durability::Process).await.unwrap();
    for (step, decision) in (0..).zip(decisions) {
        journal.leave(&run, &Letter { step, attempt: None, decision }).await.unwrap();
    }
    let mut bytes = Vec::new();
    all_bytes(file.parent().unwrap(), &mut bytes);
    let bytes = String::from_utf8_lossy(&bytes);
    assert!(!bytes.contains("canary"), "{:?}", bytes.find("canary").map(|at| &bytes[at.saturating_sub(200)..at]));
    let letters = journal.letters(&claim).await.unwrap();
    (journal.history(&run).await.unwrap(), serde_json::to_value(letters).unwrap())
}

fn all_bytes(folder: &Path, bytes: &mut Vec<u8>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_bytes(&path, bytes);
        } else {
            bytes.extend(fs::read(path).unwrap());
        }
    }
}

#[tokio::test]
async fn every_text_is_redacted_and_no_name() {
    const CANARY: &str = "hush-canary-8a1f09c26de7";
    // In one journal the texts are secrets, in the other one all names, tags and words are.
    let words =
        ["postgres", "inline", "step_succeeded", "event", "objective", "message", "object", "string", "refused"];
    for (secrets, name, text) in [(vec![CANARY], "postgres", CANARY), (words.to_vec(), "postgres", "text")] {
        let folder = tempfile::tempdir().unwrap();
        let events = events(name, text);
        let decisions = [Decision::Succeeded(Output::inline(json!([text]))), Decision::Failed(text.to_owned())];
        let redacted = |value: Value| value.to_string().replace(CANARY, "[redacted]");
        let decided = serde_json::to_value(&decisions).unwrap();
        let (kept, letters) = kept(&folder.path().join("runs.db"), Secrets::new(secrets), &events, decisions).await;
        for (kept, event) in kept.iter().zip(&events) {
            assert_eq!(json!(kept).to_string(), redacted(json!(event)));
        }
        assert_eq!(kept.len(), events.len());
        let letters: Vec<&Value> = letters.as_array().unwrap().iter().map(|letter| &letter["decision"]).collect();
        assert_eq!(json!(letters).to_string(), redacted(decided));
    }
}

/// A run is gone on with by these names, which somebody may have for a key, too.
#[tokio::test]
async fn labels_keep_words_and_paths_and_no_key() {
    const KEYS: [&str; 4] = ["sk-canary-1234567", "canarycanarycanary", "canary-canary-canary", "/canary/of/base64"];
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let told = |keys: [&str; 4]| {
        let arguments = [&["run", "--model=ollama::m", "--base-url=http://lm-studio:1/v1"][..], &keys].concat();
        (json!({ "arguments": arguments, "directory": place }), json!({ "base_url": "http://ollama/", "x": keys }))
    };
    let event = |(command, resume): (Value, Value)| {
        let policy = Policy { labels: [("resume".to_owned(), resume.to_string())].into(), ..Policy::default() };
        let start = RunStart {
            objective: "ollama".to_owned(),
            inputs: BTreeMap::new(),
            policy,
            tools: Vec::new(),
            default_tool: None,
            planner_server: String::new(),
            labels: BTreeMap::from([("command".to_owned(), command)]),
        };
        RunEvent { seq: 0, at: Timestamp::ZERO, kind: RunEventKind::RunStarted { start: Arc::new(start) } }
    };
    let secrets = Secrets::new(KEYS.into_iter().chain(["ollama", "lm-studio", place]));
    let decisions = [Decision::Retry, Decision::Retry];
    let (kept, _) = kept(&folder.path().join("runs.db"), secrets, &[event(told(KEYS))], decisions).await;
    let expected = json!(event(told(["[redacted]"; 4])));
    assert_eq!(json!(kept[0]).to_string(), expected.to_string().replace(r#""ollama""#, r#""[redacted]""#));
}

#[test]
fn a_word_that_is_given_as_an_input_is_no_name() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "calculate", "args": { "expression": "1 + 1" } }]));
    for line in ["run plan.json -q --input word=hushword", "run plan.json -q --input=word=hushword"] {
        let ran = place.command(line).env("A_PASSWORD", "hushword").output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    assert_eq!(place.query("SELECT body FROM entries WHERE body LIKE '%run_started%[redacted]%'").len(), 2);
    assert_eq!(place.query("SELECT body FROM entries WHERE body LIKE '%hushword%'").len(), 0);
}

/// An event has it escaped twice then.
#[tokio::test]
async fn a_secret_in_json_that_is_the_text_of_an_output_is_redacted() {
    const SECRET: &str = r#"pa"ss\canary-12345"#;
    let folder = tempfile::tempdir().unwrap();
    let text = json!({ "k": SECRET }).to_string();
    let decisions = [Decision::Succeeded(Output::inline(json!([text]))), Decision::Failed(text.clone())];
    let events = events("postgres", &text);
    let (kept, _) = kept(&folder.path().join("runs.db"), Secrets::new([SECRET]), &events, decisions).await;
    assert!(json!(kept).to_string().contains(r#"{\"k\":\"[redacted]\"}"#), "{kept:?}");
}

#[test]
fn a_secret_that_is_an_ordinary_word_changes_no_run() {
    let wait = "until [ -e ../go ]; do sleep 0.02; done";
    let steps = json!([
        { "id": "postgres", "tool": "sleep", "description": "Wait for postgres.", "args": { "ms": 5 } },
        { "id": "gate", "tool": "shell", "on_interrupt": "retry", "depends_on": ["postgres"],
          "args": { "argv": ["sh", "-c", wait] } },
        { "id": "after", "tool": "calculate", "depends_on": ["gate"],
          "when": "${postgres.slept_ms} == 5", "args": { "expression": "${postgres.slept_ms} + 37" } },
    ]);
    let secrets =
        ["none-of-these", "the folder", "plandag", "postgres", "calculate", "inline", "step_succeeded", "started"];
    let mut answers = secrets.map(|secret| {
        let place = Place::new();
        let folder = place.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        let secret = if secret == "the folder" { &*folder } else { secret };
        place.plan(steps.clone());
        let mut first =
            place.command("run plan.json --allow shell -q").env("POSTGRES_PASSWORD", secret).spawn().unwrap();
        let begun = Instant::now();
        let is_done = || {
            place.journal().exists()
                && place.query("SELECT name FROM sqlite_master WHERE name = 'runs'").len() == 1
                && place.query("SELECT body FROM entries WHERE body LIKE '%slept_ms\":5%'").len() == 1
        };
        while !is_done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{secret}: the first step is not done");
            std::thread::sleep(Duration::from_millis(10));
        }
        first.kill().unwrap();
        first.wait().unwrap();
        fs::write(place.path("go"), "").unwrap();
        let told = |line: &str| {
            let ran = place.command(line).env("POSTGRES_PASSWORD", secret).output().unwrap();
            assert_eq!(ran.status.code(), Some(0), "{secret}: {line}: {}", String::from_utf8_lossy(&ran.stderr));
            String::from_utf8(ran.stdout).unwrap()
        };
        let lines = told("resume --json");
        let run = place.query("SELECT run FROM runs").remove(0);
        told(&format!("show {run}"));
        assert_eq!(place.query("SELECT body FROM entries WHERE body LIKE '%attempt_started%\"step\":0%'").len(), 1);
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let names = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["ev"].clone());
        (last["answer"]["result"].clone(), names.collect::<Vec<_>>())
    });
    let (expected, others) = answers.split_first_mut().unwrap();
    assert_eq!(expected.0, json!(42));
    for (answer, secret) in others.iter().zip(&secrets[1..]) {
        assert_eq!(answer, expected, "{secret}");
    }
}
