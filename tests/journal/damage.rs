//! Journals that are none, are damaged, or cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use plandag::journal::{Journal as _, SCHEMA_VERSION, SqliteJournal};
use plandag::{Plan, Runner, Step, tool_fn};
use rusqlite::Connection;
use serde_json::json;

use crate::support::{Place, query};

/// A place with one finished run in it, and all of the journal in one file.
fn kept() -> Place {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 1 } }]));
    assert_eq!(place.run("run plan.json -q").exit, Some(0));
    // A process may end before its log is moved into the file: without that, there is not much in it.
    let connection = Connection::open(place.journal()).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    place
}

/// SQLite would take the log that is still there for that of the new file.
#[test]
fn what_a_deleted_journal_has_left_is_no_part_of_the_next_one() {
    let place = kept();
    let (file, log) = (place.journal(), format!("{}-wal", place.journal().display()));
    let held = Connection::open(&file).unwrap();
    held.query_row("SELECT count(*) FROM runs", [], |_| Ok(())).unwrap();
    assert_eq!(place.run("run plan.json -q").exit, Some(0));
    // As a process leaves it that is killed.
    let left = fs::read(&log).unwrap();
    assert!(!left.is_empty());
    drop(held);
    fs::remove_file(&file).unwrap();
    fs::write(&log, left).unwrap();
    assert_eq!(place.run("run plan.json -q").exit, Some(0));
    let listed = place.run("runs --json");
    assert_eq!((listed.exit, listed.stdout.lines().count()), (Some(0), 1), "{listed:?}");
}

#[test]
fn what_is_no_journal_is_refused_and_left_alone() {
    let place = kept();
    let good = fs::read(place.journal()).unwrap();
    let newer = {
        let copy = place.path("newer.db");
        fs::write(&copy, &good).unwrap();
        let connection = Connection::open(&copy).unwrap();
        connection.pragma_update(None, "journal_mode", "delete").unwrap();
        connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        drop(connection);
        fs::read(&copy).unwrap()
    };
    let other = {
        let file = place.path("other.db");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        fs::read(&file).unwrap()
    };
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("text", b"not a database at all, but long enough to be read as one. ".repeat(20), "is no database"),
        ("short", good[..50].to_vec(), "is cut off"),
        ("truncated", good[..good.len() / 2].to_vec(), "is cut off"),
        ("newer", newer, "newer release"),
        ("other", other, "another program"),
    ];
    for (name, bytes, message) in cases {
        let file = place.path(&format!("{name}.db"));
        fs::write(&file, &bytes).unwrap();
        for line in ["run plan.json", "resume", "runs", "show x", "doctor"] {
            let ran = place.run(&format!("{line} --journal {name}.db"));
            assert_eq!(ran.exit, Some(7), "{name}: {line}: {ran:?}");
            assert!(ran.stderr.contains(message), "{name}: {line}: {}", ran.stderr);
            assert!(fs::read(&file).unwrap() == bytes, "{name} was changed by {line}");
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays_what_it_is() {
    use std::os::unix::fs::FileTypeExt as _;

    let place = kept();
    let make = |program: &str, arguments: &[&str]| {
        let made = std::process::Command::new(program).args(arguments).current_dir(place.path("")).output();
        made.is_ok_and(|made| made.status.success())
    };
    assert!(make("mkfifo", &["pipe"]));
    fs::create_dir(place.path("folder")).unwrap();
    let mut files = vec!["folder", "pipe"];
    // Only root can make one. It is one of our own, and does what /dev/null does.
    if make("mknod", &["device", "c", "1", "3"]) {
        files.insert(0, "device");
    }
    for file in files {
        std::os::unix::fs::symlink(file, place.path("link")).unwrap();
        let kind = || fs::metadata(place.path(file)).unwrap().file_type();
        let before = kind();
        for name in [file, "link"] {
            for line in ["run plan.json", "resume", "runs", "show x", "simulate plan.json", "serve --port 0", "doctor"]
            {
                let ran = place.run(&format!("{line} --journal {name}"));
                assert_eq!(ran.exit, Some(7), "{name}: {line}: {ran:?}");
                assert!(ran.stderr.contains("no regular file"), "{name}: {line}: {}", ran.stderr);
            }
        }
        assert_eq!(kind(), before);
        assert_eq!(before.is_fifo(), file == "pipe");
        fs::remove_file(place.path("link")).unwrap();
        assert!(!place.path(&format!("{file}.locks")).exists());
    }
}

#[test]
fn a_link_is_followed_and_the_journal_is_what_it_leads_to() {
    let place = kept();
    fs::create_dir(place.path("far")).unwrap();
    fs::write(place.path("far/empty.db"), "").unwrap();
    for name in ["empty", "new"] {
        let (link, second) = (format!("{name}.db"), format!("{name}-again.db"));
        std::os::unix::fs::symlink(format!("far/{name}.db"), place.path(&link)).unwrap();
        std::os::unix::fs::symlink(&link, place.path(&second)).unwrap();
        let ran = place.run(&format!("run plan.json -q --journal {second}"));
        assert_eq!(ran.exit, Some(0), "{ran:?}");
        assert!(place.path(&link).is_symlink() && place.path(&second).is_symlink());
        let target = place.path(&format!("far/{name}.db"));
        assert_eq!(query(&target, "SELECT status FROM runs"), ["succeeded"]);
        // Whatever name it is opened by, there is one place for the locks.
        assert!(place.path(&format!("far/{name}.db.locks")).exists());
        assert!(!place.path(&format!("{second}.locks")).exists());
    }
    std::os::unix::fs::symlink("loop.db", place.path("loop.db")).unwrap();
    assert_eq!(place.run("run plan.json --journal loop.db").exit, Some(7));
}

#[test]
fn who_only_looks_makes_no_journal_of_an_empty_file() {
    let place = kept();
    fs::write(place.path("empty.db"), "").unwrap();
    let before = fs::read_dir(place.path("")).unwrap().count();
    for line in ["runs", "show x", "logs x", "replay x", "resume", "simulate plan.json", "doctor", "open"] {
        let ran = place.run(&format!("{line} --journal empty.db"));
        assert_eq!(ran.exit, Some(2), "{line}: {ran:?}");
        assert!(ran.stderr.contains("no run was kept yet"), "{line}: {}", ran.stderr);
        assert_eq!(fs::metadata(place.path("empty.db")).unwrap().len(), 0, "{line}");
    }
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), before);
    assert_eq!(place.run("run plan.json -q --journal empty.db").exit, Some(0));
    assert_eq!(query(&place.path("empty.db"), "SELECT status FROM runs"), ["succeeded"]);
}

/// Every page is damaged in turn: the list either has the run, or there is none.
#[test]
fn a_damaged_journal_is_not_taken_for_an_empty_one() {
    const PAGE: usize = 4096;
    let place = kept();
    let run = place.query("SELECT run FROM runs").remove(0);
    let good = fs::read(place.journal()).unwrap();
    let mut refused = 0;
    for page in 1..good.len() / PAGE {
        for from in [8, 900] {
            let mut bytes = good.clone();
            bytes[page * PAGE + from..(page + 1) * PAGE].iter_mut().for_each(|byte| *byte ^= 0xff);
            fs::write(place.path("bad.db"), &bytes).unwrap();
            for line in ["runs".to_owned(), format!("show {run}")] {
                let ran = place.run(&format!("{line} --journal bad.db"));
                let is_there = ran.exit == Some(0) && ran.stdout.contains(&run);
                let is_refused = ran.exit == Some(7) && ran.stderr.contains("damaged");
                assert!(is_there || is_refused, "page {page} from {from}: {line}: {ran:?}");
                refused += usize::from(is_refused);
            }
            let doctor = place.run("doctor --journal bad.db");
            assert!(doctor.exit == Some(0) || doctor.stderr.contains("damaged"), "page {page} from {from}: {doctor:?}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_newer_layout_is_refused_also_while_only_the_log_says_so() {
    let place = kept();
    let connection = Connection::open(place.journal()).unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    for line in ["run plan.json", "resume"] {
        let ran = place.run(line);
        assert_eq!(ran.exit, Some(7), "{line}: {ran:?}");
        assert!(ran.stderr.contains("newer release"), "{line}: {}", ran.stderr);
    }
    assert_eq!(place.query("SELECT run FROM runs").len(), 1);
}

#[test]
fn a_journal_that_cannot_be_there_is_said_so() {
    let place = kept();
    let ran = place.run("run plan.json --journal plan.json/runs.db");
    assert_eq!(ran.exit, Some(7));
    assert!(ran.stderr.contains("--no-journal"), "{}", ran.stderr);
    let ran = place.run("runs --journal nothing.db");
    assert_eq!(ran.exit, Some(2));
    assert!(!place.path("nothing.db").exists());
    assert_eq!(place.run("run plan.json -q --no-journal").exit, Some(0));
    assert_eq!(place.query("SELECT run FROM runs").len(), 1);
}

#[test]
fn a_journal_that_another_program_holds_is_said_so() {
    let place = kept();
    // What may still be in the log would move into the file, whoever closes it last.
    Connection::open(place.journal()).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap_or_default();
    // Read before it is locked: closing any handle of a file gives up all locks that the process has on it.
    let before = fs::read(place.journal()).unwrap();
    let holder = Connection::open(place.journal()).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let refused = &|line: &str| {
        let ran = place.run(line);
        assert_eq!(ran.exit, Some(7), "{line}: {ran:?}");
        for part in ["another process keeps the file locked", "plandag resume", "--journal FILE"] {
            assert!(ran.stderr.contains(part), "{line}: {}", ran.stderr);
        }
    };
    // Each waits for a while.
    std::thread::scope(|scope| {
        for line in ["run plan.json", "show x"] {
            scope.spawn(move || refused(line));
        }
    });
    drop(holder);
    assert!(fs::read(place.journal()).unwrap() == before);
}

#[test]
fn nobody_else_can_read_it() {
    let place = kept();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.journal()), 0o600);
    assert_eq!(mode(place.journal().parent().unwrap()), 0o700);
    assert_eq!(query(&place.journal(), "PRAGMA journal_mode"), ["wal"]);
}

#[test]
fn secrets_are_not_in_it() {
    const CANARY: &str = "hush-4711-canary/+";
    let place = Place::new();
    let script = "echo $0; printf %s \"$0\" | base64; exit 3";
    place.plan(json!([
        { "id": "says", "tool": "shell", "args": { "argv": ["sh", "-c", script, CANARY] } },
        { "id": "large", "tool": "shell", "args": { "argv": ["sh", "-c", "yes hush-4711-canary/+ | head -c 200000"] } },
    ]));
    let ran = place.command("run plan.json --allow shell --json").env("MY_API_KEY", CANARY).output().unwrap();
    let mut places = vec![("stdout".to_owned(), ran.stdout), ("stderr".to_owned(), ran.stderr)];
    for entry in fs::read_dir(place.path(".state/plandag")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(places.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("[redacted]")));
    for form in [CANARY, "aHVzaC00NzExLWNhbmFye", "hush-4711-canary%2F"] {
        for (name, bytes) in &places {
            assert!(!String::from_utf8_lossy(bytes).contains(form), "{form} is in {name}");
        }
    }
}

/// 100 offsets, or as many as `PLANDAG_CUTS` says.
#[test]
fn a_log_that_was_cut_off_anywhere_is_a_prefix_of_history() {
    let cuts: u64 = std::env::var("PLANDAG_CUTS").map_or(100, |count| count.parse().expect("PLANDAG_CUTS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let steps: Plan = (0..20).map(|n| Step::new(format!("s{n}"), "one").args(json!({ "n": n }))).collect();
    let journal = SqliteJournal::open(&file).unwrap();
    let runner = Runner::new(steps).tool("one", tool_fn(|cx| async move { Ok(cx.args) })).max_parallel(2);
    let report = runtime.block_on(runner.journal(journal).run("cut")).unwrap();
    let journal = SqliteJournal::open(&file).unwrap();
    let whole = runtime.block_on(journal.history(report.run())).unwrap();
    drop(journal);
    // The log is gone once the last one has closed the file: a copy of both, taken while it is open, is cut.
    let journal = SqliteJournal::open(&file).unwrap();
    let runner =
        Runner::new((0..20).map(|n| Step::new(format!("s{n}"), "one").args(json!({ "n": n }))).collect::<Plan>())
            .tool("one", tool_fn(|cx| async move { Ok(cx.args) }))
            .max_parallel(2);
    let journal = std::sync::Arc::new(journal);
    let second = runtime.block_on(runner.journal(std::sync::Arc::clone(&journal)).run("cut")).unwrap();
    let (main, log) = (fs::read(&file).unwrap(), fs::read(folder.path().join("runs.db-wal")).unwrap());
    let all = runtime.block_on(journal.history(second.run())).unwrap();
    drop(journal);
    let mut rng = fastrand::Rng::new();
    let seed = rng.get_seed();
    let mut shortest = usize::MAX;
    for _ in 0..cuts {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("runs.db");
        fs::write(&file, &main).unwrap();
        fs::write(place.path().join("runs.db-wal"), &log[..rng.usize(..log.len())]).unwrap();
        let journal = SqliteJournal::open(&file).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let first = runtime.block_on(journal.history(report.run())).unwrap_or_default();
        let history = runtime.block_on(journal.history(second.run())).unwrap_or_default();
        assert!(first == whole[..first.len()] && history == all[..history.len()], "seed {seed}: no prefix");
        assert!(history.is_empty() || first == whole, "seed {seed}: what was written first is gone");
        shortest = shortest.min(history.len());
        assert_eq!(query(&file, "PRAGMA integrity_check"), ["ok"], "seed {seed}");
    }
    assert!(shortest < all.len(), "seed {seed}: no cut took anything away");
}

#[test]
fn a_full_disk_ends_the_run_and_nothing_is_claimed_that_is_not_written() {
    let place = kept();
    // Each is small enough for an event: large ones that are the same are written once.
    let script = r"head -c 60000 /dev/zero | tr '\0' y";
    place.plan((0..40).map(|n| {
        json!({ "id": format!("s{n}"), "tool": "shell", "args": { "argv": ["sh", "-c", script] }, "depends_on": if n == 0 { vec![] } else { vec![format!("s{}", n - 1)] } })
    }).collect());
    // No file of ours may grow beyond this: what a full disk does to a write.
    let mut command = place.command("run plan.json --allow shell --json");
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| format!("'{}'", part.to_str().unwrap()))
        .collect();
    command = {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &format!("ulimit -f 600; exec {}", line.join(" "))]);
        shell
            .current_dir(place.path(""))
            .env("XDG_STATE_HOME", place.path(".state"))
            .env("XDG_CACHE_HOME", place.path(".cache"));
        shell
    };
    let ran = command.output().unwrap();
    let stdout = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(7), "{stdout}\n{}", String::from_utf8_lossy(&ran.stderr));
    let told = stdout.lines().filter(|line| line.contains("\"step.finished\"")).count();
    let written = place.query("SELECT step FROM steps WHERE state = 'succeeded' AND tool = 'shell'").len();
    assert!(told <= written && written < 40, "told {told}, written {written}");
    assert_eq!(place.query("PRAGMA integrity_check"), ["ok"]);
    assert_eq!(place.run("resume -q").exit, Some(9));
}

/// A run is tried on disks of every size, each with room for one page more, from one that is full at the first write to
/// one that holds it all.
#[test]
fn a_disk_that_is_full_at_any_write_costs_nothing_that_was_written() {
    const PAGE_KIB: usize = 4;
    let (mut sizes, mut refused, mut stopped) = (0.., 0, 0);
    loop {
        let room = sizes.next().unwrap() * PAGE_KIB;
        let place = Place::new();
        fs::create_dir(place.path("docs")).unwrap();
        // Too large for an event: it is written by itself.
        fs::write(place.path("docs/large.txt"), "large\n".repeat(20_000)).unwrap();
        place.plan(json!([
            { "id": "large", "tool": "read_file", "args": { "path": "large.txt" } },
            { "id": "a", "tool": "calculate", "args": { "expression": "1 + 1" }, "depends_on": ["large"] },
            { "id": "b", "tool": "calculate", "args": { "expression": "${a.result} + 1" } },
            { "id": "c", "tool": "calculate", "args": { "expression": "${b.result} + 1" } },
        ]));
        let command = place.command("run plan.json --files docs --json");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &format!("ulimit -f {room}; exec {line}")]).current_dir(place.path(""));
        shell.env("XDG_STATE_HOME", place.path(".state")).env("XDG_CACHE_HOME", place.path(".cache"));
        let ran: crate::support::Ran = shell.output().unwrap().into();
        if ran.exit == Some(0) {
            break;
        }
        assert_eq!(ran.exit, Some(7), "{room} KiB: {ran:?}");
        assert!(!ran.stdout.contains("\"succeeded\",\"answer\""), "{room} KiB: {ran:?}");
        if !place.journal().exists() || place.query("SELECT run FROM runs").is_empty() {
            assert!(!ran.stdout.contains("step."), "{room} KiB: {ran:?}");
            refused += 1;
            continue;
        }
        let told = ran.stdout.lines().filter(|line| line.contains("\"step.finished\"")).count();
        let written = place.query("SELECT step FROM steps WHERE state = 'succeeded'").len();
        assert!(told <= written && written < 4, "{room} KiB: told {told}, written {written}: {ran:?}");
        assert_eq!(place.query("PRAGMA integrity_check"), ["ok"], "{room} KiB");
        let resumed = place.run("resume");
        assert_eq!(resumed.exit, Some(0), "{room} KiB: {resumed:?}");
        let answer: serde_json::Value = serde_json::from_str(&resumed.stdout).unwrap();
        assert_eq!(answer["result"], 4, "{room} KiB");
        stopped += 1;
    }
    assert!(refused > 5 && stopped > 5, "{refused} refused, {stopped} stopped");
}
