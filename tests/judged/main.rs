//! Whether quotes are to the point, as a person has judged them: see `README.md` beside this file.

#![cfg(feature = "offline")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use plandag::Runner;
use plandag::offline::{self, OfflinePlanner};
use plandag::tools::{Folder, SearchFiles};
use serde_json::Value;

const OBJECTIVES: &str = include_str!("objectives.jsonl");
const QUOTES: &str = include_str!("quotes.tsv");

/// Three of four quotes are to the point.
const LEAST: f64 = 0.75;
/// This part of the quotes of now may be ones that nobody has judged. They count as beside the point.
const MOST_UNJUDGED: f64 = 0.1;

#[derive(serde::Deserialize)]
struct Asked {
    id: String,
    corpus: String,
    objective: String,
}

/// What was asked, about what, and a digest of what was quoted.
type Key = (String, String, String, String);

fn objectives() -> Vec<Asked> {
    OBJECTIVES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether each quote is to the point.
fn judgements() -> BTreeMap<Key, bool> {
    let judgement = |line: &str| {
        let [id, subject, aspect, _file, _line, digest, judgement] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert!(["on", "off"].contains(&judgement), "{line}");
        ((id.to_owned(), subject.to_owned(), aspect.to_owned(), digest.to_owned()), judgement == "on")
    };
    QUOTES.lines().skip(1).map(judgement).collect()
}

/// Quotes are recognised without being here: FNV-1a over their words.
fn digest(quote: &str) -> String {
    let words = quote.split_whitespace().collect::<Vec<_>>().join(" ");
    let hash = words
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[test]
fn three_of_four_quotes_were_to_the_point() {
    let (objectives, judgements) = (objectives(), judgements());
    let corpora: BTreeSet<&str> = objectives.iter().map(|asked| asked.corpus.as_str()).collect();
    assert!(objectives.len() >= 20 && corpora.len() >= 3);
    for asked in &objectives {
        assert!(judgements.keys().any(|(id, ..)| *id == asked.id), "{} has no judged quote", asked.id);
    }
    let on = judgements.values().filter(|on| **on).count();
    assert!(on as f64 >= LEAST * judgements.len() as f64, "{on} of {}", judgements.len());
}

/// Asks again, where the documents are: `PLANDAG_CORPORA` names the folder that `tests/external/judged.sh` makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure is what it is run for")]
async fn three_of_four_quotes_are_to_the_point_now() {
    let Some(corpora) = std::env::var_os("PLANDAG_CORPORA") else {
        println!("PLANDAG_CORPORA is not set: the documents are not asked again");
        return;
    };
    let judgements = judgements();
    let cache = tempfile::tempdir().unwrap();
    let (mut on, mut unjudged, mut all) = (0, 0, 0);
    for asked in objectives() {
        let answer = answer(&Path::new(&corpora).join(&asked.corpus), cache.path(), &asked.objective).await;
        let (mut on_here, mut all_here) = (0, 0);
        for quote in answer["quotes"].as_array().unwrap() {
            let text = |name: &str| quote[name].as_str().unwrap_or_default().to_owned();
            let key = (asked.id.clone(), text("subject"), text("aspect"), digest(&text("text")));
            all_here += 1;
            match judgements.get(&key) {
                Some(to_the_point) => on_here += usize::from(*to_the_point),
                None => {
                    println!("{} not judged: {}:{} {}", asked.id, text("file"), quote["line"], text("text"));
                    unjudged += 1;
                }
            }
        }
        println!("{:3} {on_here:2} of {all_here:2}  {}", asked.id, asked.objective.replace('\n', "; "));
        on += on_here;
        all += all_here;
    }
    println!(
        "{on} of {all} quotes are to the point: {:.1} %; {unjudged} are not judged",
        100.0 * on as f64 / all as f64
    );
    assert!(on as f64 >= LEAST * all as f64);
    assert!(unjudged as f64 <= MOST_UNJUDGED * all as f64, "these are other documents than were judged");
}

/// Answers an objective out of the documents of a folder.
async fn answer(folder: &Path, cache: &Path, objective: &str) -> Value {
    let search = SearchFiles::new(Arc::new(Folder::open(folder).unwrap())).cache(cache);
    let runner = Runner::new(OfflinePlanner::new()).tool("search_files", search);
    let runner = offline::tools().into_iter().fold(runner, |runner, (name, tool)| runner.tool(name, tool));
    let report = runner.run(objective).await.unwrap();
    report.answer().unwrap().clone()
}
