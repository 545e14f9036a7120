//! A scheduler driven by hand, and the plans that it is most often given.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use plandag::{
    Command, Effect, Event, Launch, Output, Plan, PlanReason, Policy, RequestPlan, Returned, Revision, RunEvent,
    RunStart, Scheduler, Step, StepError, StepState, Timestamp, ToolSpec, Usage,
};
use serde_json::json;

/// Drives a scheduler by hand: what it commands is kept until the test answers it.
pub(crate) struct Driver {
    pub(crate) scheduler: Scheduler,
    pub(crate) history: Vec<RunEvent>,
    pub(crate) now: Timestamp,
    pub(crate) launched: BTreeMap<String, Launch>,
    pub(crate) requests: Vec<RequestPlan>,
    pub(crate) aborted: Vec<u32>,
    pub(crate) wake_at: Option<Timestamp>,
}

/// A run with a tool that reads, one that acts, and one that stands for something scarce.
pub(crate) fn start(policy: Policy) -> RunStart {
    let acts = |name: &str| ToolSpec { effect: Effect::Acts, ..ToolSpec::new(name, "") };
    RunStart {
        objective: "test".into(),
        inputs: BTreeMap::new(),
        policy,
        tools: vec![ToolSpec::new("read", ""), acts("pay"), ToolSpec::new("gpu", "")],
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    }
}

impl Driver {
    pub(crate) fn new(policy: Policy) -> Self {
        Self::of(start(policy))
    }

    pub(crate) fn of(start: RunStart) -> Self {
        Self {
            scheduler: Scheduler::new(Arc::new(start)),
            history: Vec::new(),
            now: Timestamp::ZERO,
            launched: BTreeMap::new(),
            requests: Vec::new(),
            aborted: Vec::new(),
            wake_at: None,
        }
    }

    /// A run whose first plan is accepted.
    pub(crate) fn with_plan(policy: Policy, plan: Plan) -> Self {
        Self::new(policy).begin(plan)
    }

    pub(crate) fn begin(mut self, plan: Plan) -> Self {
        self.send(Event::Begin);
        self.reply(Revision::Plan(plan));
        self
    }

    pub(crate) fn send(&mut self, event: Event) {
        let transition = self.scheduler.on_event(event, self.now);
        self.history.extend(transition.events);
        let replayed = Scheduler::replay(&self.history).expect("a live history can be replayed");
        assert_eq!(replayed.snapshot(), self.scheduler.snapshot(), "replayed and live differ");
        for command in transition.commands {
            match command {
                Command::Launch(launch) => drop(self.launched.insert(launch.id.to_string(), *launch)),
                Command::RequestPlan(request) => self.requests.push(*request),
                Command::Abort { attempt } => self.aborted.push(attempt),
                Command::WakeAt(at) => self.wake_at = Some(at),
            }
        }
    }

    pub(crate) fn reply(&mut self, revision: Revision) {
        let request = self.requests.pop().expect("the planner was asked").request;
        self.send(Event::PlanReturned { request, reply: Box::new(Ok(revision.into())) });
    }

    pub(crate) fn returns(&mut self, id: &str, result: Result<Returned, StepError>) {
        let attempt = self.launched.remove(id).unwrap_or_else(|| panic!("`{id}` is running")).attempt;
        let result = result.map_err(Arc::new);
        self.send(Event::AttemptReturned { attempt, result, usage: Usage::default(), draw: u16::MAX });
    }

    pub(crate) fn succeeds(&mut self, id: &str) {
        self.returns(id, Ok(Returned::Value(Output::inline(json!(format!("result of {id}"))))));
    }

    pub(crate) fn fails(&mut self, id: &str) {
        self.returns(id, Err(StepError::permanent("no")));
    }

    /// The step returns a plan, which takes its place.
    pub(crate) fn expands<const N: usize>(&mut self, id: &str, children: [Step; N]) {
        self.returns(id, Ok(Returned::Plan(Box::new(Plan::from_iter(children)))));
    }

    /// Lets `millis` pass, and wakes the run as it asked to be.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.send(Event::Woke);
    }

    /// Stops driving the run, and starts again from its history.
    pub(crate) fn crash(&mut self) {
        self.scheduler = Scheduler::replay(&self.history).expect("a live history can be replayed");
        self.launched.clear();
        self.requests.clear();
        self.send(Event::Resumed { policy: None });
    }

    pub(crate) fn running(&self) -> Vec<&str> {
        self.launched.keys().map(String::as_str).collect()
    }

    pub(crate) fn state(&self, id: &str) -> StepState {
        let number = self.scheduler.current(id).unwrap_or_else(|| panic!("`{id}` is known"));
        self.scheduler.step(number).expect("a current step exists").state
    }

    pub(crate) fn number(&self, id: &str) -> u32 {
        self.scheduler.current(id).expect("known")
    }

    /// The history, a line an event, for people.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for event in &self.history {
            let mut value = serde_json::to_value(&event.kind).expect("events are data");
            let fields = value.as_object_mut().expect("an object");
            let name = fields.remove("event").expect("tagged");
            fields.retain(|_, value| *value != json!(Usage::default()));
            if fields.contains_key("start") {
                fields.insert("start".into(), json!("..."));
            }
            // The order of fields is that of the map behind them, which another crate of the build may choose.
            value.sort_all_objects();
            let _ = writeln!(story, "{} {} {}", event.at, name.as_str().unwrap_or_default(), value);
        }
        story
    }
}

pub(crate) fn diamond() -> Plan {
    Plan::from_iter([
        Step::new("a", "read"),
        Step::new("b", "read").depends_on(["a"]),
        Step::new("c", "read").depends_on(["a"]),
        Step::new("d", "read").args(json!({ "b": "${b}", "c": "${c}" })),
    ])
}

/// `a -> b -> c` and `d -> e`, the plan that the rules of a revision are told by.
pub(crate) fn two_chains() -> Plan {
    Plan::from_iter([
        Step::new("a", "read"),
        Step::new("b", "read").depends_on(["a"]),
        Step::new("c", "read").depends_on(["b"]),
        Step::new("d", "read"),
        Step::new("e", "read").depends_on(["d"]),
    ])
}

/// `a` has finished, `b` has failed, `c` is skipped, `d` is running, and the planner has been asked.
pub(crate) fn half_failed() -> Driver {
    let mut driver = Driver::with_plan(Policy::default(), two_chains());
    driver.succeeds("a");
    driver.fails("b");
    assert_eq!(driver.requests.last().expect("asked").reason, PlanReason::Failures);
    driver
}
