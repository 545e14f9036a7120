//! Chooses, among the passages that were found for a cell, the sentences that are to the point.
//!
//! A sentence is to the point if it, or what it stands under, is about both the subject and the aspect: a sentence
//! below "HAProxy > TLS" need not name HAProxy again. Words count by how rare they are among all passages, so that
//! the telling ones decide.

use std::collections::{HashMap, HashSet};

use super::sentences::{LENGTHS, Sentence, leans, quality, sentences};
use super::words::{Stems, is_faint, telling_words, without_phrases, words};

/// Sentences below this are not quoted: better none than one beside the point.
const LEAST: f64 = 0.4;
/// Sentences below this part of the best one are not quoted.
const LEAST_OF_BEST: f64 = 0.7;
/// The same where a whole sentence is looked for: many others share some of its words.
const LEAST_OF_BEST_FOR_A_QUESTION: f64 = 0.8;
/// Where even the best sentence is below this, the documents may not answer a question at all.
const SURE: f64 = 0.8;
/// That many sentences are quoted then, at most.
const FEW: usize = 2;
/// From how many words on it is a question rather than a name.
const WORDS_OF_A_QUESTION: usize = 3;
/// Sentences that share more than this part of the words of the shorter one say the same.
const SAME: f64 = 0.75;

/// What a word counts that belongs to the question more than to its subject.
const FAINT: f64 = 0.3;

/// Where nothing in particular is asked, a sentence that says what something is counts so much more.
const DEFINED: f64 = 1.3;
/// The verbs of such sentences.
const DEFINING: &str = "is are means allows lets provides describes refers consists runs performs";
/// Where two things are compared in general, a sentence that names both counts so much more.
const COMPARED: f64 = 1.3;
/// From this part of its words on, something is named.
const MOST_OF_A_NAME: f64 = 0.6;

/// The sum of all weights, but for rounding.
const ALL: f64 = 0.999;

/// What words begin with, in the names of files, that are about the making of a thing, not about the thing.
const BESIDE: &str = "author bench changelog changes copyright example histor news release test thanks todo";

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
        let mut rarities = HashMap::new();
        for (word, count) in words {
            let rarity = (1.0 + (passages as f64 + 1.0) / (*count as f64 + 1.0)).ln();
            // Two spellings of a word are as common as the more common one.
            let least: &mut f64 = rarities.entry(stems.stem(word)).or_insert(rarity);
            *least = least.min(rarity);
        }
        Self(rarities)
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
        let mut weights: Vec<(String, f64)> = Vec::new();
        for word in telling_words(text) {
            let stem = stems.stem(&word);
            let weight = rarity.of(&stem) * if is_faint(&word) { FAINT } else { 1.0 };
            if !weights.iter().any(|(other, _)| *other == stem) {
                weights.push((stem, weight));
            }
        }
        Self::weighted(weights)
    }

    fn weighted(weights: Vec<(String, f64)>) -> Self {
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        Self(weights.into_iter().map(|(word, weight)| (word, weight / total)).collect())
    }

    /// Those that are among `words`, and the others.
    fn divided(self, words: &HashSet<String>) -> (Self, Self) {
        let (inside, outside) = self.0.into_iter().partition(|(word, _)| words.contains(word));
        (Self::weighted(inside), Self::weighted(outside))
    }

    /// How much of the words is named.
    fn named(&self, names: &[Vec<String>]) -> f64 {
        self.covered(&[(&self.own(names), 1.0)])
    }

    /// The words of those names that have no other words.
    fn own(&self, names: &[Vec<String>]) -> HashSet<String> {
        let is_one = |word: &String| self.0.iter().any(|(other, _)| other == word);
        names.iter().filter(|parts| parts.iter().all(is_one)).flatten().cloned().collect()
    }

    /// How many of `words` are among these.
    fn share_of(&self, words: &HashSet<String>) -> f64 {
        let shared = self.0.iter().filter(|(word, _)| words.contains(word)).count();
        shared as f64 / words.len().max(1) as f64
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
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

/// [`Wanted`] in stems.
struct LookedFor {
    /// Words of a question that name a folder of the documents: of SQLite, the folder `sqlite` is asked.
    folder: Terms,
    subject: Terms,
    aspect: Terms,
    others: Vec<Terms>,
    /// Whether the subject is a function, which manual pages describe together with others.
    is_function: bool,
}

/// The sentences to quote, best first.
pub(super) fn choose(stems: &Stems, wanted: &Wanted<'_>, hits: &[Hit], rarity: &Rarity) -> Vec<Quote> {
    let looked_for = LookedFor::new(stems, wanted, hits, rarity);
    let mut candidates: Vec<Quote> = hits.iter().flat_map(|hit| score_passage(stems, &looked_for, hit)).collect();
    // A stable sort: between equals, the passage that was found first goes first.
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let is_question = looked_for.subject.is_empty() && looked_for.aspect.0.len() >= WORDS_OF_A_QUESTION;
    let of_best = if is_question { LEAST_OF_BEST_FOR_A_QUESTION } else { LEAST_OF_BEST };
    let best = candidates.first().map_or(0.0, |best| best.score);
    let least = LEAST.max(best * of_best);
    let limit = if is_question && best < SURE { FEW.min(wanted.limit) } else { wanted.limit };
    let mut chosen: Vec<Quote> = Vec::new();
    for candidate in candidates.into_iter().take_while(|candidate| candidate.score >= least) {
        if chosen.len() == limit {
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
    shared / fewer > SAME
}

/// What a passage stands under and in.
struct Place {
    path: HashSet<String>,
    folders: HashSet<String>,
    /// The file's own name, without its extensions.
    title: HashSet<String>,
    headings: HashSet<String>,
    /// What the headings name.
    names: Vec<Vec<String>>,
    innermost: HashSet<String>,
}

/// How much a passage is worth by what it is: documentation first.
fn standing(hit: &Hit) -> f64 {
    let kind = match hit.kind.as_str() {
        "prose" => 1.0,
        "comment" => 0.75,
        _ => 0.0,
    };
    let is_beside = |word: String| BESIDE.split(' ').any(|beside| word.starts_with(beside));
    if words(&hit.file).any(is_beside) { kind * 0.5 } else { kind }
}

fn score_passage(stems: &Stems, looked_for: &LookedFor, hit: &Hit) -> Vec<Quote> {
    let standing = standing(hit);
    if standing == 0.0 {
        return Vec::new();
    }
    let (folders, name) = hit.file.rsplit_once('/').unwrap_or(("", &hit.file));
    let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let place = Place {
        path: stems.of(&hit.file),
        folders: stems.of(folders),
        title: words(name).filter(|word| !is_number(word)).map(|word| stems.stem(&word)).collect(),
        headings: stems.of(&hit.heading),
        names: stems.names(&hit.heading),
        innermost: stems.of(hit.heading.rsplit(" > ").next().unwrap_or_default()),
    };
    let sentences = whole_thoughts(sentences(&hit.text));
    let mut before: HashSet<String> = HashSet::new();
    let mut named = Named::Nothing;
    let mut quotes = Vec::new();
    for sentence in &sentences {
        let here = match looked_for.aspect_alone() {
            true => stems.of(&without_phrases(&sentence.text)),
            false => stems.of(&sentence.text),
        };
        if sentence.is_first {
            named = Named::Nothing;
        }
        named = named.then(match looked_for.is_about_another_function(stems, &sentence.text) {
            true => Named::Other,
            false => looked_for.named(&stems.names(&sentence.text)),
        });
        let fit = looked_for.fit(&place, named, &here, &before);
        let is_general = looked_for.subject.is_empty() || looked_for.aspect.is_empty();
        let defined = is_general && looked_for.is_defined_in(stems, &sentence.text);
        let score = standing * fit * quality(sentence) * if defined { DEFINED } else { 1.0 };
        if score > 0.0 {
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

/// The names of the functions that a sentence is about by how it begins: `strcpy` and `strncpy` in
/// `The strcpy() and strncpy(3) functions copy ..`.
fn functions_at_the_beginning(sentence: &str) -> impl Iterator<Item = &str> {
    let words = sentence.split_whitespace().skip_while(|word| *word == "The").filter(|word| *word != "and");
    words.map_while(|word| {
        let (name, rest) = word.trim_start_matches(['`', '[', '*']).split_once('(')?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c));
        (is_name && rest.contains(')')).then_some(name)
    })
}

/// A sentence that leans on the one before it is quoted together with that one, or stands for less.
fn whole_thoughts(sentences: Vec<Sentence>) -> Vec<Sentence> {
    let mut whole: Vec<Sentence> = Vec::with_capacity(sentences.len());
    for (index, sentence) in sentences.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &sentences[before]);
        let joined = before
            .filter(|_| !sentence.is_first && leans(&sentence.text))
            .map(|before| Sentence { text: format!("{} {}", before.text, sentence.text), ..before.clone() });
        let fits = |joined: &Sentence| LENGTHS.contains(&joined.text.chars().count());
        whole.push(joined.filter(fits).unwrap_or_else(|| sentence.clone()));
    }
    whole
}

/// What a sentence names of what is compared.
#[derive(Clone, Copy, Debug)]
enum Named {
    Nothing,
    /// The subject, and how much of it.
    Subject(f64),
    /// The subject together with one that it is compared with.
    Both(f64),
    /// Only one that it is compared with.
    Other,
}

impl Named {
    /// What the next sentence of the paragraph is about, if `next` is what it names: it may still speak of the other,
    /// like `The memory is set to zero.` after a sentence about `calloc`.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Other, Self::Nothing) => Self::Other,
            _ => next,
        }
    }
}

impl LookedFor {
    fn new(stems: &Stems, wanted: &Wanted<'_>, hits: &[Hit], rarity: &Rarity) -> Self {
        let subject = Terms::new(stems, wanted.subject, rarity);
        let aspect = Terms::new(stems, wanted.aspect, rarity);
        let others = wanted.others.iter().map(|other| Terms::new(stems, other, rarity)).collect();
        let mut names = HashSet::new();
        if subject.is_empty() && aspect.0.len() >= WORDS_OF_A_QUESTION {
            let folders = hits.iter().filter_map(|hit| hit.file.split_once('/'));
            names.extend(folders.flat_map(|(folder, _)| stems.of(folder)));
        }
        let (folder, aspect) = match aspect.divided(&names) {
            // Nothing but the folder is asked for.
            (all, rest) if rest.is_empty() => (rest, all),
            divided => divided,
        };
        let call = format!("{}(", wanted.subject);
        let is_function = !subject.is_empty() && hits.iter().any(|hit| hit.text.contains(&call));
        Self { folder, subject, aspect, others, is_function }
    }

    /// Whether the aspect is looked for by itself, rather than as words of a question.
    fn aspect_alone(&self) -> bool {
        !self.subject.is_empty() && !self.aspect.is_empty()
    }

    /// Whether a function is looked for, and a sentence begins with some that nobody asked about: `The strcat() function
    /// catenates ..`.
    fn is_about_another_function(&self, stems: &Stems, sentence: &str) -> bool {
        let mut functions = functions_at_the_beginning(sentence).peekable();
        let is_named_by = |name: &str, terms: &Terms| terms.covered(&[(&stems.of(name), 1.0)]) > 0.0;
        let is_asked_about = |name| self.others.iter().chain([&self.subject]).any(|terms| is_named_by(name, terms));
        self.is_function && functions.peek().is_some() && !functions.any(is_asked_about)
    }

    /// What a sentence names of what is compared.
    fn named(&self, names: &[Vec<String>]) -> Named {
        let subject = self.subject.named(names);
        let other = self.others.iter().any(|other| other.named(names) > MOST_OF_A_NAME);
        match (subject > 0.0, other) {
            (true, true) if subject > MOST_OF_A_NAME => Named::Both(subject),
            (_, true) => Named::Other,
            (true, false) => Named::Subject(subject),
            (false, false) => Named::Nothing,
        }
    }

    /// How much a sentence is to the point; 0 if it is beside it.
    fn fit(&self, place: &Place, named: Named, here: &HashSet<String>, before: &HashSet<String>) -> f64 {
        let Place { path, folders, title, headings, names, innermost } = place;
        if self.subject.is_empty() {
            let is_there = self.folder.covered(&[(here, 1.0), (headings, 1.0), (path, 1.0)]) > ALL;
            let covered = self.aspect.covered(&[(here, 1.0), (headings, 0.7), (path, 0.65), (before, 0.4)]);
            let said = self.aspect.covered(&[(here, 1.0), (innermost, 0.6)]);
            let titled = 1.0 + 0.15 * self.aspect.share_of(title);
            return if is_there && covered >= 0.6 && said >= 0.45 { covered * titled } else { 0.0 };
        }
        // A page about `git-merge` is named so; one about `git-merge-tree` is about something else.
        let titled = self.subject.share_of(&title.difference(folders).cloned().collect());
        let under = self.subject.own(names);
        let about = self.subject.covered(&[(folders, 0.85), (title, titled), (&under, 0.9), (before, 0.5)]);
        let is_under = |terms: &Terms| terms.covered(&[(innermost, 1.0)]) > MOST_OF_A_NAME;
        let is_page_of = |terms: &Terms| terms.covered(&[(title, 1.0), (innermost, 1.0)]) > MOST_OF_A_NAME;
        let about = match named {
            Named::Nothing if self.others.iter().any(is_under) && !is_under(&self.subject) => 0.0,
            Named::Other if !is_under(&self.subject) => 0.0,
            Named::Nothing | Named::Other => about,
            Named::Subject(part) => about.max(0.8 * part),
            Named::Both(part) => {
                // Where nothing in particular is asked, what tells the two apart comes first.
                let tells_apart = self.aspect.is_empty() && self.others.iter().chain([&self.subject]).any(is_page_of);
                about.max(0.8 * part) * if tells_apart { COMPARED } else { 1.0 }
            }
        };
        let to_the_point = self.aspect.covered(&[(here, 1.0), (innermost, 0.65), (headings, 0.4), (before, 0.35)]);
        let said = self.aspect.covered(&[(here, 1.0), (innermost, 0.65)]);
        if about >= 0.5 && said >= 0.55 { about * to_the_point } else { 0.0 }
    }

    /// Whether the words looked for come first and are said to be something: `A mutex is ..`.
    fn is_defined_in(&self, stems: &Stems, sentence: &str) -> bool {
        let topic = if self.subject.is_empty() { &self.aspect } else { &self.subject };
        let Some(verb) = words(sentence).take(8).position(|word| DEFINING.split(' ').any(|verb| verb == word)) else {
            return false;
        };
        let before: HashSet<String> = words(sentence).take(verb).map(|word| stems.stem(&word)).collect();
        topic.covered(&[(&before, 1.0)]) > 0.9
    }
}
