//! Standard output that is a full pipe: the run is stopped all the same, and whoever comes late gets what there is.

use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, calculate, sleep, wait_until};

/// A run whose lines nobody reads.
struct Unread {
    child: Child,
    stdout: PipeReader,
    stderr: Receiver<String>,
}

impl Unread {
    fn start(place: &Place) -> Self {
        Self::of(place.command(["run", "plan.json", "--json"]))
    }

    fn of(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let (stdout, full) = full_pipe();
        let mut child = command.stdout(full).spawn().unwrap();
        // It would be one more writer.
        drop(command);
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, stderr) = channel();
        thread::spawn(move || said.map(Result::unwrap).try_for_each(|line| sender.send(line)));
        Self { child, stdout, stderr }
    }

    /// As a shell has it after `2>&1`.
    fn with_all_in_one(mut command: Command) -> Self {
        let (stdout, full) = full_pipe();
        let child = command.stdout(full.try_clone().unwrap()).stderr(full).spawn().unwrap();
        drop(command);
        Self { child, stdout, stderr: channel().1 }
    }

    fn interrupt(&self) {
        let status = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Interrupts it until it has ended.
    fn leave(&mut self) -> i32 {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            self.interrupt();
            thread::sleep(Duration::from_millis(50));
        }
        self.exit()
    }

    /// The next line of standard error.
    fn says(&mut self) -> String {
        self.stderr.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for the end, while nobody reads.
    fn exit(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code().unwrap_or(-1),
                None => thread::sleep(Duration::from_millis(5)),
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
        }
    }

    /// Everything that is given out, read to its end.
    fn events(&mut self) -> Vec<Value> {
        let mut lines = String::new();
        self.stdout.read_to_string(&mut lines).unwrap();
        self.child.wait().unwrap();
        lines.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut full) = io::pipe().unwrap();
    ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'\n'; 4096]).is_ok() {}
    ioctl_fionbio(&full, false).unwrap();
    (reader, full)
}

/// The runs that were recorded.
fn runs(place: &Place) -> Vec<Value> {
    place.run(["runs", "--json"]).events()
}

#[test]
fn once_stops_the_run_in_an_orderly_way() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut run = Unread::start(&place);
    wait_until(&place, &["why", "first"], "running");
    run.interrupt();
    assert!(run.says().contains("giving 1 step 5.00s to finish; press again to stop now"));
    assert_eq!(run.exit(), 130);
    let recorded = runs(&place);
    assert_eq!(recorded[0]["status"], "stopped", "{recorded:?}");
    assert!(run.events().is_empty(), "there was no room");
}

#[test]
fn twice_ends_it_at_once() {
    let place = Place::new();
    place.plan(json!([sleep("long", 600_000, &[])]));
    let mut run = Unread::start(&place);
    wait_until(&place, &["why", "long"], "running");
    run.interrupt();
    assert!(run.says().contains("giving 1 step"));
    run.interrupt();
    assert!(run.says().contains("stopping now"));
    let second = Instant::now();
    assert_eq!(run.exit(), 130);
    // The grace is 5 seconds.
    assert!(second.elapsed() < Duration::from_secs(4), "{:?}", second.elapsed());
    assert_eq!(runs(&place)[0]["status"], "stopped");
}

#[test]
fn whoever_comes_late_gets_every_line() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut run = Unread::start(&place);
    wait_until(&place, &["why", "first"], "running");
    run.interrupt();
    assert!(run.says().contains("giving 1 step"));
    let events = run.events();
    assert_eq!(events[0]["ev"], "run.started");
    assert!(events.iter().any(|event| event["ev"] == "step.finished" && event["step"] == "first"), "{events:?}");
    let last = events.last().unwrap();
    assert_eq!((&last["ev"], &last["exit"]), (&json!("run.stopped"), &json!(130)));
}

#[test]
fn a_run_that_is_over_waits_for_its_reader() {
    let place = Place::new();
    place.plan(json!([sleep("only", 1, &[])]));
    let mut run = Unread::start(&place);
    wait_until(&place, &["runs", "--json"], r#""status":"succeeded""#);
    assert_eq!(run.child.try_wait().unwrap(), None);
    assert_eq!(run.events().last().unwrap()["ev"], "run.finished");
}

#[test]
fn nobody_has_to_wait_for_the_reader_of_a_run_that_is_over() {
    for arguments in [&["run", "plan.json", "--json"][..], &["run", "plan.json"]] {
        let place = Place::new();
        place.plan(json!([sleep("only", 1, &[])]));
        let mut run = Unread::of(place.command(arguments));
        wait_until(&place, &["runs", "--json"], r#""status":"succeeded""#);
        // It may be about to begin to listen.
        assert_eq!(run.leave(), 130);
    }
}

#[test]
fn nobody_has_to_wait_for_who_reads_why_a_run_has_failed() {
    let place = Place::new();
    place.plan(json!([calculate("only", "1/0")]));
    let mut run = Unread::with_all_in_one(place.command(["run", "plan.json", "--quiet"]));
    wait_until(&place, &["runs", "--json"], r#""status":"failed""#);
    assert_eq!(run.leave(), 130);
}

#[test]
fn the_file_of_the_answer_is_there_before_anybody_is_waited_for() {
    let place = Place::new();
    place.plan(json!([sleep("only", 1, &[])]));
    let mut run = Unread::of(place.command(["run", "plan.json", "--json", "-o", "answer.json"]));
    let begun = Instant::now();
    while !place.path().join("answer.json").exists() {
        assert!(begun.elapsed() < PATIENCE, "it waits for its reader");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(run.leave(), 130);
}

#[test]
fn a_warning_that_nobody_can_read_keeps_nobody_from_leaving() {
    for arguments in [&["run", "plan.json", "--json"][..], &["run", "plan.json"]] {
        let place = Place::new();
        place.plan(json!([sleep("long", 600_000, &[])]));
        let mut run = Unread::with_all_in_one(place.command(arguments));
        wait_until(&place, &["why", "long"], "running");
        assert_eq!(run.leave(), 130);
    }
}
