//! What models are told: the built-in texts, and own ones in their place.

use std::borrow::Cow;
use std::collections::BTreeMap;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The built-in texts by name.
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!($name, ".md")))),*];
    };
}
built_in!(
    "planner",
    "planner_json",
    "tools",
    "revision",
    "review",
    "correction",
    "answer",
    "step",
    "step_inputs",
    "step_tools",
);

/// What models are told. Words in braces, such as `{max_steps}`, are filled in.
///
/// ```
/// use plandag::llm::Prompts;
///
/// let mut prompts = Prompts::default();
/// assert!(prompts.replace("step", "Do the task in French."));
/// assert_eq!(prompts.get("step"), "Do the task in French.");
/// assert!(!prompts.replace("sonnet", "..."), "there is no such prompt");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    own: BTreeMap<&'static str, String>,
}

impl Prompts {
    /// The names of all prompts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A prompt; nothing under a name that is none.
    pub fn get(&self, name: &str) -> &str {
        let built_in = || BUILT_IN.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
        self.own.get(name).map_or_else(built_in, String::as_str).trim_end()
    }

    /// Puts an own text in the place of a built-in one. False: there is no prompt of this name.
    pub fn replace(&mut self, name: &str, text: impl Into<String>) -> bool {
        match Self::names().find(|known| *known == name) {
            Some(known) => {
                self.own.insert(known, text.into());
                true
            }
            None => false,
        }
    }

    /// A prompt with its words in braces filled in. What is filled in is not looked at again.
    pub(super) fn filled(&self, name: &str, words: &[(&str, Cow<'_, str>)]) -> String {
        let mut rest = self.get(name);
        let mut filled = String::with_capacity(rest.len());
        while let Some(at) = rest.find('{') {
            let (before, tail) = rest.split_at(at);
            filled.push_str(before);
            let known = words.iter().find_map(|(word, value)| {
                let after = tail.strip_prefix('{')?.strip_prefix(word)?.strip_prefix('}')?;
                Some((value, after))
            });
            match known {
                Some((value, after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = &tail[1..];
                }
            }
        }
        filled.push_str(rest);
        filled.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_in_once() {
        let mut prompts = Prompts::default();
        prompts.replace("review", "{a} and {b}, {c} {");
        let words = [("a", Cow::Borrowed("{b}")), ("b", Cow::Borrowed("2"))];
        assert_eq!(prompts.filled("review", &words), "{b} and 2, {c} {");
    }

    #[test]
    fn every_prompt_says_something() {
        for name in Prompts::names() {
            assert!(Prompts::default().get(name).len() > 20, "{name}");
        }
    }
}
