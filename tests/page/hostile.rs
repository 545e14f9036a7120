//! A hundred ways to have a page run a script or ask for something, in each of five fields.

use std::path::Path;
use std::time::Duration;

use plandag::journal::{Claim, Durability, Journal, MemoryJournal, RunId, SqliteJournal};
use plandag::page::{Mode, run_html, runs_html, svg_of};
use plandag::{OnFailure, Plan, RunEvent, Runner, Step, StepError, tool_fn};
use serde_json::{Value, json};

use super::support::{Page, load, page_of};

fn payloads() -> Vec<String> {
    let payloads: Vec<String> = serde_json::from_str(include_str!("payloads.json")).unwrap();
    assert_eq!(payloads.len(), 100);
    payloads
}

/// The history of a run with one text in the id, the tool, the description, and the result or the error of each step.
/// No plan may have such ids, and no tool such a name, but a journal is a file.
async fn history(texts: &[String]) -> Vec<RunEvent> {
    let journal = MemoryJournal::new();
    let step = |(number, text): (usize, &String)| {
        let step = Step::new(format!("id-{number}"), format!("tool-{number}")).description(text.as_str());
        step.args(json!({ "text": text.replace("${", "$${") })).on_failure(OnFailure::Continue)
    };
    let mut runner = Runner::new(texts.iter().enumerate().map(step).collect::<Plan>()).journal(journal.clone());
    for (number, text) in texts.iter().enumerate() {
        let said = text.clone();
        let tool = tool_fn(move |_| {
            let result = if number % 2 == 0 { Ok(said.clone()) } else { Err(StepError::permanent(said.clone())) };
            async move {
                // Which step takes longest, and is the critical path, is not left to chance.
                tokio::time::sleep(Duration::from_millis(if number == 0 { 50 } else { 0 })).await;
                result
            }
        });
        runner = runner.tool(format!("tool-{number}"), tool);
    }
    let report = runner.run(texts[0].as_str()).await.unwrap();
    assert_eq!(report.attempt_count(), 100);
    let run = journal.runs().await.unwrap().remove(0).run;
    let renamed = |event: RunEvent| {
        let mut event = json!(event);
        rename(&mut event, texts);
        serde_json::from_value(event).unwrap()
    };
    journal.history(&run).await.unwrap().into_iter().map(renamed).collect()
}

/// Gives each step its text as an id, and its tool the same one as a name.
fn rename(value: &mut Value, texts: &[String]) {
    match value {
        Value::String(string) => {
            let number = string.strip_prefix("id-").or_else(|| string.strip_prefix("tool-"));
            if let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) {
                *string = texts[number].clone();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, texts)),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, texts)),
        _ => {}
    }
}

/// Keeps a history as a run of a journal.
async fn keep(journal: &dyn Journal, events: &[RunEvent]) {
    let claim: Claim = journal.create(&RunId::from("hostile")).await.unwrap();
    journal.append(&claim, events, Durability::Process).await.unwrap();
}

/// The pages of a run with these texts: a live one, a report, the list, and the picture.
async fn pages(texts: &[String]) -> [String; 4] {
    let journal = MemoryJournal::new();
    keep(&journal, &history(texts).await).await;
    let shown = load(&journal).await;
    let runs = journal.runs().await.unwrap();
    [
        run_html(&shown, Mode::Live { token: "token" }),
        run_html(&shown, Mode::Report),
        runs_html(&runs, "token", "may"),
        svg_of(&shown),
    ]
}

/// To a parser, the pages of hostile texts have the elements and attributes that those of harmless ones have.
#[tokio::test]
async fn no_text_becomes_anything_but_text() {
    let harmless: Vec<String> = (0..100).map(|number| format!("harmless {number}")).collect();
    let (hostile, harmless) = (pages(&payloads()).await, pages(&harmless).await);
    for (hostile, harmless) in hostile.iter().zip(&harmless) {
        let (hostile, harmless) = (page_of(hostile), page_of(harmless));
        let shape = |page: &Page| (page.elements.clone(), page.attributes.clone(), page.addresses.clone());
        assert!(hostile.elements.len() > 10);
        assert_eq!(shape(&hostile), shape(&harmless));
    }
    let text = page_of(&hostile[1]).text;
    for payload in payloads().iter().filter(|payload| payload.chars().all(|c| c >= ' ')) {
        assert!(text.contains(&payload[..payload.len().min(60)]), "all of it can be read: {payload}");
    }
}

/// Pages for those who have a browser: see `tests/external/browser`.
#[tokio::test]
async fn hostile_pages_can_be_tried() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [_, report, ..] = pages(&payloads()).await;
    std::fs::write(folder.join("hostile.html"), report).unwrap();
    let journal = folder.join("hostile.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", journal.display()));
    }
    keep(&SqliteJournal::open(&journal).unwrap(), &history(&payloads()).await).await;
}
