//! Ctrl-C once, twice and three times, and SIGTERM, as real signals to a real process.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, Ran, in_time, sleep, wait_until};

/// A run whose lines are read as they come.
struct Running {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
    seen: Vec<String>,
}

impl Running {
    fn start(place: &Place) -> Self {
        Self::of(&mut place.command(["run", "plan.json", "--json"]))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        Self { child, lines: Box::new(lines), seen: Vec::new() }
    }

    /// Reads on until `step` is at `event`.
    fn wait_for(&mut self, event: &str, step: Option<&str>) {
        for line in self.lines.by_ref() {
            let value: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(line);
            if value["ev"] == event && step.is_none_or(|step| value["step"] == step) {
                return;
            }
        }
        panic!("{event} never came: {:?}", self.seen);
    }

    fn send(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    fn end(mut self) -> Ran {
        self.seen.extend(self.lines);
        let output = self.child.wait_with_output().unwrap();
        let mut ran = Ran::from(output);
        ran.stdout = self.seen.join("\n");
        ran
    }
}

#[test]
fn once_lets_running_steps_finish_and_starts_nothing_new() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut running = Running::start(&place);
    running.wait_for("step.started", Some("first"));
    running.send("INT");
    let ran = running.end();
    assert_eq!(ran.exit, 130, "{ran:?}");
    let last = ran.last_event();
    assert_eq!((&last["ev"], &last["exit"]), (&json!("run.stopped"), &json!(130)));
    assert_eq!(last["steps"], json!({ "all": 2, "succeeded": 1, "failed": 0, "skipped": 0, "unfinished": 1 }));
    assert!(ran.stderr.contains("giving 1 step 5.00s to finish; press again to stop now"), "{}", ran.stderr);
    assert!(!ran.stdout.contains(r#""step":"second""#), "{}", ran.stdout);
}

/// A run that another program starts.
#[cfg(target_os = "linux")]
fn started_by(program: &[&str], place: &Place) -> Running {
    let command = place.command(["run", "plan.json", "--json"]);
    let mut starter = Command::new(program[0]);
    starter.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    starter.current_dir(place.path()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => starter.env(name, value),
            None => starter.env_remove(name),
        };
    }
    Running::of(&mut starter)
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_closed_stops_the_run_in_an_orderly_way() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    // The tests themselves may run under `nohup`.
    let mut running = started_by(&["env", "--default-signal=HUP"], &place);
    running.wait_for("step.started", Some("first"));
    running.send("HUP");
    let ran = running.end();
    assert_eq!(ran.exit, 143, "{ran:?}");
    let last = ran.last_event();
    assert_eq!((&last["ev"], &last["steps"]["succeeded"]), (&json!("run.stopped"), &json!(1)));
    assert!(last["error"]["message"].as_str().unwrap().contains("its terminal was closed"), "{last}");
}

/// As `nohup` starts it: SIGHUP is ignored, and stays so.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut running = started_by(&["sh", "-c", r#"trap "" HUP; exec "$@""#, "sh"], &place);
    running.wait_for("step.started", Some("first"));
    running.send("HUP");
    let ran = running.end();
    assert_eq!((ran.exit, &ran.last_event()["state"]), (0, &json!("succeeded")), "{ran:?}");
}

/// An attempt that was no call has ended, too.
#[test]
fn what_has_ended_is_given_no_time() {
    let place = Place::new();
    let never = |id: &str| json!({ "id": id, "tool": "sleep", "args": { "ms": 1 }, "when": "${inputs.wanted}" });
    place.plan(json!([never("a"), never("b"), sleep("long", 600_000, &[])]));
    let mut command = place.command(["run", "plan.json", "--input", "wanted=false"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (mut skipped, mut started) = (0, 0);
    while (skipped, started) != (2, 3) {
        let line = lines.next().expect("not all of it was told");
        skipped += usize::from(line.contains("skipped, because its condition is false"));
        started += usize::from(line.ends_with("started"));
    }
    let send = || assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    send();
    let giving = lines.find(|line| line.contains("giving")).unwrap();
    assert!(giving.contains("giving 1 step 5.00s to finish"), "{giving}");
    send();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn twice_ends_them_at_once() {
    // The first one says why the run is stopped.
    for (first, second, exit) in [("INT", "INT", 130), ("TERM", "INT", 143), ("INT", "TERM", 130)] {
        let place = Place::new();
        place.plan(json!([sleep("long", 600_000, &[])]));
        let mut running = Running::start(&place);
        running.wait_for("step.started", Some("long"));
        running.send(first);
        running.wait_for("run.stopping", None);
        running.send(second);
        let begun = Instant::now();
        let ran = running.end();
        assert_eq!(ran.exit, exit, "{ran:?}");
        // The grace is 5 seconds: without the second signal it would have taken that long.
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(ran.last_event()["steps"]["unfinished"], 1);
    }
}

/// A run that is ended is written down, and somebody else keeps the journal to themselves: it would wait for five
/// seconds, and fail. None: it did.
fn left(arguments: &[&str], [first, second, third]: [&str; 3]) -> Option<(Place, Ran, Vec<String>)> {
    let place = Place::new();
    place.plan(json!([sleep("done", 1, &[]), sleep("long", 600_000, &["done"])]));
    let mut running = Running::of(&mut place.command(arguments));
    let mut said = BufReader::new(running.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    wait_until(&place, &["why", "long"], "running");
    let journal = Connection::open(place.path().join(".state/plandag/runs.db")).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answered = [(first, "press again to stop now"), (second, "stopping now")].map(|(signal, answer)| {
        running.send(signal);
        said.any(|line| line.contains(answer))
    });
    running.send(third);
    let told: Vec<String> = said.collect();
    let ran = running.end();
    (ran.exit != 7).then(|| {
        assert_eq!(answered, [true; 2], "{ran:?} {told:?}");
        (place, ran, told)
    })
}

#[test]
fn three_times_leaves_what_does_not_end() {
    // The first one says why the run is stopped.
    for (arguments, signals, exit) in [
        (&["run", "plan.json", "--json"][..], ["INT", "INT", "INT"], 130),
        (&["run", "plan.json"], ["INT", "INT", "TERM"], 130),
        (&["run", "plan.json"], ["TERM", "INT", "INT"], 143),
    ] {
        let (place, ran, told) = in_time(|| left(arguments, signals));
        assert_eq!(ran.exit, exit, "{ran:?} {told:?}");
        let run = &place.run(["runs", "--json"]).events()[0];
        assert_eq!(run["status"], "interrupted", "{run}");
        let way_on = format!("go on with it: plandag resume {}", run["run"].as_str().unwrap());
        if arguments.contains(&"--json") {
            let error = ran.last_event();
            assert_eq!((&error["code"], &error["help"]), (&json!("run.cancelled"), &json!([way_on])), "{ran:?}");
        } else {
            assert!(told.iter().any(|line| line.contains(&way_on)), "{told:?}");
        }
    }
}

#[test]
fn sigterm_has_an_exit_code_of_its_own() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut running = Running::start(&place);
    running.wait_for("step.started", Some("first"));
    running.send("TERM");
    let ran = running.end();
    assert_eq!(ran.exit, 143, "{ran:?}");
    assert_eq!(ran.last_event()["error"]["code"], "run.cancelled");
}

#[test]
fn a_stopped_run_has_no_process_left() {
    let place = Place::new();
    place.plan(json!([sleep("long", 600_000, &[])]));
    let mut running = Running::start(&place);
    running.wait_for("step.started", Some("long"));
    running.send("INT");
    thread::sleep(Duration::from_millis(50));
    running.send("INT");
    thread::sleep(Duration::from_millis(50));
    let pid = running.child.id().to_string();
    running.end();
    let alive = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().unwrap().success();
    assert!(!alive);
}

#[test]
fn a_plan_that_nobody_writes_is_not_waited_for_any_longer() {
    for name in ["plan.json", "plans.jsonl"] {
        let place = Place::new();
        assert!(Command::new("mkfifo").arg(place.path().join(name)).status().unwrap().success());
        let mut running = Running::of(&mut place.command(["bench", name]));
        assert!(running.lines.any(|line| line.contains(" shape ")), "it is not there yet");
        running.send("INT");
        let begun = Instant::now();
        while running.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > PATIENCE {
                running.child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(10));
        }
        let ran = running.end();
        assert_eq!(ran.exit, 130, "{name}: {ran:?}");
        assert!(ran.stderr.contains("0 plans measured before"), "{name}: {ran:?}");
    }
}

/// Whoever has asked it to stop already, asks for the second time; nobody leaves it before its end is written down.
#[test]
fn a_run_that_is_cancelled_now_is_given_no_time() {
    for is_stopping in [false, true] {
        let place = Place::new();
        place.plan(json!([sleep("long", 600_000, &[])]));
        let mut running = Running::start(&place);
        running.wait_for("step.started", Some("long"));
        if is_stopping {
            running.send("INT");
            running.wait_for("run.stopping", None);
        }
        let run = place.run(["runs", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        let asked = place.run(["cancel", &run, "--now"]);
        let ran = running.end();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!((asked.exit, ran.exit, &ran.last_event()["ev"]), (0, 130, &json!("run.stopped")), "{ran:?}");
        assert_eq!(place.run(["runs", "--json"]).last_event()["status"], "stopped");
    }
}

#[test]
fn who_is_killed_leaves_nothing_beside_the_answer_it_would_have_written() {
    let place = Place::new();
    place.plan(json!([sleep("a", 60_000, &[])]));
    let mut running = Running::of(&mut place.command(["run", "plan.json", "--json", "-o", "answer.txt"]));
    running.wait_for("step.started", Some("a"));
    running.send("KILL");
    running.end();
    let names = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("answer")).collect();
    assert!(left.is_empty(), "{left:?}");
}
