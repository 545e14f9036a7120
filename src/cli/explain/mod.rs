//! `plandag explain`: a page for every error code.

use super::args::ExplainArgs;
use super::console::Console;
use super::failure::Failure;

/// One `# code` heading a page, its first paragraph the summary.
const PAGES: &str = include_str!("pages.md");

struct Page {
    code: &'static str,
    text: &'static str,
}

fn pages() -> impl Iterator<Item = Page> {
    PAGES.split("# ").filter_map(|page| page.split_once('\n')).map(|(code, text)| Page { code, text: text.trim() })
}

/// Whether there is a page for `code`.
#[cfg(test)]
pub(crate) fn has_page(code: &str) -> bool {
    pages().any(|page| page.code == code)
}

pub(crate) fn run(args: &ExplainArgs, console: &Console) -> Result<(), Failure> {
    let Some(asked) = &args.code else {
        let width = pages().map(|page| page.code.len()).max().unwrap_or_default();
        let lines = pages().map(|page| format!("{:width$}  {}\n", page.code, summary(&page)));
        return console.data(&lines.collect::<String>());
    };
    // People paste what they see: `error[plan.cycle]`.
    let code = asked.trim().trim_start_matches("error[").trim_end_matches(']');
    match pages().find(|page| page.code == code) {
        Some(page) => console.data(&format!("{}\n\n{}\n", page.code, page.text)),
        None => Err(unknown(asked)),
    }
}

fn summary(page: &Page) -> String {
    let paragraph = page.text.split("\n\n").next().unwrap_or_default();
    paragraph.replace('\n', " ")
}

fn unknown(asked: &str) -> Failure {
    let failure = Failure::usage("usage.arguments", format!("there is no error code `{asked}`"));
    let in_group = pages().filter(|page| page.code.rsplit('.').next() == asked.rsplit('.').next());
    match in_group.map(|page| page.code).next() {
        Some(similar) => failure.help(format!("did you mean `{similar}`?")),
        None => failure.help("`plandag explain` lists all of them"),
    }
}
