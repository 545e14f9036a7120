//! Words: taken out of text, reduced to their stems, and told from those that carry no meaning of their own.

use std::collections::HashSet;

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing about what a text is about.
const STOP_WORDS: &[&str] = &[
    "a", "about", "above", "after", "again", "against", "all", "also", "am", "an", "and", "any", "are", "as", "at",
    "be", "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does",
    "doing", "done", "down", "during", "each", "either", "else", "ever", "every", "few", "for", "from", "further",
    "get", "gets", "give", "given", "gives", "go", "got", "had", "has", "have", "having", "he", "her", "here", "him",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "just", "let", "like", "make", "makes", "many",
    "may", "me", "might", "more", "most", "much", "must", "my", "need", "needs", "no", "nor", "not", "of", "off", "on",
    "once", "one", "only", "or", "other", "our", "out", "over", "own", "per", "please", "rather", "s", "same", "she",
    "should", "so", "some", "such", "t", "tell", "than", "that", "the", "their", "them", "then", "there", "these",
    "they", "thing", "things", "this", "those", "through", "to", "too", "under", "until", "up", "us", "use", "used",
    "uses", "using", "very", "via", "vs", "was", "way", "ways", "we", "were", "what", "when", "where", "whether",
    "which", "while", "who", "whom", "whose", "why", "will", "with", "within", "without", "would", "you", "your",
];

/// The words of a text in lower case, with all that is neither letter nor digit between them.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The words of a text that carry meaning; all of them if none does.
pub(super) fn telling_words(text: &str) -> Vec<String> {
    let mut telling: Vec<String> = Vec::new();
    for word in words(text).filter(|word| !STOP_WORDS.contains(&word.as_str())) {
        if !telling.contains(&word) {
            telling.push(word);
        }
    }
    match telling.is_empty() {
        true => words(text).collect(),
        false => telling,
    }
}

/// Reduces English words to their stems: `indexes`, `indexed` and `indexing` are one word.
pub(super) struct Stems(Stemmer);

impl Stems {
    pub(super) fn new() -> Self {
        Self(Stemmer::create(Algorithm::English))
    }

    /// The stem of a word in lower case.
    pub(super) fn stem(&self, word: &str) -> String {
        self.0.stem(word).into_owned()
    }

    /// The stems of all words of a text.
    pub(super) fn of(&self, text: &str) -> HashSet<String> {
        words(text).map(|word| self.stem(&word)).collect()
    }

    /// The stems of the words of a text that carry meaning, in order.
    pub(super) fn telling(&self, text: &str) -> Vec<String> {
        let mut stems = Vec::new();
        for word in telling_words(text) {
            let stem = self.stem(&word);
            if !stems.contains(&stem) {
                stems.push(stem);
            }
        }
        stems
    }
}
