//! Which step comes next: pools, their sizes through revisions and resumes, and ranks.

use std::collections::BTreeMap;

use plandag::{Event, Hindrance, Order, Plan, Policy, Returned, Revision, Step, StepError};
use serde_json::json;

use crate::driver::Driver;

fn pools<const N: usize>(pools: [(&str, u32); N]) -> BTreeMap<String, u32> {
    pools.map(|(name, size)| (name.to_owned(), size)).into()
}

#[test]
fn a_resume_sizes_the_pools_of_its_policy_and_keeps_those_of_the_plan() {
    let steps = [("x", "gpu"), ("y", "gpu"), ("r", "read"), ("s", "read")];
    let plan = || Plan::from_iter(steps.map(|(id, tool)| Step::new(id, tool))).pool("gpu", 1);
    let resumed = |new: BTreeMap<String, u32>| {
        let mut driver = Driver::with_plan(Policy { pools: pools([("read", 1)]), ..Policy::default() }, plan());
        assert_eq!(driver.running(), ["r", "x"]);
        driver.send(Event::CancelRequested { at_once: true });
        driver.launched.clear();
        driver.send(Event::Resumed { policy: Some(Box::new(Policy { pools: new, ..Policy::default() })) });
        driver.running().join(" ")
    };
    assert_eq!(resumed(pools([])), "r s x", "what the plan has sized stays, what the old policy had sized does not");
    assert_eq!(resumed(pools([("gpu", 2)])), "r s x y", "the new policy decides");
    assert_eq!(resumed(pools([("read", 1), ("gpu", 2)])), "r x y");
}

/// More may be taken of a pool than it has: nobody had sized it when the attempts started.
#[test]
fn a_resume_may_size_a_pool_of_which_much_is_taken() {
    let whole = |id: &str| Step::new(id, "read").uses("q", u32::MAX);
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter(["x", "y", "z"].map(whole)));
    assert_eq!(driver.running(), ["x", "y", "z"]);
    driver.launched.clear();
    let policy = Policy { pools: pools([("q", u32::MAX)]), ..Policy::default() };
    driver.send(Event::Resumed { policy: Some(Box::new(policy)) });
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn what_a_policy_has_sized_goes_with_it() {
    let plan = Plan::from_iter(["x", "y", "z"].map(|id| Step::new(id, "gpu"))).pool("gpu", 1);
    let mut driver = Driver::with_plan(Policy { pools: pools([("gpu", 2)]), ..Policy::default() }, plan);
    let mut resumed = |new: BTreeMap<String, u32>| {
        driver.send(Event::CancelRequested { at_once: true });
        driver.launched.clear();
        driver.send(Event::Resumed { policy: Some(Box::new(Policy { pools: new, ..Policy::default() })) });
        driver.running().join(" ")
    };
    assert_eq!(resumed(pools([])), "x", "the plan's size counts where no policy has one");
    assert_eq!(resumed(pools([("gpu", 3)])), "x y z");
    assert_eq!(resumed(pools([])), "x");
}

#[test]
fn a_pool_that_a_revision_sizes_counts_for_the_steps_that_are_there() {
    let steps = || {
        let uses = |id: &str| Step::new(id, "gpu").depends_on(["slow"]);
        [Step::new("slow", "read"), uses("x"), uses("y")]
    };
    let mut driver =
        Driver::with_plan(Policy::default(), Plan::from_iter(steps().into_iter().chain([Step::new("bad", "read")])));
    driver.fails("bad");
    driver.reply(Revision::Plan(Plan::from_iter(steps()).pool("gpu", 1)));
    driver.succeeds("slow");
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn a_revision_ranks_the_steps_of_an_expansion_by_what_now_comes_after_it() {
    let steps = || {
        let other = |id: &str| Step::new(id, "read").estimate_ms(2_000);
        [Step::new("map", "read").estimate_ms(4_000), other("a"), other("b"), other("c")]
    };
    let bad = Step::new("bad", "read").estimate_ms(3_000);
    let policy = Policy { max_parallel: 2, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter(steps().into_iter().chain([bad])));
    assert_eq!(driver.running(), ["bad", "map"]);
    let children = Plan::from_iter([Step::new("one", "read"), Step::new("two", "read")]);
    driver.returns("map", Ok(Returned::Plan(Box::new(children))));
    driver.fails("bad");
    assert_eq!(driver.running(), ["a", "b"], "a second each, and nothing comes after them");
    let last = Step::new("last", "read").depends_on(["map"]).estimate_ms(9_000);
    driver.reply(Revision::Plan(Plan::from_iter(steps().into_iter().chain([last]))));
    driver.succeeds("a");
    assert_eq!(driver.running(), ["b", "map/one"]);
}

#[test]
fn a_revision_does_not_change_who_came_first() {
    let steps = || {
        let read = |id: &str| Step::new(id, "read");
        [read("a"), read("b"), read("late").depends_on(["a"]), read("early"), read("next")]
    };
    let bad = |step: Step| if step.id.as_str() == "b" { step.args(json!("bad")) } else { step };
    let policy = Policy { max_parallel: 1, order: Order::Fifo, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter(steps().map(bad)));
    driver.succeeds("a");
    driver.fails("b");
    assert_eq!(driver.running(), ["early"]);
    driver.reply(Revision::Plan(Plan::from_iter(steps().into_iter().filter(|step| step.id.as_str() != "b"))));
    driver.succeeds("early");
    assert_eq!(driver.running(), ["next"], "`late` was ready later, though its number is lower");
}

#[test]
fn steps_that_become_ready_together_are_in_the_order_of_the_plan() {
    let policy = Policy { max_parallel: 1, order: Order::Fifo, ..Policy::default() };
    for (steps, depends_on) in [(4, vec!["a"]), (4, vec!["b", "a"]), (5_000, vec!["a"]), (5_000, vec!["b", "a"])] {
        let read = |id: String| Step::new(id, "read");
        let roots = ["a", "b"].map(|id| read(id.into()));
        let others = (0..steps).map(|number| read(format!("s{number}")).depends_on(depends_on.clone()));
        let mut driver = Driver::with_plan(policy.clone(), roots.into_iter().chain(others).collect());
        for id in ["a", "b", "s0", "s1", "s2"] {
            assert_eq!(driver.running(), [id], "of {steps} steps after {depends_on:?}");
            driver.succeeds(id);
        }
    }
}

/// Two slots do best with the first two, though the third has a longer path than the second.
fn unlucky() -> [Step; 4] {
    let step = |id: &str, millis| Step::new(id, "read").estimate_ms(millis);
    [step("a", 1_000), step("b", 2_000), step("c", 3_000), step("d", 2_000).depends_on(["a"])]
}

#[test]
fn a_run_is_rehearsed_where_the_longest_path_comes_first() {
    let policy = |order| Policy { max_parallel: 2, order, ..Policy::default() };
    let first = |order| Driver::with_plan(policy(order), Plan::from_iter(unlucky())).running().join(" ");
    assert_eq!(first(Order::CriticalPath), "a b");
    assert_eq!(first(Order::Random(0)), "b c");
    let mut driver = Driver::with_plan(policy(Order::CriticalPath), Plan::from_iter([Step::new("map", "gpu")]));
    driver.expands("map", unlucky());
    assert_eq!(driver.running(), ["map/a", "map/b"], "as if they were steps of the plan");
}

#[test]
fn a_pool_that_no_open_step_uses_changes_nothing() {
    let first = |used: bool| {
        let policy = Policy { max_parallel: 2, pools: pools([("gpu", 1)]), ..Policy::default() };
        let more = Step::new("more", "read").estimate_ms(1).depends_on(["a"]);
        let more = if used { more.uses("gpu", 1) } else { more };
        Driver::with_plan(policy, unlucky().into_iter().chain([more]).collect()).running().join(" ")
    };
    assert_eq!((first(false).as_str(), first(true).as_str()), ("a b", "a c"));
}

#[test]
fn expansions_are_rehearsed_together_and_before_what_waits_for_them() {
    let step = |id: &str, millis: u64| Step::new(id, "read").estimate_ms(millis);
    // The same four steps as above, in two expansions, and one after the first of them instead of the fourth.
    let plan = [Step::new("x", "gpu"), Step::new("y", "gpu"), step("d", 2_000).depends_on(["x"])];
    let policy = Policy { max_parallel: 2, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, Plan::from_iter(plan));
    driver.expands("x", [step("a", 1_000)]);
    driver.expands("y", [step("b", 2_000), step("c", 3_000)]);
    assert_eq!(driver.running(), ["x/a", "y/b"]);
}

#[test]
fn a_plan_of_very_many_steps_is_not_rehearsed() {
    let first = |count: usize| {
        let others = (4..count).map(|index| Step::new(format!("s{index}"), "read").estimate_ms(0));
        let plan = Plan::from_iter(unlucky().into_iter().chain(others));
        Driver::with_plan(Policy { max_parallel: 2, ..Policy::default() }, plan).running().join(" ")
    };
    assert_eq!(first(4_096), "a b");
    assert_eq!(first(4_097), "a c");
}

#[test]
fn a_step_that_is_expected_to_take_for_ever_starts() {
    let long = |id: &str| Step::new(id, "read").estimate_ms(u64::MAX);
    let mut driver = Driver::with_plan(Policy::default(), Plan::from_iter([long("a"), long("b").depends_on(["a"])]));
    assert_eq!(driver.running(), ["a"]);
    driver.succeeds("a");
    assert_eq!(driver.running(), ["b"]);
}

#[test]
fn what_keeps_a_ready_step_from_starting_is_all_that_is_missing() {
    let gpu = |id: &str, takes| Step::new(id, "read").uses("gpu", takes);
    let plan = Plan::from_iter([
        gpu("x", 2).estimate_ms(60_000),
        gpu("y", 2),
        Step::new("z", "gpu"),
        gpu("last", 1).depends_on(["y"]),
    ]);
    let policy = Policy { pools: pools([("gpu", 3)]), max_parallel: 2, ..Policy::default() };
    let mut driver = Driver::with_plan(policy, plan);
    let behind = |driver: &Driver, id: &str| -> Vec<String> {
        let step = driver.scheduler.current(id).expect("it is there");
        driver.scheduler.hindrances(step, driver.now).iter().map(ToString::to_string).collect()
    };
    assert_eq!(driver.running(), ["x", "z"]);
    assert_eq!(behind(&driver, "y"), ["room in a pool (gpu 3/3, it takes 2)", "a free slot (2/2 taken)"]);
    assert!(behind(&driver, "x").is_empty() && behind(&driver, "last").is_empty(), "they are not ready");
    // It is tried again no sooner than its server wants, and so is nothing else of its tool.
    driver.returns("x", Err(StepError::transient("HTTP 429").retry_after_ms(5_000)));
    assert_eq!(
        behind(&driver, "y")[0],
        format!("the server of `read`, which wants no call before {} (HTTP 429)", driver.now.plus_millis(5_000))
    );
    let y = driver.scheduler.current("y").expect("it is there");
    let later = driver.now.plus_millis(5_000);
    assert!(!driver.scheduler.hindrances(y, later).iter().any(|why| matches!(why, Hindrance::Paused { .. })));
    assert!(driver.scheduler.hindrances(99, later).is_empty());
}

/// A plan may size very many pools, and each of them counts.
#[test]
fn the_last_of_very_many_pools_has_its_size() {
    let mut plan = Plan::from_iter(["x", "y"].map(|id| Step::new(id, "read").uses("last", 1)));
    plan.pools.extend((0..u32::from(u16::MAX) + 1).map(|index| (format!("{index}"), 1)));
    let driver = Driver::with_plan(Policy::default(), plan.pool("last", 1));
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn a_resume_in_another_order_ranks_what_is_waiting() {
    let step = |id: &str, estimate_ms| Step::new(id, "read").depends_on(["first"]).estimate_ms(estimate_ms);
    let plan = || {
        let first = Step::new("first", "read");
        Plan::from_iter([first, step("short", 1), step("middle", 10), step("long", 1_000)])
    };
    let policy = |order| Policy { max_parallel: 1, order, ..Policy::default() };
    for (order, then, next) in [
        (Order::Fifo, Order::CriticalPath, "long"),
        (Order::CriticalPath, Order::Fifo, "short"),
        (Order::Hops, Order::CriticalPath, "long"),
    ] {
        let mut driver = Driver::with_plan(policy(order), plan());
        driver.launched.clear();
        driver.send(Event::Resumed { policy: Some(Box::new(policy(then))) });
        driver.succeeds("first");
        assert_eq!(driver.running(), [next], "{order:?}, then {then:?}");
    }
}
