//! What a history tells of plans that were corrected or grew, and whether tools are those that a run had.

use std::time::Duration;

use futures::future::BoxFuture;
use plandag::history::History;
use plandag::journal::{Journal as _, MemoryJournal};
use plandag::page::Snapshot;
use plandag::simulate::trace::Trace;
use plandag::{
    Patch, Plan, PlanError, PlanReason, PlanReply, PlanRequest, PlanSink, Planner, Revision, RunError, Runner, Step,
    StepError, StepId, ToolOutput, planner_fn, tool_fn,
};
use serde_json::json;

/// Begins a plan with a step that is planned and one that acts, and takes its time with the rest.
struct Slow;

impl Planner for Slow {
    fn plan<'a>(&'a self, _: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            let steps = [Step::new("p", "map"), Step::new("a", "act")];
            steps.iter().for_each(|step| sink.step(step.clone()));
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(Plan::from_iter(steps).into())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_acts_waits_until_its_plan_is_written_also_inside_of_another_step() {
    let journal = MemoryJournal::new();
    let map = tool_fn(|_| async { Ok::<_, StepError>(Plan::from_iter([Step::new("act", "act")])) });
    let act = tool_fn(|_| async { Ok(1) }).acts();
    let handle = Runner::new(Slow).journal(journal.clone()).tool("act", act).tool("map", map).start("x");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let history = History::load(&journal, handle.id()).await.unwrap();
    for id in ["a", "p/act"] {
        let reasons = history.why(id).unwrap();
        assert_eq!(reasons.last().unwrap().to_string(), "it acts, and waits until its plan is written", "{reasons:?}");
    }
    assert!(handle.await.unwrap().succeeded());
}

/// Writes a plan that is cut off, then its correction, then mends what failed.
struct Author;

impl Planner for Author {
    fn plan<'a>(&'a self, request: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        Box::pin(async move {
            Ok(match request.reason {
                PlanReason::Failures => {
                    Patch { change: vec![Step::new("y", "leaf").into()], ..Patch::default() }.into()
                }
                PlanReason::Rejected(_) => Plan::from_iter([
                    Step::new("r", "slow"),
                    Step::new("x2", "leaf").depends_on(["r"]),
                    Step::new("y", "fail").depends_on(["x2"]),
                ])
                .into(),
                _ => {
                    sink.step(Step::new("r", "slow"));
                    sink.step(Step::new("x", "leaf").depends_on(["r"]));
                    sink.step(Step::new("x2", "leaf").depends_on(["r"]));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Revision::Unusable(vec![PlanError::Truncated { message: "cut off".into() }]).into()
                }
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_has_no_steps_of_answers_that_were_rejected() {
    let journal = MemoryJournal::new();
    let slow = tool_fn(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(1)
    });
    let runner = Runner::new(Author)
        .tool("leaf", tool_fn(|_| async { Ok(1) }))
        .tool("fail", tool_fn(|_| async { Err::<i32, _>(StepError::permanent("no")) }))
        .tool("slow", slow)
        .journal(journal.clone());
    let report = runner.run("grow").await.unwrap();
    let history = History::load(&journal, report.run()).await.unwrap();
    let plans = history.revisions();
    let ids = |ids: &[StepId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(&plans[0].added), ["r", "x2", "y"]);
    assert_eq!((ids(&plans[1].again), plans[1].kept), (vec!["y".to_owned()], 2));
    let why = |step: &str| history.why(step).unwrap()[0].to_string();
    assert_eq!(why("x"), "an answer that became no plan has it");
}

/// Begins a plan and never ends it.
struct Endless;

impl Planner for Endless {
    fn plan<'a>(&'a self, _: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        sink.step(Step::new("act", "write"));
        sink.step(Step::new("look", "leaf"));
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_step_of_a_plan_that_is_being_written_says_so() {
    let journal = MemoryJournal::new();
    let (told, mut looked) = tokio::sync::mpsc::unbounded_channel();
    let leaf = tool_fn(move |_| {
        let told = told.clone();
        async move {
            told.send(()).unwrap();
            Ok(1)
        }
    });
    let runner = Runner::new(Endless)
        .tool("write", tool_fn(|_| async { Ok(1) }).acts())
        .tool("leaf", leaf)
        .journal(journal.clone());
    let mut handle = runner.start("write and look");
    looked.recv().await.unwrap();
    let history = History::load(&journal, handle.id()).await.unwrap();
    let why = |step: &str| history.why(step).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(why("act"), ["a plan that is being written has it", "it acts, and waits until its plan is written"]);
    handle.cancel_now();
    (&mut handle).await.unwrap();
}

#[tokio::test]
async fn the_trace_of_a_step_that_became_many_grows_with_them() {
    const MANY: usize = 300;
    let run = |many: usize| async move {
        let journal = MemoryJournal::new();
        let children = move || (0..many).map(|child| Step::new(format!("c{child}"), "leaf")).collect::<Plan>();
        let after = (0..many).map(|after| Step::new(format!("after{after}"), "leaf").depends_on(["each"]));
        let runner = Runner::new(Plan::from_iter([Step::new("each", "spread")].into_iter().chain(after)))
            .tool("spread", tool_fn(move |_| async move { Ok(ToolOutput::Plan(children())) }))
            .tool("leaf", tool_fn(|_| async { Ok(1) }))
            .journal(journal.clone());
        let report = runner.run("spread").await.unwrap();
        let trace = History::load(&journal, report.run()).await.unwrap().to_trace().to_string();
        // Whoever came after the last child is known to have waited for it.
        let analysis = Trace::read(trace.as_bytes()).unwrap().analyse(4).unwrap();
        assert!(analysis.critical_steps.iter().any(|step| step.starts_with("after")), "{:?}", analysis.critical_steps);
        assert!(analysis.critical_steps.iter().any(|step| step.starts_with("each")), "{:?}", analysis.critical_steps);
        trace.len()
    };
    let (few, many) = (run(MANY).await, run(2 * MANY).await);
    assert!(many < 3 * few, "{few} bytes of a trace became {many}");
}

/// What a revision changes, and the next one changes back before it ran, is the step that was done first.
#[tokio::test]
async fn a_result_that_is_taken_up_again_is_told_of_and_not_as_run_anew() {
    let planner = planner_fn(|request: PlanRequest| async move {
        let step = |id: &str, tool: &str, after: &[&str]| Step::new(id, tool).depends_on(after.to_vec());
        let (again, end) = (step("a", "good", &["y"]).args(json!({ "other": 1 })), step("end", "good", &["a"]));
        Ok(PlanReply::from(match request.revision {
            1 => Plan::from_iter([step("a", "good", &[]), step("x", "bad", &["a"]), step("end", "good", &["x"])]),
            2 => Plan::from_iter([step("y", "bad", &[]), again, end]),
            _ => Plan::from_iter([step("a", "good", &[]), end]),
        }))
    });
    let journal = MemoryJournal::new();
    let bad = tool_fn(|_| async { Err::<u32, _>(StepError::permanent("no")) });
    let runner = Runner::new(planner).tool("good", tool_fn(|_| async { Ok(1) })).tool("bad", bad);
    let report = runner.journal(journal.clone()).run("look").await.unwrap();
    assert!(report.succeeded(), "{report:?}");
    let history = History::load(&journal, report.run()).await.unwrap();
    let why: Vec<String> = history.why("a").unwrap().iter().map(ToString::to_string).collect();
    let why: Vec<&str> = why.iter().map(|reason| reason.split(" at ").next().unwrap()).collect();
    let expected = [
        "plan 1 has it: the first plan",
        "attempt 1 started",
        "it was done",
        "plan 2 has it: because `x` failed",
        "a later plan replaced it",
        "plan 3 takes up its earlier result: because `y` failed",
    ];
    assert_eq!(why, expected);
    let [_, second, third] = &history.revisions()[..] else { panic!("three plans") };
    assert_eq!((&second.again[..], second.kept), (&["a".into(), "end".into()][..], 0));
    assert_eq!((&third.again[..], third.kept), (&["end".into()][..], 1));

    let shown = Snapshot::of(&history, &journal.summary(report.run()).await.unwrap());
    let [first, second] = [0, 1].map(|n| shown.steps.iter().filter(|step| step.id == "a").nth(n).unwrap());
    assert!(first.why.last().unwrap().starts_with("it was done"), "{:?}", first.why);
    assert_eq!(second.why.last().unwrap(), "a later plan replaced it");
    assert!(shown.layout.steps.iter().any(|drawn| drawn.step == first.number));
    let end = shown.steps.iter().rfind(|step| step.id == "end").unwrap().number;
    assert!(shown.layout.edges.iter().any(|edge| (edge.from, edge.to) == (first.number, end)));
}

#[tokio::test]
async fn a_tool_that_has_a_version_now_is_another() {
    let journal = MemoryJournal::new();
    let runner = |version: &str| {
        let version = version.to_owned();
        let spec = plandag::ToolSpec { version, ..plandag::ToolSpec::new("leaf", "") };
        Runner::new(Plan::from_iter([Step::new("a", "leaf")])).tool("leaf", Versioned(spec)).journal(journal.clone())
    };
    let report = runner("").run("look").await.unwrap();
    match runner("2").resume(report.run().clone()).await {
        Err(RunError::Changed { differences, .. }) => assert_eq!(differences, ["`leaf`: version is \"2\""]),
        other => panic!("{:?}", other.map(|report| report.run().clone())),
    }
}

struct Versioned(plandag::ToolSpec);

impl plandag::Tool for Versioned {
    fn spec(&self) -> plandag::ToolSpec {
        self.0.clone()
    }

    fn call<'a>(&'a self, _: plandag::StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        Box::pin(async { Ok(ToolOutput::Value(1.into())) })
    }
}
