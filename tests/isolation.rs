//! Whatever one tool does, its neighbours do not notice: each of these fails one step out of a hundred.

//!
//! `PLANDAG_REPETITIONS` says how often each of them is tried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use plandag::report::StepOutcome;
use plandag::{
    Plan, PlanReason, PlanRequest, Retry, RunReport, Runner, Step, StepError, StepErrorKind, ToolOutput, planner_fn,
    tool_fn,
};
use serde_json::{Value, json};

const NEIGHBOURS: usize = 99;

/// How often a tool misbehaves in the same way, unless `PLANDAG_REPETITIONS` says otherwise.
const REPETITIONS: u32 = 3;

/// After how long a run hangs. None takes a tenth of this.
const HANGS: Duration = Duration::from_secs(20);

fn repetitions() -> u32 {
    let Ok(text) = std::env::var("PLANDAG_REPETITIONS") else { return REPETITIONS };
    let count = text.parse().unwrap_or_else(|_| panic!("PLANDAG_REPETITIONS is `{text}`, not a number"));
    assert!(count > 0, "without a repetition nothing is tried");
    count
}

/// Runs one step of `bad` among many that do well, again and again; the last report stands for all.
async fn beside(bad: impl plandag::Tool + 'static) -> RunReport {
    let good = tool_fn(|cx| async move {
        tokio::time::sleep(Duration::from_millis(cx.args["ms"].as_u64().unwrap_or(0))).await;
        Ok("well")
    });
    let mut plan = Plan::from_iter([Step::new("bad", "bad").timeout_ms(200)]);
    plan.extend((0..NEIGHBOURS).map(|n| Step::new(format!("good-{n}"), "good").args(json!({ "ms": n }))));
    let runner = Runner::new(plan).tool("bad", bad).tool("good", good).retry(Retry::NEVER);
    let mut last: Option<RunReport> = None;
    for repetition in 0..repetitions() {
        let report = runner.run("isolate").await.expect("a report");
        let succeeded = report.steps().filter(|step| step.outcome == StepOutcome::Succeeded).count();
        assert_eq!(succeeded, NEIGHBOURS, "repetition {repetition}");
        let error = |report: &RunReport| report.step("bad").expect("the step").error.cloned();
        if let Some(last) = &last {
            assert_eq!(error(&report), error(last), "repetition {repetition}");
        }
        last = Some(report);
    }
    last.expect("at least one")
}

async fn error_beside(bad: impl plandag::Tool + 'static) -> StepError {
    let report = beside(bad).await;
    let step = report.step("bad").expect("the step");
    assert_eq!(step.outcome, StepOutcome::Failed);
    step.error.expect("an error").clone()
}

/// Lists within lists.
fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

#[tokio::test(start_paused = true)]
async fn a_panic() {
    let error = error_beside(tool_fn(|cx| async move {
        if cx.tries > 0 {
            panic!("index {} out of bounds", 7);
        }
        Ok(())
    }))
    .await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Panicked, "panicked: index 7 out of bounds"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_future() {
    let error = error_beside(tool_fn(|cx| {
        assert!(cx.args.is_object(), "needs an object");
        async move { Ok(()) }
    }))
    .await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Panicked, "panicked: needs an object"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let error = error_beside(tool_fn(|_| async move {
        let bomb = Bomb;
        std::future::pending::<()>().await;
        drop(bomb);
        Ok(())
    }))
    .await;
    assert_eq!(error.kind, StepErrorKind::Panicked);
}

#[tokio::test(start_paused = true)]
async fn a_hang() {
    let error = error_beside(tool_fn(|_| std::future::pending::<Result<(), StepError>>())).await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::Timeout, "no result within 200ms"));
}

#[tokio::test(start_paused = true)]
async fn a_result_of_a_hundred_megabytes() {
    let error = error_beside(tool_fn(|_| async move { Ok("x".repeat(100 << 20)) })).await;
    assert_eq!(error.kind, StepErrorKind::BadOutput);
    assert_eq!(error.message, "the result is larger than 33554432 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_very_many_small_parts() {
    let error = error_beside(tool_fn(|_| async move { Ok(vec![Value::Null; 10 << 20]) })).await;
    assert_eq!(error.kind, StepErrorKind::BadOutput);
}

#[tokio::test(start_paused = true)]
async fn a_result_nested_so_deep_that_dropping_it_would_overflow_the_stack() {
    let error = error_beside(tool_fn(|_| async move { Ok(deep(1_000_000)) })).await;
    assert_eq!((error.kind, error.message.as_str()), (StepErrorKind::BadOutput, "the result nests deeper than 100"));
    let error = error_beside(tool_fn(|_| async move {
        let steps = [Step::new("child", "good").args(deep(1_000_000))];
        Ok(ToolOutput::Plan(Plan::from_iter(steps)))
    }))
    .await;
    assert_eq!(error.kind, StepErrorKind::InvalidPlan);
    assert_eq!(error.message, "the arguments of step `child` nest deeper than 100");
    let within =
        beside(tool_fn(|_| async move { Err::<(), _>(StepError::permanent("deep").details(deep(1_000_000))) }));
    assert_eq!(within.await.step("bad").expect("the step").error.expect("an error").details, None);
}

#[tokio::test(start_paused = true)]
async fn a_result_at_the_limits_is_handed_on() {
    let plan = Plan::from_iter([Step::new("deep", "deep"), Step::new("text", "text")]);
    let runner = Runner::new(plan)
        .tool("deep", tool_fn(|_| async move { Ok(deep(100)) }))
        .tool("text", tool_fn(|_| async move { Ok("x".repeat(1_000)) }));
    let report = runner.clone().max_output_bytes(1_002).run("limits").await.expect("a report");
    assert!(report.succeeded(), "{:?}", report.answer());
    let report = runner.max_output_bytes(1_001).run("limits").await.expect("a report");
    let refused = report.step("text").expect("the step").error.expect("it has two quotes");
    assert_eq!(refused.message, "the result is larger than 1001 bytes");
}

#[tokio::test(start_paused = true)]
async fn an_endless_error_message() {
    let error = error_beside(tool_fn(|_| async move { Err::<(), _>(StepError::permanent("ä".repeat(1 << 20))) })).await;
    assert!(error.message.len() < 17 * 1024);
    assert!(error.message.ends_with("... (2097152 bytes in all)"));
}

#[tokio::test(start_paused = true)]
async fn a_reference_to_what_is_not_there() {
    let plan = Plan::from_iter([
        Step::new("page", "page"),
        Step::new("title", "page").args(json!({ "of": "${page.meta.title}" })),
    ]);
    let page = tool_fn(|_| async move { Ok(json!({ "text": "..." })) });
    let report = Runner::new(plan).tool("page", page).run("read").await.expect("a report");
    let error = report.step("title").expect("the step").error.expect("an error").clone();
    assert_eq!(error.kind, StepErrorKind::BadReference);
    assert!(error.message.contains("page") && error.message.contains("meta"), "{}", error.message);
    assert_eq!(report.step("title").expect("the step").attempts.len(), 1, "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn an_argument_of_the_wrong_shape() {
    #[derive(serde::Deserialize)]
    struct Arguments {
        #[expect(dead_code, reason = "only its absence matters")]
        query: String,
    }
    let error = error_beside(tool_fn(|cx| async move { cx.args_as::<Arguments>().map(|_| ()) })).await;
    assert_eq!(error.kind, StepErrorKind::BadInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_blocks_its_thread() {
    beside(tool_fn(|_| async move {
        std::thread::sleep(Duration::from_millis(50));
        Err::<(), _>(StepError::permanent("slow"))
    }))
    .await;
}

/// What comes of `test` on so many worker threads; a failure, not another hang, if it hangs. So the clock runs outside of
/// the runtime, which is left behind then: dropping it would wait for the very threads that are stuck.
fn unless_it_hangs<T: Send + 'static>(name: &str, workers: usize, test: impl Future<Output = T> + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let result = runtime.block_on(test);
        drop(runtime);
        done.send(result)
    });
    match end.recv_timeout(HANGS) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{name} hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("{name} panicked"),
    }
}

/// Steps that each block until `count` of them do.
fn meeting(count: usize, meet: impl Fn(&Barrier) + Send + Sync + 'static) -> Runner {
    let barrier = Arc::new(Barrier::new(count));
    let meet = Arc::new(meet);
    let tool = tool_fn(move |_| {
        let (barrier, meet) = (Arc::clone(&barrier), Arc::clone(&meet));
        async move {
            meet(&barrier);
            Ok(())
        }
    });
    Runner::new((0..count).map(|n| Step::new(format!("s{n}"), "meet")).collect::<Plan>()).tool("meet", tool)
}

fn assert_that_it_succeeds(runner: Runner) {
    let report = unless_it_hangs("the run", 2, async move { runner.run("meet").await });
    assert!(report.expect("a report").succeeded());
}

#[test]
fn tools_that_block_their_threads_run_side_by_side() {
    for _ in 0..100 {
        assert_that_it_succeeds(meeting(2, |barrier| {
            barrier.wait();
        }));
    }
}

#[test]
fn tools_that_hand_their_threads_back_before_they_block_are_not_limited_by_threads() {
    assert_that_it_succeeds(meeting(20, |barrier| {
        tokio::task::block_in_place(|| barrier.wait());
    }));
}

#[test]
fn a_tool_that_blocks_its_thread_does_not_hold_back_a_chain_beside_it() {
    let done = Arc::new(Barrier::new(2));
    let meet = Arc::clone(&done);
    let wait = tool_fn(move |_| {
        let meet = Arc::clone(&meet);
        async move {
            meet.wait();
            Ok(())
        }
    });
    let quick = tool_fn(|_| async { Ok(()) });
    let mut plan = Plan::from_iter([Step::new("slow", "wait")]);
    plan.extend((0..50).map(|n| {
        let before = (n > 0).then(|| format!("c{}", n - 1));
        Step::new(format!("c{n}"), if n == 49 { "wait" } else { "quick" }).depends_on(before)
    }));
    assert_that_it_succeeds(Runner::new(plan).tool("wait", wait).tool("quick", quick));
}

#[test]
fn calls_that_block_their_threads_run_side_by_side_also_after_many_of_the_same_tool_that_did_not() {
    for _ in 0..20 {
        let barrier = Arc::new(Barrier::new(2));
        let meet = tool_fn(move |cx| {
            let barrier = Arc::clone(&barrier);
            async move {
                if cx.step.depends_on.is_empty() {
                    return Ok(());
                }
                barrier.wait();
                Ok(())
            }
        });
        let quick = |n: usize| format!("q{n}");
        let mut plan: Plan = (0..500).map(|n| Step::new(quick(n), "meet")).collect();
        plan.extend(["a", "b"].map(|id| Step::new(id, "meet").depends_on((0..500).map(quick))));
        assert_that_it_succeeds(Runner::new(plan).tool("meet", meet));
    }
}

#[test]
fn a_call_that_blocks_its_thread_holds_back_none_of_many_beside_it() {
    let barrier = Arc::new(Barrier::new(2));
    let meet = tool_fn(move |cx| {
        let barrier = Arc::clone(&barrier);
        async move {
            if ["first", "last"].contains(&cx.id.as_str()) {
                barrier.wait();
            }
            Ok(())
        }
    });
    let quick = |n: usize| format!("q{n}");
    let mut plan: Plan = (0..50).map(|n| Step::new(quick(n), "meet")).collect();
    plan.push(Step::new("first", "meet"));
    plan.extend((50..5_000).map(|n| Step::new(quick(n), "meet")));
    plan.push(Step::new("last", "meet").depends_on((0..5_000).map(quick)));
    assert_that_it_succeeds(Runner::new(plan).tool("meet", meet));
}

#[tokio::test(flavor = "current_thread")]
async fn calls_that_take_long_on_the_only_thread_bring_nobody_else() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let slow = tool_fn(move |_| {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        seen.fetch_max(tasks, Ordering::SeqCst);
        async {
            std::thread::sleep(Duration::from_millis(12));
            Ok(())
        }
    });
    let plan: Plan = (0..40).map(|n| Step::new(format!("s{n}"), "slow")).collect();
    let report = Runner::new(plan).tool("slow", slow).max_parallel(40).run("take long").await;
    assert!(report.expect("a report").succeeded());
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 3, "{most} tasks for one thread");
}

/// How many calls there are, and the most there were.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>, Arc<AtomicUsize>);

struct Running(Calls);

impl Calls {
    fn enter(&self) -> Running {
        let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(now, Ordering::SeqCst);
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        (self.0).0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Behaves in one of the ways that tools can, by what its arguments say.
fn unruly(calls: Calls) -> impl plandag::Tool + 'static {
    tool_fn(move |cx| {
        let running = calls.enter();
        async move {
            match cx.args.as_u64().unwrap_or(0) {
                0..20 => Ok(()),
                20..40 => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                40..60 => {
                    tokio::time::sleep(Duration::from_micros(300)).await;
                    Ok(())
                }
                60..70 => Err(StepError::transient("again")),
                70..75 => Err(StepError::permanent("no")),
                75..80 => panic!("on purpose"),
                80..85 => std::future::pending().await,
                85..95 => {
                    // Work that goes on after the attempt was given up.
                    // Dropped in this order: the count must not outlive the attempt.
                    let held = (running, cx.hold());
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_micros(500));
                        drop(held);
                    });
                    std::future::pending().await
                }
                _ => {
                    std::thread::sleep(Duration::from_micros(300));
                    Ok(())
                }
            }
        }
    })
}

#[test]
fn no_mixture_of_them_hangs_a_run_or_breaks_its_cap() {
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("on purpose") {
            report_panic(panic);
        }
    }));
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let workers = random.usize(1..4);
        let count = random.u32(1..60);
        let plan: Plan = (0..count)
            .map(|n| {
                let behaviour = random.u64(..100);
                let before = (0..random.u32(..3).min(n)).map(|_| format!("s{}", random.u32(..n)));
                Step::new(format!("s{n}"), "unruly").args(json!(behaviour)).depends_on(before).timeout_ms(3)
            })
            .collect();
        // Every revision drops what has not begun, and aborts what runs.
        let planner = planner_fn(move |request: PlanRequest| {
            let plan = plan.clone();
            async move {
                Ok(match request.reason {
                    PlanReason::First => plan,
                    _ => plan
                        .steps
                        .iter()
                        .filter(|step| step.args.as_u64() < Some(20))
                        .map(|step| Step::clone(step))
                        .fold(Plan::from_iter([Step::new("last", "unruly")]), |mut plan, mut step| {
                            step.depends_on.clear();
                            plan.push(step);
                            plan
                        }),
                })
            }
        });
        let (calls, cap) = (Calls::default(), random.u32(1..9));
        let runner = Runner::new(planner).tool("unruly", unruly(calls.clone())).max_parallel(cap).retry(Retry {
            max_attempts: 2,
            base_ms: 1,
            max_ms: 2,
        });
        let cancel_after = random.bool().then(|| Duration::from_micros(random.u64(..5_000)));
        let report = unless_it_hangs(&format!("the run of seed {seed}"), workers, async move {
            let handle = runner.start("misbehave");
            if let Some(time) = cancel_after {
                tokio::time::sleep(time).await;
                handle.cancel_now();
            }
            handle.await
        });
        let report = report.expect("a report");
        assert_eq!(calls.0.load(Ordering::SeqCst), 0, "seed {seed}: a tool outlives {report:?}");
        let most = calls.1.load(Ordering::SeqCst);
        assert!(most <= cap as usize, "seed {seed}: {most} calls at once, the cap is {cap}");
    }
}
