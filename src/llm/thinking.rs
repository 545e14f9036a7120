//! What a model thinks aloud before it answers, where its server does not keep that apart.

use super::text;

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
        match self.state {
            State::Before => {
                self.held.push_str(piece);
                let begun = self.held.trim_start();
                let inside = MARKS.iter().find_map(|(open, close)| Some((*close, begun.strip_prefix(open)?)));
                if let Some((close, rest)) = inside {
                    self.go_on(State::Inside(close), rest.to_owned(), take);
                } else if !MARKS.iter().any(|(open, _)| open.starts_with(begun)) {
                    let held = std::mem::take(&mut self.held);
                    self.go_on(State::Open, held, take);
                }
            }
            State::Inside(close) => {
                self.held.push_str(piece);
                match self.held.split_once(close) {
                    Some((_, rest)) => self.go_on(State::Before, rest.to_owned(), take),
                    None => {
                        let past = text::start(&self.held, self.held.len().saturating_sub(close.len())).len();
                        self.held.drain(..past);
                    }
                }
            }
            State::Open => self.push_lines(piece, take),
            State::Answer => take(Part::Text(piece)),
        }
    }

    fn go_on(&mut self, state: State, rest: String, take: &mut dyn FnMut(Part<'_>)) {
        self.state = state;
        self.held.clear();
        self.push(&rest, take);
    }

    fn push_lines(&mut self, piece: &str, take: &mut dyn FnMut(Part<'_>)) {
        let mut rest = piece;
        while let Some(end) = rest.find('\n') {
            let (now, later) = rest.split_at(end + 1);
            self.held.push_str(now);
            // Whoever writes the beginning of a thought here speaks of it.
            if MARKS.iter().any(|(open, _)| self.held.contains(open)) {
                return self.go_on(State::Answer, rest.to_owned(), take);
            }
            if let Some(answer) = behind(&self.held) {
                take(Part::Anew);
                let answer = format!("{answer}{later}");
                return self.go_on(State::Before, answer, take);
            }
            take(Part::Text(now));
            self.held.clear();
            rest = later;
        }
        self.held.push_str(rest);
        take(Part::Text(rest));
    }
}

/// What stands behind the end of a thought in a line that has one. Elsewhere than at an end of the line it is spoken of,
/// and so it is in a line that has a number, which may be a step of a plan.
fn behind(line: &str) -> Option<&str> {
    let line = line.trim_start();
    MARKS.iter().find_map(|(_, close)| {
        let ends = || line.trim_end().ends_with(close) && !line.starts_with(|c: char| c.is_ascii_digit());
        line.strip_prefix(close).or_else(|| ends().then_some("\n"))
    })
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
            let mut thinking = Thinking::default();
            let mut found = String::new();
            for c in format!("{text}\n").chars() {
                thinking.push(c.encode_utf8(&mut [0; 4]), &mut |part| match part {
                    Part::Text(text) => found.push_str(text),
                    Part::Anew => found.clear(),
                });
            }
            assert_eq!(found.trim(), answer, "{text:?}");
        }
    }
}
