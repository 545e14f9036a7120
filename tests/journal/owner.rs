//! One process at a time drives a run.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Place, Ran};

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A run that was killed while a step slept.
fn interrupted(ms: u64) -> (Place, String) {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": ms } }, { "id": "b", "tool": "sleep", "args": { "ms": 1 }, "depends_on": ["a"] }]));
    let mut child = place.start("run plan.json");
    wait_for(&place, "attempt_started", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let run = place.query("SELECT run FROM runs").remove(0);
    (place, run)
}

pub(crate) fn wait_for(place: &Place, event: &str, count: usize) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let is_there = place.journal().exists()
            && place.query("SELECT name FROM sqlite_master WHERE name = 'runs'").len() == 1
            && place.query(&format!("SELECT event FROM events WHERE event = '{event}'")).len() >= count;
        if is_there {
            return;
        }
        assert!(Instant::now() < until, "no {event}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 20 at once, or as many as `PLANDAG_RESUMES` says.
#[test]
fn of_many_that_resume_one_wins_and_the_others_are_told_at_once() {
    let many = std::env::var("PLANDAG_RESUMES").map_or(20, |count| count.parse().expect("PLANDAG_RESUMES is a number"));
    // The winner is still at it when the last one has been told.
    let (place, run) = interrupted(20_000);
    let resume = || {
        let mut command = place.command(&format!("resume {run}"));
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut racing: Vec<Child> = (0..many).map(|_| resume()).collect();
    let mut told = 0;
    while racing.len() > 1 {
        let over = racing.iter_mut().position(|child| child.try_wait().unwrap().is_some());
        let Some(over) = over else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let loser: Ran = racing.swap_remove(over).wait_with_output().unwrap().into();
        assert_eq!(loser.exit, Some(7), "{loser:?}");
        assert!(loser.stderr.contains("journal.locked"), "{}", loser.stderr);
        told += 1;
    }
    assert_eq!(told, many - 1);
    let mut winner = racing.pop().unwrap();
    wait_for(&place, "run_resumed", 1);
    let late: Ran = resume().wait_with_output().unwrap().into();
    assert_eq!(late.exit, Some(7), "{late:?}");
    let owner = format!("owner: pid {} on this host, for ", winner.id());
    let line = late.stderr.lines().find_map(|line| line.trim_start().strip_prefix(&owner)).expect(&late.stderr);
    let (since, last_event) = line.split_once("; last event ").expect(line);
    assert!(since.ends_with('s') && last_event.ends_with("s ago"), "{line}");
    assert_eq!(place.run(&format!("cancel {run} --now")).exit, Some(0));
    assert_eq!(winner.wait().unwrap().code(), Some(130));
    assert_eq!(place.query("SELECT status FROM runs"), ["cancelled"]);
}

/// What acts in it would act twice.
#[test]
fn a_run_that_goes_on_is_not_done_again_beside_it() {
    let place = Place::new();
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 20_000 } }]));
    let mut child = place.start("run plan.json");
    wait_for(&place, "attempt_started", 1);
    let run = place.query("SELECT run FROM runs").remove(0);
    for line in ["retry".to_owned(), format!("retry {run}"), format!("fork {run} --without a")] {
        let ran = place.run(&line);
        assert!(ran.exit == Some(7) && ran.stderr.contains("journal.locked"), "{line}: {ran:?}");
    }
    assert_eq!(place.query("SELECT run FROM runs"), [run.as_str()]);
    assert_eq!(place.run(&format!("cancel {run} --now")).exit, Some(0));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_process_that_was_stopped_and_goes_on_writes_nothing() {
    let (place, run) = interrupted(1_000);
    let mut zombie = place.start(&format!("resume {run}"));
    wait_for(&place, "run_resumed", 1);
    signal(&zombie, "-STOP");
    // Somebody has taken its lock away, as when a disk moves to another machine.
    std::fs::remove_dir_all(place.path(".state/plandag/runs.db.locks")).unwrap();
    let ran = place.run(&format!("resume {run} -q"));
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    let before = place.query("SELECT body FROM events ORDER BY key");
    signal(&zombie, "-CONT");
    assert_eq!(zombie.wait().unwrap().code(), Some(7));
    assert_eq!(place.query("SELECT body FROM events ORDER BY key"), before);
}

type Change = Box<dyn Fn(&mut Value)>;

/// Whatever is changed of a plan that was begun is noticed.
#[test]
fn every_change_of_a_plan_is_told() {
    let (place, run) = interrupted(20_000);
    let plan: Value = serde_json::from_str(&std::fs::read_to_string(place.path("plan.json")).unwrap()).unwrap();
    let first = |field: &'static str, value: Value| move |plan: &mut Value| plan["steps"][0][field] = value.clone();
    let changes: [(&str, Change); 12] = [
        ("~ a: args", Box::new(first("args", json!({ "ms": 1 })))),
        ("~ a: tool", Box::new(first("tool", json!("calculate")))),
        ("~ a: description", Box::new(first("description", json!("waits")))),
        ("~ a: when", Box::new(first("when", json!("${inputs.x}")))),
        ("~ a: timeout_ms", Box::new(first("timeout_ms", json!(7)))),
        ("~ a: retry", Box::new(first("retry", json!({ "max_attempts": 9 })))),
        ("~ a: on_failure", Box::new(first("on_failure", json!("continue")))),
        ("~ a: on_interrupt", Box::new(first("on_interrupt", json!("retry")))),
        ("~ a: uses", Box::new(first("uses", json!({ "gpu": 1 })))),
        ("~ a: estimate_ms", Box::new(first("estimate_ms", json!(9)))),
        ("- b", Box::new(|plan| drop(plan["steps"].as_array_mut().unwrap().pop()))),
        (
            "+ c",
            Box::new(|plan| {
                plan["steps"].as_array_mut().unwrap().push(json!({ "id": "c", "tool": "sleep", "args": { "ms": 1 } }))
            }),
        ),
    ];
    for (told, change) in changes {
        let mut changed = plan.clone();
        change(&mut changed);
        std::fs::write(place.path("plan.json"), changed.to_string()).unwrap();
        let refused = place.run(&format!("resume {run}"));
        assert_eq!((refused.exit, refused.stderr.contains(told)), (Some(7), true), "{told}: {refused:?}");
    }
}

#[test]
fn a_changed_plan_or_tool_is_refused() {
    let (place, run) = interrupted(20_000);
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 1 } }, { "id": "c", "tool": "sleep", "args": { "ms": 1 } }]));
    let refused = place.run(&format!("resume {run}"));
    assert_eq!(refused.exit, Some(7));
    for part in ["~ a: args", "- b", "+ c", "--accept-changes"] {
        assert!(refused.stderr.contains(part), "{part}\n{}", refused.stderr);
    }
    let mut child = place.start(&format!("resume {run} --accept-changes"));
    wait_for(&place, "run_resumed", 1);
    signal(&child, "-INT");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_changed_plan_is_noticed_also_if_it_is_longer_than_plans_may_be_unless_it_was_said() {
    let place = Place::new();
    let write = |tool: &str| {
        let plan = json!({ "objective": "test", "steps": [
            { "id": "a", "tool": "sleep", "args": { "ms": 20_000 } },
            { "id": "b", "tool": tool, "args": { "ms": 1 }, "depends_on": ["a"] },
        ] });
        std::fs::write(place.path("plan.json"), format!("{plan}{}", " ".repeat(2 << 20))).unwrap();
    };
    write("sleep");
    let mut child = place.start("run plan.json --max-steps 20000");
    wait_for(&place, "attempt_started", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    write("calculate");
    let refused = place.run("resume");
    assert_eq!(refused.exit, Some(7), "{refused:?}");
    assert!(refused.stderr.contains("~ b: tool"), "{}", refused.stderr);
}

#[test]
fn a_plan_that_cannot_be_compared_is_told() {
    for (text, why) in [(None, "No such file"), (Some("{ \"steps\": 7 }"), "steps")] {
        let (place, run) = interrupted(1_000);
        match text {
            None => std::fs::remove_file(place.path("plan.json")).unwrap(),
            Some(text) => std::fs::write(place.path("plan.json"), text).unwrap(),
        }
        let ran = place.run(&format!("resume {run}"));
        assert_eq!(ran.exit, Some(0), "{ran:?}");
        let told = ran.stderr.lines().find(|line| line.contains("plan.json cannot be compared")).expect(&ran.stderr);
        assert!(told.contains(why) && told.contains("as it was"), "{told}");
    }
}

/// Starts a run of a program that leaves a child which ignores what can be ignored, as it does itself; `begin` comes
/// before the child. The run is killed when both have said who they are.
fn killed_with_programs(begin: &str, before: &str) -> (Place, String) {
    let place = Place::new();
    let script = format!(
        "{before} trap '' TERM HUP; {begin} sh -c 'trap \"\" TERM HUP; echo $$ >> ../pids.new; sleep 60' & \
         echo $$ >> ../pids.new; until [ $(wc -l < ../pids.new) = 2 ]; do sleep 0.01; done; \
         mv ../pids.new ../pids; wait; sleep 60"
    );
    place.plan(json!([
        { "id": "a", "tool": "shell", "args": { "argv": ["sh", "-c", script] }, "on_interrupt": "retry" }
    ]));
    let mut child = place.start("run plan.json --allow shell");
    let until = Instant::now() + Duration::from_secs(30);
    while !place.path("pids").exists() {
        assert!(Instant::now() < until, "the program does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let pids = std::fs::read_to_string(place.path("pids")).unwrap();
    (place, pids)
}

#[test]
fn programs_of_a_killed_process_end_also_if_nobody_resumes_its_run() {
    let (_place, pids) = killed_with_programs("", "");
    // A dead process that nobody has waited for yet is gone, too.
    let lives = |pid: &str| {
        let said = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap();
        !matches!(said.stdout.trim_ascii().first(), None | Some(b'Z'))
    };
    assert_eq!(pids.lines().count(), 2);
    let until = Instant::now() + Duration::from_secs(30);
    while pids.lines().any(lives) {
        assert!(Instant::now() < until, "the program goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn programs_that_left_their_group_before_the_process_was_killed_are_ended_before_the_step_is_tried_again() {
    // The second attempt looks for what the first one has left.
    let look = "if [ -e ../pids ]; then for p in $(cat ../pids); do [ -e /proc/$p ] && \
                ! grep -q '^State:.Z' /proc/$p/status && echo $p; done; exit 0; fi;";
    let (place, _) = killed_with_programs("setsid", look);
    let ran = place.run("resume");
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(answer["stdout"], "", "these were alive at the second attempt");
}

/// Whoever copies the file of a journal has all of it then.
#[test]
fn a_command_that_has_ended_has_moved_the_log_into_the_file() {
    let place = Place::new();
    place.plan(
        (0..64).map(|number| json!({ "id": format!("s{number}"), "tool": "sleep", "args": { "ms": 1 } })).collect(),
    );
    let log = place.path(".state/plandag/runs.db-wal");
    let left = (0..60).filter(|_| {
        assert_eq!(place.run("run plan.json -q").exit, Some(0));
        log.exists()
    });
    assert_eq!(left.count(), 0);
    place.plan(json!([{ "id": "a", "tool": "sleep", "args": { "ms": 200 } }]));
    for (line, exit) in [("run plan.json --deadline 50ms", 8), ("runs", 0), ("resume --deadline 1h", 0), ("show", 2)] {
        let ran = place.run(line);
        assert_eq!(ran.exit, Some(exit), "{line}: {ran:?}");
        assert!(!log.exists(), "{line}");
    }
}
