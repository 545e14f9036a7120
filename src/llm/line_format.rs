//! The line format: `9. task <- 1-8`, one step a line, and `END`.
//!
//! Made for being streamed: a step is known when its line is. Ids are whole numbers, dependencies are numbers and ranges
//! of steps before it. Only where a plan is revised that has names for ids, they can be named. Nothing is guessed: what is
//! not a line of a plan is an offence.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::plan_text::{Content, DONE, DROP, End, MAX_BYTES, PlanTextFormat, Written, cut};
use super::shown;
use crate::error::PlanError;
use crate::plan::StepId;
use crate::planner::PlanRequest;
use crate::strict;

/// The most steps that the ranges of one line may name. Nothing is written out that only takes time and memory.
const MOST_IN_RANGE: u32 = 10_000;

/// What an answer begins with that stands in the place of a plan.
const ANSWER: &str = "ANSWER";
/// The last line.
const END: &str = "END";

/// What stands between a task and the steps it needs.
const ARROW: &str = "<-";

/// Reads lines as they come.
pub(super) struct LineReader {
    /// Ids of the plan that is being revised which are no numbers: one that a person wrote has such.
    names: BTreeSet<StepId>,
    /// The steps of that plan, by their lines as they were shown.
    shown: BTreeMap<String, StepId>,
    /// The beginning of a line whose end has not come.
    open: String,
    line: usize,
    bytes: usize,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Nothing but space so far.
    Before,
    /// Among the steps.
    Steps,
    /// Past the end mark.
    Ended,
    /// Nothing is missing, says the model.
    Done,
    /// Inside an answer.
    Answer(String),
    /// Longer than a plan can be.
    Overlong,
}

type Take<'a> = &'a mut dyn FnMut(Result<Written, PlanError>);

impl LineReader {
    pub(super) fn new(request: &PlanRequest) -> Self {
        let shown = shown::ids(PlanTextFormat::Lines, request, |line| Some(bare(line).to_owned()));
        Self::of(shown)
    }

    fn of(shown: BTreeMap<String, StepId>) -> Self {
        let names = shown.values().filter(|id| is_name(id.as_str())).cloned().collect();
        Self { names, shown, open: String::new(), line: 0, bytes: 0, state: State::Before }
    }

    pub(super) fn begin_anew(&mut self) {
        *self = Self::of(std::mem::take(&mut self.shown));
    }

    pub(super) fn push(&mut self, piece: &str, take: Take<'_>) {
        self.bytes += piece.len();
        if self.bytes > MAX_BYTES {
            if self.state != State::Overlong {
                self.state = State::Overlong;
                let (count, limit) = (self.bytes as u64, MAX_BYTES as u64);
                take(Err(PlanError::TooLarge { what: "bytes".into(), count, limit }));
            }
            return;
        }
        let mut rest = piece;
        while let Some((end, after)) = rest.split_once('\n') {
            self.open.push_str(end);
            let line = std::mem::take(&mut self.open);
            self.take_line(&line, take);
            rest = after;
        }
        self.open.push_str(rest);
    }

    /// A line that is still open may be half a line: it counts only once a line break was pushed.
    pub(super) fn finish(self) -> End {
        match self.state {
            // That it is too long was said, and nobody knows how it ends.
            State::Ended | State::Overlong => End::Whole,
            State::Done => End::Done,
            State::Answer(text) => {
                let text = text.trim();
                let before = text.strip_suffix(END).filter(|text| text.is_empty() || text.ends_with('\n'));
                End::Answer(before.unwrap_or(text).trim_end().to_owned())
            }
            State::Before | State::Steps => End::CutOff,
        }
    }

    fn take_line(&mut self, line: &str, take: Take<'_>) {
        self.line += 1;
        if let State::Answer(text) = &mut self.state {
            text.push_str(line);
            text.push('\n');
            return;
        }
        let line = bare(line);
        // A fence around a plan says nothing about the plan.
        if line.is_empty() || is_fence(line) {
            return;
        }
        match (&self.state, line) {
            (State::Before | State::Steps, END) => self.state = State::Ended,
            (State::Before, DONE) => self.state = State::Done,
            (State::Done, END) => {}
            (State::Before | State::Steps, _) => match answer(line).filter(|_| self.state == State::Before) {
                Some(answer) => self.state = State::Answer(format!("{answer}\n")),
                None => {
                    self.state = State::Steps;
                    let number = self.line;
                    take(self.step(line).map_err(|message| malformed(number, &message)));
                }
            },
            (State::Ended | State::Done, _) => {
                take(Err(malformed(self.line, &format!("text after the end: `{}`", cut(line)))));
            }
            (State::Answer(_) | State::Overlong, _) => {}
        }
    }

    /// Reads the line of a step.
    fn step(&self, line: &str) -> Result<Written, String> {
        if let Some(id) = self.shown.get(line) {
            return Ok(Written::as_shown(id));
        }
        let not_a_step = || format!("not a step, which would be a number, a point and a task: `{}`", cut(line));
        // `2.5 billion` is the rest of a line that was wrapped.
        let is_number = |rest: &str| rest.trim_start_matches(is_invisible).starts_with(char::is_numeric);
        let (id, rest) = line.split_once('.').filter(|(_, rest)| !is_number(rest)).ok_or_else(not_a_step)?;
        let id = self.id(id).ok_or_else(not_a_step)?;
        let rest = bare(rest);
        if let Some(call) = rest.strip_prefix('@') {
            return self.call(id, call);
        }
        let (task, depends_on) = self.parted(&id, rest)?;
        let content = match task {
            "" => return Err(format!("step {id} says nothing")),
            DROP => Content::Drop,
            task => Content::Task(task.to_owned()),
        };
        Ok(Written { id, content, depends_on })
    }

    /// Reads `tool {"argument": 1} <- 2`, of which only the name has to be there.
    fn call(&self, id: String, text: &str) -> Result<Written, String> {
        #[derive(Deserialize)]
        struct Arguments(#[serde(deserialize_with = "strict::value")] Value);

        let end = text.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(text.len());
        let (tool, rest) = text.split_at(end);
        if tool.is_empty() {
            return Err(format!("step {id} has no tool after the @"));
        }
        let mut rest = bare(rest);
        let mut args = Value::Null;
        if rest.starts_with('{') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Arguments>();
            match values.next() {
                Some(Ok(Arguments(value))) => args = value,
                Some(Err(error)) => return Err(format!("the arguments of step {id} are not JSON: {error}")),
                None => {}
            }
            rest = rest[values.byte_offset()..].trim_start();
        }
        let (description, depends_on) = self.parted(&id, rest)?;
        let content = Content::Call { tool: tool.to_owned(), args, description: description.to_owned() };
        Ok(Written { id, content, depends_on })
    }

    /// Parts `task <- 1-8`. What could be meant as an arrow and is none, or is one too many, would lose dependencies.
    fn parted<'t>(&self, id: &str, text: &'t str) -> Result<(&'t str, Vec<String>), String> {
        let (task, depends_on) = match text.rsplit_once(ARROW) {
            Some((task, list)) => (bare(task), self.dependencies(id, bare(list))?),
            None => (bare(text), Vec::new()),
        };
        if !self.ends_in_steps(id, task) {
            return Ok((task, depends_on));
        }
        Err(format!(
            "step {id} names steps after an arrow that is not {ARROW}, or after a second one: write all that it needs \
             after one {ARROW} at its end, such as {ARROW} 1,4-6, or put the task in other words"
        ))
    }

    /// Whether a task ends in an arrow of whatever kind and nothing but numbers, such as `<= 1` or `← 1-3`. An arrow in
    /// the middle of words is part of the task, and so is `<= 100` where that cannot be an earlier step.
    fn ends_in_steps(&self, id: &str, task: &str) -> bool {
        let task = task.replace(is_invisible, "").replace("&lt;", "<").replace("&gt;", ">");
        let Some((at, point)) = task.char_indices().rfind(|(_, c)| "<>‹›«»＜".contains(*c) || is_arrow(*c))
        else {
            return false;
        };
        let (before, list) = (task[..at].trim_end(), task[at + point.len_utf8()..].trim_start());
        let has_shaft = is_arrow(point) || before.ends_with(is_shaft) || list.starts_with(is_shaft);
        let is_compared = (before.ends_with('=') || list.starts_with('=')) && !is_arrow(point);
        let numbers = list.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        if is_compared && id.parse().is_ok_and(|own: u64| numbers.max().is_some_and(|number| number >= own)) {
            return false;
        }
        let in_list = |c: char| c.is_numeric() || c.is_whitespace() || is_shaft(c) || ",;.#&".contains(c);
        let names_steps = || self.dependencies("", list.trim_start_matches(is_shaft)).is_ok();
        has_shaft && (list.contains(char::is_numeric) && list.chars().all(in_list) || names_steps())
    }

    /// Reads `1-8, 10`: whatever stands after the arrow has to be ids, or a dependency could get lost.
    fn dependencies(&self, id: &str, list: &str) -> Result<Vec<String>, String> {
        let bad =
            |part: &str| format!("step {id} depends on `{}`, which is no number and no range such as 1-8", cut(part));
        let (mut ids, mut listed) = (Vec::new(), 0_u32);
        for part in list.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()) {
            if let Some(id) = self.id(part) {
                ids.push(id);
                continue;
            }
            let (first, last) = part.split_once('-').ok_or_else(|| bad(part))?;
            let width = first.trim().len();
            let (Some(first), Some(last)) = (number(first.trim()), number(last.trim())) else { return Err(bad(part)) };
            if first > last {
                return Err(format!("step {id} depends on `{part}`, a range that runs backwards"));
            }
            // Steps are few, so a range that leads far past this step is a slip: only its first number is looked at.
            let most = number(id).unwrap_or(u32::MAX);
            let last = if last > most { first.max(most) } else { last };
            listed = listed.saturating_add(last - first);
            if listed >= MOST_IN_RANGE {
                return Err(format!(
                    "step {id} depends on `{}`: more than {MOST_IN_RANGE} steps are listed",
                    cut(part)
                ));
            }
            ids.extend((first..=last).filter_map(|number| self.id(&format!("{number:0width$}"))));
        }
        if ids.is_empty() {
            return Err(format!("step {id} has an arrow and nothing after it"));
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        Ok(ids)
    }

    /// One of the names, or a number as it is usually written.
    fn id(&self, text: &str) -> Option<String> {
        let name = self.names.contains(text).then(|| text.to_owned());
        name.or_else(|| number(text).map(|number| number.to_string()))
    }
}

/// `text` without what nobody sees at its ends. Inside of words, it may belong to them.
fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Whether a character has no shape of its own: what Unicode calls default ignorable.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a line is one of a code fence: with the name of a language at most.
fn is_fence(line: &str) -> bool {
    let fence = line.trim_start_matches('`');
    line.len() - fence.len() >= 3 && fence.trim().bytes().all(|b| b.is_ascii_alphanumeric())
}

/// What stands after the mark of an answer, if that is what the line begins with.
fn answer(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(ANSWER)?;
    let is_mark = rest.is_empty() || rest.starts_with(|c: char| c == ':' || c.is_whitespace());
    is_mark.then(|| rest.trim_start_matches(':').trim_start())
}

fn is_arrow(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21ff}' | '\u{27f0}'..='\u{27ff}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2b11}')
}

/// Whether this can be the line of an arrow.
fn is_shaft(c: char) -> bool {
    matches!(c, '-' | '=' | '~' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}')
}

fn malformed(line: usize, message: &str) -> PlanError {
    PlanError::Malformed { message: format!("line {line}: {message}") }
}

/// Whether an id is none that a number would be taken for, such as `compare`, `01` or one of ten digits.
fn is_name(id: &str) -> bool {
    number(id).is_none_or(|number| number.to_string() != id)
}

/// A whole number without a sign, at most nine digits long.
pub(super) fn number(text: &str) -> Option<u32> {
    const DIGITS: usize = 9;
    let is_number = (1..=DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is read if the text comes in pieces of `size` bytes, and stops cleanly.
    fn read(text: &str, size: usize) -> (Vec<Result<Written, PlanError>>, End) {
        let shown = ["boil", "n-1"].map(|name| (format!("{name}. as it was"), name.into()));
        let mut reader = LineReader::of(shown.into());
        let mut found = Vec::new();
        let text = format!("{text}\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
            reader.push(piece, &mut |written| found.push(written));
            rest = after;
        }
        (found, reader.finish())
    }

    fn task(id: &str, task: &str, depends_on: &[&str]) -> Result<Written, PlanError> {
        let depends_on = depends_on.iter().map(|id| (*id).to_owned()).collect();
        Ok(Written { id: id.into(), content: Content::Task(task.into()), depends_on })
    }

    fn offences(text: &str) -> Vec<String> {
        read(text, usize::MAX).0.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect()
    }

    #[test]
    fn steps_are_the_same_however_the_text_comes() {
        let text = "1. look up ä\n2. look up b\n3. compare <- 1-2\nEND\n";
        let expected =
            vec![task("1", "look up ä", &[]), task("2", "look up b", &[]), task("3", "compare", &["1", "2"])];
        for size in [1, 2, 3, 7, 1_000] {
            assert_eq!(read(text, size), (expected.clone(), End::Whole));
        }
        assert_eq!(read(text.trim_end(), 4), (expected.clone(), End::Whole));
        assert_eq!(read(&format!("```\n{text}```"), 5), (expected, End::Whole));
    }

    #[test]
    fn a_step_is_known_when_its_line_is() {
        let mut reader = LineReader::of(BTreeMap::new());
        let mut count = 0;
        reader.push("1. a\n2. b", &mut |_| count += 1);
        assert_eq!(count, 1);
        reader.push("\n", &mut |_| count += 1);
        assert_eq!(count, 2);
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_step() {
        let mut reader = LineReader::of(BTreeMap::new());
        let mut count = 0;
        reader.push("1. a\n2. compare the pri", &mut |_| count += 1);
        assert_eq!((count, reader.finish()), (1, End::CutOff));
        assert_eq!(read("", 1), (vec![], End::CutOff));
    }

    #[test]
    fn tools_are_called_with_arguments_that_may_hold_anything() {
        let (found, _) = read("4. @search_files {\"query\": \"a <- 3 \\\" }\"} <- 1, 3\n5. @now\nEND", 100);
        let call = |id: &str, tool: &str, args, depends_on: &[&str]| {
            let content = Content::Call { tool: tool.into(), args, description: String::new() };
            let depends_on = depends_on.iter().map(|id| (*id).to_owned()).collect();
            Ok(Written { id: id.into(), content, depends_on })
        };
        let search = call("4", "search_files", json!({ "query": "a <- 3 \" }" }), &["1", "3"]);
        assert_eq!(found, [search, call("5", "now", Value::Null, &[])]);
    }

    #[test]
    fn what_is_no_line_of_a_plan_is_an_offence_with_its_line() {
        for (text, offence) in [
            ("Sure! Here is the plan:\n1. a\nEND", "line 1: not a step"),
            ("1. a\n\n- b\nEND", "line 3: not a step"),
            ("1. a\n2. b <- one\nEND", "line 2: step 2 depends on `one`"),
            ("1. a\n2. b <- 1 and 2\nEND", "line 2: step 2 depends on `and`"),
            ("1. a\n3. b <- 2-1\nEND", "line 2: step 3 depends on `2-1`, a range that runs backwards"),
            ("1. a <-\nEND", "line 1: step 1 has an arrow and nothing after it"),
            ("1. <- 2\nEND", "line 1: step 1 says nothing"),
            ("1.\nEND", "line 1: step 1 says nothing"),
            ("1. @ {}\nEND", "line 1: step 1 has no tool after the @"),
            ("1. @a {\"b\": 1, \"b\": 2}\nEND", "line 1: the arguments of step 1 are not JSON"),
            ("1. a\nEND\nI hope this helps!", "line 3: text after the end"),
            ("99999999999. a\nEND", "line 1: not a step"),
            ("```1. a```\nEND", "line 1: not a step"),
            ("1. a\n```2. b\nEND", "line 2: not a step"),
            ("ANSWERS are all there. DONE", "line 1: not a step"),
            ("1. a\n2. b\nEnd", "line 3: not a step"),
            ("1. the size is\n2.5 billion dollars <- 1\nEND", "line 2: not a step"),
            ("1.1. find a\nEND", "line 1: not a step"),
            ("{\"steps\": []}", "line 1: not a step"),
        ] {
            let found = offences(text);
            assert!(found.len() == 1 && found[0].starts_with(offence), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn steps_of_a_plan_that_a_person_wrote_have_names() {
        let (found, end) = read("1. warm the pot\nboil. heat water <- 1, n-1\nn-1. DROP <- 1\nEND", 9);
        let drop = Ok(Written { id: "n-1".into(), content: Content::Drop, depends_on: vec!["1".into()] });
        assert_eq!(found, [task("1", "warm the pot", &[]), task("boil", "heat water", &["1", "n-1"]), drop]);
        assert_eq!(end, End::Whole);
    }

    #[test]
    fn an_arrow_that_is_none_or_one_too_many_is_an_offence() {
        for tail in [
            "← 1",
            "⟵ 1",
            "⬅\u{fe0f} 1",
            "<= 1",
            "&lt;- 1",
            "<~ 1",
            "< - 1",
            "‹– 1",
            "<— 1",
            "＜－ １",
            "<== 1,2",
            "⇐ 1–2",
            "← 1;2",
            "← #1",
            "← 1..2",
            "-> 1",
            "=> 1",
            "&gt;→ 1",
            "⇐ boil",
            "<= n-1",
            "<- 1 <- 2",
            "← 1 <- 2",
            "<-- 1",
            "<\u{200b}- 1",
            "<\u{2060}- 1",
            "<\u{ad}- 1",
            "<\u{fe0f}- \u{200b}boil",
        ] {
            for text in [format!("3. b {tail}\nEND"), format!("3. @b {{\"c\": 1}} {tail}\nEND")] {
                let found = offences(&text);
                assert!(found.len() == 1 && found[0].starts_with("line 1: step 3 "), "{text:?}: {found:?}");
            }
        }
        // One in the middle of words is part of the task.
        for words in [
            "keep what costs <= 100",
            "show that x <= 1 for all y",
            "is 1 < 2",
            "pages 4 - 7",
            "press ← to go back",
            "explain x <- y in R",
        ] {
            let (found, _) = read(&format!("3. {words} <- 1\nEND"), 100);
            assert_eq!(found, [task("3", words, &["1"])]);
        }
    }

    #[test]
    fn what_nobody_sees_hides_nothing() {
        let (found, end) = read(
            "\u{feff}1. a\u{200b} \u{200b}<- 2\u{2060}\n2.\u{200b} DROP\u{200b}\n3. \u{200b}@b \u{ad}{\"c\": 1}\n\u{200b}END",
            5,
        );
        let drop = Ok(Written { id: "2".into(), content: Content::Drop, depends_on: Vec::new() });
        let content = Content::Call { tool: "b".into(), args: json!({ "c": 1 }), description: String::new() };
        let call = Ok(Written { id: "3".into(), content, depends_on: Vec::new() });
        assert_eq!((found.as_slice(), end), ([task("1", "a", &["2"]), drop, call].as_slice(), End::Whole));
        // Inside of words it belongs to them.
        let (found, _) = read("1. می\u{200c}خواهم 👩\u{200d}💻 x\nEND", 100);
        assert_eq!(found, [task("1", "می\u{200c}خواهم 👩\u{200d}💻 x", &[])]);
    }

    #[test]
    fn a_range_that_leads_far_ahead_costs_nothing() {
        let (found, _) = read("1. a <- 1-999999999\nEND", 100);
        assert_eq!(found, [task("1", "a", &["1"])]);
        // A plan of some bytes would take gigabytes.
        for line in ["900000000. b <- 1-899999999", "boil. b <- 1-999999999", "20000. b <- 1-9000, 9001-19000"] {
            let found = offences(&format!("{line}\nEND"));
            assert!(found.len() == 1 && found[0].contains("more than 10000 steps are listed"), "{line}: {found:?}");
        }
        let (found, _) = read("10000. b <- 1-9999\nEND", 100);
        assert_eq!(found[0].as_ref().map(|step| step.depends_on.len()), Ok(9_999));
    }

    #[test]
    fn an_answer_or_nothing_more_can_stand_for_a_plan() {
        assert_eq!(read("DONE", 3), (vec![], End::Done));
        assert_eq!(read("DONE\nEND", 3), (vec![], End::Done));
        assert_eq!(read("ANSWER: in the END\nEND\n", 3), (vec![], End::Answer("in the END".into())));
        assert_eq!(read("ANSWER\nEND", 3), (vec![], End::Answer(String::new())));
        assert_eq!(read("ANSWER\nIt is\n1. Paris.\n", 3), (vec![], End::Answer("It is\n1. Paris.".into())));
    }
}
