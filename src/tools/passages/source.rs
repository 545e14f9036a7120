//! Program text: comments are prose about the line that follows them, the rest is code.

use super::markup::markdown;
use super::{Cutter, Kind, Line};

/// How a language writes comments that take whole lines.
pub(super) struct Comments {
    /// Marks of comments to the end of the line, longest first.
    line: &'static [&'static str],
    /// Opening and closing marks of comments over several lines.
    block: &'static [(&'static str, &'static str)],
    /// Whether a block describes the line before it, not the one after.
    after: bool,
}

const C: Comments = Comments { line: &["///", "//!", "//"], block: &[("/*", "*/")], after: false };
const HASH: Comments = Comments { line: &["##", "#!", "#"], block: &[], after: false };
const PYTHON: Comments =
    Comments { line: &["#"], block: &[("\"\"\"", "\"\"\""), ("r\"\"\"", "\"\"\""), ("'''", "'''")], after: true };
const DASHES: Comments = Comments { line: &["-- |", "--"], block: &[("/*", "*/"), ("{-", "-}")], after: false };
const LISP: Comments = Comments { line: &[";;;", ";;", ";"], block: &[], after: false };
const TEX: Comments = Comments { line: &["%"], block: &[], after: false };

impl Comments {
    /// The comments of the language that an extension, or the name of a file without one, tells.
    pub(super) fn of(extension: &str, name: &str) -> Option<Self> {
        match extension {
            "rs" | "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" | "hh" | "java" | "js" | "mjs" | "cjs" | "ts" | "tsx"
            | "jsx" | "go" | "kt" | "kts" | "swift" | "scala" | "cs" | "php" | "proto" | "dart" | "zig" | "scss"
            | "less" | "cocci" | "vala" => Some(C),
            "sh" | "bash" | "zsh" | "fish" | "toml" | "yaml" | "yml" | "rb" | "pl" | "pm" | "conf" | "cfg"
            | "cmake" | "mk" | "awk" | "tcl" | "r" | "ex" | "exs" | "nix" | "properties" => Some(HASH),
            "py" | "pyi" => Some(PYTHON),
            "sql" | "lua" | "hs" | "elm" | "ada" | "adb" | "ads" => Some(DASHES),
            "el" | "lisp" | "clj" | "scm" | "ini" | "s" | "asm" => Some(LISP),
            "sty" | "cls" | "erl" => Some(TEX),
            "" if matches!(name, "Makefile" | "Dockerfile" | "GNUmakefile" | "Justfile") => Some(HASH),
            _ => None,
        }
    }
}

/// Cuts program text.
pub(super) fn source(lines: &[Line<'_>], comments: &Comments, cutter: &mut Cutter) {
    let mut rest = lines;
    let mut before = "";
    let mut in_string = false;
    // Where what follows a comment ends, or there is what that is about: what is looked through once is not again.
    let mut stop = 0;
    while let Some((line, after)) = rest.split_first() {
        let comment = if in_string { Comment::default() } else { comment(rest, comments) };
        if comment.length > 0 {
            rest = &rest[comment.length..];
            cutter.no_heading();
            let subject = match comment.in_block && comments.after {
                true => Some(before).filter(is_subject),
                // What does not follow at once is not what it is about: a licence, say.
                false => {
                    let at = lines.len() - rest.len();
                    let stops = |line: &Line<'_>| line.text.trim().is_empty() || is_subject(&line.text.trim());
                    if stop < at {
                        stop = at + rest.iter().position(stops).unwrap_or(rest.len());
                    }
                    lines.get(stop).map(|line| line.text.trim()).filter(is_subject)
                }
            };
            let subject = subject.unwrap_or_default();
            // Headings inside of the comment are of lower levels.
            if !comment.is_inner {
                cutter.heading(0, signature(subject));
            }
            cutter.in_comment = !comment.is_documentation;
            markdown(&comment.lines, cutter);
            cutter.no_heading();
            cutter.in_comment = false;
            continue;
        }
        match line.text.trim().is_empty() {
            true => cutter.paragraph(),
            false => {
                cutter.line(Kind::Code, line.number, line.text);
                before = line.text.trim();
                // A string that begins in the middle of a line is no comment, and neither is its end.
                in_string ^=
                    comments.after && comments.block.iter().any(|(_, mark)| before.matches(mark).count() % 2 == 1);
            }
        }
        rest = after;
    }
}

#[derive(Default)]
struct Comment<'a> {
    /// How many lines of the file it takes.
    length: usize,
    /// Its lines, without the marks.
    lines: Vec<Line<'a>>,
    in_block: bool,
    /// Whether it says that it describes what it stands in.
    is_inner: bool,
    /// Whether it is written for those who use the program.
    is_documentation: bool,
}

/// The comment at the beginning of `lines`.
fn comment<'a>(lines: &[Line<'a>], comments: &Comments) -> Comment<'a> {
    let first = lines.first().map_or("", |line| line.text.trim());
    if let Some(mark) = comments.line.iter().find(|mark| first.starts_with(**mark)) {
        let text = |line: &Line<'a>| line.text.trim().strip_prefix(mark).filter(|text| !text.starts_with('/'));
        let lines: Vec<Line<'a>> = lines
            .iter()
            .map_while(|line| text(line).map(|text| Line { number: line.number, text: without_blank(text) }))
            .collect();
        return Comment {
            length: lines.len(),
            lines,
            in_block: false,
            is_inner: *mark == "//!",
            is_documentation: matches!(*mark, "///" | "//!" | "-- |" | ";;;"),
        };
    }
    let Some((open, close)) = comments.block.iter().find(|(open, _)| first.starts_with(open)) else {
        return Comment::default();
    };
    let is_documentation = comments.after || first.starts_with("/**");
    let mut comment = Comment { in_block: true, is_documentation, ..Comment::default() };
    for line in lines {
        let text = line.text.trim();
        let text = if comment.length == 0 { &text[open.len()..] } else { text };
        comment.length += 1;
        let end = text.find(close);
        let text = &text[..end.unwrap_or(text.len())];
        // Stars down the left side are decoration.
        let text = text.trim_start_matches(['*', '!']);
        comment.lines.push(Line { number: line.number, text: without_blank(text).trim_end_matches(['*', ' ']) });
        if end.is_some() {
            break;
        }
    }
    comment
}

fn without_blank(text: &str) -> &str {
    text.strip_prefix(' ').unwrap_or(text)
}

/// Whether a line of code can be what a comment before it is about: attributes and brackets cannot.
fn is_subject(text: &&str) -> bool {
    text.starts_with(|character: char| character.is_alphanumeric() || character == '_')
}

fn signature(line: &str) -> &str {
    line.trim_end_matches(|character: char| character.is_whitespace() || "{:;,=(".contains(character))
}

/// Cuts what is neither text nor has comments.
pub(super) fn data(lines: &[Line<'_>], cutter: &mut Cutter) {
    for line in lines {
        match line.text.trim().is_empty() {
            true => cutter.paragraph(),
            false => cutter.line(Kind::Code, line.number, line.text),
        }
    }
}
