//! Histories come from outside: a damaged one is an error that names the first impossible event, or by chance still a
//! possible history. It is never a panic, neither when it is read, nor when somebody looks at the run, nor when that goes
//! on from it.

#![expect(clippy::print_stdout, reason = "how many were refused belongs to the result")]

pub mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use plandag::history::{Changes, History};
use plandag::journal::{Durability, Journal as _, MemoryJournal, RunId};
use plandag::{Event, JournalError, RunEvent, Scheduler, Timestamp};
use serde_json::{Value, json};
use support::knobs::Knobs;
use support::random::{one_of, percent};
use support::world::World;
use support::{for_each_seed, seeds};

#[test]
fn a_damaged_history_never_panics() {
    let (refused, possible) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each_seed("a_damaged_history_never_panics", seeds(3_000), |seed| {
        let mut rng = Rng::with_seed(seed);
        let knobs = Knobs { max_steps: 12, storms: rng.bool(), ..Knobs::ALL };
        let history = World::new(seed, &knobs).run().history;
        for _ in 0..20 {
            let Some(damaged) = damage(&mut rng, history.clone()) else { continue };
            match Scheduler::replay(&damaged) {
                Err(JournalError::Corrupt { seq, message }) => {
                    assert!(seq <= damaged.len() as u64, "event {seq} is not in the history");
                    assert!(!message.is_empty());
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("{error}"),
                Ok(scheduler) => {
                    possible.fetch_add(1, Ordering::Relaxed);
                    if percent(&mut rng, 20) {
                        look(&damaged);
                    }
                    go_on(&mut rng, scheduler);
                }
            }
        }
    });
    let (refused, possible) = (refused.into_inner(), possible.into_inner());
    println!("{refused} refused, {possible} possible");
    assert!(refused > possible || support::is_one_seed(), "only {refused} refused, {possible} read");
}

/// Looks at the run in every way.
fn look(events: &[RunEvent]) {
    let (journal, run) = (MemoryJournal::new(), RunId::new("damaged"));
    let history = tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
        let claim = journal.create(&run).await.expect("a new run");
        journal.append(&claim, events, Durability::Process).await.expect("memory");
        // What is kept apart from the events is not there.
        History::load(&journal, &run).await
    });
    let Ok(history) = history else { return };
    let _ = (history.revisions(), history.to_ndjson(), history.to_trace(), history.graph());
    let report = history.report();
    let _ = (report.answer(), report.critical_path(), report.bound(), report.work(), report.retry_count());
    for step in report.steps() {
        let _ = (report.output::<Value>(step.id.as_str()), history.why(step.id.as_str()));
        let _ = history.fork(&Changes { from: Some(step.id.clone()), ..Changes::default() });
    }
    let _ = history.fork(&Changes::default());
}

/// Takes the run up, as a new process would.
fn go_on(rng: &mut Rng, mut scheduler: Scheduler) {
    let _ = scheduler.snapshot();
    let mut now = Timestamp::ZERO;
    for _ in 0..20 {
        let event = match rng.u8(0..4) {
            0 => Event::Resumed { policy: None },
            1 => Event::CancelRequested { at_once: rng.bool() },
            _ => Event::Woke,
        };
        now = now.plus_millis(rng.u64(0..100_000));
        let _ = scheduler.on_event(event, now);
    }
    let _ = scheduler.snapshot();
}

fn damage(rng: &mut Rng, mut history: Vec<RunEvent>) -> Option<Vec<RunEvent>> {
    if history.is_empty() {
        return Some(history);
    }
    let place = rng.usize(0..history.len());
    match rng.u8(0..8) {
        0 => drop(history.remove(place)),
        1 => history.insert(place, history[place].clone()),
        2 => {
            let other = rng.usize(0..history.len());
            history.swap(place, other);
        }
        // As above, but with the numbers in order, as somebody would who edits a history by hand.
        3 => {
            history.remove(place);
            number_again(&mut history);
        }
        4 => {
            history.insert(place, history[place].clone());
            number_again(&mut history);
        }
        _ => history[place] = alter(rng, &history[place])?,
    }
    Some(history)
}

fn number_again(history: &mut [RunEvent]) {
    for (seq, event) in (0..).zip(history) {
        event.seq = seq;
    }
}

/// An event with one field changed; none if that is no event any more.
fn alter(rng: &mut Rng, event: &RunEvent) -> Option<RunEvent> {
    let mut value = serde_json::to_value(event).expect("events are data");
    let leaves = count_leaves(&value);
    let mut index = rng.usize(0..leaves);
    change_leaf(rng, &mut value, &mut index);
    serde_json::from_value(value).ok()
}

fn count_leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) if !items.is_empty() => items.iter().map(count_leaves).sum(),
        Value::Object(fields) if !fields.is_empty() => fields.values().map(count_leaves).sum(),
        _ => 1,
    }
}

/// Changes the leaf that `index` counts down to.
fn change_leaf(rng: &mut Rng, value: &mut Value, index: &mut usize) {
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) if !items.is_empty() => items.iter_mut().collect(),
        Value::Object(fields) if !fields.is_empty() => fields.values_mut().collect(),
        leaf => {
            if *index == 0 {
                *leaf = other_leaf(rng, leaf);
            }
            *index = index.wrapping_sub(1);
            return;
        }
    };
    for part in parts {
        change_leaf(rng, part, index);
    }
}

fn other_leaf(rng: &mut Rng, leaf: &Value) -> Value {
    match leaf {
        Value::Number(number) => match number.as_u64() {
            Some(number) if percent(rng, 60) => json!(if rng.bool() { number + 1 } else { number.saturating_sub(1) }),
            _ => json!(one_of(rng, &[0, 1, 7, u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::MAX])),
        },
        Value::String(_) => json!(one_of(rng, &["", "s0", "s0/c0", "nobody", "look"])),
        Value::Array(_) => json!([rng.u32(0..20)]),
        Value::Null => json!(rng.u32(0..20)),
        Value::Bool(on) => json!(!on),
        other => other.clone(),
    }
}
