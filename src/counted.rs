//! A number of things, in words.

/// So many of something, as messages of this crate say it.
///
/// ```
/// use plandag::counted;
///
/// assert_eq!([counted(1, "step"), counted(2, "step")], ["1 step", "2 steps"]);
/// assert_eq!([counted(0, "dependency"), counted(1, "dependency")], ["0 dependencies", "1 dependency"]);
/// ```
pub fn counted(count: usize, word: &str) -> String {
    match word.strip_suffix('y') {
        _ if count == 1 => format!("1 {word}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {word}s"),
    }
}
