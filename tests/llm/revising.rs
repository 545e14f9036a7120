//! Plans of people that a model revises: what it does not write anew, or cannot, stays as it is.

use std::sync::{Arc, Mutex};

use plandag::llm::{LlmPlanner, PlanTextFormat};
use plandag::{
    Effect, Limits, OnFailure, OnInterrupt, Plan, Retry, RunReport, Runner, Step, StepError, ToolSpec, tool_fn,
};
use serde_json::{Value, json};

use crate::support::{Script, said, says};

/// What the tool that acts was called with.
type Acted = Arc<Mutex<Vec<Value>>>;

/// A runner for a plan that a model revises. `look` and `act` come to their argument `x`, and fail if that is "bad"; `act`
/// acts.
fn runner(format: PlanTextFormat, plan: Plan, planner: &Arc<Script>) -> (Runner, Acted) {
    let acted = Acted::default();
    let seen = Arc::clone(&acted);
    let came_to = |x: &Value| if *x == "bad" { Err(StepError::permanent("no")) } else { Ok(x.clone()) };
    let look = tool_fn(move |cx| async move { came_to(&cx.args["x"]) });
    let act = tool_fn(move |cx| {
        seen.lock().unwrap().push(cx.args["x"].clone());
        async move { came_to(&cx.args["x"]) }
    });
    let act = act.with_spec(ToolSpec { effect: Effect::Acts, ..ToolSpec::default() });
    let say = tool_fn(|cx| async move { Ok(format!("said {}", cx.step.description)) });
    let planner = plan.revised_by(LlmPlanner::new(planner.clone()).format(format));
    let runner = Runner::new(planner).tool("look", look).tool("act", act).tool("say", say).default_tool("say");
    (runner, acted)
}

fn look(id: &str, x: &str) -> Step {
    Step::new(id, "look").args(json!({ "x": x }))
}

fn act(id: &str, x: &str) -> Step {
    Step::new(id, "act").args(json!({ "x": x }))
}

/// The same change to a plan in both formats: ids, tools (none: it is a task), arguments or tasks, and dependencies.
fn answers(steps: &[(&str, &str, &str, &[&str])]) -> [(PlanTextFormat, String); 2] {
    let mut lines = String::new();
    let mut items = Vec::new();
    for (id, tool, said, needs) in steps {
        let call = if tool.is_empty() { String::new() } else { format!("@{tool} ") };
        let arrow = if needs.is_empty() { String::new() } else { format!(" <- {}", needs.join(",")) };
        lines.push_str(&format!("{id}. {call}{said}{arrow}\n"));
        let (task, args) = if tool.is_empty() { (*said, "") } else { ("", *said) };
        items.push(json!({ "id": id, "task": task, "tool": tool, "args": args, "depends_on": needs }));
    }
    let json = json!({ "steps": items }).to_string();
    [(PlanTextFormat::Lines, lines + "END"), (PlanTextFormat::Json, json)]
}

async fn run(format: PlanTextFormat, plan: &Plan, answer: &str) -> (RunReport, Vec<Value>, Arc<Script>) {
    let planner = Script::of([says(answer)]);
    let (runner, acted) = runner(format, plan.clone(), &planner);
    let report = runner.run("").await.unwrap();
    let acted = acted.lock().unwrap().clone();
    (report, acted, planner)
}

#[tokio::test]
async fn the_condition_of_a_step_stays_when_the_step_is_adapted() {
    let write = act("write", "${bad}").when("${flag} == \"yes\"");
    let plan = Plan::from_iter([look("flag", "no"), look("bad", "bad"), write]);
    for (format, answer) in
        answers(&[("bad", "look", r#"{"x": "good"}"#, &[]), ("write", "act", r#"{"x": "all of ${bad}"}"#, &[])])
    {
        let (report, acted, planner) = run(format, &plan, &answer).await;
        assert!(report.succeeded(), "{format:?}: {:?}", report.ending());
        assert!(acted.is_empty(), "{format:?}: {acted:?}");
        let asked = said(&planner.asked()[0]);
        assert!(asked.contains("\n  done only if ${flag} == \"yes\"\n"), "{asked}");
    }
}

#[tokio::test]
async fn what_is_said_of_a_step_stays_and_what_is_said_of_its_tool_as_long_as_it_is_for_that() {
    let set = |step: Step| {
        let retry = Retry { max_attempts: 7, ..Retry::default() };
        let step = step.timeout_ms(77_000).estimate_ms(7).uses("gate", 2).retry(retry);
        step.on_failure(OnFailure::Continue).on_interrupt(OnInterrupt::Retry)
    };
    let steps =
        [look("bad", "bad"), set(act("same", "${bad}")), set(act("call", "${bad}")), set(act("tool", "${bad}"))];
    let plan = Plan::from_iter(steps).pool("gate", 2);
    for (format, answer) in answers(&[
        ("bad", "look", r#"{"x": "good"}"#, &[]),
        ("4", "look", r#"{"x": "more"}"#, &[]),
        ("same", "act", r#"{"x": "${bad}"}"#, &["4"]),
        ("call", "act", r#"{"x": "${4}"}"#, &[]),
        ("tool", "look", r#"{"x": "${bad}"}"#, &[]),
    ]) {
        let (report, ..) = run(format, &plan, &answer).await;
        assert!(report.succeeded(), "{format:?}: {:?}", report.ending());
        let settings = |id: &str| {
            let Step { timeout_ms, estimate_ms, uses, retry, on_failure, on_interrupt, .. } =
                Step::clone(report.step(id).unwrap().definition);
            let is_kept = (timeout_ms, estimate_ms, uses.get("gate"), retry.map(|retry| retry.max_attempts))
                == (Some(77_000), Some(7), Some(&2), Some(7));
            (is_kept, on_failure, on_interrupt)
        };
        assert_eq!(settings("same"), (true, OnFailure::Continue, OnInterrupt::Retry), "{format:?}");
        assert_eq!(settings("call"), (true, OnFailure::Continue, OnInterrupt::Ask), "{format:?}");
        assert_eq!(settings("tool"), (false, OnFailure::Continue, OnInterrupt::Ask), "{format:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_done_may_be_repeated_without_its_words_or_with_what_it_refers_to() {
    let pay = act("pay", "${bill}").description("pay the bill of May");
    let plan = Plan::from_iter([look("bill", "7"), pay, look("b", "bad").depends_on(["pay"])]);
    for (format, answer) in
        answers(&[("pay", "act", r#"{"x": "${bill}"}"#, &["bill"]), ("b", "look", r#"{"x": "good"}"#, &["pay"])])
    {
        let (report, acted, _) = run(format, &plan, &answer).await;
        assert_eq!((report.answer().unwrap(), acted), (&json!("good"), vec![json!("7")]), "{format:?}");
    }
}

#[tokio::test]
async fn what_is_done_and_acts_is_not_done_again_by_a_revision() {
    let pay = act("pay", "${bill}").description("pay the bill of May").depends_on(["first"]);
    let plan = Plan::from_iter([look("first", "1"), look("bill", "7"), pay, look("b", "bad").depends_on(["pay"])]);
    let mend = ("b", "look", r#"{"x": "good"}"#, ["pay"].as_slice());
    let same = r#"{"x": "${bill}"}"#;
    let may = "step `pay` is done and would act again";
    for (changed, offence) in [
        (("pay", "act", same, &[][..]), format!("{may}: leave it out")),
        (("pay", "act", r#"{"x": "8"}"#, &["first"][..]), format!("{may}: leave it out")),
        (("pay", "look", same, &["first"][..]), format!("{may}: leave it out")),
        (("bill", "look", r#"{"x": "8"}"#, &[][..]), format!("{may} if `bill` were done otherwise")),
    ] {
        for ((format, wrong), (_, right)) in answers(&[changed, mend]).into_iter().zip(answers(&[mend])) {
            let planner = Script::of([says(&wrong), says(&right)]);
            let (runner, acted) = runner(format, plan.clone(), &planner);
            let report = runner.run("").await.unwrap();
            assert!(report.succeeded(), "{wrong}: {:?}", report.ending());
            assert_eq!(*acted.lock().unwrap(), ["7"], "{wrong}");
            let asked = said(&planner.asked()[1]);
            assert!(asked.contains(&offence), "{wrong}: {asked}");
        }
    }
}

#[tokio::test]
async fn what_is_done_and_reads_or_did_nothing_can_be_done_otherwise() {
    let pay = act("pay", "7").when("${seen} == \"yes\"");
    let plan = Plan::from_iter([look("seen", "no"), pay, look("b", "bad").depends_on(["pay"])]);
    for (format, answer) in answers(&[
        ("seen", "look", r#"{"x": "yes"}"#, &[]),
        ("pay", "act", r#"{"x": "8"}"#, &[]),
        ("b", "look", r#"{"x": "good"}"#, &["pay"]),
    ]) {
        let (report, acted, _) = run(format, &plan, &answer).await;
        assert_eq!((report.answer().unwrap(), acted), (&json!("good"), vec![json!("8")]), "{format:?}");
    }
}

#[tokio::test]
async fn what_makes_up_for_a_step_on_the_side_is_not_the_answer() {
    let report = |plan: Plan| async move {
        let mut answered = Vec::new();
        for (format, answer) in answers(&[("side", "", "DROP", &[]), ("1", "look", r#"{"x": "new"}"#, &["a"])]) {
            let (report, ..) = run(format, &plan, &answer).await;
            answered.push(report.answer().unwrap().clone());
        }
        assert_eq!(answered[0], answered[1]);
        answered.remove(0)
    };
    let told = || look("report", "THE REPORT").depends_on(["a"]);
    let steps = || [look("a", "1"), look("side", "bad"), told()];
    assert_eq!(report(Plan::from_iter(steps()).answer("report")).await, "THE REPORT");
    // Where nothing was said of the answer, it is all that nothing depends on.
    assert_eq!(report(Plan::from_iter(steps())).await, json!({ "report": "THE REPORT", "1": "new" }));
}

#[tokio::test]
async fn a_new_step_is_the_answer_if_the_former_one_goes_into_it_or_is_given_up() {
    let plan = Plan::from_iter([look("a", "1"), look("b", "bad"), look("report", "${a}").depends_on(["b"])]);
    for changes in [
        &[
            ("b", "look", r#"{"x": "2"}"#, &[][..]),
            ("1", "look", r#"{"x": "via"}"#, &["report"]),
            ("2", "look", r#"{"x": "new"}"#, &["1"]),
        ][..],
        &[
            ("b", "", "DROP", &[]),
            ("report", "", "DROP", &[]),
            ("1", "look", r#"{"x": "other"}"#, &[]),
            ("2", "look", r#"{"x": "new"}"#, &["a"]),
        ],
    ] {
        for (format, answer) in answers(changes) {
            let (report, ..) = run(format, &plan.clone().answer("report"), &answer).await;
            assert_eq!(report.answer().unwrap(), "new", "{answer}");
        }
    }
    let plan = Plan::from_iter([look("a", "1"), look("report", "bad")]).answer("report");
    for (format, answer) in answers(&[("1", "look", r#"{"x": "new"}"#, &["a"])]) {
        assert_eq!(run(format, &plan, &answer).await.0.answer().unwrap(), "new", "{answer}");
    }
}

/// The line of a step, or its item, as the planner is shown it.
fn shown(asked: &str, format: PlanTextFormat, id: &str) -> String {
    let is_it = |line: &&str| match format {
        PlanTextFormat::Lines => line.starts_with(&format!("{id}.")),
        PlanTextFormat::Json => line.contains(&format!("\"id\":\"{id}\"")),
    };
    asked.lines().find(is_it).unwrap().to_owned()
}

#[tokio::test]
async fn a_step_that_is_repeated_as_it_was_shown_is_that_step_whatever_its_words_are() {
    let words = [
        "explain x <- y in R",
        "@alice should be told",
        "ping => a",
        "1 -> 2",
        "sum up: a <= 1",
        "see step a <- a",
        "DROP",
        "",
        "\u{200b}look\u{200b}",
        "say\nthis <- that [INST]",
        "{",
        "1<-",
        "7.",
        "END",
    ];
    for (words, tool) in words.into_iter().flat_map(|words| [(words, None), (words, Some("doer"))]) {
        for format in [PlanTextFormat::Lines, PlanTextFormat::Json] {
            let planner = Script::new(move |request| {
                let line = shown(&said(request), format, "b");
                Ok(says(&match format {
                    PlanTextFormat::Lines => format!("{line}\nEND"),
                    PlanTextFormat::Json => format!("{{\"steps\": [{line}]}}"),
                }))
            });
            let mut b = Step::described("b", words).depends_on(["a"]).timeout_ms(77_000);
            b.tool = tool.map(Arc::from);
            let plan = Plan::from_iter([look("a", "1"), b.clone(), look("c", "2").depends_on(["b"])]);
            let is_first = Arc::new(Mutex::new(true));
            let doer = tool_fn(move |_| {
                let is_first = std::mem::take(&mut *is_first.lock().unwrap());
                async move { if is_first { Err(StepError::permanent("no")) } else { Ok("done") } }
            });
            let (runner, _) = runner(format, plan, &planner);
            let report = runner.tool("doer", doer).default_tool("doer").run("").await.unwrap();
            assert!(report.succeeded(), "{words:?} {tool:?} {format:?}: {:?}", report.ending());
            let is_as_it_was = **report.step("b").unwrap().definition == b;
            assert!(is_as_it_was && planner.asked().len() == 1, "{words:?} {tool:?} {format:?}");
        }
    }
}

#[tokio::test]
async fn what_came_to_nothing_takes_up_no_room_for_what_is_to_make_up_for_it() {
    let chain = [look("a", "1"), Step::new("b", "doer"), look("c", "${b}"), look("d", "${c}")];
    for (format, answer) in answers(&[("b", "doer", "", &[])]) {
        let is_first = Arc::new(Mutex::new(true));
        let doer = tool_fn(move |_| {
            let is_first = std::mem::take(&mut *is_first.lock().unwrap());
            async move { if is_first { Err(StepError::permanent("no")) } else { Ok("done") } }
        });
        let planner = Script::of([says(&answer)]);
        let (runner, _) = runner(format, Plan::from_iter(chain.clone()), &planner);
        let report = runner.tool("doer", doer).limits(Limits { steps: 4, ..Limits::default() }).run("").await.unwrap();
        assert!(report.succeeded(), "{format:?}: {:?}", report.ending());
    }
    let plan = "1. a\n2. b\n3. c\n4. d\n5. e <- 1\n6. f <- 2\n7. g <- 3\n8. h <- 4\n";
    let planner = Script::of([says(&format!("{plan}I hope this helps!\nEND")), says(&format!("{plan}END"))]);
    let done = tool_fn(|_| async { Ok("done") });
    let runner = Runner::new(LlmPlanner::new(planner.clone())).tool("doer", done).default_tool("doer");
    let report = runner.limits(Limits { steps: 10, ..Limits::default() }).run("").await.unwrap();
    assert!(report.succeeded(), "{:?}", report.ending());
    assert!(planner.asked().iter().all(|asked| asked.system.contains("At most 10 steps")), "{:?}", planner.asked());
}

#[tokio::test]
async fn a_review_without_room_for_another_step_has_to_answer() {
    let planner = Script::of([says("1. a\n2. b <- 1\nEND"), says("ANSWER: all of it")]);
    let done = tool_fn(|_| async { Ok("done") });
    let runner = Runner::new(LlmPlanner::new(planner.clone())).tool("doer", done).default_tool("doer").review(true);
    let report = runner.limits(Limits { steps: 2, ..Limits::default() }).run("").await.unwrap();
    assert_eq!(report.answer().unwrap(), "all of it");
    let asked = said(&planner.asked()[1]);
    assert!(asked.contains("No more steps can be added"), "{asked}");
}
