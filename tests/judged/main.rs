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
/// What was quoted for the second set before any rule was made on it.
const QUOTES_BEFORE: &str = include_str!("quotes-before.tsv");
const READ_ME: &str = include_str!("README.md");

/// Three of four quotes are to the point.
const LEAST: f64 = 0.75;
/// The same for objectives on which no rule was made.
const LEAST_HELD_OUT: f64 = 0.7;
/// This part of the quotes of now may be ones that nobody has judged. They count as beside the point.
const MOST_UNJUDGED: f64 = 0.1;

#[derive(serde::Deserialize)]
struct Asked {
    id: String,
    set: Set,
    corpus: String,
    objective: String,
    /// Nothing is quoted for it.
    #[serde(default)]
    unanswered: bool,
}

/// How an objective was used.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
enum Set {
    /// Rules were made on it.
    First,
    /// Asked once before rules were made on it, too.
    Second,
    /// The same.
    Third,
    /// No rule was made on it.
    Fourth,
}

impl Set {
    /// The part of its quotes that must be to the point.
    fn least(self) -> f64 {
        if self == Self::Fourth { LEAST_HELD_OUT } else { LEAST }
    }
}

/// How many quotes are to the point, of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Figure {
    on: usize,
    all: usize,
}

impl Figure {
    fn add(&mut self, on: bool) {
        self.on += usize::from(on);
        self.all += 1;
    }

    fn part(self) -> f64 {
        self.on as f64 / self.all as f64
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} ({:.1} %)", self.on, self.all, 100.0 * self.part())
    }
}

/// What was asked, about what, and a digest of what was quoted.
type Key = (String, String, String, String);

fn objectives() -> Vec<Asked> {
    OBJECTIVES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether each quote is to the point.
fn judgements(quotes: &str) -> BTreeMap<Key, bool> {
    let judgement = |line: &str| {
        let [id, subject, aspect, _file, _line, digest, judgement] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert!(["on", "off"].contains(&judgement), "{line}");
        ((id.to_owned(), subject.to_owned(), aspect.to_owned(), digest.to_owned()), judgement == "on")
    };
    quotes.lines().skip(1).map(judgement).collect()
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
    let (objectives, judgements) = (objectives(), judgements(QUOTES));
    let corpora: BTreeSet<&str> = objectives.iter().map(|asked| asked.corpus.as_str()).collect();
    assert!(objectives.len() >= 20 && corpora.len() >= 3);
    let mut figures: BTreeMap<Set, Figure> = BTreeMap::new();
    for asked in &objectives {
        let quotes: Vec<bool> = judgements.iter().filter(|((id, ..), _)| *id == asked.id).map(|(_, on)| *on).collect();
        assert_eq!(quotes.is_empty(), asked.unanswered, "{} has {} judged quotes", asked.id, quotes.len());
        quotes.into_iter().for_each(|on| figures.entry(asked.set).or_default().add(on));
    }
    assert_eq!(figures.values().map(|figure| figure.all).sum::<usize>(), judgements.len());
    for (set, figure) in &figures {
        assert!(figure.part() >= set.least(), "{set:?}: {figure}");
        assert!(READ_ME.contains(&figure.to_string()), "the README does not say {figure} of the {set:?} set");
    }
    let mut before = Figure::default();
    self::judgements(QUOTES_BEFORE).into_values().for_each(|on| before.add(on));
    assert!(READ_ME.contains(&before.to_string()), "the README does not say {before}");
}

/// Asks again, where the documents are: `PLANDAG_CORPORA` names the folder that `tests/external/judged.sh` makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure is what it is run for")]
async fn three_of_four_quotes_are_to_the_point_now() {
    let Some(corpora) = std::env::var_os("PLANDAG_CORPORA") else {
        println!("PLANDAG_CORPORA is not set: the documents are not asked again");
        return;
    };
    let judgements = judgements(QUOTES);
    let cache = tempfile::tempdir().unwrap();
    let mut figures: BTreeMap<Set, Figure> = BTreeMap::new();
    let (mut unjudged, mut all) = (0, Figure::default());
    for asked in objectives() {
        let answer = answer(&Path::new(&corpora).join(&asked.corpus), cache.path(), &asked.objective).await;
        let mut here = Figure::default();
        for quote in answer["quotes"].as_array().unwrap() {
            let text = |name: &str| quote[name].as_str().unwrap_or_default().to_owned();
            let key = (asked.id.clone(), text("subject"), text("aspect"), digest(&text("text")));
            let judgement = judgements.get(&key).copied();
            if judgement.is_none() {
                println!("{} not judged: {}:{} {}", asked.id, text("file"), quote["line"], text("text"));
                unjudged += 1;
            }
            let on = judgement.unwrap_or_default();
            [&mut here, &mut all, figures.entry(asked.set).or_default()].into_iter().for_each(|figure| figure.add(on));
        }
        println!("{:3} {:2} of {:2}  {}", asked.id, here.on, here.all, asked.objective.replace('\n', "; "));
    }
    for (set, figure) in &figures {
        println!("{set:?} set: {figure} quotes are to the point");
    }
    println!("All: {all}; {unjudged} are not judged");
    assert!(figures.iter().all(|(set, figure)| figure.part() >= set.least()), "{figures:?}");
    assert!(unjudged as f64 <= MOST_UNJUDGED * all.all as f64, "these are other documents than were judged");
}

/// Answers an objective out of the documents of a folder.
async fn answer(folder: &Path, cache: &Path, objective: &str) -> Value {
    let search = SearchFiles::new(Arc::new(Folder::open(folder).unwrap())).cache(cache);
    let runner = Runner::new(OfflinePlanner::new()).tool("search_files", search);
    let runner = offline::tools().into_iter().fold(runner, |runner, (name, tool)| runner.tool(name, tool));
    let report = runner.run(objective).await.unwrap();
    report.answer().unwrap().clone()
}
