//! The files that pages name: style and script, as they are in the crate.

/// A file that a page asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Asset {
    /// Its name below `/assets/`.
    pub name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

pub(super) const STYLE: &str = include_str!("assets/page.css");
/// One script of several files: a report has to hold all of it.
pub(super) const SCRIPT: &str = concat!(
    include_str!("assets/words.js"),
    include_str!("assets/model.js"),
    include_str!("assets/graph.js"),
    include_str!("assets/map.js"),
    include_str!("assets/scale.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/table.js"),
    include_str!("assets/pane.js"),
    include_str!("assets/live.js"),
    include_str!("assets/main.js"),
);
const RUNS_SCRIPT: &str = concat!(include_str!("assets/words.js"), include_str!("assets/runs.js"));

/// Everything that pages of [`Mode::Live`](super::Mode::Live) ask for below `/assets/`.
pub const ASSETS: &[Asset] = &[
    Asset { name: "page.css", content_type: "text/css; charset=utf-8", bytes: STYLE.as_bytes() },
    Asset { name: "page.js", content_type: "text/javascript; charset=utf-8", bytes: SCRIPT.as_bytes() },
    Asset { name: "runs.js", content_type: "text/javascript; charset=utf-8", bytes: RUNS_SCRIPT.as_bytes() },
];
