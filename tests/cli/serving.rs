//! `plandag serve`, `plandag open` and `plandag run --open`, as real processes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::approving;
use crate::support::{Place, Ran, calculate, sleep};

/// A command that serves pages.
struct Serving {
    child: Child,
    address: String,
    token: String,
}

impl Serving {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command(["serve", "--port", "0", "--json"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).expect(&line);
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        assert_eq!(text("url"), format!("http://{}/?token={}", text("address"), text("token")));
        Self { child, address: text("address"), token: text("token") }
    }

    /// The status of an answer, and what is in it.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(&self.address, &self.token, method, path, body)
    }

    fn submit(&self, plan: Value) -> String {
        let (status, answer) = self.ask("POST", "/api/runs", &json!({ "plan": plan }).to_string());
        assert_eq!(status, 201, "{answer}");
        answer["run"].as_str().unwrap().to_owned()
    }

    fn until(&self, run: &str, state: &str) {
        let begun = Instant::now();
        loop {
            let (_, shown) = self.ask("GET", &format!("/api/runs/{run}"), "");
            if shown["head"]["state"] == state {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{run} never was {state}: {}", shown["head"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self, signal: &str) -> Ran {
        send(signal, self.child.id());
        self.child.wait_with_output().unwrap().into()
    }
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}

fn ask(address: &str, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn runs_that_a_server_started_are_runs_like_any_other() {
    let place = Place::new();
    let serving = Serving::start(&place, &["--input", "n=20", "--max-parallel", "3"]);
    let plan = json!({ "objective": "count", "steps": [calculate("sum", "${inputs.n} + 1")] });
    let run = serving.submit(plan);
    serving.until(&run, "succeeded");
    assert_eq!(serving.ask("GET", &format!("/api/runs/{run}/steps/sum"), "").1["output"]["result"], 21);
    let shown = place.run(["show", &run, "--json"]);
    assert_eq!((shown.exit, &shown.last_event()["objective"]), (0, &json!("count")), "{shown:?}");

    // What is told over HTTP wins, and what the run may do was settled when the server was started.
    let other = json!({ "plan": { "steps": [calculate("sum", "${inputs.n} + 1")] }, "inputs": { "n": 5 } });
    let (_, answer) = serving.ask("POST", "/api/runs", &other.to_string());
    let other = answer["run"].as_str().unwrap();
    serving.until(other, "succeeded");
    assert_eq!(serving.ask("GET", &format!("/api/runs/{other}/steps/sum"), "").1["output"]["result"], 6);
    let program = json!({ "plan": { "steps": [{ "id": "ls", "tool": "shell", "args": { "argv": ["ls"] } }] } });
    let (status, problem) = serving.ask("POST", "/api/runs", &program.to_string());
    assert_eq!((status, &problem["code"]), (403, &json!("config.not_allowed")));

    // A bad plan is refused as the command refuses it, with the place where it is bad.
    let cycle = "{\"plan\": {\"steps\": [\n {\"id\": \"a\", \"tool\": \"calculate\", \"depends_on\": [\"a\"]}]}}";
    let (status, problem) = serving.ask("POST", "/api/runs", cycle);
    assert_eq!((status, &problem["code"]), (422, &json!("plan.cycle")), "{problem}");
    assert_eq!(problem["problems"][0]["places"][0]["line"], 2, "{problem}");
    // Whatever it looks like, an objective is one, and a plan is one.
    for objective in ["who knows", "{who} knows", "Compare A and B\nsteps: find both", "steps: [a, b]"] {
        let (status, problem) = serving.ask("POST", "/api/runs", &json!({ "objective": objective }).to_string());
        assert_eq!((status, &problem["code"]), (503, &json!("config.no_planner")), "{problem}");
    }
    let plan = "# a plan\n\"steps\":\n  - {id: a, tool: calculate, args: {expression: '1'}}\n";
    let (status, answer) = serving.ask("POST", "/api/runs", &json!({ "plan": plan }).to_string());
    assert_eq!(status, 201, "{answer}");
    serving.until(answer["run"].as_str().unwrap(), "succeeded");

    let ran = serving.stop("INT");
    assert_eq!(ran.exit, 130, "{ran:?}");
}

#[test]
fn a_run_is_cancelled_from_a_page_and_forked_from_there() {
    let place = Place::new();
    let serving = Serving::start(&place, &[]);
    let run = serving.submit(json!({ "steps": [calculate("one", "1"), sleep("long", 600_000, &["one"])] }));
    let begun = Instant::now();
    while serving.ask("GET", &format!("/api/runs/{run}/steps/one"), "").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    let begun = Instant::now();
    assert_eq!(serving.ask("POST", &format!("/api/runs/{run}/cancel"), r#"{"now": true}"#).0, 200);
    serving.until(&run, "stopped");
    assert!(begun.elapsed() < Duration::from_secs(4), "it was given time: {:?}", begun.elapsed());

    let change = json!({ "from": "long", "set": { "ms": 1 } }).to_string();
    let (status, answer) = serving.ask("POST", &format!("/api/runs/{run}/fork"), &change);
    assert_eq!((status, &answer["reused"]), (201, &json!(["one"])), "{answer}");
    serving.until(answer["run"].as_str().unwrap(), "succeeded");

    // The server does not care who drives a run.
    place.plan(json!([{ "id": "bad", "tool": "calculate", "args": { "expression": "1 +" } }]));
    let failed = place.run(["run", "plan.json", "--json"]);
    let failed = failed.last_event()["run"].as_str().unwrap().to_owned();
    serving.until(&failed, "failed");
    let (status, answer) = serving.ask("POST", &format!("/api/runs/{failed}/retry"), "");
    assert_eq!(status, 201, "{answer}");
    serving.until(answer["run"].as_str().unwrap(), "failed");
    serving.stop("INT");
}

#[test]
fn who_stops_the_server_stops_its_runs_in_an_orderly_way() {
    for (signal, exit) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        let serving = Serving::start(&place, &[]);
        let run = serving.submit(json!({ "steps": [sleep("first", 700, &[]), sleep("second", 1, &["first"])] }));
        let ran = serving.stop(signal);
        assert_eq!(ran.exit, exit, "{ran:?}");
        assert!(ran.stderr.contains("giving 1 run time to stop; press again to stop now"), "{}", ran.stderr);
        let runs = place.run(["runs", "--json"]);
        assert_eq!(runs.last_event()["status"], "stopped", "{runs:?}");
        let resumed = place.run(["resume", &run, "--json"]);
        assert_eq!((resumed.exit, &resumed.last_event()["ev"]), (0, &json!("run.finished")), "{resumed:?}");
    }
}

#[test]
fn a_server_that_is_killed_leaves_runs_that_can_be_gone_on_with() {
    let place = Place::new();
    let serving = Serving::start(&place, &[]);
    let run = serving.submit(json!({ "steps": [sleep("first", 300, &[]), sleep("second", 60_000, &["first"])] }));
    let Serving { mut child, .. } = serving;
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    loop {
        let runs = place.run(["runs", "--json"]).last_event();
        if runs["pid"].is_null() {
            assert_eq!((&runs["run"], &runs["status"]), (&json!(run), &json!("stopped")));
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody reads what it says, and it goes on: {runs}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_journal_that_is_gone_is_said_to_be_gone() {
    let place = Place::new();
    let serving = Serving::start(&place, &["--journal", "runs.db"]);
    let run = serving.submit(json!({ "steps": [calculate("a", "1")] }));
    serving.until(&run, "succeeded");
    std::fs::rename(place.path().join("runs.db"), place.path().join("moved.db")).unwrap();
    for path in ["/api/runs".to_owned(), format!("/api/runs/{run}"), format!("/api/runs/{run}/events")] {
        let (status, problem) = serving.ask("GET", &path, "");
        assert_eq!((status, &problem["code"]), (503, &json!("journal.unusable")), "{path}: {problem}");
    }
    std::fs::rename(place.path().join("moved.db"), place.path().join("runs.db")).unwrap();
    assert_eq!(serving.ask("GET", "/api/runs", "").0, 200);
    serving.stop("INT");
}

/// Another process keeps the file to itself for a while. What would have to be written down is refused, with the reason;
/// what only reads is answered, and the server goes on.
#[test]
fn a_journal_that_is_locked_is_said_to_be_locked() {
    let place = Place::new();
    let serving = Serving::start(&place, &["--journal", "runs.db"]);
    let run = serving.submit(json!({ "steps": [calculate("a", "1")] }));
    serving.until(&run, "succeeded");
    // The server is a process of its own; this one is the other.
    let holder = Connection::open(place.path().join("runs.db")).unwrap();
    holder.busy_timeout(Duration::from_secs(10)).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (address, token) = (serving.address.as_str(), serving.token.as_str());
    std::thread::scope(|scope| {
        let plan = json!({ "plan": { "steps": [calculate("a", "1")] } });
        let fork = (format!("/api/runs/{run}/fork"), json!({ "from": "a" }));
        for (path, body) in [("/api/runs".to_owned(), plan), fork] {
            scope.spawn(move || {
                let (status, problem) = ask(address, token, "POST", &path, &body.to_string());
                assert_eq!((status, &problem["code"]), (503, &json!("journal.store")), "{path}: {problem}");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("another process keeps the file locked"), "{path}: {problem}");
            });
        }
        for path in ["/api/runs".to_owned(), format!("/api/runs/{run}"), "/".to_owned()] {
            let begun = Instant::now();
            assert_eq!(ask(address, token, "GET", &path, "").0, 200, "{path}");
            assert!(begun.elapsed() < Duration::from_secs(8), "{path} waits: {:?}", begun.elapsed());
        }
    });
    drop(holder);
    let again = serving.submit(json!({ "steps": [calculate("a", "1")] }));
    serving.until(&again, "succeeded");
    serving.stop("INT");
}

#[test]
fn a_step_that_waits_for_approval_is_approved_from_a_page() {
    let place = approving::place();
    let serving = Serving::start(&place, &["--mcp", "mcp.json"]);
    let letter = json!({ "id": "letter", "tool": "post.read" });
    let reply = json!({ "id": "reply", "tool": "post.send", "args": { "text": "${letter}" } });

    // It acts at once, whatever else still runs.
    let run = serving.submit(json!({ "steps": [&letter, &reply, sleep("other", 600_000, &[])] }));
    let approve = format!("/api/runs/{run}/steps/reply/approve");
    let begun = Instant::now();
    let answer = loop {
        let (status, answer) = serving.ask("POST", &approve, "");
        if status != 409 {
            break (status, answer["status"].clone());
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{answer}");
    };
    assert_eq!(answer, (200, json!("recorded")));
    while approving::sent(&place) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it was approved, and does not act");
        std::thread::sleep(Duration::from_millis(10));
    }
    serving.until(&run, "running");
    assert_eq!(serving.ask("POST", &format!("/api/runs/{run}/cancel"), r#"{"now": true}"#).0, 200);
    serving.until(&run, "stopped");
    assert_eq!(approving::sent(&place), 1);

    let run = serving.submit(json!({ "steps": [letter, reply] }));
    serving.until(&run, "undecided");
    let (status, answer) = serving.ask("POST", &format!("/api/runs/{run}/steps/reply/deny"), "");
    assert_eq!((status, &answer["undecided"]), (200, &json!([])), "{answer}");
    serving.until(&run, "failed");
    assert_eq!(approving::sent(&place), 1);
    serving.stop("INT");
}

/// Everybody clicks at the same time. Whoever comes too late is told so, and the run goes on once nothing is undecided.
#[test]
fn what_many_decide_at_once_is_done_once() {
    let place = approving::place();
    let serving = Serving::start(&place, &["--mcp", "mcp.json"]);
    let reply = |id| json!({ "id": id, "tool": "post.send", "args": { "text": "${letter}" } });
    for round in 1..=10 {
        let letter = json!({ "id": "letter", "tool": "post.read" });
        let run = serving.submit(json!({ "steps": [letter, reply("a"), reply("b"), reply("c")] }));
        serving.until(&run, "undecided");
        let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let click = |step: &str| {
                let path = format!("/api/runs/{run}/steps/{step}/approve");
                let serving = &serving;
                scope.spawn(move || serving.ask("POST", &path, ""))
            };
            let clicks: Vec<_> = ["a", "b", "c", "a", "b", "c"].map(click).into();
            clicks.into_iter().map(|click| click.join().unwrap()).collect()
        });
        let is_late =
            |(status, answer): &&(u16, Value)| (*status, &answer["code"]) == (409, &json!("journal.nothing_to_decide"));
        let (late, done): (Vec<_>, Vec<_>) = answers.iter().partition(is_late);
        assert!(done.len() >= 3 && done.iter().all(|(status, _)| *status == 200), "{done:?} {late:?}");
        serving.until(&run, "succeeded");
        assert_eq!(approving::sent(&place), 3 * round);
    }
    serving.stop("INT");
}

#[test]
fn a_port_in_use_is_said_with_what_to_do() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = place.run(["serve", "--port", &port]);
    assert_eq!(ran.exit, 2, "{ran:?}");
    assert!(ran.stderr.contains("error[serve.port_in_use]") && ran.stderr.contains("--port 0"), "{}", ran.stderr);
    let nowhere = place.run(["serve", "--host", "192.0.2.1", "--json"]);
    assert_eq!((nowhere.exit, &nowhere.last_event()["code"]), (2, &json!("serve.address")), "{nowhere:?}");
    let bad = place.run(["serve", "--files", "nowhere"]);
    assert!(bad.exit == 2 && bad.stderr.contains("error[config.files]"), "{bad:?}");
}

/// A browser that only fetches the page, as somebody without a screen can have one.
fn browser(place: &Place) -> String {
    let script = place.file("browser.sh", "#!/bin/sh\nprintf '%s\\n' \"$1\" >> opened\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script.display().to_string()
}

/// Asks for a page as a browser does that nobody has let in, and gives the status of the answer.
fn enter(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

fn opened(place: &Place) -> String {
    std::fs::read_to_string(place.path().join("opened")).unwrap_or_default()
}

#[test]
fn a_run_can_be_watched_while_it_goes_on() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1500, &[])]));
    let mut command = place.command(["run", "plan.json", "--open"]);
    command.env("BROWSER", browser(&place)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("http://")).unwrap();
    let (_, url) = line.split_once("http://").unwrap();
    let (address, rest) = url.split_once("/runs/").unwrap();
    let (run, token) = rest.split_once("?token=").unwrap();
    let begun = Instant::now();
    while !opened(&place).ends_with('\n') {
        assert!(begun.elapsed() < Duration::from_secs(30), "the browser was not opened");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Everybody can see what a browser is started with: it lets in once, and is not the token.
    let ticket = opened(&place).trim().split_once("?token=").unwrap().1.to_owned();
    let page = format!("/runs/{run}?token={ticket}");
    assert_eq!(ask(address, &ticket, "GET", "/api", "").0, 401);
    assert_eq!([enter(address, &page), enter(address, &page)], [303, 401]);
    let look = || ask(address, token, "GET", &format!("/api/runs/{run}"), "");
    let (mut status, mut shown) = look();
    // A browser takes longer to start than the run to write its first event; this one may be faster.
    while status == 404 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
        (status, shown) = look();
    }
    assert_eq!((status, &shown["head"]["state"]), (200, &json!("running")));
    // It is the page of this run, and starts no other.
    let (status, problem) = ask(address, token, "POST", "/api/runs", r#"{"objective": "more"}"#);
    assert_eq!((status, &problem["code"]), (409, &json!("serve.one_run")));
    // The end of the run is shown, too, before the page goes.
    while ask(address, token, "GET", &format!("/api/runs/{run}"), "").1["head"]["state"] != "succeeded" {}
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains(&format!("plandag open {run}"))), "{rest:?}");
    assert!(TcpStream::connect(address).is_err(), "the page is gone with the run");
}

/// The process that serves the page is the one that drives the run.
#[test]
fn a_step_is_approved_on_the_page_of_a_run_that_was_opened() {
    let place = approving::place();
    let letter = json!({ "id": "letter", "tool": "post.read" });
    let reply = json!({ "id": "reply", "tool": "post.send", "args": { "text": "${letter}" } });
    place.plan(json!([letter, reply, sleep("other", 600_000, &[])]));
    let mut command = place.command(["run", "plan.json", "--mcp", "mcp.json", "--open"]);
    command.env("BROWSER", browser(&place)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("http://")).unwrap();
    let (address, rest) = line.split_once("http://").unwrap().1.split_once("/runs/").unwrap();
    let (run, token) = rest.split_once("?token=").unwrap();
    let begun = Instant::now();
    let patience = || {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing comes of it");
        std::thread::sleep(Duration::from_millis(10));
    };
    // There is no run at first, and then no question.
    let approve = || ask(address, token, "POST", &format!("/api/runs/{run}/steps/reply/approve"), "");
    let (mut status, mut answer) = approve();
    while [404, 409].contains(&status) {
        patience();
        (status, answer) = approve();
    }
    assert_eq!((status, &answer["status"]), (200, &json!("recorded")), "{answer}");
    while approving::sent(&place) == 0 {
        patience();
    }
    let (_, shown) = ask(address, token, "GET", &format!("/api/runs/{run}"), "");
    assert_eq!(shown["head"]["state"], "running", "the rest goes on");
    send("INT", child.id());
    send("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_run_of_the_past_is_opened() {
    let place = Place::new();
    place.plan(json!([calculate("a", "1")]));
    let run = place.run(["run", "plan.json", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    let mut command = place.command(["open"]);
    // What a new run would lack is nothing to one that is over.
    command.env("PLANDAG_MODEL", "gpt-4o-mini");
    let child = command.env("BROWSER", browser(&place)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !opened(&place).contains("token=") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the browser was not opened");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(opened(&place).contains(&format!("/runs/{run}?token=")), "{}", opened(&place));
    send("INT", child.id());
    assert_eq!(Ran::from(child.wait_with_output().unwrap()).exit, 130);
    let none = place.run(["open", "nobody"]);
    assert!(none.exit == 2 && none.stderr.contains("error[journal.unknown_run]"), "{none:?}");
}

#[test]
fn an_option_that_looks_like_another_takes_none_of_them_away() {
    let place = Place::new();
    let serving = Serving::start(&place, &["--max-parallel", "3", "--output-dir", "-5", "--durability", "power"]);
    let run = serving.submit(json!({ "steps": [calculate("a", "1"), sleep("b", 600_000, &["a"])] }));
    let exported = place.run(["export", &run, "--format", "ndjson"]);
    assert_eq!(exported.events()[0]["start"]["policy"]["max_parallel"], 3, "{exported:?}");
    assert_eq!(serving.ask("POST", &format!("/api/runs/{run}/cancel"), r#"{"now": true}"#).0, 200);
    serving.until(&run, "stopped");

    // What must survive what holds for runs that are gone on with, too.
    assert_eq!(serving.ask("POST", &format!("/api/runs/{run}/resume"), "").0, 200);
    let (_, shown) = serving.ask("GET", "/api/runs?status=running", "");
    let pid = shown["runs"][0]["pid"].as_u64().unwrap_or_else(|| panic!("{shown}"));
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(line.contains("resume") && line.contains("--durability=power"), "{line}");

    for name in ["", "x=y"] {
        let plan = json!({ "plan": { "steps": [calculate("a", "1")] }, "inputs": { name: 2 } });
        let (status, problem) = serving.ask("POST", "/api/runs", &plan.to_string());
        assert_eq!((status, &problem["code"]), (400, &json!("usage.request")), "{problem}");
    }
    assert_eq!(serving.stop("QUIT").exit, 130);
}

/// A fork that nobody could go on with would be in the way of `plandag resume`.
#[test]
fn a_run_that_cannot_be_gone_on_with_is_not_forked() {
    let place = Place::new();
    assert_eq!(place.run(["demo"]).exit, 0);
    let runs = || place.run(["runs", "--json"]).events();
    let demo = runs()[0]["run"].as_str().unwrap().to_owned();
    let shown = place.run(["show", &demo, "--json"]).last_event();
    let step = shown["steps"].as_array().unwrap().iter().find(|step| step["state"] == "succeeded").unwrap();
    let step = step["step"].as_str().unwrap();
    let forked = place.run(["fork", &demo, "--from", step]);
    assert!(forked.exit == 2 && forked.stderr.contains("error[journal.foreign_run]"), "{forked:?}");
    let serving = Serving::start(&place, &[]);
    let (status, problem) =
        serving.ask("POST", &format!("/api/runs/{demo}/fork"), &json!({ "from": step }).to_string());
    assert_eq!((status, &problem["code"]), (409, &json!("journal.foreign_run")), "{problem}");
    assert_eq!(runs().len(), 1);
    assert_eq!(serving.stop("INT").exit, 130);
}

#[test]
fn a_plan_may_be_as_large_as_the_server_was_told() {
    let place = Place::new();
    let words = "x".repeat(8 << 10);
    let step = |number: usize| {
        let mut step = calculate(&format!("s{number}"), "1");
        step["description"] = words.as_str().into();
        step
    };
    let plan = json!({ "steps": (0..200).map(step).collect::<Vec<_>>() });
    let large = Serving::start(&place, &["--max-steps", "2000"]);
    let run = large.submit(plan.clone());
    large.until(&run, "succeeded");
    assert_eq!(large.stop("INT").exit, 130);
    let usual = Serving::start(&place, &[]);
    let (status, problem) = usual.ask("POST", "/api/runs", &plan.to_string());
    assert_eq!((status, &problem["code"]), (422, &json!("plan.too_large")), "{problem}");
    assert_eq!(usual.stop("INT").exit, 130);
}
