//! A cancelled run leaves nothing behind: not the command, and none of the processes that its steps have started, even
//! if these take no notice of being asked to end.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Place;

/// How many runs are cancelled; `PLANDAG_CANCELLED_RUNS=100` for the whole promise, which takes a minute.
const RUNS: usize = 6;
/// How many of them go on at once.
const AT_ONCE: usize = 6;
/// Steps of each run.
const STEPS: usize = 2;
/// A program, its child and its grandchild.
const FAMILY: usize = 3;
/// They end only when they are killed.
const STUBBORN: &str = "trap '' TERM INT; sh -c 'trap \"\" TERM INT; sh -c \"trap \\\"\\\" TERM INT; while :; do sleep 9; done\" & \
                        while :; do sleep 9; done' & while :; do sleep 9; done";
/// After one Ctrl-C: the five seconds that running steps are given, and two.
const AFTER_ONE: Duration = Duration::from_secs(7);
const AFTER_TWO: Duration = Duration::from_secs(2);

#[test]
fn nothing_is_left_of_cancelled_runs() {
    let runs = std::env::var("PLANDAG_CANCELLED_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    // At another moment of its life each.
    let mut left = (0..runs).map(|run| (run, Duration::from_millis(run as u64 * 67 % 400))).peekable();
    while left.peek().is_some() {
        let batch: Vec<_> = left.by_ref().take(AT_ONCE).collect();
        thread::scope(|scope| {
            for (run, pause) in batch {
                scope.spawn(move || cancel_one(run, pause));
            }
        });
    }
}

/// Every other run is cancelled a second time.
fn cancel_one(run: usize, pause: Duration) {
    let place = Place::new();
    let marker = format!("cancelled-{}-{run}", std::process::id());
    let step = |index: usize| {
        let args = json!({ "argv": ["sh", "-c", STUBBORN], "env": { "MARKER": marker } });
        json!({ "id": format!("stubborn-{index}"), "tool": "shell", "args": args })
    };
    let waiting = json!({ "id": "never", "tool": "sleep", "args": { "ms": 1 }, "depends_on": ["stubborn-0"] });
    place.plan((0..STEPS).map(step).chain([waiting]).collect());
    let mut command = place.command(["run", "plan.json", "--allow", "shell", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let begin = Instant::now();
    while marked(&marker) < STEPS * FAMILY {
        assert!(begin.elapsed() < Duration::from_secs(60), "run {run}: not all processes started");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(pause);
    interrupt(&child);
    let mut limit = AFTER_ONE;
    if run % 2 == 1 {
        thread::sleep(Duration::from_millis(200));
        interrupt(&child);
        limit = AFTER_TWO;
    }
    let cancelled = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(cancelled.elapsed() < limit, "run {run}: the command took {:?}", cancelled.elapsed());
    assert_eq!(marked(&marker), 0, "run {run}: processes were left");
    assert_eq!(output.status.code(), Some(130), "run {run}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["ev"], &last["exit"]), (&json!("run.stopped"), &json!(130)), "run {run}");
    assert!(!stdout.contains(r#""step":"never""#), "run {run}: {stdout}");
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Processes of a run are recognised by a variable that they inherit.
fn marked(marker: &str) -> usize {
    let variable = format!("MARKER={marker}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.filter(|environment| environment.split(|byte| *byte == 0).any(|v| v == variable.as_bytes())).count()
}
