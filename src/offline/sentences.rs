//! Sentences of a passage, each with the line on which it begins, and which of them can be quoted.

use std::ops::RangeInclusive;

use unicode_segmentation::UnicodeSegmentation;

/// The shortest and the longest sentence that is quoted, in characters.
pub(super) const LENGTHS: RangeInclusive<usize> = 25..=420;
/// The fewest words of a sentence that is quoted.
const FEWEST_WORDS: usize = 5;

/// Words with a full stop that do not end a sentence.
const ABBREVIATIONS: &str = "approx. cf. dr. e.g. ed. eq. esp. etc. fig. i.e. incl. mr. mrs. ms. no. nos. p. pp. resp. sec. st. v. viz. vol. vs.";

/// Words that point to what was said before.
const POINTING: &str = "\
    it this that these those they he she such however but and also then so therefore thus otherwise here instead \
    similarly furthermore moreover or again likewise hence which";

/// A sentence as it stands in a file, but on one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    /// How many lines below the first line of the passage it begins.
    pub(super) offset: u32,
    pub(super) text: String,
    /// Whether it is the first of its paragraph.
    pub(super) is_first: bool,
}

/// The sentences of a passage of prose.
pub(super) fn sentences(passage: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut paragraph = Paragraph::default();
    for (offset, line) in (0..).zip(passage.split('\n')) {
        for (index, part) in line.split('\u{2029}').enumerate() {
            // The marks of comments in files of a format that is not known.
            let text = part.trim().trim_start_matches("# ").trim_start_matches("// ");
            let item = without_marker(text);
            // A line of one blank is the inside of a paragraph whose markup was taken off.
            if part.is_empty() || index > 0 || item.is_some() {
                paragraph.end(&mut found);
            }
            paragraph.add(offset, item.unwrap_or(text));
        }
    }
    paragraph.end(&mut found);
    found
}

/// What comes after the marker of a list's item.
fn without_marker(text: &str) -> Option<&str> {
    if let Some(item) = ["- ", "* ", "+ ", "• ", "· ", "– ", "o "].iter().find_map(|marker| text.strip_prefix(marker))
    {
        return Some(item.trim_start());
    }
    let item = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let digits = text.len() - item.len();
    let lettered = item.strip_prefix(|first: char| first.is_ascii_lowercase()).filter(|item| item.starts_with(')'));
    let item = lettered.unwrap_or(item).strip_prefix(['.', ')'])?.strip_prefix(' ')?;
    (digits <= 3 && (digits > 0 || lettered.is_some())).then(|| item.trim_start())
}

/// The lines of a paragraph, joined.
#[derive(Default)]
struct Paragraph {
    text: String,
    /// Where in the text each line begins, and its offset.
    lines: Vec<(usize, u32)>,
}

impl Paragraph {
    fn add(&mut self, offset: u32, text: &str) {
        if text.is_empty() {
            return;
        }
        // A hyphen of typography, as against one that was typed, is where a formatter divided a word.
        if self.text.ends_with('\u{2010}') {
            self.text.pop();
        } else if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.lines.push((self.text.len(), offset));
        // Manual pages are justified with blanks.
        for (index, word) in text.split_whitespace().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            self.text.push_str(word);
        }
    }

    fn end(&mut self, found: &mut Vec<Sentence>) {
        let mut start = 0;
        let mut is_first = true;
        for (at, piece) in self.text.split_sentence_bound_indices() {
            let end = at + piece.len();
            let text = self.text[start..end].trim();
            let is_last = end == self.text.len();
            // An exclamation mark can be part of a name in the middle of code: `select!` does not end a sentence.
            let in_code = text.matches('`').count() % 2 == 1;
            if text.is_empty() || (!is_last && (in_code || ends_in_abbreviation(text))) {
                continue;
            }
            let begin = start + (self.text[start..end].len() - self.text[start..end].trim_start().len());
            let line = self.lines.partition_point(|(line_start, _)| *line_start <= begin).saturating_sub(1);
            let offset = self.lines.get(line).map_or(0, |(_, offset)| *offset);
            found.push(Sentence { offset, text: text.to_owned(), is_first });
            is_first = false;
            start = end;
        }
        self.text.clear();
        self.lines.clear();
    }
}

fn ends_in_abbreviation(text: &str) -> bool {
    let last = text.rsplit([' ', '(']).next().unwrap_or_default();
    let is_initial =
        last.len() == 2 && last.ends_with('.') && last.starts_with(|first: char| first.is_ascii_uppercase());
    is_initial || ABBREVIATIONS.split(' ').any(|word| word.eq_ignore_ascii_case(last))
}

/// How many words a sentence has beside code and links: ``Stream for the [`select()`] function.`` says nothing.
fn words_beside_code(text: &str) -> usize {
    let is_code = |word: &&str| word.contains(['`', '[', ']']);
    text.split_whitespace().filter(|word| !is_code(word)).count()
}

/// How well a sentence reads when it stands alone: 0 for what is none, 1 for a plain statement.
pub(super) fn quality(sentence: &Sentence) -> f64 {
    let text = sentence.text.as_str();
    let characters = text.chars().count();
    let words = text.split_whitespace().count();
    let options = text.split_whitespace().filter(|word| word.starts_with(['-', '['])).count();
    if !LENGTHS.contains(&characters)
        || words < FEWEST_WORDS
        || words_beside_code(text) < FEWEST_WORDS
        || options * 4 > words
        || text.starts_with("$ ")
        || text.starts_with("/*")
        || text.starts_with("See ")
        || is_mostly_marks(text)
    {
        return 0.0;
    }
    let mut quality: f64 = 1.0;
    let end = text.trim_end_matches(['"', '\'', ')', '*', '_', '`', '”', '’', ']']);
    match end.chars().next_back() {
        Some('.' | '!' | '。' | '…') => {}
        Some(':') => quality *= 0.35,
        Some('?') => quality *= 0.3,
        Some(',' | ';') => quality *= 0.5,
        _ => quality *= 0.75,
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    match first.chars().find(|character| character.is_alphanumeric()) {
        Some(letter) if letter.is_lowercase() && !sentence.is_first => quality *= 0.6,
        Some(letter) if letter.is_lowercase() => quality *= 0.85,
        _ => {}
    }
    if leans(text) {
        quality *= 0.8;
    }
    if text.contains("TODO") || text.contains("FIXME") || text.contains("XXX") {
        quality *= 0.3;
    }
    if text.matches('(').count() != text.matches(')').count() {
        quality *= 0.7;
    }
    match characters {
        ..45 => quality * 0.8,
        45..=280 => quality,
        _ => quality * 0.85,
    }
}

/// Whether a sentence begins with a word that points to the one before it.
pub(super) fn leans(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    let first = first.trim_matches(|character: char| !character.is_alphanumeric()).to_ascii_lowercase();
    POINTING.split(' ').any(|word| word == first)
}

/// Whether there is too little of letters and too much of everything else: code, paths, option lists, links.
fn is_mostly_marks(text: &str) -> bool {
    let visible = text.chars().filter(|character| !character.is_whitespace()).count().max(1);
    let letters = text.chars().filter(|character| character.is_alphabetic()).count();
    let odd = text.chars().filter(|character| "{}<>=;$\\|#~^@_[]+*/&%".contains(*character)).count();
    let links = text.matches("http").count();
    letters * 10 < visible * 7
        || odd * 12 > visible
        || links > 1
        || text.contains("::<")
        || text.contains("://") && links * 60 > visible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(passage: &str) -> Vec<(u32, String)> {
        sentences(passage).into_iter().map(|sentence| (sentence.offset, sentence.text)).collect()
    }

    fn owned(offset: u32, text: &str) -> (u32, String) {
        (offset, text.into())
    }

    #[test]
    fn a_sentence_knows_its_line() {
        assert_eq!(
            found("One is here. Two\nruns on. Three is last.\n\nFour."),
            [owned(0, "One is here."), owned(0, "Two runs on."), owned(1, "Three is last."), owned(3, "Four.")]
        );
    }

    #[test]
    fn abbreviations_and_numbers_do_not_end_sentences() {
        assert_eq!(
            found("Some formats, e.g. JSON, i.e. Text, are at version 3.14.1 now. D. Knuth et al. wrote."),
            [
                owned(0, "Some formats, e.g. JSON, i.e. Text, are at version 3.14.1 now."),
                owned(0, "D. Knuth et al. wrote.")
            ]
        );
    }

    #[test]
    fn code_does_not_end_sentences() {
        assert_eq!(
            found("The macro `select!` is fair. So is `join!`."),
            [owned(0, "The macro `select!` is fair."), owned(0, "So is `join!`."),]
        );
    }

    #[test]
    fn items_of_lists_are_sentences_of_their_own() {
        assert_eq!(
            found("- first item\n  goes on\n- second\n2. third\n\u{2029}fourth"),
            [owned(0, "first item goes on"), owned(2, "second"), owned(3, "third"), owned(4, "fourth")]
        );
    }

    #[test]
    fn code_and_links_are_not_quoted() {
        for text in [
            "let x = foo::<Bar>(&mut y)?; if x { return Err(E::new()) }",
            "See https://example.org/a and https://example.org/b for this.",
            "src/a.rs src/b.rs src/c.rs src/d.rs src/e.rs src/f.rs",
            "Too short.",
            "Stream for the [`buffered`](super::StreamExt::buffered) method.",
            "/* Makes sure that the text ends. */",
        ] {
            let sentence = Sentence { offset: 0, text: text.into(), is_first: true };
            assert_eq!(quality(&sentence), 0.0, "{text}");
        }
    }
}
