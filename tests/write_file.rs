//! `write_file`: what it writes, and that it writes nowhere else.

#![cfg(feature = "tools")]

use std::fs;
use std::path::Path;

use plandag::tools::WriteFile;
use plandag::{Effect, StepContext, StepError, StepErrorKind, Tool, ToolOutput};
use serde_json::{Value, json};

async fn write(folder: &Path, args: Value) -> Result<Value, StepError> {
    match WriteFile::new(folder).call(StepContext::new(args)).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_written_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for text in ["first, and longer", "second"] {
        let written = write(&out, json!({ "path": "a/b/c.md", "content": text })).await.unwrap();
        assert_eq!(written, json!({ "path": "a/b/c.md", "bytes": text.len() }));
        assert_eq!(fs::read_to_string(out.join("a/b/c.md")).unwrap(), text);
    }
    // Nothing is left of the writing.
    assert_eq!(fs::read_dir(out.join("a/b")).unwrap().count(), 1);
}

#[tokio::test]
async fn values_are_written_as_json() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), json!({ "path": "a.json", "content": { "n": [1, 2] } })).await.unwrap();
    let written = fs::read_to_string(folder.path().join("a.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), json!({ "n": [1, 2] }));
    assert!(written.ends_with("}\n"));
}

#[tokio::test]
async fn paths_stay_in_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().join("out");
    fs::create_dir(&out).unwrap();
    let absolute = outside.path().join("absolute.txt");
    let paths = [
        "",
        ".",
        "..",
        "/",
        "../a",
        "../../a",
        "a/..",
        "a/../b",
        "a/../../b",
        "a/",
        "//a",
        "/a",
        "/etc/passwd",
        "/proc/self/environ",
        "..\0/a",
        "a\0b",
        "a\nb",
        "a\u{1b}[2Jb",
        "\u{7f}",
        absolute.to_str().unwrap(),
    ];
    for path in paths {
        let error = write(&out, json!({ "path": path, "content": "x" })).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::BadInput, "{path:?}: {error}");
    }
    // These are names like any other.
    let names = [
        "...",
        "./notes.md",
        "....//a",
        "%2e%2e/a",
        "..%2fa",
        "%2e%2e%2fa",
        "..%c0%afa",
        "..\\a",
        "C:\\a",
        "~/a",
        "$HOME/a",
        "`id`",
        "a b",
        "ü/ß",
        "-rf",
        ".hidden",
        "a;b",
        "file:a",
        "..;/a",
    ];
    for path in names {
        write(&out, json!({ "path": path, "content": "x" })).await.unwrap();
        assert_eq!(fs::read_to_string(out.join(path)).unwrap(), "x", "{path:?}");
    }
    let beside: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["out"]);
}

#[tokio::test]
async fn arguments_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let cases = [
        (json!({ "path": "a" }), "`content` is missing"),
        (json!({ "path": "a", "content": null }), "null"),
        (json!({ "path": "a", "contents": "x" }), "did you mean `content`?"),
        (json!({ "path": 1, "content": "x" }), "must be text"),
        (json!({ "path": "sub", "content": "x" }), "`sub` cannot be written"),
        (json!({ "path": "a", "content": "x".repeat(16 * 1024 * 1024 + 1) }), "over the limit of 16 MiB"),
        (json!({ "path": "x".repeat(300), "content": "x" }), "cannot be written"),
    ];
    for (args, message) in cases {
        let error = write(folder.path(), args).await.unwrap_err();
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn it_acts_and_may_be_repeated() {
    let spec = WriteFile::new("out").spec();
    assert_eq!((spec.effect, spec.idempotent), (Effect::Acts, true));
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn links_out_of_the_folder_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let out = outside.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(outside.path().join("secret"), "untouched").unwrap();
        symlink(outside.path(), out.join("up")).unwrap();
        symlink("../secret", out.join("file")).unwrap();

        assert!(write(&out, json!({ "path": "up/secret", "content": "x" })).await.is_err());
        assert!(write(&out, json!({ "path": "up/new/file", "content": "x" })).await.is_err());
        // A link in the place of the file is replaced.
        write(&out, json!({ "path": "file", "content": "x" })).await.unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "untouched");
        assert!(!out.join("file").is_symlink());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    }

    /// Somebody keeps swapping a folder for a link that leads out.
    #[tokio::test]
    async fn swapping_folders_for_links_gains_nothing() {
        let outside = tempfile::tempdir().unwrap();
        let (out, target) = (outside.path().join("out"), outside.path().join("target"));
        fs::create_dir(&out).unwrap();
        fs::create_dir(&target).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let (stop, folder, aside, target) = (stop.clone(), out.join("sub"), out.join("aside"), target.clone());
            move || {
                let mut swaps = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::create_dir(&folder);
                    let _ = fs::rename(&folder, &aside);
                    let _ = symlink(&target, &folder);
                    let _ = fs::remove_file(&folder);
                    let _ = fs::remove_dir_all(&aside);
                    swaps += 1;
                }
                swaps
            }
        });
        let mut written = 0;
        // On a busy machine it takes a while until the two meet.
        for tries in 0..100_000 {
            if tries > 1_000 && written > 0 {
                break;
            }
            written += u32::from(write(&out, json!({ "path": "sub/file", "content": "x" })).await.is_ok());
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = swapping.join().unwrap();
        assert!(written > 0 && swaps > 100, "{written} writes and {swaps} swaps did not meet");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}
