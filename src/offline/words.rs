//! Words: taken out of text, reduced to their stems, and told from those that carry no meaning of their own.

use std::borrow::Cow;
use std::collections::HashSet;

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing about what a text is about.
const STOP_WORDS: &str = "\
    a about above after again against all also am an and any are as at be been before being below between both but \
    by can could did differ difference differences do does doing done during each either else ever every few for from further get gets give \
    given gives go got had has have having he her here him his happen happens how i if in into is it its itself just let like make \
    makes many may me might more most much must my need needs no nor not of off on once one only or other our out \
    over own per please rather s same she should so some such t tell than that the their them then there these they \
    thing things this those through to too under until up us use used uses using very via vs was way ways we were \
    what work works when where whether which while who whom whose why will with within without would you your";

/// Verbs and nouns that say more about how something is asked than about what.
const FAINT_WORDS: &str = "answer answers come comes decide decides go goes keep keeps know return \
     returns say says show shows stay take takes";

/// Phrases of words that mean something else when they stand alone.
const PHRASES: &[&str] = &[
    "in order to",
    "in order for",
    "next time",
    "first time",
    "last time",
    "each time",
    "every time",
    "any time",
    "same time",
    "at a time",
    "compile-time",
    "compile time",
    "start-time",
    "run-time",
    "real-time",
];

/// A sentence in lower case without such phrases.
pub(super) fn without_phrases(sentence: &str) -> String {
    PHRASES.iter().fold(sentence.to_lowercase(), |sentence, phrase| sentence.replace(phrase, " "))
}

/// Whether a word that carries meaning carries less of it than others.
pub(super) fn is_faint(word: &str) -> bool {
    FAINT_WORDS.split(' ').any(|faint| faint == word)
}

/// The words of a text in lower case, with all that is neither letter nor digit between them.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The words of a text that carry meaning; all of them if none does.
pub(super) fn telling_words(text: &str) -> Vec<String> {
    let mut telling: Vec<String> = Vec::new();
    for word in words(text) {
        if !telling.contains(&word) && !STOP_WORDS.split(' ').any(|stop_word| stop_word == word) {
            telling.push(word);
        }
    }
    match telling.is_empty() {
        true => words(text).collect(),
        false => telling,
    }
}

/// The American spelling of a word, so that `licence` finds `license`. It does not matter what becomes of words like
/// `precise` and `hour`, since the same becomes of them wherever they are compared.
pub(super) fn american(word: &str) -> Cow<'_, str> {
    const ENDINGS: &[(&str, &str)] = &[
        ("isation", "ization"),
        ("isations", "izations"),
        ("ise", "ize"),
        ("ised", "ized"),
        ("ises", "izes"),
        ("ising", "izing"),
        ("our", "or"),
        ("ours", "ors"),
        ("icence", "icense"),
        ("icences", "icenses"),
        ("efence", "efense"),
        ("logue", "log"),
    ];
    let replace = |(british, american): &(&str, &str)| Some(format!("{}{american}", word.strip_suffix(british)?));
    // Short words have these endings for other reasons.
    match ENDINGS.iter().find_map(replace).filter(|_| word.len() > 5) {
        Some(american) => Cow::Owned(american),
        None => Cow::Borrowed(word),
    }
}

/// Reduces English words to their stems: `indexes`, `indexed` and `indexing` are one word.
pub(super) struct Stems(Stemmer);

impl Stems {
    pub(super) fn new() -> Self {
        Self(Stemmer::create(Algorithm::English))
    }

    /// The stem of a word in lower case, the same for both spellings of English.
    pub(super) fn stem(&self, word: &str) -> String {
        match word {
            // What is performed says nothing of how fast.
            "performance" | "performant" => "performance".to_owned(),
            _ => self.0.stem(&american(word)).into_owned(),
        }
    }

    /// The stems of all words of a text.
    pub(super) fn of(&self, text: &str) -> HashSet<String> {
        words(text).map(|word| self.stem(&word)).collect()
    }

    /// What a sentence names: the stems of each of its words, of compound words together. The `tar` in `--tar-ignore`,
    /// `control.tar` or `tar-split` names another thing than `tar`.
    pub(super) fn names(&self, sentence: &str) -> Vec<Vec<String>> {
        let is_option_or_file = |chunk: &str| {
            let inside = chunk.trim_matches(|character: char| !character.is_alphanumeric());
            chunk.trim_start_matches(['[', '(', '`', '"']).starts_with('-') || inside.contains('.')
        };
        let chunks = sentence.split_whitespace().filter(|chunk| !is_option_or_file(chunk));
        let parts = chunks
            .flat_map(|chunk| chunk.split(|character: char| !character.is_alphanumeric() && !"-_".contains(character)));
        parts.map(|part| words(part).map(|word| self.stem(&word)).collect()).collect()
    }
}
