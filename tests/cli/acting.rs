//! The tools that act or leave this machine, as the command hands them out.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::Place;

fn write(path: &str) -> Value {
    json!({ "id": "note", "tool": "write_file", "args": { "path": path, "content": "kept" } })
}

#[test]
fn nothing_acts_without_leave() {
    let place = Place::new();
    let steps = json!([write("a.txt"), { "id": "list", "tool": "shell", "args": { "argv": ["touch", "b"] } }]);
    place.plan(steps);
    insta::assert_snapshot!("not_allowed", place.run(["run", "plan.json", "--allow", "write_file"]).transcript());
    let both = place.run(["run", "plan.json"]);
    assert_eq!(both.exit, 5);
    assert!(both.stderr.contains("--allow shell --allow write_file"), "{}", both.stderr);
    assert!(!place.path().join("plandag-output").exists());

    // What it would need is told before anybody runs it.
    let checked = place.run(["check", "plan.json"]);
    assert_eq!(checked.exit, 0);
    assert!(checked.stdout.contains("with --allow shell --allow write_file"), "{}", checked.stdout);
    let planned = place.run(["plan", "plan.json", "--allow", "shell"]);
    assert!(planned.stderr.contains("run commands in plandag-output"), "{}", planned.stderr);
    assert!(planned.stderr.contains("needs     --allow write_file"), "{}", planned.stderr);
}

#[test]
fn files_are_written_where_the_run_may_write() {
    let place = Place::new();
    place.plan(json!([write("notes/a.txt")]));
    let ran = place.run(["run", "plan.json", "--allow", "write_file"]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("write files in plandag-output") && ran.stderr.contains("run commands"));
    assert_eq!(std::fs::read(place.path().join("plandag-output/notes/a.txt")).unwrap(), b"kept");

    let elsewhere = place.run(["run", "plan.json", "--allow", "write_file", "--output-dir", "out"]);
    assert_eq!(elsewhere.exit, 0, "{}", elsewhere.stderr);
    assert!(place.path().join("out/notes/a.txt").exists());

    for path in ["../a.txt", "/tmp/a.txt", "a/../../a.txt", ""] {
        place.plan(json!([write(path)]));
        let refused = place.run(["run", "plan.json", "--allow", "write_file"]);
        assert_eq!(refused.exit, 1, "{path}: {}", refused.stderr);
        assert!(refused.stderr.contains("`path`"), "{path}: {}", refused.stderr);
    }
    assert!(!place.path().join("a.txt").exists());
}

#[cfg(unix)]
#[test]
fn programs_run_in_the_output_folder_with_a_clean_environment() {
    let place = Place::new();
    place.plan(json!([
        { "id": "where", "tool": "shell", "args": { "argv": ["sh", "-c", "pwd; echo ${SECRET-none}"] } }
    ]));
    // In a plan file `${` is a reference: `$${` is what a shell shall see.
    let plan = std::fs::read_to_string(place.path().join("plan.json")).unwrap().replace("${SECRET", "$${SECRET");
    place.file("plan.json", plan);
    let output =
        place.command(["run", "plan.json", "--allow", "shell", "--json"]).env("SECRET", "hunter2").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("plandag-output\\nnone"), "{stdout}");
    assert!(!stdout.contains("hunter2"));
}

#[test]
fn private_hosts_are_reached_only_if_named() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let place = Place::new();
    place.plan(json!([{ "id": "page", "tool": "fetch", "args": { "url": format!("http://{host}/") } }]));
    let refused = place.run(["run", "plan.json"]);
    assert_eq!(refused.exit, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("--allow-host {host} permits it")), "{}", refused.stderr);
    let allowed = place.run(["run", "plan.json", "--allow-host", &host]);
    assert_eq!(allowed.exit, 0, "{}", allowed.stderr);
    assert!(allowed.stdout.contains("hello"), "{}", allowed.stdout);
    assert!(allowed.stderr.contains(&format!("read {host}")), "{}", allowed.stderr);
    for bad in ["localhost", "localhost:", "localhost:port", ":80", "http://localhost:80"] {
        let refused = place.run(["run", "plan.json", "--allow-host", bad]);
        assert_eq!(refused.exit, 2, "{bad}");
        assert!(refused.stderr.contains("HOST:PORT"), "{bad}: {}", refused.stderr);
    }
}

#[test]
fn a_tool_is_described_with_its_arguments_and_its_output() {
    let place = Place::new();
    for (tool, said) in [
        ("fetch", ["url  string: ", "\"url\": {", "gives", "only reads"]),
        ("shell", ["argv  array of string or number or boolean: ", "\"argv\": {", "exit_code", "needs --allow shell"]),
        ("write_file", ["path  string: ", "\"content\": {", "bytes", "needs --allow write_file"]),
    ] {
        let described = place.run(["tools", tool]);
        assert_eq!(described.exit, 0);
        for said in said {
            assert!(described.stdout.contains(said), "{said}\n{}", described.stdout);
        }
        let json: Value = serde_json::from_str(&place.run(["tools", tool, "--json"]).stdout).unwrap();
        assert_eq!(json["name"], tool);
    }
    insta::assert_snapshot!("no_such_tool", place.run(["tools", "fecth"]).transcript());
}

#[test]
fn who_has_to_decide_what_became_of_a_step_is_told_why() {
    let place = Place::new();
    place.plan(json!([{ "id": "act", "tool": "shell", "args": { "argv": ["sleep", "60"] }, "timeout_ms": 200 }]));
    let ran = place.run(["run", "plan.json", "--allow", "shell"]);
    let why = "\n  nobody knows whether `act` took effect: no result within 200ms\n";
    assert!(ran.exit == 9 && ran.stderr.contains(why), "{ran:?}");
}
