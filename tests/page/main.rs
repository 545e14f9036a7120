//! What a page shows of a run, and that nothing in a run can make it do anything else.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod forks;
mod hostile;
mod support;

use std::sync::Arc;
use std::time::Duration;

use plandag::history::History;
use plandag::journal::{Durability, Journal as _, MemoryJournal, RunId};
use plandag::page::{ASSETS, Mode, Snapshot, StepEntry, run_html, runs_html, svg_of};
use plandag::{Patch, Plan, PlanReason, PlanReply, PlanRequest, Runner, Step, StepError, planner_fn, tool_fn};
use serde_json::{Value, json};

use support::{page_of, snapshot};

fn step<'a>(snapshot: &'a Snapshot, id: &str) -> &'a StepEntry {
    snapshot.steps.iter().rfind(|step| step.id == id).unwrap()
}

/// Where the box of a step is.
fn place(snapshot: &Snapshot, id: &str) -> (u32, u32) {
    let number = step(snapshot, id).number;
    let drawn = snapshot.layout.steps.iter().find(|drawn| drawn.step == number).unwrap();
    (drawn.x, drawn.y)
}

/// Two sources, one of which is gone; a planner that knows another one.
fn replanned() -> Runner {
    let planner = planner_fn(|request: PlanRequest| async move {
        Ok(match request.reason {
            PlanReason::First => PlanReply::from(Plan::from_iter([
                Step::new("price", "fetch").args(json!({ "from": "shop" })),
                Step::new("reviews", "fetch").args(json!({ "from": "gone" })),
                Step::new("advice", "advise").args(json!({ "price": "${price}", "reviews": "${reviews}" })),
            ])),
            _ => PlanReply::from(Patch {
                add: vec![Arc::new(Step::new("forum", "fetch").args(json!({ "from": "forum" })))],
                change: vec![Arc::new(
                    Step::new("advice", "advise").args(json!({ "price": "${price}", "reviews": "${forum}" })),
                )],
                drop: vec!["reviews".into()],
                answer: None,
            }),
        })
    });
    let fetch = tool_fn(|cx| async move {
        // What takes no time at all is on no critical path.
        tokio::time::sleep(Duration::from_millis(2)).await;
        match cx.args["from"].as_str() {
            Some("gone") => Err(StepError::permanent("the site is gone")),
            site => Ok(json!(site)),
        }
    });
    Runner::new(planner).tool("fetch", fetch).tool("advise", tool_fn(|_| async { Ok("buy") })).max_replans(1)
}

#[tokio::test]
async fn a_replan_is_shown_with_its_reason_and_nothing_that_stays_moves() {
    let before = snapshot(&replanned().max_replans(0)).await;
    let after = snapshot(&replanned()).await;
    assert_eq!((before.head.state, after.head.state), ("failed", "succeeded"));
    assert_eq!(before.head.problem, "step `reviews` failed: the site is gone");
    for id in ["price", "reviews"] {
        assert_eq!(place(&before, id), place(&after, id), "{id}");
    }
    let plan = &after.plans[1];
    assert_eq!((plan.revision, plan.because.as_str(), plan.kept), (2, "because `reviews` failed", 1));
    assert_eq!(
        (&plan.added[..], &plan.again[..], &plan.dropped[..]),
        (&["forum".into()][..], &["advice".into()][..], &["reviews".into()][..])
    );
    assert_eq!((step(&after, "forum").since, step(&after, "price").since), (2, 1));
    let reviews = step(&after, "reviews");
    assert!(!reviews.member && reviews.state == "failed", "{reviews:?}");
    assert_eq!(reviews.error.as_ref().unwrap().text, "the site is gone");
    assert!(step(&before, "advice").why.iter().any(|why| why.contains("because `reviews` failed")));
    assert_eq!(step(&before, "advice").state, "skipped");
    assert_eq!(step(&after, "advice").log.last().unwrap().what, "done");
}

/// What a step became is folded into it once it is done, and can be unfolded.
#[tokio::test]
async fn a_finished_expansion_is_folded() {
    let plan = Plan::from_iter([
        Step::new("list", "list"),
        Step::new("each", "each").depends_on(["list"]),
        Step::new("sum", "list").depends_on(["each"]),
    ]);
    let each = tool_fn(|_| async { Ok(Plan::from_iter(["x", "y", "z"].map(|id| Step::new(id, "list")))) });
    let shown = snapshot(&Runner::new(plan).tool("list", tool_fn(|_| async { Ok(1) })).tool("each", each)).await;
    let parent = step(&shown, "each").number;
    let folded = shown.layout.steps.iter().find(|drawn| drawn.step == parent).unwrap();
    assert_eq!((shown.layout.steps.len(), folded.folded), (3, 3));
    let whole = shown.unfolded.as_ref().unwrap();
    assert_eq!(whole.steps.len(), 6);
    let from = |id: &str| step(&shown, id).number;
    let leads = |a: &str, b: &str| whole.edges.iter().any(|edge| (edge.from, edge.to) == (from(a), from(b)));
    assert!(leads("each", "each/x") && leads("each/x", "sum") && !leads("each", "sum"));
}

/// Two steps become plans while the run goes on, and are folded when those are done. At no moment does anything move of the
/// branch in which nothing has changed.
#[tokio::test(start_paused = true)]
async fn an_expansion_moves_only_what_comes_after_it() {
    let branch = |number: u32| {
        let id = |name: &str| format!("{name}-{number}");
        [
            Step::new(id("list"), "wait").args(json!({ "ms": 100 * number })),
            Step::new(id("each"), "each").args(json!({ "ms": 70 * number })).depends_on([id("list")]),
            Step::new(id("sum"), "wait").args(json!({ "ms": 10 })).depends_on([id("each")]),
        ]
    };
    let join = Step::new("join", "wait").args(json!({ "ms": 10 })).depends_on(["sum-1", "sum-2"]);
    let plan: Plan = branch(1).into_iter().chain(branch(2)).chain([join]).collect();
    let wait = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap())).await;
        Ok(Value::Null)
    });
    let each = tool_fn(|cx| async move {
        let part = |n: u64| {
            let step = Step::new(format!("part-{n}"), "wait");
            step.args(json!({ "ms": n * cx.args["ms"].as_u64().unwrap() }))
        };
        Ok((1..=3).map(part).collect::<Plan>())
    });
    let journal = MemoryJournal::new();
    let runner = Runner::new(plan).tool("wait", wait).tool("each", each).journal(journal.clone());
    runner.run("each of two lists").await.unwrap();
    let events = journal.history(&journal.runs().await.unwrap()[0].run).await.unwrap();

    // Each moment as somebody sees it who comes then.
    let (mut before, mut most) = (Vec::<(String, u32, u32)>::new(), 0);
    for end in 1..=events.len() {
        let journal = MemoryJournal::new();
        let claim = journal.create(&RunId::new("so-far")).await.unwrap();
        journal.append(&claim, &events[..end], Durability::Process).await.unwrap();
        let shown = support::load(&journal).await;
        let name = |step: u32| shown.steps[step as usize].id.to_string();
        let places: Vec<(String, u32, u32)> =
            shown.layout.steps.iter().map(|drawn| (name(drawn.step), drawn.x, drawn.y)).collect();
        let stays = |(id, ..): &&(String, u32, u32)| places.iter().any(|(other, ..)| other == id);
        let moved = before.iter().filter(stays).filter(|old| !places.contains(old)).map(|(id, ..)| id.as_str());
        let branches: std::collections::BTreeSet<&str> =
            moved.filter(|id| *id != "join").filter_map(|id| id.split('/').next()?.split('-').nth(1)).collect();
        assert!(branches.len() <= 1, "event {end}: {:?}\n{before:?}\n{places:?}", events[end - 1].kind);
        most = most.max(places.len());
        before = places;
    }
    assert_eq!((most, before.len()), (13, 7), "both were unfolded at once, and folded in the end");
}

/// While a run goes on, a page is told only what has changed.
#[tokio::test(start_paused = true)]
async fn an_update_has_only_what_changed() {
    let journal = MemoryJournal::new();
    let plan = Plan::from_iter([
        Step::new("quick", "wait").args(json!({ "ms": 1_000 })),
        Step::new("slow", "wait").args(json!({ "ms": 5_000 })),
        Step::new("last", "wait").args(json!({ "ms": 0 })).depends_on(["slow"]),
    ]);
    let wait = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap())).await;
        Ok(Value::Null)
    });
    let handle = Runner::new(plan).tool("wait", wait).journal(journal.clone()).start("wait");
    let load = || async {
        let summary = journal.runs().await.unwrap().remove(0);
        Snapshot::of(&History::load(&journal, &summary.run).await.unwrap(), &summary)
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = load().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let then = load().await;
    assert_eq!(first.head.state, "running");
    assert_eq!(["quick", "slow", "last"].map(|id| step(&first, id).state), ["running", "running", "waiting"]);
    assert!(step(&then, "slow").calls[0].ended_us.is_none() && step(&then, "quick").calls[0].ended_us.is_some());
    assert_eq!(then.update_since(&then.clone()), None);

    let update = json!(then.update_since(&first).unwrap());
    let changed: Vec<&Value> = update["steps"].as_array().unwrap().iter().map(|step| &step["id"]).collect();
    assert_eq!(changed, ["quick"]);
    assert_eq!((&update["plans"], &update["drawings"]), (&Value::Null, &Value::Null));
    assert_eq!(update["head"]["done"], 1);
    // Nothing was known at first; then how long one of them took.
    assert_eq!(first.head.rest, None);
    let rest = then.head.rest.as_ref().unwrap();
    assert_eq!((rest.basis.as_str(), rest.is_partial, rest.waiting_us), ("this run", false, 0));
    assert_eq!(
        rest.paths.iter().map(|(due, after)| (due / 1_000_000, after / 1_000_000)).collect::<Vec<_>>(),
        [(1, 1)]
    );
    handle.await.unwrap();
    let end = load().await;
    assert_eq!((end.head.state, end.head.done, end.head.elapsed_us / 1_000_000), ("succeeded", 3, 5));
    assert_eq!(end.head.rest, None);
}

/// As long as a plan may say, and more of them than can be added up.
#[tokio::test(start_paused = true)]
async fn a_chain_of_steps_that_are_expected_to_take_for_ever_is_shown_while_it_runs() {
    let journal = MemoryJournal::new();
    let step = |n: u32| {
        let before = n.checked_sub(1).map(|before| format!("s{before}"));
        Step::new(format!("s{n}"), "wait").estimate_ms(u64::MAX).depends_on(before)
    };
    let wait = tool_fn(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Value::Null)
    });
    let plan: Plan = (0..1_100).map(step).collect();
    let handle = Runner::new(plan).tool("wait", wait).journal(journal.clone()).start("wait");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shown = support::load(&journal).await;
    assert_eq!(shown.head.rest.unwrap().paths, [(u64::MAX, u64::MAX)]);
    assert!(handle.await.unwrap().succeeded());
}

/// Of a run that goes on, each step says what it is that it waits for.
#[tokio::test(start_paused = true)]
async fn what_is_not_done_says_why_not() {
    let journal = MemoryJournal::new();
    let plan = Plan::from_iter([
        Step::new("each", "each"),
        Step::new("failing", "fail"),
        Step::new("other", "wait"),
        Step::new("last", "wait").depends_on(["each"]),
        Step::new("slow", "slow").estimate_ms(50_000),
        Step::new("after", "wait").depends_on(["failing", "slow"]),
        Step::new("quick", "quick"),
        Step::new("also", "fail").depends_on(["quick"]),
    ]);
    let takes = |seconds| {
        tool_fn(move |_| async move {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(Value::Null)
        })
    };
    let each = tool_fn(|_| async { Ok(Plan::from_iter(["x", "y"].map(|id| Step::new(id, "wait")))) });
    let fail = tool_fn(|_| async { Err::<Value, _>(StepError::transient("not now").retry_after_ms(7_000)) });
    let runner = Runner::new(plan).tool("wait", takes(60.0)).tool("each", each).tool("fail", fail).pool("wait", 1);
    let runner = runner.tool("slow", takes(60.0)).tool("quick", takes(0.5));
    let handle = runner.journal(journal.clone()).start("wait");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shown = support::load(&journal).await;
    let why = |id: &str| step(&shown, id).why.last().unwrap().clone();
    let waiting = ["each/x", "each/y", "other"].map(why);
    let is_full = |why: &&String| *why == "it is ready, and waits for room in a pool (wait 1/1)";
    assert_eq!(waiting.iter().filter(is_full).count(), 2, "{waiting:?}");
    assert_eq!(waiting.iter().filter(|why| why.starts_with("it is running")).count(), 1, "{waiting:?}");
    assert_eq!(why("each"), "it became 2 steps, which are not all done yet");
    assert_eq!(why("last"), "it waits for `each` (expanded)");
    assert!(why("failing").starts_with("it is tried again at 7."), "{}", why("failing"));
    let after = why("after");
    assert!(after.starts_with("it waits for `failing` (tried again at 7."), "{after}");
    assert!(after.contains("s), `slow` (running, expected at 50."), "{after}");
    let also = why("also");
    assert!(
        also.starts_with("it is ready, and waits for the server of `fail`, which wants no call before 7."),
        "{also}"
    );
    assert!(also.ends_with("s (not now)"), "{also}");
    handle.cancel_now();
    handle.await.unwrap();
}

/// Of a step that was done, too, it is said what kept it from starting: more slots would not have helped all of them.
#[tokio::test(start_paused = true)]
async fn what_had_to_wait_says_for_what() {
    let first = Step::new("one", "wait").uses("gpu", 2).estimate_ms(9_000);
    let plan = Plan::from_iter([first, Step::new("two", "wait").uses("gpu", 1)]);
    let wait = tool_fn(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Value::Null)
    });
    let runner = Runner::new(plan).tool("wait", wait.clone());
    let waited = async |slots, gpus| {
        let shown = snapshot(&runner.clone().max_parallel(slots).pool("gpu", gpus)).await;
        assert_eq!(step(&shown, "one").why.len(), 3, "it did not wait");
        step(&shown, "two").why[1].clone()
    };
    assert_eq!(waited(64, 2).await, "it was ready and waited 1.000s for room in a pool (gpu 2/2)");
    assert_eq!(waited(1, 9).await, "it was ready and waited 1.000s for a free slot (1/1 taken)");
    let both = waited(1, 2).await;
    assert_eq!(both, "it was ready and waited 1.000s for room in a pool (gpu 2/2) and a free slot (1/1 taken)");

    // First for the one, then for the other.
    let of = |id: &str, ms| Step::new(id, "wait").estimate_ms(ms);
    let gpu = |id: &str, ms| of(id, ms).uses("gpu", 1);
    let plan = Plan::from_iter([of("a", 9_000), of("b", 8_000), gpu("c", 7_000), gpu("d", 10)]);
    let shown = snapshot(&Runner::new(plan).tool("wait", wait).max_parallel(2).pool("gpu", 1)).await;
    let last = &step(&shown, "d").why[1];
    assert_eq!(last, "it was ready and waited 2.000s for room in a pool (gpu 1/1) and a free slot (2/2 taken)");
}

/// What text from outside has reached can be told from the rest at a glance, and what that means is said.
#[tokio::test]
async fn what_text_from_outside_has_reached_is_hatched() {
    let plan = |tool: &str| {
        let copy = Step::new("copy", "copy").args(json!({ "text": "${page}" }));
        Plan::from_iter([Step::new("page", tool), copy, Step::new("beside", "copy")])
    };
    let copy = || tool_fn(|cx| async move { Ok(cx.args) });
    let runner = |tool| Runner::new(plan(tool)).tool("copy", copy()).tool("fetch", copy().untrusted());
    let shown = snapshot(&runner("fetch")).await;
    let reached = shown.steps.iter().filter(|step| step.outside.is_some()).count();
    let report = run_html(&shown, Mode::Report);
    let number = step(&shown, "copy").number;
    let with_class =
        |class: &str| report.contains(&format!("<g class=\"step succeeded{class}\" data-step=\"{number}\""));
    assert!(with_class(" outside") || with_class(" critical outside"), "{report}");
    assert_eq!(report.matches("<rect class=\"hatching\"").count(), reached);
    assert!(report.contains("#dag .hatch { stroke: var(--hatch);"));
    assert!(
        report.contains("<pattern id=\"hatching\"") && report.contains("<p id=\"outside\" class=\"legend\"><span>")
    );
    let svg = svg_of(&shown);
    assert_eq!((svg.matches("url(#hatching)").count(), svg.matches("<pattern id=\"hatching\"").count()), (reached, 1));
    assert!(svg.contains("<title>copy: text from outside reaches it</title>") && svg.contains("<title>beside</title>"));

    let shown = snapshot(&runner("copy")).await;
    assert!(run_html(&shown, Mode::Report).contains("<p id=\"outside\" class=\"legend\" hidden>"));
    assert!(!svg_of(&shown).contains("hatching"));
}

/// The page of a server names its files, all of which there are, and the token; the file of a report names nothing.
#[tokio::test]
async fn a_report_needs_nothing_and_a_live_page_only_what_is_served() {
    let shown = snapshot(&replanned()).await;
    let live = run_html(&shown, Mode::Live { token: "to\"ken" });
    let asked = live.split("/assets/").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(asked.map(|name| ASSETS.iter().filter(|asset| asset.name == name).count()).eq([1, 1]));
    assert!(live.contains("<meta name=\"plandag-token\" content=\"to&quot;ken\">"));

    let report = run_html(&shown, Mode::Report);
    let page = page_of(&report);
    assert!(
        page.addresses.iter().all(|address| address.starts_with('#') || address == "data:,"),
        "{:?}",
        page.addresses
    );
    assert!(!report.contains("/assets/") && !report.contains("plandag-token\" content"));
    assert!(report.contains("default-src 'none'; style-src 'sha256-") && report.contains("; script-src 'sha256-"));
    for said in ["Should I", "price", "the site is gone"] {
        assert!(page.text.contains(said), "{said} is there without any script");
    }
}

/// What the server has written and what a script writes in its place afterwards are the same words.
#[test]
fn all_scripts_write_as_the_pages_do() {
    for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
        let script = std::str::from_utf8(asset.bytes).unwrap();
        let names = script.lines().filter_map(|line| {
            let rest =
                ["const ", "let ", "function ", "async function "].iter().find_map(|word| line.strip_prefix(word));
            rest?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
        });
        let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        assert!(names.contains(&"SIGNS") && names.contains(&"time"), "{}", asset.name);
        // One that comes twice is a script that does not run.
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: {names:?}", asset.name);
    }
}

/// A hundred steps that have much to say are still a file that can be sent by mail.
#[tokio::test]
async fn a_report_of_a_hundred_steps_is_less_than_500_kilobytes() {
    let talk = "The beginning of what it found, \"quoted\" and\nwith lines. ".repeat(100);
    let plan: Plan = (0..100)
        .map(|n| {
            let earlier = (1..=3).filter(|back| *back <= n).map(|back| format!("step-number-{}", n - back));
            Step::new(format!("step-number-{n}"), "talk").args(json!({ "query": talk })).depends_on(earlier)
        })
        .collect();
    let tool = tool_fn(move |_| {
        let talk = talk.clone();
        async move { Ok(talk) }
    });
    let report = run_html(&snapshot(&Runner::new(plan).tool("talk", tool)).await, Mode::Report);
    assert!((200_000..500_000).contains(&report.len()), "{} bytes", report.len());
}

#[tokio::test]
async fn a_picture_stands_for_itself() {
    let shown = snapshot(&replanned()).await;
    let svg = svg_of(&shown);
    assert!(svg.starts_with("<svg xmlns=") && svg.contains("prefers-color-scheme:dark"));
    let page = page_of(&svg);
    assert_eq!(page.elements.iter().filter(|element| *element == "g").count(), 4, "price, reviews, forum, advice");
    assert!(svg.contains("class=\"line critical\"") && page.addresses.is_empty());
}

#[tokio::test]
async fn the_list_of_runs_leads_to_their_pages() {
    let journal = MemoryJournal::new();
    replanned().journal(journal.clone()).run("<b>").await.unwrap();
    let events = journal.history(&journal.runs().await.unwrap()[0].run).await.unwrap();
    let journal = MemoryJournal::new();
    let claim = journal.create(&RunId::new("a/b?<i>")).await.unwrap();
    journal.append(&claim, &events, Durability::Process).await.unwrap();
    let html = runs_html(&journal.runs().await.unwrap(), "token", "may");
    assert!(html.contains("<a href=\"/runs/a%2Fb%3F%3Ci%3E\">a/b?&lt;i&gt;</a>"), "{html}");
    assert!(runs_html(&[], "token", "may").contains("No run was kept yet"));
}

/// Many steps wait for one that became many: the lines meet, so there are no more of them than boxes, about.
#[tokio::test]
async fn very_many_lines_meet_on_their_way() {
    for (many, meet) in [(10, false), (100, true)] {
        let rest = (0..many).map(|n| Step::new(format!("after-{n}"), "one").depends_on(["each"]));
        let plan = [Step::new("each", "each")].into_iter().chain(rest).collect::<Plan>();
        let parts =
            tool_fn(
                move |_| async move { Ok((0..many).map(|n| Step::new(format!("part-{n}"), "one")).collect::<Plan>()) },
            );
        let shown = snapshot(&Runner::new(plan).tool("one", tool_fn(|_| async { Ok(1) })).tool("each", parts)).await;
        let whole = shown.unfolded.as_ref().unwrap();
        let parts = many + if meet { 2 * many + 1 } else { many * many };
        assert_eq!((whole.steps.len(), whole.edges.len()), (2 * many + 1, parts));
        let left = |id: &str| {
            let number = step(&shown, id).number;
            whole.steps.iter().find(|drawn| drawn.step == number).unwrap().x
        };
        assert!(left("each") < left("each/part-7") && left("each/part-7") < left("after-7"));
        let each = step(&shown, "each").number;
        let met = |from: u32, to: u32| whole.edges.iter().any(|edge| (edge.from, edge.to) == (from, to));
        let ways = [("each/part-3", "each"), ("each", "each"), ("each", "after-3")];
        let ways = ways.map(|(from, to)| met(step(&shown, from).number, step(&shown, to).number));
        assert_eq!((ways, met(each, each)), ([meet; 3], meet));
    }
}
