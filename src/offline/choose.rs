//! Chooses, among the passages that were found for a cell, the sentences that are to the point.
//!
//! A sentence is to the point if it, or what it stands under, is about both the subject and the aspect: a sentence
//! below "HAProxy > TLS" need not name HAProxy again. Words count by how rare they are among all passages, so that
//! the telling ones decide.

use std::collections::{HashMap, HashSet};

use super::sentences::{quality, sentences};
use super::words::Stems;

/// Sentences below this are not quoted: better none than one beside the point.
const LEAST: f64 = 0.34;
/// Sentences below this part of the best one are not quoted.
const LEAST_OF_BEST: f64 = 0.6;
/// Sentences that share more than this part of their words say the same.
const SAME: f64 = 0.6;

/// A passage that was found.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Hit {
    pub(super) file: String,
    pub(super) line: u32,
    #[serde(default)]
    pub(super) heading: String,
    pub(super) kind: String,
    pub(super) text: String,
}

/// How much each word tells: the rarer, the more.
#[derive(Debug, Default)]
pub(super) struct Rarity(HashMap<String, f64>);

impl Rarity {
    /// From the number of passages that have each word, of `passages` in all.
    pub(super) fn new(stems: &Stems, words: &HashMap<String, u64>, passages: u64) -> Self {
        let rarity = |count: u64| (1.0 + (passages as f64 + 1.0) / (count as f64 + 1.0)).ln();
        Self(words.iter().map(|(word, count)| (stems.stem(word), rarity(*count))).collect())
    }

    fn of(&self, stem: &str) -> f64 {
        self.0.get(stem).copied().unwrap_or(1.0)
    }
}

/// Words to look for, by stem, each with its weight; the weights add up to 1.
#[derive(Debug, Default)]
struct Terms(Vec<(String, f64)>);

impl Terms {
    fn new(stems: &Stems, text: &str, rarity: &Rarity) -> Self {
        let words = stems.telling(text);
        let total: f64 = words.iter().map(|word| rarity.of(word)).sum();
        Self(
            words
                .into_iter()
                .map(|word| {
                    let weight = rarity.of(&word) / total;
                    (word, weight)
                })
                .collect(),
        )
    }

    /// How much of the words is there, where each counts as much as the best place in which it stands. All of them
    /// if there are none.
    fn covered(&self, places: &[(&HashSet<String>, f64)]) -> f64 {
        if self.0.is_empty() {
            return 1.0;
        }
        let best = |word: &String| {
            places.iter().filter(|(words, _)| words.contains(word)).map(|(_, value)| *value).fold(0.0, f64::max)
        };
        self.0.iter().map(|(word, weight)| weight * best(word)).sum()
    }
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// What sentences must be about.
    pub(super) subject: &'a str,
    /// What about it, if anything in particular.
    pub(super) aspect: &'a str,
    /// What sentences must not be about instead.
    pub(super) others: Vec<&'a str>,
    /// How many sentences at most.
    pub(super) limit: usize,
}

/// A sentence that is quoted.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) text: String,
    score: f64,
    stems: HashSet<String>,
}

/// The sentences to quote, best first.
pub(super) fn choose(stems: &Stems, wanted: &Wanted<'_>, hits: &[Hit], rarity: &Rarity) -> Vec<Quote> {
    let subject = Terms::new(stems, wanted.subject, rarity);
    let aspect = Terms::new(stems, wanted.aspect, rarity);
    let others: Vec<Terms> = wanted.others.iter().map(|other| Terms::new(stems, other, rarity)).collect();
    let mut candidates = Vec::new();
    for hit in hits.iter().filter(|hit| hit.kind == "prose") {
        candidates.extend(score_passage(stems, &subject, &aspect, &others, hit));
    }
    candidates.sort_by(|a: &Quote, b: &Quote| {
        b.score.total_cmp(&a.score).then_with(|| (&a.file, a.line).cmp(&(&b.file, b.line)))
    });
    let least = candidates.first().map_or(LEAST, |best| LEAST.max(best.score * LEAST_OF_BEST));
    let mut chosen: Vec<Quote> = Vec::new();
    for candidate in candidates.into_iter().take_while(|candidate| candidate.score >= least) {
        if chosen.len() == wanted.limit {
            break;
        }
        if !chosen.iter().any(|quote| says_the_same(quote, &candidate)) {
            chosen.push(candidate);
        }
    }
    chosen
}

fn says_the_same(a: &Quote, b: &Quote) -> bool {
    let shared = a.stems.intersection(&b.stems).count() as f64;
    let fewer = a.stems.len().min(b.stems.len()).max(1) as f64;
    shared / fewer > SAME.max(0.75)
}

fn score_passage(stems: &Stems, subject: &Terms, aspect: &Terms, others: &[Terms], hit: &Hit) -> Vec<Quote> {
    let path = stems.of(&hit.file);
    let headings = stems.of(&hit.heading);
    let innermost = stems.of(hit.heading.rsplit(" > ").next().unwrap_or_default());
    let sentences = sentences(&hit.text);
    let of_sentences: Vec<HashSet<String>> = sentences.iter().map(|sentence| stems.of(&sentence.text)).collect();
    let mut before: HashSet<String> = HashSet::new();
    let mut quotes = Vec::new();
    for (sentence, here) in sentences.iter().zip(of_sentences) {
        let about = subject.covered(&[(&here, 1.0), (&headings, 0.95), (&path, 0.9), (&before, 0.6)]);
        let to_the_point = aspect.covered(&[(&here, 1.0), (&innermost, 0.65), (&headings, 0.4), (&before, 0.35)]);
        let named = subject.covered(&[(&here, 1.0)]);
        let instead = others.iter().any(|other| other.covered(&[(&here, 1.0)]) > 0.7) && named < 0.5;
        let elsewhere = others.iter().any(|other| other.covered(&[(&innermost, 1.0)]) > 0.7)
            && subject.covered(&[(&innermost, 1.0), (&here, 1.0)]) < 0.5;
        let score = about * to_the_point * quality(sentence);
        if about >= 0.5 && to_the_point >= 0.4 && !instead && !elsewhere && score > 0.0 {
            quotes.push(Quote {
                file: hit.file.clone(),
                line: hit.line + sentence.offset,
                text: sentence.text.clone(),
                score,
                stems: here.clone(),
            });
        }
        before.extend(here);
    }
    quotes
}
