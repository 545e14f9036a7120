//! A line of the picture: pieces with styles, cut to the width of the terminal.

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use crate::cli::style::paint;
use crate::cli::text;

/// A line that is put together piece by piece.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self::default().plain(text)
    }

    /// Adds text. Whatever of it comes from elsewhere has been made safe.
    pub(super) fn styled(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    pub(super) fn plain(self, text: impl Into<String>) -> Self {
        self.styled(Style::new(), text)
    }

    /// Adds what another line has.
    pub(super) fn append(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn columns(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// The line for a terminal, in at most `columns` columns.
    pub(super) fn render(&self, columns: usize) -> String {
        let mut rendered = String::new();
        let mut left = columns;
        for (style, text) in &self.0 {
            let cut = text::cut(text, left);
            let is_cut = *cut != **text;
            left = left.saturating_sub(cut.width());
            rendered.push_str(&if *style == Style::new() { cut.into_owned() } else { paint(*style, &cut) });
            if is_cut || left == 0 {
                break;
            }
        }
        rendered.truncate(rendered.trim_end().len());
        rendered
    }
}
