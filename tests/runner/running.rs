//! What runs when, with what, and how much of it at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plandag::journal::{MemoryJournal, RunId};
use plandag::report::StepOutcome;
use plandag::{Limits, NoAnswer, OnFailure, Output, Plan, RunError, Runner, SkipReason, Step, StepError, tool_fn};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{echo, sleeper};

#[tokio::test(start_paused = true)]
async fn independent_steps_run_at_the_same_time() {
    let eight = (0..8).map(|n| Step::new(format!("part-{n}"), "sleep").args(json!({ "ms": 500 })));
    let all: BTreeMap<String, String> = (0..8).map(|n| (n.to_string(), format!("${{part-{n}}}"))).collect();
    let plan: Plan = eight.chain([Step::new("join", "sleep").args(json!({ "ms": 500, "of": all }))]).collect();
    let runner = Runner::new(plan).tool("sleep", sleeper());

    let report = runner.run("wait").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "join");
    assert_eq!(report.wall_time().as_millis(), 1_000);
    assert_eq!(report.work().as_millis(), 4_500);
    assert_eq!(report.critical_path().length.as_millis(), 1_000);
    assert_eq!(report.critical_path().steps.len(), 2);
    assert_eq!(report.bound().as_millis(), 1_000);

    let one_at_a_time = runner.max_parallel(1).run("wait").await.expect("a report");
    assert_eq!(one_at_a_time.wall_time().as_millis(), 4_500);
    assert_eq!(one_at_a_time.bound().as_millis(), 4_500);
    let queued: Duration = one_at_a_time.steps().flat_map(|step| step.attempts).map(|attempt| attempt.queued).sum();
    // The eight wait 0, 1, .. 7 times half a second; the join does not wait at all.
    assert_eq!(queued.as_millis(), 28 * 500);
}

#[tokio::test]
async fn values_are_handed_on() {
    let plan = Plan::from_iter([
        Step::new("a", "echo").args(json!({ "list": [1, { "deep": "x" }] })),
        Step::new("b", "echo").args(json!({ "typed": "${a.list.1}", "text": "<${a.list.0}> ${inputs.city}" })),
    ]);
    let report = Runner::new(plan).tool("echo", echo()).input("city", "Oslo").run("hand on").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "typed": { "deep": "x" }, "text": "<1> Oslo" }));

    #[derive(serde::Deserialize)]
    struct Typed {
        text: String,
    }
    assert_eq!(report.output::<Typed>("b").expect("an output").text, "<1> Oslo");
    let wrong = report.output::<u32>("b").expect_err("not a number");
    assert!(wrong.to_string().starts_with("the output of step `b` is not of the wanted type"), "{wrong}");
    let unknown = report.output::<u32>("c").expect_err("no such step");
    assert_eq!(unknown.to_string(), "there is no step `c`");
}

#[tokio::test]
async fn several_sinks_answer_together() {
    let plan: Plan = ["a", "b"].map(|id| Step::new(id, "echo").args(json!(id))).into_iter().collect();
    let report = Runner::new(plan).tool("echo", echo()).run("both").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "a": "a", "b": "b" }));
}

#[tokio::test]
async fn a_step_without_tool_goes_to_the_default_tool() {
    let plan = || Plan::from_iter([Step::described("greet", "Say hello")]);
    let model = || tool_fn(|cx| async move { Ok(format!("did: {} for {}", cx.step.description, cx.objective())) });

    let named = Runner::new(plan()).tool("model", model()).default_tool("model").run("be kind").await;
    assert_eq!(named.expect("a report").answer().expect("an answer"), "did: Say hello for be kind");
    let given = Runner::new(plan()).default_tool(model()).run("be kind").await;
    assert_eq!(given.expect("a report").answer().expect("an answer"), "did: Say hello for be kind");

    let none = Runner::new(plan()).tool("model", model()).run("be kind").await.expect("a report");
    let error = none.answer().expect_err("nobody to do it");
    assert!(error.to_string().contains("names no tool"), "{error}");
    let missing = Runner::new(plan()).default_tool("nobody").run("be kind").await;
    assert!(matches!(missing, Err(RunError::Configuration(_))), "{missing:?}");
    let nowhere = Runner::new(plan()).default_tool(model()).resume(RunId::random()).await;
    assert!(matches!(nowhere, Err(RunError::Configuration(_))), "it has no journal: {nowhere:?}");
}

#[tokio::test]
async fn a_default_tool_takes_no_other_tools_name() {
    let says = |what: &'static str| tool_fn(move |_| async move { Ok(what) });
    let plan = Plan::from_iter([Step::new("a", "default"), Step::described("b", "b"), Step::new("c", "default_2")]);
    let runner = Runner::new(plan).tool("default", says("mine")).default_tool(says("old")).default_tool(says("new"));
    let report = runner.run("x").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "a": "mine", "b": "new", "c": "new" }));
}

#[tokio::test]
async fn a_pool_of_none_is_refused() {
    let plan = Plan::from_iter([Step::new("a", "echo")]);
    let ran = Runner::new(plan).tool("echo", echo()).pool("echo", 0).run("x").await;
    assert!(matches!(&ran, Err(RunError::Configuration(why)) if why.contains("pool `echo`")), "{ran:?}");
}

#[test]
#[should_panic = "timers are disabled"]
fn a_runtime_without_timers_is_told_of_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let plan = Plan::from_iter([Step::new("a", "echo")]);
    let _ = runtime.block_on(Runner::new(plan).tool("echo", echo()).run("x"));
}

#[tokio::test(start_paused = true)]
async fn the_tools_themselves_never_see_more_than_the_caps_allow() {
    #[derive(Default)]
    struct Seen {
        now: usize,
        most: usize,
    }
    let seed = 42;
    let mut random = fastrand::Rng::with_seed(seed);
    let all = Arc::new(Mutex::new(Seen::default()));
    let gpu = Arc::new(Mutex::new(Seen::default()));
    let counting = |seen: Vec<Arc<Mutex<Seen>>>| {
        tool_fn(move |cx| {
            let seen = seen.clone();
            async move {
                for seen in &seen {
                    let mut seen = seen.lock().expect("no panic");
                    seen.now += 1;
                    seen.most = seen.most.max(seen.now);
                }
                sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
                for seen in &seen {
                    seen.lock().expect("no panic").now -= 1;
                }
                if cx.tries == 1 && cx.args["flaky"] == true { Err(StepError::transient("again")) } else { Ok(()) }
            }
        })
    };
    let mut plan = Plan::new();
    for n in 0..200_u32 {
        let tool = if random.bool() { "gpu" } else { "cpu" };
        let mut step =
            Step::new(format!("s{n}"), tool).args(json!({ "ms": random.u64(1..50), "flaky": random.bool() }));
        if n > 10 {
            step = step.depends_on([format!("s{}", random.u32(..n))]);
        }
        plan.push(step);
    }
    let runner = Runner::new(plan)
        .tool("gpu", counting(vec![Arc::clone(&all), Arc::clone(&gpu)]))
        .tool("cpu", counting(vec![Arc::clone(&all)]))
        .pool("gpu", 2)
        .max_parallel(7);
    let report = runner.run("count").await.expect("a report");
    assert!(report.succeeded(), "seed {seed}: {:?}", report.answer());
    assert_eq!(gpu.lock().expect("no panic").most, 2, "seed {seed}");
    assert_eq!(all.lock().expect("no panic").most, 7, "seed {seed}");
}

#[tokio::test]
async fn a_tool_may_return_a_plan_for_every_item_of_a_list() {
    let list = tool_fn(|_| async move { Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]) });
    let each = tool_fn(|cx| async move {
        let items: Vec<String> = serde_json::from_value(cx.args["items"].clone())?;
        let steps = items.iter().map(|item| Step::new(format!("item-{item}"), "upper").args(json!({ "text": item })));
        Ok(Plan::from_iter(steps))
    });
    let upper = tool_fn(|cx| async move { Ok(cx.args["text"].as_str().unwrap_or_default().to_uppercase()) });
    let plan = Plan::from_iter([
        Step::new("list", "list"),
        Step::new("each", "each").args(json!({ "items": "${list}" })),
        Step::new("all", "echo").args(json!({ "first": "${each.item-a}", "everything": "${each}" })),
    ]);
    let runner = Runner::new(plan).tool("list", list).tool("each", each).tool("upper", upper).tool("echo", echo());
    let report = runner.run("map").await.expect("a report");
    assert_eq!(
        *report.answer().expect("an answer"),
        json!({ "first": "A", "everything": { "item-a": "A", "item-b": "B", "item-c": "C" } })
    );
    assert_eq!(report.output::<String>("each/item-b").expect("an output"), "B");
    assert_eq!(report.steps().count(), 6);
}

#[tokio::test]
async fn a_false_condition_skips_the_step_and_hands_on_a_null() {
    let plan = Plan::from_iter([
        Step::new("look", "echo").args(json!({ "found": 0 })),
        Step::new("use", "echo").args(json!("used")).when("${look.found} != 0"),
        Step::new("report", "echo").args(json!({ "used": "${use}" })),
    ]);
    let report = Runner::new(plan).tool("echo", echo()).run("maybe").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), json!({ "used": null }));
    assert_eq!(report.step("use").expect("the step").outcome, StepOutcome::Skipped(SkipReason::Condition));
}

#[tokio::test]
async fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    let fail = tool_fn(|_| async move { Err::<(), _>(StepError::permanent("no such page")) });
    let plan = Plan::from_iter([
        Step::new("page", "fail"),
        Step::new("text", "echo").args(json!("${page}")),
        Step::new("summary", "echo").args(json!("${text}")),
        Step::new("other", "echo").args(json!(1)),
    ]);
    let runner = Runner::new(plan).tool("fail", fail.clone()).tool("echo", echo());
    let report = runner.run("read").await.expect("a report");
    assert!(matches!(report.answer(), Err(NoAnswer::StepFailed { more: 0, .. })), "{:?}", report.answer());
    assert_eq!(report.answer().expect_err("failed").to_string(), "step `page` failed: no such page");
    let summary = report.step("summary").expect("the step");
    assert_eq!(summary.because.expect("a cause"), &"page");
    assert_eq!(report.output::<u32>("other").expect("an output"), 1);

    let plan = Plan::from_iter([
        Step::new("page", "fail").on_failure(OnFailure::Continue),
        Step::new("text", "why").depends_on(["page"]),
    ]);
    let why = tool_fn(|cx| async move {
        assert_eq!(cx.inputs.get("page"), Some(&Value::Null));
        Ok(cx.inputs.error("page").map_or("no error", |error| &error.message).to_owned())
    });
    let report = Runner::new(plan).tool("fail", fail).tool("why", why).run("read").await.expect("a report");
    assert_eq!(report.answer().expect("an answer"), "no such page");
}

#[tokio::test(start_paused = true)]
async fn the_critical_path_goes_through_expansions() {
    let expand = tool_fn(|_| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(Plan::from_iter([
            Step::new("x", "sleep").args(json!({ "ms": 5_000 })),
            Step::new("y", "sleep").args(json!({ "ms": 1_000 })),
        ]))
    });
    let plan = Plan::from_iter([
        Step::new("first", "sleep").args(json!({ "ms": 1_000 })),
        Step::new("expand", "expand").depends_on(["first"]),
        Step::new("beside", "sleep").args(json!({ "ms": 6_000 })),
        Step::new("last", "sleep").args(json!({ "ms": 1_000 })).depends_on(["expand", "beside"]),
    ]);
    let runner = Runner::new(plan).tool("sleep", sleeper()).tool("expand", expand);
    let report = runner.run("expand").await.expect("a report");
    let path = report.critical_path();
    let ids: Vec<_> = path.steps.iter().map(|step| report.step_by_number(*step).expect("a step").id.as_str()).collect();
    assert_eq!(ids, ["first", "expand", "expand/x", "last"]);
    assert_eq!(path.length.as_millis(), 8_000);
    assert_eq!(report.wall_time().as_millis(), 8_000);
    assert_eq!(report.work().as_millis(), 15_000);
}

#[tokio::test]
async fn a_runner_is_used_many_times_at_once() {
    let plan = Plan::from_iter([Step::new("a", "echo").args(json!("${inputs.n}"))]);
    let runner = Runner::new(plan).tool("echo", echo());
    let runs = (0..100).map(|n| {
        let runner = runner.clone().input("n", n);
        async move { runner.run("x").await.expect("a report").answer().cloned() }
    });
    let answers = futures::future::join_all(runs).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect("an answer"), json!(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_and_a_wide_fan_in_finish() {
    let steps = 20_000;
    let runner = |plan: Plan| Runner::new(plan).tool("echo", echo()).limits(Limits::NONE);
    let id = |n: u32| format!("s{n}");
    let chain: Plan = (0..steps).map(|n| Step::new(id(n), "echo").depends_on(n.checked_sub(1).map(id))).collect();
    assert!(runner(chain).run("chain").await.expect("a report").succeeded());
    let mut fan_in: Plan = (0..steps).map(|n| Step::new(id(n), "echo")).collect();
    fan_in.push(Step::new("last", "echo").depends_on((0..steps).map(id)));
    assert!(runner(fan_in).run("fan-in").await.expect("a report").succeeded());
}

#[tokio::test]
async fn a_step_may_refer_to_very_many_others() {
    let ids: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let steps = ids.iter().map(|id| Step::new(id.as_str(), "echo").args(json!(id)));
    let references: Vec<String> = ids.iter().rev().map(|id| format!("${{{id}}}")).collect();
    let join = Step::new("join", "echo").args(json!(references)).depends_on(ids.iter().map(String::as_str));
    let report = Runner::new(steps.chain([join]).collect::<Plan>()).tool("echo", echo()).run("x").await;
    let backwards: Vec<&String> = ids.iter().rev().collect();
    assert_eq!(*report.expect("a report").answer().expect("an answer"), json!(backwards));
}

#[tokio::test(start_paused = true)]
async fn what_an_expansion_came_to_is_put_together_once_for_all_who_need_it_at_one_time() {
    for journal in [None, Some(MemoryJournal::new())] {
        let split = tool_fn(|_| async { Ok(Plan::from_iter(["x", "y", "z"].map(|id| Step::new(id, "large")))) });
        let large = tool_fn(|_| async { Ok("x".repeat(Output::INLINE_BYTES + 1)) });
        let seen: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
        let kept = Arc::clone(&seen);
        let look = tool_fn(move |cx| {
            let all = cx.inputs.get("all").expect("it depends on it");
            let parts = all.as_object().map_or(0, serde_json::Map::len);
            kept.lock().expect("no panic").push((std::ptr::from_ref(all).addr(), parts));
            async move {
                sleep(Duration::from_secs(1)).await;
                drop(cx);
                Ok(Value::Null)
            }
        });
        let mut plan = Plan::from_iter([Step::new("all", "split")]);
        plan.extend((0..9).map(|n| Step::new(format!("look{n}"), "look").depends_on(["all"])));
        let runner = Runner::new(plan).tool("split", split).tool("large", large).tool("look", look).max_parallel(4);
        let runner = match journal {
            Some(journal) => runner.journal(journal),
            None => runner,
        };
        assert!(runner.run("x").await.expect("a report").succeeded());
        let seen = seen.lock().expect("no panic");
        assert_eq!((seen.len(), seen[0].1), (9, 3));
        assert!(seen[..4].iter().all(|one| *one == seen[0]), "{seen:?}");
    }
}
