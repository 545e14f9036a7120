//! The answer as Markdown.

use crate::counted::counted;

use super::choose::Quote;
use super::objective::Form;
use super::quote::Searched;

/// Said first, so that nobody takes the answer for more than it is.
const WITHOUT_A_MODEL: &str =
    "Answered without a language model: sentences quoted from the documents, each with its file and line.";
const SILENCE: &str = "*the documents do not say*";
const FAILED: &str = "*the search failed*";
/// More names than these are counted instead.
const MOST_NAMED: usize = 12;
/// A longer objective is cut where it is the title, in characters.
const LONGEST_TITLE: usize = 200;

/// What there is for one cell.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) subject: String,
    pub(super) aspect: String,
    pub(super) quotes: Vec<Quote>,
    /// Whether any search for it worked.
    pub(super) was_searched: bool,
    /// Words that no document has.
    pub(super) unknown_words: Vec<String>,
}

impl Answered {
    fn name(&self) -> String {
        match self.aspect.as_str() {
            "" => self.subject.clone(),
            aspect => format!("{}, {aspect}", self.subject),
        }
    }

    fn silence(&self) -> &'static str {
        if self.was_searched { SILENCE } else { FAILED }
    }
}

/// Writes the answer.
pub(super) fn markdown(
    objective: &str,
    form: Form,
    cells: &[Answered],
    searched: &Searched,
    left_out: &[String],
) -> String {
    let mut text = format!("# {}\n\n{WITHOUT_A_MODEL}\n", on_one_line(&title(objective, form, cells)));
    match form {
        Form::Comparison => comparison(&mut text, cells),
        Form::Question | Form::Topics => sections(&mut text, cells),
    }
    text.push_str("\n---\n\n");
    closing(&mut text, cells, searched, left_out);
    text
}

fn title(objective: &str, form: Form, cells: &[Answered]) -> String {
    let subjects = distinct(cells.iter().map(|cell| cell.subject.as_str()));
    let aspects = distinct(cells.iter().map(|cell| cell.aspect.as_str()).filter(|aspect| !aspect.is_empty()));
    match (form, subjects.as_slice(), aspects.as_slice()) {
        (Form::Question, _, _) | (_, [], _) => shortened(objective),
        (Form::Topics, [subject], _) => shortened(&capitalised(subject)),
        (_, subjects, []) => and(subjects),
        (_, subjects, aspects) => format!("{}: {}", and(subjects), and(aspects)),
    }
}

/// A table for each aspect, so that a row is one line and a reader of plain text is not lost.
fn comparison(text: &mut String, cells: &[Answered]) {
    let width = cells.iter().map(|cell| cell.subject.chars().count()).max().unwrap_or_default();
    for aspect in distinct(cells.iter().map(|cell| cell.aspect.as_str())) {
        let aspect_title = if aspect.is_empty() { "In their own words".into() } else { capitalised(aspect) };
        text.push_str(&format!("\n## {}\n\n", on_one_line(&aspect_title)));
        text.push_str(&format!("| {:width$} | what the documents say |\n|{:-<2$}|---|\n", "", "", width + 2));
        for cell in cells.iter().filter(|cell| cell.aspect == aspect) {
            let mut subject = in_table(&cell.subject);
            if cell.quotes.is_empty() {
                text.push_str(&format!("| {subject:width$} | {} |\n", cell.silence()));
            }
            for quote in &cell.quotes {
                text.push_str(&format!("| {subject:width$} | {} |\n", in_table(&quoted(quote))));
                subject.clear();
            }
        }
    }
}

/// A section for each cell.
fn sections(text: &mut String, cells: &[Answered]) {
    for cell in cells {
        if cells.len() > 1 {
            let subjects_differ = distinct(cells.iter().map(|cell| cell.subject.as_str())).len() > 1;
            let name = match cell.aspect.as_str() {
                aspect if !aspect.is_empty() && !subjects_differ => aspect.to_owned(),
                _ => cell.name(),
            };
            text.push_str(&format!("\n## {}\n", on_one_line(&capitalised(&name))));
        }
        text.push('\n');
        if cell.quotes.is_empty() {
            text.push_str(&format!("{}\n", cell.silence()));
        }
        for quote in &cell.quotes {
            text.push_str(&format!("- {}\n", quoted(quote)));
        }
    }
}

/// What was looked at, and what was not found.
fn closing(text: &mut String, cells: &[Answered], searched: &Searched, left_out: &[String]) {
    let Searched { files, passages, skipped, note } = searched;
    let [files, passages] =
        [(*files, "file"), (*passages, "passage")].map(|(count, word)| counted(count as usize, word));
    text.push_str(&format!("Searched {files} ({passages})"));
    if !skipped.is_empty() {
        let skipped: Vec<String> = skipped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        text.push_str(&format!("; skipped: {}", skipped.join(", ")));
    }
    text.push_str(".\n");
    let gaps: Vec<String> = cells.iter().filter(|cell| cell.quotes.is_empty()).map(Answered::name).collect();
    if !gaps.is_empty() && cells.len() > 1 {
        text.push_str(&format!("The documents do not say: {}.\n", on_one_line(&some_of(&gaps))));
    }
    let unknown = distinct(cells.iter().flat_map(|cell| cell.unknown_words.iter().map(String::as_str)));
    if !unknown.is_empty() {
        text.push_str(&format!("No document has the word {}.\n", or(&unknown)));
    }
    if !left_out.is_empty() {
        text.push_str(&format!("Left out, since it was too much: {}.\n", on_one_line(&some_of(left_out))));
    }
    if let Some(note) = note {
        text.push_str(&format!("Note: {note}.\n"));
    }
}

fn quoted(quote: &Quote) -> String {
    format!("“{}” (`{}:{}`)", on_one_line(&quote.text), on_one_line(&quote.file), quote.line)
}

/// Documents are untrusted: nothing in them may end the line or speak to a terminal.
fn on_one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn in_table(text: &str) -> String {
    on_one_line(text).replace('|', "\\|")
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        // `iPhone` and `mTLS` are written as they are.
        Some(first) if !text.split(' ').next().unwrap_or_default().contains(char::is_uppercase) => {
            first.to_uppercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for text in texts {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct
}

fn and(texts: &[&str]) -> String {
    joined(texts, "and")
}

fn or(texts: &[&str]) -> String {
    joined(texts, "or")
}

/// The first few of some names that may have commas in them.
fn some_of(names: &[String]) -> String {
    let named = names[..names.len().min(MOST_NAMED)].join("; ");
    match names.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TITLE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn joined(texts: &[&str], word: &str) -> String {
    if let Some(more @ 1..) = texts.len().checked_sub(MOST_NAMED) {
        return format!("{} {word} {more} more", texts[..MOST_NAMED].join(", "));
    }
    match texts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} {word} {last}", rest.join(", ")),
    }
}
