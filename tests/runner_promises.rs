//! The tokio runner, judged by the checker of the simulated worlds: tools that see for themselves when they are called
//! and when they are gone, a journal that notes what is written, processes that crash, people who cancel and decide.

#![expect(clippy::print_stdout, reason = "how much happened belongs to the result")]

pub mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures::future::BoxFuture;
use plandag::journal::{Claim, Durability, Journal, MemoryJournal, RunId, RunSummary};
use plandag::{
    Decision, JournalError, Output, Plan, RunEvent, RunEventKind, RunStart, Runner, Scheduler, StepContext, StepError,
    StepState, StoredOutput, Tool, ToolOutput, ToolSpec,
};
use serde_json::{Value, json};
use support::check::check;
use support::counts::Counts;
use support::knobs::Knobs;
use support::plans::{PlanMaker, tools};
use support::random::{one_of, percent, seed_of};
use support::trace::{Call, Entry, Given};
use support::{for_each_seed, seeds};

/// What is seen from outside, in order.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<Entry>>>);

impl Witness {
    fn sees(&self, entry: Entry) {
        self.0.lock().expect("nobody panics while looking").push(entry);
    }

    fn trace(&self) -> Vec<Entry> {
        self.0.lock().expect("nobody panics while looking").clone()
    }
}

/// A journal that takes its time and has a witness.
#[derive(Clone)]
struct WitnessedJournal {
    journal: MemoryJournal,
    witness: Witness,
    rng: Arc<Mutex<Rng>>,
}

impl WitnessedJournal {
    fn delay(&self) -> Duration {
        let mut rng = self.rng.lock().expect("nobody panics while drawing");
        if percent(&mut rng, 10) { Duration::from_millis(rng.u64(0..5)) } else { Duration::ZERO }
    }
}

impl Journal for WitnessedJournal {
    fn create<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        self.journal.create(run)
    }

    fn claim<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Claim, JournalError>> {
        self.journal.claim(run)
    }

    fn runs<'a>(&'a self) -> BoxFuture<'a, Result<Vec<RunSummary>, JournalError>> {
        self.journal.runs()
    }

    fn append<'a>(
        &'a self,
        claim: &'a Claim,
        events: &'a [RunEvent],
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            // A crash may hit before the write, and between the write and what follows from it.
            tokio::time::sleep(self.delay()).await;
            self.journal.append(claim, events, durability).await?;
            self.witness.sees(Entry::Wrote(events.to_vec()));
            tokio::time::sleep(self.delay()).await;
            Ok(())
        })
    }

    fn history<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<Vec<RunEvent>, JournalError>> {
        self.journal.history(run)
    }

    fn put_output<'a>(
        &'a self,
        claim: &'a Claim,
        output: Arc<Value>,
    ) -> BoxFuture<'a, Result<StoredOutput, JournalError>> {
        self.journal.put_output(claim, output)
    }

    fn get_output<'a>(
        &'a self,
        run: &'a RunId,
        stored: &'a StoredOutput,
    ) -> BoxFuture<'a, Result<Arc<Value>, JournalError>> {
        self.journal.get_output(run, stored)
    }
}

/// Says that an attempt is gone, however it goes.
struct Presence {
    attempt: u32,
    witness: Witness,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.witness.sees(Entry::Gone(self.attempt));
    }
}

/// A tool that sees itself being called, and misbehaves by the seed of its world.
#[derive(Clone)]
struct WitnessedTool {
    spec: ToolSpec,
    witness: Witness,
    maker: PlanMaker,
    seed: u64,
    fail_percent: u32,
}

impl Tool for WitnessedTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn call<'a>(&'a self, cx: StepContext) -> BoxFuture<'a, Result<ToolOutput, StepError>> {
        let values: BTreeMap<_, _> = cx.inputs.iter().map(|(id, value)| (id.clone(), value.clone())).collect();
        self.witness.sees(Entry::Called(Call {
            attempt: cx.attempt,
            definition: Arc::clone(&cx.step),
            inputs: Given::Values(values),
        }));
        let presence = Presence { attempt: cx.attempt, witness: self.witness.clone() };
        Box::pin(async move {
            let _presence = presence;
            let mut rng = Rng::with_seed(self.seed ^ u64::from(cx.attempt) << 32);
            tokio::time::sleep(Duration::from_millis(rng.u64(0..50))).await;
            if percent(&mut rng, self.fail_percent) {
                match rng.u8(0..5) {
                    // A panic that does not fill the output of the test.
                    0 => std::panic::resume_unwind(Box::new("it panics")),
                    1 => tokio::time::sleep(Duration::from_secs(10_000)).await,
                    2 => return Err(StepError::permanent("it went wrong")),
                    _ => return Err(StepError::transient("it went wrong")),
                }
            }
            if cx.id.as_str().matches('/').count() < 2 && self.maker.expands(&mut rng, &cx.id) {
                return Ok(ToolOutput::Plan(self.maker.expansion(&mut rng, &cx.id)));
            }
            Ok(ToolOutput::Value(json!({ "value": seed_of(&cx.args.to_string(), 0) })))
        })
    }
}

/// A run and everything that happens to it.
struct Story {
    rng: Rng,
    runner: Runner,
    journal: WitnessedJournal,
    witness: Witness,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let knobs = Knobs { max_steps: 40, limits: false, reviews: false, ..Knobs::ALL };
        let mut policy = knobs.policy(&mut rng);
        policy.timeout_ms = Some(200);
        policy.max_interruptions = 20;
        // The person of this story looks only when the run has stopped.
        policy.attended = false;
        let maker = PlanMaker::new(&mut rng, &knobs, policy.pools.clone(), true);
        let plan: Plan = maker.plan(&mut rng);
        let witness = Witness::default();
        let journal = WitnessedJournal {
            journal: MemoryJournal::new(),
            witness: witness.clone(),
            rng: Arc::new(Mutex::new(rng.fork())),
        };
        let fail_percent = *one_of(&mut rng, &[0, 5, 20]);
        let mut runner = Runner::new(plan).policy(policy).default_tool("look").journal(journal.clone());
        for spec in tools() {
            let name = spec.name.clone();
            let (witness, maker) = (witness.clone(), maker.clone());
            runner = runner.tool(name, WitnessedTool { spec, witness, maker, seed, fail_percent });
        }
        Self { rng, runner, journal, witness }
    }

    /// Runs to the end, through crashes, stops and decisions.
    fn tell(mut self) -> Option<(RunStart, Vec<Entry>, Vec<RunEvent>)> {
        let mut run = None;
        for _ in 0..20 {
            let crash_after = percent(&mut self.rng, 40).then(|| Duration::from_millis(self.rng.u64(0..300)));
            let cancel_after = percent(&mut self.rng, 10).then(|| Duration::from_millis(self.rng.u64(0..300)));
            let id = self.process(run.clone(), crash_after, cancel_after);
            self.witness.sees(Entry::Crashed);
            let history = in_virtual_time(self.journal.history(&id)).unwrap_or_default();
            run = (!history.is_empty()).then_some(id);
            if let Some(RunEventKind::RunFinished { .. }) = history.last().map(|event| &event.kind) {
                let RunEventKind::RunStarted { start } = &history[0].kind else { return None };
                return Some(((**start).clone(), self.witness.trace(), history));
            }
            if let Some(run) = &run {
                self.decide(run, &history);
            }
        }
        None
    }

    /// One process: it drives the run until that ends, or until everything goes away under it.
    fn process(&mut self, run: Option<RunId>, crash_after: Option<Duration>, cancel_after: Option<Duration>) -> RunId {
        in_virtual_time(async {
            let handle = match run {
                Some(run) => self.runner.start_resume(run),
                None => self.runner.start("see what happens"),
            };
            let id = handle.id().clone();
            if let Some(after) = cancel_after {
                tokio::time::sleep(after).await;
                handle.cancel();
            }
            let never = Duration::from_secs(1_000_000);
            let ended = tokio::time::timeout(crash_after.unwrap_or(never), handle.into_future()).await;
            assert!(ended.is_ok() || crash_after.is_some(), "the run hangs");
            id
        })
    }

    /// A person looks at the steps of unknown outcome.
    fn decide(&mut self, run: &RunId, history: &[RunEvent]) {
        let scheduler = Scheduler::replay(history).expect("a history can be read back");
        for step in 0..scheduler.step_count() {
            if scheduler.step(step).is_some_and(|step| matches!(step.state, StepState::Unknown(_))) {
                let decision = match self.rng.u8(0..3) {
                    0 => Decision::Succeeded(Output::inline(json!({ "value": "done by hand" }))),
                    1 => Decision::Failed("it did not happen".into()),
                    _ => Decision::Retry,
                };
                in_virtual_time(self.runner.decide(run.clone(), step, decision))
                    .expect("an unknown step can be decided");
            }
        }
    }
}

/// Waits for something in a process of its own. What it has started is gone afterwards.
fn in_virtual_time<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be built").block_on(future)
}

#[test]
fn the_runner_keeps_every_promise() {
    let totals = Mutex::new(Counts::default());
    for_each_seed("the_runner_keeps_every_promise", seeds(20_000), |seed| {
        let mut counts = Counts::default();
        counts.one("worlds");
        if let Some((start, trace, history)) = Story::new(seed).tell() {
            let violations = check(&start, &trace);
            let shown: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
            let entries: Vec<String> =
                trace.iter().enumerate().map(|(index, entry)| format!("{index}: {entry}")).collect();
            assert!(violations.is_empty(), "{}\n{}", entries.join("\n"), shown.join("\n"));
            assert!(Scheduler::replay(&history).is_ok());
            counts.one("finished runs");
            history.iter().for_each(|event| counts.event(event));
        }
        totals.lock().expect("no world panics while it counts").merge(&counts);
    });
    let totals = totals.into_inner().expect("every world was counted");
    println!("{totals:?}");
    totals.assert_that_there_were(&["expansions", "retries", "unknown outcomes", "false conditions", "skipped steps"]);
    assert!(2 * totals.of("finished runs") > totals.of("worlds"), "most runs come to their end");
}
