//! Standard output that is a full pipe: the run is stopped all the same, and whoever comes late gets what there is.

use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, calculate, in_time, sleep, wait_until};

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
        self.send("INT");
    }

    fn send(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it obeys signals.
    #[cfg(target_os = "linux")]
    fn wait_until_it_listens(&self) {
        const INTERRUPT: u64 = 1 << 1;
        let begun = Instant::now();
        loop {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            if u64::from_str_radix(caught.trim(), 16).unwrap() & INTERRUPT != 0 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not listen");
            thread::sleep(Duration::from_millis(5));
        }
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
    fill(&mut full);
    (reader, full)
}

fn fill(pipe: &mut PipeWriter) {
    ioctl_fionbio(&*pipe, true).unwrap();
    while pipe.write(&[b'\n'; 4096]).is_ok() {}
    ioctl_fionbio(&*pipe, false).unwrap();
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

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_taken_up_again_can_be_left_while_nobody_reads() {
    let place = Place::new();
    place.plan(json!([sleep("long", 600_000, &[])]));
    let mut first = place.command(["run", "plan.json", "--quiet"]).spawn().unwrap();
    wait_until(&place, &["why", "long"], "running");
    first.kill().unwrap();
    first.wait().unwrap();
    let id = runs(&place)[0]["run"].as_str().unwrap().to_owned();
    let mut run = Unread::with_all_in_one(place.command(["resume", &id]));
    run.wait_until_it_listens();
    assert_eq!(run.leave(), 130);
}

/// How many signals end a run whose standard error fills up after its last line was told, and how it ends. Two that come
/// at once count as one.
fn signals_that_end_it(pause: Duration) -> (u32, i32) {
    let place = Place::new();
    place.plan(json!([sleep("long", 600_000, &[])]));
    let (stdout, mut full) = io::pipe().unwrap();
    let mut command = place.command(["run", "plan.json"]);
    let child = command.stdout(Stdio::null()).stderr(full.try_clone().unwrap()).spawn().unwrap();
    drop(command);
    let mut run = Unread { child, stdout, stderr: channel().1 };
    wait_until(&place, &["why", "long"], "running");
    thread::sleep(pause);
    fill(&mut full);
    let mut count = 0;
    while run.child.try_wait().unwrap().is_none() {
        assert!(count < 20, "it does not end");
        run.send(if count == 0 { "TERM" } else { "INT" });
        count += 1;
        thread::sleep(pause);
    }
    (count, run.exit())
}

#[test]
fn two_signals_end_it_also_if_nobody_reads_any_more() {
    let pauses = [500, 1_000, 2_000].map(Duration::from_millis);
    // The first one says why the run is stopped.
    assert!(pauses.into_iter().any(|pause| signals_that_end_it(pause) == (2, 143)));
}

#[test]
fn one_signal_stops_it_in_an_orderly_way_also_if_nobody_reads_any_more() {
    let place = Place::new();
    place.plan(json!([sleep("first", 1500, &[]), sleep("second", 1, &["first"])]));
    let mut run = Unread::with_all_in_one(place.command(["run", "plan.json"]));
    wait_until(&place, &["why", "first"], "running");
    run.interrupt();
    assert_eq!(run.exit(), 130);
    assert_eq!(runs(&place)[0]["status"], "stopped");
}

#[test]
fn a_run_goes_on_while_nobody_reads_what_is_told_of_it() {
    let place = Place::new();
    place.plan(json!([sleep("first", 100, &[]), sleep("second", 100, &["first"])]));
    let mut run = Unread::with_all_in_one(place.command(["run", "plan.json"]));
    wait_until(&place, &["runs", "--json"], r#""status":"succeeded""#);
    assert_eq!(run.child.try_wait().unwrap(), None);
    let mut said = String::new();
    run.stdout.read_to_string(&mut said).unwrap();
    assert!(said.contains("✓ second") && said.contains("✓ succeeded   2 steps"), "{said}");
    assert_eq!(run.exit(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_is_sent_to_a_run_that_is_not_recorded() {
    let (exit, told) = in_time(|| {
        let place = Place::new();
        place.plan(json!([sleep("short", 1, &[])]));
        assert_eq!(place.run(["run", "plan.json"]).exit, 0);
        let journal = rusqlite::Connection::open(place.path().join(".state/plandag/runs.db")).unwrap();
        journal.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut command = place.command(["run", "plan.json"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut run = Unread { child, stdout: io::pipe().unwrap().0, stderr: channel().1 };
        run.wait_until_it_listens();
        for answer in ["stopping", "stopping now"] {
            run.interrupt();
            // It ends by itself, after five seconds.
            if !said.any(|line| line.contains(answer)) {
                break;
            }
        }
        run.interrupt();
        let told: Vec<String> = said.collect();
        let exit = run.exit();
        (exit != 7).then_some((exit, told))
    });
    assert!(exit == 130 && told.iter().any(|line| line.contains("run.cancelled")), "{exit} {told:?}");
    assert!(!told.iter().any(|line| line.contains("plandag resume")), "{told:?}");
}
