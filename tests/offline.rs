//! Plans and answers without a model, over small folders.
#![cfg(feature = "offline")]
#![expect(clippy::unwrap_used, reason = "a test that unwraps what is not there has failed")]

use std::fs;
use std::sync::Arc;

use plandag::Runner;
use plandag::offline::{self, OfflinePlanner};
use plandag::tools::{Folder, SearchFiles};
use serde_json::Value;
use tempfile::TempDir;

const HAPROXY: &str = "\
# HAProxy

HAProxy is a proxy for TCP and HTTP.

## TLS

HAProxy ends TLS connections with certificates given on the bind line. It can also
pass them through.

```
bind :443 ssl crt site.pem  # TLS in code is not quoted here
```
";
const NGINX: &str = "\
# nginx

The web server nginx serves files.

## TLS

Support for TLS in nginx is a module that is built in by default.

## Caching

Responses can be kept by nginx in a cache on disk.
";

/// Runs an objective over documents and gives the answer.
async fn answer(documents: &[(&str, &str)], objective: &str) -> Value {
    let (folder, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for (name, text) in documents {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let search = SearchFiles::new(Arc::new(Folder::open(folder.path()).unwrap())).cache(cache.path());
    let mut runner = Runner::new(OfflinePlanner::new()).tool("search_files", search);
    for (name, tool) in offline::tools() {
        runner = runner.tool(name, tool);
    }
    let report = runner.run(objective).await.unwrap();
    let answer = report.answer().unwrap();
    // Every quote stands where it says it does.
    for quote in answer["quotes"].as_array().unwrap() {
        let (_, text) = documents.iter().find(|(name, _)| quote["file"] == *name).unwrap();
        let from = quote["line"].as_u64().unwrap() as usize - 1;
        let below = text.lines().skip(from).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        let first = text.lines().nth(from).unwrap();
        let quoted = quote["text"].as_str().unwrap();
        assert!(below.contains(quoted), "{quoted:?} is not at {quote}");
        assert!(first.contains(quoted.split(' ').next().unwrap()), "{quoted:?} begins elsewhere");
    }
    answer.clone()
}

fn lines_quoted(answer: &Value) -> Vec<(&str, &str, u64)> {
    let quotes = answer["quotes"].as_array().unwrap().iter();
    quotes
        .map(|quote| {
            (quote["subject"].as_str().unwrap(), quote["file"].as_str().unwrap(), quote["line"].as_u64().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_comparison_quotes_each_cell_and_owns_to_its_gaps() {
    let documents = [("haproxy.md", HAPROXY), ("nginx.md", NGINX)];
    let answer = answer(&documents, "Compare HAProxy and nginx on TLS and caching").await;
    let text = answer["text"].as_str().unwrap();
    assert!(text.starts_with("# HAProxy and nginx: TLS and caching\n\nAnswered without a language model"), "{text}");
    assert!(text.contains("“HAProxy ends TLS connections with certificates given on the bind line.” (`haproxy.md:7`)"));
    assert!(text.contains("The documents do not say: HAProxy, caching."), "{text}");
    assert!(!text.contains("ssl crt"));
    for (subject, file, _) in lines_quoted(&answer) {
        assert_eq!(file, format!("{}.md", subject.to_lowercase()), "a cell quotes what is about its subject");
    }
    assert_eq!(answer["gaps"], serde_json::json!([{ "subject": "HAProxy", "aspect": "caching" }]));
}

#[tokio::test]
async fn a_sentence_that_leans_on_another_brings_it_along() {
    let text = "# Isolation\n\nTwo transactions each read what the other one changes. This is called write skew.\n";
    let answer = answer(&[("isolation.md", text)], "What is write skew?").await;
    let quoted = answer["quotes"][0]["text"].as_str().unwrap();
    assert_eq!(quoted, "Two transactions each read what the other one changes. This is called write skew.");
}

#[tokio::test]
async fn a_sentence_is_about_what_its_paragraph_named_last() {
    let text = "# malloc\n\n## Description\n\nThe function calloc() returns memory for an array. All of that memory is set \
                to zero before it is returned.\n";
    let answer = answer(&[("malloc.md", text)], "Compare malloc and calloc on zero").await;
    assert_eq!(lines_quoted(&answer), [("calloc", "malloc.md", 5)], "the page is of malloc, the sentence of calloc");
}

#[tokio::test]
async fn a_pointer_to_another_place_is_no_answer() {
    let text =
        "# Locks\n\nSee the manual of locks for details about locks. A lock keeps others out of a file for a while.\n";
    let answer = answer(&[("locks.md", text)], "locks").await;
    let quotes = answer["quotes"].as_array().unwrap();
    assert_eq!(quotes.len(), 1, "{quotes:?}");
    assert_eq!(quotes[0]["text"], "A lock keeps others out of a file for a while.");
}

#[tokio::test]
async fn a_page_of_functions_is_asked_about_one_of_them() {
    let page = "# Copying strings\n\nstrcpy() Copies a string and its terminating null byte.\n\n\
        The strcat() function overwrites the terminating null byte of the string, unlike strcpy().\n";
    let answer = answer(&[("strcpy.txt", page)], "Compare strcpy and memcpy on termination").await;
    assert_eq!(lines_quoted(&answer), [("strcpy", "strcpy.txt", 3)]);
}

#[tokio::test]
async fn words_in_phrases_are_not_what_is_asked() {
    let text = "# VACUUM\n\nThe next time VACUUM is called it goes on where it stopped before.\n\n\
        VACUUM takes time in proportion to the size of the file.\n";
    let answer = answer(&[("a.md", text)], "Compare VACUUM and ANALYZE on time").await;
    assert_eq!(lines_quoted(&answer), [("VACUUM", "a.md", 5)]);
}

#[tokio::test]
async fn a_page_is_about_the_whole_of_its_name() {
    let pages = [
        ("merge.md", "# merge\n\nConflicts are left in the files of the tree, between marks.\n"),
        ("merge-index.md", "# merge-index\n\nConflicts are handed on to a program that is given as an argument.\n"),
    ];
    let answer = answer(&pages, "Compare merge and rebase on conflicts").await;
    assert_eq!(lines_quoted(&answer), [("merge", "merge.md", 3)]);
}

#[tokio::test]
async fn the_same_sentence_is_quoted_once() {
    let text = "The cache of nginx is kept on disk between restarts.\n";
    let answer = answer(&[("a.md", text), ("b.md", text)], "nginx cache").await;
    assert_eq!(lines_quoted(&answer).len(), 1);
}

#[tokio::test]
async fn both_spellings_find_each_other() {
    let text = "# tool\n\nThe license of this tool allows changes and copies.\n";
    let answer = answer(&[("tool.md", text)], "Compare tool and other on licence").await;
    assert_eq!(lines_quoted(&answer), [("tool", "tool.md", 3)]);
}

#[tokio::test]
async fn nothing_is_made_up() {
    let answer = answer(&[("nginx.md", NGINX)], "What is quantum gravity?").await;
    assert_eq!(answer["quotes"], serde_json::json!([]));
    let text = answer["text"].as_str().unwrap();
    assert!(text.contains("*the documents do not say*"), "{text}");
    assert!(text.contains("No document has the word quantum or gravity."), "{text}");
}

#[tokio::test]
async fn documents_cannot_break_the_answer() {
    let text = "# nginx\n\nIn nginx, caching uses a | b \u{1b}[2J and ${x.y} in the name of each stored file.\n";
    let answer = answer(&[("nginx.md", text)], "Compare nginx and ${x.y} on caching").await;
    let text = answer["text"].as_str().unwrap();
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
    assert!(text.contains("a \\| b"), "{text}");
}

#[tokio::test]
async fn an_empty_objective_has_no_answer() {
    let runner = Runner::new(OfflinePlanner::new());
    for objective in ["", "  \n ", "?!"] {
        let report = runner.run(objective).await.unwrap();
        let error = report.answer().unwrap_err().to_string();
        assert!(error.contains("the objective is empty"), "{error}");
    }
}
