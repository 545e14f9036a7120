//! A page as Markdown: its main part, without menus, scripts and advertisements.
//!
//! Pages come from strangers. The libraries that take them apart call themselves for every level of nesting, and some
//! of what they do takes as long as the square of the size, so reading stops where a page grows beyond what people
//! write. What was read until then is handed on, and said to be cut off.

mod bounded;

use dom_query::{Document, NodeRef};
use dom_smoothie::{Config, Readability, TextMode};
use html5ever::ParseOpts;
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::TreeBuilderOpts;
use url::Url;

use super::super::thread::{Cancelled, cancelled};
use crate::cut;
use crate::error::StepError;

use bounded::Bounded;

/// More of a page is not read; a long article with all its markup is a tenth of this.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// A page may have this many elements, texts and comments; a long article has a tenth.
const MAX_NODES: usize = 200_000;
/// A single tag or comment may be this long: as much as a picture that is written out in it. Attributes need a time that
/// grows with the square of their number.
const MAX_TAG_BYTES: usize = 512 * 1024;
/// The size is looked at every so many bytes.
const CHUNK_BYTES: usize = 512;
/// Lists and quotes are indented up to here. Deeper ones are written without: every level of indentation is repeated
/// on each of their lines.
const MAX_INDENTED: usize = 16;

/// The text of a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: Option<String>,
    /// In Markdown.
    pub(super) text: String,
    /// Whether only the beginning of the page was read.
    pub(super) truncated: bool,
}

impl Page {
    /// Reads the page at `url`: its main part, or all of it.
    pub(super) fn read(html: &str, url: &Url, whole: bool, stop: &Cancelled) -> Result<Self, StepError> {
        let (document, truncated) = parse(html, stop)?;
        outdent(&document);
        // A picture that is written out in the page is no text.
        document.select("img[src^='data:']").remove();
        let main = if whole { None } else { main_part(&document, url) };
        let (title, text) = main.unwrap_or_else(|| {
            let body = document.body().unwrap_or_else(|| document.root());
            (document.select_single("title").text().to_string(), body.md(None).to_string())
        });
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { title: Some(title).filter(|title| !title.is_empty()), text, truncated })
    }
}

/// Parses as much of a page as is sound. Also says whether something was left out.
fn parse(html: &str, stop: &Cancelled) -> Result<(Document, bool), StepError> {
    let options = ParseOpts {
        tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() },
        ..ParseOpts::default()
    };
    let mut parser = html5ever::parse_document(Bounded::default(), options);
    let mut rest = cut::start(html, MAX_BYTES);
    let mut truncated = rest.len() < html.len();
    let (mut appended, mut tag_bytes) = (0, 0);
    while !rest.is_empty() {
        if stop.is_set() {
            return Err(cancelled());
        }
        let (chunk, after) = rest.split_at(cut::start(rest, CHUNK_BYTES).len());
        parser.process(StrTendril::from_slice(chunk));
        rest = after;
        let tree = &parser.tokenizer.sink.sink;
        tag_bytes = if tree.appended() == appended { tag_bytes + chunk.len() } else { 0 };
        appended = tree.appended();
        if tree.is_too_deep() || tree.nodes() > MAX_NODES || tag_bytes > MAX_TAG_BYTES {
            truncated |= !rest.is_empty();
            break;
        }
    }
    Ok((parser.finish(), truncated))
}

/// The title and the text of the main part, where one can be told from the rest.
fn main_part(document: &Document, url: &Url) -> Option<(String, String)> {
    let config = Config { text_mode: TextMode::Markdown, disable_json_ld: true, ..Config::default() };
    let mut readability = Readability::with_document(document.clone(), Some(url.as_str()), Some(config)).ok()?;
    let article = readability.parse().ok()?;
    Some((article.title, article.text_content.to_string()))
}

/// Turns lists and quotes that are nested too deeply into plain blocks.
fn outdent(document: &Document) {
    let mut open: Vec<(NodeRef<'_>, usize)> = vec![(document.root(), 0)];
    while let Some((node, mut indented)) = open.pop() {
        if ["ul", "ol", "blockquote"].iter().any(|name| node.has_name(name)) {
            indented += 1;
            if indented > MAX_INDENTED {
                node.rename("div");
            }
        }
        open.extend(node.children_it(false).map(|child| (child, indented)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn read(html: &str) -> Page {
        let url = Url::parse("https://example.com/a/page").unwrap();
        Page::read(html, &url, false, &Cancelled::default()).unwrap()
    }

    #[test]
    fn what_is_not_text_is_left_out() {
        let page = read(
            "<!doctype html><title> A  title </title><style>p { color: red }</style><nav><a href=/>Home</a></nav>
             <article><h1>Soil</h1><p>Peat holds <b>water</b> &amp; air.<script>alert('x')</script></p>
             <ul><li>one<li>two</ul><p><a href='../b'>more</a><img src='data:image/png;base64,AAAA'></p>
             <table><tr><th>a<th>b<tr><td>1<td>2</table></article>",
        );
        assert_eq!(page.title.as_deref(), Some("A title"));
        for part in ["Peat holds **water** & air.", "- one\n- two", "[more](https://example.com/b)", "| 1 | 2 |"] {
            assert!(page.text.contains(part), "{part} in {}", page.text);
        }
        for part in ["alert", "color", "base64"] {
            assert!(!page.text.contains(part), "{part} in {}", page.text);
        }
        assert!(!page.truncated);
    }

    #[test]
    fn no_page_is_too_bad_to_read() {
        let attributes = |count| (0..count).map(|index| format!(" a{index}=1")).collect::<String>();
        let bold = (0..1_000).map(|index| format!("<b a={index}>")).collect::<String>();
        let pages = [
            ("empty", String::new()),
            ("deep", format!("x{}y", "<div>".repeat(100_000))),
            ("deep and closed", format!("x{}y{}", "<div>".repeat(100_000), "</div>".repeat(100_000))),
            ("deep lists", format!("x{}y", "<ul><li>".repeat(50_000))),
            ("deep quotes", format!("x{}y", "<blockquote>".repeat(50_000))),
            ("deep tables", format!("x{}y", "<table><tr><td>".repeat(30_000))),
            ("deep beside a table", format!("x<table>{}y", "<div>".repeat(50_000))),
            ("deep after the end", format!("x{}y", format!("{}</body><!-- -->", "<div>".repeat(50)).repeat(2_000))),
            ("deep templates", format!("x{}y", "<template><div>".repeat(30_000))),
            ("deep vectors", format!("x{}y", "<svg><g>".repeat(30_000))),
            ("reopened elements", format!("x<p>{bold}{}", "<p>y".repeat(50_000))),
            ("many elements", "<p>x ".repeat(400_000)),
            ("many attributes", format!("x<a{}>y", attributes(300_000))),
            ("many lines", format!("{}<pre>{}", "<blockquote><ul><li>".repeat(60), "\n".repeat(500_000))),
            ("an end without a beginning", "</p></div>".repeat(100_000)),
            ("never closed", format!("x<a href=\"{}", "y".repeat(1_000_000))),
            ("characters cut in two", "ü".repeat(100_000)),
        ];
        for (name, html) in pages {
            let before = Instant::now();
            let page = read(&html);
            let took = before.elapsed();
            assert!(took < Duration::from_secs(20), "{name} took {took:?}");
            assert!(page.text.len() < 40 * 1024 * 1024, "{name} became {} bytes", page.text.len());
            assert!(!html.starts_with('x') || page.text.starts_with('x'), "{name}: {}", page.text);
        }
    }

    #[test]
    fn deep_pages_are_said_to_be_cut_off() {
        assert!(read(&format!("x{}y", "<div>".repeat(100_000))).truncated);
        assert!(!read(&format!("x{}y", "<div>".repeat(200))).truncated);
    }

    #[test]
    fn reading_ends_with_the_attempt() {
        let url = Url::parse("https://example.com/").unwrap();
        let stop = Cancelled::default();
        drop(stop.on_drop());
        assert!(Page::read("<p>x", &url, false, &stop).is_err());
    }
}
