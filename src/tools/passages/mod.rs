//! Cuts a file into passages: a few paragraphs under one heading, or a stretch of code, with the lines they come from.
//!
//! The line `n` of a passage's text is the line `line + n` of the file, whatever markup was taken off, so that whoever
//! quotes a sentence of it can say exactly where it stands.

mod html;
mod markup;
mod source;

use serde::Serialize;

use crate::cut;

/// A passage is closed at the end of the paragraph in which it reaches this size.
const ENOUGH_BYTES: usize = 700;
/// A paragraph that reaches this size is cut at the end of a line.
const MOST_BYTES: usize = 1_800;
/// Lines over this size are cut.
const MOST_LINE_BYTES: usize = 1_800;
/// Headings are cut to this many characters.
const HEADING_CHARACTERS: usize = 120;

/// Unicode's paragraph separator: between two paragraphs that have no empty line between them, as in HTML.
const PARAGRAPH: char = '\u{2029}';

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passage {
    /// Its first line, from 1.
    pub(super) line: u32,
    /// Its last line.
    pub(super) last_line: u32,
    /// What it is.
    pub(super) kind: Kind,
    /// The headings it stands under, outermost first, with ` > ` between them.
    pub(super) heading: String,
    /// Its lines, without the markup around them. Between paragraphs is an empty line, or else [`PARAGRAPH`].
    pub(super) text: String,
}

/// What a passage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Sentences.
    Prose,
    /// Sentences that were written for those who read the program around them.
    Comment,
    /// Program text, examples, data.
    Code,
    /// A table.
    Table,
}

/// A line of a file, with its number.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    number: u32,
    text: &'a str,
}

/// Cuts the text of the file at `path`, whose name tells the format.
pub(super) fn passages(path: &str, text: &str) -> Vec<Passage> {
    let lines: Vec<Line<'_>> = (1..).zip(text.lines()).map(|(number, text)| Line { number, text }).collect();
    let mut cutter = Cutter::default();
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "md" | "markdown" | "mkd" | "mdx" => markup::markdown(&lines, &mut cutter),
        "html" | "htm" | "xhtml" => html::html(text, &mut cutter),
        "json" | "jsonl" | "csv" | "tsv" | "xml" | "svg" | "css" | "map" | "lock" | "diff" | "patch" | "ipynb" => {
            source::data(&lines, &mut cutter);
        }
        extension => match source::Comments::of(extension, name) {
            Some(comments) => source::source(&lines, &comments, &mut cutter),
            None => markup::plain(&lines, &mut cutter),
        },
    }
    cutter.finish()
}

/// Puts lines together to passages.
#[derive(Default)]
struct Cutter {
    passages: Vec<Passage>,
    /// Headings with their levels; each is of a higher level than the one before it.
    headings: Vec<(usize, String)>,
    open: Option<Passage>,
    /// Whether sentences are a [`Kind::Comment`].
    in_comment: bool,
    /// Whether the next line begins a paragraph.
    paragraph_ended: bool,
}

impl Cutter {
    /// Adds a line to the passage that is being put together, or begins another one.
    fn line(&mut self, kind: Kind, number: u32, text: &str) {
        let kind = if self.in_comment && kind == Kind::Prose { Kind::Comment } else { kind };
        if self.open.as_ref().is_some_and(|open| open.kind != kind || open.text.len() >= MOST_BYTES) {
            self.close();
        }
        if text.len() > MOST_LINE_BYTES {
            return self.long_line(kind, number, text);
        }
        let paragraph_ended = std::mem::take(&mut self.paragraph_ended);
        match &mut self.open {
            Some(open) => {
                let lines = number.saturating_sub(open.last_line);
                open.text.extend(std::iter::repeat_n('\n', lines as usize));
                if paragraph_ended && lines < 2 {
                    open.text.push(PARAGRAPH);
                } else if lines == 0 {
                    open.text.push(' ');
                }
                open.text.push_str(text);
                open.last_line = open.last_line.max(number);
            }
            None => {
                let heading = self.heading_path();
                self.open = Some(Passage { line: number, last_line: number, kind, heading, text: text.to_owned() });
            }
        }
    }

    /// A line that would be too long for a passage becomes several, all with its number.
    fn long_line(&mut self, kind: Kind, number: u32, text: &str) {
        self.close();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(place(rest, MOST_LINE_BYTES));
            let (begins, ends) =
                (is_in_word(text, text.len() - rest.len()), is_in_word(text, text.len() - after.len()));
            rest = after;
            if !piece.trim().is_empty() {
                let mark = |is_cut| if is_cut { cut::MARK } else { "" };
                let (heading, text) = (self.heading_path(), [mark(begins), piece, mark(ends)].concat());
                self.passages.push(Passage { line: number, last_line: number, kind, heading, text });
            }
        }
    }

    /// The end of a paragraph: the passage is closed if it is long enough.
    fn paragraph(&mut self) {
        self.paragraph_ended = true;
        if self.open.as_ref().is_some_and(|open| open.text.len() >= ENOUGH_BYTES) {
            self.close();
        }
    }

    /// A heading of a level from 1: what follows stands under it.
    fn heading(&mut self, level: usize, text: &str) {
        self.close();
        self.headings.retain(|(other, _)| *other < level);
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.is_empty() {
            self.headings.push((level, cut::chars(&text, HEADING_CHARACTERS).into_owned()));
        }
    }

    /// What follows stands under no heading.
    fn no_heading(&mut self) {
        self.close();
        self.headings.clear();
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && !open.text.trim().is_empty()
        {
            self.passages.push(open);
        }
    }

    fn heading_path(&self) -> String {
        self.headings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" > ")
    }

    fn finish(mut self) -> Vec<Passage> {
        self.close();
        self.passages
    }
}

/// Where to cut `text` so that at most `limit` bytes come before: after white space if there is some near the end.
fn place(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    let end = cut::start(text, limit).len();
    match text[..end].rfind(char::is_whitespace) {
        Some(space) if space > limit / 2 => space + text[space..].chars().next().map_or(1, char::len_utf8),
        _ => end,
    }
}

/// Whether a cut at this place goes through a word.
fn is_in_word(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    !before.is_empty() && !after.is_empty() && !before.ends_with(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn prose(path: &str, text: &str) -> Vec<(u32, u32, String, String)> {
        let is_prose = |passage: &Passage| matches!(passage.kind, Kind::Prose | Kind::Comment);
        let prose = passages(path, text).into_iter().filter(is_prose);
        prose.map(|passage| (passage.line, passage.last_line, passage.heading, passage.text)).collect()
    }

    fn owned(line: u32, last_line: u32, heading: &str, text: &str) -> (u32, u32, String, String) {
        (line, last_line, heading.into(), text.into())
    }

    /// Every line of every passage is where it says it is.
    #[track_caller]
    fn check_lines(path: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        for passage in passages(path, text) {
            let count = passage.text.split('\n').count() as u32;
            assert_eq!(passage.last_line - passage.line + 1, count, "{passage:?}");
            for (offset, line) in passage.text.split('\n').enumerate() {
                let original = lines[passage.line as usize - 1 + offset];
                assert!(original.contains(line.trim()), "{original:?} does not contain {line:?}");
            }
        }
    }

    #[test]
    fn comments_on_what_is_no_subject_take_no_longer_than_others() {
        // If each looked through all that follows, this would never end.
        let text = "# of an item\n- item\n".repeat(300_000);
        assert!(!passages("a.yaml", &text).is_empty());
        let text = "# one\n- a\n# two\n- b\nname: c\n# three\n\nother: d\n# four\n";
        let headings: Vec<String> = prose("a.yaml", text).into_iter().map(|(_, _, heading, _)| heading).collect();
        assert_eq!(headings, ["name: c", "name: c", "", ""]);
    }

    #[test]
    fn markdown_keeps_headings_and_lines() {
        let text = "---\ntitle: x\n---\n# HAProxy\n\nA proxy.\n\n## TLS\n\nIt ends TLS.\nOn one port.\n\n```\n# code\n```\n\nAfter.\n\nTitle two\n=========\n\nLast.\n";
        assert_eq!(
            prose("a.md", text),
            [
                owned(6, 6, "HAProxy", "A proxy."),
                owned(10, 11, "HAProxy > TLS", "It ends TLS.\nOn one port."),
                owned(17, 17, "HAProxy > TLS", "After."),
                owned(22, 22, "Title two", "Last."),
            ]
        );
        check_lines("a.md", text);
    }

    #[test]
    fn crlf_is_a_line_end() {
        assert_eq!(prose("a.md", "# A\r\n\r\nOne.\r\nTwo.\r\n"), [owned(3, 4, "A", "One.\nTwo.")]);
    }

    #[test]
    fn long_lines_and_paragraphs_are_cut_without_losing_their_number() {
        let text = format!("short\n\n{}\n", "wörd ".repeat(5_000));
        let found = passages("a.txt", &text);
        assert!(found.len() > 10);
        assert!(found[1..].iter().all(|passage| passage.line == 3 && passage.text.len() <= MOST_LINE_BYTES));
        let unbroken = "x".repeat(100_000);
        let found = passages("a.txt", &unbroken);
        let [first, .., last] = &*found else { panic!("{}", found.len()) };
        assert_eq!((&first.text[..2], &*last.text), ("xx", &*format!("...{}", "x".repeat(100_000 % MOST_LINE_BYTES))));
        assert!(first.text.ends_with("x...") && found[1].text.starts_with("...x") && found[1].text.ends_with("x..."));
        assert_eq!(found.iter().map(|passage| passage.text.matches('x').count()).sum::<usize>(), 100_000);
    }

    #[test]
    fn comments_of_sources_are_prose_under_what_they_describe() {
        let text = "// Licence.\n\n/// Aborts all tasks.\n///\n/// # Panics\n///\n/// Never does.\npub fn abort_all(&mut self) {\n    // Inside.\n    x();\n}\n";
        assert_eq!(
            prose("a.rs", text),
            [
                owned(1, 1, "", "Licence."),
                owned(3, 3, "pub fn abort_all(&mut self)", "Aborts all tasks."),
                owned(7, 7, "pub fn abort_all(&mut self) > Panics", "Never does."),
                owned(9, 9, "x()", "Inside."),
            ]
        );
        check_lines("a.rs", text);
        let kinds: Vec<Kind> = passages("a.rs", text).iter().map(|passage| passage.kind).collect();
        assert_eq!(kinds, [Kind::Comment, Kind::Prose, Kind::Prose, Kind::Code, Kind::Comment, Kind::Code]);
        let text = "/*\n * Frees it.\n * Twice is an error.\n */\nvoid\nfree(void *p);\n";
        assert_eq!(prose("a.c", text), [owned(2, 3, "void", "Frees it.\nTwice is an error.")]);
        let text = "def f():\n    \"\"\"Does it.\n\n    Slowly.\n    \"\"\"\n    pass\n";
        assert_eq!(prose("a.py", text), [owned(2, 4, "def f()", "Does it.\n\nSlowly.")]);
    }

    #[test]
    fn html_loses_its_tags_and_keeps_its_lines() {
        let text = "<html><head><title>T</title><script>var x = 'y';</script></head>\n<body><h1>Big\nTitle</h1>\n<p>One <b>bold</b> word &amp; one\nmore.</p><p>Two.\n</p><pre>code</pre></body>\n";
        assert_eq!(prose("a.html", text), [owned(4, 5, "Big Title", "One bold word & one\nmore.\u{2029}Two.")]);
        assert!(passages("b.html", "<p>never closed <a href=\"").len() <= 1);
    }

    #[test]
    fn plain_text_has_headings_too() {
        let text =
            "LS(1)      User Commands      LS(1)\n\nNAME\n       ls - list files\n\nDESCRIPTION\n       Lists.\n";
        let found = prose("ls.txt", text);
        assert_eq!(found[0], owned(4, 4, "LS(1) > NAME", "       ls - list files"));
        assert_eq!(found[1].2, "LS(1) > DESCRIPTION");
        let text = "Title\n*****\n\nPart\n----\n\nText here.\n\nExample::\n\n    code here\n\nMore text.\n";
        let found = prose("a.rst", text);
        assert!(found.contains(&owned(7, 9, "Title > Part", "Text here.\n\nExample::")));
        assert!(found.contains(&owned(13, 13, "Title > Part", "More text.")));
    }

    #[test]
    fn hostile_text_does_not_panic() {
        for path in ["a.md", "a.html", "a.rs", "a.py", "a.txt", "a.json", "a"] {
            for text in [
                "",
                "\n",
                "\r",
                "#",
                "```",
                "~~~~",
                "<",
                "<!--",
                "<h1>",
                "&#x110000;&#0;",
                "|",
                "/*",
                "/**/",
                "\"\"\"",
                "=",
                "---",
                "\u{0}\u{1}",
                "é\u{301}",
                "::",
                ".. code::",
                "LS(1)",
                "- ",
                "> ",
                "[a]: b",
                "///",
            ] {
                if path != "a.html" {
                    check_lines(path, &text.repeat(3));
                }
                passages(path, &format!("{text}\n").repeat(50));
                passages(path, &format!("x {text} y\n\n{text}"));
            }
        }
    }
}
