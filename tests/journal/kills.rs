//! `kill -9` at any instant: the run goes on where it was, to the same answer.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Place, witnessed};

/// 50, or as many as `PLANDAG_KILLS` says.
pub(crate) fn kills() -> u64 {
    std::env::var("PLANDAG_KILLS").map_or(50, |count| count.parse().expect("PLANDAG_KILLS is a number"))
}

/// A step that five interruptions come upon is taken for their cause, and has failed. On a slow machine one step may be
/// hit by every kill of its run.
pub(crate) const MOST_KILLS_OF_A_RUN: u32 = 4;

/// Diamonds and a join of all: whoever starts a step too early or twice is found out.
fn steps() -> Value {
    json!([
        witnessed("a", 15, &[]),
        witnessed("b", 40, &[]),
        witnessed("c", 5, &["a"]),
        witnessed("d", 30, &["a", "b"]),
        witnessed("e", 10, &["b"]),
        witnessed("f", 20, &["c", "d"]),
        witnessed("g", 1, &["d", "e"]),
        witnessed("join", 5, &["f", "g"]),
    ])
}

/// All steps that each of them follows, directly or not.
const ANCESTORS: [(&str, &[&str]); 6] = [
    ("c", &["a"]),
    ("d", &["a", "b"]),
    ("e", &["b"]),
    ("f", &["a", "b", "c", "d"]),
    ("g", &["a", "b", "d", "e"]),
    ("join", &["a", "b", "c", "d", "e", "f", "g"]),
];

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let undisturbed = Place::new();
    undisturbed.plan(steps());
    let expected = undisturbed.run("run plan.json --allow shell -q");
    assert_eq!((expected.exit, expected.stderr.as_str()), (Some(0), ""));

    let mut rng = fastrand::Rng::new();
    let mut done = 0;
    while done < kills() {
        let place = Place::new();
        place.plan(steps());
        let mut line = "run plan.json --allow shell -q".to_owned();
        let mut acknowledged = BTreeSet::new();
        let mut answer = None;
        let mut killed = 0;
        while answer.is_none() {
            let seed = rng.get_seed();
            // Most are killed somewhere in the middle; now and then one is left alone.
            let after = Duration::from_micros(rng.u64(1_000..220_000));
            let before = place.witnessed();
            if done < kills() && killed < MOST_KILLS_OF_A_RUN && rng.u8(..) > 32 {
                let mut child = place.start(&line);
                thread::sleep(after);
                child.kill().unwrap();
                child.wait().unwrap();
                done += 1;
                killed += 1;
            } else {
                let ran = place.run(&line);
                assert_eq!(ran.exit, Some(0), "seed {seed}: {line}: {ran:?}");
                answer = Some(ran.stdout);
            }
            no_repetition(&acknowledged, &before, &place.witnessed(), seed);
            if place.journal().exists() && !place.query("SELECT id FROM owners JOIN summaries USING (run)").is_empty() {
                assert_eq!(place.query("PRAGMA integrity_check"), ["ok"], "seed {seed}");
                acknowledged = place.query("SELECT step FROM steps WHERE state = 'succeeded'").into_iter().collect();
                let run = place.query("SELECT run FROM runs").remove(0);
                line = format!("resume {run} -q");
            }
        }
        assert_eq!(answer.unwrap(), expected.stdout);
        in_order(&place.witnessed());
    }
}

/// Nothing that was recorded as done has started again.
pub(crate) fn no_repetition(acknowledged: &BTreeSet<String>, before: &[String], after: &[String], seed: u64) {
    for line in &after[before.len()..] {
        let step = line.strip_prefix("start ");
        assert!(!step.is_some_and(|step| acknowledged.contains(step)), "seed {seed}: {line}\n{after:?}");
    }
}

/// A step starts after its dependencies have ended, and none of them starts after that.
fn in_order(witnessed: &[String]) {
    for (step, ancestors) in ANCESTORS {
        let first = witnessed.iter().position(|line| *line == format!("start {step}")).unwrap();
        for ancestor in ancestors {
            let ended = witnessed[..first].contains(&format!("end {ancestor}"));
            let again = witnessed[first..].contains(&format!("start {ancestor}"));
            assert!(ended && !again, "{step} and {ancestor}: {witnessed:?}");
        }
    }
}
