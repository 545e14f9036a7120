//! "Did you mean": the name that a mistyped one was probably meant to be.

/// Names longer than this are not compared: the comparison takes time in proportion to both lengths.
const MAX_BYTES: usize = 64;

/// The candidate most similar to `name`, if one is similar enough that it could have been meant.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = name.len().div_ceil(3);
    if name.len() > MAX_BYTES {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_BYTES && candidate.len().abs_diff(name.len()) <= allowed)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let names = ["search", "read_file", "calculate"];
        assert_eq!(closest("serach", names), Some("search"));
        assert_eq!(closest("readfile", names), Some("read_file"));
        assert_eq!(closest("Calculate", names), Some("calculate"));
        assert_eq!(closest("sleep", names), None);
        assert_eq!(closest("x", ["y"]), None);
        assert_eq!(closest(&"s".repeat(1_000_000), names), None);
    }
}
