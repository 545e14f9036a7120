//! The same work done by this crate: the whole [`Runner`], and the scheduler alone.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use plandag::{
    Command, Event, Limits, Output, Plan, Policy, Returned, RunStart, Runner, Scheduler, Timestamp, ToolSpec,
    Transition, Usage, tool_fn,
};

use super::next;

pub(crate) fn policy() -> Policy {
    Policy { limits: Limits::NONE, ..Policy::default() }
}

pub(crate) fn runner(plan: Plan) -> Runner {
    Runner::new(plan)
        .tool("next", tool_fn(|cx| async move { Ok(next(cx.inputs.iter().map(|(_, value)| value))) }))
        .policy(policy())
}

pub(crate) async fn whole(runner: &Runner) -> Duration {
    let started = Instant::now();
    let report = runner.run("nothing").await.expect("a report");
    black_box(report.answer().expect("an answer"));
    drop(report);
    started.elapsed()
}

pub(crate) async fn listened(runner: &Runner) -> Duration {
    let started = Instant::now();
    let handle = runner.start("nothing");
    let mut events = handle.events();
    let listener = tokio::spawn(async move {
        let mut count = 0_u64;
        while let Some(event) = events.next().await {
            black_box(event);
            count += 1;
        }
        (count, events.missed())
    });
    let report = handle.await.expect("a report");
    let counted = listener.await.expect("a listener");
    drop(report);
    black_box(counted);
    started.elapsed()
}

/// The scheduler without any driver: the time to accept the plan, and that to run it.
pub(crate) fn core_alone(plan: &Plan) -> (Duration, Duration) {
    let start = RunStart {
        objective: String::new(),
        inputs: Default::default(),
        policy: policy(),
        tools: vec![ToolSpec::new("next", "")],
        default_tool: None,
        planner_server: String::new(),
        labels: Default::default(),
    };
    let mut scheduler = Scheduler::new(Arc::new(start));
    let mut transition = Transition::default();
    scheduler.on_event_into(Event::Begin, Timestamp::ZERO, &mut transition);
    let plan = plan.clone();
    let started = Instant::now();
    let reply = Ok(plan.into());
    scheduler.on_event_into(
        Event::PlanReturned { request: 0, reply: Box::new(reply) },
        Timestamp::ZERO,
        &mut transition,
    );
    let accepted = started.elapsed();
    let started = Instant::now();
    let mut running = VecDeque::new();
    loop {
        transition.events.clear();
        running.extend(transition.commands.drain(..));
        match running.pop_front() {
            Some(Command::Launch(launch)) => {
                let value = next(launch.inputs.iter().map(|(_, value)| value));
                let returned = Event::AttemptReturned {
                    attempt: launch.attempt,
                    result: Ok(Returned::Value(Output::inline(value.into()))),
                    usage: Usage::default(),
                    draw: 0,
                };
                scheduler.on_event_into(returned, Timestamp::ZERO, &mut transition);
            }
            Some(_) => {}
            None => break,
        }
    }
    assert!(scheduler.outcome().is_some(), "the run is over");
    drop(scheduler);
    (accepted, started.elapsed())
}
