//! Runs as pages, and pages as a reader's browser understands them.

use dom_query::Document;
use plandag::Runner;
use plandag::history::History;
use plandag::journal::{Journal, MemoryJournal};
use plandag::page::Snapshot;

/// What a page shows of a run that has come to its end.
pub(crate) async fn snapshot(runner: &Runner) -> Snapshot {
    let journal = MemoryJournal::new();
    let run = runner.clone().journal(journal.clone()).run("Should I buy this bicycle?").await;
    drop(run.unwrap());
    load(&journal).await
}

/// What a page shows of the only run of a journal.
pub(crate) async fn load(journal: &dyn Journal) -> Snapshot {
    let summary = journal.runs().await.unwrap().remove(0);
    Snapshot::of(&History::load(journal, &summary.run).await.unwrap(), &summary)
}

/// A page, as a parser of HTML sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    /// The names of its elements, in order.
    pub(crate) elements: Vec<String>,
    /// The names of their attributes, in order.
    pub(crate) attributes: Vec<String>,
    /// Everything that could be asked for.
    pub(crate) addresses: Vec<String>,
    pub(crate) text: String,
}

pub(crate) fn page_of(html: &str) -> Page {
    let document = Document::from(html);
    let mut page = Page { elements: vec![], attributes: vec![], addresses: vec![], text: document.text().to_string() };
    for node in document.root().descendants_it().filter(|node| node.is_element()) {
        page.elements.push(node.node_name().unwrap().to_string());
        for attribute in node.attrs() {
            let name = attribute.name.local.to_string();
            if ["href", "src", "action", "data", "poster", "srcset", "background"].contains(&name.as_str()) {
                page.addresses.push(attribute.value.to_string());
            }
            page.attributes.push(name);
        }
    }
    page
}
