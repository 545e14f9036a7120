//! A picture that stands for itself: legible on a light page and on a dark one.

use std::fmt::Write as _;

use super::escape::Escaped;
use super::layout::{BOX_HEIGHT, BOX_WIDTH};

/// Characters of a name that fit into a box.
const NAME_CHARS: usize = 22;
/// Characters of what is below the name.
const DETAIL_CHARS: usize = 27;

/// Colours that can be told apart by those who do not see all of them, and for both kinds of pages.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--box:#f6f7f9;--ink:#1b1f24;--faint:#59636e;--line:#8b949e;--critical:#a04000;--bad:#b3261e;--hatch:#b98a3e}\
@media(prefers-color-scheme:dark){:root{--ground:#0f1318;--box:#1b2129;--ink:#e8ecf1;--faint:#9aa5b1;--line:#6b7683;--critical:#ffb454;--bad:#ff8f80;--hatch:#a97b32}}\
text{font:12.5px ui-sans-serif,system-ui,sans-serif;fill:var(--ink)}\
.detail{font-size:10.5px;fill:var(--faint)}\
.ground{fill:var(--ground)}.box{fill:var(--box);stroke:var(--line)}\
.line{fill:none;stroke:var(--line);stroke-width:1.25}\
.failed .box{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 3}\
.critical .box,.line.critical{stroke:var(--critical);stroke-width:2.5}\
.mark{fill:var(--critical)}\
.hatch{stroke:var(--hatch);stroke-opacity:.25;stroke-width:4}";

/// What fills the boxes that text from outside has reached. It stays below the text, which has to be legible on it.
pub(crate) const HATCHING: &str = "\
<defs><pattern id=\"hatching\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<path class=\"hatch\" d=\"M2 0V8\"/></pattern></defs>";

/// Lies on such a box.
pub(crate) const HATCHED: &str =
    "<rect class=\"hatching\" width=\"184\" height=\"38\" rx=\"6\" fill=\"url(#hatching)\"/>";

const _: () = assert!(BOX_WIDTH == 184 && BOX_HEIGHT == 38);

/// The sign of the critical path.
const MARK: &str = "<tspan class=\"mark\">◆ </tspan>";

/// What the hatching says.
const OUTSIDE: &str = ": text from outside reaches it";

/// A box with a name and what is known beside it.
pub(crate) struct Labelled<'a> {
    /// Its left upper corner.
    pub(crate) place: (u32, u32),
    pub(crate) name: &'a str,
    pub(crate) detail: String,
    pub(crate) critical: bool,
    pub(crate) failed: bool,
    /// Whether text from outside has reached it.
    pub(crate) outside: bool,
}

/// The picture of boxes and of lines, of which it is said whether they are on the critical path.
pub(crate) fn svg<'a>(
    (width, height): (u32, u32),
    title: &str,
    boxes: impl Iterator<Item = Labelled<'a>>,
    lines: impl Iterator<Item = (&'a str, bool)>,
) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n",
        Escaped(title)
    );
    let (critical, others): (Vec<_>, Vec<_>) = lines.partition(|(_, critical)| *critical);
    for (path, critical) in others.into_iter().chain(critical) {
        let _ = writeln!(text, "<path class=\"line{}\" d=\"{path}\"/>", if critical { " critical" } else { "" });
    }
    let mut is_hatched = false;
    for Labelled { place: (x, y), name, detail, critical, failed, outside } in boxes {
        let (class, mark) = match (critical, failed) {
            (true, false) => (" class=\"critical\"", MARK),
            (true, true) => (" class=\"critical failed\"", MARK),
            (false, true) => (" class=\"failed\"", ""),
            (false, false) => ("", ""),
        };
        let (said, hatching) = if outside { (OUTSIDE, HATCHED) } else { ("", "") };
        is_hatched |= outside;
        let _ = writeln!(
            text,
            "<g transform=\"translate({x} {y})\"{class}><title>{}{said}</title>\
             <rect class=\"box\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\"/>{hatching}\
             <text x=\"10\" y=\"16\">{mark}{}</text><text class=\"detail\" x=\"10\" y=\"30\">{}</text></g>",
            Escaped(name),
            Escaped(fitting(name, NAME_CHARS - if critical { 2 } else { 0 })),
            Escaped(fitting(&detail, DETAIL_CHARS)),
        );
    }
    if is_hatched {
        text.push_str(HATCHING);
    }
    text.push_str("</svg>\n");
    text
}

/// The beginning of a text that has room for so many narrow characters, on one line.
pub(crate) fn fitting(text: &str, most: usize) -> String {
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += width(c);
        if used > most {
            kept.pop();
            kept.push('…');
            break;
        }
        kept.push(if c.is_control() { ' ' } else { c });
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_wide_characters_count_twice() {
        assert_eq!(fitting("short", 5), "short");
        assert_eq!(fitting("longer", 5), "long…");
        assert_eq!(fitting("漢字漢字", 5), "漢…");
        assert_eq!(fitting("two\nlines", 9), "two lines");
    }
}
