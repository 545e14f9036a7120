//! Reads an objective as people type it: what kind of answer it asks for, about what, under which aspects.
//!
//! By rule, in English, and without ambition: what no rule knows is a topic.

use serde::{Deserialize, Serialize};

/// More of the objective is not looked at.
pub(super) const MAX_CHARACTERS: usize = 4_000;

/// What an objective asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Objective {
    pub(super) form: Form,
    /// What it is about.
    pub(super) subjects: Vec<String>,
    /// What about each of them; none if nothing in particular.
    pub(super) aspects: Vec<String>,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// Subjects side by side.
    Comparison,
    /// One question, the only subject.
    Question,
    /// A section for each topic.
    Topics,
}

const POLITE: &[&str] = &[
    "please",
    "can you",
    "could you",
    "would you",
    "will you",
    "i want you to",
    "i want to",
    "i need to",
    "i need",
    "i would like to",
    "i'd like to",
    "help me",
    "let's",
    "kindly",
];

const COMPARE: &[&str] = &[
    "compare and contrast",
    "write a comparison of",
    "write a comparison between",
    "a comparison of",
    "a comparison between",
    "comparison of",
    "comparison between",
    "compare",
    "contrast",
    "what is the difference between",
    "what are the differences between",
    "what's the difference between",
    "explain the difference between",
    "explain the differences between",
    "the difference between",
    "the differences between",
    "difference between",
    "differences between",
    "pros and cons of using",
];

const RESEARCH: &[&str] = &[
    "research",
    "investigate",
    "look into",
    "look up",
    "find out about",
    "find out",
    "find",
    "explain",
    "describe",
    "summarise",
    "summarize",
    "study",
    "analyse",
    "analyze",
    "explore",
    "review",
    "survey",
    "discuss",
    "outline",
    "learn about",
    "tell me about",
    "tell me",
    "give me an overview of",
    "give an overview of",
    "an overview of",
    "overview of",
    "introduction to",
    "a summary of",
    "summary of",
    "report on",
    "list",
    "show me",
    "what about",
    "everything about",
    "all about",
];

/// `write a short report on`: a verb, an article, adjectives, a kind of text, a preposition.
const WRITE: &[&str] = &["write me", "write", "prepare", "produce", "create", "draft", "make", "give me", "give"];
const TEXTS: &[&str] = &[
    "report", "overview", "summary", "essay", "article", "note", "notes", "briefing", "brief", "survey", "review",
    "paper", "page",
];
const ABOUT: &[&str] = &["about", "on", "of", "for", "covering", "regarding"];

const ASKING: &[&str] = &[
    "what", "how", "why", "when", "where", "who", "whom", "whose", "which", "is", "are", "does", "do", "did", "can",
    "could", "should", "would", "will", "was", "were", "has", "have",
];

/// Between a subject and what it does something about.
const DEALING: &[&str] = &[
    " do about ",
    " do with ",
    " say about ",
    " say on ",
    " deal with ",
    " dealing with ",
    " handle ",
    " support ",
    " treat ",
];

/// Between what is compared and the aspects; the second kind also stands inside of names and phrases.
const ON: &[&str] = &[
    " in terms of ",
    " with respect to ",
    " with regard to ",
    " with regards to ",
    " regarding ",
    " concerning ",
    " when it comes to ",
    " as to ",
    " on ",
    ": ",
];
const ON_PERHAPS: &[&str] = &[" by ", " for ", " in ", " under "];

const VERSUS: &[&str] = &[" versus ", " vs. ", " vs "];
const AND: &[&str] = &[" and ", " & ", " as well as ", " plus "];
const BETWEEN: &[&str] = &[" with ", " to ", " against ", " or "];

/// Reads an objective; none if there is nothing in it.
pub(super) fn read(objective: &str) -> Option<Objective> {
    let objective: String = objective.chars().take(MAX_CHARACTERS).collect();
    let lines: Vec<&str> = objective.lines().map(without_marker).filter(|line| has_word(line)).collect();
    let (first, rest) = lines.split_first()?;
    Some(match rest {
        [] => read_line(first),
        rest => read_list(first, rest),
    })
}

fn has_word(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// A list, one topic per line, perhaps with a line that says what to do with it.
fn read_list(first: &str, rest: &[&str]) -> Objective {
    let items = |lines: &[&str]| lines.iter().map(|line| tidy(line)).filter(|line| has_word(line)).collect::<Vec<_>>();
    let heading = first.trim_end();
    if let Some(task) = after_any(without_politeness(heading), COMPARE) {
        let (_, aspects) = split_on(task.trim_end_matches(':'), |_| true).unwrap_or((task, ""));
        return Objective { form: Form::Comparison, subjects: items(rest), aspects: list(aspects) };
    }
    if heading.ends_with(':') {
        let subject = topic_of(heading.trim_end_matches(':'));
        let generic = ["following", "these", "topics", "this", "things", "list", "each"];
        let says_nothing = super::words::telling_words(&subject).iter().all(|word| generic.contains(&word.as_str()));
        return match says_nothing {
            true => Objective { form: Form::Topics, subjects: items(rest), aspects: Vec::new() },
            false => Objective { form: Form::Topics, subjects: vec![subject], aspects: items(rest) },
        };
    }
    let lines: Vec<&str> = std::iter::once(first).chain(rest.iter().copied()).collect();
    Objective { form: Form::Topics, subjects: items(&lines), aspects: Vec::new() }
}

fn read_line(line: &str) -> Objective {
    let text = without_politeness(line.trim());
    comparison(text)
        .or_else(|| several_aspects(text))
        .or_else(|| question(line.trim(), text))
        .unwrap_or_else(|| topics(text))
}

fn comparison(text: &str) -> Option<Objective> {
    let text = text.trim_end_matches(['?', '.', '!']).trim();
    let task = after_any(text, COMPARE);
    let versus = find_any(text, VERSUS).is_some();
    let (subjects, aspects) = match task.or(versus.then_some(text)) {
        Some(task) => compared(task)?,
        None => how_differ(text)?,
    };
    let form = if subjects.len() > 1 { Form::Comparison } else { Form::Topics };
    Some(Objective { form, subjects, aspects })
}

/// `what does A do about X, Y and Z`, `how does A handle X and Y`.
fn several_aspects(text: &str) -> Option<Objective> {
    let text = text.trim_end_matches(['?', '.', '!']).trim();
    let rest = after_any(text, &["what does", "what do", "how does", "how do"])?;
    let (subject, aspects) = DEALING.iter().find_map(|verb| split_once_ignoring_case(rest, verb))?;
    let aspects = list(aspects);
    (has_word(subject) && aspects.len() > 1).then(|| Objective {
        form: Form::Topics,
        subjects: vec![tidy(subject)],
        aspects,
    })
}

/// Subjects and aspects of `A, B and C on X and Y`, `3 servers: A, B, C`, `the X of A and B`.
fn compared(task: &str) -> Option<(Vec<String>, Vec<String>)> {
    if let Some((kind, rest)) = task.split_once(": ")
        && subjects(kind).len() == 1
    {
        let (names, aspects) = split_on(rest, |names| subjects(names).len() > 1).unwrap_or((rest, ""));
        return match aspects.is_empty() && find_any(rest, VERSUS).is_none() && starts_with_number(kind) {
            // Which ones is not said: they cannot be told apart.
            true => Some((vec![tidy(kind.trim_start_matches(|first: char| first.is_ascii_digit()))], list(rest))),
            false => Some((subjects(names), list(aspects))),
        };
    }
    if let Some((names, aspects)) = split_on(task, |names| subjects(names).len() > 1) {
        return Some((subjects(names), list(aspects)));
    }
    // Of two lists around one of these words, the second has the names.
    for of in [" of ", " in ", " between ", " for "] {
        if let Some((aspects, names)) = split_once_ignoring_case(task, of)
            && subjects(names).len() > 1
        {
            return Some((subjects(names), list(aspects)));
        }
    }
    let names = subjects(task);
    (names.len() > 1).then_some((names, Vec::new()))
}

/// `how do A and B differ on X`, `which is faster, A or B`.
fn how_differ(text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let lower = text.to_ascii_lowercase();
    if let Some(rest) = after_any(text, &["how do", "how does"])
        && let Some((names, after)) =
            ["differ", "compare"].iter().find_map(|verb| split_once_ignoring_case(rest, &format!(" {verb}")))
    {
        let after = format!(" {}", after.trim_start_matches(|letter: char| letter.is_alphabetic()).trim());
        let (other, aspects) = split_on(&after, |_| true).unwrap_or((&after, ""));
        let mut names = subjects(names);
        // `how does A differ from B` names the second one here.
        if let Some((_, other)) =
            [" from ", " to ", " with "].iter().find_map(|word| split_once_ignoring_case(other, word))
        {
            names.extend(subjects(other));
        }
        return (names.len() > 1).then(|| (names, list(aspects)));
    }
    if lower.starts_with("which is ") || lower.starts_with("what is better") {
        let (what, names) = text.split_once([',', ':'])?;
        let names = subjects(names);
        let aspect = after_any(what, &["which is the", "which is"]).unwrap_or_default();
        let aspects = if ["better", "best"].contains(&aspect) { Vec::new() } else { list(aspect) };
        return (names.len() > 1).then_some((names, aspects));
    }
    None
}

fn question(whole: &str, text: &str) -> Option<Objective> {
    let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let asks = whole.ends_with('?') || ASKING.contains(&first.trim_end_matches("'s"));
    // `what is`, `explain` and the like say nothing about the subject, but the reader wants their own words back.
    asks.then(|| Objective { form: Form::Question, subjects: vec![tidy(whole)], aspects: Vec::new() })
}

fn topics(text: &str) -> Objective {
    let text = topic_of(text);
    let whole = |text: &str| Objective { form: Form::Topics, subjects: vec![tidy(text)], aspects: Vec::new() };
    if let Some((subject, aspects)) = text.split_once(": ") {
        let aspects = list(aspects);
        return match aspects.is_empty() {
            true => whole(subject),
            // `locks and barriers: cost, fairness` has two subjects, each with both aspects.
            false => Objective { form: Form::Topics, subjects: list(subject), aspects },
        };
    }
    for of in [" in ", " of ", " for ", " with "] {
        // The last one, so that `the cost of locks and barriers in Go` is about Go.
        if let Some((aspects, subject)) = rsplit_once_ignoring_case(&text, of)
            && list(aspects).len() > 1
            && list(subject).len() == 1
        {
            return Objective { form: Form::Topics, subjects: vec![tidy(subject)], aspects: list(aspects) };
        }
    }
    let items = list(&text);
    let is_list = text.contains([',', ';']) && items.len() > 2 && items.iter().all(|item| item.split(' ').count() <= 6);
    match is_list {
        true => Objective { form: Form::Topics, subjects: items, aspects: Vec::new() },
        false => whole(&text),
    }
}

/// The topic of an order such as `write a short report on locks`.
fn topic_of(text: &str) -> String {
    let mut text = without_politeness(text.trim());
    if let Some(rest) = after_any(text, WRITE) {
        let mut words = rest.split_whitespace();
        let is_text = |word: &str| TEXTS.contains(&word.to_ascii_lowercase().as_str());
        if words.by_ref().take(5).any(is_text)
            && words.next().is_some_and(|word| ABOUT.contains(&word.to_ascii_lowercase().as_str()))
            && let Some(topic) = words.next()
        {
            // Where the words are is known by address: they are slices of the same text.
            let at = topic.as_ptr().addr() - text.as_ptr().addr();
            text = &text[at..];
        }
    }
    while let Some(rest) = after_any(text, RESEARCH) {
        text = rest;
        if let Some(rest) = after_any(text, &["how", "why", "what", "whether"]) {
            text = rest;
        }
    }
    tidy(text)
}

/// Splits at a word that introduces aspects, the first after which `fits` likes what comes before.
fn split_on(text: &str, fits: impl Fn(&str) -> bool) -> Option<(&str, &str)> {
    for separators in [ON, ON_PERHAPS] {
        let mut found: Vec<(usize, usize)> = separators
            .iter()
            .flat_map(|separator| positions(text, separator).map(|at| (at, at + separator.len())))
            .collect();
        found.sort_unstable();
        for (start, end) in found {
            if fits(&text[..start]) && has_word(&text[end..]) {
                return Some((&text[..start], &text[end..]));
            }
        }
    }
    None
}

/// The names in `A, B and C`, `A with B`, `A vs B`.
fn subjects(text: &str) -> Vec<String> {
    let parts = split_list(text, &[VERSUS, AND].concat());
    match parts.as_slice() {
        [one] => BETWEEN
            .iter()
            .find_map(|word| split_once_ignoring_case(one, word))
            .map_or_else(|| parts.clone(), |(left, right)| clean([left.to_owned(), right.to_owned()])),
        _ => parts,
    }
}

/// The items of `X, Y and Z`.
fn list(text: &str) -> Vec<String> {
    split_list(text, AND)
}

fn split_list(text: &str, words: &[&str]) -> Vec<String> {
    let mut parts = vec![text.to_owned()];
    for separator in [", and ", ", or ", ", ", ";", ","].iter().chain(words) {
        parts = parts.iter().flat_map(|part| split_ignoring_case(part, separator)).collect();
    }
    clean(parts)
}

/// Without what is not part of a name, empty ones and repetitions.
fn clean(parts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut cleaned: Vec<String> = Vec::new();
    for part in parts {
        let part = tidy(&part);
        if has_word(&part) && !cleaned.iter().any(|other| other.eq_ignore_ascii_case(&part)) {
            cleaned.push(part);
        }
    }
    cleaned
}

/// Without the articles before and the marks around a name.
fn tidy(text: &str) -> String {
    let mut text = text.trim_matches(|character: char| {
        character.is_whitespace() || (character.is_ascii_punctuation() && !"()+#?.\"".contains(character))
    });
    text = text.strip_suffix('.').unwrap_or(text);
    while let Some(rest) = after_any(text, &["the", "a", "an", "and", "both", "their", "its", "each of", "of"]) {
        text = rest;
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What comes after the marker of a list's item.
fn without_marker(line: &str) -> &str {
    let line = line.trim();
    if let Some(item) = ["- ", "* ", "+ ", "• "].iter().find_map(|marker| line.strip_prefix(marker)) {
        return item.trim();
    }
    let item = line.trim_start_matches(|first: char| first.is_ascii_digit());
    match item.strip_prefix(['.', ')']) {
        Some(item) if item.starts_with(' ') && !line.starts_with(['.', ')']) => item.trim(),
        _ => line,
    }
}

fn without_politeness(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = after_any(text, POLITE) {
        text = rest.trim_start_matches(',').trim_start();
    }
    text
}

fn starts_with_number(text: &str) -> bool {
    text.trim_start().starts_with(|first: char| first.is_ascii_digit())
}

/// What follows the first of these phrases that `text` begins with, as whole words.
fn after_any<'a>(text: &'a str, phrases: &[&str]) -> Option<&'a str> {
    phrases.iter().find_map(|phrase| {
        let (start, rest) = text.split_at_checked(phrase.len())?;
        let is_whole = rest.starts_with([' ', ',', ':']);
        (start.eq_ignore_ascii_case(phrase) && is_whole && has_word(rest))
            .then(|| rest.trim_start_matches([' ', ',', ':']))
    })
}

fn find_any(text: &str, separators: &[&str]) -> Option<usize> {
    separators.iter().find_map(|separator| positions(text, separator).next())
}

/// Where `separator` stands in `text`, whatever the case of its ASCII letters.
fn positions(text: &str, separator: &str) -> impl Iterator<Item = usize> {
    let (text, separator) = (text.as_bytes(), separator.as_bytes());
    text.windows(separator.len())
        .enumerate()
        .filter(move |(_, window)| window.eq_ignore_ascii_case(separator))
        .map(|(at, _)| at)
}

fn split_once_ignoring_case<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = positions(text, separator).next()?;
    Some((&text[..at], &text[at + separator.len()..]))
}

fn rsplit_once_ignoring_case<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = positions(text, separator).last()?;
    Some((&text[..at], &text[at + separator.len()..]))
}

fn split_ignoring_case(text: &str, separator: &str) -> Vec<String> {
    let mut rest = text;
    let mut parts = Vec::new();
    while let Some((part, after)) = split_once_ignoring_case(rest, separator) {
        parts.push(part.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    parts
}

#[cfg(test)]
mod tests;
