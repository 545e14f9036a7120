use std::sync::Arc;

use serde_json::json;

use super::work::Trial;
use super::*;
use crate::journal::RunId;
use crate::report::RunReport;
use crate::simulate::{Simulation, run_start};
use crate::tool::ToolSpec;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn step(id: &str, ms: u64) -> Step {
    Step::new(id, "t").estimate_ms(ms)
}

/// With tools that only read.
fn what_if(plan: &Plan, policy: Policy) -> WhatIf {
    WhatIf::of_plan(plan, &RunStart { policy, ..run_start(plan) })
}

fn saves(what_if: &WhatIf, change: &Change) -> Option<Duration> {
    what_if.savings.iter().find(|saving| saving.change == *change).map(|saving| saving.saves)
}

fn halve(step: &str) -> Change {
    Change::Halve { step: step.into() }
}

fn independent(step: &str, dependency: &str) -> Change {
    Change::Independent { step: step.into(), dependency: dependency.into() }
}

fn slots(max_parallel: u32) -> Policy {
    Policy { max_parallel, ..Policy::default() }
}

#[test]
fn when_one_path_shrinks_the_next_one_takes_over() {
    let plan = Plan::from_iter([
        step("long", 1_000),
        step("short", 800),
        step("join", 100).args(json!(["${long}", "${short}"])),
    ]);
    let what_if = what_if(&plan, Policy::default());
    assert_eq!(what_if.makespan, millis(1_100));
    let saving = |change, saves| Saving { change, saves: millis(saves) };
    // Of what saves nothing only the slots are told.
    let slots = Change::Slots { from: 64, to: 65 };
    assert_eq!(what_if.savings, [saving(halve("long"), 200), saving(halve("join"), 50), saving(slots, 0)]);
    assert_eq!(what_if.untried, 0);
}

#[test]
fn what_pauses_between_its_attempts_takes_no_slot_then_and_is_not_faster() {
    let task = |number: u32, attempts: u32, pause: u64, ms: u64| Task {
        name: StepId::from(format!("s{number}")),
        earlier: (1..attempts).map(|_| Earlier::new(millis(ms), millis(pause))).collect(),
        duration: millis(ms),
        after: Vec::new(),
        unused: Vec::new(),
        step: Arc::new(Step::new("s", "t")),
        whole: Some(number),
    };
    let work = |max_parallel: u32, tasks: &[Task]| Work { tasks: tasks.to_vec(), policy: slots(max_parallel) };
    // 50, 500, 50, 500, 50.
    let flaky = task(0, 3, 500, 50);
    let two = work(2, &[flaky.clone(), task(1, 1, 0, 1_000)]).what_if();
    assert_eq!(two.makespan, millis(1_150));
    assert_eq!(saves(&two, &halve("s0")), Some(millis(75)));
    assert_eq!(saves(&two, &halve("s1")), None, "nobody waits for it");
    // While it pauses, the other one has the only slot; then it waits for that.
    let one = work(1, &[flaky, task(1, 1, 0, 700)]).what_if();
    assert_eq!(one.makespan, millis(50 + 700 + 50 + 500 + 50));
    assert_eq!(saves(&one, &Change::Slots { from: 1, to: 2 }), Some(millis(1_350 - 1_150)));
    assert_eq!(saves(&one, &halve("s1")), Some(millis(200)), "so soon is it back");
    // One that pauses keeps no other of its tool waiting.
    let both = work(2, &[task(0, 2, 500, 50), task(1, 2, 700, 100)]).what_if();
    assert_eq!(both.makespan, millis(900));
}

#[test]
fn a_slot_or_a_wider_pool_saves_what_waited_for_it() {
    let steps = || (0..3).map(|n| step(&format!("s{n}"), 300));
    let two = what_if(&steps().collect(), slots(2));
    assert_eq!(saves(&two, &Change::Slots { from: 2, to: 3 }), Some(millis(300)));
    let mut plan: Plan = steps().map(|step| step.uses("gpu", 1)).collect();
    plan.pools.insert("gpu".into(), 2);
    let what_if = what_if(&plan, Policy::default());
    let wider = Change::Pool { pool: "gpu".into(), from: 2, to: 3 };
    assert_eq!(saves(&what_if, &wider), Some(millis(300)));
}

#[test]
fn the_pool_that_was_waited_for_is_found_among_many() {
    let mut plan = Plan::default();
    for pool in ["a", "b", "c", "d", "e"] {
        let size = if pool == "e" { 1 } else { 2 };
        plan.pools.insert(pool.into(), size);
        let ms = if pool == "e" { 1_000 } else { 100 };
        plan.steps.extend((0..2).map(|n| Arc::new(step(&format!("{pool}{n}"), ms).uses(pool, 1))));
    }
    let what_if = what_if(&plan, Policy::default());
    assert_eq!(what_if.savings[0].change, Change::Pool { pool: "e".into(), from: 1, to: 2 });
    assert_eq!(what_if.savings[0].saves, millis(1_000));
    let pools = what_if.savings.iter().filter(|saving| matches!(saving.change, Change::Pool { .. }));
    assert_eq!(pools.count(), 1, "those that save nothing are not told");
}

#[test]
fn a_dependency_that_is_never_used_costs_what_it_delays() {
    let plan = Plan::from_iter([
        step("first", 400),
        step("second", 300).depends_on(["first"]),
        step("third", 100).args(json!("${second}")).depends_on(["second"]),
        Step::described("model", "Sums up").estimate_ms(10).depends_on(["third"]),
    ]);
    let what_if = what_if(&plan, Policy::default());
    let told: Vec<_> =
        what_if.savings.iter().filter(|saving| matches!(saving.change, Change::Independent { .. })).collect();
    assert_eq!(told, [&Saving { change: independent("second", "first"), saves: millis(400) }]);
}

#[test]
fn the_dependency_that_costs_something_is_found_behind_longer_steps() {
    let mut plan = Plan::default();
    for n in 0..8 {
        plan.steps.push(Arc::new(step(&format!("off{n}"), 900)));
        plan.steps.push(Arc::new(step(&format!("use{n}"), 10).depends_on([format!("off{n}")])));
    }
    let costly = [step("a", 2_000), step("b", 50).args(json!("${a}")), step("c", 2_000).depends_on(["b"])];
    plan.steps.extend(costly.map(Arc::new));
    let what_if = what_if(&plan, Policy::default());
    assert_eq!(what_if.savings[0], Saving { change: independent("c", "b"), saves: millis(2_000) });
}

/// Steps of any length that depend on earlier ones, refer to some of them, and take of a pool.
fn random_plan(rng: &mut fastrand::Rng) -> Plan {
    let mut plan = Plan::default();
    plan.pools.insert("g".into(), 2);
    for number in 0..rng.usize(4..25) {
        let before = if number > 0 { rng.usize(0..3) } else { 0 };
        let before: Vec<String> = (0..before).map(|_| format!("s{}", rng.usize(0..number))).collect();
        let used: Vec<String> = before.iter().filter(|_| rng.u8(0..10) < 6).map(|id| format!("${{{id}}}")).collect();
        let new = step(&format!("s{number}"), 2 * rng.u64(0..250)).depends_on(before).args(json!(used));
        let new = if rng.u8(0..10) < 4 { new.uses("g", rng.u32(1..3)) } else { new };
        plan.steps.push(Arc::new(new));
    }
    plan
}

#[test]
fn what_is_told_is_the_best_and_what_a_simulation_of_the_changed_plan_says() {
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = random_plan(&mut rng);
        let cap = *rng.choice([1, 2, 3, 64].iter()).unwrap();
        let makespan = |plan: Plan, cap| Simulation::new(plan).max_parallel(cap).run().makespan;
        let with = |index: usize, change: &dyn Fn(&mut Step)| {
            let mut plan = plan.clone();
            change(Arc::make_mut(&mut plan.steps[index]));
            plan
        };
        let before = makespan(plan.clone(), cap);
        let what_if = what_if(&plan, slots(cap));
        assert_eq!((what_if.makespan, what_if.untried), (before, 0), "seed {seed}");
        for saving in &what_if.savings {
            let index = |id: &StepId| plan.steps.iter().position(|step| step.id == *id).unwrap();
            let (changed, cap) = match &saving.change {
                Change::Halve { step } => {
                    (with(index(step), &|step| *step = step.clone().estimate_ms(step.estimate_ms.unwrap() / 2)), cap)
                }
                Change::Slots { to, .. } => (plan.clone(), *to),
                Change::Pool { pool, to, .. } => {
                    let mut plan = plan.clone();
                    plan.pools.insert(pool.clone(), *to);
                    (plan, cap)
                }
                Change::Independent { step, dependency } => {
                    (with(index(step), &|step| step.depends_on.retain(|id| id != dependency)), cap)
                }
            };
            assert_eq!(saving.saves, before.saturating_sub(makespan(changed, cap)), "seed {seed}: {saving:?}");
        }
        let halved = (0..plan.steps.len()).map(|index| {
            let half = with(index, &|step| *step = step.clone().estimate_ms(step.estimate_ms.unwrap() / 2));
            before.saturating_sub(makespan(half, cap))
        });
        let told = what_if.savings.iter().filter(|saving| matches!(saving.change, Change::Halve { .. }));
        let told = told.map(|saving| saving.saves).max().unwrap_or_default();
        assert_eq!(told, halved.max().unwrap(), "seed {seed}");
    }
}

#[test]
fn nothing_that_acts_is_said_to_be_unnecessary() {
    let chain = |tools: [&str; 3]| {
        let [a, b, c] = tools;
        Plan::from_iter([
            Step::new("a", a).estimate_ms(500),
            Step::new("b", b).estimate_ms(500).depends_on(["a"]),
            Step::new("c", c).estimate_ms(500).depends_on(["b"]),
        ])
    };
    let unnecessary = |tools: [&str; 3]| {
        let plan = chain(tools);
        let shell = ToolSpec { effect: Effect::Acts, ..ToolSpec::new("shell", "") };
        let start = RunStart { tools: vec![ToolSpec::new("t", ""), shell], ..run_start(&plan) };
        let savings = WhatIf::of_plan(&plan, &start).savings.into_iter().map(|saving| saving.change);
        savings.filter(|change| matches!(change, Change::Independent { .. })).collect::<Vec<_>>()
    };
    assert_eq!(unnecessary(["t", "t", "t"]), [independent("b", "a"), independent("c", "b")]);
    // What it did may be needed; and it may have to wait until others have read what it changes.
    assert_eq!(unnecessary(["shell", "t", "t"]), [independent("c", "b")]);
    assert_eq!(unnecessary(["t", "t", "shell"]), [independent("b", "a")]);
    assert_eq!(unnecessary(["t", "shell", "t"]), []);
    // Nobody knows whether it acts, and nothing is referred to.
    assert_eq!(unnecessary(["t", "from.elsewhere", "t"]), []);
}

#[test]
fn what_a_tool_takes_unasked_is_not_said_to_be_unnecessary() {
    let unnecessary = |step: Step, answer: ToolSpec, model: ToolSpec| {
        let plan = Plan::from_iter([Step::new("a", "t"), Step { id: "b".into(), ..step }.depends_on(["a"])]);
        let tools = vec![ToolSpec::new("t", ""), answer, model];
        let start = RunStart { tools, default_tool: Some("model".into()), ..run_start(&plan) };
        let mut savings = WhatIf::of_plan(&plan, &start).savings.into_iter();
        savings.any(|saving| matches!(saving.change, Change::Independent { .. }))
    };
    let spec =
        |name: &str, takes_inputs, pool: &str| ToolSpec { takes_inputs, pool: pool.into(), ..ToolSpec::new(name, "") };
    let says_it = [spec("answer", true, ""), spec("model", true, "")];
    // In the record of an earlier version.
    let does_not = [spec("answer", false, "provider"), spec("model", false, "provider")];
    for [answer, model] in [says_it, does_not] {
        assert!(unnecessary(Step::new("", "t"), answer.clone(), model.clone()));
        for step in [Step::new("", "answer"), Step::new("", "model"), Step::described("", "think")] {
            assert!(!unnecessary(step.clone(), answer.clone(), model.clone()), "{step:?}");
        }
    }
    assert!(unnecessary(Step::new("", "answer"), spec("answer", false, "other"), spec("model", false, "provider")));
}

#[test]
fn what_was_tried_many_times_at_once_is_looked_at() {
    let task = Task {
        name: "s".into(),
        earlier: vec![Earlier::new(Duration::ZERO, Duration::ZERO); 7],
        duration: Duration::from_micros(2),
        after: Vec::new(),
        unused: Vec::new(),
        step: Arc::new(Step::new("s", "t")),
        whole: Some(0),
    };
    let what_if = Work { tasks: vec![task], policy: slots(2) }.what_if();
    assert_eq!(saves(&what_if, &halve("s")), Some(Duration::from_micros(1)));
}

#[test]
fn a_large_run_in_which_nothing_waits_for_a_slot_is_looked_at_and_one_that_is_not_says_so() {
    let chain = |count: usize, slots: u32| {
        let task = |number: u32| Task {
            name: StepId::from(format!("s{number}")),
            earlier: Vec::new(),
            duration: if number == 700 { millis(20) } else { millis(10) },
            after: number.checked_sub(1).into_iter().collect(),
            unused: Vec::new(),
            step: Arc::new(Step::new("s", "t")),
            whole: Some(number),
        };
        let tasks = (0..count as u32).map(task).collect();
        Work { tasks, policy: Policy { max_parallel: slots, ..Policy::default() } }
    };
    let what_if = chain(10_001, 1).what_if();
    assert_eq!(what_if.savings[0], Saving { change: halve("s700"), saves: millis(10) });
    assert_eq!(what_if.untried, 0, "no other saves more than those that are told");
    let loose = |count: usize| {
        let mut work = chain(count, 4);
        work.tasks.iter_mut().for_each(|task| task.after.clear());
        work.what_if()
    };
    let what_if = loose(10_001);
    assert_eq!((what_if.savings.len(), what_if.untried), (0, 10_002));
    let what_if = loose(2_000);
    assert!(what_if.savings.len() >= 2 && what_if.untried > 1_900, "{what_if:?}");
}

/// Not a measurement, only far from quadratic.
#[test]
fn a_step_with_very_many_unused_dependencies_is_looked_at_and_so_are_very_many_pools() {
    let count = 50_000;
    let before = |n| step(&format!("s{n}"), if n == 7 { 2_000 } else { 1_000 });
    let join = step("join", 100).depends_on((0..count).chain(0..count).map(|n| format!("s{n}")));
    let plan: Plan = (0..count).map(before).chain([join]).collect();
    let wide = what_if(&plan, slots(u32::MAX));
    let told: Vec<_> = wide.savings.iter().filter(|saving| !saving.saves.is_zero()).collect();
    let expected = [(halve("s7"), 1_000), (independent("join", "s7"), 100), (halve("join"), 50)];
    let expected = expected.map(|(change, saves)| Saving { change, saves: millis(saves) });
    assert_eq!(told, expected.iter().collect::<Vec<_>>());

    let mut plan: Plan = (0..count).map(|n| step(&format!("s{n}"), 1_000).uses(format!("p{n}"), 1)).collect();
    plan.pools.extend((0..count).map(|n| (format!("p{n}"), 1)));
    assert_eq!(what_if(&plan, slots(u32::MAX)).makespan, millis(1_000));
}

/// A step takes the pool of the tool that does it, and is expected to take as long as that tool.
#[test]
fn what_is_known_of_the_tools_of_a_run_counts() {
    let shared = |name: &str, mean_ms| ToolSpec { pool: "server".into(), mean_ms, ..ToolSpec::new(name, "") };
    let own = ToolSpec { mean_ms: Some(1_000), ..ToolSpec::new("own", "") };
    let tools = vec![shared("ask", Some(100)), shared("answer", Some(100)), own];
    let steps = ["a", "b", "c"].map(|id| Step::described(id, "asked").estimate_ms(100));
    let plan: Plan = steps.into_iter().chain([Step::new("d", "answer")]).collect();
    let start = |pools: &[(&str, u32)], max_parallel| RunStart {
        tools: tools.clone(),
        default_tool: Some("ask".into()),
        policy: Policy {
            pools: pools.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect(),
            ..slots(max_parallel)
        },
        ..run_start(&plan)
    };
    let saved = |plan: &Plan, start: &RunStart, change: Change| {
        let what_if = WhatIf::of_plan(plan, start);
        what_if.savings.into_iter().find(|saving| saving.change == change).map(|saving| saving.saves)
    };
    let wider = || Change::Pool { pool: "server".into(), from: 1, to: 2 };
    assert_eq!(saved(&plan, &start(&[("server", 1)], 8), wider()), Some(millis(200)));
    // The longest of them begins first, though the plan does not say that it is.
    let steps = (0..10).map(|n| Step::new(format!("s{n}"), "ask")).chain([Step::new("long", "own")]);
    let plan: Plan = steps.collect();
    assert_eq!(saved(&plan, &start(&[], 2), halve("long")), Some(millis(200)));
    let run = Simulation::new(plan.clone()).tools(tools.clone()).max_parallel(2).run();
    assert_eq!(run.makespan, millis(1_000));
    let report = RunReport::from_history(RunId::random(), &run.history).expect("a possible history");
    assert_eq!(saves(&report.what_if(), &halve("long")), Some(millis(200)));
}

#[test]
fn what_is_no_step_needs_no_slot() {
    let task = |number: u32, after: &[u32]| Task {
        name: StepId::from(format!("s{number}")),
        earlier: Vec::new(),
        duration: millis(10),
        after: after.to_vec(),
        unused: Vec::new(),
        step: Arc::new(Step::new("s", "t")),
        whole: Some(number),
    };
    let tasks = vec![task(0, &[]), task(1, &[]), task(2, &[4]), task(3, &[4]), Task::end(vec![0, 1])];
    let work = Work { tasks, policy: slots(2) };
    let schedule = work.unhindered(&work.in_order().unwrap(), Trial::Nothing).expect("nothing waits for a slot");
    assert_eq!(schedule.makespan, 20_000);
}

#[test]
fn dependencies_count_where_it_is_decided_what_is_too_large() {
    let layers = |slots: u32| {
        let task = |number: u32| Task {
            name: StepId::from(format!("s{number}")),
            earlier: Vec::new(),
            duration: if number == 7 { millis(20) } else { millis(10) },
            after: if number < 420 { Vec::new() } else { (0..420).collect() },
            unused: Vec::new(),
            step: Arc::new(Step::new("s", "t")),
            whole: Some(number),
        };
        Work { tasks: (0..840).map(task).collect(), policy: Policy { max_parallel: slots, ..Policy::default() } }
    };
    let what_if = layers(4).what_if();
    assert_eq!((what_if.savings.len(), what_if.untried), (0, 841));
    let what_if = layers(420).what_if();
    assert_eq!(what_if.savings[0], Saving { change: halve("s7"), saves: millis(10) });
}

#[test]
fn where_nothing_waits_for_a_slot_a_simulation_would_say_the_same() {
    let mut unhindered = 0;
    for seed in 0..800 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.u32(0..30);
        let longest = *rng.choice([1, 4, 100_000].iter()).unwrap();
        let mut task = |number: u32| {
            let before = if number > 0 { rng.u32(0..4) } else { 0 };
            let mut after: Vec<u32> = (0..before).map(|_| rng.u32(0..number)).collect();
            after.extend(after.first().copied().filter(|_| rng.bool()));
            let step = Step::new("s", if rng.bool() { "t" } else { "other" });
            let mut duration = || Duration::from_nanos(rng.u64(0..=longest) * 500);
            let last = duration();
            let earlier = (0..last.as_micros() % 3).map(|_| Earlier::new(duration(), 20 * duration())).collect();
            Task {
                name: StepId::from(format!("s{number}")),
                earlier,
                duration: last,
                after,
                unused: Vec::new(),
                step: Arc::new(if rng.u8(0..4) == 0 { step.uses("g", rng.u32(1..3)) } else { step }),
                whole: Some(number),
            }
        };
        let mut tasks: Vec<Task> = (0..count).map(&mut task).collect();
        if rng.bool() {
            // As the steps of a plan may be in any order.
            tasks.reverse();
            tasks.iter_mut().for_each(|task| task.after.iter_mut().for_each(|before| *before = count - 1 - *before));
            tasks.iter_mut().for_each(|task| task.whole = task.whole.map(|whole| count - 1 - whole));
        }
        let pools = [("g".to_owned(), rng.u32(1..6)), ("t".to_owned(), rng.u32(1..12))];
        let pools = pools.into_iter().filter(|_| rng.bool()).collect();
        let policy = Policy { max_parallel: rng.u32(1..=count.max(1)), pools, ..Policy::default() };
        let work = Work { tasks, policy };
        let order = work.in_order().expect("there is no cycle");
        for halved in 0..count {
            let trial = Trial::Halve(halved);
            if let Some(schedule) = work.unhindered(&order, trial) {
                assert_eq!(schedule, work.scheduled(trial), "seed {seed}");
                unhindered += 1;
            }
        }
    }
    assert!(unhindered > 1_000, "{unhindered}");
}

#[test]
fn more_slots_are_told_of_however_little_they_save() {
    let saving = |change, ms| Saving { change, saves: millis(ms) };
    let more = || Change::Slots { from: 1, to: 2 };
    let savings = [(halve("a"), 90), (independent("c", "a"), 50), (halve("b"), 40), (halve("c"), 9), (more(), 0)];
    let savings = savings.map(|(change, ms)| saving(change, ms)).to_vec();
    let what_if = WhatIf { makespan: millis(1_000), savings, untried: 0 };
    let told = |most| {
        let (faster, unnecessary) = what_if.told(most);
        (faster.into_iter().map(|saving| saving.change.clone()).collect::<Vec<_>>(), unnecessary.len())
    };
    assert_eq!(told(1), (vec![halve("a"), more()], 1));
    assert_eq!(told(9), (vec![halve("a"), halve("b"), more()], 1), "nine of a thousand are not worth a word");
    let nothing = WhatIf { savings: vec![saving(halve("a"), 0)], ..WhatIf::default() };
    assert_eq!(nothing.told(9), (Vec::new(), Vec::new()));
}
