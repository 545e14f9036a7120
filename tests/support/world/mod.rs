//! A world that drives a scheduler in virtual time and misbehaves: tools fail, planners write nonsense, processes
//! crash, results come late and twice. One seed is one world.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use plandag::{
    AttemptNumber, Command, Decision, Event, Launch, Limits, Output, Phase, Plan, PlanReply, Policy, Returned,
    RunEvent, RunEventKind, RunStart, Scheduler, Step, StepError, StepErrorKind, StepNumber, StopReason, Timestamp,
    Usage,
};
use serde_json::{Value, json};

mod fork;
mod person;

use super::author::Author;
use super::check::{Violation, check};
use super::counts::{Counts, difference};
use super::knobs::Knobs;
use super::plans::{PlanMaker, some_server, some_untrusted, some_with_other_plans};
use super::random::{one_of, percent, seed_of};
use super::trace::{Call, Entry, Given};

/// What came of a world.
#[derive(Debug)]
pub struct Journey {
    /// What its run was started with.
    pub start: Arc<RunStart>,
    /// Everything that happened.
    pub trace: Vec<Entry>,
    /// The record.
    pub history: Vec<RunEvent>,
    /// The scheduler as it was left.
    pub scheduler: Scheduler,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// How much happened.
    pub counts: Counts,
}

impl Journey {
    /// The output of a step, with all its parts.
    pub fn value(&self, step: StepNumber) -> Value {
        resolve(&self.scheduler, self.scheduler.output(step))
    }
}

/// When something on the agenda comes up. What comes up at one instant comes in any order.
type When = (Timestamp, u32, u64);

/// Where a crash hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    /// Before anything is written.
    BeforeWrite,
    /// When so many commands of the transition have been carried out.
    AfterWrite { commands: usize },
}

/// A run and everything around it.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    knobs: Knobs,
    start: Arc<RunStart>,
    first_plan: Plan,
    maker: PlanMaker,
    author: Author,
    scheduler: Scheduler,
    now: Timestamp,
    agenda: BTreeMap<When, Event>,
    /// The ends of running attempts on the agenda.
    attempts: BTreeMap<AttemptNumber, When>,
    wake_at: Option<Timestamp>,
    serial: u64,
    /// Things that were said before, to be said again.
    past: Vec<Event>,
    longest_ms: u64,
    fail_percent: u32,
    crash_percent: u32,
    crashes_left: u32,
    resumes_left: u32,
    trace: Vec<Entry>,
    history: Vec<RunEvent>,
    violations: Vec<Violation>,
    counts: Counts,
    transitions: u64,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, knobs: &Knobs) -> Self {
        let mut rng = Rng::with_seed(seed);
        let policy = knobs.policy(&mut rng);
        let mut tools = some_untrusted(&mut rng, knobs);
        some_with_other_plans(seed, knobs, &mut tools);
        let default_tool = rng.bool().then(|| "look".to_owned());
        let maker = PlanMaker::new(&mut rng, knobs, policy.pools.clone(), default_tool.is_some());
        let first_plan = maker.plan(&mut rng);
        let start = Arc::new(RunStart {
            objective: "see what happens".into(),
            inputs: BTreeMap::new(),
            policy,
            tools,
            default_tool,
            planner_server: some_server(&mut rng),
            labels: Default::default(),
        });
        Self {
            author: Author::new(&first_plan),
            scheduler: Scheduler::new(Arc::clone(&start)),
            start,
            first_plan,
            maker,
            now: Timestamp::ZERO,
            agenda: BTreeMap::new(),
            attempts: BTreeMap::new(),
            wake_at: None,
            serial: 0,
            past: Vec::new(),
            longest_ms: *one_of(&mut rng, &[0, 1, 10, 100, 5_000]),
            fail_percent: match (knobs.failures, knobs.storms) {
                (false, _) => 0,
                (true, false) => *one_of(&mut rng, &[0, 1, 3, 10, 25]),
                (true, true) => *one_of(&mut rng, &[15, 30, 50]),
            },
            crash_percent: *one_of(&mut rng, &[1, 5, 20]),
            crashes_left: rng.u32(0..=knobs.crashes),
            resumes_left: 12,
            trace: Vec::new(),
            history: Vec::new(),
            violations: Vec::new(),
            counts: Counts::default(),
            transitions: 0,
            knobs: knobs.clone(),
            rng,
        }
    }

    /// The plan that the planner proposes first, if it proposes anything sensible.
    pub fn first_plan(&self) -> &Plan {
        &self.first_plan
    }

    /// Runs the world to its end and checks what happened.
    pub fn run(mut self) -> Journey {
        self.counts.one("worlds");
        if self.knobs.cancels && percent(&mut self.rng, 15) {
            let at = self.later(4 * self.longest_ms);
            let at_once = self.rng.bool();
            self.plan_for(at, Event::CancelRequested { at_once });
        }
        self.tell(Event::Begin);
        self.drive();
        // A fork of a fork, too.
        while self.knobs.forks && self.violations.is_empty() && percent(&mut self.rng, 40) && self.fork() {
            self.drive();
        }
        self.violations.extend(check(&self.start, &self.trace));
        Journey {
            start: self.start,
            trace: self.trace,
            history: self.history,
            scheduler: self.scheduler,
            violations: self.violations,
            counts: self.counts,
        }
    }

    /// Lets happen what happens until the run is over.
    fn drive(&mut self) {
        loop {
            if self.transitions > 2_000 + 200 * u64::from(self.scheduler.step_count()) {
                self.wrong("every run ends", "it goes on and on".into());
                break;
            }
            match self.scheduler.phase() {
                Phase::New => self.tell(Event::Begin),
                Phase::Finished => {
                    self.counts.one("finished runs");
                    self.poke();
                    break;
                }
                Phase::Stopped if !self.take_over() => break,
                Phase::Stopped => {}
                Phase::Running | Phase::Stopping => {
                    let Some(event) = self.next_event().or_else(|| self.late_decision()) else {
                        self.wrong("every run ends", "nothing is left that could happen".into());
                        break;
                    };
                    self.tell(event);
                }
            }
            if !self.violations.is_empty() {
                break;
            }
        }
    }

    fn wrong(&mut self, promise: &'static str, message: String) {
        self.violations.push(Violation { promise, at: self.trace.len(), message });
    }

    fn later(&mut self, most_ms: u64) -> Timestamp {
        self.now.plus_millis(self.rng.u64(0..=most_ms))
    }

    fn plan_for(&mut self, at: Timestamp, event: Event) -> When {
        self.serial += 1;
        let when = (at, self.rng.u32(0..8), self.serial);
        self.agenda.insert(when, event);
        when
    }

    /// The next thing that happens, or something that should not matter.
    fn next_event(&mut self) -> Option<Event> {
        if self.knobs.noise && percent(&mut self.rng, 8) {
            return Some(self.noise());
        }
        let next = self.agenda.first_key_value().map(|(when, _)| *when);
        let woken = self.wake_at.filter(|wake| next.is_none_or(|(at, ..)| *wake <= at));
        if let Some(wake) = woken {
            self.wake_at = None;
            self.now = self.now.max(wake);
            if self.knobs.noise && percent(&mut self.rng, 10) {
                // A timer of a busy machine fires late.
                self.now = self.later(self.longest_ms);
            }
            return Some(Event::Woke);
        }
        let (when, event) = self.agenda.pop_first()?;
        self.now = self.now.max(when.0);
        if let Event::AttemptReturned { attempt, .. } = &event {
            self.attempts.remove(attempt);
            self.trace.push(Entry::Gone(*attempt));
        }
        if self.past.len() < 50 {
            self.past.push(event.clone());
        } else {
            let place = self.rng.usize(0..self.past.len());
            self.past[place] = event.clone();
        }
        Some(event)
    }

    /// Something late, doubled, or about what never was.
    fn noise(&mut self) -> Event {
        let number = self.rng.u32(0..=self.scheduler.step_count());
        match self.rng.u8(0..6) {
            0 => Event::Woke,
            1 => Event::Decided { step: self.settled_step(number), decision: Decision::Retry },
            2 => Event::PlanStep { request: 1_000_000, step: Arc::new(Step::new("stale", "look")) },
            3 => returned(1_000_000 + number, Ok(Returned::Value(Output::inline(json!("stale"))))),
            _ if self.past.is_empty() => Event::Woke,
            _ => match one_of(&mut self.rng, &self.past).clone() {
                // A person may cancel more than once, but that is not noise.
                Event::CancelRequested { .. } => Event::Woke,
                event => event,
            },
        }
    }

    /// A number about which nobody can decide.
    fn settled_step(&self, number: u32) -> u32 {
        if self.is_undecided(number) { u32::MAX } else { number }
    }

    /// Tells the scheduler, writes down, carries out; or crashes on the way.
    fn tell(&mut self, event: Event) {
        let crash = self.draw_crash();
        self.trace.push(Entry::Told(event.clone()));
        let transition = self.scheduler.on_event(event, self.now);
        if crash == Some(Crash::BeforeWrite) {
            return self.crash();
        }
        self.transitions += 1;
        self.counts.one("transitions");
        self.take_note(&transition.events);
        self.history.extend(transition.events.iter().cloned());
        self.trace.push(Entry::Wrote(transition.events));
        let commands = transition.commands.len();
        for (done, command) in transition.commands.into_iter().enumerate() {
            if crash.is_some_and(|crash| matches!(crash, Crash::AfterWrite { commands } if commands <= done)) {
                return self.crash();
            }
            self.carry_out(command);
        }
        if let Some(Crash::AfterWrite { .. }) = crash
            && commands == 0
        {
            return self.crash();
        }
        self.trace.push(Entry::Settled(self.now));
        self.compare_with_replay();
    }

    fn draw_crash(&mut self) -> Option<Crash> {
        if self.crashes_left == 0 || !percent(&mut self.rng, self.crash_percent) {
            return None;
        }
        self.crashes_left -= 1;
        Some(if self.rng.bool() { Crash::BeforeWrite } else { Crash::AfterWrite { commands: self.rng.usize(0..3) } })
    }

    /// Counts what happened, and tells the planner what became of its proposals.
    fn take_note(&mut self, events: &[RunEvent]) {
        for event in events {
            self.counts.event(event);
            if let RunEventKind::PlanAccepted { request, .. } = &event.kind {
                self.author.was_accepted(*request);
            }
            if let RunEventKind::ApprovalRequested { step, .. } = event.kind
                && self.rng.bool()
            {
                let (at, decision) = (self.later(self.longest_ms), self.decision(step));
                self.plan_for(at, Event::Decided { step, decision });
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::WakeAt(at) => {
                self.trace.push(Entry::Armed(at));
                self.wake_at = Some(at);
            }
            Command::Abort { attempt } => {
                self.counts.one("ended attempts");
                self.trace.push(Entry::Aborted(attempt));
                self.abort(attempt);
            }
            Command::Launch(launch) => {
                let Launch { attempt, definition, inputs, .. } = &*launch;
                self.trace.push(Entry::Called(Call {
                    attempt: *attempt,
                    definition: Arc::clone(definition),
                    inputs: Given::Recorded(inputs.to_vec()),
                }));
                let result = self.result(&launch);
                // Some take much longer than the rest, so that plans change under them.
                let longest_ms = if percent(&mut self.rng, 15) { 10 * self.longest_ms } else { self.longest_ms };
                let at = self.later(longest_ms);
                let attempt = launch.attempt;
                let event = self.returned(attempt, result);
                let when = self.plan_for(at, event);
                self.attempts.insert(attempt, when);
            }
            Command::RequestPlan(request) => {
                self.trace.push(Entry::Asked { request: request.request, must_answer: request.must_answer });
                let reply = self.author.reply(
                    &mut self.rng,
                    &self.knobs,
                    &self.maker,
                    &self.first_plan,
                    &request,
                    &self.scheduler,
                );
                let mut at = self.later(self.longest_ms);
                let request = request.request;
                for step in reply.streamed {
                    self.plan_for(at, Event::PlanStep { request, step });
                    at = at.plus_millis(self.rng.u64(0..=self.longest_ms));
                }
                let usage = self.usage();
                let reply = reply.answer.map(|revision| PlanReply { usage, ..revision.into() });
                self.plan_for(at.plus_millis(1), Event::PlanReturned { request, reply: Box::new(reply) });
            }
        }
    }

    /// What comes of an attempt.
    fn result(&mut self, launch: &Launch) -> Result<Returned, StepError> {
        let depth = launch.id.as_str().matches('/').count();
        if percent(&mut self.rng, self.fail_percent) {
            let kind = *one_of(
                &mut self.rng,
                &[
                    StepErrorKind::Transient,
                    StepErrorKind::Transient,
                    StepErrorKind::Timeout,
                    StepErrorKind::Stopped,
                    StepErrorKind::Deferred,
                    StepErrorKind::Permanent,
                    StepErrorKind::BadInput,
                    StepErrorKind::BadReference,
                    StepErrorKind::Panicked,
                    StepErrorKind::BadOutput,
                    StepErrorKind::Unexpected,
                ],
            );
            let error = StepError::new(kind, "it went wrong");
            let names_pause = match kind {
                StepErrorKind::Transient => 20,
                StepErrorKind::Deferred => 80,
                _ => 0,
            };
            if percent(&mut self.rng, names_pause) {
                return Err(error.retry_after_ms(self.rng.u64(0..50)));
            }
            return Err(error);
        }
        if launch.definition.when.is_some() && self.rng.bool() {
            return Ok(Returned::ConditionFalse);
        }
        if depth < self.knobs.depth && self.maker.expands(&mut self.rng, &launch.id) {
            let mut plan = self.maker.expansion(&mut self.rng, &launch.id);
            if self.knobs.garbage && percent(&mut self.rng, 10) {
                plan.push(Step::new("lost", "look").depends_on(["nobody"]));
            }
            return Ok(Returned::Plan(Box::new(plan)));
        }
        Ok(Returned::Value(Output::inline(self.value(launch))))
    }

    fn value(&self, launch: &Launch) -> Value {
        let resolved = |output: &Option<Output>| resolve(&self.scheduler, output.as_ref());
        let inputs = launch.inputs.to_vec().into_iter().map(|input| (input.id.to_string(), resolved(&input.output)));
        value_of(&launch.definition, &inputs.collect())
    }

    fn usage(&mut self) -> Usage {
        Usage { input_tokens: self.rng.u64(0..20), output_tokens: self.rng.u64(0..5), micro_usd: 1, calls: 1 }
    }

    fn returned(&mut self, attempt: AttemptNumber, result: Result<Returned, StepError>) -> Event {
        let (usage, draw) = (self.usage(), self.rng.u16(..));
        Event::AttemptReturned { attempt, result: result.map_err(Arc::new), usage, draw }
    }

    /// The tool dies in its own time; it may also have been done already.
    fn abort(&mut self, attempt: AttemptNumber) {
        let Some(when) = self.attempts.remove(&attempt) else { return };
        let Some(mut event) = self.agenda.remove(&when) else { return };
        if self.rng.bool() {
            event = self.returned(attempt, Err(StepError::new(StepErrorKind::Aborted, "ended")));
        }
        let at = self.later(self.longest_ms);
        let when = self.plan_for(at, event);
        self.attempts.insert(attempt, when);
    }

    /// The process is gone; another one reads the record and goes on.
    fn crash(&mut self) {
        self.counts.one("crashes");
        self.trace.push(Entry::Crashed);
        self.restart();
        // Whoever finds it may also fork it.
        let is_forked = self.knobs.forks && !self.history.is_empty() && percent(&mut self.rng, 10);
        if !is_forked || !self.fork() {
            self.resume();
        }
    }

    fn restart(&mut self) {
        self.agenda.retain(|_, event| matches!(event, Event::CancelRequested { .. }));
        self.attempts.clear();
        self.wake_at = None;
        self.scheduler = match self.replayed() {
            Some(scheduler) => scheduler,
            None => Scheduler::new(Arc::clone(&self.start)),
        };
    }

    fn resume(&mut self) {
        match self.scheduler.phase() {
            Phase::New => self.tell(Event::Begin),
            Phase::Finished => {}
            Phase::Running | Phase::Stopping | Phase::Stopped => {
                let policy = percent(&mut self.rng, 10).then(|| Box::new(self.raised_policy()));
                self.tell(Event::Resumed { policy });
            }
        }
    }

    /// The same policy with more room.
    fn raised_policy(&mut self) -> Policy {
        let mut policy = self.start.policy.clone();
        policy.limits = Limits::NONE;
        policy.max_parallel = self.rng.u32(1..=8);
        policy
    }

    fn replayed(&mut self) -> Option<Scheduler> {
        if self.history.is_empty() {
            return None;
        }
        match Scheduler::replay(&self.history) {
            Ok(scheduler) => Some(scheduler),
            Err(error) => {
                self.wrong("a history can be read back", error.to_string());
                None
            }
        }
    }

    fn compare_with_replay(&mut self) {
        let chance = if self.history.len() < 100 { 10 } else { 1 + 300 / self.history.len() as u32 };
        if !percent(&mut self.rng, chance) {
            return;
        }
        self.counts.one("comparisons with a replay");
        let Some(replayed) = self.replayed() else { return };
        let (replayed, live) = (replayed.snapshot(), self.scheduler.snapshot());
        if replayed != live {
            let difference = difference(&replayed, &live);
            self.wrong("replay equals live", difference);
        }
    }

    /// A run has stopped. Says whether somebody takes it over.
    fn take_over(&mut self) -> bool {
        if self.resumes_left == 0 || percent(&mut self.rng, 10) {
            return false;
        }
        self.resumes_left -= 1;
        // What was still running is ended before anything else; whether its ends are still told is not said.
        let told = self.rng.bool();
        let ends: Vec<When> = self.attempts.values().copied().collect();
        self.attempts.clear();
        for when in ends {
            if let Some(event) = self.agenda.remove(&when) {
                if let Event::AttemptReturned { attempt, .. } = &event {
                    self.trace.push(Entry::Gone(*attempt));
                }
                if told && self.scheduler.phase() == Phase::Stopped {
                    self.tell(event);
                }
            }
        }
        self.decide();
        if self.scheduler.phase() != Phase::Stopped {
            // It crashed over all this, and was taken over already.
            return true;
        }
        if self.rng.bool() {
            self.trace.push(Entry::Crashed);
            self.restart();
        } else {
            self.agenda.retain(|_, event| matches!(event, Event::CancelRequested { .. }));
            self.wake_at = None;
        }
        let stopped = self.history.iter().rev().find_map(|event| match &event.kind {
            RunEventKind::RunStopped { why } => Some(*why),
            _ => None,
        });
        let by_limit = !matches!(stopped, Some(StopReason::Cancelled | StopReason::Undecided));
        // Somebody may forget to give it more room, and it stops again.
        let chance = if by_limit { 90 } else { 10 };
        let policy = percent(&mut self.rng, chance).then(|| Box::new(self.raised_policy()));
        self.tell(Event::Resumed { policy });
        true
    }

    /// A finished run is told all kinds of things, to no effect but that what was used is noted.
    fn poke(&mut self) {
        let mut events = vec![
            Event::Begin,
            Event::Woke,
            Event::Resumed { policy: None },
            Event::CancelRequested { at_once: true },
            Event::Decided { step: 0, decision: Decision::Retry },
        ];
        events.extend(self.past.iter().take(5).cloned());
        events.extend(std::mem::take(&mut self.agenda).into_values());
        for event in events {
            self.trace.push(Entry::Told(event.clone()));
            let transition = self.scheduler.on_event(event.clone(), self.now);
            if !transition.commands.is_empty() {
                self.wrong("a finished run never moves", format!("{event:?} led to {transition:?}"));
            }
            self.take_note(&transition.events);
            self.history.extend(transition.events.iter().cloned());
            self.trace.push(Entry::Wrote(transition.events));
        }
        self.compare_with_replay();
    }
}

fn returned(attempt: AttemptNumber, result: Result<Returned, StepError>) -> Event {
    Event::AttemptReturned { attempt, result: result.map_err(Arc::new), usage: Usage::default(), draw: 0 }
}

/// What a tool returns: the same whenever the same is done with the same inputs.
pub fn value_of(step: &Step, inputs: &BTreeMap<String, Value>) -> Value {
    let Step { tool, description, args, .. } = step;
    json!({ "value": seed_of(&json!([tool, description, args, inputs]).to_string(), 0) })
}

/// The value that an output stands for, as a driver would fill it in.
fn resolve(scheduler: &Scheduler, output: Option<&Output>) -> Value {
    match output {
        None => Value::Null,
        Some(Output::Inline(value)) => (**value).clone(),
        Some(Output::Stored(stored)) => Value::String(stored.digest.clone()),
        Some(Output::Gathered(parts)) => {
            let parts = parts.iter().map(|(id, step)| (id.to_string(), resolve(scheduler, scheduler.output(*step))));
            Value::Object(parts.collect())
        }
    }
}
