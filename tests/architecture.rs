//! Who may import whom. The rules that keep the parts of the crate apart, checked on its sources.
//!
//! The scheduler is a state machine without IO, so it can be driven by a clock, by a simulator or by another engine;
//! a tool or a planner cannot reach into the runner; only the command knows everything. Each row of [`RULES`] says what
//! a part may use. A part without a row fails the test: whoever adds one decides what it may use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What one part may use.
struct Rule {
    /// Modules directly under `src`.
    parts: &'static [&'static str],
    /// Other parts; their own is always allowed.
    modules: &'static [&'static str],
    /// Crates beside std.
    crates: &'static [&'static str],
    /// Paths that are out of bounds although their crate is not.
    never: &'static [&'static str],
}

/// Plain data and what is wrong with it.
const DATA: &[&str] = &["plan", "error", "policy"];
const DATA_CRATES: &[&str] = &["serde", "serde_json", "smol_str", "thiserror", "schemars"];
/// The state machine and all it knows.
const CORE: &[&str] =
    &["plan", "error", "policy", "dag", "reference", "event", "planner", "tool", "suggest", "scheduler", "cut"];
/// The same, in virtual time, on plans from files.
const SIMULATION: &[&str] = &[
    "plan",
    "error",
    "policy",
    "dag",
    "reference",
    "event",
    "planner",
    "tool",
    "suggest",
    "scheduler",
    "cut",
    "plan_file",
];
/// Everything that is not the command.
const LIBRARY: &[&str] = &[
    "plan",
    "error",
    "policy",
    "dag",
    "depth",
    "reference",
    "event",
    "planner",
    "tool",
    "suggest",
    "scheduler",
    "journal",
    "history",
    "simulate",
    "runner",
    "report",
    "counted",
    "redact",
];
/// A state machine that reads a clock, spawns, or iterates in random order is none.
const PURE: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::collections::hash_map::RandomState",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
];

const RULES: &[Rule] = &[
    Rule { parts: DATA, modules: &["plan", "error", "policy", "strict"], crates: DATA_CRATES, never: PURE },
    Rule { parts: &["strict"], modules: &[], crates: &["serde", "serde_json"], never: PURE },
    Rule { parts: &["cut", "counted"], modules: &[], crates: &[], never: PURE },
    Rule { parts: &["lossy"], modules: &[], crates: &["serde_json"], never: PURE },
    Rule { parts: &["depth"], modules: &["reference"], crates: &["serde_json"], never: PURE },
    Rule { parts: &["suggest"], modules: &[], crates: &["strsim"], never: PURE },
    Rule { parts: &["duration"], modules: &[], crates: &[], never: PURE },
    Rule {
        parts: &["dag", "reference", "event"],
        modules: &[
            "plan",
            "error",
            "policy",
            "dag",
            "reference",
            "event",
            "planner",
            "tool",
            "suggest",
            "counted",
            "cut",
        ],
        crates: &["serde", "serde_json", "smallvec", "thiserror", "petgraph", "indexmap", "foldhash", "hashbrown"],
        never: PURE,
    },
    Rule {
        parts: &["schema"],
        modules: &["plan", "reference", "dag"],
        crates: &["serde_json", "schemars"],
        never: PURE,
    },
    Rule {
        parts: &["scheduler"],
        modules: CORE,
        crates: &["serde", "serde_json", "smallvec", "thiserror", "petgraph", "indexmap"],
        never: PURE,
    },
    Rule {
        parts: &["planner", "tool"],
        modules: &["plan", "error", "policy", "event", "planner", "tool", "journal"],
        crates: &["serde", "serde_json", "smallvec", "thiserror", "futures", "dashmap", "fastrand"],
        never: &["std::thread", "std::time::Instant"],
    },
    Rule {
        parts: &["journal"],
        modules: &["plan", "error", "policy", "event", "tool", "reference", "redact"],
        crates: &["serde", "serde_json", "futures", "dashmap", "fastrand", "rusqlite", "sha2", "etcetera"],
        never: &["std::time::Instant", "std::net", "std::process::Command"],
    },
    Rule {
        parts: &["redact"],
        modules: &["plan", "error", "policy", "event", "tool", "reference"],
        crates: &["serde", "serde_json", "aho_corasick"],
        never: &["std::fs", "std::net"],
    },
    Rule {
        parts: &["retry_after"],
        modules: &[],
        crates: &["httpdate", "reqwest"],
        never: &["std::time::Instant", "std::fs", "std::net"],
    },
    Rule {
        parts: &["http_client"],
        modules: &[],
        crates: &["reqwest"],
        never: &["std::time::Instant", "std::fs", "std::env", "std::process"],
    },
    Rule {
        parts: &["simulate"],
        modules: SIMULATION,
        crates: &["serde", "serde_json", "thiserror", "fastrand"],
        never: PURE,
    },
    Rule {
        parts: &["runner", "report", "history"],
        modules: LIBRARY,
        crates: &[
            "serde",
            "serde_json",
            "thiserror",
            "futures",
            "dashmap",
            "fastrand",
            "foldhash",
            "tokio",
            "tracing",
            "indexmap",
        ],
        never: &[],
    },
    Rule {
        parts: &["page"],
        modules: &[
            "plan",
            "error",
            "event",
            "scheduler",
            "journal",
            "history",
            "simulate",
            "report",
            "duration",
            "counted",
        ],
        crates: &["serde", "serde_json", "sha2", "base64"],
        never: &["std::time::Instant", "std::thread", "std::fs", "std::net", "std::env", "std::process"],
    },
    Rule {
        parts: &["web"],
        modules: &["plan", "error", "event", "plan_file", "duration", "journal", "history", "report", "page"],
        crates: &[
            "serde",
            "serde_json",
            "futures",
            "tokio",
            "tracing",
            "axum",
            "hyper",
            "hyper_util",
            "getrandom",
            "subtle",
        ],
        never: &["std::fs", "std::env", "std::process", "std::thread"],
    },
    Rule {
        parts: &["plan_file"],
        modules: &["plan", "error", "policy", "dag", "reference", "event", "suggest", "strict", "counted", "cut"],
        crates: &["serde", "serde_json", "thiserror", "serde_saphyr", "indexmap"],
        never: &["std::net", "std::process"],
    },
    Rule {
        parts: &["tools"],
        modules: &[
            "plan",
            "error",
            "event",
            "tool",
            "suggest",
            "reference",
            "redact",
            "retry_after",
            "http_client",
            "lossy",
            "counted",
            "cut",
        ],
        crates: &[
            "serde",
            "serde_json",
            "thiserror",
            "futures",
            "tokio",
            "tracing",
            "fastrand",
            "rusqlite",
            "cap_std",
            "cap_fs_ext",
            "ignore",
            "fend_core",
            "etcetera",
            "reqwest",
            "url",
            "encoding_rs",
            "html5ever",
            "dom_query",
            "dom_smoothie",
            "rmcp",
            "rustix",
        ],
        never: &[
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::process::Command",
        ],
    },
    Rule {
        parts: &["llm"],
        modules: &[
            "plan",
            "error",
            "policy",
            "event",
            "planner",
            "tool",
            "dag",
            "depth",
            "reference",
            "strict",
            "suggest",
            "retry_after",
            "http_client",
            "lossy",
            "counted",
            "cut",
            "redact",
        ],
        crates: &[
            "serde",
            "serde_json",
            "thiserror",
            "futures",
            "tokio",
            "tracing",
            "fastrand",
            "genai",
            "hyper",
            "hyper_util",
            "jiter",
            "reqwest",
            "sha2",
        ],
        never: &["std::process", "std::fs", "std::env"],
    },
    Rule {
        parts: &["offline"],
        modules: &["plan", "error", "event", "planner", "tool", "counted"],
        crates: &[
            "serde",
            "serde_json",
            "thiserror",
            "futures",
            "tokio",
            "tracing",
            "rust_stemmers",
            "unicode_segmentation",
        ],
        never: &["std::net", "std::process", "std::fs"],
    },
];

#[test]
fn every_part_uses_only_what_it_may() {
    let sources = sources();
    let exports = exports(&sources);
    let mut offences = Vec::new();
    for (part, files) in &sources {
        if matches!(part.as_str(), "lib" | "main" | "cli") {
            continue;
        }
        let Some(rule) = RULES.iter().find(|rule| rule.parts.contains(&part.as_str())) else {
            offences.push(format!("`{part}` has no rule: say in RULES what it may use"));
            continue;
        };
        for file in files {
            for path in paths(&file.code, file.depth) {
                offences.extend(offence(rule, part, &path, &exports).map(|what| format!("{}: {what}", file.name)));
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// What a scheduler does must be the same in every process.
#[test]
fn the_scheduler_has_no_map_in_random_order() {
    for file in &sources()["scheduler"] {
        for word in ["HashMap", "HashSet"] {
            assert!(!file.code.contains(word), "{} uses {word}", file.name);
        }
    }
}

/// What is left of a secret is found by the mark where a text was cut, so nothing is cut without one.
#[test]
fn who_hands_text_on_cuts_it_where_a_mark_says_so() {
    let sources = sources();
    for file in ["dag", "reference", "tools", "llm"].iter().flat_map(|part| &sources[*part]) {
        for word in ["char_boundary(", "char_indices().nth(", ".chars().take("] {
            assert!(!file.code.contains(word), "{} uses {word}: crate::cut does that", file.name);
        }
    }
}

/// The command has no back door: it is a crate of its own that sees what every other program sees.
#[test]
fn the_command_uses_the_library_from_outside() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.contains("mod cli;"));
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(!library.contains("mod cli"), "`cli` belongs to the binary");
}

#[test]
fn no_file_is_asking_to_be_split() {
    for file in sources().values().flatten() {
        let lines = fs::read_to_string(root().join(&file.name)).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.name);
    }
}

/// What is wrong with a path, if anything is.
fn offence(rule: &Rule, part: &str, path: &[String], exports: &BTreeMap<String, String>) -> Option<String> {
    let joined = path.join("::");
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "std" | "core" | "alloc" => {
            let out = rule.never.iter().find(|never| joined == **never || joined.starts_with(&format!("{never}::")))?;
            Some(format!("`{part}` may not use {out}"))
        }
        "crate" => {
            let target = rest.first()?;
            let module = exports.get(target).unwrap_or(target);
            let allowed = module == part || rule.modules.contains(&module.as_str());
            (!allowed).then(|| format!("`{part}` may not use `{module}` ({joined})"))
        }
        name => (!rule.crates.contains(&name)).then(|| format!("`{part}` may not use the crate {name} ({joined})")),
    }
}

struct Source {
    name: String,
    code: String,
    /// How many modules it is below the root of the crate.
    depth: usize,
}

/// The sources of each part, comments, strings and tests taken out.
fn sources() -> BTreeMap<String, Vec<Source>> {
    let mut sources: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    let mut open = vec![PathBuf::from("src")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                let modules: Vec<String> = path
                    .with_extension("")
                    .components()
                    .skip(1)
                    .map(|component| component.as_os_str().to_string_lossy().into_owned())
                    .filter(|name| name != "mod")
                    .collect();
                let text = fs::read_to_string(root().join(&path)).unwrap();
                let source = Source { name: path.display().to_string(), code: code(&text), depth: modules.len() };
                sources.entry(modules[0].clone()).or_default().push(source);
            }
        }
    }
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_test(path: &Path) -> bool {
    path.components().any(|component| matches!(component.as_os_str().to_str(), Some("tests.rs" | "tests")))
}

/// The text without comments, without what is in strings, and without `#[cfg(test)]` items.
fn code(text: &str) -> String {
    let text = without_comments_and_strings(text);
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        code.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(open), Some(semicolon)) if semicolon < open => semicolon + 1,
            (Some(open), _) => open + block(&item[open..]),
            (None, Some(semicolon)) => semicolon + 1,
            (None, None) => item.len(),
        };
        rest = &item[end..];
    }
    code + rest
}

/// The length of the block that `text` begins with.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    text.len()
}

fn without_comments_and_strings(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else if let Some(escape) = rest.strip_prefix("'\\") {
            escape.find('\'').map_or(rest.len(), |end| end + 3)
        } else {
            kept.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    kept
}

/// The length of the string literal that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = true;
    for (index, c) in text.char_indices() {
        match c {
            '"' if !escaped => return index + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Every path in the code that begins with `crate`, with std or with the name of a dependency, `use` groups spelled
/// out and `super` resolved where it leads to the root.
fn paths(code: &str, depth: usize) -> Vec<Vec<String>> {
    let dependencies = dependencies();
    let mut found = Vec::new();
    let mut before = ' ';
    for (index, c) in code.char_indices() {
        let starts_word =
            (c.is_alphabetic() || c == '_') && !(before.is_alphanumeric() || matches!(before, '_' | ':' | '.'));
        before = c;
        if !starts_word {
            continue;
        }
        for mut path in spelled_out(&code[index..]) {
            let supers = path.iter().take_while(|segment| *segment == "super").count();
            if supers > 0 && supers == depth {
                path.splice(..supers, ["crate".to_owned()]);
            }
            let is_absolute = matches!(path[0].as_str(), "crate" | "std" | "core") || dependencies.contains(&path[0]);
            if path.len() > 1 && is_absolute {
                found.push(path);
            }
        }
    }
    found
}

/// `a::b` is one path, `a::{b, c::{d, e}}` are three.
fn spelled_out(text: &str) -> Vec<Vec<String>> {
    let mut open: Vec<(Vec<String>, &str)> = vec![(Vec::new(), text)];
    let mut paths = Vec::new();
    while let Some((mut path, text)) = open.pop() {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        if end > 0 {
            path.push(text[..end].to_owned());
        }
        let rest = &text[end..];
        match rest.strip_prefix("::") {
            Some(group) if group.starts_with('{') => {
                let group = &group[1..block(group) - 1];
                let mut depth = 0;
                let items = group.split(|c| {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    c == ',' && depth == 0
                });
                open.extend(items.map(str::trim).filter(|item| !item.is_empty()).map(|item| (path.clone(), item)));
            }
            Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_') => open.push((path, rest)),
            _ => paths.push(path),
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// The names of the crates that the manifest asks for, as code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim().replace('-', "_")).collect()
}

/// The part that each name at the root of the crate comes from.
fn exports(sources: &BTreeMap<String, Vec<Source>>) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for (part, files) in sources {
        for file in files {
            for kind in ["struct", "enum", "trait", "type", "fn"] {
                for definition in file.code.split(&format!("pub {kind} ")).skip(1) {
                    let end = definition.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(definition.len());
                    if !sources.contains_key(&definition[..end]) {
                        exports.insert(definition[..end].to_owned(), part.clone());
                    }
                }
            }
        }
    }
    exports
}

/// Whoever opens it takes the same secrets out of it.
#[test]
fn the_command_opens_journals_in_one_place() {
    let opens = |source: &&Source| source.code.contains("SqliteJournal::open");
    let sources = sources();
    let places: Vec<&str> = sources["cli"].iter().filter(opens).map(|source| source.name.as_str()).collect();
    assert_eq!(places, ["src/cli/history/keep.rs"]);
}

#[test]
fn the_reader_of_sources_reads_what_it_should() {
    let text = r#"
        //! use tokio::spawn;
        use std::{collections::{BTreeMap, HashMap as Map}, fmt};
        use super::error::{PlanError, self as e};
        fn f() { let x = "tokio::spawn"; tokio::task::yield_now(); a.tokio::b; '"'; crate::plan::Plan::new(); }
        #[cfg(test)]
        mod tests { use crate::runner::Runner; fn g() { { } } }
        use rusqlite::Connection;
    "#;
    let found: BTreeSet<String> = paths(&code(text), 1).iter().map(|path| path.join("::")).collect();
    let expected = [
        "std::collections::BTreeMap",
        "std::collections::HashMap",
        "std::fmt",
        "crate::error::PlanError",
        "crate::error::self",
        "tokio::task::yield_now",
        "crate::plan::Plan::new",
        "rusqlite::Connection",
    ];
    assert_eq!(found, expected.into_iter().map(str::to_owned).collect());
}

#[test]
fn a_breach_is_found() {
    let exports = BTreeMap::from([("Runner".to_owned(), "runner".to_owned())]);
    let rule = RULES.iter().find(|rule| rule.parts.contains(&"scheduler")).unwrap();
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    for breach in ["tokio::spawn", "std::time::Instant::now", "crate::runner::Live", "crate::Runner", "futures::join"] {
        assert!(offence(rule, "scheduler", &path(breach), &exports).is_some(), "{breach}");
    }
    for fine in ["std::time::Duration", "crate::plan::Step", "petgraph::graph::DiGraph", "crate::scheduler::ready"] {
        assert!(offence(rule, "scheduler", &path(fine), &exports).is_none(), "{fine}");
    }
}
