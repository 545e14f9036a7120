//! What is left of a run that is over, and of one whose journal panics.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plandag::history::{Changes, History};
use plandag::journal::{Claim, Durability, Journal, Letter, MemoryJournal, RunId, RunSummary};
use plandag::report::Ending;
use plandag::{
    JournalError, Limits, Output, Plan, PlanError, PlanReply, PlanRequest, PlanSink, Planner, Policy, Revision,
    RunEvent, RunReport, Runner, Step, StepContext, StepError, StopReason, StoredOutput, Tool, ToolSpec, Usage,
    planner_fn, tool_fn,
};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::echo;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_can_be_taken_up_as_soon_as_it_is_over() {
    let plan = Plan::from_iter([Step::new("a", "echo"), Step::new("b", "echo").depends_on(["a"])]);
    let runner = Runner::new(plan).tool("echo", echo()).journal(MemoryJournal::new());
    let limited = runner.clone().limits(Limits { attempts: Some(1), ..Limits::default() });
    for _ in 0..200 {
        let report = limited.run("x").await.expect("a report");
        assert_eq!(report.ending(), Ending::Stopped(StopReason::Attempts));
        assert!(runner.resume(report.run()).await.expect("nobody drives it").succeeded());
    }
}

/// What somebody has kept.
type Kept<T> = Arc<Mutex<Vec<T>>>;

struct KeepsSink(Kept<PlanSink>);

impl Planner for KeepsSink {
    fn plan<'a>(&'a self, _: PlanRequest, sink: PlanSink) -> BoxFuture<'a, Result<PlanReply, PlanError>> {
        self.0.lock().expect("not poisoned").push(sink);
        Box::pin(async { Ok(Plan::from_iter([Step::new("a", "wait")]).into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn who_keeps_something_of_a_run_keeps_nobody_from_it() {
    let (sinks, contexts): (Kept<PlanSink>, Kept<StepContext>) = Default::default();
    let kept = Arc::clone(&contexts);
    let wait = tool_fn(move |cx| {
        kept.lock().expect("not poisoned").push(cx);
        std::future::pending::<Result<(), _>>()
    });
    let journal = MemoryJournal::new();
    let runner = Runner::new(KeepsSink(Arc::clone(&sinks))).tool("wait", wait).journal(journal.clone());
    let mut id = None;
    for _ in 0..3 {
        let handle = match &id {
            None => runner.start("x"),
            Some(id) => runner.start_resume(id),
        };
        sleep(Duration::from_millis(1)).await;
        handle.cancel_now();
        let report = handle.await.expect("nobody drives it");
        assert_eq!(report.ending(), Ending::Stopped(StopReason::Cancelled));
        assert_eq!(journal.summary(report.run()).await.expect("a run").owner, None);
        id = Some(report.run().clone());
    }
    let id = id.expect("it has run");
    let history = journal.history(&id).await.expect("a history");
    // Nothing comes of what they do now.
    for sink in sinks.lock().expect("not poisoned").drain(..) {
        sink.step(Step::new("b", "wait"));
    }
    let contexts = std::mem::take(&mut *contexts.lock().expect("not poisoned"));
    assert_eq!(contexts.len(), 3);
    contexts.iter().for_each(|cx| cx.add_usage(Usage { input_tokens: 1, ..Usage::default() }));
    drop(contexts);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(journal.history(&id).await.expect("a history"), history);
}

#[tokio::test(start_paused = true)]
async fn a_sink_keeps_nothing_of_its_run() {
    let sinks: Kept<PlanSink> = Arc::default();
    let part_of_tool = Arc::new(());
    let part = Arc::clone(&part_of_tool);
    let tool = tool_fn(move |_| {
        let part = Arc::clone(&part);
        async move { Ok(Arc::strong_count(&part) as u64) }
    });
    assert!(
        Runner::new(KeepsSink(Arc::clone(&sinks))).tool("wait", tool).run("x").await.expect("a report").succeeded()
    );
    // The hands go when they are told to.
    sleep(Duration::from_millis(100)).await;
    assert_eq!(Arc::strong_count(&part_of_tool), 1);
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Append,
    Put,
    Get,
    Letters,
}

/// A journal that does something before it does what it is asked.
#[derive(Clone)]
struct Odd<F> {
    journal: MemoryJournal,
    before: F,
}

impl<F: Fn(Call) + Send + Sync> Journal for Odd<F> {
    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        self.journal.create(run)
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        self.journal.claim(run)
    }

    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        (self.before)(Call::Append);
        self.journal.append(claim, events, durability)
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        self.journal.history(run)
    }

    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        (self.before)(Call::Put);
        self.journal.put_output(claim, output)
    }

    fn get_output<'a>(
        &'a self,
        run: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        (self.before)(Call::Get);
        self.journal.get_output(run, stored)
    }

    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>> {
        self.journal.runs()
    }

    fn letters<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<Letter>, JournalError>> {
        (self.before)(Call::Letters);
        self.journal.letters(claim)
    }
}

/// A run with a large output, which another step needs; a third one waits for a person's approval.
fn with_letters(journal: impl Journal + 'static) -> Runner {
    struct Outside;
    impl Tool for Outside {
        fn spec(&self) -> ToolSpec {
            ToolSpec { untrusted: true, ..ToolSpec::new("outside", "") }
        }

        fn call<'a>(&'a self, _: StepContext) -> BoxFuture<'a, Result<plandag::ToolOutput, plandag::StepError>> {
            Box::pin(async { Ok(Value::from("x".repeat(Output::INLINE_BYTES)).into()) })
        }
    }
    let plan = Plan::from_iter([
        Step::new("large", "outside"),
        Step::new("length", "length").depends_on(["large"]),
        Step::new("act", "act").depends_on(["length"]),
    ]);
    let length = tool_fn(|cx| async move { Ok(cx.inputs.get("large").is_some()) });
    Runner::new(plan)
        .tool("outside", Outside)
        .tool("length", length)
        .tool("act", echo_that_acts())
        .policy(Policy { attended: true, ..Policy::default() })
        .journal(journal)
}

fn echo_that_acts() -> impl Tool + 'static {
    tool_fn(|cx| async move { Ok(cx.args) }).acts()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_at_the_journal_at_the_end_is_waited_for() {
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let before = move |call| {
        if call == Call::Letters {
            tell.notify_one();
            // It has a thread for itself.
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let journal = MemoryJournal::new();
    let handle = with_letters(Odd { journal: journal.clone(), before }).start("x");
    asked.notified().await;
    handle.cancel_now();
    let report = handle.await.expect("a report");
    assert_eq!(journal.summary(report.run()).await.expect("a run").owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_journal_is_the_runs() {
    for panicking in [Call::Append, Call::Put, Call::Get, Call::Letters] {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let before = move |call| {
            // A panic that does not fill the output of the test. That of a write is in a turn of a hand.
            if call == panicking && (counted.fetch_add(1, Ordering::Relaxed) == 2 || call != Call::Append) {
                std::panic::resume_unwind(Box::new("the journal"));
            }
        };
        let journal = MemoryJournal::new();
        let runner = with_letters(Odd { journal: journal.clone(), before });
        let ended = tokio::spawn(async move { runner.run("x").await }).await;
        let panic = ended.expect_err("it panicked").into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"the journal"), "{}", panicking as u8);
        let runs = journal.runs().await.expect("a list");
        assert_eq!((runs.len(), runs[0].owner), (1, None));
    }
}

/// A tool that is ended was paid for all the same.
#[tokio::test(start_paused = true)]
async fn what_attempts_have_used_that_end_with_the_run_counts() {
    let plan = Plan::from_iter([Step::new("slow", "slow"), Step::new("bad", "fail")]);
    let planner = plan.revised_by(planner_fn(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(Revision::Answer("good enough".into()))
    }));
    let slow = tool_fn(|cx| async move {
        cx.add_usage(Usage { input_tokens: 1_000, ..Usage::default() });
        sleep(Duration::from_secs(3_600)).await;
        Ok(Value::Null)
    });
    let journal = MemoryJournal::new();
    let runner = Runner::new(planner).tool("slow", slow).journal(journal.clone());
    let runner = runner.tool("fail", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("no")) }));
    let report = runner.run("x").await.expect("a report");
    assert_eq!(*report.answer().expect("an answer"), "good enough");
    assert_eq!(report.usage().input_tokens, 1_000);
    let read_back = RunReport::load(&journal, report.run()).await.expect("a history");
    assert_eq!((read_back.usage(), read_back.ending()), (report.usage(), report.ending()));
    let slow = read_back.step("slow").expect("it was there");
    assert_eq!((slow.attempts.len(), slow.attempts[0].usage.input_tokens), (1, 1_000));
    let fork = History::load(&journal, report.run()).await.expect("a history").fork(&Changes::default());
    let run = RunId::random();
    fork.expect("there is something to do").save(&journal, &run).await.expect("room");
    assert_eq!(RunReport::load(&journal, &run).await.expect("a history").usage(), Usage::default());
}
