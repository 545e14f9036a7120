//! What a model thinks aloud before it answers, where its server does not keep that apart.

use crate::cut;

/// Between these. `[THINK]` is Magistral's.
const MARKS: &[(&str, &str)] = &[("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")];

/// Parts an answer from what was thought before it, as it comes.
#[derive(Default)]
pub(super) struct Thinking {
    state: State,
    /// What has come and is still needed: all before the answer, the end of a thought, or the line that is open.
    held: String,
}

#[derive(Default)]
enum State {
    /// Nothing but space so far.
    #[default]
    Before,
    /// In a thought that ends with this.
    Inside(&'static str),
    /// In the answer, or in a thought that the template of the chat began: its mark is then no part of the text.
    Open,
    /// In the answer.
    Answer,
}

/// A part of an answer.
pub(super) enum Part<'a> {
    Text(&'a str),
    /// All so far was a thought: the answer begins here.
    Anew,
}

impl Thinking {
    pub(super) fn push(&mut self, piece: &str, take: &mut dyn FnMut(Part<'_>)) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = self.go_on(rest, take);
        }
    }

    /// Takes up some of a piece, and gives back what is left of it.
    fn go_on<'p>(&mut self, piece: &'p str, take: &mut dyn FnMut(Part<'_>)) -> &'p str {
        match self.state {
            State::Before => self.begin(piece, take),
            State::Inside(close) => {
                // No mark has such a character before its end.
                let end = piece.find(['>', ']']).map_or(piece.len(), |at| at + 1);
                self.held.push_str(&piece[..end]);
                if self.held.ends_with(close) {
                    self.held.clear();
                    self.state = State::Before;
                } else {
                    let past = cut::start(&self.held, self.held.len().saturating_sub(close.len())).len();
                    self.held.drain(..past);
                }
                &piece[end..]
            }
            State::Open => self.take_line(piece, take),
            State::Answer => {
                take(Part::Text(piece));
                ""
            }
        }
    }

    /// Takes up the next character of what may be a mark. All that is held is space, and then what has come of the mark.
    fn begin<'p>(&mut self, piece: &'p str, take: &mut dyn FnMut(Part<'_>)) -> &'p str {
        let Some(c) = piece.chars().next() else { return "" };
        let known = self.held.rsplit(char::is_whitespace).next().map_or(0, str::len);
        let begins = self.held.len() - known;
        self.held.push(c);
        let begun = &self.held[begins..];
        if let Some((_, close)) = MARKS.iter().find(|(open, _)| *open == begun) {
            self.held.clear();
            self.state = State::Inside(close);
        } else if !begun.trim_start().is_empty() && !MARKS.iter().any(|(open, _)| open.starts_with(begun)) {
            self.held.pop();
            take(Part::Text(&self.held));
            let line = self.held.rfind('\n').map_or(0, |at| at + 1);
            self.held.drain(..line);
            self.state = State::Open;
            return piece;
        }
        &piece[c.len_utf8()..]
    }

    /// Takes up the rest of a line, or what there is of it.
    fn take_line<'p>(&mut self, piece: &'p str, take: &mut dyn FnMut(Part<'_>)) -> &'p str {
        let end = piece.find('\n').map_or(piece.len(), |at| at + 1);
        let (now, later) = piece.split_at(end);
        self.held.push_str(now);
        if !now.ends_with('\n') {
            take(Part::Text(now));
            return later;
        }
        // Whoever writes the beginning of a thought here speaks of it.
        if MARKS.iter().any(|(open, _)| self.held.contains(open)) {
            self.held.clear();
            self.state = State::Answer;
            return piece;
        }
        match behind(&self.held) {
            None => take(Part::Text(now)),
            Some(answer) => {
                take(Part::Anew);
                if answer.trim().is_empty() {
                    self.held = answer.to_owned();
                    self.state = State::Before;
                    return later;
                }
                take(Part::Text(answer));
            }
        }
        self.held.clear();
        later
    }
}

/// What stands behind the last end of a thought in a line that has one. Elsewhere than at an end of the line it is spoken
/// of, and so it is in a line that has a number, which may be a step of a plan.
fn behind(line: &str) -> Option<&str> {
    let whole = line.trim_end();
    let mut behind = None;
    let mut rest = whole.trim_start();
    while let Some(after) = MARKS.iter().find_map(|(_, close)| {
        let ends = || rest.ends_with(close) && !rest.starts_with(|c: char| c.is_ascii_digit());
        rest.strip_prefix(close).or_else(|| ends().then_some(""))
    }) {
        behind = Some(whole.len() - after.len());
        rest = after.trim_start();
    }
    behind.map(|begin| &line[begin..])
}

/// A whole answer without what was thought before it. Nothing is left of one that is all thought.
pub(super) fn without_thinking(text: &str) -> String {
    let mut thinking = Thinking::default();
    let mut answer = String::new();
    for piece in [text, "\n"] {
        thinking.push(piece, &mut |part| match part {
            Part::Text(text) => answer.push_str(text),
            Part::Anew => answer.clear(),
        });
    }
    answer.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_before_an_answer_is_left_out() {
        for (text, answer) in [
            ("3", "3"),
            ("<think>\nhm\n</think>\n\n3", "3"),
            ("\n <think></think>3\n", "3"),
            ("<thinking>1. hm</thinking> 3", "3"),
            ("[THINK]hm[/THINK]3", "3"),
            ("<think>a</think>\n<think>b</think>\n3 and\n4", "3 and\n4"),
            // The template began it.
            ("hm\n1. so\n</think>\n\n3", "3"),
            ("</think>3", "3"),
            ("it is 3, so.</think>\n3", "3"),
            // It never ends.
            ("<think>\nhm", ""),
            ("<think>\nhm\n</thin", ""),
            ("hm\n</think>", ""),
            ("", ""),
            // It is only spoken of.
            ("Between <think> and </think> it thinks.", "Between <think> and </think> it thinks."),
            ("It uses <think> and </think>\n3", "It uses <think> and </think>\n3"),
            ("Such as:\n<think>\nhm\n</think>\n3", "Such as:\n<think>\nhm\n</think>\n3"),
            ("1. Explain </think>\nEND", "1. Explain </think>\nEND"),
            ("<thin", "<thin"),
            ("<b>3</b>", "<b>3</b>"),
        ] {
            assert_eq!(without_thinking(text), answer, "{text:?}");
            assert_eq!(in_pieces(text), answer, "{text:?}");
        }
    }

    /// As [`without_thinking`], for a text that comes character by character.
    fn in_pieces(text: &str) -> String {
        let mut thinking = Thinking::default();
        let mut found = String::new();
        for c in format!("{text}\n").chars() {
            thinking.push(c.encode_utf8(&mut [0; 4]), &mut |part| match part {
                Part::Text(text) => found.push_str(text),
                Part::Anew => found.clear(),
            });
        }
        found.trim().to_owned()
    }

    #[test]
    fn many_marks_are_read_like_few() {
        const MANY: usize = 200_000;
        for (many, answer) in [
            ("a</think>\n", "3"),
            ("</think>", "3"),
            ("</think> \n\n", "3"),
            ("<think>a</think>", "3"),
            ("<think></thinking>", ""),
            ("\n ", "3"),
        ] {
            let text = format!("{}3", many.repeat(MANY));
            for found in [without_thinking(&text), in_pieces(&text)] {
                assert!(found == answer, "{many:?}: {}", found.len());
            }
        }
    }
}
