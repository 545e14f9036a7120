//! `bench`: how often a plan's own tools are called, and what becomes of them when it is stopped.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, in_time, sleep};

/// A step that runs a line of a shell.
fn shell(id: &str, line: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "tool": "shell", "args": { "argv": ["sh", "-c", line] }, "depends_on": depends_on })
}

/// What a tool left there.
fn left(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn no_real_run_is_faster_than_what_is_said_to_be_possible() {
    let place = Place::new();
    // The first call takes much longer than all others.
    let line = "test -e warm || sleep 0.4; touch warm";
    place.plan(json!([shell("a", line, &[]), shell("b", line, &["a"])]));
    for runs in ["1", "3"] {
        let _ = fs::remove_dir_all(place.path().join("plandag-output"));
        let ran = place.run(["bench", "plan.json", "--real", "--allow", "shell", "--runs", runs, "--json"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let row = ran.last_event();
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("of_bound") <= 1.0 && number("work_ms") <= number("sequential_ms"), "{row}");
        assert!(number("critical_ms") <= number("work_ms") && number("work_ms") < 400.0, "{row}");
    }
}

#[test]
fn tools_that_act_are_called_as_often_as_somebody_said_and_neither_way_is_always_first() {
    in_time(|| {
        let place = Place::new();
        let line = "printf '<' >> log; sleep 0.4; printf '>' >> log";
        place.plan(json!([shell("a", line, &[]), shell("b", line, &[])]));
        let ran = place.run(["bench", "plan.json", "--real", "--allow", "shell", "--runs", "2", "--json"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let log = left(&place.path().join("plandag-output/log"));
        assert_eq!(log.len(), 16, "{log}");
        (log == "<><><<>><<>><><>").then_some(())
    });
}

#[test]
fn tools_that_read_are_called_once_before_it_counts() {
    let place = Place::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            );
        }
    });
    place.plan(json!([{ "id": "a", "tool": "fetch", "args": { "url": format!("http://{host}/") } }]));
    let ran = place.run(["bench", "plan.json", "--real", "--allow-host", &host, "--runs", "2", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

/// Sends a signal to a process.
fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_bench_that_is_stopped_leaves_no_program_and_tells_what_it_has() {
    for (signal, exit) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        place.file("quick.json", json!({ "steps": [sleep("a", 1, &[])] }).to_string());
        place.file("long.json", json!({ "steps": [shell("b", "echo $$ > pid; sleep 600", &[])] }).to_string());
        let arguments = ["bench", "quick.json", "long.json", "--real", "--allow", "shell", "--html", "bench.html"];
        let mut command = place.command(arguments);
        let mut bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let program = loop {
            if let Ok(pid) = left(&place.path().join("plandag-output/pid")).trim().parse::<u32>() {
                break pid;
            }
            assert!(begun.elapsed() < PATIENCE, "its program never began");
            thread::sleep(Duration::from_millis(10));
        };
        send(signal, bench.id());
        let mut said = BufReader::new(bench.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("press again")), "{signal}");
        // The second one ends it at once.
        send("INT", bench.id());
        let said: Vec<String> = said.collect();
        let ended = bench.wait_with_output().unwrap();
        let told = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(ended.status.code(), Some(exit), "{told} {said:?}");
        assert!(told.contains("\n quick ") && told.contains("\n machine "), "{told}");
        let row: Vec<&str> =
            told.lines().find_map(|line| line.strip_prefix(" long ")).unwrap().split_whitespace().collect();
        assert_eq!(row, ["1", "-", "-", "-", "-", "-", "-", "-"], "{told}");
        assert!(said.iter().any(|line| line.contains("1 plan measured before")), "{said:?}");
        assert!(left(&place.path().join("bench.html")).contains("quick"));
        let is_alive = Command::new("kill").args(["-0", &program.to_string()]).stderr(Stdio::null()).status().unwrap();
        assert!(!is_alive.success(), "its program lives on");
    }
}

#[test]
fn nobody_waits_for_the_rest_of_a_sleep() {
    let place = Place::new();
    place.file("plans.jsonl", r#"{"id":"long","steps":[{"id":"x","duration_ms":600000}]}"#);
    let mut command = place.command(["bench", "plans.jsonl", "--time-scale", "1"]);
    let mut bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // From the head of the table on, signals are heard.
    let mut lines = BufReader::new(bench.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("of bound")));
    send("INT", bench.id());
    let told: Vec<String> = lines.collect();
    let row = told.iter().find_map(|line| line.strip_prefix(" long ")).unwrap().split_whitespace();
    assert_eq!(row.collect::<Vec<_>>(), ["1", "600.000s", "600.000s", "600.000s", "-", "-", "-", "-"], "{told:?}");
    assert!(told.contains(&"   stopped after 0 runs one at a time and 0 runs as a DAG".to_owned()), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with(" machine ")), "{told:?}");
    let ended = bench.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
}

#[test]
fn a_signal_does_not_wait_for_what_is_worked_out() {
    let place = Place::new();
    let pipe = place.path().join("plans.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = place.command(["bench", "plans.jsonl"]);
    let mut bench = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Once it has opened the file, signals are heard. There is never a plan in it.
    let never = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    send("TERM", bench.id());
    let begun = Instant::now();
    while bench.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    // Otherwise it goes on reading until nobody writes any more.
    drop(never);
    let ended = bench.wait_with_output().unwrap();
    assert!(begun.elapsed() < PATIENCE, "{ended:?}");
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("0 plans measured before"), "{ended:?}");
}
