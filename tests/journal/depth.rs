//! Whatever is accepted, however deep it nests, can be read back.

use std::sync::Arc;

use plandag::history::{Changes, History};
use plandag::journal::{Journal as _, RunId, SqliteJournal};
use plandag::{
    Plan, PlanReply, PlanRequest, Revision, RunError, Runner, Step, StepError, ToolOutput, ToolSpec, planner_fn,
    tool_fn,
};
use serde_json::{Value, json};

pub(crate) fn deep(depth: usize) -> Value {
    (0..depth).fold(json!(0), |value, n| if n % 2 == 0 { json!([value]) } else { json!({ "in": value }) })
}

#[tokio::test]
async fn the_deepest_values_that_are_taken_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path().join("runs.db")).unwrap());
    let mut taken = 0;
    for depth in [60, 99, 100, 101, 110, 125, 127, 128] {
        let plans = move |step: &str| {
            let child = Step::new("child", "echo").args(deep(depth));
            let steps = [Step::new(step, "echo").args(deep(depth)), Step::new("grow", "grow").args(json!(1)), child];
            Plan::from_iter(steps.into_iter().chain([Step::new("bad", "bad")]))
        };
        let planner = planner_fn(move |request: PlanRequest| async move {
            let answer = request.revision > 1;
            Ok(if answer { PlanReply::from(Revision::Answer(deep(depth))) } else { plans("step").into() })
        });
        let runner = Runner::new(planner)
            .journal(Arc::clone(&journal))
            .tool("echo", tool_fn(|cx| async move { Ok(cx.args) }))
            .tool("bad", tool_fn(move |_| async move { Err::<(), _>(StepError::permanent("no").details(deep(depth))) }))
            .tool(
                "grow",
                tool_fn(move |_| async move {
                    Ok(ToolOutput::Plan(Plan::from_iter([Step::new("inside", "echo").args(deep(depth))])))
                }),
            );
        let spec = ToolSpec { arguments: deep(depth), ..ToolSpec::default() };
        let described = tool_fn(|_| async { Ok(()) }).with_spec(spec);
        for runner in [
            runner.clone().input("given", deep(depth)),
            runner.clone().label("kept", deep(depth)),
            runner.clone().tool("described", described),
            runner,
        ] {
            match runner.run("deep").await {
                Ok(report) => {
                    taken += u32::from(report.succeeded());
                    let history =
                        journal.history(report.run()).await.unwrap_or_else(|error| panic!("{depth}: {error}"));
                    assert!(history.len() > 2, "{depth}");
                }
                Err(error) => assert!(depth > 100 && matches!(error, RunError::Configuration(_)), "{depth}: {error}"),
            }
        }
    }
    assert_eq!(taken, 12, "up to 100 levels");
}

#[tokio::test]
async fn arguments_that_a_fork_sets_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path().join("runs.db")).unwrap();
    let journal = Arc::new(journal);
    let runner = Runner::new(Plan::from_iter([Step::new("a", "echo")]))
        .journal(Arc::clone(&journal))
        .tool("echo", tool_fn(|cx| async move { Ok(cx.args) }));
    let run = runner.run("fork").await.unwrap().run().clone();
    let history = History::load(&*journal, &run).await.unwrap();
    let fork = |levels: usize, depth: usize| {
        let name = vec!["in"; levels].join(".");
        history.fork(&Changes { from: Some("a".into()), set: [(name, deep(depth))].into(), ..Changes::default() })
    };
    for (levels, depth) in [(1, 100), (50, 51), (60, 100), (200, 0)] {
        let error = fork(levels, depth).unwrap_err();
        assert!(error.to_string().ends_with("it would nest too deep"), "{error}");
    }
    for (levels, depth) in [(1, 99), (50, 50), (100, 0)] {
        let new = RunId::random();
        fork(levels, depth).unwrap().save(&*journal, &new).await.unwrap();
        assert!(runner.resume(&new).await.unwrap().succeeded());
    }
}
