//! Runs of which a part was done again.

use plandag::history::{Changes, History};
use plandag::journal::{Journal as _, MemoryJournal, RunId};
use plandag::page::{Mode, Snapshot, run_html, svg_of};
use plandag::{Plan, RunReport, Runner, Step, tool_fn};

use crate::step;

/// `map` becomes `one` and `deep`, which becomes `x` and `y`; `last` waits for all of that.
fn runner(journal: &MemoryJournal) -> Runner {
    let spread = tool_fn(|cx| async move {
        Ok(match cx.id.as_str() {
            "map" => Plan::from_iter([Step::new("one", "say"), Step::new("deep", "spread")]),
            _ => Plan::from_iter([Step::new("x", "say"), Step::new("y", "say")]),
        })
    });
    let plan = Plan::from_iter([Step::new("map", "spread"), Step::new("last", "say").depends_on(["map"])]);
    Runner::new(plan).tool("spread", spread).tool("say", tool_fn(|_| async { Ok(1) })).journal(journal.clone())
}

async fn shown(journal: &MemoryJournal, run: &RunId) -> Snapshot {
    let history = History::load(journal, run).await.unwrap();
    let snapshot = Snapshot::of(&history, &journal.summary(run).await.unwrap());
    for drawn in snapshot.layout.steps.iter().map(|drawn| &snapshot.steps[drawn.step as usize]) {
        let title = format!(">{}<", drawn.id);
        assert!(svg_of(&snapshot).contains(&title) && run_html(&snapshot, Mode::Report).contains(&title), "{title}");
    }
    snapshot
}

/// Writes a fork down, looks at it, and carries it out.
async fn forked(journal: &MemoryJournal, report: &RunReport, from: &str) -> (RunReport, [Snapshot; 2]) {
    let changes = Changes { from: Some(from.into()), ..Changes::default() };
    let fork = RunId::random();
    let history = History::load(journal, report.run()).await.unwrap();
    history.fork(&changes).unwrap().save(journal, &fork).await.unwrap();
    let before = shown(journal, &fork).await;
    let report = runner(journal).resume(&fork).await.unwrap();
    (report, [before, shown(journal, &fork).await])
}

fn ids(snapshot: &Snapshot, steps: impl IntoIterator<Item = u32>) -> Vec<&str> {
    let mut ids: Vec<&str> = steps.into_iter().map(|step| snapshot.steps[step as usize].id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_part_of_what_a_step_became_is_shown_where_it_was_kept() {
    let journal = MemoryJournal::new();
    let first = runner(&journal).run("spread").await.unwrap();
    let all = ["last", "map", "map/deep", "map/deep/x", "map/deep/y", "map/one"];

    let mut report = first;
    for (plan, from, folded) in [
        (2, "map/one", "last map map/deep map/one"),
        (3, "map/deep/x", "last map map/deep map/deep/x map/deep/y map/one"),
    ] {
        let (forked, [before, after]) = forked(&journal, &report, from).await;
        for shown in [&before, &after] {
            let whole = shown.unfolded.as_ref().unwrap_or(&shown.layout);
            assert_eq!(ids(shown, whole.steps.iter().map(|drawn| drawn.step)), all);
            let last = step(shown, "last").number;
            let into = whole.edges.iter().filter(|edge| edge.to == last).map(|edge| edge.from);
            assert_eq!(ids(shown, into), ["map/deep/x", "map/deep/y", "map/one"], "of {from}");
            assert!(step(shown, "map").why.iter().all(|why| !why.starts_with("it became a step")));
            assert!(
                shown.steps.iter().filter(|step| step.member).all(|step| step.since == plan || step.parent.is_none())
            );
        }
        let drawn = |shown: &Snapshot| ids(shown, shown.layout.steps.iter().map(|drawn| drawn.step)).join(" ");
        assert_eq!((drawn(&before), drawn(&after)), (folded.to_owned(), "last map".to_owned()), "of {from}");
        report = forked;
    }
}
