//! The part of the terminal below the finished lines, drawn anew in place.
//!
//! The alternate screen is not used, so what has scrolled by stays there and can be copied. One picture is one write:
//! the cursor goes up to the first line of the last picture, which is erased, and finished lines and the new picture
//! take its place. A terminal that has become narrower has broken the old lines into several, so
//! how far up that is depends on its width *now*; ready-made progress bars remember the width of then, and leave
//! pieces behind.

use unicode_width::UnicodeWidthStr as _;

/// What was drawn last.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// How wide each of its lines is.
    widths: Vec<usize>,
}

impl Region {
    /// What has to be written to put `above` over the picture and to draw `picture`, in a terminal of this width.
    pub(super) fn draw(&mut self, above: &[String], picture: &[String], columns: usize) -> String {
        let rows: usize = self.widths.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        let mut written = String::new();
        if rows > 0 {
            written.push_str(&format!("\r\u{1b}[{rows}A\u{1b}[J"));
        }
        for line in above.iter().flat_map(|text| text.split('\n')).chain(picture.iter().map(String::as_str)) {
            written.push_str(line);
            written.push_str("\r\n");
        }
        self.widths = picture.iter().map(|line| anstream::adapter::strip_str(line).to_string().width()).collect();
        written
    }
}
