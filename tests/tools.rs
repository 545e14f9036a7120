//! The tools that read a folder, calculate and wait, called as a run would call them.
#![cfg(feature = "tools")]
#![expect(clippy::unwrap_used, reason = "a test that unwraps what is not there has failed")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::tools::{Calculate, Folder, FolderError, NEED_FOLDER, ReadFile, SearchFiles, Sleep};
use plandag::{Effect, StepContext, StepError, StepErrorKind, Tool, ToolOutput, ToolTimeout};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn call(tool: &dyn Tool, args: Value) -> Result<Value, StepError> {
    match tool.call(StepContext::new(args)).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("not a value: {other:?}"),
    }
}

fn write(folder: &TempDir, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// A folder with files, and a cache beside it.
struct Corpus {
    folder: TempDir,
    cache: TempDir,
}

impl Corpus {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let corpus = Self { folder: TempDir::new().unwrap(), cache: TempDir::new().unwrap() };
        write(&corpus.folder, files);
        corpus
    }

    fn open(&self) -> Arc<Folder> {
        Arc::new(Folder::open(self.folder.path()).unwrap())
    }

    /// A tool as a new run would make it.
    fn search(&self) -> SearchFiles {
        SearchFiles::new(self.open()).cache(self.cache.path())
    }

    async fn find(&self, query: &str) -> Value {
        call(&self.search(), json!({ "query": query })).await.unwrap()
    }
}

fn files(found: &Value) -> Vec<&str> {
    found["hits"].as_array().unwrap().iter().map(|hit| hit["file"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_passage_comes_with_its_lines_and_headings() {
    let corpus = Corpus::new(&[
        ("haproxy.md", b"# HAProxy\n\nA proxy.\n\n## TLS\n\nIt ends connections\r\nwith certificates.\r\n"),
        ("other.md", b"# Other\n\nNothing of interest.\n"),
    ]);
    let found = corpus.find("HAProxy TLS").await;
    let best = &found["hits"][0];
    assert_eq!(best["file"], "haproxy.md");
    assert_eq!((&best["line"], &best["last_line"]), (&json!(7), &json!(8)));
    assert_eq!(best["heading"], "HAProxy > TLS");
    assert_eq!(best["text"], "It ends connections\nwith certificates.");
    assert_eq!(found["searched"]["files"], 2);
    // Words match in all their forms.
    assert_eq!(files(&corpus.find("connection certificate").await), ["haproxy.md"]);
}

#[tokio::test]
async fn the_index_follows_the_folder() {
    let corpus = Corpus::new(&[("a.txt", b"The walrus sleeps."), ("b.txt", b"The otter swims.")]);
    assert_eq!(files(&corpus.find("walrus").await), ["a.txt"]);
    write(&corpus.folder, &[("a.txt", b"The badger digs."), ("c/d.txt", b"Another walrus.")]);
    fs::remove_file(corpus.folder.path().join("b.txt")).unwrap();
    assert_eq!(files(&corpus.find("walrus").await), ["c/d.txt"]);
    assert_eq!(files(&corpus.find("badger").await), ["a.txt"]);
    let gone = corpus.find("otter").await;
    assert!(files(&gone).is_empty());
    assert_eq!(gone["searched"]["files"], 2);
    assert_eq!(gone["words"]["otter"], 0);
}

#[tokio::test]
async fn a_file_that_changes_during_a_run_is_passed_over_and_said() {
    let corpus = Corpus::new(&[("a.txt", b"The walrus sleeps."), ("b.txt", b"A walrus again.")]);
    let search = corpus.search();
    assert_eq!(call(&search, json!({ "query": "walrus" })).await.unwrap()["hits"].as_array().unwrap().len(), 2);
    fs::remove_file(corpus.folder.path().join("a.txt")).unwrap();
    let found = call(&search, json!({ "query": "walrus" })).await.unwrap();
    assert_eq!(files(&found), ["b.txt"]);
    assert_eq!(found["searched"]["skipped"], json!({ "changed meanwhile": 1 }));
}

#[tokio::test]
async fn what_is_not_text_is_skipped_and_counted() {
    let big = vec![b'x'; 4 * 1024 * 1024 + 1];
    let corpus = Corpus::new(&[
        ("text.txt", "A wörd.".as_bytes()),
        ("image.png", b"\x89PNG\x00\x01word"),
        ("latin1.txt", b"w\xf6rd"),
        ("big.txt", &big),
        (".hidden", b"word"),
        (".gitignore", b"*.log\n/target/\n!keep.log\n"),
        ("a.log", b"word"),
        ("keep.log", b"word"),
        ("target/out.txt", b"word"),
    ]);
    let skipped = json!({ "binary": 1, "not UTF-8": 1, "over 4 MiB": 1, "hidden": 2, "ignored": 2 });
    // The second time, the reasons come out of the index.
    for _ in 0..2 {
        let found = corpus.find("word wörd").await;
        assert_eq!(found["searched"]["files"], 2, "{found}");
        assert_eq!(found["searched"]["skipped"], skipped);
    }
}

#[tokio::test]
async fn queries_are_words_and_nothing_else() {
    let corpus = Corpus::new(&[("a.md", b"Plain walrus text.")]);
    for query in [
        "walrus\" OR \"x",
        "walrus AND",
        "NOT walrus",
        "walrus*",
        "text:walrus",
        "{heading}: walrus",
        "NEAR(walrus text)",
        "walrus'; DROP TABLE words; --",
        "^walrus",
        "walrus +",
        "(walrus",
        "walrus\u{0}\u{1}",
        "Walrus",
        "wàlrus",
    ] {
        assert_eq!(files(&corpus.find(query).await), ["a.md"], "{query:?}");
    }
    for query in ["", "   ", "?!\"'*", "\u{0}", "()"] {
        let error = call(&corpus.search(), json!({ "query": query })).await.unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (StepErrorKind::BadInput, "the query has no word to look for")
        );
    }
}

#[tokio::test]
async fn an_empty_folder_has_no_hits() {
    let found = Corpus::new(&[]).find("anything").await;
    assert_eq!(found["hits"], json!([]));
    assert_eq!((&found["searched"]["files"], &found["searched"]["passages"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_folder_that_vanished_is_an_error() {
    let corpus = Corpus::new(&[("a.txt", b"word")]);
    let search = corpus.search();
    fs::remove_dir_all(corpus.folder.path()).unwrap();
    let error = call(&search, json!({ "query": "word" })).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Permanent);
    assert!(error.message.contains("cannot be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_searches_of_two_tools_share_one_index() {
    let text: Vec<(String, String)> = (0..200)
        .map(|number| (format!("{number}.txt"), format!("Walrus number{number} sleeps.\n").repeat(5)))
        .collect();
    let files: Vec<(&str, &[u8])> = text.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let corpus = Corpus::new(&files);
    let tools = [Arc::new(corpus.search()), Arc::new(corpus.search())];
    let searches = (0..40_usize).map(|number| {
        let tool = tools[number % 2].clone();
        tokio::spawn(async move {
            let found = call(&*tool, json!({ "query": format!("number{number}") })).await.unwrap();
            assert_eq!(found["hits"][0]["file"], format!("{number}.txt"));
            assert_eq!(found["searched"]["files"], 200);
            assert_eq!(found["searched"].get("note"), None, "both keep the same index");
        })
    });
    for search in searches.collect::<Vec<_>>() {
        search.await.unwrap();
    }
}

#[tokio::test]
async fn an_index_that_is_damaged_or_cannot_be_kept_is_made_up_for() {
    let corpus = Corpus::new(&[("a.txt", b"The walrus sleeps.")]);
    corpus.find("walrus").await;
    for entry in fs::read_dir(corpus.cache.path()).unwrap() {
        fs::write(entry.unwrap().path(), vec![b'?'; 8_192]).unwrap();
    }
    let found = corpus.find("walrus").await;
    assert_eq!(files(&found), ["a.txt"]);
    assert!(found["searched"]["note"].as_str().unwrap().contains("built anew"));
    assert_eq!(corpus.find("walrus").await["searched"].get("note"), None);

    let in_the_way = corpus.cache.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let search = SearchFiles::new(corpus.open()).cache(in_the_way.join("cache"));
    let found = call(&search, json!({ "query": "walrus" })).await.unwrap();
    assert_eq!(files(&found), ["a.txt"]);
    assert!(found["searched"]["note"].as_str().unwrap().contains("cannot be kept"));
}

#[tokio::test]
async fn arguments_are_strict() {
    let corpus = Corpus::new(&[("a.txt", b"word")]);
    let search = corpus.search();
    for (args, message) in [
        (json!({ "qurey": "x" }), "unknown argument `qurey`: did you mean `query`?"),
        (json!({ "query": "x", "page": 2 }), "unknown argument `page`: this tool takes `query` and `limit`"),
        (json!({}), "the argument `query` is missing"),
        (json!({ "query": 3 }), "`query` must be text, not a number"),
        (json!({ "query": null }), "`query` must be text, not null"),
        (json!({ "query": "x", "limit": 0 }), "`limit` must be a whole number from 1 to 100, not 0"),
        (json!({ "query": "x", "limit": "3" }), "`limit` must be a whole number, not text"),
        (json!("x"), "arguments must be an object with `query` and `limit`"),
    ] {
        let error = call(&search, args).await.unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::BadInput, message));
    }
}

#[test]
fn folders_are_opened_or_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Folder::open(folder.path()).is_ok());
    assert!(matches!(Folder::open(folder.path().join("none")), Err(FolderError::NotFound { .. })));
    assert!(matches!(Folder::open(&file), Err(FolderError::NotAFolder { .. })));
    assert!(matches!(Folder::open(file.join("below")), Err(FolderError::NotAFolder { .. })));
}

#[tokio::test]
async fn read_file_reads_files_and_lines() {
    let corpus = Corpus::new(&[("a.txt", b"one\ntwo\nthree\n"), ("empty", b""), ("bin", b"a\0b")]);
    let read = ReadFile::new(corpus.open());
    let whole = call(&read, json!({ "path": "./a.txt" })).await.unwrap();
    assert_eq!(whole, json!({ "path": "./a.txt", "line": 1, "last_line": 3, "lines": 3, "text": "one\ntwo\nthree\n" }));
    let some = call(&read, json!({ "path": "a.txt", "from_line": 2, "to_line": 9 })).await.unwrap();
    assert_eq!((&some["text"], &some["last_line"]), (&json!("two\nthree\n"), &json!(3)));
    assert_eq!(call(&read, json!({ "path": "empty" })).await.unwrap()["text"], "");
    for (args, message) in [
        (json!({ "path": "a.txt", "from_line": 4 }), "`a.txt` has 3 lines; there is no line 4"),
        (json!({ "path": "a.txt", "from_line": 3, "to_line": 2 }), "`from_line` (3) comes after `to_line` (2)"),
        (json!({ "path": "bin" }), "`bin` is a binary file"),
        (json!({ "path": "none" }), "there is no file `none` in the folder"),
        (json!({ "path": "" }), "`path` is empty"),
    ] {
        assert_eq!(call(&read, args).await.unwrap_err().message, message);
    }
}

#[tokio::test]
async fn read_file_asks_for_a_range_when_there_is_too_much() {
    let corpus = Corpus::new(&[("long.txt", "a line of text\n".repeat(100_000).as_bytes())]);
    let read = ReadFile::new(corpus.open());
    let error = call(&read, json!({ "path": "long.txt" })).await.unwrap_err();
    assert!(error.message.contains("ask for fewer of its 100000 lines"), "{error}");
    assert!(call(&read, json!({ "path": "long.txt", "from_line": 99_990 })).await.is_ok());
}

#[cfg(unix)]
mod hostile {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const SECRET: &str = "the secret walrus";

    /// A folder full of ways out, with a secret beside it.
    fn corpus() -> (Corpus, TempDir) {
        let outside = TempDir::new().unwrap();
        write(&outside, &[("secret.txt", SECRET.as_bytes())]);
        let corpus = Corpus::new(&[("inside.txt", b"plain text"), ("below/deep.txt", b"plain text")]);
        let at = |name: &str| corpus.folder.path().join(name);
        symlink(outside.path().join("secret.txt"), at("link.txt")).unwrap();
        symlink(outside.path(), at("linked")).unwrap();
        symlink("../../..", at("below/up")).unwrap();
        symlink("/", at("root")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("/proc/self/environ", at("environ")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("inside.txt", at("alias.txt")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        (corpus, outside)
    }

    #[tokio::test]
    async fn no_path_leads_out() {
        let (corpus, outside) = corpus();
        let read = ReadFile::new(corpus.open());
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        let absolute = outside.path().join("secret.txt").display().to_string();
        let mut paths: Vec<String> = [
            "link.txt",
            "linked/secret.txt",
            "linked/../secret.txt",
            "linked",
            "root/etc/passwd",
            "root/proc/self/environ",
            "below/up/etc/passwd",
            "below/up",
            "zero",
            "environ",
            "loop",
            "pipe",
            "below",
            ".",
            "..",
            "../",
            "./..",
            "below/../..",
            "below/../../etc/passwd",
            "../../../../../../etc/passwd",
            "/etc/passwd",
            "//etc/passwd",
            "/dev/zero",
            "/dev/stdin",
            "/proc/self/environ",
            "/proc/self/fd/0",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/etc/passwd",
            "..\\..\\etc\\passwd",
            "....//....//etc/passwd",
            "inside.txt/",
            "inside.txt/..",
            "inside.txt/../../etc/passwd",
            "inside.txt\0",
            "\0",
            "~/.profile",
            "$HOME/.profile",
            "file:///etc/passwd",
            "none/../../etc/passwd",
            "\u{2025}/etc/passwd",
        ]
        .map(str::to_owned)
        .to_vec();
        paths.extend([
            format!("../{name}/secret.txt"),
            absolute.clone(),
            format!("root{absolute}"),
            "a/".repeat(5_000),
        ]);
        assert!(paths.len() >= 40);
        for path in paths {
            let started = Instant::now();
            let result = call(&read, json!({ "path": path })).await;
            assert!(result.is_err(), "{path:?} was read: {result:?}");
            assert!(started.elapsed() < Duration::from_secs(30), "{path:?} blocked");
        }
        // A link that stays inside is a file like any other.
        assert_eq!(call(&read, json!({ "path": "alias.txt" })).await.unwrap()["text"], "plain text");
    }

    #[tokio::test]
    async fn a_search_sees_nothing_outside_and_does_not_block() {
        let (corpus, _outside) = corpus();
        // An ignore file that never ends, and one that never begins.
        symlink("/dev/zero", corpus.folder.path().join(".ignore")).unwrap();
        assert!(Command::new("mkfifo").arg(corpus.folder.path().join(".gitignore")).status().unwrap().success());
        let found = tokio::time::timeout(Duration::from_secs(10), corpus.find("secret walrus")).await.unwrap();
        assert!(files(&found).is_empty(), "{found}");
        assert_eq!(found["searched"]["files"], 2);
        assert_eq!(found["searched"]["skipped"], json!({ "links": 8, "not files": 1, "hidden": 2 }));
    }

    #[test]
    fn swapping_a_file_for_a_link_does_not_help() {
        let (corpus, outside) = corpus();
        let (file, link) = (corpus.folder.path().join("swapped"), corpus.folder.path().join("swap"));
        let secret = outside.path().join("secret.txt");
        let stop = AtomicBool::new(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = ReadFile::new(corpus.open());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    symlink(&secret, &link).unwrap();
                    fs::rename(&link, &file).unwrap();
                    fs::write(&link, "plain text").unwrap();
                    fs::rename(&link, &file).unwrap();
                }
            });
            for _ in 0..2_000 {
                if let Ok(output) = runtime.block_on(call(&read, json!({ "path": "swapped" }))) {
                    assert_eq!(output["text"], "plain text");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[tokio::test]
    async fn indexes_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let corpus = Corpus::new(&[("a.txt", b"word")]);
        let cache = corpus.cache.path().join("below");
        call(&SearchFiles::new(corpus.open()).cache(&cache), json!({ "query": "word" })).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&cache), 0o700);
        for entry in fs::read_dir(&cache).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
}

#[tokio::test]
async fn calculate_gives_numbers_where_they_fit() {
    let calculate = Calculate::new();
    for (expression, result, exact) in [
        ("2 * (3 + 4)", json!(14), true),
        ("0.1 + 0.2", json!(0.3), true),
        ("20% of 50", json!(10), true),
        ("-7", json!(-7), true),
        ("1/3", json!(0.333_333_333_3), false),
        ("5 km to m", json!("5000 m"), true),
        ("99999999999 * 99999999999", json!("9999999999800000000001"), true),
        // These are no dice.
        ("0xd2 to decimal", json!(210), true),
        ("0x1ad2 to decimal", json!(6866), true),
    ] {
        let output = call(&calculate, json!({ "expression": expression })).await.unwrap();
        assert_eq!(output, json!({ "expression": expression, "result": result, "exact": exact }));
    }
}

#[tokio::test]
async fn calculate_survives_every_expression() {
    let calculate = Calculate::new();
    let hostile = [
        String::new(),
        "   ".into(),
        "1/0".into(),
        "nonsense".into(),
        "roll d6".into(),
        "sample d6".into(),
        "today".into(),
        "1 USD to EUR".into(),
        r"(\x. x x)(\x. x x)".into(),
        "f = (x => f x); f 1".into(),
        "x: x".into(),
        "9^9^9^9".into(),
        "1000000!".into(),
        "(".repeat(2_000),
        "[".repeat(101),
        "1".repeat(5_000),
        format!("{}1{}", "(".repeat(101), ")".repeat(101)),
    ];
    for expression in hostile {
        let started = Instant::now();
        assert!(call(&calculate, json!({ "expression": expression })).await.is_err(), "{expression}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    // A die of so many faces would take up all memory: this was found by fuzzing.
    for die in
        ["d299999991", "1 + d299999991", "2 d299999991", "1d299999991", "1_0d299999991", "(d299999991)", "x1d299999991"]
    {
        let error = call(&calculate, json!({ "expression": die })).await.unwrap_err();
        assert!(error.message.contains("dice"), "{die}: {error}");
    }
    for digits in [
        format!("0b1d{}", "1".repeat(31)),
        format!("0bd{}", "1".repeat(31)),
        "0o1d3777777777".into(),
        "8#1d3777777777".into(),
        "1.d299999991".into(),
    ] {
        let error = call(&calculate, json!({ "expression": digits })).await.unwrap_err();
        assert!(error.message.contains("dice"), "{digits}: {error}");
    }
    // Nothing ends these once they are begun.
    for endless in [
        "1 << 4294967296",
        "1<<(2^32)",
        "1 << 9 + 2^40",
        "5 << 1000",
        "@2020-01-01 + 1000000000000000000 days",
        "@2020-01-01 + 9999 * 9999999999999 days",
        "@2020-01-01 - 9999 9999999999999 weeks",
        "\"2020-01-01\" to date + 1000000000000000000 days",
    ] {
        let answer = call(&calculate, json!({ "expression": endless }));
        let error = tokio::time::timeout(Duration::from_secs(10), answer).await.expect(endless).unwrap_err();
        assert!(error.message.contains("shift") || error.message.contains("date"), "{endless}: {error}");
    }
    for (expression, result) in [
        ("5 << 3", json!(40)),
        ("2 * (1 << 999) / 2^999", json!(2)),
        ("1<<2<<3", json!(32)),
        ("@2024-02-28 + 2 days", json!("Friday, 1 March 2024")),
        ("@2024-03-31 - 1 year - 31 days", json!("Tuesday, 28 February 2023")),
    ] {
        let output = call(&calculate, json!({ "expression": expression })).await.unwrap();
        assert_eq!(output["result"], result, "{expression}");
    }
    // Whatever comes of these, it comes.
    for expression in ["-".repeat(4_000), "2^".repeat(2_000) + "1", "a ".repeat(2_000), "1*".repeat(2_000) + "1"] {
        let _ = call(&calculate, json!({ "expression": expression })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sleep_sleeps() {
    let started = tokio::time::Instant::now();
    let output = call(&Sleep::new(), json!({ "ms": 3_600_000 })).await.unwrap();
    assert_eq!(output, json!({ "slept_ms": 3_600_000 }));
    assert_eq!(started.elapsed(), Duration::from_secs(3_600));
    assert!(call(&Sleep::new(), json!({ "ms": -1 })).await.is_err());
}

#[test]
fn every_tool_describes_itself() {
    for (name, tool) in plandag::tools::all(None) {
        let spec = tool.spec();
        assert_eq!(spec.name, name);
        assert!(!spec.description.is_empty() && !spec.output.is_empty());
        assert_eq!(spec.effect, Effect::Reads);
        assert_eq!(spec.arguments["additionalProperties"], false);
        assert_eq!(spec.timeout == ToolTimeout::Never, name == "sleep");
    }
}

#[tokio::test]
async fn without_a_folder_the_tools_say_what_is_missing() {
    for (name, tool) in plandag::tools::all(None).into_iter().filter(|(name, _)| NEED_FOLDER.contains(name)) {
        let error = call(&*tool, json!({})).await.unwrap_err();
        assert_eq!(error.message, format!("`{name}` needs a folder to read, and none was given (`--files DIR`)"));
    }
}
