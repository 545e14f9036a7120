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
    // Two letters swapped and one wrong; more is another word.
    const MOST_EDITS: usize = 3;
    let distance = |page: &Page| strsim::osa_distance(asked, page.code);
    match pages().min_by_key(distance).filter(|page| asked.len() <= 64 && distance(page) <= MOST_EDITS) {
        Some(similar) => failure.help(format!("did you mean `{}`?", similar.code)),
        None => failure.help("`plandag explain` lists all of them"),
    }
}
